//! What a matrix product may do to its elements before it stores them, so that they need no pass of their own.
//!
//! An op that can end a product says so in [`super::Op::as_epilogue`]; `plan::fuse` joins the two into [`super::fused`],
//! and `common/ending.wgsl` is the code of all of them.

use super::{Access, Arg, Caps, DropPath, KernelCall, Kernels};
use crate::error::Result;
use crate::graph::TensorType;
use serde::{Deserialize, Serialize};

/// The end of a product with elements `v`; "other" is the op's own operand of the same shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Epilogue {
    /// `gelu(v)`.
    Gelu,
    /// `v·gelu'(other)`: the cotangent of GELU's operand.
    GeluSlope,
    /// `max(v, 0)`.
    Relu,
    /// `v` where `other > 0`, else 0: the cotangent of ReLU's operand.
    ReluGate,
    /// `other + s·v`.
    Add {
        /// The factor.
        s: f32,
    },
    /// `other + s_b·γ⊙v`.
    Residual {
        /// Whether there is a γ, the operand after the other.
        gamma: bool,
        /// Stochastic depth; its key is the last operand.
        drop: Option<DropPath>,
    },
}

/// Which endings the planner joins to products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fusions {
    /// GELU and its derivative.
    pub gelu: bool,
    /// ReLU and its derivative.
    pub relu: bool,
    /// Sums, as of the tokenizer's blocks and of cotangents.
    pub add: bool,
    /// The residual connection with LayerScale and stochastic depth.
    pub residual: bool,
}

impl Fusions {
    /// None.
    pub const NONE: Fusions = Fusions { gelu: false, relu: false, add: false, residual: false };
    /// All.
    pub const ALL: Fusions = Fusions { gelu: true, relu: true, add: true, residual: true };
    /// What is worth joining. On a software adapter a pass over memory costs little beside the products, and every ending
    /// is another tall kernel to compile, which takes seconds there.
    pub fn of(software: bool) -> Self {
        if software { Self::NONE } else { Self::ALL }
    }
    /// Switches one on by name, `all` of them or `none`; whether there is one of that name.
    pub fn switch_on(&mut self, name: &str) -> bool {
        match name {
            "all" => *self = Self::ALL,
            "none" => {}
            "gelu" => self.gelu = true,
            "relu" => self.relu = true,
            "add" => self.add = true,
            "residual" => self.residual = true,
            _ => return false,
        }
        true
    }
    /// Whether an ending is to be joined.
    pub(crate) fn allow(self, e: Epilogue) -> bool {
        match e {
            Epilogue::Gelu | Epilogue::GeluSlope => self.gelu,
            Epilogue::Relu | Epilogue::ReluGate => self.relu,
            Epilogue::Add { .. } => self.add,
            Epilogue::Residual { .. } => self.residual,
        }
    }
}

/// An op whose elements are those of a matrix product.
pub trait Product {
    /// The op's dispatches, ended as given.
    ///
    /// # Errors
    /// As `Op::kernels`.
    fn kernels_ending(
        &self,
        caps: &Caps,
        inputs: &[TensorType],
        output: &TensorType,
        ending: Option<&Ending>,
    ) -> Result<Kernels>;
}

/// An epilogue as a kernel sees it.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// Flags.
    defines: Vec<&'static str>,
    /// What it binds, each with the name of the define that holds the number of the binding.
    bindings: Vec<(&'static str, Arg, Access)>,
    /// Words after those of the product.
    words: Vec<u32>,
}

impl Ending {
    /// Operands from number `first` on are the epilogue's; with a second result the product itself is written there.
    pub(crate) fn new(e: Epilogue, first: usize, inputs: &[TensorType], outputs: &[TensorType]) -> Self {
        let mut ending = Ending::default();
        match e {
            Epilogue::Gelu => ending.flag("END_GELU"),
            Epilogue::Relu => ending.flag("END_RELU"),
            Epilogue::GeluSlope => ending.flag("END_GELU_SLOPE"),
            Epilogue::ReluGate => ending.flag("END_RELU_GATE"),
            Epilogue::Add { s } => {
                ending.flag("END_ADD");
                ending.words.push(s.to_bits());
            }
            Epilogue::Residual { gamma, drop } => {
                ending.flag("END_RESIDUAL");
                ending.residual(gamma, drop, first + 1, &outputs[0]);
            }
        }
        if !matches!(e, Epilogue::Gelu | Epilogue::Relu) {
            ending.bind("OTHER", "OTHER_AT", Arg::In(first), Access::Read);
            ending.defines.extend(inputs[first].is_half().then_some("OTHER_HALF"));
        }
        if let Some(kept) = outputs.get(1) {
            ending.bind("KEEP", "KEEP_AT", Arg::Out(1), Access::Write);
            ending.defines.extend(kept.is_half().then_some("KEEP_HALF"));
        }
        ending
    }
    fn residual(&mut self, gamma: bool, drop: Option<DropPath>, next: usize, out: &TensorType) {
        if gamma {
            self.bind("GAMMA", "GAMMA_AT", Arg::In(next), Access::Read);
        }
        let Some(drop) = drop else { return };
        self.bind("DROP", "KEY_AT", Arg::In(next + usize::from(gamma)), Access::Read);
        let keep = 1.0 - drop.rate;
        let sample = (out.elements() / out.dim(0)) as u32;
        self.words.extend([sample, drop.salt, keep.to_bits(), ((1.0 / f64::from(keep)) as f32).to_bits()]);
    }
    fn flag(&mut self, name: &'static str) {
        self.defines.push(name);
    }
    fn bind(&mut self, flag: &'static str, at: &'static str, arg: Arg, access: Access) {
        self.flag(flag);
        self.bindings.push((at, arg, access));
    }
    /// Completes a call that has everything of the product; its define VEC says whether it stores vectors of four.
    pub(crate) fn end(&self, call: KernelCall) -> KernelCall {
        let mut call = call.define("ENDING", 1);
        for flag in &self.defines {
            call = call.define(flag, 1);
        }
        for &(name, arg, access) in &self.bindings {
            let at = call.bindings.len() as u32;
            call = call.bind(arg, access).define(name, at);
        }
        call.params.extend(&self.words);
        call
    }
}
