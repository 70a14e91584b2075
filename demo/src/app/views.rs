//! The three views. Cards stand side by side where there is room, one below the other where there is not.

use std::path::PathBuf;

use egui::{CornerRadius, Frame, Margin, RichText, Stroke, Ui};

use super::App;
use crate::{
    AttentionOverlay, CodebookAtlas, MaskEditor, ReconstructionView, TokenInspector, TrainingMonitor, View,
};

/// Narrowest card in points.
const CARD: f32 = 290.0;

/// A card with a title.
fn card(ui: &mut Ui, title: &str, hint: &str, contents: impl FnOnce(&mut Ui)) {
    let frame = Frame::new()
        .fill(ui.visuals().window_fill)
        .stroke(Stroke::new(1.0, ui.visuals().window_stroke.color))
        .corner_radius(CornerRadius::same(12))
        .inner_margin(Margin::same(14));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(RichText::new(title).heading().strong());
        if !hint.is_empty() {
            ui.label(RichText::new(hint).small().weak());
        }
        ui.add_space(4.0);
        contents(ui);
    });
    ui.add_space(6.0);
}

type Part<'a> = &'a dyn Fn(&mut App, &mut Ui);

/// Columns of cards: as many as fit, the parts dealt out in order, so that the first pictures stand side by side.
fn columns(app: &mut App, ui: &mut Ui, parts: &[Part<'_>], most: usize) {
    let fit = ((ui.available_width() + 8.0) / (CARD + 8.0)) as usize;
    let count = fit.clamp(1, most.min(parts.len()));
    ui.columns(count, |columns| {
        for (i, part) in parts.iter().enumerate() {
            let column = if count == 2 { i % 2 } else { i.min(count - 1) };
            part(app, &mut columns[column]);
        }
    });
}

/// Which picture: scenes to leaf through, or the visitor's.
fn pictures(app: &mut App, ui: &mut Ui) {
    ui.horizontal_wrapped(|ui| {
        let before = app.scene;
        if ui.add_enabled(app.scene > 0, egui::Button::new("Previous")).clicked() {
            app.scene -= 1;
        }
        if ui.button("Next").on_hover_text("another built-in scene").clicked() {
            app.scene += 1;
        }
        if before != app.scene {
            app.beit.show_scene(app.scene);
        }
        ui.label(app.beit.picture_name());
        ui.label(RichText::new("or drop a picture").weak());
    });
}

fn editor(app: &mut App, ui: &mut Ui) {
    card(ui, "Hide", "Paint over patches, or draw a mask", |ui| {
        pictures(app, ui);
        MaskEditor::new(&mut app.beit).show(ui);
    });
}

fn reconstruction(app: &mut App, ui: &mut Ui) {
    card(ui, "What the model fills in", "It never saw the hidden patches", |ui| {
        ReconstructionView::new(&mut app.beit).show(ui);
        let hint =
            "a sheet: original, what the model saw, predictions, confidence, attention of the chosen patch";
        ui.horizontal(|ui| {
            if ui.button("Save as PNG").on_hover_text(hint).clicked() {
                app.beit.save_picture(free_name(".png"));
            }
        });
    });
}

fn tokens(app: &mut App, ui: &mut Ui) {
    card(ui, "Tokens", "What the model expected in one patch", |ui| {
        TokenInspector::new(&mut app.beit).show(ui);
    });
}

fn attention(app: &mut App, ui: &mut Ui) {
    card(ui, "Attention", "Where one patch looks", |ui| {
        AttentionOverlay::new(&mut app.beit).width(340.0).show(ui);
    });
}

/// A picture, its mask, the reconstruction, tokens, attention.
pub(super) fn look(app: &mut App, ui: &mut Ui) {
    columns(app, ui, &[&editor, &reconstruction, &tokens, &attention], 3);
}

/// A training and what the networks make of the picture meanwhile.
pub(super) fn train(app: &mut App, ui: &mut Ui) {
    let monitor = |app: &mut App, ui: &mut Ui| {
        card(ui, "Train", "On this device, while you watch", |ui| {
            TrainingMonitor::new(&mut app.beit).show(ui);
            saving(app, ui);
        });
    };
    let live = |app: &mut App, ui: &mut Ui| {
        card(ui, "Meanwhile", "The same picture, looked at twice a second", |ui| {
            ReconstructionView::new(&mut app.beit).width(360.0).show(ui);
        });
        card(ui, "Mask", "", |ui| {
            MaskEditor::new(&mut app.beit).width(220.0).show(ui);
        });
    };
    if ui.available_width() < 2.0 * CARD + 60.0 {
        monitor(app, ui);
        live(app, ui);
        return;
    }
    let side = (ui.available_width() * 0.36).clamp(CARD, 400.0);
    ui.horizontal_top(|ui| {
        let wide = ui.available_width() - side - 8.0;
        ui.vertical(|ui| {
            ui.set_width(wide);
            monitor(app, ui);
        });
        ui.vertical(|ui| {
            ui.set_width(side);
            live(app, ui);
        });
    });
}

/// Where the trained networks go.
fn saving(app: &mut App, ui: &mut Ui) {
    if cfg!(target_arch = "wasm32") || app.beit.training().is_none() {
        return;
    }
    ui.add_space(6.0);
    let hint = "a checkpoint folder that `beit` and transformers read, in the current folder";
    if ui.button("Save the networks").on_hover_text(hint).clicked() {
        app.beit.save(free_name(""));
    }
}

/// The first name with this ending that is not taken; a page's visitor has a browser that sees to that.
fn free_name(ending: &str) -> PathBuf {
    let free = |p: &PathBuf| cfg!(target_arch = "wasm32") || !p.exists();
    (1..).map(|i| PathBuf::from(format!("beit-gui-{i:03}{ending}"))).find(free).unwrap_or_default()
}

/// What the tokens decode to.
pub(super) fn codebook(app: &mut App, ui: &mut Ui) {
    let atlas = |app: &mut App, ui: &mut Ui| {
        card(ui, "Codebook", "What each token decodes to where its neighbours are undecided", |ui| {
            CodebookAtlas::new(&mut app.beit).width(940.0).show(ui);
        });
    };
    let picture = |app: &mut App, ui: &mut Ui| {
        card(ui, "The picture in tokens", "", |ui| {
            ReconstructionView::new(&mut app.beit).layer(View::Best).width(300.0).figures(false).show(ui);
        });
        tokens(app, ui);
    };
    if ui.available_width() < 2.0 * CARD + 60.0 {
        atlas(app, ui);
        picture(app, ui);
        return;
    }
    let side = (ui.available_width() * 0.32).clamp(CARD, 360.0);
    ui.horizontal_top(|ui| {
        let wide = ui.available_width() - side - 8.0;
        ui.vertical(|ui| {
            ui.set_width(wide);
            atlas(app, ui);
        });
        ui.vertical(|ui| {
            ui.set_width(side);
            picture(app, ui);
        });
    });
}
