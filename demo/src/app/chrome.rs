//! What surrounds the views: the head with its tabs, the status line, the hint while files hover.

use egui::{Align, Align2, Color32, FontId, Id, LayerId, Layout, Order, RichText, Ui};

use super::{App, Tab};

/// Name, tabs, light or dark.
pub(super) fn head(app: &mut App, ui: &mut Ui) {
    ui.horizontal(|ui| {
        ui.label(RichText::new("BEiT").size(20.0).strong());
        if ui.available_width() > 640.0 {
            ui.label(RichText::new("masked image modelling").weak());
        }
        ui.add_space(12.0);
        for (tab, name) in [(Tab::Look, "Look"), (Tab::Train, "Train"), (Tab::Codebook, "Codebook")] {
            ui.selectable_value(&mut app.tab, tab, RichText::new(name).size(15.0));
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let dark = ui.visuals().dark_mode;
            let (name, other) =
                if dark { ("Light", egui::Theme::Light) } else { ("Dark", egui::Theme::Dark) };
            let button = ui.button(name).on_hover_text("light or dark");
            if button.clicked() {
                ui.ctx().set_theme(other);
            }
        });
    });
}

/// The device, the model, what goes on or went wrong.
pub(super) fn status(app: &mut App, ui: &mut Ui) {
    ui.horizontal_wrapped(|ui| {
        let beit = &app.beit;
        if let Some(error) = beit.error() {
            ui.label(RichText::new(error).color(ui.visuals().error_fg_color));
            return;
        }
        let mut parts: Vec<String> = vec![];
        if let Some(m) = beit.model() {
            let (vit, tokenizer) = m.parameters;
            parts.push(m.name.clone());
            parts.push(format!("{} × {} px, {} × {} patches", m.image.1, m.image.0, m.grid.1, m.grid.0));
            parts.push(format!("{} + {} parameters, {} tokens", short(vit), short(tokenizer), m.vocab));
        }
        if !beit.computes_on().is_empty() {
            parts.push(beit.computes_on().to_string());
        }
        if let Some(note) = beit.note() {
            parts.push(note.to_string());
        }
        if !beit.status().is_empty() {
            parts.insert(0, format!("{} …", beit.status()));
        }
        ui.label(RichText::new(parts.join("  ·  ")).small().weak());
    });
}

/// A number of parameters in a few characters.
fn short(n: usize) -> String {
    match n {
        1_000_000.. => format!("{:.1} M", n as f64 / 1e6),
        1_000.. => format!("{} k", n / 1000),
        _ => n.to_string(),
    }
}

/// Says what a drop would do while files hover over the window.
pub(super) fn drop_hint(ui: &Ui) {
    if ui.input(|i| i.raw.hovered_files.is_empty()) {
        return;
    }
    let painter = ui.ctx().layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
    let whole = ui.ctx().content_rect();
    painter.rect_filled(whole, 0, Color32::from_black_alpha(170));
    let text = "Drop a picture to look at it, several to train on them, a run folder to open its model";
    painter.text(whole.center(), Align2::CENTER_CENTER, text, FontId::proportional(20.0), Color32::WHITE);
}
