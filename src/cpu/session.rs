//! Runs plans on the ops' CPU kernels.
//!
//! In f64 it is the oracle of the tests; with `poison` on, a slot is filled with NaN before each value that it serves,
//! so that a planner mistake shows as NaN instead of as a plausible number.

use super::Real;
use crate::error::{Error, Result};
use crate::graph::{DType, PageKind, ParamLayout};
use crate::ops::{Args, Caps, View, ViewMut};
use crate::plan::{Place, Plan, Port, Step};
use crate::session::{Data, HostData, PlanId, Session, Ticket};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the CPU session calls an op's kernel in its float type.
pub trait Dispatch: Real {
    /// Runs the CPU kernel of a step.
    fn dispatch(step: &Step, args: &mut Args<'_, Self>);
}
impl Dispatch for f32 {
    fn dispatch(step: &Step, args: &mut Args<'_, f32>) {
        step.op.run_f32(args);
    }
}
impl Dispatch for f64 {
    fn dispatch(step: &Step, args: &mut Args<'_, f64>) {
        step.op.run_f64(args);
    }
}

#[derive(Debug, Clone)]
enum Buffer<T> {
    Real(Vec<T>),
    Word(Vec<u32>),
}

impl<T: Real> Buffer<T> {
    fn new(dtype: DType, elements: usize) -> Self {
        match dtype {
            DType::F32 | DType::F16 => Buffer::Real(vec![T::ZERO; elements]),
            DType::U32 => Buffer::Word(vec![0; elements]),
        }
    }
    fn view(&self, offset: usize, elements: usize) -> View<'_, T> {
        match self {
            Buffer::Real(v) => View::Real(&v[offset..offset + elements]),
            Buffer::Word(v) => View::Word(&v[offset..offset + elements]),
        }
    }
}

/// Where a place is in the session: the number of a buffer and the first element.
type Address = (usize, usize);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum BufferId {
    Plan(usize, usize),
    Page(String, PageKind, usize),
}

struct Loaded {
    plan: Arc<Plan>,
    /// Addresses of every step's operands and results.
    ins: Arc<[Vec<Address>]>,
    outs: Arc<[Vec<Address>]>,
}

/// A session on the CPU kernels in `f32` or `f64`.
pub struct CpuSession<T> {
    buffers: Vec<Buffer<T>>,
    numbers: BTreeMap<BufferId, usize>,
    plans: Vec<Loaded>,
    layouts: BTreeMap<String, String>,
    tickets: BTreeMap<Ticket, Vec<HostData>>,
    next_ticket: u64,
    poison: bool,
}

impl<T: Real> Default for CpuSession<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> CpuSession<T> {
    /// An empty session.
    pub fn new() -> Self {
        CpuSession {
            buffers: vec![],
            numbers: BTreeMap::new(),
            plans: vec![],
            layouts: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            poison: false,
        }
    }
    /// A session that fills every slot with NaN before each value that it serves.
    pub fn poisoned() -> Self {
        CpuSession { poison: true, ..Self::new() }
    }

    fn add_buffer(&mut self, id: BufferId, dtype: DType, elements: usize) {
        if !self.numbers.contains_key(&id) {
            self.numbers.insert(id, self.buffers.len());
            self.buffers.push(Buffer::new(dtype, elements));
        }
    }
    /// A plan's inputs come first, then its slots.
    fn address(&self, plan: usize, inputs: usize, place: &Place) -> Result<Address> {
        let (id, offset) = match place {
            Place::Input(i) => (BufferId::Plan(plan, *i), 0),
            Place::Slot(s) => (BufferId::Plan(plan, inputs + s), 0),
            Place::Page(r) => (BufferId::Page(r.store.clone(), r.kind, r.page), r.offset),
        };
        let number = self.numbers.get(&id).copied();
        let missing = || Error::device("plan uses a page that was not added").at(format!("{id:?}"));
        Ok((number.ok_or_else(missing)?, offset))
    }
    fn loaded(&self, id: PlanId) -> Result<&Loaded> {
        self.plans.get(id.0).ok_or_else(|| Error::device("no such plan"))
    }
    fn port<'p>(ports: &'p [Port], name: &str, plan: &Plan) -> Result<&'p Port> {
        ports.iter().find(|p| p.name == name).ok_or_else(|| {
            let names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
            Error::device("no such input or output")
                .at(format!("{}: {name}", plan.name))
                .expected(names.join(", "))
        })
    }
    fn page_mut(&mut self, store: &str, kind: PageKind, page: usize) -> Result<&mut Vec<T>> {
        let number = self.numbers.get(&BufferId::Page(store.into(), kind, page));
        match number.and_then(|&n| self.buffers.get_mut(n)) {
            Some(Buffer::Real(v)) => Ok(v),
            _ => Err(Error::device("no such page").at(format!("{store} {kind:?} {page}"))),
        }
    }

    /// Writes real numbers in f64 (for central differences).
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn write_f64(&mut self, id: PlanId, input: &str, data: &[f64]) -> Result<()> {
        let plan = self.loaded(id)?.plan.clone();
        let port = Self::port(&plan.inputs, input, &plan)?;
        let (at, _) = self.address(id.0, plan.inputs.len(), &port.place)?;
        match self.buffers.get_mut(at) {
            Some(Buffer::Real(v)) if v.len() == data.len() => {
                v.iter_mut().zip(data).for_each(|(v, &d)| *v = T::of(d));
                Ok(())
            }
            _ => Err(wrong_input(port, data.len())),
        }
    }
    /// Reads an output in f64.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub fn read_f64(&mut self, id: PlanId, output: &str) -> Result<Vec<f64>> {
        let plan = self.loaded(id)?.plan.clone();
        let port = Self::port(&plan.outputs, output, &plan)?;
        let (at, offset) = self.address(id.0, plan.inputs.len(), &port.place)?;
        match self.buffers.get(at).map(|b| b.view(offset, port.ty.elements())) {
            Some(View::Real(v)) => Ok(v.iter().map(|x| x.to_f64()).collect()),
            Some(View::Word(v)) => Ok(v.iter().map(|&x| f64::from(x)).collect()),
            None => Err(Error::device("no such output").at(output)),
        }
    }
}

fn wrong_input(port: &Port, got: usize) -> Error {
    Error::device("input of the wrong type or length")
        .at(port.name.clone())
        .expected(port.ty.to_string())
        .got(format!("{got} elements"))
}

impl<T: Dispatch> CpuSession<T> {
    fn step(&mut self, plan: &Plan, s: usize, ins: &[Address], outs: &[Address]) {
        let step = &plan.steps[s];
        let in_place = step.op.in_place();
        // The buffers to be written leave the list while the kernel runs; a page with several ranges leaves once.
        let mut taken: Vec<(usize, Buffer<T>)> = Vec::with_capacity(outs.len());
        for &(id, _) in outs {
            if taken.iter().all(|&(t, _)| t != id) {
                taken.push((id, std::mem::replace(&mut self.buffers[id], Buffer::Word(vec![]))));
            }
        }
        if self.poison && in_place.is_empty() {
            for (id, buffer) in &mut taken {
                let slot =
                    outs.iter().zip(&step.outs).any(|((o, _), p)| o == id && matches!(p, Place::Slot(_)));
                if let (Buffer::Real(v), true) = (buffer, slot) {
                    v.fill(T::of(f64::NAN));
                }
            }
        }
        let views = ins
            .iter()
            .zip(&step.in_types)
            .enumerate()
            .map(|(i, ((id, offset), ty))| {
                let updated = in_place.iter().any(|&(a, _)| a == i) || taken.iter().any(|(t, _)| t == id);
                if updated { View::Real(&[]) } else { self.buffers[*id].view(*offset, ty.elements()) }
            })
            .collect();
        let mut args = Args {
            ins: views,
            outs: carve(&mut taken, outs, step),
            in_types: &step.in_types,
            out_types: &step.out_types,
        };
        T::dispatch(step, &mut args);
        drop(args);
        for (id, buffer) in taken {
            self.buffers[id] = buffer;
        }
    }
}

/// Mutable views of the results: disjoint ranges, several of which may lie in one page.
fn carve<'a, T: Real>(
    taken: &'a mut [(usize, Buffer<T>)],
    outs: &[Address],
    step: &Step,
) -> Vec<ViewMut<'a, T>> {
    let mut views: Vec<Option<ViewMut<'a, T>>> = outs.iter().map(|_| None).collect();
    for (id, buffer) in taken {
        let mut ranges: Vec<(usize, usize, usize)> = outs
            .iter()
            .enumerate()
            .filter(|(_, (out, _))| out == id)
            .map(|(o, (_, offset))| (*offset, step.out_types[o].elements(), o))
            .collect();
        ranges.sort_unstable();
        match buffer {
            Buffer::Real(v) => split(v, &ranges, |o, part| views[o] = Some(ViewMut::Real(part))),
            Buffer::Word(v) => split(v, &ranges, |o, part| views[o] = Some(ViewMut::Word(part))),
        }
    }
    views.into_iter().map(|v| v.unwrap_or(ViewMut::Word(&mut []))).collect()
}

fn split<'a, E>(
    mut rest: &'a mut [E],
    ranges: &[(usize, usize, usize)],
    mut give: impl FnMut(usize, &'a mut [E]),
) {
    let mut at = 0;
    for &(offset, len, o) in ranges {
        let (_, tail) = std::mem::take(&mut rest).split_at_mut(offset - at);
        let (part, tail) = tail.split_at_mut(len);
        give(o, part);
        (rest, at) = (tail, offset + len);
    }
}

impl<T: Dispatch> Session for CpuSession<T> {
    fn device(&self) -> String {
        "built-in CPU kernels".into()
    }
    fn caps(&self) -> Caps {
        Caps::cpu()
    }
    fn add_store(&mut self, layout: &ParamLayout, kinds: &[PageKind]) -> Result<()> {
        let hash = layout.hash();
        if *self.layouts.entry(layout.store.clone()).or_insert_with(|| hash.clone()) != hash {
            return Err(Error::device("store exists with another layout").at(layout.store.clone()));
        }
        for &kind in kinds {
            let pages =
                if kind == PageKind::Control { &[crate::ops::CONTROL_LEN][..] } else { &layout.pages };
            for (page, &elements) in pages.iter().enumerate() {
                self.add_buffer(BufferId::Page(layout.store.clone(), kind, page), DType::F32, elements);
            }
        }
        Ok(())
    }
    fn write_page(&mut self, store: &str, kind: PageKind, page: usize, data: &[f32]) -> Result<()> {
        let to = self.page_mut(store, kind, page)?;
        if to.len() != data.len() {
            return Err(Error::device("page of another length")
                .expected(to.len().to_string())
                .got(data.len().to_string()));
        }
        to.iter_mut().zip(data).for_each(|(t, &d)| *t = T::of(f64::from(d)));
        Ok(())
    }
    fn read_page(&mut self, store: &str, kind: PageKind, page: usize) -> Result<Vec<f32>> {
        Ok(self.page_mut(store, kind, page)?.iter().map(|x| x.to_f64() as f32).collect())
    }
    fn load(&mut self, plan: Arc<Plan>) -> Result<PlanId> {
        let id = self.plans.len();
        let sizes = plan.inputs.iter().map(|p| (p.ty.dtype(), p.ty.elements()));
        for (i, (dtype, elements)) in
            sizes.chain(plan.slots.iter().map(|s| (s.dtype, s.elements))).enumerate()
        {
            self.add_buffer(BufferId::Plan(id, i), dtype, elements);
        }
        let address = |p: &Place| self.address(id, plan.inputs.len(), p);
        let all = |places: &[Place]| places.iter().map(address).collect::<Result<Vec<Address>>>();
        let ins = plan.steps.iter().map(|s| all(&s.ins)).collect::<Result<Vec<_>>>()?.into();
        let outs = plan.steps.iter().map(|s| all(&s.outs)).collect::<Result<Vec<_>>>()?.into();
        self.plans.push(Loaded { plan, ins, outs });
        Ok(PlanId(id))
    }
    fn write(&mut self, id: PlanId, input: &str, data: Data<'_>) -> Result<()> {
        let plan = self.loaded(id)?.plan.clone();
        let port = Self::port(&plan.inputs, input, &plan)?;
        let (at, _) = self.address(id.0, plan.inputs.len(), &port.place)?;
        match (self.buffers.get_mut(at), data) {
            (Some(Buffer::Real(v)), Data::F32(d)) if v.len() == d.len() => {
                v.iter_mut().zip(d).for_each(|(v, &d)| *v = T::of(f64::from(d)));
                Ok(())
            }
            (Some(Buffer::Word(v)), Data::U32(d)) if v.len() == d.len() => {
                v.copy_from_slice(d);
                Ok(())
            }
            (_, Data::F32(d)) => Err(wrong_input(port, d.len())),
            (_, Data::U32(d)) => Err(wrong_input(port, d.len())),
        }
    }
    fn run(&mut self, id: PlanId) -> Result<()> {
        let loaded = self.loaded(id)?;
        let (plan, ins, outs) = (loaded.plan.clone(), loaded.ins.clone(), loaded.outs.clone());
        for s in 0..plan.steps.len() {
            self.step(&plan, s, &ins[s], &outs[s]);
        }
        Ok(())
    }
    fn profile(&mut self, id: PlanId) -> Result<Option<Vec<f64>>> {
        let loaded = self.loaded(id)?;
        let (plan, ins, outs) = (loaded.plan.clone(), loaded.ins.clone(), loaded.outs.clone());
        let timed = (0..plan.steps.len()).map(|s| {
            let start = std::time::Instant::now();
            self.step(&plan, s, &ins[s], &outs[s]);
            start.elapsed().as_secs_f64()
        });
        Ok(Some(timed.collect()))
    }
    fn fetch(&mut self, id: PlanId, outputs: &[&str]) -> Result<Ticket> {
        let plan = self.loaded(id)?.plan.clone();
        let mut all = Vec::new();
        for name in outputs {
            let port = Self::port(&plan.outputs, name, &plan)?;
            let (at, offset) = self.address(id.0, plan.inputs.len(), &port.place)?;
            match self.buffers.get(at).map(|b| b.view(offset, port.ty.elements())) {
                Some(View::Real(v)) => all.push(HostData::F32(v.iter().map(|x| x.to_f64() as f32).collect())),
                Some(View::Word(v)) => all.push(HostData::U32(v.to_vec())),
                None => return Err(Error::device("no such output").at(*name)),
            }
        }
        self.next_ticket += 1;
        self.tickets.insert(Ticket(self.next_ticket), all);
        Ok(Ticket(self.next_ticket))
    }
    fn fetch_page(&mut self, store: &str, kind: PageKind, page: usize) -> Result<Ticket> {
        let data = self.read_page(store, kind, page)?;
        self.next_ticket += 1;
        self.tickets.insert(Ticket(self.next_ticket), vec![HostData::F32(data)]);
        Ok(Ticket(self.next_ticket))
    }
    fn take(&mut self, ticket: Ticket, _wait: bool) -> Result<Option<Vec<HostData>>> {
        Ok(self.tickets.remove(&ticket))
    }
    fn allocated(&self) -> u64 {
        self.buffers
            .iter()
            .map(|b| match b {
                Buffer::Real(v) => 4 * v.len() as u64,
                Buffer::Word(v) => 4 * v.len() as u64,
            })
            .sum()
    }
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
