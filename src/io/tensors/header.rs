//! The JSON header of a safetensors file, read strictly: repeated keys, extra fields and odd numbers are refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::io::limits::FileLimits;

/// Key of the free-form strings among the tensor names.
pub(super) const METADATA: &str = "__metadata__";

/// One tensor's line in the header.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub dtype: String,
    pub shape: Vec<u64>,
    pub data_offsets: [u64; 2],
}

#[derive(Debug, Default)]
pub(super) struct Header {
    pub entries: BTreeMap<String, Entry>,
    pub metadata: BTreeMap<String, String>,
}

/// Parses the header text; the message of the error says what and where.
pub(super) fn parse(text: &str, limits: &FileLimits) -> Result<Header, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let header = HeaderSeed(limits).deserialize(&mut json)?;
    json.end()?;
    Ok(header)
}

struct HeaderSeed<'a>(&'a FileLimits);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = Header;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = Header;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        let mut has_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(A::Error::custom("__metadata__ is given twice"));
                }
                header.metadata = map.next_value::<UniqueStrings>()?.0;
                continue;
            }
            check_name(&name, self.0).map_err(A::Error::custom)?;
            if header.entries.len() >= self.0.tensors {
                return Err(A::Error::custom(format!("more than {} tensors", self.0.tensors)));
            }
            let entry = map.next_value::<StrictEntry>()?.0;
            if header.entries.contains_key(&name) {
                return Err(A::Error::custom(format!("tensor {name} is given twice")));
            }
            header.entries.insert(name, entry);
        }
        Ok(header)
    }
}

/// Names end up in messages, logs and pages, so control characters and direction marks are kept out.
fn check_name(name: &str, limits: &FileLimits) -> Result<(), String> {
    if name.is_empty() {
        return Err("a tensor has an empty name".into());
    }
    if name.len() > limits.name_bytes {
        return Err(format!("a tensor's name has {} bytes, more than {}", name.len(), limits.name_bytes));
    }
    match name.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
        Some(c) => Err(format!("a tensor's name holds {c:?}, which is not printable ASCII")),
        None => Ok(()),
    }
}

/// An entry that must be an object: the derived reader alone would take an array too.
struct StrictEntry(Entry);

impl<'de> Deserialize<'de> for StrictEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = StrictEntry;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object with dtype, shape and data_offsets")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StrictEntry, A::Error> {
                Entry::deserialize(MapAccessDeserializer::new(map)).map(StrictEntry)
            }
        }
        deserializer.deserialize_map(EntryVisitor)
    }
}

/// Strings by key; a repeated key is an error.
struct UniqueStrings(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueStrings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringsVisitor;
        impl<'de> Visitor<'de> for StringsVisitor {
            type Value = UniqueStrings;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueStrings, A::Error> {
                let mut strings = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if strings.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("metadata {key} is given twice")));
                    }
                }
                Ok(UniqueStrings(strings))
            }
        }
        deserializer.deserialize_map(StringsVisitor)
    }
}
