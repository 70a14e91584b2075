//! Bytes of the found files to tensors. What a file is, its first bytes say, not its name.

use super::OpenOptions;
use super::about;
use super::assemble::Parts;
use super::find::Found;
use crate::error::{Error, Result};
use crate::io::checkpoint;
use crate::io::hf::{CONFIG_BYTES, parse_json};
use crate::io::limits::FileLimits;
use crate::io::names::with_prefix;
use crate::io::tensors::{Precision, TensorFile, read_safetensors};
use crate::io::torch::{looks_like_torch, read_torch};
use std::collections::BTreeMap;
use std::path::Path;

/// Most shards of one model.
const SHARDS: usize = 1024;

/// Reads everything that was found.
pub(super) fn read(found: &Found, options: &OpenOptions) -> Result<Parts> {
    let reader = Reader { found, limits: options.limits };
    let mut file = reader.weights(&found.weights)?;
    if let Some(decoder) = &found.decoder {
        let second = reader.weights(decoder)?;
        file.precision = file.precision.and(second.precision);
        file.tensors = with_prefix(file.tensors, "encoder");
        file.tensors.extend(with_prefix(second.tensors, "decoder"));
    }
    Ok(Parts {
        path: found.weights.clone(),
        tensors: file.tensors,
        metadata: file.metadata,
        precision: file.precision,
        config: reader.beside("config.json")?,
        preprocessor: reader.beside("preprocessor_config.json")?,
        sizes: reader.beside("tokenizer.json")?,
    })
}

struct Reader<'a> {
    found: &'a Found,
    limits: FileLimits,
}

impl Reader<'_> {
    fn weights(&self, path: &Path) -> Result<TensorFile> {
        let bytes = self.bytes(path, self.limits.file_bytes)?;
        decode(&bytes, &self.limits)
            .and_then(|decoded| match decoded {
                Decoded::Tensors(file) => Ok(file),
                Decoded::Index(shards) => self.sharded(path, &shards),
            })
            .map_err(|e| about(path, e))
    }

    /// All shards together; every tensor must come from the shard that the index names.
    fn sharded(&self, index: &Path, weight_map: &BTreeMap<String, String>) -> Result<TensorFile> {
        let mut all = TensorFile { precision: Precision::Unset, ..TensorFile::default() };
        let mut names: Vec<&String> = weight_map.values().collect();
        names.sort();
        names.dedup();
        if names.len() > SHARDS {
            return Err(Error::checkpoint("too many shards")
                .expected(format!("at most {SHARDS}"))
                .got(names.len().to_string()));
        }
        let mut left = self.limits.file_bytes;
        for name in names {
            let path = index.with_file_name(name);
            let bytes = self.bytes(&path, left)?;
            left = left.saturating_sub(bytes.len() as u64);
            let Decoded::Tensors(shard) = decode(&bytes, &self.limits).map_err(|e| about(&path, e))? else {
                return Err(
                    Error::checkpoint("a shard that is an index itself").at(path.display().to_string())
                );
            };
            all.precision = all.precision.and(shard.precision);
            for (tensor, value) in shard.tensors {
                if weight_map.get(&tensor) != Some(name) {
                    return Err(Error::checkpoint("a tensor in another shard than the index says")
                        .at(path.display().to_string())
                        .expected(weight_map.get(&tensor).map_or("no such tensor", String::as_str))
                        .got(tensor));
                }
                all.tensors.insert(tensor, value);
            }
            all.metadata.extend(shard.metadata);
        }
        let missing: Vec<String> =
            weight_map.keys().filter(|name| !all.tensors.contains_key(*name)).cloned().collect();
        if !missing.is_empty() {
            return Err(Error::checkpoint("tensors of the index that no shard has").got(format!(
                "{}: {}",
                missing.len(),
                crate::io::fit::list(&missing)
            )));
        }
        Ok(all)
    }

    /// A small file beside the weights, if it is there.
    fn beside(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.found.beside(name).map(|path| self.bytes(&path, CONFIG_BYTES as u64)).transpose()
    }

    /// A whole file; in a checkpoint of ours, one that its manifest vouches for.
    fn bytes(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if let Some(dir) = &self.found.checkpoint {
            return checkpoint::at(dir)?.read(name);
        }
        let about = std::fs::metadata(path).map_err(|e| Error::io("cannot read", path, &e))?;
        if !about.is_file() {
            return Err(Error::checkpoint("not a regular file").at(path.display().to_string()));
        }
        if about.len() > limit {
            return Err(Error::checkpoint("file too large")
                .at(path.display().to_string())
                .expected(format!("at most {limit} bytes"))
                .got(format!("{} bytes", about.len())));
        }
        std::fs::read(path).map_err(|e| Error::io("cannot read", path, &e))
    }
}

enum Decoded {
    Tensors(TensorFile),
    /// Tensor name to file name.
    Index(BTreeMap<String, String>),
}

fn decode(bytes: &[u8], limits: &FileLimits) -> Result<Decoded> {
    if bytes.starts_with(b"{") {
        return index(bytes).map(Decoded::Index);
    }
    if looks_like_torch(bytes) {
        return read_torch(bytes, limits).map(Decoded::Tensors);
    }
    read_safetensors(bytes, limits).map(Decoded::Tensors)
}

/// The `weight_map` of an index file. Shards lie beside it: a name with a path in it is refused.
fn index(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let value = parse_json(bytes)?;
    let Some(map) = value.get("weight_map").and_then(|m| m.as_object()) else {
        return Err(Error::checkpoint("a JSON file that is no index of shards").expected("a weight_map"));
    };
    let mut out = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().filter(|name| crate::io::atomic::is_plain_name(name)).ok_or_else(|| {
            let shown: String = file.to_string().chars().take(64).flat_map(char::escape_default).collect();
            Error::checkpoint("a shard's file name that is not allowed").at(tensor.clone()).got(shown)
        })?;
        out.insert(tensor.clone(), file.to_owned());
    }
    Ok(out)
}
