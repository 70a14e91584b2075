//! What the model fills in: the visible patches of the picture and, in the hidden ones, the decoded prediction.

use beit::tasks::reconstruct::Sampling;
use egui::{Response, RichText, Role, Sense, Slider, Ui, WidgetInfo};

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
    /// The same in several rounds: the surest tokens first, then the model looks again.
    Steps,
    /// The same with tokens drawn from the predicted distribution.
    Sampled,
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
    pub const ALL: [Layer; 7] = [
        Layer::Reconstruction,
        Layer::Steps,
        Layer::Sampled,
        Layer::Tokens,
        Layer::Best,
        Layer::Confidence,
        Layer::Entropy,
    ];
    /// A word or two for a button.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Reconstruction => "Filled in",
            Layer::Steps => "Step by step",
            Layer::Sampled => "Drawn at random",
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
            Layer::Steps => "the surest patches are filled in first, then the model looks again",
            Layer::Sampled => "tokens drawn from the predicted distribution",
            Layer::Tokens => "the tokenizer's tokens where the model sees, predicted ones where it does not",
            Layer::Best => "what the tokenizer itself keeps of the picture: no prediction can beat it",
            Layer::Confidence => "probability of the first guess: dark 0, pale 1",
            Layer::Entropy => "how undecided the model is: dark sure, pale no idea",
        }
    }
}

/// Seconds that a round is shown when they are played.
const ROUND: f64 = 0.4;

/// Points of a slider, so that it fits the narrowest card with its number and word.
const NARROW: f32 = 110.0;

/// What the controls are set to.
#[derive(Debug, Clone, Copy)]
struct Kept {
    layer: Layer,
    /// Rounds of iterative decoding, and how many of them are shown.
    rounds: usize,
    shown: usize,
    /// When playing began.
    playing: Option<f64>,
    sampling: Sampling,
}

impl Default for Kept {
    fn default() -> Self {
        let sampling = Sampling { temperature: 1.0, seed: 0 };
        Kept { layer: Layer::default(), rounds: 8, shown: 8, playing: None, sampling }
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
        let mut kept = ui.data(|d| d.get_temp::<Kept>(id)).unwrap_or_default();
        let layer = self.layer.unwrap_or(kept.layer);
        match layer {
            Layer::Steps => self.beit.want_rounds(kept.rounds),
            Layer::Sampled => self.beit.want_sampling(kept.sampling),
            _ => {}
        }
        if self.beit.wants_more() {
            ui.ctx().request_repaint();
        }
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
        play(ui, &mut kept);
        self.paint(ui, &field, layer, kept.shown);
        let response = match response.hover_pos().and_then(|at| field.patch_at(at)) {
            Some(patch) => self.explain(response, patch),
            None => response,
        };
        if self.layer.is_none() {
            ui.horizontal_wrapped(|ui| {
                for l in Layer::ALL {
                    let button = ui.selectable_value(&mut kept.layer, l, l.name());
                    if button.on_hover_text(l.explanation()).clicked() {
                        // What it needs is asked for in the next frame.
                        ui.ctx().request_repaint();
                    }
                }
            });
        }
        match layer {
            Layer::Steps => drop(ui.scope(|ui| rounds(ui, &mut kept))),
            Layer::Sampled => drop(ui.scope(|ui| sampling(ui, &mut kept.sampling))),
            _ => {}
        }
        ui.data_mut(|d| d.insert_temp(id, kept));
        if self.figures {
            figures(self.beit, ui);
        }
        response
    }

    /// The texture of a layer; that of the most probable tokens until the networks have answered for another one.
    fn filled(&self, layer: Layer) -> Option<egui::TextureId> {
        let seen = self.beit.seen()?;
        self.beit.texture(match layer {
            Layer::Steps if seen.rounds > 1 => Canvas::Iterated,
            Layer::Sampled if seen.sampling.is_some() => Canvas::Sampled,
            _ => Canvas::Filled,
        })
    }

    fn paint(&self, ui: &Ui, field: &Field, layer: Layer, rounds: usize) {
        let painter = ui.painter_at(field.rect.expand(3.0));
        let (filled, best) = (self.filled(layer), self.beit.texture(Canvas::Ceiling));
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
            Layer::Steps => {
                let later = |p: &beit::tasks::reconstruct::PatchReport| p.round.is_some_and(|r| r > rounds);
                let still: Vec<bool> = seen.patches.iter().map(later).collect();
                field.hidden(&painter, &still, 0.93);
            }
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

/// Shows one round after the other, if that is asked for.
fn play(ui: &Ui, kept: &mut Kept) {
    let Some(since) = kept.playing else { return };
    kept.shown = ((ui.input(|i| i.time) - since) / ROUND) as usize;
    if kept.shown >= kept.rounds {
        (kept.shown, kept.playing) = (kept.rounds, None);
    }
    ui.ctx().request_repaint_after(std::time::Duration::from_secs_f64(ROUND / 2.0));
}

/// Controls of iterative decoding, below each other: sliders do not wrap.
fn rounds(ui: &mut Ui, kept: &mut Kept) {
    ui.spacing_mut().slider_width = NARROW;
    let all = kept.shown == kept.rounds;
    if ui.add(Slider::new(&mut kept.rounds, 2..=12).text("rounds")).changed() {
        kept.shown = if all { kept.rounds } else { kept.shown.min(kept.rounds) };
        ui.ctx().request_repaint();
    }
    if ui.add(Slider::new(&mut kept.shown, 0..=kept.rounds).text("shown")).changed() {
        kept.playing = None;
    }
    ui.horizontal(|ui| {
        if ui.button("Play").on_hover_text("one round after the other").clicked() {
            (kept.shown, kept.playing) = (0, Some(ui.input(|i| i.time)));
        }
    });
}

/// Controls of drawing at random.
fn sampling(ui: &mut Ui, s: &mut Sampling) {
    ui.spacing_mut().slider_width = NARROW;
    let temperature = Slider::new(&mut s.temperature, 0.2..=2.0).step_by(0.1).text("temperature");
    let hint = "below 1 nearer to the most probable, above 1 wilder";
    let mut changed = ui.add(temperature).on_hover_text(hint).changed();
    ui.horizontal(|ui| {
        if ui.button("Draw again").clicked() {
            (s.seed, changed) = (s.seed + 1, true);
        }
    });
    if changed {
        ui.ctx().request_repaint();
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
