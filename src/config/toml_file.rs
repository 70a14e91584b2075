//! TOML in and out.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Value;

/// Largest config file that is read, in bytes.
const LIMIT: usize = 1 << 20;

/// A config from TOML text that holds all keys (a run folder's `config.toml`).
///
/// # Errors
/// If a key is unknown or missing or has the wrong type; `file` is named.
pub fn from_toml<C: DeserializeOwned>(text: &str, file: &str) -> Result<C> {
    toml::from_str(text).map_err(|e| not_a_config(&e, file))
}

/// TOML text of a config.
///
/// # Errors
/// Never for a config that was checked.
pub fn to_toml<C: Serialize>(config: &C) -> Result<String> {
    toml::to_string_pretty(config).map_err(|e| Error::config("config cannot be written").got(e.to_string()))
}

/// `base` with the keys of a TOML file on top; tables are merged, everything else is replaced.
///
/// # Errors
/// If the text is no TOML, or a key is unknown or has the wrong type; `file` is named.
pub fn merge_file<C: Serialize + DeserializeOwned>(base: &C, text: &str, file: &str) -> Result<C> {
    if text.len() > LIMIT {
        return Err(Error::config("config file too large").at(file).expected("at most 1 MiB"));
    }
    let over: Value = Value::Table(text.parse::<toml::Table>().map_err(|e| not_a_config(&e, file))?);
    let mut all = Value::try_from(base).map_err(|e| Error::config("config").got(e.to_string()))?;
    overlay(&mut all, over);
    all.try_into().map_err(|e: toml::de::Error| not_a_config(&e, file))
}

/// A value of a TOML text, by table and key, before the text is merged; nothing where the text is no TOML.
pub fn peek<T: DeserializeOwned>(text: &str, table: &str, key: &str) -> Option<T> {
    let all = text.parse::<toml::Table>().ok()?;
    all.get(table)?.get(key)?.clone().try_into().ok()
}

fn overlay(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Table(base), Value::Table(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(old) => overlay(old, value),
                    None => drop(base.insert(key, value)),
                }
            }
        }
        // A whole number where a real one is expected is what people write.
        (base @ Value::Float(_), Value::Integer(i)) => *base = Value::Float(i as f64),
        (base, over) => *base = over,
    }
}

fn not_a_config(e: &toml::de::Error, file: &str) -> Error {
    // The text quotes the file in lines with a bar; what is left says where and what.
    let text = e.to_string();
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.contains('|')).collect();
    let message = lines.join(", ");
    Error::config("wrong config").at(file).got(message).hint("`--print-config` shows all keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RunConfig, preset};

    #[test]
    fn round_trip_and_merge() {
        let base = preset("nano").unwrap();
        assert_eq!(from_toml::<RunConfig>(&to_toml(&base).unwrap(), "x").unwrap(), base);
        let merged = merge_file(&base, "seed = 3\n[training]\nlr = 1\n", "x").unwrap();
        assert_eq!((merged.seed, merged.training.lr, merged.training.batch), (3, 1.0, base.training.batch));
    }

    #[test]
    fn mistakes_name_the_file_and_the_key() {
        let base = preset("nano").unwrap();
        for (text, word) in [
            ("sed = 3", "sed"),
            ("[training]\nlerning-rate = 1", "lerning-rate"),
            ("seed = \"x\"", "seed"),
            ("=", "x.toml"),
        ] {
            let e = merge_file(&base, text, "x.toml").unwrap_err().to_string();
            assert!(e.contains("x.toml") && e.contains(word), "{text}: {e}");
        }
    }
}
