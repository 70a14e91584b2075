//! What the model fills in: the visible patches of the picture and, in the hidden ones, the decoded prediction.

use egui::{Response, RichText, Role, Sense, Ui, WidgetInfo};

use super::{CHOSEN, MOST, not_ready, percent, waiting};
use crate::Beit;
use crate::field::{Field, picture_size};
use crate::news::{Layer as Canvas, Seen};

/// What a reconstruction view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layer {
    /// Visible patches, and the most probable tokens decoded in the hidden ones.
    #[default]
    Reconstruction,
    /// Everything from tokens: the tokenizer's in visible patches, predicted ones in hidden patches.
    Tokens,
    /// The tokenizer's own reconstruction, which no prediction can beat.
    Best,
    /// How sure the model is of its first guess in hidden patches.
    Confidence,
    /// How undecided the model is in hidden patches.
    Entropy,
}

impl Layer {
    /// All of them, in the order of the buttons.
    pub const ALL: [Layer; 5] =
        [Layer::Reconstruction, Layer::Tokens, Layer::Best, Layer::Confidence, Layer::Entropy];
    /// A word or two for a button.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Reconstruction => "Filled in",
            Layer::Tokens => "All from tokens",
            Layer::Best => "Tokenizer's best",
            Layer::Confidence => "Confidence",
            Layer::Entropy => "Entropy",
        }
    }
    fn explanation(self) -> &'static str {
        match self {
            Layer::Reconstruction => {
                "visible patches, and the most probable tokens decoded in the hidden ones"
            }
            Layer::Tokens => "the tokenizer's tokens where the model sees, predicted ones where it does not",
            Layer::Best => "what the tokenizer itself keeps of the picture: no prediction can beat it",
            Layer::Confidence => "probability of the first guess: dark 0, pale 1",
            Layer::Entropy => "how undecided the model is: dark sure, pale no idea",
        }
    }
}

/// The reconstruction of the picture of a [`Beit`] under its mask. A click chooses a patch.
pub struct ReconstructionView<'a> {
    beit: &'a mut Beit,
    layer: Option<Layer>,
    width: f32,
    figures: bool,
}

impl<'a> ReconstructionView<'a> {
    /// A view with buttons for what it shows, and figures.
    pub fn new(beit: &'a mut Beit) -> Self {
        ReconstructionView { beit, layer: None, width: MOST, figures: true }
    }
    /// Shows this and no buttons to change it.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layer = Some(layer);
        self
    }
    /// Most points that the picture is wide.
    pub fn width(mut self, width: f32) -> Self {
        self.width = width;
        self
    }
    /// Whether the figures stand under the picture.
    pub fn figures(mut self, figures: bool) -> Self {
        self.figures = figures;
        self
    }

    /// Shows the view; the response is that of the picture.
    pub fn show(self, ui: &mut Ui) -> Response {
        if let Some(response) = not_ready(self.beit, ui) {
            return response;
        }
        let (Some((rows, columns)), Some(image)) = (self.beit.grid(), self.beit.model().map(|m| m.image))
        else {
            return ui.label("");
        };
        let id = ui.scope_id().with("layer");
        let kept = ui.data(|d| d.get_temp::<Layer>(id)).unwrap_or_default();
        let mut layer = self.layer.unwrap_or(kept);
        let (rect, response) = ui.allocate_exact_size(picture_size(ui, image, self.width), Sense::click());
        let field = Field { rect, rows, columns };
        let clicked = response.clicked().then(|| response.interact_pointer_pos()).flatten();
        if let Some(patch) = clicked.and_then(|at| field.patch_at(at)) {
            self.beit.choose_patch(Some(patch));
        }
        let label = match self.beit.seen() {
            Some(s) => format!("{}: {} patches predicted", layer.name(), s.score.masked),
            None => format!("{}: not there yet", layer.name()),
        };
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &label));
        self.paint(ui, &field, layer);
        let response = match response.hover_pos().and_then(|at| field.patch_at(at)) {
            Some(patch) => self.explain(response, patch),
            None => response,
        };
        if self.layer.is_none() {
            ui.horizontal_wrapped(|ui| {
                for l in Layer::ALL {
                    ui.selectable_value(&mut layer, l, l.name()).on_hover_text(l.explanation());
                }
            });
            ui.data_mut(|d| d.insert_temp(id, layer));
        }
        if self.figures {
            figures(self.beit, ui);
        }
        response
    }

    fn paint(&self, ui: &Ui, field: &Field, layer: Layer) {
        let painter = ui.painter_at(field.rect.expand(3.0));
        let (filled, best) = (self.beit.texture(Canvas::Filled), self.beit.texture(Canvas::Ceiling));
        let (Some(original), Some(filled), Some(best), Some(seen)) =
            (self.beit.original(), filled, best, self.beit.seen())
        else {
            painter.rect_filled(field.rect, 2, ui.visuals().faint_bg_color);
            return;
        };
        match layer {
            Layer::Best => field.picture(&painter, best),
            Layer::Tokens => field.picture(&painter, filled),
            _ => {
                field.picture(&painter, original);
                field.patches(&painter, filled, |p| seen.mask.get(p) == Some(&true));
            }
        }
        let most = (self.beit.model().map_or(2, |m| m.vocab).max(2) as f32).ln();
        let hidden = |p: usize| seen.patches.get(p).filter(|r| r.masked);
        match layer {
            Layer::Confidence => field.heat(&painter, 0.86, |p| hidden(p).map(|r| r.confidence())),
            Layer::Entropy => field.heat(&painter, 0.86, |p| hidden(p).map(|r| r.entropy / most)),
            _ => {}
        }
        if let Some(patch) = self.beit.chosen_patch() {
            field.frame(&painter, patch, CHOSEN);
        }
    }

    /// What the pointer says about a patch.
    fn explain(&self, response: Response, patch: usize) -> Response {
        let report = self.beit.seen().and_then(|s: &Seen| s.patches.get(patch));
        let Some(report) = report else { return response };
        let place = format!("row {}, column {}", report.row + 1, report.column + 1);
        let text = if report.masked {
            let guess = report.top.first().map_or(0.0, |g| f64::from(g.probability));
            let right = if report.rank == 1 { "right" } else { "wrong" };
            format!(
                "{place}\nfirst guess {right}, sure to {}\ntrue token on rank {}",
                percent(guess),
                report.rank
            )
        } else {
            format!("{place}\nvisible to the model")
        };
        response.on_hover_text(text)
    }
}

/// The figures of the last answer in a line.
fn figures(beit: &Beit, ui: &mut Ui) {
    if !beit.mask().contains(&true) {
        ui.label(RichText::new("Nothing is hidden: paint on the picture, or draw a mask.").weak());
        return;
    }
    let (Some(seen), Some(model)) = (beit.seen(), beit.model()) else {
        waiting(ui, "looking");
        return;
    };
    let s = &seen.score;
    let text = format!(
        "{} of {} patches hidden · loss {:.2} nat (blind guess {:.2}) · right first {}, among five {}",
        s.masked,
        seen.mask.len(),
        s.loss,
        (model.vocab.max(1) as f64).ln(),
        percent(s.accuracy),
        percent(s.accuracy_top5),
    );
    ui.label(RichText::new(text).weak());
}
