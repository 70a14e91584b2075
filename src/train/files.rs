//! Training state to files and back: weights in the names of the public checkpoints, moments, counters.

use super::State;
use crate::error::{Error, Result};
use crate::graph::{PageKind, ParamLayout};
use crate::io::limits::FileLimits;
use crate::io::tensors::{Tensor, Tensors, pt_metadata, read_safetensors, write_safetensors};

/// The tensors of one kind of pages, by parameter name.
pub fn tensors_of(layout: &ParamLayout, pages: &[Vec<f32>]) -> Tensors {
    let tensor = |v: &crate::graph::ParamView| {
        let data = pages[v.page][v.offset..v.offset + v.elements()].to_vec();
        Tensor::f32(v.shape.clone(), data).ok().map(|t| (v.name.clone(), t))
    };
    layout.views.iter().filter_map(tensor).collect()
}

/// Pages from tensors by parameter name; everything must be there in the right shape.
///
/// # Errors
/// A list of all tensors that are missing, unexpected or of another shape.
pub fn pages_of(layout: &ParamLayout, tensors: &Tensors) -> Result<Vec<Vec<f32>>> {
    let wanted = layout.views.iter().map(|v| (v.name.clone(), v.shape.clone())).collect();
    crate::io::fit::check_fit(tensors, &wanted)?;
    let mut pages: Vec<Vec<f32>> = layout.pages.iter().map(|&n| vec![0.0; n]).collect();
    for v in &layout.views {
        let values = tensors[&v.name].as_f32()?;
        pages[v.page][v.offset..v.offset + v.elements()].copy_from_slice(values);
    }
    Ok(pages)
}

const PREFIXES: [(PageKind, &str); 4] = [
    (PageKind::Moment1, "exp_avg."),
    (PageKind::Moment2, "exp_avg_sq."),
    (PageKind::Param, "param."),
    (PageKind::Ema, "ema."),
];

/// The optimiser's tensors as a file: moments, control block, and parameters or averages, whichever the weights file
/// (which holds those of kind `weights`) does not have.
pub fn optimizer_file(layout: &ParamLayout, state: &State, weights: PageKind) -> Vec<u8> {
    let mut all = Tensors::new();
    for (kind, prefix) in PREFIXES {
        if let Some(pages) = state.kind(kind).filter(|_| kind != weights) {
            all.extend(tensors_of(layout, pages).into_iter().map(|(n, t)| (format!("{prefix}{n}"), t)));
        }
    }
    if let Some([control]) = state.kind(PageKind::Control)
        && let Ok(t) = Tensor::f32(vec![control.len()], control.clone())
    {
        all.insert("control".into(), t);
    }
    write_safetensors(&all, &pt_metadata())
}

/// Reads what [`optimizer_file`] wrote.
///
/// # Errors
/// If the file does not fit the layout.
pub fn read_optimizer(layout: &ParamLayout, bytes: &[u8], limits: &FileLimits) -> Result<State> {
    let mut tensors = read_safetensors(bytes, limits)?.tensors;
    let control = tensors
        .remove("control")
        .ok_or_else(|| Error::checkpoint("optimiser file without a control block"))?;
    let mut pages = vec![(PageKind::Control, vec![control.as_f32()?.to_vec()])];
    for (kind, prefix) in PREFIXES {
        let own: Tensors = tensors
            .iter()
            .filter_map(|(n, t)| n.strip_prefix(prefix).map(|n| (n.to_string(), t.clone())))
            .collect();
        if !own.is_empty() {
            pages.push((kind, pages_of(layout, &own)?));
        }
    }
    Ok(State { pages })
}

/// Limits for a training state of a layout: three copies of every parameter may be in one file.
pub fn state_limits(layout: &ParamLayout) -> FileLimits {
    let native = FileLimits::native();
    FileLimits {
        file_bytes: native.file_bytes.max(16 * layout.bytes() + (16 << 20)),
        tensors: native.tensors.max(4 * layout.views.len() + 16),
        header_bytes: native.header_bytes.max(1024 * (layout.views.len() + 16)),
        ..native
    }
}
