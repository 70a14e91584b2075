//! The graph of one update: global norm over all gradient pages, the decision, AdamW page by page, the average.

use crate::error::Result;
use crate::graph::{Binding, Graph, PageKind, PageRef, ParamLayout, Var};
use crate::ops::{
    AdamW, CONTROL_LEN, ClipControl, Ema, HYPER_LEN, LossScale, Norm2, Norm2Accumulate, accumulate, fill,
    scale,
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

/// Learning rates of the parameters, relative to the schedule's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rates {
    /// The same for all.
    Equal,
    /// Layer-wise decay (beit-spec §6.3): `decay^(depth + 1 − group)`, 1 for the head.
    Layers {
        /// Factor from one group to the one below it.
        decay: f64,
        /// Number of blocks L.
        depth: usize,
    },
    /// The same for all but those whose names start so: they stay as they are.
    Except(&'static str),
}

impl Rates {
    /// The factor of a parameter by its name.
    pub fn of(self, name: &str) -> f32 {
        match self {
            Rates::Equal => 1.0,
            Rates::Except(frozen) => {
                if name.starts_with(frozen) {
                    0.0
                } else {
                    1.0
                }
            }
            Rates::Layers { decay, depth } => {
                decay.powi((depth + 1 - layer_group(name, depth)) as i32) as f32
            }
        }
    }
}

/// Group of a parameter: 0 for the embedding, `b + 1` for block `b`, `depth + 1` for everything else: final norm,
/// heads, necks, and a bias table that the blocks share.
fn layer_group(name: &str, depth: usize) -> usize {
    let name = name.strip_prefix("backbone.").unwrap_or(name);
    if matches!(name, "cls_token" | "mask_token" | "pos_embed") || name.starts_with("patch_embed.") {
        return 0;
    }
    let block = name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    block.map_or(depth + 1, |b| (b + 1).min(depth + 1))
}

/// Per page: (learning-rate scale, decayed) for every 64 elements. Running statistics have 0 for both: the update
/// leaves them as they are.
pub fn group_table(layout: &ParamLayout, decay: Decay, rates: Rates) -> Vec<Vec<f32>> {
    let mut tables: Vec<Vec<f32>> = layout.pages.iter().map(|n| vec![0.0; 2 * n.div_ceil(GROUP)]).collect();
    for v in layout.views.iter().filter(|v| v.trained) {
        let (s, w) = (rates.of(&v.name), if decay.applies(&v.name, &v.shape) { 1.0 } else { 0.0 });
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

/// What an update does beside its steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Update {
    /// Keep a moving average of the parameters.
    pub ema: bool,
    /// Clear the gradient pages afterwards, for accumulation over micro-batches.
    pub zero: bool,
    /// The loss is scaled by the factor in the control block, which follows the gradients.
    pub scaled: bool,
}

/// The factor that a step's loss is multiplied with before differentiating, from the store's control block.
///
/// # Errors
/// If drawing fails.
pub fn loss_scale(g: &mut Graph, store: &str) -> Result<Var> {
    let at = PageRef { store: store.into(), kind: PageKind::Control, page: 0, offset: 0 };
    let control = g.page(at, CONTROL_LEN)?;
    g.apply(LossScale, &[control])
}

/// Draws one update of a store. Inputs: `hyper`, and `groups.{page}` for each page. Output: `control`.
///
///
/// # Errors
/// If drawing fails.
pub fn update_graph(layout: &ParamLayout, update: Update) -> Result<Graph> {
    let Update { ema, zero, scaled } = update;
    let mut g = Graph::new();
    let at = |kind, page| PageRef { store: layout.store.clone(), kind, page, offset: 0 };
    let hyper = g.input("hyper", &[HYPER_LEN])?;
    let mut control = g.page(at(PageKind::Control, 0), CONTROL_LEN)?;
    for (page, &n) in layout.pages.iter().enumerate() {
        let grad = g.page(at(PageKind::Grad, page), n)?;
        let partial = g.apply(Norm2, &[grad])?;
        control = g.apply(Norm2Accumulate { first: page == 0 }, &[control, partial])?;
    }
    control = g.apply(ClipControl { scaled }, &[control, hyper])?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The factors of beit-spec §6.3.
    #[test]
    fn layer_wise_decay() {
        let rates = Rates::Layers { decay: 0.65, depth: 12 };
        let cases = [
            ("cls_token", 0.00369721),
            ("patch_embed.proj.weight", 0.00369721),
            ("pos_embed", 0.00369721),
            ("blocks.0.attn.qkv.weight", 0.00568801),
            ("blocks.5.gamma_1", 0.0490223),
            ("blocks.10.attn.relative_position_bias_table", 0.4225),
            ("backbone.blocks.11.mlp.fc2.bias", 0.65),
            ("rel_pos_bias.relative_position_bias_table", 1.0),
            ("fc_norm.weight", 1.0),
            ("head.weight", 1.0),
        ];
        for (name, want) in cases {
            assert!((rates.of(name) / want - 1.0).abs() < 1e-5, "{name}: {} not {want}", rates.of(name));
        }
        let close = |got: f32, want: f32| (got / want - 1.0).abs() < 1e-5;
        assert!(close(Rates::Layers { decay: 0.75, depth: 12 }.of("cls_token"), 0.0237573));
        assert!(close(Rates::Layers { decay: 0.75, depth: 24 }.of("cls_token"), 0.000752543));
        assert!(close(Rates::Equal.of("cls_token"), 1.0));
        let frozen = Rates::Except("patch_embed.");
        assert_eq!((frozen.of("patch_embed.proj.bias"), frozen.of("cls_token")), (0.0, 1.0));
    }
}
