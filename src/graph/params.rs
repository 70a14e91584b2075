//! Parameters: declarations, initial values and their layout in flat pages.

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::rng::{Key, Stream};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Pages and the parameters in them start at multiples of 256 bytes (WebGPU's storage offset alignment).
pub const ALIGN: usize = 64;

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All elements equal.
    Constant(f32),
    /// Normal with mean 0 and the given standard deviation.
    Normal(f32),
    /// Normal with standard deviation `std`, cut at ±`bound`, times `scale` (beit-spec §2.8).
    TruncatedNormal {
        /// Standard deviation before cutting.
        std: f32,
        /// Largest magnitude before scaling.
        bound: f32,
        /// Factor applied last (residual branches are divided by √(2l)).
        scale: f32,
    },
}

impl Init {
    /// The initial values of a parameter; they depend on the seed and the name only.
    pub fn values(self, seed: u64, name: &str, elements: usize) -> Vec<f32> {
        let hash = Sha256::digest(name.as_bytes());
        let word = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]);
        let key = Key::new(seed, Stream::Init, word);
        (0..elements as u32)
            .map(|i| match self {
                Init::Constant(c) => c,
                Init::Normal(std) => std * key.normal(i),
                Init::TruncatedNormal { std, bound, scale } => scale * truncated(key.child(i), std, bound),
            })
            .collect()
    }
}

/// Rejection sampling; the loop ends with probability 1 and is cut after 1000 tries.
fn truncated(key: Key, std: f32, bound: f32) -> f32 {
    (0..1000).map(|i| std * key.normal(i)).find(|x| x.abs() <= bound).unwrap_or(0.0)
}

/// A parameter as a model declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamDecl {
    /// The store it belongs to.
    pub store: String,
    /// Dotted name as in the official checkpoints.
    pub name: String,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Initial value.
    pub init: Init,
    /// Whether the optimiser moves it; running statistics are state that the forward pass itself updates.
    pub trained: bool,
}

/// Where a parameter lives.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamView {
    /// Dotted name.
    pub name: String,
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Initial value.
    pub init: Init,
    /// Page number.
    pub page: usize,
    /// First element in the page, a multiple of [`ALIGN`].
    pub offset: usize,
    /// Whether the optimiser moves it.
    pub trained: bool,
}

impl ParamView {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The flat pages of one parameter store.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamLayout {
    /// Store name.
    pub store: String,
    /// Parameters in the order of drawing.
    pub views: Vec<ParamView>,
    /// Elements per page.
    pub pages: Vec<usize>,
    index: BTreeMap<String, usize>,
}

impl ParamLayout {
    /// Lays out the parameters of `store` that `graph` draws, in pages of at most `page_bytes`.
    ///
    /// # Errors
    /// If one parameter alone is larger than a page.
    pub fn of(graph: &Graph, store: &str, page_bytes: u64) -> Result<Self> {
        let limit = (page_bytes / 4) as usize;
        let mut layout =
            ParamLayout { store: store.into(), views: vec![], pages: vec![], index: BTreeMap::new() };
        for p in graph.params().iter().filter(|p| p.store == store) {
            let elements: usize = p.shape.iter().product();
            let padded = elements.next_multiple_of(ALIGN);
            if padded > limit {
                return Err(Error::device("a parameter does not fit one buffer binding")
                    .at(&p.name)
                    .expected(format!("at most {} MiB", page_bytes >> 20))
                    .got(format!("{} MiB", padded >> 18))
                    .hint("choose a smaller preset or another adapter"));
            }
            if layout.pages.last().is_none_or(|used| used + padded > limit) {
                layout.pages.push(0);
            }
            let page = layout.pages.len() - 1;
            let offset = layout.pages[page];
            layout.pages[page] += padded;
            layout.index.insert(p.name.clone(), layout.views.len());
            layout.views.push(ParamView {
                name: p.name.clone(),
                shape: p.shape.clone(),
                init: p.init,
                page,
                offset,
                trained: p.trained,
            });
        }
        Ok(layout)
    }
    /// The view of a parameter.
    pub fn view(&self, name: &str) -> Option<&ParamView> {
        self.index.get(name).map(|&i| &self.views[i])
    }
    /// Number of trained parameters (elements, without padding and running statistics).
    pub fn parameters(&self) -> usize {
        self.views.iter().filter(|v| v.trained).map(ParamView::elements).sum()
    }
    /// Bytes of one full set of pages.
    pub fn bytes(&self) -> u64 {
        4 * self.pages.iter().sum::<usize>() as u64
    }
    /// Initial contents of all pages under `seed`.
    pub fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        let mut pages: Vec<Vec<f32>> = self.pages.iter().map(|&n| vec![0.0; n]).collect();
        for v in &self.views {
            let values = v.init.values(seed, &v.name, v.elements());
            pages[v.page][v.offset..v.offset + values.len()].copy_from_slice(&values);
        }
        pages
    }
    /// A hash of names, shapes and places; checkpoints carry it.
    pub fn hash(&self) -> String {
        let mut h = Sha256::new();
        for v in &self.views {
            h.update(format!("{} {:?} {} {}\n", v.name, v.shape, v.page, v.offset));
        }
        h.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
    }
}
