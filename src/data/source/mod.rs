//! Where pictures come from: folders, tar shards, CIFAR files, single pictures, the built-in scenes.

mod album;
mod cifar;
mod classes;
pub(crate) mod folder;
mod labels;
pub(crate) mod listing;
mod open;
mod split;
mod tar;

use super::picture::Picture;
use crate::Result;

pub use album::{Album, reduced};
pub use classes::{check_classes, check_labels, few, few_per_class, with_classes};
pub use open::{Opened, open};
pub use split::{Subset, split};

/// Extensions of picture files, lower case.
pub const PICTURE_EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// One decoded picture with what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The picture.
    pub picture: Picture,
    /// Its class, an index into [`Source::classes`].
    pub label: Option<u32>,
    /// Class of every pixel, `[height, width]`, 0 = background.
    pub segmentation: Option<Vec<u8>>,
}

/// A numbered set of pictures. Loading is a pure function of the index and may happen on any thread.
pub trait Source: Send + Sync {
    /// Number of pictures, readable or not.
    fn len(&self) -> usize;
    /// True when there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Decodes one picture.
    fn load(&self, index: usize) -> Result<Sample>;
    /// File or entry name, for messages.
    fn name(&self, index: usize) -> String;
    /// Names of the classes; empty without labels.
    fn classes(&self) -> &[String];
    /// Label of every picture, where that is known without decoding.
    fn labels(&self) -> Option<Vec<Option<u32>>> {
        None
    }
    /// A hash of the list of pictures (not of their contents): a resumed run compares it.
    fn fingerprint(&self) -> String;
}

impl std::fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({} pictures, {} classes)", self.len(), self.classes().len())
    }
}

fn no_such(index: usize, len: usize) -> crate::Error {
    crate::Error::data("no such picture").expected(format!("an index below {len}")).got(index.to_string())
}

/// Hex digits of the first 16 bytes of a SHA-256.
fn short_hash(hash: sha2::Sha256) -> String {
    use sha2::Digest;
    hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
}
