//! The WGSL files and the small preprocessor that turns one into the source of a kernel.
//!
//! `#import name` inserts `common/name.wgsl` once; `#if NAME`, `#if !NAME`, `#else`, `#endif` choose lines by a define
//! of the kernel call (absent or 0 is false) or by its entry point's name; a define that the text uses as a value becomes
//! a constant of type `u32`. `#repeat u COUNT`, `#end` writes its lines COUNT times (a define or a number), with 0u, 1u, …
//! for the word `u`: WGSL loops stay loops, because their bound is checked, and what they index then lies in memory.
//! Every line of the result remembers its file and line.

use crate::error::{Error, Result};
use crate::ops::KernelCall;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../shaders/", $name, ".wgsl")))),*]
    };
}

/// All WGSL files: the name under `shaders/` without its ending, and the text.
pub const FILES: &[(&str, &str)] = files![
    "common/attend",
    "common/attend_kept",
    "common/attend_rows",
    "common/best",
    "common/bilinear",
    "common/eight",
    "common/elem",
    "common/ending",
    "common/ending_params",
    "common/finite",
    "common/grid",
    "common/half",
    "common/lanes",
    "common/logits",
    "common/math",
    "common/operands",
    "common/put",
    "common/result",
    "common/rng",
    "common/row",
    "common/stored",
    "common/strip",
    "common/strip_loads",
    "common/tile_store",
    "common/words",
    "accumulate",
    "adamw",
    "adaptive_pool",
    "add",
    "argmax",
    "attention",
    "attention_grad",
    "attention_lanes",
    "attention_table",
    "attention_tile",
    "batch_norm",
    "channel_dropout",
    "clip",
    "codebook_update",
    "combine",
    "concat",
    "conv2d",
    "cross_entropy",
    "dino_loss",
    "ema",
    "embed",
    "fill",
    "fold",
    "gather",
    "gelu",
    "group_mean",
    "gumbel",
    "head_loss",
    "kl_uniform",
    "l2_normalize",
    "layer_norm",
    "layer_norm_lanes",
    "logit_laplace",
    "matmul",
    "matmul_coop",
    "matmul_sum",
    "matmul_tile",
    "max_pool",
    "members",
    "moving_mean",
    "nearest",
    "norm2",
    "one_hot",
    "pixel_cross_entropy",
    "pool_tokens",
    "qkv_bias",
    "reduce",
    "relu",
    "residual",
    "resize",
    "running_stats",
    "scale_rows",
    "slice",
    "softmax",
    "soft_cross_entropy",
    "tanh",
    "upsample",
];

/// The source of a kernel and where each of its lines comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// WGSL for the driver.
    pub text: String,
    origins: Vec<(String, usize)>,
}

impl Source {
    /// File and line (from 1) of a line of the text (from 1).
    pub fn origin(&self, line: usize) -> (&str, usize) {
        match self.origins.get(line.saturating_sub(1)) {
            Some((file, line)) => (file, *line),
            None => ("generated text", line),
        }
    }
    /// An error of the compiler at a line and column of the text.
    pub fn error(&self, line: usize, column: usize, message: &str) -> Error {
        let (file, line) = self.origin(line);
        Error::device("shader does not compile")
            .at(format!("shaders/{file}.wgsl:{line}:{column}"))
            .got(message)
    }
}

/// The texts of the WGSL files; in debug builds they follow the disk.
#[derive(Debug, Clone)]
pub struct Library {
    texts: BTreeMap<&'static str, Cow<'static, str>>,
    #[cfg(all(debug_assertions, not(target_arch = "wasm32")))]
    modified: BTreeMap<&'static str, std::time::SystemTime>,
}

impl Default for Library {
    fn default() -> Self {
        let texts = FILES.iter().map(|&(name, text)| (name, Cow::Borrowed(text))).collect();
        #[cfg(all(debug_assertions, not(target_arch = "wasm32")))]
        return Library { texts, modified: disk::times() };
        #[cfg(not(all(debug_assertions, not(target_arch = "wasm32"))))]
        Library { texts }
    }
}

impl Library {
    /// The source of a kernel.
    ///
    /// # Errors
    /// If a file is not in the table or a directive is wrong.
    pub fn expand(&self, shader: &str, entry: &str, defines: &[(&'static str, u32)]) -> Result<Source> {
        let imported = BTreeSet::new();
        let mut e = Expansion { library: self, entry, defines, imported, head: vec![], body: vec![] };
        e.file(shader, None)?;
        Ok(e.finish())
    }
    /// The source of a call.
    ///
    /// # Errors
    /// As [`Library::expand`].
    pub fn source(&self, call: &KernelCall) -> Result<Source> {
        self.expand(call.shader, call.entry, &call.defines)
    }
    /// Replaces the text of a file (experiments and tests).
    pub fn replace(&mut self, name: &'static str, text: String) {
        self.texts.insert(name, text.into());
    }
    /// Reads the files that changed on disk since the last call; says whether any did. Only in native debug builds.
    pub fn refresh(&mut self) -> bool {
        #[cfg(all(debug_assertions, not(target_arch = "wasm32")))]
        return disk::refresh(self);
        #[cfg(not(all(debug_assertions, not(target_arch = "wasm32"))))]
        false
    }
}

#[cfg(all(debug_assertions, not(target_arch = "wasm32")))]
mod disk {
    use super::{FILES, Library};
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::time::SystemTime;

    fn path(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders").join(format!("{name}.wgsl"))
    }
    fn time(name: &str) -> Option<SystemTime> {
        std::fs::metadata(path(name)).and_then(|m| m.modified()).ok()
    }
    pub(super) fn times() -> BTreeMap<&'static str, SystemTime> {
        FILES.iter().filter_map(|&(name, _)| Some((name, time(name)?))).collect()
    }
    pub(super) fn refresh(library: &mut Library) -> bool {
        let mut changed = false;
        for &(name, _) in FILES {
            let Some(now) = time(name) else { continue };
            if library.modified.get(name) == Some(&now) {
                continue;
            }
            if let Ok(text) = std::fs::read_to_string(path(name)) {
                library.modified.insert(name, now);
                library.replace(name, text);
                changed = true;
            }
        }
        changed
    }
}

struct Expansion<'a> {
    library: &'a Library,
    entry: &'a str,
    defines: &'a [(&'static str, u32)],
    imported: BTreeSet<String>,
    /// Directives of WGSL itself (`enable f16;`), which must come first.
    head: Vec<(String, String, usize)>,
    body: Vec<(String, String, usize)>,
}

impl Expansion<'_> {
    fn is_set(&self, name: &str) -> bool {
        name == self.entry || self.defines.iter().any(|&(n, v)| n == name && v != 0)
    }

    /// A number, or the value of a define.
    fn count(&self, text: &str) -> Option<u32> {
        text.parse().ok().or_else(|| self.defines.iter().find(|d| d.0 == text).map(|d| d.1))
    }

    fn file(&mut self, name: &str, importer: Option<(&str, usize)>) -> Result<()> {
        let Some(text) = self.library.texts.get(name).cloned() else {
            let e = Error::device("no such WGSL file").got(name);
            return Err(match importer {
                Some((file, line)) => e.at(format!("shaders/{file}.wgsl:{line}")),
                None => e,
            });
        };
        // One entry per open `#if`: whether its lines are kept, and whether its condition held.
        let mut open: Vec<(bool, bool)> = Vec::new();
        // The word, the count and the first line of every open `#repeat`.
        let mut repeats: Vec<(String, u32, usize)> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let wrong = |what: &str| Error::device(what).at(format!("shaders/{name}.wgsl:{}", i + 1));
            let kept = open.iter().all(|o| o.0);
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("#if"), Some(condition)) => {
                    let (flag, negated) =
                        condition.strip_prefix('!').map_or((condition, false), |f| (f, true));
                    let holds = self.is_set(flag) != negated;
                    open.push((holds, holds));
                }
                (Some("#else"), None) => {
                    let last = open.last_mut().ok_or_else(|| wrong("#else without #if"))?;
                    last.0 = !last.1;
                }
                (Some("#endif"), None) => {
                    open.pop().ok_or_else(|| wrong("#endif without #if"))?;
                }
                (Some("#import"), Some(import)) if kept => {
                    let import = format!("common/{import}");
                    if self.imported.insert(import.clone()) {
                        self.file(&import, Some((name, i + 1)))?;
                    }
                }
                (Some("#import"), Some(_)) => {}
                (Some("#repeat"), Some(word)) if kept => {
                    let count = words.next().and_then(|n| self.count(n));
                    let count = count.ok_or_else(|| wrong("#repeat without a count").got(line))?;
                    repeats.push((word.to_string(), count, self.body.len()));
                }
                (Some("#end"), None) if kept => {
                    let (word, count, first) = repeats.pop().ok_or_else(|| wrong("#end without #repeat"))?;
                    let lines = self.body.split_off(first);
                    self.body.extend((0..count).flat_map(|i| {
                        let to = format!("{i}u");
                        lines
                            .iter()
                            .map(|l| (with_word(&l.0, &word, &to), l.1.clone(), l.2))
                            .collect::<Vec<_>>()
                    }));
                }
                (Some("#repeat"), Some(_)) | (Some("#end"), None) => {}
                (Some(word), _) if word.starts_with('#') => return Err(wrong("unknown directive").got(line)),
                (Some("enable" | "requires"), Some(_)) if kept => {
                    self.head.push((line.to_string(), name.to_string(), i + 1));
                }
                _ if kept => self.body.push((line.to_string(), name.to_string(), i + 1)),
                _ => {}
            }
        }
        let missing = match (open.is_empty(), repeats.is_empty()) {
            (true, true) => return Ok(()),
            (false, _) => "#if without #endif",
            (true, false) => "#repeat without #end",
        };
        Err(Error::device(missing).at(format!("shaders/{name}.wgsl")))
    }

    fn finish(self) -> Source {
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for (line, ..) in &self.body {
            let code = line.split("//").next().unwrap_or_default();
            used.extend(code.split(|c: char| !c.is_alphanumeric() && c != '_'));
        }
        let constants = (self.defines.iter())
            .filter(|(name, _)| used.contains(name))
            .map(|(name, value)| (format!("const {name}: u32 = {value}u;"), "defines".to_string(), 1));
        let lines: Vec<_> =
            self.head.iter().cloned().chain(constants).chain(self.body.iter().cloned()).collect();
        let mut source = Source { text: String::new(), origins: Vec::with_capacity(lines.len()) };
        for (line, file, number) in lines {
            source.text.push_str(&line);
            source.text.push('\n');
            source.origins.push((file, number));
        }
        source
    }
}

/// A line with every occurrence of a word replaced.
fn with_word(line: &str, word: &str, to: &str) -> String {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut result = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(of_word) {
        let end = rest[at..].find(|c| !of_word(c)).map_or(rest.len(), |n| at + n);
        let found = &rest[at..end];
        result.push_str(&rest[..at]);
        result.push_str(if found == word { to } else { found });
        rest = &rest[end..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(text: &str) -> Library {
        let mut library = Library::default();
        library.replace("test", text.to_string());
        library
    }

    #[test]
    fn conditions_and_constants() {
        let l = library("#if A\na A\n#if !B\nnot b\n#endif\n#else\nelse\n#endif\n#if main\nentry\n#endif");
        let text = |d: &[(&'static str, u32)]| l.expand("test", "main", d).unwrap().text;
        assert_eq!(text(&[]), "else\nentry\n");
        assert_eq!(text(&[("A", 3)]), "const A: u32 = 3u;\na A\nnot b\nentry\n");
        assert_eq!(text(&[("A", 1), ("B", 1)]), "const A: u32 = 1u;\na A\nentry\n");
        assert_eq!(text(&[("A", 0), ("B", 1)]), "else\nentry\n");
    }

    #[test]
    fn repeated_lines() {
        let l = library(
            "#repeat u N\nx[u] = us.u + 2u;\n#repeat v 2\ny(u, v);\n#end\n#end\n#if A\n#repeat u N\n#end\n#endif",
        );
        let text = l.expand("test", "main", &[("N", 2)]).unwrap().text;
        let one = |u: u32| format!("x[{u}u] = us.{u}u + 2u;\ny({u}u, 0u);\ny({u}u, 1u);\n");
        assert_eq!(text, one(0) + &one(1));
        assert_eq!(l.expand("test", "main", &[("N", 2)]).unwrap().origin(4), ("test", 2));
        for text in ["#repeat u M\n#end", "#repeat u 2", "#end"] {
            library(text).expand("test", "main", &[]).unwrap_err();
        }
    }

    #[test]
    fn lines_lead_back_to_their_files() {
        let l = library("#import grid\n#import grid\nenable f16;\nlast");
        let source = l.expand("test", "main", &[]).unwrap();
        assert!(source.text.starts_with("enable f16;\n"));
        let lines = source.text.lines().count();
        assert_eq!(source.origin(1), ("test", 3));
        assert_eq!(source.origin(2), ("common/grid", 1));
        assert_eq!(source.origin(lines), ("test", 4));
        for (text, at) in [
            ("\n#else", "test.wgsl:2"),
            ("#if A", "test.wgsl"),
            ("#import nothing", "test.wgsl:1"),
            ("#iff A", "test.wgsl:1"),
        ] {
            let e = library(text).expand("test", "main", &[]).unwrap_err().to_string();
            assert!(e.contains(at), "{e}");
        }
    }
}
