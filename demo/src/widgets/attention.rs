//! Where a patch looks: attention of one head, of a block, or followed through all blocks, over the picture.

use beit::tasks::reconstruct::{AttentionMaps, stretched};
use egui::{ComboBox, Response, RichText, Role, Sense, Ui, WidgetInfo};

use super::{CHOSEN, MOST, not_ready};
use crate::Beit;
use crate::field::{Field, picture_size};

/// What is shown: a block (none = followed through all of them) and a head (none = their mean).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Choice {
    block: Option<usize>,
    head: Option<usize>,
}

/// The picture, lit where the chosen patch looks. A click chooses another patch.
pub struct AttentionOverlay<'a> {
    beit: &'a mut Beit,
    width: f32,
}

impl<'a> AttentionOverlay<'a> {
    /// Attention from the chosen patch of `beit`.
    pub fn new(beit: &'a mut Beit) -> Self {
        AttentionOverlay { beit, width: MOST }
    }
    /// Most points that the picture is wide.
    pub fn width(mut self, width: f32) -> Self {
        self.width = width;
        self
    }

    /// Shows the overlay; the response is that of the picture.
    pub fn show(self, ui: &mut Ui) -> Response {
        if let Some(response) = not_ready(self.beit, ui) {
            return response;
        }
        let (Some((rows, columns)), Some(model)) = (self.beit.grid(), self.beit.model().cloned()) else {
            return ui.label("");
        };
        let id = ui.scope_id().with("attention");
        let mut choice = ui.data(|d| d.get_temp::<Choice>(id)).unwrap_or_default();
        choice.block = choice.block.filter(|&b| b < model.depth);
        choice.head = choice.head.filter(|&h| h < model.heads);
        let (rect, response) =
            ui.allocate_exact_size(picture_size(ui, model.image, self.width), Sense::click());
        let field = Field { rect, rows, columns };
        let clicked = response.clicked().then(|| response.interact_pointer_pos()).flatten();
        if let Some(patch) = clicked.and_then(|at| field.patch_at(at)) {
            self.beit.choose_patch(Some(patch));
        }
        let from = self.beit.chosen_patch();
        let label = from.map_or("Attention: no patch chosen".to_string(), |p| {
            let (row, column) = field.place(p);
            format!("Attention from row {}, column {}", row + 1, column + 1)
        });
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &label));
        self.paint(ui, &field, choice);
        if from.is_none() {
            ui.label(RichText::new("Choose a patch in one of the pictures: where does it look?").weak());
        }
        ui.horizontal_wrapped(|ui| blocks(ui, &mut choice, model.depth, model.heads));
        ui.data_mut(|d| d.insert_temp(id, choice));
        response
    }

    fn paint(&self, ui: &Ui, field: &Field, choice: Choice) {
        let painter = ui.painter_at(field.rect.expand(3.0));
        if let Some(original) = self.beit.original() {
            field.picture(&painter, original);
        }
        let Some(patch) = self.beit.chosen_patch() else { return };
        if let Some(maps) = self.beit.seen().and_then(|s| s.attention.as_ref()) {
            let values = attention(maps, choice, patch);
            // Square roots: a patch looks most at itself, and the others would all be dark.
            field.shade(&painter, |p| 0.85 * (1.0 - values.get(p).copied().unwrap_or(0.0).max(0.0).sqrt()));
        }
        field.frame(&painter, patch, CHOSEN);
    }
}

/// Attention from a patch to every patch, stretched to its own largest value.
fn attention(maps: &AttentionMaps, choice: Choice, patch: usize) -> Vec<f32> {
    let n = maps.tokens;
    let Some(block) = choice.block else { return stretched(&maps.rollout_from(patch)) };
    match choice.head {
        Some(head) => stretched(maps.from_patch(block, head, patch)),
        None => {
            let mean = maps.mean_of_heads(block);
            let row = (patch + 1) * n;
            stretched(mean.get(row + 1..row + n).unwrap_or(&[]))
        }
    }
}

fn blocks(ui: &mut Ui, choice: &mut Choice, depth: usize, heads: usize) {
    let name = choice.block.map_or("all blocks".to_string(), |b| format!("block {}", b + 1));
    let block = ComboBox::from_id_salt("block").selected_text(name).show_ui(ui, |ui| {
        ui.selectable_value(&mut choice.block, None, "all blocks (rollout)");
        for b in 0..depth {
            ui.selectable_value(&mut choice.block, Some(b), format!("block {}", b + 1));
        }
    });
    block.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Block"));
    ui.add_enabled_ui(choice.block.is_some(), |ui| {
        let name = choice.head.filter(|_| choice.block.is_some());
        let name = name.map_or("mean of heads".to_string(), |h| format!("head {}", h + 1));
        let head = ComboBox::from_id_salt("head").selected_text(name).show_ui(ui, |ui| {
            ui.selectable_value(&mut choice.head, None, "mean of heads");
            for h in 0..heads {
                ui.selectable_value(&mut choice.head, Some(h), format!("head {}", h + 1));
            }
        });
        let enabled = ui.is_enabled();
        head.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, enabled, "Head"));
    });
}
