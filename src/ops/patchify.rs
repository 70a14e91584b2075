//! Cuts NHWC images into flattened patches, so that the patch embedding is a matrix product (beit-spec §2.2).
//!
//! A row holds one patch in the order (channel, row, column), the order of the convolution weights `[D,C,P,P]`. The kernels
//! are those of [`super::fold`].

use super::{Args, Op, Vjp, arity, cpu_kernel};
use crate::cpu::{Real, par_chunks};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

use super::fold::{Fold, Unfold, Window};
use super::{Caps, Kernels};

/// `y[B, H/P·W/P, C·P·P]` from `x[B,H,W,C]`.
#[derive(Debug, Clone)]
pub(crate) struct Patchify {
    pub patch: usize,
}

/// The inverse: images of `shape` from patches.
#[derive(Debug, Clone)]
pub(crate) struct Unpatchify {
    pub patch: usize,
    pub shape: Vec<usize>,
}

/// Flattened patches of `x[B,H,W,C]`, row-major over the grid.
///
/// # Errors
/// If the sides are not multiples of the patch.
pub fn patchify(g: &mut Graph, x: Var, patch: usize) -> Result<Var> {
    g.apply(Patchify { patch }, &[x])
}

/// The reverse of [`patchify`]: images of `shape` `[B,H,W,C]`.
///
/// # Errors
/// If the elements are not as many, or the sides not multiples of the patch.
pub fn unpatchify(g: &mut Graph, patches: Var, patch: usize, shape: &[usize]) -> Result<Var> {
    g.apply(Unpatchify { patch, shape: shape.to_vec() }, &[patches])
}

/// Pixel element of patch row `row`, element `e` of an image batch `[B,h,w,c]`.
fn pixel(row: usize, e: usize, p: usize, (h, w, c): (usize, usize, usize)) -> usize {
    let (gh, gw) = (h / p, w / p);
    let (b, py, px) = (row / (gh * gw), row / gw % gh, row % gw);
    let (ch, y, x) = (e / (p * p), e / p % p, e % p);
    ((b * h + py * p + y) * w + px * p + x) * c + ch
}

/// Patches are windows side by side: their type with the grid in two dimensions.
fn windows(image: &TensorType, patch: usize) -> Result<(TensorType, Window)> {
    let size = image.dim(3) * patch * patch;
    let windows = TensorType::real(&[image.dim(0), image.dim(1) / patch, image.dim(2) / patch, size])?;
    Ok((windows, Window { k: patch, stride: patch, pad: 0 }))
}

impl Patchify {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let t = args.ty(0);
        let size = (t.dim(1), t.dim(2), t.dim(3));
        let x = args.real(0);
        par_chunks(args.out(0), size.2 * self.patch * self.patch, |row, y| {
            let (p, (_, w, c)) = (self.patch, size);
            let corner = &x[pixel(row, 0, p, size)..];
            for (ch, y) in y.chunks_mut(p * p).enumerate() {
                for (line, y) in y.chunks_mut(p).enumerate() {
                    let x = corner[line * w * c + ch..].iter().step_by(c);
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x);
                }
            }
        });
    }
}

impl Op for Patchify {
    fn name(&self) -> &'static str {
        "patchify"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        match *inputs[0].shape() {
            [b, h, w, c] if self.patch > 0 && h % self.patch == 0 && w % self.patch == 0 => {
                let p = self.patch;
                Ok(vec![TensorType::real(&[b, h / p * (w / p), c * p * p])?])
            }
            _ => Err(Error::shape("image sides must be multiples of the patch")
                .expected(format!("[B,H,W,C] with H and W multiples of {}", self.patch))
                .got(inputs[0].to_string())),
        }
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, shape) = (v.cotangent()?, v.g.shape(v.inputs[0]).to_vec());
        v.grads[0] = Some(v.g.apply(Unpatchify { patch: self.patch, shape }, &[dy])?);
        Ok(())
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (windows, window) = windows(&inputs[0], self.patch)?;
        Unfold { window }.kernels(caps, inputs, &[windows])
    }
    cpu_kernel!();
}

impl Unpatchify {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (p, t) = (self.patch, args.out_ty(0));
        let (h, w, c) = (t.dim(1), t.dim(2), t.dim(3));
        let y = args.real(0);
        par_chunks(args.out(0), c, |at, x| {
            let (b, py, px) = (at / (h * w), at / w % h, at % w);
            let row = (b * (h / p) + py / p) * (w / p) + px / p;
            for (ch, x) in x.iter_mut().enumerate() {
                *x = y[row * c * p * p + (ch * p + py % p) * p + px % p];
            }
        });
    }
}

impl Op for Unpatchify {
    fn name(&self) -> &'static str {
        "unpatchify"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let out = TensorType::real(&self.shape)?;
        if !matches!(*out.shape(), [_, h, w, _] if self.patch > 0 && h % self.patch == 0 && w % self.patch == 0)
        {
            return Err(Error::shape("image sides must be multiples of the patch")
                .expected(format!("[B,H,W,C] with H and W multiples of {}", self.patch))
                .got(out.to_string()));
        }
        super::expect_elements("patches", &inputs[0], out.elements())?;
        Ok(vec![out])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(Patchify { patch: self.patch }, &[dy])?);
        Ok(())
    }
    fn kernels(&self, caps: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let (windows, window) = windows(&outputs[0], self.patch)?;
        let (height, width) = (outputs[0].dim(1), outputs[0].dim(2));
        Fold { window, height, width, bias: false }.kernels(caps, &[windows], outputs)
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for (batch, gh, gw, c, patch) in [
        (1, 1, 1, 1, 1),
        (1, 2, 3, 3, 2),
        (2, 3, 2, 1, 5),
        (1, 1, 7, 3, 4),
        (3, 2, 2, 4, 3),
        (1, 4, 4, 3, 16),
        (2, 5, 3, 2, 7),
        (1, 17, 9, 3, 1),
    ] {
        let image = [batch, gh * patch, gw * patch, c];
        b.add(Patchify { patch }, &[(&image, Normal)]);
        let op = Unpatchify { patch, shape: image.to_vec() };
        b.add(op, &[(&[batch, gh * gw, c * patch * patch], Normal)]);
    }
}
