//! One-hot rows from ids: how a decoder sees hard tokens.

use super::{Args, Op, arity, cpu_kernel};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// `y[.., classes]` from `ids[..]`; an id outside gives a row of zeros.
#[derive(Debug, Clone)]
pub(crate) struct OneHot {
    pub classes: usize,
}

/// One-hot rows.
///
/// # Errors
/// If the result would be too large.
pub fn one_hot(g: &mut Graph, ids: Var, classes: usize) -> Result<Var> {
    g.apply(OneHot { classes }, &[ids])
}

impl OneHot {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let ids = args.words(0);
        par_chunks(args.out(0), self.classes, |r, y| {
            y.fill(T::ZERO);
            if let Some(y) = y.get_mut(ids[r] as usize) {
                *y = T::ONE;
            }
        });
    }
}

impl Op for OneHot {
    fn name(&self) -> &'static str {
        "one_hot"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let mut shape = inputs[0].shape().to_vec();
        shape.push(self.classes);
        Ok(vec![TensorType::real(&shape)?])
    }
    fn differentiable(&self, _: usize) -> bool {
        false
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let vec = vector(&[self.classes]);
        let n = outputs[0].elements() / vec;
        let call = KernelCall::new("one_hot", "one_hot").writes(&[0]).reads(&[0]);
        Ok(call.words(&[n, self.classes / vec]).each(n, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Words;
    let shapes: [(&[usize], usize); 8] = [
        (&[1], 1),
        (&[3], 2),
        (&[2, 5], 17),
        (&[7], 65),
        (&[65], 255),
        (&[2, 3, 3], 257),
        (&[257], 3),
        (&[super::samples::MANY_ROWS], 2),
    ];
    for (s, classes) in shapes {
        b.add(OneHot { classes }, &[(s, Words(classes as u32))]);
        b.add(OneHot { classes }, &[(s, Words(classes as u32 + 3))]);
    }
}
