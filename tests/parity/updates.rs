//! `adamw` and `ema`: the update plan on given gradients.

use std::collections::BTreeMap;
use std::sync::Arc;

use beit::graph::{Graph, Init, PageKind, ParamLayout};
use beit::io::tensors::{Tensor, Tensors};
use beit::ops::{Control, Hyper};
use beit::optim::{Cosine, Decay, Rates, Schedule, Update, group_table, half_cosine, update_graph};
use beit::plan::{CompileOptions, compile};
use beit::session::{Data, PlanId, Session};

use super::case::{Array, Case, Outcome, Settings};
use super::device::{Device, pages, tensors};
use super::report::Report;

const STORE: &str = "model";
/// Elements that share an entry of the group table.
const GROUP: usize = 64;

/// One store with its update loaded.
struct Updater {
    session: Box<dyn Session>,
    layout: ParamLayout,
    plan: PlanId,
}

impl Updater {
    fn new(device: &Device, initial: &Tensors, ema: bool, decays: impl Fn(&str) -> bool) -> Outcome<Self> {
        let mut g = Graph::new();
        for (name, t) in initial {
            g.param(name, &t.shape, Init::Constant(0.0))?;
        }
        let layout = device.layout(&g, STORE)?;
        let mut session = device.session();
        let mut kinds =
            vec![PageKind::Param, PageKind::Grad, PageKind::Moment1, PageKind::Moment2, PageKind::Control];
        kinds.extend(ema.then_some(PageKind::Ema));
        session.add_store(&layout, &kinds)?;
        let update = update_graph(&layout, Update { ema, ..Update::default() })?;
        let plan = compile("update", &update, &[&layout], &device.caps, &CompileOptions::default())?;
        let plan = session.load(Arc::new(plan))?;
        let mut tables = group_table(&layout, Decay::All, Rates::Equal);
        for v in layout.views.iter().filter(|v| !decays(&v.name)) {
            for group in v.offset / GROUP..(v.offset + v.elements()).div_ceil(GROUP) {
                tables[v.page][2 * group + 1] = 0.0;
            }
        }
        for (page, table) in tables.iter().enumerate() {
            session.write(plan, &format!("groups.{page}"), Data::F32(table))?;
        }
        let mut updater = Updater { session, layout, plan };
        updater.write(PageKind::Param, initial)?;
        Ok(updater)
    }
    fn write(&mut self, kind: PageKind, tensors: &Tensors) -> Outcome {
        for (page, data) in pages(&self.layout, tensors)?.iter().enumerate() {
            self.session.write_page(STORE, kind, page, data)?;
        }
        Ok(())
    }
    fn read(&mut self, kind: PageKind) -> Outcome<BTreeMap<String, Vec<f64>>> {
        let pages: Vec<Vec<f32>> = (0..self.layout.pages.len())
            .map(|p| self.session.read_page(STORE, kind, p))
            .collect::<beit::Result<_>>()?;
        let reals =
            |t: &Tensor| -> Outcome<Vec<f64>> { Ok(t.as_f32()?.iter().map(|&x| f64::from(x)).collect()) };
        tensors(&self.layout, &pages)?.iter().map(|(n, t)| Ok((n.clone(), reals(t)?))).collect()
    }
    fn update(&mut self, hyper: &Hyper) -> Outcome<Control> {
        self.session.write(self.plan, "hyper", Data::F32(&hyper.block()))?;
        self.session.run(self.plan)?;
        Ok(Control::read(&self.session.read(self.plan, "control")?.f32()))
    }
}

/// The tensors `prefix…` of a case; with `step`, that item of their first dimension.
fn family(case: &Case, prefix: &str, step: Option<usize>) -> Outcome<Tensors> {
    let one = |a: &Array| -> Outcome<Tensor> {
        Ok(match step {
            None => Tensor::f32(a.shape.clone(), a.reals())?,
            Some(i) => Tensor::f32(a.shape[1..].to_vec(), a.item(i).iter().map(|&x| x as f32).collect())?,
        })
    };
    let own = case.io.iter().filter_map(|(n, a)| Some((n.strip_prefix(prefix)?, a)));
    own.map(|(n, a)| Ok((n.to_string(), one(a)?))).collect()
}

/// The learning rates of the case from this crate's schedule.
pub fn check_rates(report: &mut Report<'_>, c: &Settings<'_>, steps: usize) -> Outcome {
    if c.number_or_zero("warmup_start")? != 0.0 {
        return Err("case.json: warmup_start: only 0 is supported".into());
    }
    let schedule = Cosine {
        peak: c.number("lr")?,
        min: c.number("min_lr")?,
        warmup: c.count("warmup_steps")? as u64,
        total: steps as u64,
    };
    for (i, want) in c.numbers("lr_per_step")?.into_iter().enumerate() {
        let got = schedule.at(i as u64);
        if (got - want).abs() > 1e-12 {
            report.fail(format!("learning rate of update {i}: {got:e}, expected {want:e}"));
        }
    }
    Ok(())
}

/// Hyper-parameters of a case at one learning rate.
pub fn hyper(c: &Settings<'_>, lr: f64) -> Outcome<Hyper> {
    let [b1, b2] = c.numbers("betas")?[..] else {
        return Err("case.json: betas: expected two numbers".into());
    };
    Ok(Hyper {
        lr,
        weight_decay: c.number("weight_decay")?,
        betas: (b1, b2),
        eps: c.number("eps")?,
        clip: c.number_or_zero("clip_grad")?,
        loss_scale: 1.0,
        ema: 0.0,
    })
}

/// Parameters after each update, clipped gradients, norms, moments at the end.
pub fn adamw(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let c = case.config();
    let decayed = case.settings("groups").texts("weight_decay")?;
    let initial = family(case, "in.initial.", None)?;
    let mut updater = Updater::new(device, &initial, false, |name| decayed.iter().any(|d| d == name))?;
    let rates = &case.given("in.lr")?.values;
    if !c.value["lr_per_step"].is_null() {
        check_rates(report, &c, rates.len())?;
    }
    let mut history: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut norms = Vec::new();
    for (i, &lr) in rates.iter().enumerate() {
        let gradients = family(case, "in.gradients.", Some(i))?;
        updater.write(PageKind::Grad, &gradients)?;
        let control = updater.update(&hyper(&c, lr)?)?;
        norms.push(f64::from(control.grad_norm));
        for (name, t) in &gradients {
            let clipped = t.as_f32()?.iter().map(|&g| f64::from(g * control.factor));
            history.entry(format!("out.clipped.{name}")).or_default().extend(clipped);
        }
        for (name, values) in updater.read(PageKind::Param)? {
            history.entry(format!("out.parameters.{name}")).or_default().extend(values);
        }
    }
    for (name, values) in &history {
        let group = if name.starts_with("out.clipped.") { "clipped" } else { "parameters" };
        report.required(group, name, values);
    }
    report.required("grad_norm", "out.grad_norm", &norms);
    for (kind, what) in [(PageKind::Moment1, "exp_avg"), (PageKind::Moment2, "exp_avg_sq")] {
        for (name, values) in updater.read(kind)? {
            report.required("moments", &format!("out.{what}.{name}"), &values);
        }
    }
    Ok(())
}

/// A teacher that follows given students: the average of the update plan at a learning rate of 0.
pub fn ema(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let c = case.config();
    let student = case.given("in.student")?;
    let one = |values: &[f64]| -> Outcome<Tensors> {
        let values = values.iter().map(|&x| x as f32).collect();
        Ok(Tensors::from([("student".to_string(), Tensor::f32(student.shape[1..].to_vec(), values)?)]))
    };
    let momenta = case.given("in.momentum")?.values.clone();
    let mut updater = Updater::new(device, &one(student.item(0))?, true, |_| false)?;
    updater.write(PageKind::Ema, &one(&case.given("in.teacher")?.values)?)?;
    let steps = c.count("steps")? as u64;
    let mut teachers = Vec::new();
    for (i, stored) in momenta.iter().enumerate() {
        let momentum = half_cosine(c.number("start_momentum")?, c.number("end_momentum")?, i as u64, steps);
        if (momentum - stored).abs() > 1e-7 {
            report.fail(format!("momentum of step {i}: {momentum}, expected {stored}"));
        }
        updater.write(PageKind::Param, &one(student.item(i))?)?;
        updater.update(&Hyper {
            lr: 0.0,
            weight_decay: 0.0,
            betas: (0.9, 0.999),
            eps: 1e-8,
            clip: 0.0,
            loss_scale: 1.0,
            ema: momentum,
        })?;
        teachers.extend(updater.read(PageKind::Ema)?.remove("student").unwrap_or_default());
    }
    report.required("teacher", "out.teacher", &teachers);
    Ok(())
}
