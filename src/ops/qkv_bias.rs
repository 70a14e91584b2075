//! The bias of the stacked qkv projection: `[q_bias, 0, v_bias]`; the key has none (beit-spec §2.4).

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::Real;
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// `y[3D]` from `q_bias[D]`, `v_bias[D]`.
#[derive(Debug, Clone)]
pub(crate) struct QkvBias;

/// `dq_bias`, `dv_bias` from `dy[3D]`.
#[derive(Debug, Clone)]
pub(crate) struct QkvBiasGrad;

/// The bias of a stacked qkv projection.
///
/// # Errors
/// If the two differ in size.
pub fn qkv_bias(g: &mut Graph, q: Var, v: Var) -> Result<Var> {
    g.apply(QkvBias, &[q, v])
}

impl QkvBias {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (q, v) = (args.real(0), args.real(1));
        let d = q.len();
        let y = args.out(0);
        y[..d].copy_from_slice(q);
        y[d..2 * d].fill(T::ZERO);
        y[2 * d..].copy_from_slice(v);
    }
}

impl Op for QkvBias {
    fn name(&self) -> &'static str {
        "qkv_bias"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("v bias", &inputs[1], inputs[0].elements())?;
        Ok(vec![TensorType::real(&[3 * inputs[0].elements()])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        let grads = v.g.apply_all(QkvBiasGrad, &[dy])?;
        (v.grads[0], v.grads[1]) = (Some(grads[0]), Some(grads[1]));
        Ok(())
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let d = inputs[0].elements();
        let vec = vector(&[d]);
        let call = KernelCall::new("qkv_bias", "forward").writes(&[0]).reads(&[0, 1]);
        Ok(call.word(d / vec).each(d / vec, vec).into())
    }
    cpu_kernel!();
}

impl QkvBiasGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let dy = args.real(0);
        let d = dy.len() / 3;
        args.out(0).copy_from_slice(&dy[..d]);
        args.out(1).copy_from_slice(&dy[2 * d..]);
    }
}

impl Op for QkvBiasGrad {
    fn name(&self) -> &'static str {
        "qkv_bias_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let t = TensorType::real(&[inputs[0].elements() / 3])?;
        Ok(vec![t.clone(), t])
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let d = outputs[0].elements();
        let vec = vector(&[d]);
        let call = KernelCall::new("qkv_bias", "grad").writes(&[0, 1]).reads(&[0]);
        Ok(call.word(d / vec).each(d / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for d in [1, 2, 7, 33, 64, 65, 255, 256, 257, 768] {
        b.add(QkvBias, &[(&[d], Normal), (&[d], Normal)]);
        b.add(QkvBiasGrad, &[(&[3 * d], Normal)]);
    }
}
