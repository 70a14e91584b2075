//! Looking at a model: what it sees, what it predicts for hidden patches, what the tokenizer makes of both, and where
//! attention goes.
//!
//! ```text
//! Viewer::load(session, models)   plans for one picture at a time, on parameter stores that the session already holds
//! viewer.request(picture, mask)   a picture of any size: centred crop, two views
//! viewer.start(request) -> Job    Job::advance(session, wait) until it gives a Reconstruction; never blocks without `wait`
//! viewer.look(session, request)   the same, waiting (native)
//! viewer.start_look(request)      only what the networks say, no pixels: hosts on the same device draw those themselves
//! ```
//!
//! Nothing here needs a file system or a command line. The pictures are drawn with [`crate::pictures`].

mod attention;
mod decoding;
mod job;
mod look;
mod patches;

pub use attention::{AttentionMaps, stretched};
pub use job::Job;
pub use look::{LookJob, Looked};
pub use patches::{Guess, PatchReport, Score};

use super::tokenizer::{decode_plan_from, encode_plan_from, view_filter};
use crate::data::{Filter, Normalization, Picture, resize};
use crate::error::{Error, Result};
use crate::graph::{Graph, PageKind, ParamLayout};
use crate::models::mim::{all_logits, check_fit};
use crate::models::vit::{VitInputs, backbone};
use crate::models::{TokenizerModel, VitConfig};
use crate::ops::Caps;
use crate::plan::{CompileOptions, Plan, compile};
use crate::session::{PlanId, Session};
use serde::Serialize;
use std::sync::Arc;

/// The two networks, as a session holds them.
#[derive(Debug, Clone, Copy)]
pub struct ViewedModels<'a> {
    /// The transformer.
    pub vit: &'a VitConfig,
    /// Layout of its store, [`super::pretrain::MODEL`].
    pub layout: &'a ParamLayout,
    /// Scaling of its input.
    pub normalization: Normalization,
    /// The tokenizer.
    pub tokenizer: &'a TokenizerModel,
    /// Layout of its store, [`crate::models::mim::TOKENIZER`].
    pub tokenizer_layout: &'a ParamLayout,
    /// Which pages of the tokenizer are looked at: the parameters, or the average while it is being trained.
    pub tokenizer_pages: PageKind,
}

/// The compiled plans of a viewer, before anything is allocated.
#[derive(Debug, Clone)]
pub struct ViewerPlans {
    /// Logits, attention inputs.
    pub forward: Plan,
    /// Token view to ids.
    pub encode: Plan,
    /// Ids to pixels.
    pub decode: Plan,
}

/// Loaded plans that look at one picture at a time.
#[derive(Debug, Clone)]
pub struct Viewer {
    vit: VitConfig,
    tokenizer: TokenizerModel,
    normalization: Normalization,
    forward: PlanId,
    encode: PlanId,
    decode: PlanId,
    tables: usize,
}

/// A draw from the predicted distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it: below 1 bolder, above 1 wilder.
    pub temperature: f32,
    /// Seed of the draw.
    pub seed: u64,
}

/// What to look at, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The transformer's picture, of its size.
    pub patch_view: Picture,
    /// The tokenizer's picture: grid × stride pixels.
    pub token_view: Picture,
    /// Hidden patches `[n]`, row-major.
    pub mask: Vec<bool>,
    /// Predicted ids listed for each patch.
    pub top: usize,
    /// Also draw ids from the prediction.
    pub sampling: Option<Sampling>,
    /// Rounds of iterative decoding; 1 = all patches at once.
    pub rounds: usize,
    /// Also give attention maps.
    pub attention: bool,
}

/// The pictures of a reconstruction, all of the transformer's picture size.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// What was given.
    pub original: Picture,
    /// What the model saw.
    pub corrupted: Picture,
    /// Visible patches, and the most probable tokens decoded in the hidden ones.
    pub reconstructed: Picture,
    /// The same with tokens drawn at a temperature.
    pub sampled: Option<Picture>,
    /// The same with tokens chosen in several rounds, the most certain first.
    pub iterated: Option<Picture>,
    /// Everything from tokens: the tokenizer's in visible patches, the most probable in hidden ones.
    pub tokens_only: Picture,
    /// The tokenizer's own reconstruction, which no prediction can beat.
    pub ceiling: Picture,
}

/// Figures over the hidden patches of one picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Hidden patches.
    pub masked: usize,
    /// Mean cross-entropy in nats, as in training.
    pub loss: f64,
    /// Share of tokens predicted exactly.
    pub accuracy: f64,
    /// Share of tokens among the five most probable.
    pub accuracy_top5: f64,
    /// Mean entropy of the predictions in nats.
    pub entropy: f64,
    /// Share of tokens that the iterative decoding chose right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterated_accuracy: Option<f64>,
    /// Mean absolute error in hidden patches of the reconstruction, pixels 0..1.
    pub mae: f64,
    /// The same of the iterative decoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterated_mae: Option<f64>,
    /// The same of the tokenizer's own reconstruction.
    pub ceiling_mae: f64,
}

/// What [`Job::advance`] gives in the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconstruction {
    /// Rows and columns of the patch grid.
    pub grid: (usize, usize),
    /// Vocabulary V.
    pub vocab: usize,
    /// Hidden patches `[n]`.
    pub mask: Vec<bool>,
    /// Pictures.
    pub shown: Shown,
    /// Every patch, row-major; predictions for visible ones too.
    pub patches: Vec<PatchReport>,
    /// Figures over the hidden patches.
    pub figures: Figures,
    /// Attention maps, if asked for.
    pub attention: Option<AttentionMaps>,
}

impl Reconstruction {
    /// Probability of the predicted id in hidden patches, for [`crate::pictures::cells::heat_map`].
    pub fn confidence(&self) -> Vec<Option<f32>> {
        self.patches.iter().map(|p| p.masked.then(|| p.confidence())).collect()
    }
    /// Entropy of the prediction as a share of ln V in hidden patches.
    pub fn entropy_share(&self) -> Vec<Option<f32>> {
        let most = (self.vocab.max(2) as f32).ln();
        self.patches.iter().map(|p| p.masked.then(|| p.entropy / most)).collect()
    }
}

impl ViewerPlans {
    /// Compiles the plans for one picture.
    ///
    /// # Errors
    /// If the networks do not fit each other, or the model was not made for masked pictures.
    pub fn new(m: &ViewedModels<'_>, caps: &Caps) -> Result<ViewerPlans> {
        check_models(m)?;
        let mut g = Graph::new();
        let vit = m.vit;
        let image = g.input("image", &[1, vit.image.0, vit.image.1, 3])?;
        let mask = g.input_words("mask", &[1, vit.patches()])?;
        let trunk = backbone(&mut g, vit, VitInputs { image, mask: Some(mask), drop_key: None }, false)?;
        let (_, logits) = all_logits(&mut g, vit, trunk.last())?;
        g.output("logits", logits);
        for (i, qkv) in trunk.qkv.iter().enumerate() {
            g.output(&format!("qkv.{i}"), *qkv);
        }
        let mut tables: Vec<_> = trunk.tables.iter().flatten().copied().collect();
        tables.dedup();
        for (i, table) in tables.into_iter().enumerate() {
            g.output(&format!("table.{i}"), table);
        }
        let forward = compile("reconstruction", &g, &[m.layout], caps, &CompileOptions::default())?;
        let (tokenizer, layout, pages) = (m.tokenizer, m.tokenizer_layout, m.tokenizer_pages);
        let side = token_side(vit, tokenizer);
        let encode = encode_plan_from(tokenizer, layout, side, 1, caps, pages)?;
        let decode = decode_plan_from(tokenizer, layout, vit.grid(), 1, caps, pages)?;
        Ok(ViewerPlans { forward, encode, decode })
    }
}

/// The layout of the store of a model of masked pre-training: backbone, mask token, final norm, prediction head.
///
/// # Errors
/// If the sizes do not fit.
pub fn model_layout(vit: &VitConfig, page_bytes: u64) -> Result<ParamLayout> {
    let mut g = Graph::new();
    let image = g.input("image", &[1, vit.image.0, vit.image.1, 3])?;
    let mask = g.input_words("mask", &[1, vit.patches()])?;
    let trunk = backbone(&mut g, vit, VitInputs { image, mask: Some(mask), drop_key: None }, false)?;
    all_logits(&mut g, vit, trunk.last())?;
    ParamLayout::of(&g, super::pretrain::MODEL, page_bytes)
}

/// Height and width of the tokenizer's picture.
pub fn token_side(vit: &VitConfig, tokenizer: &TokenizerModel) -> (usize, usize) {
    let (rows, columns) = vit.grid();
    (rows * tokenizer.stride(), columns * tokenizer.stride())
}

fn check_models(m: &ViewedModels<'_>) -> Result<()> {
    check_fit(m.vit, m.tokenizer)?;
    for (name, what) in [("mask_token", "mask token"), ("lm_head.weight", "prediction head")] {
        if m.layout.view(name).is_none() {
            return Err(Error::checkpoint(format!("this model has no {what}"))
                .expected("a model of masked pre-training")
                .got(format!("no tensor {name}"))
                .hint("fine-tuned models cannot reconstruct; take the pre-training checkpoint"));
        }
    }
    Ok(())
}

impl Viewer {
    /// Compiles and loads the plans; the session must hold both stores.
    ///
    /// # Errors
    /// As [`ViewerPlans::new`], or if the device refuses.
    pub fn load(session: &mut dyn Session, models: &ViewedModels<'_>) -> Result<Viewer> {
        let plans = ViewerPlans::new(models, &session.caps())?;
        Viewer::of_plans(session, models, plans)
    }

    /// Loads plans that were compiled before for these models; the session must hold both stores.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn of_plans(
        session: &mut dyn Session,
        models: &ViewedModels<'_>,
        plans: ViewerPlans,
    ) -> Result<Viewer> {
        let tables = plans.forward.outputs.iter().filter(|p| p.name.starts_with("table.")).count();
        Ok(Viewer {
            vit: models.vit.clone(),
            tokenizer: models.tokenizer.clone(),
            normalization: models.normalization,
            forward: session.load(Arc::new(plans.forward))?,
            encode: session.load(Arc::new(plans.encode))?,
            decode: session.load(Arc::new(plans.decode))?,
            tables,
        })
    }

    /// Adds both stores to a fresh session, with these parameters, and loads the plans.
    ///
    /// # Errors
    /// As [`Viewer::load`].
    pub fn open(
        session: &mut dyn Session,
        models: &ViewedModels<'_>,
        model: &[Vec<f32>],
        tokenizer: &[Vec<f32>],
    ) -> Result<Viewer> {
        check_models(models)?;
        for (layout, pages) in [(models.layout, model), (models.tokenizer_layout, tokenizer)] {
            session.add_store(layout, &[PageKind::Param])?;
            for (p, page) in pages.iter().enumerate() {
                session.write_page(&layout.store, PageKind::Param, p, page)?;
            }
        }
        Viewer::load(session, &ViewedModels { tokenizer_pages: PageKind::Param, ..*models })
    }

    /// Rows and columns of the patch grid.
    pub fn grid(&self) -> (usize, usize) {
        self.vit.grid()
    }
    /// The transformer.
    pub fn vit(&self) -> &VitConfig {
        &self.vit
    }
    /// The tokenizer.
    pub fn tokenizer(&self) -> &TokenizerModel {
        &self.tokenizer
    }

    /// The views of a picture of any size: the largest centred rectangle of the model's aspect, resized as in evaluation
    /// (bicubic for the transformer, for the tokenizer by its own filter). One round, five ids a patch, no sampling, no attention.
    pub fn request(&self, picture: &Picture, mask: Vec<bool>) -> Request {
        let (h, w) = self.vit.image;
        let (th, tw) = token_side(&self.vit, &self.tokenizer);
        let crop = picture.centred((h, w));
        Request {
            patch_view: resize(picture, crop, w, h, Filter::Bicubic),
            token_view: resize(picture, crop, tw, th, view_filter(&self.tokenizer)),
            mask,
            top: 5,
            sampling: None,
            rounds: 1,
            attention: false,
        }
    }

    /// Checks a request and prepares its job; nothing runs yet.
    ///
    /// # Errors
    /// If picture, mask or settings cannot work.
    pub fn start(&self, request: Request) -> Result<Job> {
        self.check(&request)?;
        Ok(Job::new(self.clone(), request))
    }

    /// Runs a request and waits for it.
    ///
    /// # Errors
    /// As [`Viewer::start`], or if the device refuses.
    pub fn look(&self, session: &mut dyn Session, request: Request) -> Result<Reconstruction> {
        let mut job = self.start(request)?;
        loop {
            if let Some(found) = job.advance(session, true)? {
                return Ok(found);
            }
        }
    }

    fn check(&self, r: &Request) -> Result<()> {
        let (h, w) = self.vit.image;
        let (th, tw) = token_side(&self.vit, &self.tokenizer);
        for (what, picture, (h, w)) in
            [("patch view", &r.patch_view, (h, w)), ("token view", &r.token_view, (th, tw))]
        {
            if (picture.height, picture.width) != (h, w) || picture.rgb.len() != 3 * h * w {
                return Err(Error::shape(format!("{what} of another size than the model's"))
                    .expected(format!("{h} x {w}"))
                    .got(format!("{} x {}", picture.height, picture.width)));
            }
        }
        check_mask(&r.mask, self.grid())?;
        if r.rounds == 0 || r.top == 0 {
            let at = if r.rounds == 0 { "rounds" } else { "top" };
            return Err(Error::config("wrong value").at(at).expected("1 or more").got("0"));
        }
        match r.sampling {
            Some(s) if !(s.temperature > 0.0 && s.temperature.is_finite()) => {
                Err(Error::config("wrong value")
                    .at("temperature")
                    .expected("a number above 0")
                    .got(s.temperature.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// Checks that a mask fits a grid and hides something.
///
/// # Errors
/// If it does not.
pub fn check_mask(mask: &[bool], (rows, columns): (usize, usize)) -> Result<()> {
    if mask.len() != rows * columns {
        return Err(Error::data("mask of the wrong size")
            .expected(format!("{rows} x {columns} patches"))
            .got(format!("{} cells", mask.len())));
    }
    if !mask.contains(&true) {
        return Err(Error::data("the mask hides nothing").expected("at least one patch").got("0"));
    }
    Ok(())
}
