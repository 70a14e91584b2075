//! Assembles the token sequence: patch embeddings, masked ones replaced by the mask token, the class token in front,
//! absolute positions added (beit-spec §2.2).

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::reduce::{row_block, sum_blocks};
use super::units::vector;
use super::{Access, Arg, Caps, KernelCall, Kernels};

/// Parameters of the embedding; shapes as in checkpoints.
#[derive(Debug, Clone, Copy)]
pub struct EmbedParams {
    /// Class token, D elements.
    pub cls: Var,
    /// Mask token (D elements) and the mask `[B,n]` of words, 1 = masked.
    pub mask: Option<(Var, Var)>,
    /// Positions, (n+1)·D elements.
    pub pos: Option<Var>,
}

/// `x[B,n+1,D]` from `patches[B,n,D]`, `cls`, then `mask_token`, `mask` if `masked`, then `pos` if `pos`.
#[derive(Debug, Clone)]
pub(crate) struct Embed {
    pub masked: bool,
    pub pos: bool,
}

/// `dpatches[B,n,D]` from `dx[B,n+1,D]` and the mask.
#[derive(Debug, Clone)]
pub(crate) struct EmbedGradPatches {
    pub masked: bool,
}

/// `dcls`, `dmask_token` if masked, `dpos` if `pos`, from `dx` and the mask; in the shapes given.
#[derive(Debug, Clone)]
pub(crate) struct EmbedGradParams {
    pub masked: bool,
    pub pos: bool,
    pub shapes: Vec<Vec<usize>>,
}

/// Token sequence of `patches[B,n,D]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn embed(g: &mut Graph, patches: Var, p: EmbedParams) -> Result<Var> {
    let mut inputs = vec![patches, p.cls];
    if let Some((token, mask)) = p.mask {
        inputs.extend([token, mask]);
    }
    inputs.extend(p.pos);
    g.apply(Embed { masked: p.mask.is_some(), pos: p.pos.is_some() }, &inputs)
}

impl Embed {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (n, d) = (args.ty(0).dim(1), args.ty(0).dim(2));
        let (patches, cls) = (args.real(0), args.real(1));
        let (token, mask) = (args.real(2), args.words(3));
        let pos = if self.pos { Some(args.real(if self.masked { 4 } else { 2 })) } else { None };
        par_chunks(args.out(0), d, |row, x| {
            let (b, t) = (row / (n + 1), row % (n + 1));
            let patch = (b * n + t).wrapping_sub(1);
            if t == 0 {
                x.copy_from_slice(cls);
            } else if self.masked && mask[patch] != 0 {
                x.copy_from_slice(token);
            } else {
                x.copy_from_slice(&patches[patch * d..][..d]);
            }
            if let Some(pos) = pos {
                x.iter_mut().zip(&pos[t * d..]).for_each(|(x, &p)| *x += p);
            }
        });
    }
}

impl Op for Embed {
    fn name(&self) -> &'static str {
        "embed"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2 + 2 * usize::from(self.masked) + usize::from(self.pos))?;
        let (b, n, d) = (inputs[0].dim(0), inputs[0].dim(1), inputs[0].dim(2));
        expect_elements("class token", &inputs[1], d)?;
        if self.masked {
            expect_elements("mask token", &inputs[2], d)?;
            expect_elements("mask", &inputs[3], b * n)?;
        }
        if self.pos {
            expect_elements("positions", &inputs[inputs.len() - 1], (n + 1) * d)?;
        }
        Ok(vec![TensorType::real(&[b, n + 1, d])?])
    }
    fn differentiable(&self, input: usize) -> bool {
        !(self.masked && input == 3)
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dx = v.cotangent()?;
        let mut inputs = vec![dx];
        if self.masked {
            inputs.push(v.inputs[3]);
        }
        if v.wanted[0] {
            v.grads[0] = Some(v.g.apply(EmbedGradPatches { masked: self.masked }, &inputs)?);
        }
        let mut params = vec![1];
        params.extend(self.masked.then_some(2));
        params.extend(self.pos.then_some(v.inputs.len() - 1));
        if params.iter().any(|&i| v.wanted[i]) {
            let shapes = params.iter().map(|&i| v.g.shape(v.inputs[i]).to_vec()).collect();
            let op = EmbedGradParams { masked: self.masked, pos: self.pos, shapes };
            let grads = v.g.apply_all(op, &inputs)?;
            for (&i, &grad) in params.iter().zip(&grads) {
                v.grads[i] = Some(grad);
            }
        }
        Ok(())
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let (tokens, d) = (inputs[0].dim(1) + 1, inputs[0].dim(2));
        let vec = vector(&[d]);
        let n = outputs[0].elements() / vec;
        let mut call = KernelCall::new("embed", "embed").writes(&[0]).reads(&[0, 1]);
        if self.masked {
            call = call.reads(&[2, 3]).define("MASKED", 1);
        }
        if self.pos {
            let at = call.bindings.len() as u32;
            call = call.reads(&[inputs.len() - 1]).define("POS", 1).define("POS_AT", at);
        }
        Ok(call.words(&[n, d / vec, tokens]).each(n, vec).into())
    }
    cpu_kernel!();
}

impl EmbedGradPatches {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (n, d) = (args.ty(0).dim(1) - 1, args.ty(0).dim(2));
        let (dx, mask) = (args.real(0), args.words(1));
        par_chunks(args.out(0), d, |patch, out| {
            let row = patch + patch / n + 1;
            if self.masked && mask[patch] != 0 {
                out.fill(T::ZERO);
            } else {
                out.copy_from_slice(&dx[row * d..][..d]);
            }
        });
    }
}

impl Op for EmbedGradPatches {
    fn name(&self) -> &'static str {
        "embed_grad_patches"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1 + usize::from(self.masked))?;
        let t = &inputs[0];
        Ok(vec![TensorType::real(&[t.dim(0), t.dim(1) - 1, t.dim(2)])?])
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let (patches, d) = (outputs[0].dim(1), outputs[0].dim(2));
        let vec = vector(&[d]);
        let n = outputs[0].elements() / vec;
        let mut call = KernelCall::new("embed", "grad_patches").writes(&[0]).reads(&[0]);
        if self.masked {
            call = call.reads(&[1]).define("MASKED", 1);
        }
        Ok(call.words(&[n, d / vec, patches]).each(n, vec).into())
    }
    cpu_kernel!();
}

impl EmbedGradParams {
    /// Images are summed in order; one pass per parameter keeps the order of every sum fixed.
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (batch, tokens, d) = (args.ty(0).dim(0), args.ty(0).dim(1), args.ty(0).dim(2));
        let (dx, mask) = (args.real(0), args.words(1));
        let row = |b: usize, t: usize| &dx[(b * tokens + t) * d..][..d];
        let sum = |out: &mut [T], row: &[T]| out.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
        let dcls = args.out(0);
        dcls.fill(T::ZERO);
        (0..batch).for_each(|b| sum(dcls, row(b, 0)));
        if self.masked {
            let dtoken = args.out(1);
            dtoken.fill(T::ZERO);
            for patch in (0..batch * (tokens - 1)).filter(|&p| mask[p] != 0) {
                sum(dtoken, row(patch / (tokens - 1), patch % (tokens - 1) + 1));
            }
        }
        if self.pos {
            par_chunks(args.out(1 + usize::from(self.masked)), d, |t, dpos| {
                dpos.fill(T::ZERO);
                (0..batch).for_each(|b| sum(dpos, row(b, t)));
            });
        }
    }
}

impl Op for EmbedGradParams {
    fn name(&self) -> &'static str {
        "embed_grad_params"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1 + usize::from(self.masked))?;
        self.shapes.iter().map(|s| TensorType::real(s)).collect()
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (batch, tokens, d) = (inputs[0].dim(0), inputs[0].dim(1), inputs[0].dim(2));
        let vec = vector(&[d]);
        let over_images = |out: usize, n: usize| {
            let call = KernelCall::new("embed", "sum_images").writes(&[out]).reads(&[0]);
            call.words(&[n, batch, tokens * d / vec]).each(n, vec)
        };
        let mut kernels = Kernels::from(over_images(0, d / vec));
        if self.pos {
            kernels.calls.push(over_images(1 + usize::from(self.masked), tokens * d / vec));
        }
        if self.masked {
            let (rows, block) = (batch * (tokens - 1), row_block(caps));
            sum_blocks(caps, &mut kernels, rows.div_ceil(block), d, &[Arg::Out(1)], |to| {
                let n = rows.div_ceil(block) * d / vec;
                let call = KernelCall::new("embed", "token_part").bind(to[0], Access::Write).reads(&[0, 1]);
                call.words(&[n, d / vec, tokens - 1, rows, block]).each(n, vec)
            })?;
        }
        Ok(kernels)
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Words};
    for (batch, n, d) in [(1, 1, 1), (2, 3, 5), (1, 17, 33), (3, 4, 65), (2, 5, 256), (33, 2, 3), (1, 257, 7)]
    {
        let (patches, tokens, token) = ([batch, n, d], [batch, n + 1, d], [1, 1, d]);
        let (cells, positions) = ([batch, n], [1, n + 1, d]);
        for (masked, pos) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut inputs: Vec<(&[usize], _)> = vec![(&patches, Normal), (&token, Normal)];
            let mut grads: Vec<(&[usize], _)> = vec![(&tokens, Normal)];
            let mut shapes = vec![token.to_vec()];
            if masked {
                inputs.extend([(&token[..], Normal), (&cells[..], Words(2))]);
                grads.push((&cells, Words(2)));
                shapes.push(token.to_vec());
            }
            if pos {
                inputs.push((&positions, Normal));
                shapes.push(positions.to_vec());
            }
            b.add(Embed { masked, pos }, &inputs);
            b.add(EmbedGradPatches { masked }, &grads);
            b.add(EmbedGradParams { masked, pos, shapes }, &grads);
        }
    }
}
