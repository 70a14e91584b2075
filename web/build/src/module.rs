//! A crate of the workspace as a module for browsers: cargo for wasm32, then wasm-bindgen as a library.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{root, target_dir};

/// What of a crate becomes the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Its library, which must be a `cdylib`.
    Library,
    /// Its program of the crate's name.
    Program,
}

/// A crate to build.
#[derive(Debug, Clone, Copy)]
pub struct Module<'a> {
    /// The package.
    pub package: &'a str,
    /// What of it.
    pub piece: Piece,
    /// Features to switch on.
    pub features: &'a [&'a str],
    /// Less optimised, in a fraction of the time.
    pub quick: bool,
}

impl Module<'_> {
    /// Builds the module with its JavaScript and TypeScript glue into `out`; `NAME.js` loads `NAME_bg.wasm`, where NAME is
    /// the package's with underscores.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn build(&self, out: &Path) -> Result<()> {
        self.bind(&self.compile()?, out)
    }

    /// Name of the files.
    fn name(&self) -> String {
        self.package.replace('-', "_")
    }

    /// Compiles the module and returns its path.
    pub(crate) fn compile(&self) -> Result<PathBuf> {
        let profile = if self.quick { "web-quick" } else { "web" };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(root()).args([
            "build",
            "--profile",
            profile,
            "--target",
            "wasm32-unknown-unknown",
        ]);
        command.args(["--locked", "-p", self.package]);
        match self.piece {
            Piece::Library => command.arg("--lib"),
            Piece::Program => command.args(["--bin", self.package]),
        };
        if !self.features.is_empty() {
            command.arg("--features").arg(self.features.join(","));
        }
        // Flags meant for this machine's programs have no place in a module.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        let status = command.status().context("cannot start cargo")?;
        if !status.success() {
            bail!(
                "{} does not compile; if the target is missing: rustup target add wasm32-unknown-unknown",
                self.package
            );
        }
        let file = match self.piece {
            Piece::Library => self.name(),
            Piece::Program => self.package.to_string(),
        };
        Ok(target_dir().join("wasm32-unknown-unknown").join(profile).join(format!("{file}.wasm")))
    }

    /// Writes the module and its glue.
    pub(crate) fn bind(&self, wasm: &Path, out: &Path) -> Result<()> {
        let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
        bindgen.input_path(wasm).out_name(&self.name()).web(true)?.typescript(true);
        bindgen.remove_name_section(true).remove_producers_section(true);
        bindgen.generate(out).context("wasm-bindgen failed")
    }
}
