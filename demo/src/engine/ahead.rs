//! Kernels compiled before networks are loaded. On the desktop loading compiles them, on threads. In a browser loading
//! would wait for one after the other while the page stands still, so they are compiled side by side first.

use beit::Result;
use beit::tasks::reconstruct::ViewerPlans;
use beit::train::{LivePlans, LiveSettings, Pair};

use super::Engine;
use crate::news::TrainOn;

/// What goes on when the kernels are there.
pub(super) enum Next {
    View(Box<Pair>, String, ViewerPlans),
    Train(LiveSettings, TrainOn, Box<LivePlans>, ViewerPlans),
}

/// Kernels under compilation.
#[cfg(target_arch = "wasm32")]
pub(super) struct Ahead {
    next: Next,
    compiled: std::sync::Arc<std::sync::Mutex<Option<Result<()>>>>,
}

impl Engine {
    fn go_on(&mut self, next: Next, now: f64) -> Result<()> {
        match next {
            Next::View(pair, name, plans) => self.loaded(*pair, name, plans),
            Next::Train(settings, on, steps, looks) => self.trains(settings, on, *steps, looks, now),
        }
    }

    /// Goes on with what waited for its kernels, if they are there.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn after_kernels(&mut self, _: f64) -> Result<()> {
        Ok(())
    }
    /// Goes on when the kernels are there: at once, as loading compiles them.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn with_kernels(&mut self, next: Next, now: f64) -> Result<()> {
        self.go_on(next, now)
    }

    #[cfg(target_arch = "wasm32")]
    pub(super) fn after_kernels(&mut self, now: f64) -> Result<()> {
        use std::sync::PoisonError;
        let Some(ahead) = self.ahead.take() else { return Ok(()) };
        let compiled = ahead.compiled.lock().unwrap_or_else(PoisonError::into_inner).take();
        match compiled {
            Some(done) => done.and_then(|()| self.go_on(ahead.next, now)),
            None => {
                self.ahead = Some(ahead);
                Ok(())
            }
        }
    }
    /// Starts to compile; what waited before is forgotten.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn with_kernels(&mut self, next: Next, _: f64) -> Result<()> {
        use std::sync::{Arc, Mutex, PoisonError};
        let compiled: Arc<Mutex<Option<Result<()>>>> = Arc::default();
        let (gpu, board, done, plans) =
            (self.gpu.clone(), self.board.clone(), compiled.clone(), self.plans_of(&next)?);
        wasm_bindgen_futures::spawn_local(async move {
            let result = gpu.compile_ahead(&plans.iter().collect::<Vec<_>>()).await;
            *done.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            board.tell(|_| {});
        });
        self.ahead = Some(Ahead { next, compiled });
        Ok(())
    }

    #[cfg(target_arch = "wasm32")]
    fn plans_of(&self, next: &Next) -> Result<Vec<beit::plan::Plan>> {
        let (pair, looks, pages, mut all) = match next {
            Next::View(pair, _, looks) => (Some(pair.as_ref()), looks, beit::graph::PageKind::Param, vec![]),
            Next::Train(settings, _, steps, looks) => {
                let steps = vec![steps.steps.micro.clone(), steps.steps.update.clone()];
                (self.pair.as_ref(), looks, settings.kind.tokenizer_pages(), steps)
            }
        };
        all.extend([&looks.forward, &looks.encode, &looks.decode].map(Clone::clone));
        if let Some(p) = pair {
            let atlas =
                beit::tasks::atlas::Atlas::plan(&p.dvae, &p.tokenizer, &self.caps(), pages, super::AT_ONCE)?;
            all.push(atlas.0);
        }
        Ok(all)
    }
}
