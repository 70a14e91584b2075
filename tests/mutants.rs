//! Checks that cannot fail prove nothing: each seeded mistake here must turn a check of the generic suite red.
//!
//! A mistake wraps a real op. One in a kernel changes what the f32 session computes, which the comparison with the f64
//! session must find; one in a vjp changes what is drawn, which central differences must find.

#[path = "mutants/kernels.rs"]
mod kernels;
mod support;
#[path = "mutants/vjps.rs"]
mod vjps;

use beit::Result;
use beit::graph::TensorType;
use beit::ops::{Args, Op, Sample, Vjp, samples};
use std::sync::Arc;
use support::{check, kind};

/// How an op is made wrong.
#[derive(Clone, Copy)]
pub enum Mistake {
    /// In the f32 kernel.
    Kernel(fn(&dyn Op, &mut Args<'_, f32>)),
    /// In the drawing of the vjp.
    Vjp(fn(&dyn Op, &mut Vjp<'_>) -> Result<()>),
}

/// A seeded mistake: what it is, the op it is made in, and the mistake.
pub type Mutant = (&'static str, &'static str, Mistake);

struct Wrong {
    inner: Arc<dyn Op>,
    mistake: Mistake,
}

impl std::fmt::Debug for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Op for Wrong {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        self.inner.infer(inputs)
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        match self.mistake {
            Mistake::Vjp(wrong) => wrong(&*self.inner, v),
            Mistake::Kernel(_) => self.inner.vjp(v),
        }
    }
    fn differentiable(&self, input: usize) -> bool {
        self.inner.differentiable(input)
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        self.inner.in_place()
    }
    fn run_f32(&self, args: &mut Args<'_, f32>) {
        match self.mistake {
            Mistake::Kernel(wrong) => wrong(&*self.inner, args),
            Mistake::Vjp(_) => self.inner.run_f32(args),
        }
    }
    fn run_f64(&self, args: &mut Args<'_, f64>) {
        self.inner.run_f64(args);
    }
}

/// Whether a sample's check goes red.
fn red(sample: &Sample, mistake: Mistake) -> bool {
    let wrong: Arc<dyn Op> = Arc::new(Wrong { inner: sample.op.clone(), mistake });
    match mistake {
        Mistake::Kernel(_) => check::single(&wrong, &sample.inputs).is_err(),
        Mistake::Vjp(_) => sample.smooth && check::gradient(&wrong, &sample.inputs).is_err(),
    }
}

/// Every mistake is found by some sample of its op, and by none if it is not made.
fn all_found(mutants: &[Mutant]) {
    let samples = samples();
    let survivors: Vec<String> = mutants
        .iter()
        .filter(|(_, op, mistake)| !samples.iter().filter(|s| kind(&*s.op) == *op).any(|s| red(s, *mistake)))
        .map(|(what, op, _)| format!("{op}: {what}"))
        .collect();
    assert!(survivors.is_empty(), "{} mistakes not found:\n{}", survivors.len(), survivors.join("\n"));
}

#[test]
fn mistakes_in_kernels_are_found() {
    all_found(kernels::MUTANTS);
}

#[test]
fn mistakes_in_vjps_are_found() {
    all_found(vjps::MUTANTS);
}

/// The wrapper itself changes nothing.
#[test]
fn no_mistake_is_not_found() {
    let right = |op: &dyn Op, args: &mut Args<'_, f32>| {
        let ins = support::own(args);
        support::run_on(op, &ins, args);
    };
    for s in samples().iter().filter(|s| s.inputs.iter().all(|(t, _)| t.elements() < 5000)) {
        assert!(!red(s, Mistake::Kernel(right)), "{:?}", s.op);
        assert!(!red(s, Mistake::Vjp(|op, v| op.vjp(v))), "{:?}", s.op);
    }
}

#[test]
fn there_are_enough_mistakes() {
    assert!(kernels::MUTANTS.len() + vjps::MUTANTS.len() >= 60);
    let ops = |m: &[Mutant]| m.iter().map(|m| m.1).collect::<std::collections::BTreeSet<_>>();
    assert!(ops(kernels::MUTANTS).union(&ops(vjps::MUTANTS)).count() >= 40);
}
