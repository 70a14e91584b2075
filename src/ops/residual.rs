//! The residual connection `y = x + s_b·γ⊙branch` with LayerScale γ and stochastic depth (beit-spec §2.5, §2.6).
//!
//! `s_b` is drawn per sample: 1/keep with probability keep = 1 − rate, else 0; `rng(key, salt, sample)` in Rust and WGSL.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks, par_map};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};
use crate::rng::Key;

use super::reduce::{row_block, sum_blocks};
use super::units::widest;
use super::{Access, Arg, Caps, Epilogue, KernelCall, Kernels, Tier};

/// Stochastic depth of one branch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropPath {
    /// Probability of dropping the branch for a sample.
    pub rate: f32,
    /// Distinguishes the branches of a network.
    pub salt: u32,
}

/// `y` from `x[B,..,D]`, `branch`, then `gamma[D]` if `gamma`, then the key (4 words) if `drop`.
#[derive(Debug, Clone)]
pub(crate) struct Residual {
    pub gamma: bool,
    pub drop: Option<DropPath>,
}

/// `dbranch = dy·s_b` without γ, from `dy`, then the key.
#[derive(Debug, Clone)]
pub(crate) struct ResidualGradBranch {
    pub drop: Option<DropPath>,
}

/// `dbranch = dy·γ·s_b`, `dgamma = Σ dy·branch·s_b` in `shape` and the column sums of `dbranch`, which the bias of the
/// branch's last layer asks for, from `dy`, `branch`, `gamma`, then the key.
#[derive(Debug, Clone)]
pub(crate) struct ResidualGrad {
    pub drop: Option<DropPath>,
    pub shape: Vec<usize>,
}

/// `x + s·γ⊙branch`; `drop` comes with the key input of the step.
///
/// # Errors
/// If the sizes do not fit.
pub fn residual(
    g: &mut Graph,
    x: Var,
    branch: Var,
    gamma: Option<Var>,
    drop: Option<(DropPath, Var)>,
) -> Result<Var> {
    let op = Residual { gamma: gamma.is_some(), drop: drop.map(|d| d.0) };
    let inputs: Vec<Var> = [Some(x), Some(branch), gamma, drop.map(|d| d.1)].into_iter().flatten().collect();
    g.apply(op, &inputs)
}

/// The factor of one sample.
fn factor<T: Real>(drop: Option<DropPath>, key: &[u32], sample: usize) -> T {
    let (Some(d), &[a, b, c, e]) = (drop, key) else { return T::ONE };
    let keep = 1.0 - d.rate;
    if Key([a, b, c, e]).child(d.salt).uniform(sample as u32) < keep {
        T::of(1.0 / f64::from(keep))
    } else {
        T::ZERO
    }
}

/// Elements per sample.
fn per_sample(t: &TensorType) -> usize {
    t.elements() / t.dim(0)
}

impl Residual {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (d, sample) = (args.ty(0).cols(), per_sample(args.ty(0)));
        let (x, branch) = (args.real(0), args.real(1));
        let gamma = if self.gamma { args.real(2) } else { &[] };
        let key = args.words(2 + usize::from(self.gamma));
        par_chunks(args.out(0), d, |r, y| {
            let s: T = factor(self.drop, key, r * d / sample);
            let at = r * d;
            if self.gamma {
                for (((y, &x), &f), &g) in y.iter_mut().zip(&x[at..]).zip(&branch[at..]).zip(gamma) {
                    *y = x + s * g * f;
                }
            } else {
                for ((y, &x), &f) in y.iter_mut().zip(&x[at..]).zip(&branch[at..]) {
                    *y = x + s * f;
                }
            }
        });
    }
}

impl Op for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2 + usize::from(self.gamma) + usize::from(self.drop.is_some()))?;
        expect_elements("branch", &inputs[1], inputs[0].elements())?;
        if self.gamma {
            expect_elements("layer scale", &inputs[2], inputs[0].cols())?;
        }
        if self.drop.is_some() {
            expect_elements("key", &inputs[inputs.len() - 1], 4)?;
        }
        Ok(vec![inputs[0].clone()])
    }
    fn differentiable(&self, input: usize) -> bool {
        input < 2 + usize::from(self.gamma)
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        let key = self.drop.and(v.inputs.last().copied());
        v.grads[0] = Some(dy);
        if self.gamma && (v.wanted[1] || v.wanted[2]) {
            let op = ResidualGrad { drop: self.drop, shape: v.g.shape(v.inputs[2]).to_vec() };
            let inputs: Vec<Var> = [dy, v.inputs[1], v.inputs[2]].into_iter().chain(key).collect();
            let grads = v.g.apply_all(op, &inputs)?;
            (v.grads[1], v.grads[2]) = (v.wanted[1].then_some(grads[0]), v.wanted[2].then_some(grads[1]));
        } else if self.drop.is_some() && v.wanted[1] {
            let inputs: Vec<Var> = [dy].into_iter().chain(key).collect();
            v.grads[1] = Some(v.g.apply(ResidualGradBranch { drop: self.drop }, &inputs)?);
        } else {
            v.grads[1] = Some(dy);
        }
        Ok(())
    }
    fn reads_half(&self, _: &Caps, input: usize, inputs: &[TensorType]) -> bool {
        input == 1 && inputs[0].cols() % 4 == 0
    }
    fn as_epilogue(&self, input: usize) -> Option<Epilogue> {
        (input == 1).then_some(Epilogue::Residual { gamma: self.gamma, drop: self.drop })
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        3 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let call = KernelCall::new("residual", "forward").writes(&[0]).reads(&[0]).half("F_HALF", &inputs[1]);
        let call = at(call, "F_AT", Arg::In(1), Access::Read);
        let call = if self.gamma { at(call, "GAMMA_AT", Arg::In(2), Access::Read) } else { call };
        let call = bind_key(call, self.drop, inputs.len() - 1);
        Ok(down_rows(caps, call, self.drop, &inputs[0], run(caps)).into())
    }
    cpu_kernel!();
}

impl ResidualGradBranch {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (d, sample) = (args.ty(0).cols(), per_sample(args.ty(0)));
        let (dy, key) = (args.real(0), args.words(1));
        par_chunks(args.out(0), d, |r, out| {
            let s: T = factor(self.drop, key, r * d / sample);
            out.iter_mut().zip(&dy[r * d..]).for_each(|(o, &dy)| *o = dy * s);
        });
    }
}

impl Op for ResidualGradBranch {
    fn name(&self) -> &'static str {
        "residual_grad_branch"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1 + usize::from(self.drop.is_some()))?;
        Ok(vec![inputs[0].clone()])
    }
    fn writes_half(&self, _: &Caps, _: usize, inputs: &[TensorType]) -> bool {
        inputs[0].cols() % 4 == 0
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let call = at(to_branch(&outputs[0]), "DY_AT", Arg::In(0), Access::Read);
        let call = bind_key(call, self.drop, inputs.len() - 1);
        Ok(down_rows(caps, call, self.drop, &inputs[0], run(caps)).into())
    }
    cpu_kernel!();
}

impl ResidualGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (d, sample, rows) = (args.ty(0).cols(), per_sample(args.ty(0)), args.ty(0).rows());
        let (dy, branch, gamma, key) = (args.real(0), args.real(1), args.real(2), args.words(3));
        par_chunks(args.out(0), d, |r, out| {
            let s: T = factor(self.drop, key, r * d / sample);
            out.iter_mut().zip(&dy[r * d..]).zip(gamma).for_each(|((o, &dy), &g)| *o = dy * g * s);
        });
        let block = super::reduce::ROW_BLOCK;
        let parts = par_map(rows.div_ceil(block), |p| {
            let (mut dgamma, mut sums) = (vec![T::ZERO; d], vec![T::ZERO; d]);
            for r in p * block..rows.min((p + 1) * block) {
                let s: T = factor(self.drop, key, r * d / sample);
                let rows = dy[r * d..].iter().zip(&branch[r * d..]).zip(gamma);
                for ((dg, sum), ((&dy, &f), &g)) in dgamma.iter_mut().zip(&mut sums).zip(rows) {
                    *dg += dy * f * s;
                    *sum += dy * g * s;
                }
            }
            [dgamma, sums]
        });
        for (i, out) in [args.out(1), args.out(2)].into_iter().enumerate() {
            out.fill(T::ZERO);
            parts.iter().for_each(|p| out.iter_mut().zip(&p[i]).for_each(|(s, &v)| *s += v));
        }
    }
}

impl Op for ResidualGrad {
    fn name(&self) -> &'static str {
        "residual_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3 + usize::from(self.drop.is_some()))?;
        expect_elements("branch", &inputs[1], inputs[0].elements())?;
        expect_elements("layer scale", &inputs[2], inputs[0].cols())?;
        let out = TensorType::real(&self.shape)?;
        expect_elements("layer scale", &out, inputs[0].cols())?;
        Ok(vec![inputs[0].clone(), out, TensorType::real(&[inputs[0].cols()])?])
    }
    fn column_sums(&self) -> Option<usize> {
        Some(2)
    }
    fn reads_half(&self, _: &Caps, input: usize, inputs: &[TensorType]) -> bool {
        input == 1 && inputs[0].cols() % 4 == 0
    }
    fn writes_half(&self, _: &Caps, output: usize, inputs: &[TensorType]) -> bool {
        output == 0 && inputs[0].cols() % 4 == 0
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        5 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let (t, block) = (&inputs[0], row_block(caps));
        let scaled = |call| {
            let call = at(at(call, "DY_AT", Arg::In(0), Access::Read), "GAMMA_AT", Arg::In(2), Access::Read);
            bind_key(call, self.drop, 3)
        };
        let mut kernels = Kernels::default();
        // Elements of their own keep a GPU busy; blocks of rows do not.
        let apart = caps.tier == Tier::Hardware;
        if apart {
            let call = scaled(to_branch(&outputs[0]));
            kernels.calls.push(down_rows(caps, call, self.drop, t, run(caps)));
        }
        let results = [Arg::Out(1), Arg::Out(2)];
        sum_blocks(caps, &mut kernels, t.rows().div_ceil(block), t.cols(), &results, |to| {
            let call = if apart { KernelCall::new("residual", "grad") } else { to_branch(&outputs[0]) };
            let call = at(call.define("TO_SUMS", 1), "DGAMMA_AT", to[0], Access::Write);
            let call = at(call, "SUMS_AT", to[1], Access::Write);
            let call = at(call.half("F_HALF", &inputs[1]), "F_AT", Arg::In(1), Access::Read);
            down_rows(caps, scaled(call), self.drop, t, block)
        })?;
        Ok(kernels)
    }
    cpu_kernel!();
}

/// Binds something and defines where.
fn at(call: KernelCall, name: &'static str, arg: Arg, access: Access) -> KernelCall {
    let number = call.bindings.len() as u32;
    call.bind(arg, access).define(name, number)
}

/// The gradient that writes `dbranch`.
fn to_branch(dbranch: &TensorType) -> KernelCall {
    KernelCall::new("residual", "grad").writes(&[0]).define("TO_BRANCH", 1).half("Y_HALF", dbranch)
}

fn bind_key(call: KernelCall, drop: Option<DropPath>, input: usize) -> KernelCall {
    if drop.is_none() {
        return call;
    }
    at(call, "KEY_AT", Arg::In(input), Access::Read).define("DROP", 1)
}

/// Rows that an invocation maps: it reads γ and draws once for all of them on a software adapter.
fn run(caps: &Caps) -> usize {
    if caps.tier == Tier::Hardware { 1 } else { 32 }
}

/// Constants and grid: an invocation per word of a row walks down `block` rows.
fn down_rows(
    caps: &Caps,
    call: KernelCall,
    drop: Option<DropPath>,
    t: &TensorType,
    block: usize,
) -> KernelCall {
    let wide = widest(caps, &[t.cols()]);
    let (d, blocks) = (t.cols() / wide, t.rows().div_ceil(block));
    let keep = 1.0 - drop.map_or(0.0, |d| d.rate);
    let call = call.words(&[blocks * d, d, t.rows(), block, per_sample(t) / t.cols()]);
    let call = call.word(drop.map_or(0, |d| d.salt as usize));
    call.float(keep).float((1.0 / f64::from(keep)) as f32).down(caps, blocks, d, wide)
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Words};
    let shapes: [&[usize]; 9] = [
        &[1, 1],
        &[2, 3, 5],
        &[7, 17],
        &[3, 5, 33],
        &[33, 2, 65],
        &[2, 2, 256],
        &[5, 257],
        &[3, 261, 4],
        &[4, 45, 8],
    ];
    for (i, s) in shapes.into_iter().enumerate() {
        let width = &s[s.len() - 1..];
        let x = (s, Normal);
        let drop = [0.0, 0.1, 0.5, 0.9].map(|rate| DropPath { rate, salt: i as u32 })[i % 4];
        for (gamma, drop) in [(false, None), (true, None), (false, Some(drop)), (true, Some(drop))] {
            let mut rest: Vec<(&[usize], _)> = vec![];
            rest.extend(gamma.then_some((width, Normal)));
            rest.extend(drop.map(|_| (&[4][..], Words(u32::MAX))));
            b.add(Residual { gamma, drop }, &[&[x, x], &rest[..]].concat());
            if gamma {
                b.add(ResidualGrad { drop, shape: width.to_vec() }, &[&[x, x], &rest[..]].concat());
            } else {
                b.add(ResidualGradBranch { drop }, &[&[x], &rest[..]].concat());
            }
        }
    }
}
