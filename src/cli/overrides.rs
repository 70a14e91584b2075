//! What all commands with a config share: a preset, then a file over it, then flags.

use crate::config::{PRESETS, merge_file};
use crate::error::{Error, Result};
use crate::runs::{METRICS, read_records};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// Takes a flag's value, if the flag was given.
pub fn set<T: Clone>(to: &mut T, from: &Option<T>) {
    if let Some(v) = from {
        *to = v.clone();
    }
}

/// A value of an enumeration by the name that config files use.
///
/// # Errors
/// If there is no such name; the message lists `names`.
pub fn named<T: DeserializeOwned>(to: &mut T, from: &Option<String>, flag: &str, names: &str) -> Result<()> {
    let Some(name) = from else { return Ok(()) };
    *to = serde_json::from_value(name.as_str().into())
        .map_err(|_| Error::config("no such value").at(flag).expected(names).got(name.clone()))?;
    Ok(())
}

/// The config of a preset, by default nano's.
///
/// # Errors
/// If there is no such preset; the message lists them.
pub fn from_preset<C>(name: Option<&String>, preset: fn(&str) -> Result<C>) -> Result<C> {
    preset(name.map_or("nano", String::as_str)).map_err(|e| e.at("--preset").expected(PRESETS.join(", ")))
}

/// The text of a config file, if one was named.
///
/// # Errors
/// If it cannot be read.
pub fn read_config(path: Option<&PathBuf>) -> Result<Option<(&PathBuf, String)>> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|e| {
            Error::config("cannot read the config file").at(path.display().to_string()).got(e.to_string())
        })
    };
    path.map(|path| Ok((path, read(path)?))).transpose()
}

/// A config with the keys of a file on top, if one was named.
///
/// # Errors
/// If it cannot be read, or a key is unknown or has the wrong type.
pub fn with_file<C: Serialize + DeserializeOwned>(base: C, path: Option<&PathBuf>) -> Result<C> {
    match read_config(path)? {
        Some((path, text)) => merge_file(&base, &text, &path.display().to_string()),
        None => Ok(base),
    }
}

/// Whether any flag differs from its default.
pub fn any_given<S: Debug + Default>(flags: &S) -> bool {
    format!("{flags:?}") != format!("{:?}", S::default())
}

/// The last values of keys in the metrics of a run; NaN where there is none.
///
/// # Errors
/// If the metrics cannot be read.
pub fn last_numbers<const N: usize>(dir: &Path, keys: [&str; N]) -> Result<[f64; N]> {
    let records = read_records(&dir.join(METRICS))?;
    let last = |key: &str| records.iter().rev().find_map(|r| r.get(key).and_then(Value::as_f64));
    Ok(keys.map(|key| last(key).unwrap_or(f64::NAN)))
}
