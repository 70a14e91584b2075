//! The widgets. Each is a plain struct over a [`Beit`] with `show(ui)`; what they share, mask and chosen patch, lies there.

mod attention;
mod codebook;
mod mask_editor;
mod reconstruction;
mod tokens;
mod training;

pub use attention::AttentionOverlay;
pub use codebook::CodebookAtlas;
pub use mask_editor::MaskEditor;
pub use reconstruction::{Layer as View, ReconstructionView};
pub use tokens::TokenInspector;
pub use training::TrainingMonitor;

use egui::{Color32, Response, RichText, Role, Sense, Ui, WidgetInfo, vec2};

use crate::Beit;

/// The frame around the chosen patch.
pub(crate) const CHOSEN: Color32 = Color32::from_rgb(255, 92, 92);
/// Most points that a picture takes by itself.
const MOST: f32 = 520.0;

/// Brings the news; gives a message's response where there is nothing to show yet, or never will be.
fn not_ready(beit: &mut Beit, ui: &mut Ui) -> Option<Response> {
    beit.update(ui.ctx());
    if let Some(why) = beit.cannot_work() {
        let text = format!("Nothing can be computed here: {why}");
        return Some(ui.label(RichText::new(text).color(ui.visuals().warn_fg_color)));
    }
    if beit.model().is_some() {
        return None;
    }
    let text = if beit.status().is_empty() { "no model is loaded" } else { beit.status() };
    Some(waiting(ui, text))
}

/// A line that says that something is on its way. It moves once a second, not with every frame: on a software
/// adapter the window's frames and the networks share one processor.
fn waiting(ui: &mut Ui, text: &str) -> Response {
    let dots = 1 + ui.input(|i| i.time) as usize % 3;
    ui.ctx().request_repaint_after(std::time::Duration::from_secs(1));
    ui.label(RichText::new(format!("{text} {}", ".".repeat(dots))).weak())
}

/// A small picture cut from a texture, or an empty frame while it is not there.
fn thumbnail(
    ui: &mut Ui,
    side: f32,
    texture: Option<(egui::TextureId, egui::Rect)>,
    label: &str,
) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(side, side), Sense::hover());
    match texture {
        Some((id, uv)) => {
            ui.painter().image(id, rect, uv, Color32::WHITE);
        }
        None => {
            ui.painter().rect_filled(rect, 2, ui.visuals().faint_bg_color);
        }
    }
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, label));
    response
}

/// A share as a percentage.
fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}
