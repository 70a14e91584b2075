//! What the folder structure says: class per folder, training and held-out parts.

use std::collections::BTreeSet;

/// First folder names that mean training pictures.
const TRAINING: [&str; 2] = ["train", "training"];
/// First folder names that mean held-out pictures, the preferred one first.
const HELD_OUT: [&str; 5] = ["val", "validation", "valid", "test", "testing"];

/// The folders of an entry below the opened one, outermost first, without the file name.
pub type Folders = Vec<String>;

/// Labels by folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Per entry.
    pub labels: Vec<Option<u32>>,
    /// Sorted names.
    pub names: Vec<String>,
}

/// Entries of an explicit split.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts {
    /// Name of the training folder.
    pub train_name: String,
    /// Name of the held-out folder.
    pub held_out_name: String,
    /// Indices of the training entries.
    pub train: Vec<usize>,
    /// Indices of the held-out entries.
    pub held_out: Vec<usize>,
}

/// Removes the folders that all entries have in common.
pub fn strip_common(folders: &mut [Folders]) {
    let Some(first) = folders.first() else { return };
    let common = folders.iter().map(|f| f.iter().zip(first).take_while(|(a, b)| a == b).count()).min();
    for f in folders.iter_mut() {
        f.drain(..common.unwrap_or(0).min(f.len()));
    }
}

/// One class per first folder; none unless every entry lies in a folder and there are two or more of them.
pub fn by_folder(folders: &[Folders]) -> Classes {
    let firsts: Option<Vec<&String>> = folders.iter().map(|f| f.first()).collect();
    let Some(firsts) = firsts else { return unlabelled(folders.len()) };
    let names: Vec<String> =
        firsts.iter().map(|s| s.to_string()).collect::<BTreeSet<_>>().into_iter().collect();
    if names.len() < 2 {
        return unlabelled(folders.len());
    }
    let label = |name: &String| names.binary_search(name).ok().map(|i| i as u32);
    Classes { labels: firsts.into_iter().map(label).collect(), names }
}

/// No classes for this many entries.
pub fn unlabelled(len: usize) -> Classes {
    Classes { labels: vec![None; len], names: Vec::new() }
}

/// Recognises a training folder beside a held-out one and takes that folder off the entries in it, so that the
/// classes of both parts are numbered together.
pub fn explicit_parts(folders: &mut [Folders]) -> Option<Parts> {
    let known = |names: &[&'static str]| {
        names.iter().copied().find(|n| folders.iter().any(|f| f.first().is_some_and(|x| x == n)))
    };
    let (train_name, held_out_name) = (known(&TRAINING)?.to_string(), known(&HELD_OUT)?.to_string());
    let part = |name: &String| -> Vec<usize> {
        let inside = folders.iter().enumerate().filter(|(_, f)| f.first() == Some(name));
        inside.map(|(i, _)| i).collect()
    };
    let parts = Parts { train: part(&train_name), held_out: part(&held_out_name), train_name, held_out_name };
    for f in folders.iter_mut().filter(|f| !f.is_empty()) {
        f.remove(0);
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(paths: &[&str]) -> Vec<Folders> {
        let split = |p: &&str| p.split('/').filter(|s| !s.is_empty()).map(String::from).collect();
        paths.iter().map(split).collect()
    }

    #[test]
    fn class_per_folder() {
        let mut f = folders(&["x/dog", "x/cat", "x/dog/deep"]);
        strip_common(&mut f);
        let classes = by_folder(&f);
        assert_eq!(classes.names, ["cat", "dog"]);
        assert_eq!(classes.labels, [Some(1), Some(0), Some(1)]);
        assert_eq!(by_folder(&folders(&["a", "", "b"])).names.len(), 0);
        assert_eq!(by_folder(&folders(&["a", "a"])).names.len(), 0);
    }

    #[test]
    fn training_and_held_out() {
        let mut f = folders(&["train/a", "test/a", "train/b", "val/b"]);
        let parts = explicit_parts(&mut f).unwrap();
        assert_eq!((parts.train, parts.held_out), (vec![0, 2], vec![3]));
        assert_eq!(f, folders(&["a", "a", "b", "b"]));
        assert_eq!(explicit_parts(&mut folders(&["train/a", "b"])), None);
    }
}
