//! One patch in numbers and pictures: what the tokenizer calls it, what the model expected.

use beit::tasks::reconstruct::PatchReport;
use egui::{Align, Color32, Layout, Rect, Response, RichText, Role, Sense, TextureId, Ui, WidgetInfo};
use egui::{pos2, vec2};

use super::{not_ready, thumbnail, waiting};
use crate::Beit;
use crate::news::Layer;

/// Side of the pictures of tokens in points.
const SIDE: f32 = 40.0;

/// The chosen patch: its own token and the most probable guesses as the pictures that they decode to, with probabilities.
pub struct TokenInspector<'a> {
    beit: &'a mut Beit,
    guesses: usize,
}

impl<'a> TokenInspector<'a> {
    /// An inspector of the chosen patch of `beit`, with five guesses.
    pub fn new(beit: &'a mut Beit) -> Self {
        TokenInspector { beit, guesses: 5 }
    }
    /// How many guesses are listed, eight at most.
    pub fn guesses(mut self, guesses: usize) -> Self {
        self.guesses = guesses;
        self
    }

    /// Shows the inspector.
    pub fn show(self, ui: &mut Ui) -> Response {
        if let Some(response) = not_ready(self.beit, ui) {
            return response;
        }
        self.beit.want_atlas();
        let inner = ui.vertical(|ui| {
            let Some(patch) = self.beit.chosen_patch() else {
                ui.label(RichText::new("Choose a patch in one of the pictures to see its tokens.").weak());
                return;
            };
            let Some(report) = self.beit.seen().and_then(|s| s.patches.get(patch)).cloned() else {
                waiting(ui, "looking");
                return;
            };
            self.head(ui, patch, &report);
            ui.add_space(6.0);
            for guess in report.top.iter().take(self.guesses) {
                self.guess(ui, guess.id, f64::from(guess.probability), guess.id == report.true_id);
            }
            if report.rank > self.guesses.min(report.top.len()) {
                ui.add_space(4.0);
                let p = f64::from(report.true_probability);
                ui.label(
                    RichText::new(format!("the true token on rank {}, {}", report.rank, share(p))).weak(),
                );
            }
        });
        inner.response
    }

    /// The patch itself and its token.
    fn head(&self, ui: &mut Ui, patch: usize, report: &PatchReport) {
        let (row, column) = (report.row + 1, report.column + 1);
        let state = if report.masked { "hidden" } else { "visible" };
        ui.label(RichText::new(format!("Row {row}, column {column}: {state}")).strong());
        ui.add_space(4.0);
        ui.horizontal(|ui| {
            let own = self.beit.original().map(|texture| (texture, self.patch_uv(patch)));
            thumbnail(ui, 1.4 * SIDE, own, "the patch");
            thumbnail(ui, 1.4 * SIDE, self.token(report.true_id), &format!("token {}", report.true_id));
            ui.vertical(|ui| {
                ui.label(format!("token {}", report.true_id));
                let rank = if report.rank == 1 {
                    "predicted first".to_string()
                } else {
                    format!("predicted on rank {}", report.rank)
                };
                ui.label(RichText::new(rank).weak());
                ui.label(RichText::new(format!("surprise {:.2} nat", report.loss)).weak());
            });
        });
    }

    /// A guess in a row: picture, number, bar.
    fn guess(&self, ui: &mut Ui, id: u32, probability: f64, right: bool) {
        ui.horizontal(|ui| {
            thumbnail(ui, SIDE, self.token(id), &format!("token {id}"));
            let room = vec2(ui.available_width(), SIDE);
            ui.allocate_ui_with_layout(room, Layout::top_down(Align::Min), |ui| {
                let colour = if right { right_colour(ui) } else { ui.visuals().text_color() };
                let mark = if right { "   the true one" } else { "" };
                ui.label(RichText::new(format!("{id}   {}{mark}", share(probability))).color(colour));
                bar(ui, probability as f32, colour);
            });
        });
    }

    fn patch_uv(&self, patch: usize) -> Rect {
        let (rows, columns) = self.beit.grid().unwrap_or((1, 1));
        let (w, h) = (1.0 / columns as f32, 1.0 / rows as f32);
        Rect::from_min_size(pos2((patch % columns) as f32 * w, (patch / columns) as f32 * h), vec2(w, h))
    }

    /// Where a token's picture lies on the atlas, once it is drawn.
    fn token(&self, id: u32) -> Option<(TextureId, Rect)> {
        token_picture(self.beit, id as usize)
    }
}

/// Texture and place of what an id decodes to.
pub(super) fn token_picture(beit: &Beit, id: usize) -> Option<(TextureId, Rect)> {
    let (ready, columns) = beit.atlas();
    let rows = beit.model()?.vocab.div_ceil(columns.max(1));
    let texture = beit.texture(Layer::Atlas).filter(|_| id < ready && columns > 0)?;
    let (w, h) = (1.0 / columns as f32, 1.0 / rows as f32);
    let at = pos2((id % columns) as f32 * w, (id / columns) as f32 * h);
    Some((texture, Rect::from_min_size(at, vec2(w, h))))
}

fn right_colour(ui: &Ui) -> Color32 {
    if ui.visuals().dark_mode { Color32::from_rgb(110, 214, 150) } else { Color32::from_rgb(18, 128, 68) }
}

/// A probability as a percentage with a digit where it is small.
fn share(p: f64) -> String {
    if p < 0.0995 { format!("{:.1} %", 100.0 * p) } else { format!("{:.0} %", 100.0 * p) }
}

fn bar(ui: &mut Ui, value: f32, colour: Color32) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width().max(20.0), 6.0), Sense::hover());
    let filled = Rect::from_min_size(rect.min, vec2(rect.width() * value.clamp(0.0, 1.0), rect.height()));
    ui.painter().rect_filled(rect, 3, ui.visuals().faint_bg_color);
    ui.painter().rect_filled(filled, 3, colour.gamma_multiply(0.85));
    let mut info = WidgetInfo::new(Role::ProgressIndicator);
    info.value = Some(f64::from(value));
    response.widget_info(|| info.clone());
}
