//! Mistakes in the drawing of vjps.

use super::{Mistake, Mutant};
use beit::Result;
use beit::graph::Var;
use beit::ops::{Op, Vjp, fill, scale, upsample};

const fn vjp(op: &'static str, what: &'static str, wrong: fn(&dyn Op, &mut Vjp<'_>) -> Result<()>) -> Mutant {
    (what, op, Mistake::Vjp(wrong))
}

/// The right vjp, then one gradient multiplied.
fn times(op: &dyn Op, v: &mut Vjp<'_>, operand: usize, factor: f32) -> Result<()> {
    op.vjp(v)?;
    if let Some(g) = v.grads.get(operand).copied().flatten() {
        v.grads[operand] = Some(scale(v.g, g, factor)?);
    }
    Ok(())
}

/// The right vjp, then one gradient forgotten.
fn without(op: &dyn Op, v: &mut Vjp<'_>, operand: usize) -> Result<()> {
    op.vjp(v)?;
    if let Some(g) = v.grads.get_mut(operand) {
        *g = None;
    }
    Ok(())
}

/// The right vjp, then two gradients exchanged.
fn exchanged(op: &dyn Op, v: &mut Vjp<'_>, a: usize, b: usize) -> Result<()> {
    op.vjp(v)?;
    if a.max(b) < v.grads.len() {
        v.grads.swap(a, b);
    }
    Ok(())
}

/// The vjp of an op whose cotangent is all ones.
fn with_ones(op: &dyn Op, v: &mut Vjp<'_>) -> Result<()> {
    let dy = v.cotangent()?;
    let shape = v.g.shape(dy).to_vec();
    v.cotangents[0] = Some(fill(v.g, 1.0, &shape)?);
    op.vjp(v)
}

/// The right vjp, then the cotangent itself as the gradient of an operand of its size.
fn identity(op: &dyn Op, v: &mut Vjp<'_>, operand: usize) -> Result<()> {
    let dy = v.cotangent()?;
    op.vjp(v)?;
    let same = |v: &Vjp<'_>, x: Var| v.g.ty(x).elements() == v.g.ty(dy).elements();
    if v.inputs.get(operand).is_some_and(|&x| same(v, x)) {
        v.grads[operand] = Some(dy);
    }
    Ok(())
}

/// The vjp with a result in place of the operand it should have kept.
fn kept_result(op: &dyn Op, v: &mut Vjp<'_>) -> Result<()> {
    if v.g.ty(v.inputs[0]).elements() == v.g.ty(v.outputs[0]).elements() {
        v.inputs[0] = v.outputs[0];
    }
    op.vjp(v)
}

/// The vjp with two kept operands exchanged where their sizes allow it.
fn kept_exchanged(op: &dyn Op, v: &mut Vjp<'_>, a: usize, b: usize) -> Result<()> {
    let fits = b < v.inputs.len() && v.g.ty(v.inputs[a]) == v.g.ty(v.inputs[b]);
    if fits {
        v.inputs.swap(a, b);
    }
    op.vjp(v)
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    vjp("AddScaled", "second summand forgotten", |op, v| without(op, v, 1)),
    vjp("AddScaled", "factor forgotten", |op, v| identity(op, v, 1)),
    vjp("AddScaled", "gradients exchanged", |op, v| exchanged(op, v, 0, 1)),
    vjp("Scale", "factor forgotten", |op, v| identity(op, v, 0)),
    vjp("Scale", "sign flipped", |op, v| times(op, v, 0, -1.0)),
    vjp("Combine", "factor forgotten", |op, v| identity(op, v, 1)),
    vjp("Combine", "first summand forgotten", |op, v| without(op, v, 0)),
    vjp("ScaleBy", "factor forgotten", |op, v| identity(op, v, 0)),
    vjp("Gelu", "derivative at the result instead of the operand", kept_result),
    vjp("Gelu", "derivative taken as 1", |op, v| identity(op, v, 0)),
    vjp("Gelu", "cotangent ignored", with_ones),
    vjp("Relu", "derivative taken as 1", |op, v| identity(op, v, 0)),
    vjp("Tanh", "derivative taken as 1", |op, v| identity(op, v, 0)),
    vjp("Tanh", "cotangent ignored", with_ones),
    vjp("Relu", "sign flipped", |op, v| times(op, v, 0, -1.0)),
    vjp("LayerNorm", "normalised values instead of the operand", kept_result),
    vjp("LayerNorm", "gamma and beta exchanged", |op, v| exchanged(op, v, 1, 2)),
    vjp("LayerNorm", "kept gamma and beta exchanged", |op, v| {
        v.inputs[1] = v.inputs[2];
        op.vjp(v)
    }),
    vjp("LayerNorm", "beta forgotten", |op, v| without(op, v, 2)),
    vjp("LayerNorm", "input path taken as the identity", |op, v| identity(op, v, 0)),
    vjp("Matmul", "kept operands exchanged", |op, v| kept_exchanged(op, v, 0, 1)),
    vjp("Matmul", "gradients exchanged", |op, v| exchanged(op, v, 0, 1)),
    vjp("Matmul", "bias gradient forgotten", |op, v| without(op, v, 2)),
    vjp("Matmul", "bias gradient as a mean of two", |op, v| times(op, v, 2, 0.5)),
    vjp("Matmul", "weight gradient with the wrong sign", |op, v| times(op, v, 1, -1.0)),
    vjp("Conv2d", "input gradient forgotten", |op, v| without(op, v, 0)),
    vjp("Conv2d", "weight gradient doubled", |op, v| times(op, v, 1, 2.0)),
    vjp("Conv2d", "bias gradient forgotten", |op, v| without(op, v, 2)),
    vjp("Attention", "bias table forgotten", |op, v| without(op, v, 1)),
    vjp("Attention", "scale applied to the gradient once more", |op, v| times(op, v, 0, 0.5)),
    vjp("Attention", "cotangent instead of the kept result", |op, v| {
        v.outputs[0] = v.cotangent()?;
        op.vjp(v)
    }),
    vjp("Attention", "cotangent ignored", with_ones),
    vjp("CrossEntropy", "loss cotangent ignored", with_ones),
    vjp("CrossEntropy", "not divided by the number of rows", |op, v| {
        let rows = v.g.ty(v.inputs[0]).rows() as f32;
        times(op, v, 0, rows)
    }),
    vjp("CrossEntropy", "sign flipped", |op, v| times(op, v, 0, -1.0)),
    vjp("HeadLoss", "input gradient forgotten", |op, v| without(op, v, 0)),
    vjp("HeadLoss", "bias gradient doubled", |op, v| times(op, v, 2, 2.0)),
    vjp("HeadLoss", "loss cotangent ignored", with_ones),
    vjp("GumbelSoftmax", "logits instead of the softmax", |op, v| {
        v.outputs[0] = v.inputs[0];
        op.vjp(v)
    }),
    vjp("GumbelSoftmax", "straight through", |op, v| identity(op, v, 0)),
    vjp("KlUniform", "row cotangents ignored", with_ones),
    vjp("KlUniform", "sign flipped", |op, v| times(op, v, 0, -1.0)),
    vjp("LogitLaplace", "cotangents ignored", with_ones),
    vjp("LogitLaplace", "sign flipped", |op, v| times(op, v, 0, -1.0)),
    vjp("MaxPool", "cotangent to all four cells", |_, v| {
        let dy = v.cotangent()?;
        v.grads[0] = Some(upsample(v.g, dy)?);
        Ok(())
    }),
    vjp("Upsample", "mean instead of sum", |op, v| times(op, v, 0, 0.25)),
    vjp("Patchify", "patches not put back", |op, v| identity(op, v, 0)),
    vjp("Unpatchify", "patches not cut again", |op, v| identity(op, v, 0)),
    vjp("PoolTokens", "not divided by the number of tokens", |op, v| {
        let tokens = v.g.ty(v.inputs[0]).dim(1) as f32;
        times(op, v, 0, tokens - 1.0)
    }),
    vjp("PoolTokens", "class token counted in the mean", |op, v| {
        let tokens = v.g.ty(v.inputs[0]).dim(1) as f32;
        times(op, v, 0, (tokens - 1.0) / tokens)
    }),
    vjp("QkvBias", "q and v exchanged", |op, v| exchanged(op, v, 0, 1)),
    vjp("QkvBias", "v forgotten", |op, v| without(op, v, 1)),
    vjp("Residual", "branch taken as unscaled", |op, v| identity(op, v, 1)),
    vjp("Residual", "skip path forgotten", |op, v| without(op, v, 0)),
    vjp("Residual", "layer scale forgotten", |op, v| without(op, v, 2)),
    vjp("Residual", "layer scale from the skip path", |op, v| kept_exchanged(op, v, 0, 1)),
    vjp("Embed", "class token forgotten", |op, v| without(op, v, 1)),
    vjp("Embed", "mask token and class token exchanged", |op, v| {
        if v.inputs.len() > 3 { exchanged(op, v, 1, 2) } else { op.vjp(v) }
    }),
    vjp("Embed", "positions forgotten", |op, v| {
        let last = v.inputs.len() - 1;
        without(op, v, last)
    }),
    vjp("Embed", "patch gradient doubled", |op, v| times(op, v, 0, 2.0)),
    vjp("GatherRows", "gradient left out", |op, v| without(op, v, 0)),
    vjp("GatherRows", "rows not put back", |op, v| identity(op, v, 0)),
    vjp("Sum", "1/N forgotten", |op, v| times(op, v, 0, -4.0)),
    vjp("Broadcast", "only one element's cotangent", |op, v| {
        let n = v.g.ty(v.outputs[0]).elements() as f32;
        times(op, v, 0, 1.0 / n)
    }),
];
