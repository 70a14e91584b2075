//! The one error type of the crate: what went wrong, where, what was expected, what was found, what to do.

use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The family an error belongs to; the command line turns it into an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A flag, a config key or a combination of settings that cannot work.
    Config,
    /// A file or folder given by the user that cannot be used.
    Data,
    /// Shapes or types that do not fit together in a graph.
    Shape,
    /// The adapter, its limits, or a device that was lost.
    Device,
    /// A checkpoint or weight file that does not verify or does not fit.
    Checkpoint,
    /// The operating system refused a read or a write.
    Io,
    /// Training cannot go on (repeated non-finite steps).
    Diverged,
}

/// An error with the parts a person needs to act on it.
///
/// Displayed as one line: `what: at: expected …, got … (hint)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Which family of error this is.
    pub kind: ErrorKind,
    /// What went wrong, in a few words.
    pub what: String,
    /// Where: a file, a flag, a scope path such as `blocks.3.attn.qkv`.
    pub at: Option<String>,
    /// What would have been right.
    pub expected: Option<String>,
    /// What was found instead.
    pub got: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Error {
    /// A bare error of the given kind; add the parts with the methods below.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), at: None, expected: None, got: None, hint: None }
    }
    /// A wrong flag or config value.
    pub fn config(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, what)
    }
    /// An input file or folder that cannot be used.
    pub fn data(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, what)
    }
    /// Shapes or types that do not fit.
    pub fn shape(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, what)
    }
    /// An adapter or device problem.
    pub fn device(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Device, what)
    }
    /// A checkpoint or weight file problem.
    pub fn checkpoint(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Checkpoint, what)
    }
    /// An operating-system error on `path`.
    pub fn io(what: impl Into<String>, path: &std::path::Path, source: &std::io::Error) -> Self {
        Self::new(ErrorKind::Io, what).at(path.display().to_string()).got(source.to_string())
    }
    /// Adds the place.
    pub fn at(mut self, at: impl Into<String>) -> Self {
        self.at = Some(at.into());
        self
    }
    /// Adds what would have been right.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }
    /// Adds what was found.
    pub fn got(mut self, got: impl Into<String>) -> Self {
        self.got = Some(got.into());
        self
    }
    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Exit status of the command line for this error: 2 for a wrong flag or config, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        if self.kind == ErrorKind::Config { 2 } else { 1 }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some(at) = &self.at {
            write!(f, ": {at}")?;
        }
        match (&self.expected, &self.got) {
            (Some(e), Some(g)) => write!(f, ": expected {e}, got {g}")?,
            (Some(e), None) => write!(f, ": expected {e}")?,
            (None, Some(g)) => write!(f, ": {g}")?,
            (None, None) => {}
        }
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_line() {
        let e = Error::config("wrong value")
            .at("--batch-size")
            .expected("1 or more")
            .got("0")
            .hint("leave it out for the preset's");
        assert_eq!(
            e.to_string(),
            "wrong value: --batch-size: expected 1 or more, got 0 (leave it out for the preset's)"
        );
        assert_eq!(e.exit_code(), 2);
    }
}
