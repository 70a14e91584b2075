//! Networks on a device, with the plans that look at them. What the first picture does not need is compiled when it is
//! first asked for.

use std::sync::Arc;

use beit::gpu::{Arrivals, Gpu, GpuSession};
use beit::graph::PageKind;
use beit::ops::Caps;
use beit::session::{PlanId, Session};
use beit::tasks::atlas::Atlas;
use beit::tasks::reconstruct::{AttentionMaps, Viewer, ViewerPlans};
use beit::train::Trained;
use beit::{Error, Result};

use crate::inspect;
use crate::models::Weights;
use crate::training::Training;

/// Tokens decoded at once.
const AT_ONCE: usize = 8;

/// Whose session the networks lie in.
pub(crate) enum Holder {
    Viewing(Box<dyn Session>),
    Training(Box<Training>),
}

impl Holder {
    pub(crate) fn session(&mut self) -> &mut dyn Session {
        match self {
            Holder::Viewing(session) => session.as_mut(),
            Holder::Training(training) => training.live.stepper.session.as_mut(),
        }
    }
    /// Which pages of the tokenizer are looked at.
    fn tokenizer_pages(&self) -> PageKind {
        match self {
            Holder::Training(t) => t.live.settings.kind.tokenizer_pages(),
            Holder::Viewing(_) => PageKind::Param,
        }
    }
}

/// Networks on the device.
pub(crate) struct Loaded {
    pub(crate) holder: Holder,
    pub(crate) arrivals: Arrivals,
    pub(crate) viewer: Viewer,
    pub(crate) attention: Option<AttentionMaps>,
    inspect: Option<PlanId>,
    atlas: Option<Atlas>,
}

/// The plans of the first picture.
pub(crate) fn viewer_plans(weights: &Weights, trained: Option<Trained>, caps: &Caps) -> Result<ViewerPlans> {
    let pages = trained.map_or(PageKind::Param, Trained::tokenizer_pages);
    ViewerPlans::new(&weights.viewed(pages), caps)
}

impl Loaded {
    /// Loads the viewer's plans beside what the holder's session has.
    pub(crate) fn new(
        mut holder: Holder,
        arrivals: Arrivals,
        weights: &Weights,
        plans: ViewerPlans,
    ) -> Result<Loaded> {
        let models = weights.viewed(holder.tokenizer_pages());
        let viewer = Viewer::of_plans(holder.session(), &models, plans)?;
        Ok(Loaded { holder, arrivals, viewer, attention: None, inspect: None, atlas: None })
    }

    /// Both networks on a session of their own.
    pub(crate) async fn viewing(gpu: &Gpu, weights: &Weights) -> Result<Loaded> {
        let plans = viewer_plans(weights, None, &gpu.caps())?;
        gpu.compile_ahead(&[&plans.forward, &plans.encode, &plans.decode]).await?;
        let session = GpuSession::new(gpu.clone());
        let arrivals = session.arrivals();
        let mut session: Box<dyn Session> = Box::new(session);
        weights.put(session.as_mut(), beit::tasks::pretrain::MODEL)?;
        weights.put(session.as_mut(), beit::models::mim::TOKENIZER)?;
        Loaded::new(Holder::Viewing(session), arrivals, weights, plans)
    }

    /// The plan with the logits of all patches and the features of every block.
    pub(crate) async fn inspection(&mut self, gpu: &Gpu, weights: &Weights) -> Result<PlanId> {
        if let Some(id) = self.inspect {
            return Ok(id);
        }
        let plan = inspect::plan(weights, &gpu.caps())?;
        gpu.compile_ahead(&[&plan]).await?;
        let id = self.holder.session().load(Arc::new(plan))?;
        self.inspect = Some(id);
        Ok(id)
    }

    /// The decoder of single tokens.
    pub(crate) async fn atlas(&mut self, gpu: &Gpu, weights: &Weights) -> Result<&Atlas> {
        if self.atlas.is_none() {
            let (dvae, layout, pages) = (&weights.dvae, &weights.tokenizer, self.holder.tokenizer_pages());
            gpu.compile_ahead(&[&Atlas::plan(dvae, layout, &gpu.caps(), pages, AT_ONCE)?.0]).await?;
            self.atlas = Some(Atlas::load(self.holder.session(), dvae, layout, pages, AT_ONCE)?);
        }
        self.atlas.as_ref().ok_or_else(nothing_loaded)
    }
}

/// The error of a call that needs networks before there are any.
pub(crate) fn nothing_loaded() -> Error {
    Error::config("no model is loaded").hint("call load first")
}
