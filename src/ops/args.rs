//! Operands and results as a CPU kernel sees them.

use crate::cpu::Real;
use crate::graph::TensorType;

/// A read-only operand.
#[derive(Debug, Clone, Copy)]
pub enum View<'a, T> {
    /// Real numbers.
    Real(&'a [T]),
    /// Words.
    Word(&'a [u32]),
}

/// A result to be written (or updated where it lies, for in-place ops).
#[derive(Debug)]
pub enum ViewMut<'a, T> {
    /// Real numbers.
    Real(&'a mut [T]),
    /// Words.
    Word(&'a mut [u32]),
}

/// The operands and results of one op application.
pub struct Args<'a, T> {
    /// Operands; those updated in place are empty here.
    pub ins: Vec<View<'a, T>>,
    /// Results.
    pub outs: Vec<ViewMut<'a, T>>,
    /// Types of the operands.
    pub in_types: &'a [TensorType],
    /// Types of the results.
    pub out_types: &'a [TensorType],
}

impl<'a, T: Real> Args<'a, T> {
    /// Operand `i` as real numbers (empty if it holds words: a planner mistake that tests find).
    pub fn real(&self, i: usize) -> &'a [T] {
        match self.ins.get(i) {
            Some(View::Real(s)) => s,
            _ => &[],
        }
    }
    /// Operand `i` as words.
    pub fn words(&self, i: usize) -> &'a [u32] {
        match self.ins.get(i) {
            Some(View::Word(s)) => s,
            _ => &[],
        }
    }
    /// Takes result `i` as real numbers; each can be taken once.
    pub fn out(&mut self, i: usize) -> &'a mut [T] {
        match std::mem::replace(&mut self.outs[i], ViewMut::Word(&mut [])) {
            ViewMut::Real(s) => s,
            ViewMut::Word(_) => &mut [],
        }
    }
    /// Takes result `i` as words; each can be taken once.
    pub fn out_words(&mut self, i: usize) -> &'a mut [u32] {
        match std::mem::replace(&mut self.outs[i], ViewMut::Real(&mut [])) {
            ViewMut::Word(s) => s,
            ViewMut::Real(_) => &mut [],
        }
    }
    /// Type of operand `i`.
    pub fn ty(&self, i: usize) -> &'a TensorType {
        &self.in_types[i]
    }
    /// Type of result `i`.
    pub fn out_ty(&self, i: usize) -> &'a TensorType {
        &self.out_types[i]
    }
}
