//! The loop that all phases of a run share: steps, metrics without stalls, evaluation, checkpoints, stopping.

use super::events::{Event, Phase};
use super::pace::{Lap, Pace};
use super::run::Run;
use crate::data::Loader;
use crate::error::{Error, ErrorKind, Result};
use crate::io::tboard::{EventFile, EventImage, Stamp};
use crate::ops::Control;
use crate::runs::Metrics;
use crate::runs::sheet::SheetPng;
use crate::session::{HostData, Session, Ticket};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::time::Instant;

/// Steps without finite gradients after which a run gives up.
const GIVE_UP: u64 = 10;
/// Reports that may be under way before the loop waits for the oldest.
const IN_FLIGHT: usize = 8;

/// Numbers with names, in the order in which they are shown.
pub type Numbers = Vec<(&'static str, f64)>;

/// What an evaluation found.
pub struct Evaluation {
    /// Numbers on held-out pictures.
    pub metrics: Numbers,
    /// The number by which the best checkpoint is chosen (lower is better).
    pub score: f64,
    /// A contact sheet, where the phase has something to show.
    pub sheet: Option<SheetPng>,
}

/// What a phase does at its places in the loop.
pub trait Work {
    /// What the loader makes.
    type Batch: Send + 'static;
    /// Which phase.
    fn phase(&self) -> Phase;
    /// All updates.
    fn total(&self) -> u64;
    /// Images per update.
    fn images(&self) -> usize;
    /// The session.
    fn session(&mut self) -> &mut dyn Session;
    /// Runs update `i`; with `report` starts reading its numbers, the control block last.
    ///
    /// # Errors
    /// If the device refuses.
    fn step(&mut self, i: u64, batch: &Self::Batch, report: bool) -> Result<Vec<Ticket>>;
    /// The numbers of update `i` from what was read.
    fn numbers(&mut self, i: u64, read: Vec<Vec<HostData>>) -> (Numbers, Option<String>);
    /// Measures on held-out pictures.
    ///
    /// # Errors
    /// If the device refuses.
    fn evaluate(&mut self, step: u64) -> Result<Evaluation>;
    /// The files of a checkpoint after `step` updates.
    ///
    /// # Errors
    /// If the device refuses.
    fn files(&mut self, step: u64, best: Option<(u64, f64)>) -> Result<Vec<(String, Vec<u8>)>>;
}

/// Reports of updates that have not been read yet.
struct Pending {
    step: u64,
    tickets: Vec<Ticket>,
    read: Vec<Vec<HostData>>,
    lap: Lap,
}

/// Writers and counters of one phase.
pub struct Drive<'r, 'a, W: Work> {
    run: &'r mut Run<'a>,
    work: &'r mut W,
    metrics: Metrics,
    events: EventFile,
    pending: VecDeque<Pending>,
    best: Option<(u64, f64)>,
    pace: Pace,
    skipped: u64,
}

impl<'r, 'a, W: Work> Drive<'r, 'a, W> {
    /// Prepares the writers; metrics after `first` (of a killed start) are dropped.
    ///
    /// # Errors
    /// If files of the run cannot be written.
    pub fn new(run: &'r mut Run<'a>, work: &'r mut W, first: u64, best: Option<(u64, f64)>) -> Result<Self> {
        let phase = work.phase().name();
        run.folder.truncate_metrics_after(phase, first)?;
        let metrics = run.folder.metrics()?;
        let mut events = run.folder.events(phase, run.wall_time())?;
        if first > 0 {
            events.restart(Stamp { step: first + 1, wall_time: run.wall_time() })?;
        }
        let pace = Pace::new(first);
        Ok(Drive { run, work, metrics, events, pending: VecDeque::new(), best, pace, skipped: 0 })
    }

    /// Runs updates `first..total`; false if it was stopped before the end.
    ///
    /// # Errors
    /// If data, device or disk fail, or gradients stay non-finite.
    pub fn train(&mut self, loader: &mut Loader<Result<W::Batch>>, first: u64) -> Result<bool> {
        let (phase, total) = (self.work.phase(), self.work.total());
        self.run.tell(Event::Started { phase, first, total });
        self.run.folder.write_status(crate::runs::RunState::Running, phase.name(), first)?;
        self.pace = Pace::new(first);
        let mut done = first;
        while done < total && !self.run.should_stop() {
            let Some(batch) = loader.next() else { break };
            let batch = batch??;
            if done == first {
                self.pace.first_batch(loader.waited());
            }
            let report = (done + 1).is_multiple_of(self.run.schedule.log_every);
            let tickets = self.work.step(done, &batch, report)?;
            done += 1;
            self.run.count_step();
            if report {
                let lap = self.pace.lap(done, loader.waited());
                self.pending.push_back(Pending { step: done, tickets, read: vec![], lap });
            }
            self.poll(self.pending.len() > IN_FLIGHT)?;
            let last = done == total || self.run.should_stop();
            let cadence = &self.run.schedule;
            let (eval, save) =
                (done.is_multiple_of(cadence.eval_every), done.is_multiple_of(cadence.save_every));
            if eval || done == total {
                self.evaluate(done)?;
            }
            if save || last {
                self.save(done)?;
            }
        }
        self.drain()?;
        if done > first {
            let pace = self.pace.summary(done, loader.waited());
            self.run.tell(Event::Note(format!("{}: {pace}", phase.doing())));
        }
        self.run.tell(Event::Ended { phase, step: done, done: done == total });
        Ok(done == total)
    }

    /// Takes reports that have arrived, in order; with `wait` at least the oldest.
    fn poll(&mut self, wait: bool) -> Result<()> {
        let mut wait = wait;
        while let Some(front) = self.pending.front_mut() {
            while front.read.len() < front.tickets.len() {
                let ticket = front.tickets[front.read.len()];
                match self.work.session().take(ticket, wait)? {
                    Some(data) => front.read.push(data),
                    None => return Ok(()),
                }
            }
            wait = false;
            if let Some(p) = self.pending.pop_front() {
                self.report(p)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            self.poll(true)?;
        }
        Ok(())
    }

    fn report(&mut self, p: Pending) -> Result<()> {
        let control = p.read.last().and_then(|r| r.first()).cloned().map(HostData::f32).unwrap_or_default();
        let control = Control::read(&control);
        let (mut numbers, warning) = self.work.numbers(p.step - 1, p.read);
        numbers.push(("grad_norm", f64::from(control.grad_norm)));
        numbers.push(("loss_scale", f64::from(control.loss_scale.unwrap_or(1.0))));
        numbers.push(("skipped_steps", control.skipped as f64));
        numbers.push(("memory_mib", self.work.session().allocated() as f64 / f64::from(1 << 20)));
        let images = self.work.images();
        let phase = self.work.phase();
        self.record(p.step, &numbers, Some(p.lap.json(images)))?;
        if let Some(text) = warning {
            self.run.tell(Event::Warning(text));
        }
        if control.skipped > self.skipped {
            self.skipped = control.skipped;
            let lowered =
                control.loss_scale.map(|s| format!("; the loss scale is {s} now")).unwrap_or_default();
            self.run.tell(Event::Warning(format!(
                "update {} had gradients that are not finite: nothing was changed ({} so far){lowered}",
                p.step, control.skipped
            )));
        }
        self.run.tell(Event::Step {
            phase,
            step: p.step,
            metrics: numbers,
            images_per_second: p.lap.images_per_second(images),
        });
        if control.skipped_in_a_row >= GIVE_UP {
            self.save(p.step)?;
            return Err(Error::new(ErrorKind::Diverged, "training diverged")
                .at(format!("{} update {}", phase.name(), p.step))
                .got(format!("{GIVE_UP} updates in a row without finite gradients"))
                .hint("a checkpoint was saved; start again with a smaller --lr or a smaller --clip-grad"));
        }
        Ok(())
    }

    /// One line of metrics, and the same numbers for TensorBoard.
    fn record(&mut self, step: u64, numbers: &Numbers, timing: Option<Value>) -> Result<()> {
        let phase = self.work.phase().name();
        let mut line = Map::new();
        line.insert("phase".into(), phase.into());
        line.insert("step".into(), step.into());
        for (name, value) in numbers {
            line.insert((*name).into(), json!(value));
        }
        let mut scalars: Vec<(String, f32)> =
            numbers.iter().map(|(n, v)| (format!("{phase}/{n}"), *v as f32)).collect();
        if let Some(Value::Object(t)) = &timing {
            let seconds =
                t.iter().filter_map(|(n, v)| v.as_f64().map(|v| (format!("{phase}/{n}"), v as f32)));
            scalars.extend(seconds);
            line.insert("timing".into(), Value::Object(t.clone()));
        }
        self.metrics.append(&Value::Object(line))?;
        let named: Vec<(&str, f32)> = scalars.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        self.events.scalars(Stamp { step, wall_time: self.run.wall_time() }, &named)
    }

    fn evaluate(&mut self, step: u64) -> Result<()> {
        self.drain()?;
        // The updates under way are training, what follows is not.
        self.work.session().finish()?;
        let from = Instant::now();
        let found = self.work.evaluate(step)?;
        let phase = self.work.phase();
        self.record(step, &found.metrics, None)?;
        if let Some(sheet) = &found.sheet {
            self.show(step, sheet)?;
        }
        if found.score.is_finite() && self.best.is_none_or(|(_, best)| found.score < best) {
            self.best = Some((step, found.score));
        }
        self.run.tell(Event::Eval { phase, step, metrics: found.metrics });
        self.pace.leave_out(from.elapsed());
        Ok(())
    }

    /// Keeps a contact sheet in the run folder and among the TensorBoard events.
    fn show(&mut self, step: u64, sheet: &SheetPng) -> Result<()> {
        let phase = self.work.phase().name();
        let name = format!("sheets/{phase}-{step:08}.png");
        self.run.folder.write(&name, &sheet.png)?;
        let at = Stamp { step, wall_time: self.run.wall_time() };
        let image = EventImage { width: sheet.width, height: sheet.height, png: &sheet.png };
        self.events.image(at, &format!("{phase}/sheet"), image)?;
        self.run.tell(Event::Picture { path: self.run.folder.dir().join(name) });
        Ok(())
    }

    fn save(&mut self, step: u64) -> Result<()> {
        self.drain()?;
        self.work.session().finish()?;
        let from = Instant::now();
        self.metrics.sync()?;
        let files = self.work.files(step, self.best)?;
        let path = self.run.save_checkpoint(self.work.phase(), step, &files, self.best.map(|b| b.0))?;
        self.run.tell(Event::Checkpoint { path });
        self.pace.leave_out(from.elapsed());
        Ok(())
    }
}
