//! Builds the browser page: compiles `beit-web` for wasm32, runs wasm-bindgen as a library, and lays out a folder of
//! static files that any web server can serve from any path.

mod module;
mod serve;

pub use module::{Module, Piece};
pub use serve::{Reply, Server, reply};

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// What a build may leave in or out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Also compile the op suite into the module (tests).
    pub suite: bool,
    /// Less optimised, in a fraction of the time (tests, work on the page).
    pub quick: bool,
    /// Also build the egui window of `demo/` as a page of its own, `egui/index.html`.
    pub egui: bool,
}

/// A folder that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The folder.
    pub dist: PathBuf,
    /// Bytes of the module.
    pub wasm: u64,
    /// Bytes of the module as a server sends it, compressed by gzip at level 9.
    pub wasm_gzip: u64,
    /// Bytes of all files of the page.
    pub total: u64,
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds everything into `dist`.
///
/// # Errors
/// If a step fails; the message says which.
pub fn build(dist: &Path, options: Options) -> Result<Built> {
    let features: &[&str] = if options.suite { &["suite"] } else { &[] };
    let module = Module { package: "beit-web", piece: Piece::Library, features, quick: options.quick };
    let wasm = module.compile()?;
    if dist.exists() {
        fs::remove_dir_all(dist).with_context(|| format!("cannot clear {}", dist.display()))?;
    }
    fs::create_dir_all(dist)?;
    let web = root().join("web");
    copy(&web.join("page"), dist)?;
    copy(&web.join("api"), &dist.join("beit"))?;
    copy(&web.join("model"), &dist.join("model"))?;
    module.bind(&wasm, &dist.join("beit"))?;
    if options.egui {
        copy(&root().join("demo/page"), &dist.join("egui"))?;
        let window =
            Module { package: "beit-egui", piece: Piece::Program, features: &[], quick: options.quick };
        window.build(&dist.join("egui"))?;
    }
    let files = list(dist)?;
    write_offline_list(dist, &files)?;
    let module = fs::read(dist.join("beit/beit_web_bg.wasm"))?;
    let total = files.iter().map(|f| fs::metadata(dist.join(f)).map_or(0, |m| m.len())).sum();
    Ok(Built { dist: dist.to_path_buf(), wasm: module.len() as u64, wasm_gzip: gzip(&module)?, total })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Files below a folder, with `/` between parts, sorted.
fn list(dir: &Path) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                let parts: Vec<_> = path.iter().map(|p| p.to_string_lossy().into_owned()).collect();
                out.push(parts.join("/"));
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Fills the placeholders of the service worker: the files it keeps, and a version that changes with any of them.
fn write_offline_list(dist: &Path, files: &[String]) -> Result<()> {
    let worker = dist.join("offline.js");
    let text = fs::read_to_string(&worker).context("the page has no offline.js")?;
    ensure!(
        text.contains("VERSION_OF_BUILD") && text.contains("/* FILES_OF_BUILD */"),
        "offline.js lost its placeholders"
    );
    let mut hash = Sha256::new();
    let wanted = |f: &&String| *f != "offline.js" && !f.ends_with(".d.ts") && !f.starts_with("egui/");
    let kept: Vec<&String> = files.iter().filter(wanted).collect();
    for file in &kept {
        hash.update(file.as_bytes());
        hash.update(fs::read(dist.join(file))?);
    }
    let version: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
    let names: Vec<String> = kept.iter().map(|f| format!("\"{f}\"")).collect();
    let text = text.replace("VERSION_OF_BUILD", &version).replace("/* FILES_OF_BUILD */", &names.join(", "));
    fs::write(worker, text).map_err(Into::into)
}

fn gzip(bytes: &[u8]) -> Result<u64> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len() as u64)
}
