//! Times the variants of matrix products on an adapter, once for each class of shapes, and keeps what was found.
//!
//! A variant whose result differs from the f64 session's is never chosen. The choices of an adapter, its driver and this
//! version are one small file in the user's cache folder; a checkpoint's plan names the variants it was made with.

use super::{Gpu, GpuSession};
use crate::cpu::CpuSession;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::{Caps, Choices, ProductVariant, ShapeClass, matmul};
use crate::plan::{CompileOptions, Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, PlanId, Session};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Largest L2-relative error of a variant that may be chosen, and that of one for half precision.
const TOLERANCE: f64 = 1e-5;
const HALF_TOLERANCE: f64 = 2e-3;
/// Timed runs of each variant, in alternation.
const ROUNDS: usize = 5;
/// Another variant than the rule's must be faster by this factor: noise is not worth a change.
const MARGIN: f64 = 1.05;

/// One variant on the example of one class of shapes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Number of the class in [`ShapeClass::ALL`].
    pub class: usize,
    /// The variant.
    pub variant: ProductVariant,
    /// Median of the timed runs.
    pub seconds: f64,
    /// L2 norm of the error over the L2 norm of the result; `None` if it has non-finite elements.
    pub error: Option<f64>,
}

impl Timing {
    fn is_right(&self) -> bool {
        let rounds = self.variant == ProductVariant::Coop;
        self.error.is_some_and(|e| e <= if rounds { HALF_TOLERANCE } else { TOLERANCE })
    }
}

/// What is kept of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Adapter, driver and version that it holds for.
    pub adapter: String,
    /// The choices.
    pub choices: Choices,
    /// What they rest on.
    pub timings: Vec<Timing>,
}

/// The variants that are timed on an adapter.
fn candidates(caps: &Caps) -> Vec<ProductVariant> {
    ProductVariant::ALL.into_iter().filter(|v| v.suits(caps)).collect()
}

fn identity(gpu: &Gpu) -> String {
    let info = gpu.info();
    let half = if gpu.caps().half { ", f16" } else { "" };
    format!("{}, {}, {}, version {}{half}", info.name, info.backend, info.driver, env!("CARGO_PKG_VERSION"))
}

/// Times all variants that fit the adapter's class.
///
/// # Errors
/// If the device fails; a variant that does not compile is an error too.
pub fn tune(gpu: &Gpu) -> Result<Tuning> {
    let (mut choices, mut timings) = ([None; 4], Vec::new());
    for class in ShapeClass::ALL {
        let timed = time_class(gpu, class)?;
        choices[class.index()] = best(&gpu.caps(), class, &timed);
        timings.extend(timed);
    }
    Ok(Tuning { adapter: identity(gpu), choices, timings })
}

/// The fastest right variant, if it is not the rule's and worth a change.
fn best(caps: &Caps, class: ShapeClass, timings: &[Timing]) -> Option<ProductVariant> {
    let rule = ProductVariant::by_rule(caps, class.example(), true);
    let right = timings.iter().filter(|t| t.is_right());
    let fastest = right.clone().min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
    let of_rule = right.clone().find(|t| t.variant == rule);
    let worth = of_rule.is_none_or(|r| r.seconds > MARGIN * fastest.seconds);
    worth.then_some(fastest.variant)
}

fn plan_with(class: ShapeClass, caps: &Caps) -> Result<Arc<Plan>> {
    let (m, n, k) = class.example();
    let mut g = Graph::new();
    let (a, b) = (g.input("a", &[m, k])?, g.input("b", &[n, k])?);
    let c = matmul(&mut g, a, b, false, true)?;
    g.output("c", c);
    Ok(Arc::new(compile("product", &g, &[], caps, &CompileOptions::default())?))
}

fn load(session: &mut dyn Session, class: ShapeClass, plan: Arc<Plan>) -> Result<PlanId> {
    let (m, n, k) = class.example();
    let numbers = |count: usize, salt: u32| {
        let key = Key::new(0, Stream::Test, salt);
        (0..count as u32).map(|i| key.normal(i)).collect::<Vec<f32>>()
    };
    let id = session.load(plan)?;
    session.write(id, "a", Data::F32(&numbers(m * k, 0)))?;
    session.write(id, "b", Data::F32(&numbers(n * k, 1)))?;
    session.run(id)?;
    Ok(id)
}

fn time_class(gpu: &Gpu, class: ShapeClass) -> Result<Vec<Timing>> {
    let mut oracle = CpuSession::<f64>::new();
    let id = load(&mut oracle, class, plan_with(class, &Caps::cpu())?)?;
    let want = oracle.read_f64(id, "c")?;
    let mut session = GpuSession::new(gpu.clone());
    let mut loaded = Vec::new();
    for variant in candidates(&gpu.caps()) {
        let caps = Caps { products: [Some(variant); 4], ..gpu.caps() };
        let id = load(&mut session, class, plan_with(class, &caps)?)?;
        let error = relative_error(&session.read(id, "c")?.f32(), &want);
        loaded.push((variant, id, error, Vec::with_capacity(ROUNDS)));
    }
    for _ in 0..ROUNDS {
        for (_, id, _, times) in &mut loaded {
            let start = Instant::now();
            session.run(*id)?;
            session.finish()?;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let timing = |(variant, _, error, mut times): (ProductVariant, PlanId, Option<f64>, Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        Timing { class: class.index(), variant, seconds: times[ROUNDS / 2], error }
    };
    Ok(loaded.into_iter().map(timing).collect())
}

fn relative_error(got: &[f32], want: &[f64]) -> Option<f64> {
    let error: f64 = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).powi(2)).sum();
    let size: f64 = want.iter().map(|w| w * w).sum();
    let relative = (error / size).sqrt();
    (got.len() == want.len() && relative.is_finite()).then_some(relative)
}

/// File of an adapter's choices; `None` where there is no cache folder.
fn file(gpu: &Gpu) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME")
        .or_else(|| set("LOCALAPPDATA"))
        .or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    let hash = Sha256::digest(identity(gpu).as_bytes());
    let name: String = hash.iter().take(6).map(|b| format!("{b:02x}")).collect();
    Some(cache.join("beit").join(format!("products-{name}.json")))
}

/// The choices kept for an adapter; a file that cannot be read or belongs to another one counts as none.
pub fn kept(gpu: &Gpu) -> Option<Tuning> {
    let text = std::fs::read_to_string(file(gpu)?).ok()?;
    let found: Tuning = serde_json::from_str(&text).ok()?;
    let known = |v: &Option<ProductVariant>| v.is_none_or(|v| ProductVariant::ALL.contains(&v));
    (found.adapter == identity(gpu) && found.choices.iter().all(known)).then_some(found)
}

/// Keeps the choices of an adapter.
///
/// # Errors
/// If the file cannot be written; without a cache folder nothing is kept and that is no error.
pub fn keep(gpu: &Gpu, tuning: &Tuning) -> Result<()> {
    let Some(path) = file(gpu) else { return Ok(()) };
    let failed = |e: std::io::Error| Error::io("the timing of kernels could not be kept", &path, &e);
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    let text = serde_json::to_string_pretty(tuning)
        .map_err(|e| Error::device("timing of kernels").got(e.to_string()))?;
    std::fs::write(&path, text).map_err(failed)
}

/// The adapter with the choices kept for it. A GPU without any is timed now, a second's work; a software adapter stays
/// with the rule unless it was timed on request, because there every variant costs seconds to compile.
///
/// # Errors
/// If the device fails.
pub fn tuned(gpu: Gpu) -> Result<Gpu> {
    if let Some(found) = kept(&gpu) {
        return Ok(gpu.with_products(found.choices));
    }
    if gpu.is_software() {
        return Ok(gpu);
    }
    let found = tune(&gpu)?;
    // A folder that cannot be written only means that the next run measures again.
    let _ = keep(&gpu, &found);
    Ok(gpu.with_products(found.choices))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Tier;

    #[test]
    fn wrong_and_slow_variants_are_never_chosen() {
        let caps = Caps::guaranteed(Tier::Hardware);
        let class = ShapeClass { tall: true, wide: true };
        let rule = ProductVariant::by_rule(&caps, class.example(), true);
        let time = |variant, seconds, error| Timing { class: class.index(), variant, seconds, error };
        let others: Vec<_> = candidates(&caps).into_iter().filter(|&v| v != rule).collect();
        let chosen = |t: &[Timing]| best(&caps, class, t);
        assert_eq!(chosen(&[time(rule, 1.0, Some(0.0)), time(others[0], 0.5, Some(1e-7))]), Some(others[0]));
        assert_eq!(chosen(&[time(rule, 1.0, Some(0.0)), time(others[0], 0.5, Some(1e-3))]), None);
        assert_eq!(chosen(&[time(rule, 1.0, Some(0.0)), time(others[0], 0.5, None)]), None);
        assert_eq!(chosen(&[time(rule, 1.0, Some(0.0)), time(others[0], 0.99, Some(0.0))]), None);
        assert_eq!(chosen(&[time(rule, 0.1, None), time(others[0], 0.5, Some(0.0))]), Some(others[0]));
    }
}
