//! The checks of the generic suite; each returns what is wrong, so that seeded mistakes can be expected to fail.

use super::probe::{Probe, Returns, contents, probe};
use beit::Result;
use beit::cpu::CpuSession;
use beit::graph::TensorType;
use beit::ops::{Caps, Fill, Op};
use beit::plan::{CompileOptions, Plan, compile};
use beit::rng::{Key, Stream};
use beit::session::{Data, HostData, PlanId, Session};
use std::sync::Arc;

/// Operand types and contents.
pub type Operands = [(TensorType, Fill)];

/// Step of central differences.
pub const EPS: f64 = 1e-5;
/// Largest error of a gradient against central differences, relative to the gradient's norm.
pub const GRADIENT: f64 = 1e-6;

/// Largest errors of a device against the f64 session.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// L2 norm of the error over the L2 norm of the reference.
    pub l2: f64,
    /// Largest error over largest value.
    pub max: f64,
}
/// Of results.
pub const FORWARD: Tolerance = Tolerance { l2: 1e-5, max: 5e-5 };
/// Of gradients.
pub const VJP: Tolerance = Tolerance { l2: 2e-5, max: 1e-4 };

/// Of results with operands and results in half precision, which has eleven binary digits.
pub const HALF: Tolerance = Tolerance { l2: 2e-3, max: 1e-2 };

/// Loads a plan and writes its inputs.
///
/// # Errors
/// Whatever the session returns.
pub fn load(session: &mut dyn Session, plan: &Arc<Plan>, inputs: &[(String, HostData)]) -> Result<PlanId> {
    let id = session.load(plan.clone())?;
    for (name, data) in inputs {
        let used = plan.input(name).is_some();
        match data {
            HostData::F32(v) if used => session.write(id, name, Data::F32(v))?,
            HostData::U32(v) if used => session.write(id, name, Data::U32(v))?,
            _ => {}
        }
    }
    Ok(id)
}

/// All outputs of one run.
///
/// # Errors
/// Whatever the session returns.
pub fn run(
    session: &mut dyn Session,
    plan: &Arc<Plan>,
    inputs: &[(String, HostData)],
) -> Result<Vec<HostData>> {
    let id = load(session, plan, inputs)?;
    session.run(id)?;
    plan.outputs.iter().map(|port| session.read(id, &port.name)).collect()
}

/// All outputs of the f64 session, unrounded.
///
/// # Errors
/// Whatever the session returns.
pub fn reference(plan: &Arc<Plan>, inputs: &[(String, HostData)]) -> Result<Vec<Vec<f64>>> {
    let mut session = CpuSession::<f64>::new();
    let id = load(&mut session, plan, inputs)?;
    session.run(id)?;
    plan.outputs.iter().map(|port| session.read_f64(id, &port.name)).collect()
}

/// Compiles a probe for the CPU.
///
/// # Errors
/// If the planner refuses.
pub fn plan(p: &Probe) -> Result<Arc<Plan>> {
    plan_for(p, &Caps::cpu())
}

/// Compiles a probe for an adapter.
///
/// # Errors
/// If the planner refuses or an op has no kernel.
pub fn plan_for(p: &Probe, caps: &Caps) -> Result<Arc<Plan>> {
    Ok(Arc::new(compile("probe", &p.graph, &[], caps, &CompileOptions::default())?))
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The vjp of an op against central differences, all in f64. `Ok(false)` if the op has no derivative.
///
/// # Errors
/// A description of the first operand whose gradient is wrong.
pub fn gradient(op: &Arc<dyn Op>, operands: &Operands) -> std::result::Result<bool, String> {
    gradient_of(op, operands).map_err(|e| e.to_string())?
}

fn gradient_of(op: &Arc<dyn Op>, operands: &Operands) -> Result<std::result::Result<bool, String>> {
    let p = probe(op, operands, Returns::Gradients)?;
    if !p.differentiable {
        return Ok(Ok(false));
    }
    let grads = reference(&plan(&p)?, &p.inputs)?;
    let value = probe(op, operands, Returns::Loss)?;
    let value_plan = plan(&value)?;
    let mut session = CpuSession::<f64>::new();
    let id = load(&mut session, &value_plan, &value.inputs)?;
    for (i, (ty, _)) in operands.iter().enumerate() {
        if ty.dtype() != beit::graph::DType::F32 || !op.differentiable(i) {
            continue;
        }
        let name = format!("x{i}");
        let Some((_, HostData::F32(x))) = value.inputs.iter().find(|(n, _)| *n == name) else { continue };
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        // An operand without a gradient must not change the value.
        let zeros = vec![0.0; x.len()];
        let gradient = p.operands.iter().position(|&o| o == i).map_or(&zeros, |at| &grads[at]);
        for trial in 0..2 {
            let key = Key::new(23, Stream::Test, 10 * i as u32 + trial);
            let direction: Vec<f64> = (0..x.len() as u32).map(|e| f64::from(key.normal(e))).collect();
            let mut at = |s: f64| -> Result<f64> {
                let moved: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + s * d).collect();
                session.write_f64(id, &name, &moved)?;
                session.run(id)?;
                Ok(session.read_f64(id, "loss")?[0])
            };
            let (up, down) = (at(EPS)?, at(-EPS)?);
            let numeric = (up - down) / (2.0 * EPS);
            let analytic: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
            // Rounding of the two values bounds what a difference can show of a gradient that is nearly 0.
            let floor = 1e-4 * up.abs().max(down.abs()).max(1e-3);
            let error = (numeric - analytic).abs() / norm(gradient).max(floor);
            if error.is_nan() || error > GRADIENT {
                return Ok(Err(format!(
                    "gradient of operand {i}: {analytic:e}, central difference {numeric:e}, error {error:.1e}"
                )));
            }
        }
        session.write_f64(id, &name, &x)?;
    }
    Ok(Ok(true))
}

/// Compares one output with its reference; returns the L2-relative error.
///
/// # Errors
/// A description of the difference.
pub fn compare(what: &str, got: &HostData, want: &[f64], tol: Tolerance) -> std::result::Result<f64, String> {
    let got: Vec<f64> = match got {
        HostData::U32(words) => {
            return match words.iter().zip(want).position(|(&g, &w)| f64::from(g) != w) {
                None if words.len() == want.len() => Ok(0.0),
                at => Err(format!("{what}: words differ at {at:?}")),
            };
        }
        HostData::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
    };
    if got.len() != want.len() {
        return Err(format!("{what}: {} elements, not {}", got.len(), want.len()));
    }
    let same = |g: f64, w: f64| g == w || (g.is_nan() && w.is_nan());
    let error: Vec<f64> = got.iter().zip(want).map(|(&g, &w)| if same(g, w) { 0.0 } else { g - w }).collect();
    let finite: Vec<f64> = want.iter().copied().filter(|w| w.is_finite()).collect();
    let largest = |v: &[f64]| v.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    // Values that cancel to nothing are compared with the rounding of numbers of size 1.
    let floor = 1e-2;
    let l2 = norm(&error) / norm(&finite).max(floor * (want.len() as f64).sqrt().min(10.0));
    let max = largest(&error) / largest(&finite).max(floor);
    if error.iter().any(|e| e.is_nan()) || l2.is_nan() || l2 > tol.l2 || max > tol.max {
        let at = (0..error.len()).max_by(|&a, &b| error[a].abs().total_cmp(&error[b].abs())).unwrap_or(0);
        return Err(format!(
            "{what}: L2-relative error {l2:.1e}, largest {max:.1e}; at {at}: {} instead of {}",
            got[at], want[at]
        ));
    }
    Ok(l2)
}

/// Names the outputs of a plan by what they are.
pub fn compare_all(
    plan: &Plan,
    got: &[HostData],
    want: &[Vec<f64>],
    tol: Tolerance,
) -> std::result::Result<f64, String> {
    let mut worst = 0.0f64;
    for ((port, got), want) in plan.outputs.iter().zip(got).zip(want) {
        worst = worst.max(compare(&port.name, got, want, tol)?);
    }
    Ok(worst)
}

/// The CPU session in f32 against the one in f64, results and gradients; the worst L2-relative errors of each.
///
/// # Errors
/// A description of the first difference.
pub fn single(op: &Arc<dyn Op>, operands: &Operands) -> std::result::Result<(f64, f64), String> {
    let one = |returns, tol| -> std::result::Result<f64, String> {
        let p = probe(op, operands, returns).map_err(|e| e.to_string())?;
        let plan = plan(&p).map_err(|e| e.to_string())?;
        let want = reference(&plan, &p.inputs).map_err(|e| e.to_string())?;
        let got = run(&mut CpuSession::<f32>::new(), &plan, &p.inputs).map_err(|e| e.to_string())?;
        compare_all(&plan, &got, &want, tol)
    };
    Ok((one(Returns::Results, FORWARD)?, one(Returns::Gradients, VJP)?))
}

/// The bytes of outputs, for comparisons bit by bit.
pub fn bits(outputs: &[HostData]) -> Vec<Vec<u32>> {
    let word = |o: &HostData| match o {
        HostData::F32(v) => v.iter().map(|x| x.to_bits()).collect(),
        HostData::U32(v) => v.clone(),
    };
    outputs.iter().map(word).collect()
}

/// Random contents again, for tests that lay out operands themselves.
pub fn fill(operands: &Operands, i: usize) -> HostData {
    contents(operands[i].1, operands[i].0.elements(), i)
}
