//! Mistakes in kernels.

use super::support::{Operand, own, run_on};
use super::{Mistake, Mutant};
use beit::graph::TensorType;
use beit::ops::{Args, Op, ViewMut};

const fn kernel(op: &'static str, what: &'static str, wrong: fn(&dyn Op, &mut Args<'_, f32>)) -> Mutant {
    (what, op, Mistake::Kernel(wrong))
}

/// Runs the right kernel on changed operands.
fn with(op: &dyn Op, args: &mut Args<'_, f32>, change: impl FnOnce(&mut [Operand], &[TensorType])) {
    let mut ins = own(args);
    change(&mut ins, args.in_types);
    run_on(op, &ins, args);
}

/// Runs the right kernel, then changes the results.
fn after(
    op: &dyn Op,
    args: &mut Args<'_, f32>,
    change: impl FnOnce(&[Operand], &mut [Vec<f32>], &[TensorType]),
) {
    let ins = own(args);
    run_on(op, &ins, args);
    let mut outs: Vec<Vec<f32>> = args.outs.iter().map(numbers).collect();
    change(&ins, &mut outs, args.in_types);
    for (to, from) in args.outs.iter_mut().zip(&outs) {
        match to {
            ViewMut::Real(to) => to.copy_from_slice(from),
            ViewMut::Word(to) => to.iter_mut().zip(from).for_each(|(t, &f)| *t = f as u32),
        }
    }
}

fn numbers(o: &ViewMut<'_, f32>) -> Vec<f32> {
    match o {
        ViewMut::Real(r) => r.to_vec(),
        ViewMut::Word(w) => w.iter().map(|&w| w as f32).collect(),
    }
}

impl Operand {
    fn real(&mut self) -> &mut Vec<f32> {
        match self {
            Operand::Real(r) => r,
            Operand::Word(_) => panic!("an operand of words"),
        }
    }
    fn word(&mut self) -> &mut Vec<u32> {
        match self {
            Operand::Word(w) => w,
            Operand::Real(_) => panic!("an operand of real numbers"),
        }
    }
    fn get(&self) -> &[f32] {
        match self {
            Operand::Real(r) => r,
            Operand::Word(_) => &[],
        }
    }
}

/// The right kernel with operand `i` constant.
fn constant(op: &dyn Op, args: &mut Args<'_, f32>, i: usize, value: f32) {
    with(op, args, |ins, _| {
        if let Some(Operand::Real(x)) = ins.get_mut(i) {
            x.fill(value);
        }
    });
}

/// The right kernel with operand `i`, rows of equal length, moved by one row.
fn rotated(op: &dyn Op, args: &mut Args<'_, f32>, i: usize) {
    with(op, args, |ins, types| {
        let cols = types[i].cols();
        ins[i].real().rotate_left(cols);
    });
}

/// The right kernel without the last row of operand `i`.
fn last_row_missed(op: &dyn Op, args: &mut Args<'_, f32>, i: usize) {
    with(op, args, |ins, types| {
        let first = types[i].elements() - types[i].cols();
        ins[i].real()[first..].fill(0.0);
    });
}

/// The right kernel with every word of operand `i` one more.
fn off_by_one(op: &dyn Op, args: &mut Args<'_, f32>, i: usize) {
    with(op, args, |ins, _| ins[i].word().iter_mut().for_each(|w| *w = w.wrapping_add(1)));
}

fn has_bias(op: &dyn Op) -> bool {
    format!("{op:?}").contains("bias: true")
}

/// Exchanges the order of taps in convolution weights `[O,C,k,k]`.
fn taps(w: &mut [f32], k: usize, from: impl Fn(usize) -> usize) {
    for kernel in w.chunks_mut(k * k) {
        let old = kernel.to_vec();
        (0..k * k).for_each(|t| kernel[t] = old[from(t)]);
    }
}

/// Width of a head from the printed spec and the type of qkv.
fn head_width(op: &dyn Op, qkv: &TensorType) -> f32 {
    let text = format!("{op:?}");
    let heads = text.split("heads: ").nth(1).and_then(|t| t.split([',', ' ', '}']).next());
    let heads: f32 = heads.and_then(|h| h.parse().ok()).expect("attention prints its heads");
    qkv.dim(2) as f32 / 3.0 / heads
}

/// Adds the distance of `1/√(variance + eps)` from the right one to normalised rows.
fn with_variance(op: &dyn Op, args: &mut Args<'_, f32>, variance: impl Fn(f32, f32) -> f32) {
    after(op, args, |ins, outs, types| {
        let d = types[0].cols();
        let (y, stats) = outs.split_at_mut(1);
        for (row, s) in y[0].chunks_mut(d).zip(stats[0].chunks_mut(2)) {
            let factor = 1.0 / (variance(1.0 / (s[1] * s[1]), d as f32)).sqrt() / s[1];
            row.iter_mut().zip(ins[2].get()).for_each(|(y, b)| *y = (*y - b) * factor + b);
        }
    });
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    kernel("Gelu", "tanh approximation", |op, args| {
        after(op, args, |ins, outs, _| {
            let c = (2.0 / std::f32::consts::PI).sqrt();
            for (y, x) in outs[0].iter_mut().zip(ins[0].get()) {
                *y = 0.5 * x * (1.0 + (c * (x + 0.044_715 * x * x * x)).tanh());
            }
        });
    }),
    kernel("Gelu", "erf of x instead of x/√2", |op, args| {
        with(op, args, |ins, _| ins[0].real().iter_mut().for_each(|x| *x *= std::f32::consts::SQRT_2));
        after(&Nothing, args, |_, outs, _| {
            outs[0].iter_mut().for_each(|y| *y *= std::f32::consts::FRAC_1_SQRT_2);
        });
    }),
    kernel("GeluGrad", "density term dropped", |op, args| {
        after(op, args, |ins, outs, _| {
            for ((y, dy), x) in outs[0].iter_mut().zip(ins[0].get()).zip(ins[1].get()) {
                *y = dy * 0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2));
            }
        });
    }),
    kernel("GeluGrad", "cotangent ignored", |op, args| constant(op, args, 0, 1.0)),
    kernel("Relu", "a slope below zero", |op, args| {
        after(op, args, |ins, outs, _| {
            outs[0].iter_mut().zip(ins[0].get()).for_each(|(y, x)| *y = x.max(0.01 * x));
        });
    }),
    kernel("ReluGrad", "derivative 1 at zero", |op, args| {
        with(op, args, |ins, _| ins[1].real().iter_mut().for_each(|x| *x += 1e-6));
    }),
    kernel("ReluGrad", "operands exchanged", |op, args| with(op, args, |ins, _| ins.swap(0, 1))),
    kernel("LayerNorm", "eps ten times too large", |op, args| with_variance(op, args, |v, _| v + 1e-5)),
    kernel("LayerNorm", "unbiased variance", |op, args| {
        with_variance(op, args, |v, d| v * d / (d - 1.0).max(1.0));
    }),
    kernel("LayerNorm", "beta missing", |op, args| constant(op, args, 2, 0.0)),
    kernel("LayerNorm", "statistics of the next row", |op, args| {
        after(op, args, |_, outs, _| outs[1].rotate_left(2));
    }),
    kernel("LayerNormGrad", "projection on the normalised row dropped", |op, args| {
        after(op, args, |ins, outs, types| {
            let d = types[1].cols();
            let [dy, x, gamma, stats] = [0, 1, 2, 3].map(|i| ins[i].get());
            for (r, dx) in outs[0].chunks_mut(d).enumerate() {
                let (mean, rstd) = (stats[2 * r], stats[2 * r + 1]);
                let hat = |i: usize| (x[r * d + i] - mean) * rstd;
                let dot: f32 = (0..d).map(|i| dy[r * d + i] * gamma[i] * hat(i)).sum();
                dx.iter_mut().enumerate().for_each(|(i, dx)| *dx += rstd * hat(i) * dot / d as f32);
            }
        });
    }),
    kernel("LayerNormGrad", "gamma ignored", |op, args| constant(op, args, 2, 1.0)),
    kernel("LayerNormGrad", "mean not subtracted", |op, args| {
        with(op, args, |ins, _| ins[3].real().iter_mut().step_by(2).for_each(|m| *m = 0.0));
    }),
    kernel("LayerNormGrad", "last row missed", |op, args| last_row_missed(op, args, 0)),
    kernel("Matmul", "bias missing", |op, args| constant(op, args, 2, 0.0)),
    kernel("Matmul", "bias twice", |op, args| {
        after(op, args, |ins, outs, _| {
            if has_bias(op) {
                let bias = ins[2].get();
                outs[0]
                    .chunks_mut(bias.len())
                    .flat_map(|r| r.iter_mut().zip(bias))
                    .for_each(|(y, b)| *y += b);
            }
        });
    }),
    kernel("Matmul", "product transposed", |op, args| {
        let square = args.out_types[0].rows() == args.out_types[0].cols();
        let n = args.out_types[0].cols();
        after(op, args, |_, outs, _| {
            if square {
                let old = outs[0].clone();
                (0..n * n).for_each(|i| outs[0][i] = old[i % n * n + i / n]);
            }
        });
    }),
    kernel("Matmul", "last row of the last tile not written", |op, args| {
        let n = args.out_types[0].cols();
        after(op, args, |_, outs, _| {
            let first = outs[0].len() - n;
            outs[0][first..].fill(0.0);
        });
    }),
    kernel("Matmul", "last of the inner terms missed", |op, args| {
        with(op, args, |ins, types| {
            if format!("{op:?}").contains("ta: false") {
                let k = types[0].cols();
                ins[0].real().chunks_mut(k).for_each(|row| row[k - 1] = 0.0);
            }
        });
    }),
    kernel("Matmul", "operand taken as transposed", |op, args| {
        with(op, args, |ins, types| {
            let (rows, cols) = (types[1].rows(), types[1].cols());
            let old = ins[1].real().clone();
            ins[1].real().iter_mut().enumerate().for_each(|(i, x)| *x = old[i % rows * cols + i / rows]);
        });
    }),
    kernel("Attention", "scores not scaled", |op, args| {
        with(op, args, |ins, types| {
            let (d, root) = (types[0].dim(2) / 3, head_width(op, &types[0]).sqrt());
            ins[0].real().chunks_mut(3 * d).for_each(|row| row[..d].iter_mut().for_each(|q| *q *= root));
        });
    }),
    kernel("Attention", "bias table taken as transposed", |op, args| {
        with(op, args, |ins, types| {
            if let Some(table) = ins.get_mut(1) {
                let (rows, heads) = (types[1].rows(), types[1].cols());
                let old = table.real().clone();
                let at = |i: usize| old[i % heads * rows + i / heads];
                table.real().iter_mut().enumerate().for_each(|(i, x)| *x = at(i));
            }
        });
    }),
    kernel("Attention", "bias of the opposite offset", |op, args| {
        with(op, args, |ins, types| {
            if let Some(table) = ins.get_mut(1) {
                let (rows, heads) = (types[1].rows(), types[1].cols());
                table.real()[..(rows - 3) * heads].reverse();
            }
        });
    }),
    kernel("Attention", "bias left out", |op, args| constant(op, args, 1, 0.0)),
    kernel("Attention", "class-token rows of the table exchanged", |op, args| {
        with(op, args, |ins, types| {
            if let Some(table) = ins.get_mut(1) {
                let (rows, heads) = (types[1].rows(), types[1].cols());
                table.real()[(rows - 3) * heads..(rows - 1) * heads].rotate_left(heads);
            }
        });
    }),
    kernel("Attention", "keys and values exchanged", |op, args| {
        with(op, args, |ins, types| {
            let d = types[0].dim(2) / 3;
            ins[0].real().chunks_mut(3 * d).for_each(|row| row[d..].rotate_left(d));
        });
    }),
    kernel("Attention", "log-sum-exp in base 2", |op, args| {
        after(op, args, |_, outs, _| outs[1].iter_mut().for_each(|l| *l *= std::f32::consts::LOG2_E));
    }),
    kernel("AttentionGrad", "key gradient not scaled", |op, args| {
        let d = args.in_types[0].cols();
        let root = head_width(op, &args.in_types[1]).sqrt();
        after(op, args, |_, outs, _| {
            outs[0].chunks_mut(3 * d).for_each(|row| row[d..2 * d].iter_mut().for_each(|k| *k *= root));
        });
    }),
    kernel("AttentionGrad", "softmax normalisation not differentiated", |op, args| {
        constant(op, args, 2, 0.0)
    }),
    kernel("AttentionGrad", "table gradient averaged over images", |op, args| {
        after(op, args, |_, outs, types| {
            if let Some(table) = outs.get_mut(1) {
                table.iter_mut().for_each(|t| *t /= types[0].dim(0) as f32);
            }
        });
    }),
    kernel("AttentionGrad", "log-sum-exp of the next row", |op, args| {
        with(op, args, |ins, _| ins[3].real().rotate_left(1));
    }),
    kernel("CrossEntropy", "divided by the number of rows once more", |op, args| {
        after(op, args, |_, outs, types| outs[0][0] /= types[0].rows() as f32);
    }),
    kernel("CrossEntropy", "last index wins ties", |op, args| {
        with(op, args, |ins, types| {
            let v = types[0].cols();
            let tilt = |(i, x): (usize, &mut f32)| *x += 1e-6 * (i % v) as f32;
            ins[0].real().iter_mut().enumerate().for_each(tilt);
        });
    }),
    kernel("CrossEntropy", "label off by one", |op, args| off_by_one(op, args, 1)),
    kernel("CrossEntropy", "weights ignored", |op, args| constant(op, args, 2, 1.0)),
    kernel("CrossEntropyGrad", "one-hot not subtracted", |op, args| {
        with(op, args, |ins, _| ins[2].word().fill(u32::MAX));
    }),
    kernel("CrossEntropyGrad", "loss cotangent ignored", |op, args| constant(op, args, 0, 1.0)),
    kernel("HeadLoss", "bias missing", |op, args| constant(op, args, 2, 0.0)),
    kernel("HeadLoss", "labels of the second chunk moved", |op, args| {
        with(op, args, |ins, _| {
            if let Some(second) = ins[3].word().get_mut(256..) {
                second.rotate_left(second.len().min(1));
            }
        });
    }),
    kernel("HeadLossGrad", "weights ignored", |op, args| constant(op, args, 5, 1.0)),
    kernel("HeadLossGrad", "last row missed in the weight gradient", |op, args| last_row_missed(op, args, 1)),
    kernel("Conv2d", "kernel mirrored", |op, args| {
        with(op, args, |ins, types| {
            let k = types[1].dim(2);
            taps(ins[1].real(), k, |t| k * k - 1 - t);
        });
    }),
    kernel("Conv2d", "kernel rows and columns exchanged", |op, args| {
        with(op, args, |ins, types| {
            let k = types[1].dim(2);
            taps(ins[1].real(), k, |t| t % k * k + t / k);
        });
    }),
    kernel("Conv2d", "bias missing", |op, args| constant(op, args, 2, 0.0)),
    kernel("Conv2d", "one pixel off", |op, args| rotated(op, args, 0)),
    kernel("Conv2dGradInput", "kernel not mirrored", |op, args| {
        with(op, args, |ins, types| {
            let k = types[1].dim(2);
            taps(ins[1].real(), k, |t| k * k - 1 - t);
        });
    }),
    kernel("Conv2dGradWeight", "one pixel off", |op, args| rotated(op, args, 0)),
    kernel("Conv2dGradWeight", "last pixel missed", |op, args| last_row_missed(op, args, 0)),
    kernel("MaxPool", "smallest instead of largest", |op, args| {
        with(op, args, |ins, _| ins[0].real().iter_mut().for_each(|x| *x = -*x));
        after(&Nothing, args, |_, outs, _| outs[0].iter_mut().for_each(|y| *y = -*y));
    }),
    kernel("MaxPoolGrad", "last cell wins ties", |op, args| {
        with(op, args, |ins, _| {
            ins[1].real().iter_mut().enumerate().for_each(|(i, x)| *x += 1e-6 * i as f32);
        });
    }),
    kernel("Upsample", "one pixel off", |op, args| rotated(op, args, 0)),
    kernel("UpsampleGrad", "mean instead of sum", |op, args| {
        after(op, args, |_, outs, _| outs[0].iter_mut().for_each(|x| *x *= 0.25));
    }),
    kernel("GumbelSoftmax", "temperature ignored", |op, args| constant(op, args, 1, 1.0)),
    kernel("GumbelSoftmax", "noise subtracted", |op, args| {
        with(op, args, |ins, _| {
            if let Operand::Real(noise) = &mut ins[2] {
                noise.iter_mut().for_each(|n| *n = -*n);
            }
        });
    }),
    kernel("GumbelSoftmax", "draws counted from one", |op, args| {
        with(op, args, |ins, _| {
            if let Operand::Word(key) = &mut ins[2] {
                key[3] = key[3].wrapping_add(1);
            }
        });
    }),
    kernel("SoftmaxGrad", "mean cotangent not subtracted", |op, args| {
        after(op, args, |ins, outs, _| {
            let tau = ins[2].get()[0];
            for ((dx, dy), y) in outs[0].iter_mut().zip(ins[0].get()).zip(ins[1].get()) {
                *dx = dy * y / tau;
            }
        });
    }),
    kernel("SoftmaxGrad", "not divided by the temperature", |op, args| constant(op, args, 2, 1.0)),
    kernel("KlUniform", "ln V missing", |op, args| {
        after(op, args, |_, outs, types| {
            outs[0].iter_mut().for_each(|k| *k -= (types[0].cols() as f32).ln());
        });
    }),
    kernel("KlUniformGrad", "cotangent of the next row", |op, args| {
        with(op, args, |ins, _| ins[0].real().rotate_left(1));
    }),
    kernel("LogitLaplace", "ln 2 missing", |op, args| {
        after(op, args, |_, outs, _| outs[0].iter_mut().for_each(|n| *n -= std::f32::consts::LN_2));
    }),
    kernel("LogitLaplace", "wrong sign of the Jacobian", |op, args| {
        after(op, args, |ins, outs, _| {
            let jacobian = |t: &f32| (t * (1.0 - t)).ln();
            outs[0].iter_mut().zip(ins[1].get()).for_each(|(n, t)| *n -= 2.0 * jacobian(t));
        });
    }),
    kernel("LogitLaplaceGrad", "mean and scale exchanged", |op, args| {
        let c = args.in_types[2].cols();
        after(op, args, |_, outs, _| outs[0].chunks_mut(2 * c).for_each(|row| row.rotate_left(c)));
    }),
    kernel("LogitLaplaceGrad", "a slope at the kink", |op, args| {
        with(op, args, |ins, _| ins[1].real().iter_mut().for_each(|p| *p += 1e-7));
    }),
    kernel("Argmax", "last index wins ties", |op, args| {
        with(op, args, |ins, types| {
            let v = types[0].cols();
            ins[0].real().iter_mut().enumerate().for_each(|(i, x)| *x += 1e-6 * (i % v) as f32);
        });
    }),
    kernel("OneHot", "id off by one", |op, args| off_by_one(op, args, 0)),
    kernel("GatherRows", "row off by one", |op, args| off_by_one(op, args, 1)),
    kernel("GatherRowsGrad", "slot off by one", |op, args| {
        with(op, args, |ins, _| {
            ins[1].word().iter_mut().filter(|w| **w > 0).for_each(|w| *w += 1);
        });
    }),
    kernel("GatherWords", "index clamped instead of 0 outside", |op, args| {
        with(op, args, |ins, types| {
            let last = types[0].elements() as u32 - 1;
            ins[1].word().iter_mut().for_each(|i| *i = (*i).min(last));
        });
    }),
    kernel("Embed", "mask inverted", |op, args| {
        with(op, args, |ins, _| {
            if let Some(Operand::Word(mask)) = ins.get_mut(3) {
                mask.iter_mut().for_each(|m| *m = 1 - *m);
            }
        });
    }),
    kernel("Embed", "positions one token off", |op, args| {
        with(op, args, |ins, types| {
            if let (Some(Operand::Real(pos)), true) = (ins.last_mut(), types.len() != 2) {
                pos.rotate_left(types[0].cols());
            }
        });
    }),
    kernel("EmbedGradPatches", "masked patches pass the cotangent", |op, args| {
        with(op, args, |ins, _| {
            if let Some(Operand::Word(mask)) = ins.get_mut(1) {
                mask.fill(0);
            }
        });
    }),
    kernel("EmbedGradParams", "mask ignored by the mask token", |op, args| {
        with(op, args, |ins, _| {
            if let Some(Operand::Word(mask)) = ins.get_mut(1) {
                mask.fill(1);
            }
        });
    }),
    kernel("Patchify", "channel innermost", |op, args| {
        let c = args.in_types[0].dim(3);
        after(op, args, |_, outs, types| {
            let _ = types;
            let row = outs[0].len();
            let old = outs[0].clone();
            (0..row).for_each(|i| outs[0][i] = old[i % c * (row / c) + i / c]);
        });
    }),
    kernel("PoolTokens", "class token counted in the mean", |op, args| {
        after(op, args, |_, outs, types| {
            let n = types[0].dim(1) as f32;
            outs[0].iter_mut().for_each(|y| *y *= (n - 1.0).max(1.0) / n);
        });
    }),
    kernel("PoolTokensGrad", "not divided by the number of tokens", |op, args| {
        let n = args.out_types[0].dim(1) as f32;
        after(op, args, |_, outs, _| outs[0].iter_mut().for_each(|y| *y *= n - 1.0));
    }),
    kernel("QkvBias", "a key bias", |op, args| {
        after(op, args, |ins, outs, _| {
            let d = ins[0].get().len();
            outs[0][d..2 * d].copy_from_slice(ins[1].get());
        });
    }),
    kernel("Sum", "last element missed", |op, args| {
        with(op, args, |ins, _| {
            if let Some(last) = ins[0].real().last_mut() {
                *last = 0.0;
            }
        });
    }),
    kernel("ColSum", "last row missed", |op, args| last_row_missed(op, args, 0)),
    kernel("Residual", "layer scale ignored", |op, args| {
        if format!("{op:?}").contains("gamma: true") { constant(op, args, 2, 1.0) } else { op.run_f32(args) }
    }),
    kernel("Residual", "another sample's draw", |op, args| {
        with(op, args, |ins, _| {
            if let Some(Operand::Word(key)) = ins.last_mut() {
                key[0] ^= 1;
            }
        });
    }),
    kernel("ResidualGrad", "last row missed", |op, args| last_row_missed(op, args, 0)),
    kernel("ResidualGradBranch", "another sample's draw", |op, args| {
        with(op, args, |ins, _| {
            if let Some(Operand::Word(key)) = ins.last_mut() {
                key[0] ^= 1;
            }
        });
    }),
    kernel("AdamW", "weight decay left out", |op, args| {
        with(op, args, |ins, _| ins[5].real()[1] = 0.0);
    }),
    kernel("AdamW", "moments not corrected for their start", |op, args| {
        with(op, args, |ins, _| ins[4].real()[4..6].fill(1.0));
    }),
    kernel("AdamW", "a step that should be skipped", |op, args| {
        with(op, args, |ins, _| ins[4].real()[3] = 1.0);
    }),
    kernel("AdamW", "learning-rate scales ignored", |op, args| constant(op, args, 6, 1.0)),
    kernel("AdamW", "gradients not clipped", |op, args| with(op, args, |ins, _| ins[4].real()[2] = 1.0)),
    kernel("Ema", "decay and its complement exchanged", |op, args| {
        with(op, args, |ins, _| ins[3].real().swap(9, 10));
    }),
    kernel("ClipControl", "loss scale ignored", |op, args| with(op, args, |ins, _| ins[1].real()[8] = 1.0)),
    kernel("ClipControl", "never clips", |op, args| with(op, args, |ins, _| ins[1].real()[7] = 0.0)),
    kernel("Norm2", "sum instead of squares", |op, args| {
        with(op, args, |ins, _| ins[0].real().iter_mut().for_each(|x| *x = x.abs().sqrt()));
    }),
    kernel("Norm2Accumulate", "first page added to the old norm", |op, args| {
        let old = numbers(&args.outs[0])[0];
        let first = format!("{op:?}").contains("first: true");
        after(op, args, |_, outs, _| outs[0][0] += if first { old } else { 0.0 });
    }),
    kernel("Accumulate", "overwritten instead of added", |op, args| {
        after(op, args, |ins, outs, _| outs[0].copy_from_slice(ins[1].get()));
    }),
    kernel("AddScaled", "subtracted", |op, args| {
        with(op, args, |ins, _| ins[1].real().iter_mut().for_each(|b| *b = -*b));
    }),
    kernel("Tanh", "rational fit of third order", |op, args| {
        after(op, args, |ins, outs, _| {
            for (y, x) in outs[0].iter_mut().zip(ins[0].get()) {
                *y = (x * (15.0 + x * x) / (15.0 + 6.0 * x * x)).clamp(-1.0, 1.0);
            }
        });
    }),
    kernel("TanhGrad", "derivative of the argument instead of the result", |op, args| {
        with(op, args, |ins, _| ins[1].real().iter_mut().for_each(|y| *y = y.tanh()));
    }),
    kernel("Nearest", "last of equals", |op, args| {
        let k = args.in_types[1].rows();
        with(op, args, |ins, types| {
            let rows: Vec<f32> = ins[1].get().chunks(types[1].cols()).rev().flatten().copied().collect();
            ins[1].real().copy_from_slice(&rows);
        });
        after(&Nothing, args, |_, outs, _| outs[0].iter_mut().for_each(|id| *id = (k - 1) as f32 - *id));
    }),
    kernel("Nearest", "codes of the next row", |op, args| {
        let c = args.in_types[1].cols();
        after(op, args, |_, outs, _| outs[1].rotate_left(c));
    }),
    kernel("Members", "chains that skip a row", |op, args| {
        after(op, args, |_, outs, _| {
            let old = outs[1].clone();
            let rows = old.len() as f32;
            let next = |r: f32| if r < rows { old[r as usize] } else { rows };
            outs[1].iter_mut().for_each(|r| *r = next(*r));
        });
    }),
    kernel("CodebookUpdate", "new codes not of length 1", |op, args| {
        after(op, args, |_, outs, _| outs[0].iter_mut().for_each(|x| *x *= 0.99));
    }),
    kernel("CodebookUpdate", "another draw for a code that starts anew", |op, args| {
        with(op, args, |ins, _| ins[5].word()[3] ^= 1);
    }),
    kernel("CodebookUpdate", "first rows one too far", |op, args| off_by_one(op, args, 3)),
    kernel("GroupMean", "first rows one too far", |op, args| off_by_one(op, args, 3)),
    kernel("Combine", "factor ignored", |op, args| constant(op, args, 2, 1.0)),
];

/// Leaves its results as they are: lets `after` follow `with`.
#[derive(Debug)]
struct Nothing;

impl Op for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    fn infer(&self, _: &[TensorType]) -> beit::Result<Vec<TensorType>> {
        Ok(vec![])
    }
    fn run_f32(&self, _: &mut Args<'_, f32>) {}
    fn run_f64(&self, _: &mut Args<'_, f64>) {}
}
