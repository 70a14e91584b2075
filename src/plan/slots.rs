//! Whole-buffer reuse: values whose lifetimes do not overlap share a slot, largest values first.

use super::liveness::Lifetime;
use super::{Place, Slot, Step};
use crate::error::{Error, Result};

/// Slots, and the slot of each lifetime (same order as the argument).
pub(super) fn assign(lifetimes: &[Lifetime]) -> (Vec<Slot>, Vec<usize>) {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lifetimes[i].elements), lifetimes[i].first, i));
    let mut slots: Vec<Slot> = Vec::new();
    let mut assigned = vec![0; lifetimes.len()];
    for i in order {
        let l = &lifetimes[i];
        let free =
            |s: &Slot| s.dtype == l.dtype && s.intervals.iter().all(|&(a, b)| l.last < a || b < l.first);
        // The tightest free slot; slots are made in order of falling size, so the last one.
        let slot = slots.iter().rposition(free).unwrap_or_else(|| {
            slots.push(Slot { dtype: l.dtype, elements: l.elements, intervals: vec![] });
            slots.len() - 1
        });
        slots[slot].intervals.push((l.first, l.last));
        assigned[i] = slot;
    }
    slots.iter_mut().for_each(|s| s.intervals.sort_unstable());
    (slots, assigned)
}

/// A buffer written by a step must not be bound to it a second time, except for updates in place and for disjoint
/// ranges of a page that are all written.
pub(super) fn check_aliasing(step: &Step) -> Result<()> {
    let in_place = step.op.in_place();
    let reads: Vec<&Place> = (step.ins.iter().enumerate())
        .filter(|(i, _)| !in_place.iter().any(|(a, _)| a == i))
        .map(|(_, p)| p)
        .collect();
    let writes: Vec<(&Place, usize)> = (step.outs.iter().zip(&step.out_types))
        .map(|(p, t)| (p, t.elements()))
        .chain(step.scratch.iter().map(|p| (p, usize::MAX)))
        .collect();
    for (i, (w, len)) in writes.iter().enumerate() {
        let clash = reads.iter().any(|r| same_buffer(r, w))
            || writes[..i].iter().any(|(o, other)| same_buffer(o, w) && overlap(o, *other, w, *len));
        if clash {
            return Err(
                Error::shape("planner gave one buffer to two operands of a step").at(step.label.clone())
            );
        }
    }
    Ok(())
}

fn same_buffer(a: &Place, b: &Place) -> bool {
    match (a, b) {
        (Place::Page(a), Place::Page(b)) => (&a.store, a.kind, a.page) == (&b.store, b.kind, b.page),
        _ => a == b,
    }
}

fn overlap(a: &Place, a_len: usize, b: &Place, b_len: usize) -> bool {
    match (a, b) {
        (Place::Page(a), Place::Page(b)) => a.offset < b.offset + b_len && b.offset < a.offset + a_len,
        _ => true,
    }
}
