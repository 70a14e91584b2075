//! Classes of a data set: are they fit to train on, do two sets mean the same by them, a few pictures of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::split::Subset;
use super::{Sample, Source, short_hash};
use crate::rng::{Key, Stream};
use crate::{Error, Result};

/// How many names a message lists.
const LISTED: usize = 8;

fn some_of<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let all: Vec<&str> = names.map(String::as_str).collect();
    let shown = all.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if all.len() > LISTED { format!("{shown} and {} more", all.len() - LISTED) } else { shown }
}

/// Checks that a source can train a classifier: two or more classes, a label for every picture, pictures of every class.
///
/// `spec` is what the user named. Sources that would have to decode every picture to know its label are checked as
/// far as that is not needed.
///
/// # Errors
/// A data error that names the classes.
pub fn check_classes(source: &dyn Source, spec: &str) -> Result<()> {
    let classes = source.classes();
    if classes.len() < 2 {
        let got = match classes.first() {
            Some(only) => format!("one class, {only}"),
            None => {
                "no classes: all pictures lie in one folder, or some lie outside of the class folders".into()
            }
        };
        return Err(Error::data("nothing to classify")
            .at(spec)
            .expected("a folder of pictures for each of two or more classes (or labels in tar shards, or CIFAR files)")
            .got(got));
    }
    if let Some(empty) = empty_folders(Path::new(spec)).first() {
        return Err(Error::data("a class folder without pictures")
            .at(empty.display().to_string())
            .hint("remove the folder, or put pictures there"));
    }
    let Some(labels) = check_labels(source)? else { return Ok(()) };
    let mut counts = vec![0u64; classes.len()];
    labels.iter().flatten().for_each(|&l| counts[l as usize] += 1);
    let empty = classes.iter().zip(&counts).filter(|(_, n)| **n == 0).map(|(name, _)| name);
    let empty = some_of(empty);
    if empty.is_empty() {
        return Ok(());
    }
    Err(Error::data("classes without training pictures").at(spec).got(empty))
}

/// Checks that every picture has a label that is a class, and gives the labels, where they are known without decoding.
///
/// # Errors
/// A data error that names the first picture.
pub fn check_labels(source: &dyn Source) -> Result<Option<Vec<Option<u32>>>> {
    let classes = source.classes();
    let Some(labels) = source.labels() else { return Ok(None) };
    if let Some(i) = labels.iter().position(Option::is_none) {
        let missing = labels.iter().filter(|l| l.is_none()).count();
        let e = Error::data("pictures without labels").at(source.name(i));
        return Err(e
            .expected("a label for every picture")
            .got(format!("{missing} of {} without", labels.len())));
    }
    if let Some(i) = labels.iter().position(|l| l.is_some_and(|l| l as usize >= classes.len())) {
        let e = Error::data("a label out of range").at(source.name(i));
        return Err(e
            .expected(format!("0 to {}", classes.len() - 1))
            .got(labels[i].map_or(String::new(), |l| l.to_string())));
    }
    Ok(Some(labels))
}

/// Folders below `root` in which there is nothing at all.
fn empty_folders(root: &Path) -> Vec<PathBuf> {
    let Ok(list) = std::fs::read_dir(root) else { return vec![] };
    let visible = |p: &PathBuf| p.file_name().is_some_and(|n| !n.to_string_lossy().starts_with('.'));
    let mut folders: Vec<PathBuf> =
        list.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.is_dir() && visible(p)).collect();
    folders.sort();
    let mut empty = Vec::new();
    for folder in folders {
        match std::fs::read_dir(&folder).map(|mut d| d.next().is_none()) {
            Ok(true) => empty.push(folder),
            // train/ and test/ hold the class folders one level down
            Ok(false) => empty.extend(empty_folders_here(&folder)),
            Err(_) => {}
        }
    }
    empty
}

fn empty_folders_here(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| e.ok().map(|e| e.path()));
    let empty = |p: &PathBuf| std::fs::read_dir(p).is_ok_and(|mut d| d.next().is_none());
    entries.filter(|p| p.is_dir()).filter(empty).collect()
}

/// A source whose labels are numbers of another list of classes.
struct Renumbered {
    parent: Arc<dyn Source>,
    /// New number of each class of the parent.
    map: Vec<u32>,
    classes: Vec<String>,
}

/// `source` with its labels as indices into `classes`: by name, or by order where both have as many and no name agrees
/// (the second result then says so).
///
/// # Errors
/// If a class of the source is not among `classes`.
pub fn with_classes(
    source: Arc<dyn Source>,
    classes: &[String],
    spec: &str,
) -> Result<(Arc<dyn Source>, Option<String>)> {
    let own = source.classes();
    if own == classes {
        return Ok((source, None));
    }
    let number = |name: &String| classes.iter().position(|c| c == name).map(|i| i as u32);
    let found: Vec<Option<u32>> = own.iter().map(number).collect();
    let mut note = None;
    let map: Vec<u32> = if found.iter().all(Option::is_none) && own.len() == classes.len() {
        note =
            Some(format!("the classes of {spec} have other names than the model's: matched by their order"));
        (0..own.len() as u32).collect()
    } else if found.iter().any(Option::is_none) || own.is_empty() {
        let alien = own.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(name, _)| name);
        let got = if own.is_empty() { "no classes".into() } else { some_of(alien) };
        let e = Error::data("classes that the model does not know").at(spec);
        return Err(e
            .expected(format!("some of {} classes: {}", classes.len(), some_of(classes.iter())))
            .got(got));
    } else {
        found.into_iter().flatten().collect()
    };
    Ok((Arc::new(Renumbered { parent: source, map, classes: classes.to_vec() }), note))
}

impl Renumbered {
    fn number(&self, label: Option<u32>) -> Option<u32> {
        self.map.get(label? as usize).copied()
    }
}

impl Source for Renumbered {
    fn len(&self) -> usize {
        self.parent.len()
    }
    fn load(&self, index: usize) -> Result<Sample> {
        let sample = self.parent.load(index)?;
        Ok(Sample { label: self.number(sample.label), ..sample })
    }
    fn name(&self, index: usize) -> String {
        self.parent.name(index)
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn labels(&self) -> Option<Vec<Option<u32>>> {
        Some(self.parent.labels()?.into_iter().map(|l| self.number(l)).collect())
    }
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.parent.fingerprint());
        self.map.iter().for_each(|i| hash.update(i.to_le_bytes()));
        short_hash(hash)
    }
}

/// All numbers below `len` in a random order under the seed.
fn random_order(len: usize, seed: u64) -> Vec<usize> {
    let mut draws = Key::new(seed, Stream::Shuffle, u32::MAX - 1).draws();
    let mut order: Vec<usize> = (0..len).collect();
    for i in 0..order.len().saturating_sub(1) {
        let other = i + draws.below(order.len() - i);
        order.swap(i, other);
    }
    order
}

/// At most `count` pictures, drawn at random under the seed, in the order of the source.
pub fn few(source: Arc<dyn Source>, count: usize, seed: u64) -> Arc<dyn Source> {
    let mut kept = random_order(source.len(), seed);
    kept.truncate(count);
    kept.sort_unstable();
    Arc::new(Subset::new(source, kept))
}

/// At most `count` pictures of each class, drawn at random under the seed, in the order of the source.
///
/// # Errors
/// If pictures that must be decoded for their label cannot be read.
pub fn few_per_class(source: Arc<dyn Source>, count: usize, seed: u64) -> Result<Arc<dyn Source>> {
    let order = random_order(source.len(), seed);
    let known = source.labels();
    let mut left = vec![count; source.classes().len()];
    let mut kept = Vec::new();
    for index in order {
        if left.iter().all(|&n| n == 0) {
            break;
        }
        let label = match &known {
            Some(labels) => labels.get(index).copied().flatten(),
            None => source.load(index)?.label,
        };
        if let Some(n) = label.and_then(|l| left.get_mut(l as usize)).filter(|n| **n > 0) {
            *n -= 1;
            kept.push(index);
        }
    }
    kept.sort_unstable();
    Ok(Arc::new(Subset::new(source, kept)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic::SyntheticSource;

    #[test]
    fn few_of_each() {
        let all: Arc<dyn Source> = Arc::new(SyntheticSource::new(1, 400, 16));
        let few = few_per_class(all.clone(), 3, 5).unwrap();
        let mut counts = vec![0; few.classes().len()];
        (0..few.len()).for_each(|i| counts[few.load(i).unwrap().label.unwrap() as usize] += 1);
        assert!(counts.iter().all(|&n| n == 3), "{counts:?}");
        assert_eq!(few.fingerprint(), few_per_class(all.clone(), 3, 5).unwrap().fingerprint());
        assert_ne!(few.fingerprint(), few_per_class(all, 3, 6).unwrap().fingerprint());
    }

    #[test]
    fn numbers_by_name_and_by_order() {
        let source: Arc<dyn Source> = Arc::new(SyntheticSource::new(1, 20, 16));
        let names = source.classes().to_vec();
        let mut reversed = names.clone();
        reversed.reverse();
        let (same, note) = with_classes(source.clone(), &names, "x").unwrap();
        assert!(note.is_none() && same.fingerprint() == source.fingerprint());
        let (other, note) = with_classes(source.clone(), &reversed, "x").unwrap();
        assert!(note.is_none());
        for i in 0..20 {
            let (a, b) = (source.load(i).unwrap().label.unwrap(), other.load(i).unwrap().label.unwrap());
            assert_eq!(a + b, names.len() as u32 - 1);
        }
        let numbers: Vec<String> = (0..names.len()).map(|i| i.to_string()).collect();
        assert!(with_classes(source.clone(), &numbers, "x").unwrap().1.is_some());
        let e = with_classes(source, &names[1..], "x").err().unwrap().to_string();
        assert!(e.contains(&names[0]), "{e}");
    }
}
