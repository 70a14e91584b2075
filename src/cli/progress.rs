//! What a run says on the terminal: a progress bar, or a line now and then without one.

use crate::train::events::{Event, Phase};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Seconds between lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows events.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    terminal: bool,
    total: u64,
    last_line: Instant,
    started: Instant,
    first: u64,
}

impl Progress {
    /// With `quiet` only warnings and results are shown.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let now = Instant::now();
        Progress { bar: None, quiet, terminal, total: 0, last_line: now, started: now, first: 0 }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Started { phase, first, total } => self.start(*phase, *first, *total),
            Event::Step { phase, step, metrics, images_per_second } => {
                self.step(*phase, *step, metrics, *images_per_second);
            }
            Event::Eval { phase, step, metrics } => {
                if !self.quiet {
                    self.say(&format!("{} {step}: {}", phase.name(), numbers(metrics)));
                }
            }
            Event::Warning(text) => self.say(&format!("warning: {text}")),
            Event::Note(text) if !self.quiet => self.say(text),
            Event::Picture { .. } | Event::Checkpoint { .. } | Event::Note(_) => {}
            Event::Ended { .. } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn start(&mut self, phase: Phase, first: u64, total: u64) {
        (self.total, self.first) = (total, first);
        (self.started, self.last_line) = (Instant::now(), Instant::now());
        if self.quiet {
            return;
        }
        self.say(&format!("{}: updates {} to {total}", phase.doing(), first + 1));
        if self.terminal {
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {eta} {msg}");
            let bar = ProgressBar::new(total).with_position(first).with_prefix(phase.name());
            self.bar =
                Some(if let Ok(style) = style { bar.with_style(style.progress_chars("=> ")) } else { bar });
        }
    }

    fn step(&mut self, phase: Phase, step: u64, metrics: &[(&'static str, f64)], rate: f64) {
        let of = |name: &str| metrics.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let mut text = format!("loss {:.3}", of("loss").unwrap_or(f64::NAN));
        for (label, name) in [("acc", "mlm_acc"), ("acc", "acc1"), ("perplexity", "perplexity")] {
            if let Some(v) = of(name) {
                text += &format!(", {label} {v:.3}");
            }
        }
        text += &format!(", {rate:.0} img/s");
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(text);
        } else if !self.quiet && (self.last_line.elapsed() > LINE_EVERY || step == self.total) {
            self.last_line = Instant::now();
            let per_step = self.started.elapsed().as_secs_f64() / (step - self.first).max(1) as f64;
            let left = per_step * (self.total - step) as f64;
            eprintln!("{} {step}/{}: {text}, {left:.0} s left", phase.name(), self.total);
        }
    }
}

/// Numbers as `name value` pairs.
fn numbers(metrics: &[(&'static str, f64)]) -> String {
    let show = |v: f64| if v.fract() == 0.0 { format!("{v:.0}") } else { format!("{v:.3}") };
    metrics
        .iter()
        .map(|(n, v)| format!("{} {}", n.replace('_', " "), show(*v)))
        .collect::<Vec<_>>()
        .join(", ")
}
