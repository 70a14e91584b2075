//! Does a weight file fit a model? One answer for all of its tensors at once.

use std::collections::BTreeMap;

use super::tensors::Tensors;
use crate::error::{Error, Result};

/// How many names of one kind a message lists before it only counts.
const LISTED: usize = 20;

/// Compares names and shapes with those the model wants; the error lists what is missing, unexpected and mis-shaped.
pub fn check_fit(tensors: &Tensors, wanted: &BTreeMap<String, Vec<usize>>) -> Result<()> {
    let missing: Vec<String> = wanted.keys().filter(|n| !tensors.contains_key(*n)).cloned().collect();
    let extra: Vec<String> = tensors.keys().filter(|n| !wanted.contains_key(*n)).cloned().collect();
    let shapes: Vec<String> = wanted
        .iter()
        .filter_map(|(name, shape)| {
            let found = &tensors.get(name)?.shape;
            (found != shape).then(|| format!("{name} (expected {shape:?}, got {found:?})"))
        })
        .collect();
    let parts: Vec<String> = [("missing", missing), ("unexpected", extra), ("wrong shape", shapes)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| format!("{} {kind}: {}", names.len(), list(&names)))
        .collect();
    if parts.is_empty() {
        return Ok(());
    }
    Err(Error::checkpoint("weights do not fit the model")
        .expected(format!("{} tensors", wanted.len()))
        .got(parts.join("; ")))
}

/// The first names of a list, and how many more there are.
pub(crate) fn list(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::tensors::Tensor;

    #[test]
    fn names_everything_that_differs() {
        let tensors: Tensors = [("a", vec![2]), ("c", vec![1]), ("d", vec![3])]
            .into_iter()
            .map(|(n, s)| (n.to_owned(), Tensor::f32(s.clone(), vec![0.0; s.iter().product()]).unwrap()))
            .collect();
        let wanted = BTreeMap::from([("a".into(), vec![2]), ("b".into(), vec![2]), ("c".into(), vec![1, 1])]);
        let message = check_fit(&tensors, &wanted).unwrap_err().to_string();
        assert_eq!(
            message,
            "weights do not fit the model: expected 3 tensors, got 1 missing: b; 1 unexpected: d; \
             1 wrong shape: c (expected [1, 1], got [1])"
        );
        let many: Vec<String> = (0..25).map(|i| i.to_string()).collect();
        assert!(list(&many).ends_with("19, and 5 more"));
    }
}
