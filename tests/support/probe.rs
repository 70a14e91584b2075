//! A sample in the middle of a graph: an element-wise op before each operand and after the first result, a random
//! projection at the end.

use super::{Project, Shared, is_missing_vjp};
use beit::Result;
use beit::graph::{DType, Graph, Var, grad};
use beit::ops::{Fill, Op, gelu, scale};
use beit::rng::{Key, Stream};
use beit::session::HostData;
use std::sync::Arc;

/// Factor of the op before: a power of two, so that the op under test sees the same numbers in f32 and f64.
const BEFORE: f32 = 0.5;

/// A graph around one op and everything that the host writes.
pub struct Probe {
    /// Outputs: `y0…` the op's results, `g0…` the gradients of the operands in `operands`, `loss` if asked for.
    pub graph: Graph,
    /// Inputs by name: operands `x0…`, cotangents `r`.
    pub inputs: Vec<(String, HostData)>,
    /// Operands with a gradient.
    pub operands: Vec<usize>,
    /// Names of the outputs that are the op's results.
    pub results: Vec<String>,
    /// Whether the op has a derivative.
    pub differentiable: bool,
}

/// What the graph returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// The projected scalar only.
    Loss,
    /// Results of the op.
    Results,
    /// Gradients.
    Gradients,
}

/// Random contents of an operand.
pub fn contents(fill: Fill, elements: usize, index: usize) -> HostData {
    let key = Key::new(17, Stream::Test, index as u32);
    match fill.dtype() {
        DType::F32 | DType::F16 => HostData::F32(fill.reals(key, elements)),
        DType::U32 => HostData::U32(fill.words(key, elements)),
    }
}

/// Draws the graph of a sample; around an op without a derivative there is nothing but what it updates in place.
///
/// # Errors
/// If the op refuses its operands, or its vjp fails for another reason than not existing.
pub fn probe(
    op: &Arc<dyn Op>,
    operands: &[(beit::graph::TensorType, Fill)],
    returns: Returns,
) -> Result<Probe> {
    let p = draw(op, operands, returns, true)?;
    if p.differentiable { Ok(p) } else { draw(op, operands, returns, false) }
}

fn draw(
    op: &Arc<dyn Op>,
    operands: &[(beit::graph::TensorType, Fill)],
    returns: Returns,
    scaled: bool,
) -> Result<Probe> {
    let mut g = Graph::new();
    let mut inputs = Vec::new();
    let (mut wrt, mut wrt_index, mut placed) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (ty, fill)) in operands.iter().enumerate() {
        let name = format!("x{i}");
        inputs.push((name.clone(), contents(*fill, ty.elements(), i)));
        let updated = op.in_place().iter().any(|&(a, _)| a == i);
        let x = match ty.dtype() {
            DType::F32 | DType::F16 => g.input(&name, ty.shape())?,
            DType::U32 => g.input_words(&name, ty.shape())?,
        };
        let active = ty.dtype() == DType::F32 && op.differentiable(i);
        placed.push(if (active && scaled) || updated { scale(&mut g, x, BEFORE)? } else { x });
        if active {
            wrt.push(x);
            wrt_index.push(i);
        }
    }
    let outs = g.apply_all(Shared(op.clone()), &placed)?;
    let mut results = Vec::new();
    for (o, &y) in outs.iter().enumerate() {
        results.push(format!("y{o}"));
        if returns == Returns::Results {
            g.output(&results[o], y);
        }
    }
    let drawn = draw_gradient(&mut g, outs[0], &wrt, &mut inputs);
    let differentiable = match &drawn {
        Err(e) if is_missing_vjp(e) => false,
        Err(e) => return Err(e.clone()),
        Ok(_) => !wrt.is_empty(),
    };
    let (mut with_gradient, mut loss) = (Vec::new(), None);
    if let Ok((scalar, grads)) = drawn {
        loss = Some(scalar);
        for (i, gradient) in wrt_index.into_iter().zip(grads) {
            if let Some(gradient) = gradient {
                with_gradient.push(i);
                if returns == Returns::Gradients {
                    g.output(&format!("g{i}"), gradient);
                }
            }
        }
    }
    if let (Returns::Loss, Some(loss)) = (returns, loss) {
        g.output("loss", loss);
    }
    let used = |name: &str| returns != Returns::Results || name != "r";
    inputs.retain(|(name, _)| used(name));
    Ok(Probe { graph: g, inputs, operands: with_gradient, results, differentiable })
}

/// A graph in which everything that an op reads and writes may be kept in half precision: a copy before each real operand
/// and after each real result. The outputs are `y0…`.
///
/// # Errors
/// If the op refuses its operands.
pub fn between_copies(op: &Arc<dyn Op>, operands: &[(beit::graph::TensorType, Fill)]) -> Result<Probe> {
    let mut g = Graph::new();
    let (mut inputs, mut placed) = (Vec::new(), Vec::new());
    for (i, (ty, fill)) in operands.iter().enumerate() {
        let name = format!("x{i}");
        inputs.push((name.clone(), contents(*fill, ty.elements(), i)));
        placed.push(match ty.dtype() {
            DType::U32 => g.input_words(&name, ty.shape())?,
            _ => {
                let x = g.input(&name, ty.shape())?;
                scale(&mut g, x, BEFORE)?
            }
        });
    }
    let outs = g.apply_all(Shared(op.clone()), &placed)?;
    let mut results = Vec::new();
    for (o, &y) in outs.iter().enumerate() {
        let y = if g.ty(y).dtype() == DType::U32 { y } else { scale(&mut g, y, 1.0 / BEFORE)? };
        results.push(format!("y{o}"));
        g.output(&results[o], y);
    }
    Ok(Probe { graph: g, inputs, operands: vec![], results, differentiable: false })
}

type Drawn = (Var, Vec<Option<Var>>);

fn draw_gradient(g: &mut Graph, y: Var, wrt: &[Var], inputs: &mut Vec<(String, HostData)>) -> Result<Drawn> {
    if g.ty(y).dtype() != DType::F32 {
        return Err(beit::Error::shape("no derivative"));
    }
    let z = gelu(g, y)?;
    let elements = g.ty(z).elements();
    let shape = g.shape(z).to_vec();
    let r = g.input("r", &shape)?;
    inputs.push(("r".into(), contents(Fill::Normal, elements, 1000)));
    let scalar = g.apply(Project, &[z, r])?;
    Ok((scalar, grad(g, scalar, wrt)?))
}
