//! The older container: pickles of a magic number, a version, the writer's system, the object and the keys of its
//! storages, and then the storages themselves.

use super::known::Known;
use super::pickle::{Input, Node, NodeId, Values, load_next};
use super::{Storages, bad, shown};
use crate::error::Result;
use std::collections::BTreeMap;

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Version of the container.
const VERSION: i64 = 1001;

/// A file in the older container.
pub(super) struct File<'a> {
    pub values: Values,
    /// The object.
    pub top: NodeId,
    storages: BTreeMap<String, &'a [u8]>,
    len: usize,
}

impl<'a> File<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut values = Values::default();
        let mut input = Input { bytes, at: 0 };
        let magic = load_next(&mut input, &mut values)?;
        if !matches!(values.get(magic), Some(Node::Long(number)) if *number == MAGIC) {
            return Err(bad("a pickle that torch.save did not write")
                .expected("a file of torch.save, or safetensors")
                .got(values.get(magic).map_or("nothing", Node::name)));
        }
        let version = load_next(&mut input, &mut values)?;
        if values.get(version) != Some(&Node::Int(VERSION)) {
            return Err(bad("another version of torch's older files").expected(VERSION.to_string()));
        }
        let _system = load_next(&mut input, &mut values)?;
        let top = load_next(&mut input, &mut values)?;
        let keys = load_next(&mut input, &mut values)?;
        let storages = storages(&values, keys, &mut input)?;
        Ok(File { values, top, storages, len: bytes.len() })
    }
}

/// Storages follow in the order of their keys: a count of elements, then the elements.
fn storages<'a>(values: &Values, keys: NodeId, input: &mut Input<'a>) -> Result<BTreeMap<String, &'a [u8]>> {
    let Some(Node::List(keys)) = values.get(keys) else {
        return Err(bad("a file of torch without storages"));
    };
    let mut widths: BTreeMap<&str, usize> = BTreeMap::new();
    for id in 0.. {
        match values.get(id) {
            None => break,
            Some(Node::Storage { key, kind: Known::Storage(dtype), .. }) => {
                // without the width it is not known where the next storage starts
                let width =
                    dtype.ok_or_else(|| bad("an element type that is not read").at(shown(key)))?.width();
                widths.insert(key, width);
            }
            Some(_) => {}
        }
    }
    let mut out = BTreeMap::new();
    for key in keys {
        let key = values.text(*key).ok_or_else(|| bad("a storage without a name"))?;
        let width =
            widths.get(key).copied().ok_or_else(|| bad("a storage that nothing uses").got(shown(key)))?;
        let count = u64::from_le_bytes(input.array()?);
        let len = usize::try_from(count).ok().and_then(|n| n.checked_mul(width));
        let len = len.ok_or_else(|| bad("a storage of odd length").at(shown(key)).got(count.to_string()))?;
        out.insert(key.to_owned(), input.take(len)?);
    }
    Ok(out)
}

impl Storages for File<'_> {
    fn bytes(&self, key: &str, elements: usize, width: usize) -> Result<&[u8]> {
        let found = self.storages.get(key).copied();
        let found = found.ok_or_else(|| bad("a storage that the file lacks").got(shown(key)))?;
        if elements.checked_mul(width) != Some(found.len()) {
            return Err(bad("a storage of another length")
                .at(shown(key))
                .expected(format!("{elements} elements of {width} bytes"))
                .got(format!("{} bytes", found.len())));
        }
        Ok(found)
    }
    fn file_len(&self) -> usize {
        self.len
    }
}
