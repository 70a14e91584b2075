//! The codebook: what every id decodes to, on neutral ground, and which of them the picture uses.

use egui::{Color32, Response, RichText, Role, ScrollArea, Sense, Stroke, StrokeKind, Ui, WidgetInfo, vec2};

use super::tokens::token_picture;
use super::{CHOSEN, not_ready, waiting};
use crate::Beit;
use crate::field::Field;
use crate::news::Layer;

/// Smallest side of a token's picture in points.
const LEAST: f32 = 14.0;

/// All tokens as pictures. Tokens of the picture that is looked at stand out; the chosen patch's is framed.
pub struct CodebookAtlas<'a> {
    beit: &'a mut Beit,
    width: f32,
}

impl<'a> CodebookAtlas<'a> {
    /// The atlas of the tokenizer of `beit`.
    pub fn new(beit: &'a mut Beit) -> Self {
        CodebookAtlas { beit, width: 900.0 }
    }
    /// Most points that the atlas is wide.
    pub fn width(mut self, width: f32) -> Self {
        self.width = width;
        self
    }

    /// Shows the atlas; the response is that of the picture.
    pub fn show(self, ui: &mut Ui) -> Response {
        if let Some(response) = not_ready(self.beit, ui) {
            return response;
        }
        self.beit.want_atlas();
        let vocab = self.beit.model().map_or(1, |m| m.vocab);
        let (ready, columns) = self.beit.atlas();
        let (columns, counts) = (columns.max(1), self.counts(vocab));
        let rows = vocab.div_ceil(columns);
        let id = ui.scope_id().with("only used");
        let mut dim = ui.data(|d| d.get_temp::<bool>(id)).unwrap_or(true);
        let used = counts.iter().filter(|&&c| c > 0).count();
        ui.horizontal_wrapped(|ui| {
            ui.checkbox(&mut dim, "let the tokens of this picture stand out");
            ui.label(RichText::new(format!("{vocab} tokens, {used} of them in this picture")).weak());
        });
        ui.data_mut(|d| d.insert_temp(id, dim));
        let across = ui.available_width().min(self.width).max(LEAST * columns as f32);
        let size = vec2(across, across * rows as f32 / columns as f32);
        let area = ScrollArea::both().auto_shrink([false, true]);
        let response = area.show(ui, |ui| {
            let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
            let field = Field { rect, rows, columns };
            self.paint(ui, &field, (ready, vocab), &counts, dim && used > 0);
            response.widget_info(|| {
                WidgetInfo::labeled(Role::Image, true, format!("Codebook of {vocab} tokens"))
            });
            let over = response.hover_pos().and_then(|at| field.patch_at(at)).filter(|&t| t < vocab);
            match over {
                Some(token) => response.on_hover_ui(|ui| self.explain(ui, token, counts[token])),
                None => response,
            }
        });
        if ready < vocab {
            waiting(ui, &format!("{ready} of {vocab} decoded"));
        }
        response.inner
    }

    /// How often the picture uses each token.
    fn counts(&self, vocab: usize) -> Vec<usize> {
        let mut counts = vec![0; vocab];
        for p in self.beit.seen().iter().flat_map(|s| &s.patches) {
            if let Some(c) = counts.get_mut(p.true_id as usize) {
                *c += 1;
            }
        }
        counts
    }

    fn paint(&self, ui: &Ui, field: &Field, (ready, vocab): (usize, usize), counts: &[usize], dim: bool) {
        let painter = ui.painter_at(field.rect.expand(2.0));
        let Some(atlas) = self.beit.texture(Layer::Atlas) else { return };
        field.patches(&painter, atlas, |t| t < ready.min(vocab));
        let veil = ui.visuals().panel_fill.gamma_multiply(0.72);
        for (t, &count) in counts.iter().enumerate().take(ready) {
            if dim && count == 0 {
                painter.rect_filled(field.cell(t), 0, veil);
            }
            let line = Stroke::new(1.0, ui.visuals().panel_fill);
            painter.rect_stroke(field.cell(t), 0, line, StrokeKind::Middle);
        }
        let seen = self.beit.seen();
        let chosen = self.beit.chosen_patch().and_then(|p| Some(seen?.patches.get(p)?.true_id as usize));
        if let Some(token) = chosen.filter(|&t| t < ready) {
            field.frame(&painter, token, CHOSEN);
        }
    }

    fn explain(&self, ui: &mut Ui, token: usize, count: usize) {
        ui.horizontal(|ui| {
            if let Some((texture, uv)) = token_picture(self.beit, token) {
                let (rect, _) = ui.allocate_exact_size(vec2(72.0, 72.0), Sense::hover());
                ui.painter().image(texture, rect, uv, Color32::WHITE);
            }
            ui.vertical(|ui| {
                ui.label(RichText::new(format!("token {token}")).strong());
                let cells = self.beit.mask().len();
                ui.label(format!("{count} of {cells} patches of this picture"));
            });
        });
    }
}
