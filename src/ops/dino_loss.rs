//! The loss of self-distillation with several crops (beit-spec §8.2).
//!
//! Mean over the pairs (teacher view a of two, student view v ≠ a) and the batch of `−Σ p_a·log q_v` with
//! `p = softmax((t − centre)/τ_t)` and `q = softmax(s/τ_s)`. Student row `(v, b)` meets the sum of its teachers' rows.

use super::units::vector;
use super::{Access, Arg, Args, Caps, KernelCall, Kernels, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, chunked_sum, par_chunks, par_chunks2};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

/// Results `loss[1]`, `targets[2B,K]`, `lse[V·B]`; from `student[V·B,K]`, `teacher[2B,K]`, `centre[K]`,
/// `temperature[1]` of the teacher.
#[derive(Debug, Clone)]
pub(crate) struct DinoLoss {
    pub student_temp: f32,
}

/// `dstudent` from `dloss[1]`, `student`, `targets`, `lse`.
#[derive(Debug, Clone)]
pub(crate) struct DinoLossGrad {
    pub student_temp: f32,
}

/// What [`dino_loss`] draws.
#[derive(Debug, Clone, Copy)]
pub struct DinoLossOut {
    /// The loss, `[1]`.
    pub loss: Var,
    /// The teacher's distributions, `[2B,K]`.
    pub targets: Var,
}

/// Draws the loss. Rows are view after view, the two global ones first; no gradient flows to the teacher.
///
/// # Errors
/// If the rows are not whole views of one batch.
pub fn dino_loss(
    g: &mut Graph,
    student: Var,
    teacher: Var,
    centre: Var,
    temperature: Var,
    student_temp: f32,
) -> Result<DinoLossOut> {
    let out = g.apply_all(DinoLoss { student_temp }, &[student, teacher, centre, temperature])?;
    Ok(DinoLossOut { loss: out[0], targets: out[1] })
}

/// Batch and number of student views.
fn sizes(student: &TensorType, teacher: &TensorType) -> (usize, usize) {
    let batch = teacher.rows() / 2;
    (batch, student.rows() / batch.max(1))
}

/// Factor of the sum over pairs and batch.
fn inverse(student: &TensorType, teacher: &TensorType) -> f64 {
    let (batch, views) = sizes(student, teacher);
    1.0 / ((2 * views - 2) * batch) as f64
}

/// The teacher views that student view `v` is compared with: 0 and 1, but not itself.
fn teachers(v: usize) -> impl Iterator<Item = usize> {
    (0..2).filter(move |&a| a != v)
}

fn check(student: &TensorType, teacher: &TensorType) -> Result<()> {
    let (batch, views) = sizes(student, teacher);
    let whole = teacher.rows() == 2 * batch && student.rows() == views * batch;
    if !whole || batch == 0 || views < 2 || student.cols() != teacher.cols() {
        return Err(Error::shape("rows are not whole views of one batch")
            .expected("student[V·B,K] and teacher[2·B,K] with at least two views")
            .got(format!("{student} and {teacher}")));
    }
    Ok(())
}

impl DinoLoss {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (k, (batch, _)) = (args.ty(0).cols(), sizes(args.ty(0), args.ty(1)));
        let inv = T::of(inverse(args.ty(0), args.ty(1)));
        let (s, t, centre) = (args.real(0), args.real(1), args.real(2));
        let (hot, cold) = (T::of(1.0 / f64::from(self.student_temp)), T::ONE / args.real(3)[0]);
        let (loss, targets, lse) = (args.out(0), args.out(1), args.out(2));
        par_chunks(targets, k, |r, p| {
            p.iter_mut().enumerate().for_each(|(i, p)| *p = (t[r * k + i] - centre[i]) * cold);
            let max = p.iter().fold(p[0], |m, &v| m.max(v));
            p.iter_mut().for_each(|p| *p = (*p - max).exp());
            let inv = T::ONE / p.iter().fold(T::ZERO, |s, &v| s + v);
            p.iter_mut().for_each(|p| *p *= inv);
        });
        let mut rows = vec![T::ZERO; lse.len()];
        let targets = &*targets;
        par_chunks2(&mut rows, lse, (1, 1), |r, value, lse| {
            let (v, b, s) = (r / batch, r % batch, &s[r * k..][..k]);
            let max = s.iter().fold(s[0], |m, &x| m.max(x)) * hot;
            lse[0] = max + s.iter().fold(T::ZERO, |sum, &x| sum + (x * hot - max).exp()).ln();
            for a in teachers(v) {
                let p = &targets[(a * batch + b) * k..][..k];
                value[0] += p.iter().zip(s).fold(T::ZERO, |sum, (&p, &x)| sum + p * (lse[0] - x * hot));
            }
        });
        loss[0] = inv * chunked_sum(rows.len(), 1024, |r| r.fold(T::ZERO, |s, i| s + rows[i]));
    }
}

impl Op for DinoLoss {
    fn name(&self) -> &'static str {
        "dino_loss"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 4)?;
        check(&inputs[0], &inputs[1])?;
        expect_elements("centre", &inputs[2], inputs[0].cols())?;
        expect_elements("temperature", &inputs[3], 1)?;
        Ok(vec![TensorType::real(&[1])?, inputs[1].clone(), TensorType::real(&[inputs[0].rows()])?])
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let inputs = [v.cotangent()?, v.inputs[0], v.outputs[1], v.outputs[2]];
        v.grads[0] = Some(v.g.apply(DinoLossGrad { student_temp: self.student_temp }, &inputs)?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        8 * (inputs[0].elements() + inputs[1].elements()) as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, k, (batch, _)) = (inputs[0].rows(), inputs[0].cols(), sizes(&inputs[0], &inputs[1]));
        let vec = vector(&[k]);
        let teacher = KernelCall::new("dino_loss", "targets").writes(&[1]).reads(&[1, 2, 3]);
        let teacher = teacher.words(&[2 * batch, k / vec]).rows(caps, 2 * batch, k / vec, vec);
        let student =
            KernelCall::new("dino_loss", "student").writes(&[2]).bind(Arg::Scratch(0), Access::Write);
        let student = student.reads(&[0]).bind(Arg::Out(1), Access::Read).words(&[rows, k / vec, batch]);
        let student =
            student.float((1.0 / f64::from(self.student_temp)) as f32).rows(caps, rows, k / vec, vec);
        let sum = KernelCall::new("reduce", "sum").writes(&[0]).bind(Arg::Scratch(0), Access::Read);
        let sum = sum.words(&[rows, rows]).float(inverse(&inputs[0], &inputs[1]) as f32).alone(1);
        Ok(Kernels { calls: vec![teacher, student, sum], scratch: vec![TensorType::real(&[rows])?] })
    }
    cpu_kernel!();
}

impl DinoLossGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (k, (batch, _)) = (args.ty(1).cols(), sizes(args.ty(1), args.ty(2)));
        let hot = T::of(1.0 / f64::from(self.student_temp));
        let factor = args.real(0)[0] * T::of(inverse(args.ty(1), args.ty(2))) * hot;
        let (s, targets, lse) = (args.real(1), args.real(2), args.real(3));
        par_chunks(args.out(0), k, |r, ds| {
            let (v, b, s) = (r / batch, r % batch, &s[r * k..][..k]);
            let n = T::of(teachers(v).count() as f64);
            for (i, ds) in ds.iter_mut().enumerate() {
                let p = teachers(v).fold(T::ZERO, |sum, a| sum + targets[(a * batch + b) * k + i]);
                *ds = factor * (n * (s[i] * hot - lse[r]).exp() - p);
            }
        });
    }
}

impl Op for DinoLossGrad {
    fn name(&self) -> &'static str {
        "dino_loss_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 4)?;
        expect_elements("cotangent", &inputs[0], 1)?;
        check(&inputs[1], &inputs[2])?;
        expect_elements("log-sum-exp", &inputs[3], inputs[1].rows())?;
        Ok(vec![inputs[1].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        6 * inputs[1].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (k, (batch, _)) = (inputs[1].cols(), sizes(&inputs[1], &inputs[2]));
        let vec = vector(&[k]);
        let n = inputs[1].elements() / vec;
        let hot = 1.0 / f64::from(self.student_temp);
        let call = KernelCall::new("dino_loss", "grad").writes(&[0]).reads(&[0, 1, 2, 3]);
        let call = call.words(&[n, k / vec, batch]).float(hot as f32);
        Ok(call.float((inverse(&inputs[1], &inputs[2]) * hot) as f32).each(n, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Uniform};
    for (batch, views, k) in
        [(1, 2, 3), (2, 3, 8), (3, 5, 24), (1, 10, 65), (5, 4, 17), (2, 2, 257), (7, 3, 4)]
    {
        let (s, t): (&[usize], &[usize]) = (&[views * batch, k], &[2 * batch, k]);
        let (one, wide, rows): (&[usize], &[usize], &[usize]) = (&[1], &[k], &[views * batch]);
        let temperature = (one, Uniform(0.5, 0.7));
        b.add(DinoLoss { student_temp: 0.3 }, &[(s, Normal), (t, Normal), (wide, Normal), temperature]);
        let targets = (t, Uniform(0.0, 0.1));
        let inputs = [(one, Normal), (s, Normal), targets, (rows, Uniform(5.0, 9.0))];
        b.add(DinoLossGrad { student_temp: 0.3 }, &inputs);
    }
}
