//! From what a person types to training and held-out pictures with label maps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{LabelRule, Labelled, MapCensus, PairedSource, census};
use crate::data::source::folder::{Found, walk};
use crate::data::source::listing::{Entry, Listing};
use crate::data::source::{Source, split};
use crate::data::synthetic::SyntheticSource;
use crate::{Error, Result};

/// Where labelled pictures come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentChoice<'a> {
    /// `synthetic[:COUNT[:SIDE]]`, a folder of pictures, or a folder with pictures and label maps in sub-folders.
    pub data: &'a str,
    /// Folder of label maps, or empty to look for it in `data`.
    pub labels: &'a str,
    /// Held-out pictures, or empty.
    pub val: &'a str,
    /// Label maps of the held-out pictures.
    pub val_labels: &'a str,
    /// Share of the pictures that is held out when nothing else names any.
    pub val_share: f64,
    /// Seed of the built-in scenes and of the split.
    pub seed: u64,
    /// 0 in a map means unlabelled, class `k` is stored as `k + 1`.
    pub reduce_zero: bool,
    /// Number of classes; 0 = as many as the maps or the names say.
    pub classes: usize,
    /// A file with a name of a class on every line, or empty.
    pub class_names: &'a str,
}

/// Labelled pictures.
#[derive(Clone)]
pub struct SegmentPictures {
    /// To train on.
    pub train: Arc<dyn Source>,
    /// To measure on.
    pub val: Arc<dyn Source>,
    /// Names of the classes.
    pub names: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Names of sub-folders with pictures.
const PICTURES: [&str; 6] = ["images", "img_dir", "imgs", "img", "JPEGImages", "pictures"];
/// Names of sub-folders with label maps.
const MAPS: [&str; 7] =
    ["annotations", "ann_dir", "labels", "masks", "label", "SegmentationClass", "segmentation"];
/// Names of parts to train on, and of held-out ones.
const TRAIN: [&str; 2] = ["training", "train"];
const HELD_OUT: [&str; 3] = ["validation", "val", "test"];
/// Files in the opened folder that name classes.
const NAMES: [&str; 3] = ["classes.txt", "class_names.txt", "labels.txt"];

/// Opens labelled pictures and looks at all of their maps.
///
/// # Errors
/// If there are none, pictures lack maps, a map has another size than its picture, holds colours or numbers that are
/// no classes, or there is only one class.
pub fn open_segments(choice: &SegmentChoice<'_>) -> Result<SegmentPictures> {
    if choice.data == "synthetic" || choice.data.starts_with("synthetic:") {
        return synthetic(choice);
    }
    let mut warnings = Vec::new();
    let set = find(choice, &mut warnings)?;
    let census = set.census()?;
    let names = names(choice, &set.root)?;
    let classes = match (choice.classes, names.len()) {
        (0, 0) => census.classes(choice.reduce_zero),
        (0, n) => n,
        (n, 0) => n,
        (n, named) if n == named => n,
        (n, named) => {
            return Err(Error::config("another number of classes than names")
                .at("--classes")
                .expected(named.to_string())
                .got(n.to_string()));
        }
    };
    let rule = LabelRule { classes, reduce_zero: choice.reduce_zero };
    check(&census, rule, choice.data, &mut warnings)?;
    let names = if names.is_empty() { (0..classes).map(|c| format!("class {c}")).collect() } else { names };
    let labelled = |pairs: Pairs| -> Arc<dyn Source> {
        let (entries, maps) = pairs.into_iter().unzip();
        let pictures: Arc<dyn Source> = Arc::new(Listing::new(entries, Vec::new()));
        Arc::new(Labelled::new(Arc::new(PairedSource::new(pictures, maps)), names.clone(), rule))
    };
    let train = labelled(set.train);
    let (train, val) = match set.held_out {
        Some(held_out) => (train, labelled(held_out)),
        None => hold_out(train, choice, &mut warnings)?,
    };
    Ok(SegmentPictures { train, val, names, warnings })
}

fn hold_out(
    all: Arc<dyn Source>,
    choice: &SegmentChoice<'_>,
    warnings: &mut Vec<String>,
) -> Result<(Arc<dyn Source>, Arc<dyn Source>)> {
    if all.len() < 2 || choice.val_share == 0.0 {
        warnings.push("no held-out pictures: figures are measured on the training pictures".into());
        return Ok((all.clone(), all));
    }
    split(all.clone(), choice.val_share, choice.seed)
}

fn synthetic(choice: &SegmentChoice<'_>) -> Result<SegmentPictures> {
    let scenes = SyntheticSource::parse(choice.data, choice.seed)?;
    let names = scenes.segment_names();
    if choice.classes != 0 && choice.classes != names.len() {
        return Err(Error::config("the built-in scenes have a fixed number of classes")
            .at("--classes")
            .expected(names.len().to_string())
            .got(choice.classes.to_string()));
    }
    if choice.reduce_zero {
        let e =
            Error::config("0 is the background of the built-in scenes, a class").at("--reduce-zero-label");
        return Err(e.hint("leave it out with --data synthetic"));
    }
    let rule = LabelRule { classes: names.len(), reduce_zero: false };
    let all: Arc<dyn Source> = Arc::new(Labelled::new(Arc::new(scenes), names.clone(), rule));
    let mut warnings = Vec::new();
    let (train, val) = match choice.val {
        "" => hold_out(all, choice, &mut warnings)?,
        spec => {
            // Other scenes than those of the training seed.
            let held_out = SyntheticSource::parse(spec, choice.seed.wrapping_add(1))?;
            (all, Arc::new(Labelled::new(Arc::new(held_out), names.clone(), rule)) as Arc<dyn Source>)
        }
    };
    Ok(SegmentPictures { train, val, names, warnings })
}

fn check(census: &MapCensus, rule: LabelRule, data: &str, warnings: &mut Vec<String>) -> Result<()> {
    if let Some(stored) = census.beyond(rule) {
        return Err(rule.refuse(stored).at(data.to_string()));
    }
    let present = census.present(rule);
    if present < 2 || rule.classes < 2 {
        return Err(Error::data("label maps with a single class")
            .at(data.to_string())
            .expected("at least two classes")
            .got(format!("{present} among {}", rule.classes))
            .hint("there is nothing to tell apart; check the folder of label maps"));
    }
    if present < rule.classes {
        let missing = rule.classes - present;
        warnings
            .push(format!("{missing} of {} classes occur in no label map that was looked at", rule.classes));
    }
    Ok(())
}

/// Pictures with the files of their maps.
type Pairs = Vec<(Entry, PathBuf)>;

struct Set {
    root: PathBuf,
    train: Pairs,
    held_out: Option<Pairs>,
}

impl Set {
    fn census(&self) -> Result<MapCensus> {
        let pairs: Vec<(&Path, &Path)> = self
            .train
            .iter()
            .chain(self.held_out.iter().flatten())
            .map(|(entry, map)| (entry.file.as_path(), map.as_path()))
            .collect();
        census(&pairs)
    }
}

fn find(choice: &SegmentChoice<'_>, warnings: &mut Vec<String>) -> Result<Set> {
    let root = folder(choice.data)?;
    let (pictures, maps) = match choice.labels {
        "" => {
            let pick = |names: &[&str]| names.iter().map(|n| root.join(n)).find(|p| p.is_dir());
            pick(&PICTURES).zip(pick(&MAPS)).ok_or_else(|| {
                Error::data("no folder of label maps")
                    .at(choice.data)
                    .expected(format!("{} beside {}", MAPS.join(", "), PICTURES.join(", ")))
                    .hint("name the folder of label maps with --labels")
            })?
        }
        labels => (root.clone(), folder(labels)?),
    };
    let part = |names: &[&str]| {
        names.iter().map(|n| (pictures.join(n), maps.join(n))).find(|(p, m)| p.is_dir() && m.is_dir())
    };
    let held_out = match (choice.val, choice.val_labels) {
        ("", _) => None,
        (_, "") => return Err(Error::config("held-out pictures without label maps").at("--val-labels")),
        (val, labels) => Some((folder(val)?, folder(labels)?)),
    };
    let (train, held_out) = match (part(&TRAIN), part(&HELD_OUT)) {
        (Some(train), val) => (train, held_out.or(val)),
        _ => ((pictures.clone(), maps.clone()), held_out),
    };
    if pictures.join("training").is_dir() && maps.join("training").is_dir() && !choice.reduce_zero {
        warnings.push(
            "this is the layout of ADE20K, whose 0 means unlabelled: --reduce-zero-label is off".into(),
        );
    }
    let train = pair(&train.0, &train.1, warnings)?;
    let held_out = held_out.map(|(p, m)| pair(&p, &m, warnings)).transpose()?;
    Ok(Set { root, train, held_out })
}

fn folder(path: &str) -> Result<PathBuf> {
    let found = PathBuf::from(path);
    if found.is_dir() {
        return Ok(found);
    }
    Err(Error::data("no such folder").at(path).expected("synthetic, or a folder of pictures with label maps"))
}

/// Path below a folder without the extension.
fn stem(entry: &Entry) -> String {
    let own = entry.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    format!("{}/{own}", entry.folders.join("/"))
}

/// Pairs pictures with the PNG of the same path and stem.
fn pair(pictures: &Path, maps: &Path, warnings: &mut Vec<String>) -> Result<Pairs> {
    let found: Found = walk(pictures)?;
    let mut labels: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in walk(maps)?.pictures {
        if crate::data::source::folder::extension(&entry.file) == "png" {
            labels.insert(stem(&entry), entry.file.as_ref().clone());
        }
    }
    let mut pairs = Vec::new();
    let mut alone = Vec::new();
    for entry in found.pictures {
        match labels.remove(&stem(&entry)) {
            Some(map) => pairs.push((entry, map)),
            None => alone.push(entry.name),
        }
    }
    if pairs.is_empty() || !alone.is_empty() {
        let shown = alone.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        return Err(Error::data("pictures without a label map")
            .at(pictures.display().to_string())
            .expected(format!("for every picture a .png of the same name in {}", maps.display()))
            .got(match alone.len() {
                0 => "no pictures".to_string(),
                n => format!("{n} of {} without one: {shown}", n + pairs.len()),
            }));
    }
    if !labels.is_empty() {
        warnings.push(format!("{} label maps in {} belong to no picture", labels.len(), maps.display()));
    }
    Ok(pairs)
}

fn names(choice: &SegmentChoice<'_>, root: &Path) -> Result<Vec<String>> {
    let file = match choice.class_names {
        "" => NAMES.iter().map(|n| root.join(n)).find(|p| p.is_file()),
        given => Some(PathBuf::from(given)),
    };
    let Some(file) = file else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(&file).map_err(|e| Error::io("cannot read class names", &file, &e))?;
    let names: Vec<String> = text.lines().map(|l| l.trim().to_string()).filter(|l| !l.is_empty()).collect();
    if names.is_empty() || names.len() > 255 {
        return Err(Error::data("class names")
            .at(file.display().to_string())
            .expected("one name a line, at most 255")
            .got(names.len().to_string()));
    }
    Ok(names)
}
