//! What the widgets ask for: networks, pictures, a training, files.

use std::path::Path;
use std::sync::Arc;

use beit::data::source::reduced;
use beit::data::{ImageLimits, Picture, Source, SyntheticSource, decode};
use beit::tasks::reconstruct::ViewerPlans;
use beit::train::{LivePlans, LiveSettings, LiveTraining, Pair, page_bytes};
use beit::{Error, Result};

use super::ahead::Next;
use super::{Engine, Holder, Loaded};
use crate::built_in;
use crate::news::{Command, TrainOn};

/// Built-in scenes for training, and their side in pixels.
const SCENES: usize = 10_000;
const SCENE_SIDE: usize = 64;
/// Side in pixels of the built-in scenes that are looked at.
const SHOWN_SIDE: usize = 256;
/// Pictures are looked at with at most this side.
const LONGEST: usize = 512;

impl Engine {
    /// Does what the widgets ask for.
    pub(crate) fn obey(&mut self, command: Command, now: f64) {
        if let Err(e) = self.try_obey(command, now) {
            self.board.tell(|n| {
                n.error = Some(e.to_string());
                n.status.clear();
            });
        }
    }

    fn try_obey(&mut self, command: Command, now: f64) -> Result<()> {
        match command {
            Command::Load(pair, name) => self.load(*pair, name),
            Command::BuiltIn => {
                self.say("loading the built-in model");
                let pair = built_in::pair(page_bytes(&self.caps()))?;
                self.load(pair, "built-in model".into())
            }
            Command::Open(path) => self.open(&path),
            Command::Look(wish) => {
                self.wish = Some(wish);
                Ok(())
            }
            Command::WantAtlas(want) => {
                self.want_atlas = want;
                Ok(())
            }
            Command::ShowFile(name, bytes) => self.show(name, &bytes),
            Command::ShowScene(index) => {
                let named = (format!("built-in scene {}", index + 1), Arc::new(scene(index)?));
                self.board.tell(|n| n.opened = Some(named));
                Ok(())
            }
            Command::ShowPath(path) => {
                let bytes = read(&path)?;
                self.show(file_name(&path), &bytes)
            }
            Command::AddFiles(files) => self.add(files.into_iter().map(Ok)),
            Command::AddPaths(paths) => self.add(paths.iter().map(|p| read(p))),
            Command::Train(settings, on) => self.train(settings, on, now),
            Command::Pause(paused) => {
                self.paused = paused;
                self.stepped_at = now;
                self.tell_training();
                Ok(())
            }
            Command::End(keep) => self.end(keep),
            Command::Save(dir) => self.save(&dir),
            Command::SavePicture(path, title, from) => {
                self.save = Some((path, title, from));
                Ok(())
            }
        }
    }

    fn say(&self, status: &str) {
        self.board.tell(|n| n.status = status.into());
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn open(&mut self, path: &Path) -> Result<()> {
        self.say("loading the model");
        let pair = Pair::open(path, None, page_bytes(&self.caps()))?;
        self.load(pair, path.display().to_string())
    }
    #[cfg(target_arch = "wasm32")]
    fn open(&mut self, path: &Path) -> Result<()> {
        Err(Error::config("a page cannot open folders").got(path.display().to_string()))
    }

    fn load(&mut self, pair: Pair, name: String) -> Result<()> {
        self.say("preparing kernels");
        let plans = self.plans(&pair, None)?;
        self.with_kernels(Next::View(Box::new(pair), name, plans), 0.0)
    }

    /// Puts networks on the device, whose kernels are there.
    pub(super) fn loaded(&mut self, pair: Pair, name: String, plans: ViewerPlans) -> Result<()> {
        self.view(&pair, plans)?;
        (self.pair, self.name) = (Some(pair), name);
        self.curve = Arc::default();
        self.tell_model();
        Ok(())
    }

    fn show(&mut self, name: String, bytes: &[u8]) -> Result<()> {
        let limits = if cfg!(target_arch = "wasm32") { ImageLimits::web() } else { ImageLimits::default() };
        let picture = decode(bytes, &limits).map_err(|e| e.at(name.clone()))?;
        let picture = Arc::new(reduced(&picture, LONGEST));
        self.board.tell(|n| (n.opened, n.error) = (Some((name, picture)), None));
        Ok(())
    }

    fn add(&mut self, files: impl Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
        let (mut bad, mut last) = (0, None);
        for bytes in files {
            let added = bytes.and_then(|b| decode(&b, &ImageLimits::web())).and_then(|p| self.album.add(&p));
            if let Err(e) = added {
                (bad, last) = (bad + 1, Some(e));
            }
        }
        let have = self.album.len();
        self.board.tell(|n| n.own_pictures = have);
        match last {
            Some(e) => Err(Error::data(format!("{bad} files could not be added")).got(e.to_string())),
            None => Ok(()),
        }
    }

    fn train(&mut self, settings: LiveSettings, on: TrainOn, now: f64) -> Result<()> {
        let pair = self.pair.as_ref().ok_or_else(nothing_loaded)?;
        self.say("preparing the training");
        let steps = LivePlans::new(pair, &settings, &self.caps())?;
        let looks = self.plans(pair, Some(settings.kind))?;
        self.with_kernels(Next::Train(settings, on, Box::new(steps), looks), now)
    }

    /// Starts a training, whose kernels are there.
    pub(super) fn trains(
        &mut self,
        settings: LiveSettings,
        on: TrainOn,
        steps: LivePlans,
        looks: ViewerPlans,
        now: f64,
    ) -> Result<()> {
        let pair = self.pair.clone().ok_or_else(nothing_loaded)?;
        let source: Arc<dyn Source> = match on {
            TrainOn::Scenes => Arc::new(SyntheticSource::new(0, SCENES, SCENE_SIDE)),
            TrainOn::Own => Arc::new(self.album.clone()),
        };
        let training = LiveTraining::start(self.session(), &pair, settings, steps, source, None)?;
        self.hold(Holder::Training(Box::new(training)), &pair, looks)?;
        (self.paused, self.curve, self.stepped_at) = (false, Arc::default(), now);
        self.board.tell(|n| n.error = None);
        self.tell_training();
        Ok(())
    }

    fn end(&mut self, keep: bool) -> Result<()> {
        if let Some(Loaded { holder: Holder::Training(t), .. }) = &self.loaded
            && let Some(pair) = &self.pair
        {
            let pair = if keep { t.trained(pair) } else { pair.clone() };
            let plans = self.plans(&pair, None)?;
            self.view(&pair, plans)?;
            self.pair = Some(pair);
        }
        self.tell_model();
        Ok(())
    }

    fn save(&mut self, dir: &Path) -> Result<()> {
        let mut pair = self.pair.clone().ok_or_else(nothing_loaded)?;
        if let Some(Loaded { holder: Holder::Training(t), .. }) = &self.loaded {
            pair = t.trained(&pair);
        }
        let files = pair.files()?;
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (*n, b.as_slice())).collect();
        beit::io::atomic::write_folder(dir, &files)?;
        let note = format!("saved in {}", dir.display());
        self.board.tell(|n| (n.note, n.error) = (Some(note), None));
        Ok(())
    }
}

fn nothing_loaded() -> Error {
    Error::config("no model is loaded").hint("open a run folder, or use the built-in model")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("cannot read the picture", path, &e))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// A picture of the built-in scenes; scenes from a million on are never trained on.
fn scene(index: usize) -> Result<Picture> {
    Ok(SyntheticSource::new(0, u32::MAX as usize >> 1, SHOWN_SIDE).load(1_000_000 + index)?.picture)
}
