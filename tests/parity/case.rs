//! One case folder: its description, its tensors, its configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use beit::interop::{ModelFile, OpenOptions, Parts, from_tensors};
use beit::io::hf;
use beit::io::limits::FileLimits;
use beit::io::tensors::{TensorData, TensorFile, read_safetensors};
use serde_json::{Value, json};

/// What a check returns: a failure that ends the check; differences of numbers go to the report instead.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// An expected or given tensor; whatever its type, as f64.
#[derive(Debug, Clone)]
pub struct Array {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f64>,
}

impl Array {
    /// Token ids, labels, indices.
    pub fn words(&self) -> Vec<u32> {
        self.values.iter().map(|&v| v as u32).collect()
    }
    /// Real numbers.
    pub fn reals(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }
    /// Flags.
    pub fn flags(&self) -> Vec<bool> {
        self.values.iter().map(|&v| v != 0.0).collect()
    }
    /// Item `i` along the first dimension.
    pub fn item(&self, i: usize) -> &[f64] {
        let size = self.values.len() / self.shape[0];
        &self.values[i * size..][..size]
    }
}

/// Tensors of a file by name.
pub type Arrays = BTreeMap<String, Array>;

/// A case folder.
#[derive(Debug, Clone)]
pub struct Case {
    /// Name of the folder.
    pub name: String,
    /// Its path.
    pub dir: PathBuf,
    /// Which check runs it.
    pub kind: String,
    /// `case.json`.
    pub json: Value,
    /// `io.safetensors`, if there is one.
    pub io: Arrays,
}

impl Case {
    /// Reads a folder; every tensor that the description lists must be in its file in the shape listed.
    pub fn read(dir: &Path) -> Outcome<Case> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read(dir.join("case.json")).map_err(|e| format!("case.json: {e}"))?;
        let json: Value = serde_json::from_slice(&text).map_err(|e| format!("case.json: {e}"))?;
        let kind = json["kind"].as_str().ok_or("case.json names no kind")?.to_string();
        let mut case = Case { name, dir: dir.into(), kind, json, io: Arrays::new() };
        if dir.join("io.safetensors").exists() {
            case.io = case.arrays("io.safetensors")?;
        }
        Ok(case)
    }
    /// Checks the list of tensors in `case.json` against the files.
    pub fn check_listed(&self) -> Outcome {
        let mut files: BTreeMap<&str, Arrays> = BTreeMap::new();
        for entry in self.json["tensors"].as_array().into_iter().flatten() {
            let (Some(file), Some(name)) = (entry["file"].as_str(), entry["name"].as_str()) else {
                return Err(format!("case.json lists a tensor without file or name: {entry}").into());
            };
            if !files.contains_key(file) {
                files.insert(file, self.arrays(file)?);
            }
            if let Some(family) = name.strip_suffix('*') {
                if !files[file].keys().any(|n| n.starts_with(family)) {
                    return Err(format!("{file} has no tensor of the family {name} of case.json").into());
                }
                continue;
            }
            let found = files[file].get(name).map(|a| &a.shape);
            let listed: Option<Vec<usize>> = serde_json::from_value(entry["shape"].clone()).ok();
            if found.is_none() || found != listed.as_ref() {
                return Err(
                    format!("{file}: tensor {name}: case.json lists {listed:?}, found {found:?}").into()
                );
            }
        }
        Ok(())
    }
    /// All tensors of one of its files, as f64.
    pub fn arrays(&self, file: &str) -> Outcome<Arrays> {
        Ok(self
            .read_file(file)?
            .tensors
            .into_iter()
            .map(|(name, t)| (name, array(&t.shape, &t.data)))
            .collect())
    }
    /// The model in the case's files, by the import that every command uses; the case's configuration takes the place
    /// of the file that a library writes beside its weights.
    pub fn model(&self) -> Outcome<ModelFile> {
        let file = self.read_file("weights.safetensors")?;
        let config = match self.kind.as_str() {
            "mim" | "train_mim" => Some(self.transformers_config(hf::MASKED_IMAGE_MODEL)),
            "classify" => Some(self.transformers_config(hf::IMAGE_CLASSIFIER)),
            "segment" => Some(self.transformers_config(hf::SEGMENTER)),
            "timm" => {
                Some(json!({"architecture": "beit_base_patch16_224", "model_args": self.json["config"]}))
            }
            _ => None,
        };
        // how often a dVAE pools, its weights do not show
        let c = &self.json["config"];
        let sizes = c["pools"].is_u64().then(|| {
            json!({"n-hid": c["n_hid"], "n-init": c["n_init"], "groups": c["group_count"],
                   "blocks": c["n_blk_per_group"], "pools": c["pools"], "vocab": c["vocab_size"]})
        });
        let parts = Parts {
            path: self.dir.join("weights.safetensors"),
            tensors: file.tensors,
            metadata: file.metadata,
            precision: file.precision,
            config: config.map(|c| c.to_string().into_bytes()),
            sizes: sizes.map(|s| s.to_string().into_bytes()),
            ..Parts::default()
        };
        Ok(from_tensors(parts, &OpenOptions::default())?)
    }
    /// `config.json` as the library writes it: with the model's class, its labels and the blocks that feed a pyramid.
    fn transformers_config(&self, class: &str) -> Value {
        let mut config = self.json["config"].clone();
        config["model_type"] = json!("beit");
        config["architectures"] = json!([class]);
        if let Some(labels) = config["num_labels"].as_u64() {
            config["id2label"] = (0..labels).map(|i| (i.to_string(), json!(format!("LABEL_{i}")))).collect();
        }
        if self.json["taps"].is_array() {
            config["out_indices"] = self.json["taps"].clone();
        }
        config
    }
    fn read_file(&self, file: &str) -> Outcome<TensorFile> {
        let bytes = std::fs::read(self.dir.join(file)).map_err(|e| format!("{file}: {e}"))?;
        Ok(read_safetensors(&bytes, &FileLimits::native()).map_err(|e| format!("{file}: {e}"))?)
    }
    /// A tensor of `io.safetensors`.
    pub fn given(&self, name: &str) -> Outcome<&Array> {
        Ok(self.io.get(name).ok_or_else(|| format!("io.safetensors has no {name}"))?)
    }
    /// The configuration.
    pub fn config(&self) -> Settings<'_> {
        Settings { path: "config".into(), value: &self.json["config"] }
    }
    /// Another object of `case.json`.
    pub fn settings(&self, key: &str) -> Settings<'_> {
        Settings { path: key.into(), value: &self.json[key] }
    }
}

fn array(shape: &[usize], data: &TensorData) -> Array {
    let values = match data {
        TensorData::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::F64(v) => v.clone(),
        TensorData::U8(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::I64(v) => v.iter().map(|&x| x as f64).collect(),
        TensorData::U32(v) => v.iter().map(|&x| f64::from(x)).collect(),
    };
    Array { shape: shape.to_vec(), values }
}

/// An object of `case.json`, whose missing or wrong keys give a message with their path.
#[derive(Debug, Clone)]
pub struct Settings<'a> {
    path: String,
    /// The object.
    pub value: &'a Value,
}

impl Settings<'_> {
    fn read<T>(&self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Outcome<T> {
        let value = &self.value[key];
        let wrong = || format!("case.json: {}.{key}: expected {expected}, got {value}", self.path);
        Ok(read(value).ok_or_else(wrong)?)
    }
    /// A count.
    pub fn count(&self, key: &str) -> Outcome<usize> {
        self.read(key, "a count", |v| v.as_u64().map(|n| n as usize))
    }
    /// A count, if the key is there.
    pub fn maybe_count(&self, key: &str) -> Outcome<Option<usize>> {
        if self.value[key].is_null() { Ok(None) } else { self.count(key).map(Some) }
    }
    /// A number.
    pub fn number(&self, key: &str) -> Outcome<f64> {
        self.read(key, "a number", Value::as_f64)
    }
    /// A number; 0 if the key is missing or null.
    pub fn number_or_zero(&self, key: &str) -> Outcome<f64> {
        if self.value[key].is_null() { Ok(0.0) } else { self.number(key) }
    }
    /// Yes or no.
    pub fn flag(&self, key: &str) -> Outcome<bool> {
        self.read(key, "true or false", Value::as_bool)
    }
    /// Text.
    pub fn text(&self, key: &str) -> Outcome<String> {
        self.read(key, "text", |v| v.as_str().map(str::to_string))
    }
    /// Height and width: one number for a square, or two.
    pub fn sides(&self, key: &str) -> Outcome<(usize, usize)> {
        self.read(key, "a side, or height and width", |v| match v {
            Value::Array(two) => match two.as_slice() {
                [h, w] => Some((h.as_u64()? as usize, w.as_u64()? as usize)),
                _ => None,
            },
            side => side.as_u64().map(|n| (n as usize, n as usize)),
        })
    }
    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Outcome<Vec<f64>> {
        self.read(key, "a list of numbers", |v| v.as_array()?.iter().map(Value::as_f64).collect())
    }
    /// A list of texts.
    pub fn texts(&self, key: &str) -> Outcome<Vec<String>> {
        self.read(key, "a list of texts", |v| {
            v.as_array()?.iter().map(|s| s.as_str().map(str::to_string)).collect()
        })
    }
}
