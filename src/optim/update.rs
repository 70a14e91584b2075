//! The graph of one update: global norm over all gradient pages, the decision, AdamW page by page, the average.

use crate::error::Result;
use crate::graph::{Binding, Graph, PageKind, PageRef, ParamLayout, Var};
use crate::ops::{
    AdamW, CONTROL_LEN, ClipControl, Ema, HYPER_LEN, Norm2, Norm2Accumulate, accumulate, fill, scale,
};

/// Elements that share one entry of the group table.
const GROUP: usize = 64;

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// The rules of the official pre-training code (beit-spec §5.3).
    Official,
    /// Everything decays (the tokenizer's recipe, beit-spec §3.5).
    All,
}

impl Decay {
    /// Whether a parameter of this name and shape decays.
    pub fn applies(self, name: &str, shape: &[usize]) -> bool {
        match self {
            Decay::All => true,
            Decay::Official => {
                let exempt = shape.len() == 1 || name.ends_with(".bias");
                !exempt && !name.ends_with("pos_embed") && !name.ends_with("cls_token")
            }
        }
    }
}

/// Per page: (learning-rate scale, decayed) for every 64 elements; `lr_scale` is asked by name.
pub fn group_table(layout: &ParamLayout, decay: Decay, lr_scale: impl Fn(&str) -> f32) -> Vec<Vec<f32>> {
    let mut tables: Vec<Vec<f32>> = layout.pages.iter().map(|n| vec![0.0; 2 * n.div_ceil(GROUP)]).collect();
    for v in &layout.views {
        let (s, w) = (lr_scale(&v.name), if decay.applies(&v.name, &v.shape) { 1.0 } else { 0.0 });
        for group in v.offset / GROUP..(v.offset + v.elements()).div_ceil(GROUP) {
            tables[v.page][2 * group..2 * group + 2].copy_from_slice(&[s, w]);
        }
    }
    tables
}

/// Sends gradients to the gradient pages of a store; with `add` they are added to what is there.
///
/// # Errors
/// If drawing fails.
pub fn bind_gradients(g: &mut Graph, layout: &ParamLayout, grads: &[(String, Var)], add: bool) -> Result<()> {
    for (name, grad) in grads {
        let Some(view) = layout.view(name) else { continue };
        let at = PageRef {
            store: layout.store.clone(),
            kind: PageKind::Grad,
            page: view.page,
            offset: view.offset,
        };
        if add {
            let total = g.page(at, view.elements())?;
            accumulate(g, total, *grad)?;
        } else {
            let own =
                if is_free(g, *grad) { *grad } else { g.apply(crate::ops::add::Scale { s: 1.0 }, &[*grad])? };
            g.bind(own, Binding::Page(at));
        }
    }
    Ok(())
}

/// A gradient may be written straight to its page if nothing else reads it and it has no other place.
fn is_free(g: &Graph, v: Var) -> bool {
    let from_node = matches!(g.values[v.index()].source, crate::graph::Source::Node(..));
    from_node && !g.bound.contains_key(&v) && !g.nodes.iter().any(|n| n.inputs.contains(&v))
}

/// Draws one update of a store. Inputs: `hyper`, and `groups.{page}` for each page. Output: `control`.
///
/// With `zero` the gradient pages are cleared afterwards (for accumulation over micro-batches).
///
/// # Errors
/// If drawing fails.
pub fn update_graph(layout: &ParamLayout, ema: bool, zero: bool) -> Result<Graph> {
    let mut g = Graph::new();
    let at = |kind, page| PageRef { store: layout.store.clone(), kind, page, offset: 0 };
    let hyper = g.input("hyper", &[HYPER_LEN])?;
    let mut control = g.page(at(PageKind::Control, 0), CONTROL_LEN)?;
    for (page, &n) in layout.pages.iter().enumerate() {
        let grad = g.page(at(PageKind::Grad, page), n)?;
        let partial = g.apply(Norm2, &[grad])?;
        control = g.apply(Norm2Accumulate { first: page == 0 }, &[control, partial])?;
    }
    control = g.apply(ClipControl, &[control, hyper])?;
    for (page, &n) in layout.pages.iter().enumerate() {
        let state = |g: &mut Graph, kind| g.page(at(kind, page), n);
        let param = state(&mut g, PageKind::Param)?;
        let (m, v) = (state(&mut g, PageKind::Moment1)?, state(&mut g, PageKind::Moment2)?);
        let grad = state(&mut g, PageKind::Grad)?;
        let groups = g.input(&format!("groups.{page}"), &[2 * n.div_ceil(GROUP)])?;
        let updated = g.apply(AdamW, &[param, m, v, grad, control, hyper, groups])?;
        if ema {
            let average = state(&mut g, PageKind::Ema)?;
            g.apply(Ema, &[average, updated, control, hyper])?;
        }
        if zero {
            let zeros = fill(&mut g, 0.0, &[n])?;
            g.bind(zeros, Binding::Page(at(PageKind::Grad, page)));
        }
    }
    let report = scale(&mut g, control, 1.0)?;
    g.output("control", report);
    Ok(g)
}
