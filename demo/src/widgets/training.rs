//! A training to watch: what is trained on what, start and pause, curves of loss, accuracy, codebook and speed.

use beit::train::{LiveFigures, LiveSettings, Trained};
use egui::{Color32, ComboBox, DragValue, ProgressBar, Response, RichText, Ui};
use egui_plot::{Corner, HLine, Legend, Line, LineStyle, Plot, PlotPoints};

use super::not_ready;
use crate::Beit;
use crate::news::{Point, TrainOn, TrainingNews};

/// Points of a curve that are drawn; longer ones are thinned out by means.
const DRAWN: usize = 400;

/// What the controls are set to.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    settings: LiveSettings,
    on: TrainOn,
}

impl Default for Wanted {
    fn default() -> Self {
        let settings = LiveSettings { kind: Trained::Model, fresh: true, steps: 300, batch: 32, seed: 0 };
        Wanted { settings, on: TrainOn::Scenes }
    }
}

/// Controls and curves of the training of a [`Beit`].
pub struct TrainingMonitor<'a> {
    beit: &'a mut Beit,
    controls: bool,
    height: f32,
}

impl<'a> TrainingMonitor<'a> {
    /// A monitor with controls.
    pub fn new(beit: &'a mut Beit) -> Self {
        TrainingMonitor { beit, controls: true, height: 150.0 }
    }
    /// Whether the controls are shown; without them the host calls [`Beit::train`] and its neighbours.
    pub fn controls(mut self, controls: bool) -> Self {
        self.controls = controls;
        self
    }
    /// Height of a plot in points.
    pub fn height(mut self, height: f32) -> Self {
        self.height = height;
        self
    }

    /// Shows the monitor.
    pub fn show(mut self, ui: &mut Ui) -> Response {
        if let Some(response) = not_ready(self.beit, ui) {
            return response;
        }
        let inner = ui.vertical(|ui| {
            if self.controls {
                self.controls_row(ui);
                ui.add_space(6.0);
            }
            match self.beit.training().cloned() {
                Some(training) => self.curves(ui, &training),
                None => {
                    let text =
                        "Train the transformer or the tokenizer and watch: the pictures follow as it learns.";
                    ui.label(RichText::new(text).weak());
                }
            }
        });
        inner.response
    }

    fn controls_row(&mut self, ui: &mut Ui) {
        let id = ui.scope_id().with("wanted");
        let mut wanted = ui.data(|d| d.get_temp::<Wanted>(id)).unwrap_or_default();
        match self.beit.training().map(|t| (t.paused, t.done)) {
            None => {
                settings(ui, &mut wanted, self.beit.own_pictures());
                let own_missing = wanted.on == TrainOn::Own && self.beit.own_pictures() == 0;
                let start = egui::Button::new(RichText::new("Start training").strong());
                let start = ui.add_enabled(!own_missing, start);
                if start.on_disabled_hover_text("drop picture files into the window first").clicked() {
                    self.beit.train(wanted.settings, wanted.on);
                }
            }
            Some((paused, done)) => {
                ui.horizontal_wrapped(|ui| {
                    let text = if paused { "Continue" } else { "Pause" };
                    if ui.add_enabled(!done, egui::Button::new(text)).clicked() {
                        self.beit.pause(!paused);
                    }
                    let keep = ui.button("Keep what was learned");
                    if keep.on_hover_text("end; the networks stay as they are now").clicked() {
                        self.beit.end_training(true);
                    }
                    let reset = ui.button("Reset");
                    if reset.on_hover_text("end; back to the networks from before").clicked() {
                        self.beit.end_training(false);
                    }
                });
            }
        }
        ui.data_mut(|d| d.insert_temp(id, wanted));
    }

    fn curves(&self, ui: &mut Ui, training: &TrainingNews) {
        let Some(last) = training.curve.last() else {
            super::waiting(ui, "the first update");
            return;
        };
        let f = &last.figures;
        let state = match (training.done, training.paused) {
            (true, _) => "done",
            (_, true) => "paused",
            _ => "training",
        };
        let share = f.step as f32 / f.steps.max(1) as f32;
        ui.add(ProgressBar::new(share).desired_height(8.0).corner_radius(4));
        let text = format!("{state}: update {} of {}, {:.1} pictures a second", f.step, f.steps, last.rate);
        ui.label(text);
        let ln_v = (f.vocab.max(1) as f64).ln();
        let two = ui.available_width() > 620.0;
        let plots: [&dyn Fn(&mut Ui); 4] = [
            &|ui| {
                let loss = curve(training, "loss", |p| f64::from(p.figures.loss));
                let (title, marks) = match (f.accuracy, f.mse) {
                    (Some(_), _) => ("Loss, nat", vec![("blind guess", ln_v)]),
                    (_, Some(_)) => ("Loss", vec![]),
                    _ => ("Loss, nat a value", vec![]),
                };
                self.plot(ui, title, &[loss], &marks, Corner::LeftBottom);
            },
            &|ui| match f.accuracy {
                Some(_) => {
                    let hit = |f: &LiveFigures| f64::from(f.accuracy.unwrap_or(0.0));
                    let right = curve(training, "right", |p| 100.0 * hit(&p.figures));
                    let chance =
                        curve(training, "commonest token", |p| 100.0 * p.figures.chance.unwrap_or(0.0));
                    self.plot(ui, "Tokens predicted right, %", &[right, chance], &[], Corner::LeftTop);
                }
                None if f.mse.is_some() => {
                    let mse = curve(training, "mse", |p| p.figures.mse.map_or(0.0, f64::from));
                    self.plot(ui, "Squared error of a value in -1..1", &[mse], &[], Corner::RightTop);
                }
                None => {
                    let nll = curve(training, "nll a value", |p| p.figures.nll.map_or(0.0, f64::from));
                    self.plot(ui, "Negative log-likelihood, nat a value", &[nll], &[], Corner::RightTop);
                }
            },
            &|ui| {
                let used = curve(training, "ids in use", |p| p.figures.used as f64);
                let perplexity = curve(training, "perplexity", |p| p.figures.perplexity);
                self.plot(
                    ui,
                    "Codebook",
                    &[used, perplexity],
                    &[("vocabulary", f.vocab as f64)],
                    Corner::RightBottom,
                );
            },
            &|ui| {
                let rate = curve(training, "pictures a second", |p| p.rate);
                self.plot(ui, "Speed", &[rate], &[], Corner::RightBottom);
            },
        ];
        for pair in plots.chunks(if two { 2 } else { 1 }) {
            ui.columns(pair.len(), |columns| {
                columns.iter_mut().zip(pair).for_each(|(ui, plot)| plot(ui));
            });
        }
    }

    fn plot(&self, ui: &mut Ui, title: &str, curves: &[Curve], marks: &[(&str, f64)], legend: Corner) {
        ui.add_space(6.0);
        ui.label(RichText::new(title).strong());
        let colours = colours(ui.visuals().dark_mode);
        let plot = Plot::new(title)
            .height(self.height)
            .allow_drag(false)
            .allow_zoom(false)
            .allow_scroll(false)
            .include_y(0.0)
            .show_grid([false, true])
            .legend(Legend::default().follow_insertion_order(true).position(legend));
        plot.show(ui, |plot| {
            for (value, colour) in marks.iter().zip([Color32::GRAY; 2]) {
                plot.hline(HLine::new(value.0, value.1).color(colour).style(LineStyle::dashed_dense()));
            }
            for (curve, colour) in curves.iter().zip(colours) {
                let points = PlotPoints::from(curve.points.clone());
                plot.line(Line::new(curve.name, points).color(colour).width(2.0));
            }
        });
    }
}

struct Curve {
    name: &'static str,
    points: Vec<[f64; 2]>,
}

/// A curve over the updates; where there are many, each point is the mean of some of them.
fn curve(training: &TrainingNews, name: &'static str, value: impl Fn(&Point) -> f64) -> Curve {
    let each = training.curve.len().div_ceil(DRAWN).max(1);
    let mean = |points: &[Point]| {
        let n = points.len() as f64;
        let step = points.iter().map(|p| p.figures.step as f64).sum::<f64>() / n;
        [step, points.iter().map(&value).sum::<f64>() / n]
    };
    let finite = |p: &[f64; 2]| p[1].is_finite();
    Curve { name, points: training.curve.chunks(each).map(mean).filter(finite).collect() }
}

fn colours(dark: bool) -> [Color32; 2] {
    if dark {
        [Color32::from_rgb(255, 138, 96), Color32::from_rgb(102, 186, 255)]
    } else {
        [Color32::from_rgb(206, 74, 28), Color32::from_rgb(24, 104, 190)]
    }
}

/// What is trained on what.
fn settings(ui: &mut Ui, w: &mut Wanted, own: usize) {
    ui.horizontal_wrapped(|ui| {
        ui.label("Train");
        for (kind, name) in [(Trained::Model, "the transformer"), (Trained::Tokenizer, "the tokenizer")] {
            ui.selectable_value(&mut w.settings.kind, kind, name);
        }
    });
    ui.horizontal_wrapped(|ui| {
        ui.label("from");
        ui.selectable_value(&mut w.settings.fresh, true, "scratch");
        ui.selectable_value(&mut w.settings.fresh, false, "where it stands");
        let label = ui.label("on");
        let name = |on| match on {
            TrainOn::Scenes => "built-in scenes".to_string(),
            TrainOn::Own => format!("your pictures ({own})"),
        };
        let combo = ComboBox::from_id_salt("on").selected_text(name(w.on)).show_ui(ui, |ui| {
            for on in [TrainOn::Scenes, TrainOn::Own] {
                ui.selectable_value(&mut w.on, on, name(on));
            }
        });
        combo.response.labelled_by(label.id);
    });
    ui.horizontal_wrapped(|ui| {
        let steps = ui.add(DragValue::new(&mut w.settings.steps).range(1..=100_000).speed(5));
        let label = ui.label("updates of");
        steps.labelled_by(label.id);
        let batch = ui.add(DragValue::new(&mut w.settings.batch).range(1..=256));
        let label = ui.label("pictures");
        batch.labelled_by(label.id);
    });
}
