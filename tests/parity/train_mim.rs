//! `train_mim`: many updates of the masked image model through the product's own stepper.

use beit::graph::{Graph, PageKind};
use beit::interop::Head;
use beit::models::mim::{MimBatchShape, MimOptions, on_tokens};
use beit::ops::Control;
use beit::optim::{Decay, Rates};
use beit::session::{Data, Session};
use beit::tasks::pretrain::MaskedInputs;
use beit::train::{StepOptions, StepPlans, Stepper};

use super::case::{Case, Outcome};
use super::device::{Device, pages, permute, tensors};
use super::report::Report;
use super::updates::{check_rates, hyper};
use super::vit::{Names, STORE, from_transformers, imported, renamed, weights_for};

/// Loss and gradient norm of every update, weights on the way and at the end.
pub fn check(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let cfg = from_transformers(&case.config())?;
    let model = imported(case, &cfg, &Head::MaskedImage)?;
    let n = cfg.patches();
    let (images, ids) = (case.given("in.pixel_values")?, case.given("in.token_ids")?);
    let &[_, b, 3, h, w] = images.shape.as_slice() else {
        return Err(format!("in.pixel_values: {:?}", images.shape).into());
    };
    let masks = case.given("in.bool_masked_pos")?;
    let flags: Vec<Vec<bool>> =
        (0..masks.shape[0]).map(|i| masks.item(i).iter().map(|&m| m != 0.0).collect()).collect();
    let count = |mask: &[bool]| mask.iter().filter(|&&m| m).count();
    let slots = flags.iter().map(|m| count(m)).max().ok_or("no masks")?;

    let mut g = Graph::new();
    let words = g.input_words("ids", &[b, n])?;
    let shape = MimBatchShape { images: b, masked: slots };
    let loss =
        on_tokens(&mut g, &cfg, words, shape, MimOptions { train: true, ..MimOptions::default() })?.loss;
    let options = StepOptions { ema: false, accumulate: 1, decay: Decay::Official, rates: Rates::Equal };
    let plans = StepPlans::new("parity", g, loss, STORE, &[], &device.caps, options)?;
    let mut stepper = Stepper::new(device.session(), plans)?;
    let wanted = stepper.layout.views.iter().map(|v| (v.name.clone(), v.shape.clone())).collect();
    for (page, data) in pages(&stepper.layout, &weights_for(&model, &wanted)?)?.iter().enumerate() {
        stepper.session.write_page(STORE, PageKind::Param, page, data)?;
    }
    let c = case.settings("optimizer");
    check_decay(case, report, &stepper)?;
    let rates = case.given("in.lr")?.values.clone();
    check_rates(report, &c, rates.len())?;
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for (i, &lr) in rates.iter().enumerate() {
        let batch = case.given("in.batch_index")?.words()[i] as usize;
        let pixels: Vec<f32> = images.item(batch).iter().map(|&x| x as f32).collect();
        let ids: Vec<u32> = ids.item(batch).iter().map(|&x| x as u32).collect();
        let masked = MaskedInputs::new(&flags[i], n, slots, count(&flags[i]));
        stepper.write("image", Data::F32(&permute(&pixels, b, 3, h * w)))?;
        stepper.write("ids", Data::U32(&ids))?;
        let plan = stepper.micro();
        masked.write(stepper.session.as_mut(), plan)?;
        stepper.run_micro()?;
        losses.push(f64::from(*stepper.session.read(plan, "loss")?.f32().first().ok_or("no loss")?));
        stepper.run_update(&hyper(&c, lr)?)?;
        let ticket = stepper.fetch_control()?;
        let block =
            stepper.session.take(ticket, true)?.and_then(|mut v| v.pop()).ok_or("no control block")?;
        norms.push(f64::from(Control::read(&block.f32()).grad_norm));
        if i + 1 == c.count("mid_step")? {
            compare_weights(report, &mut stepper, "mid")?;
        }
    }
    compare_weights(report, &mut stepper, "final")?;
    report.required("loss", "out.loss", &losses);
    report.required("grad_norm", "out.grad_norm", &norms);
    Ok(())
}

fn weights(stepper: &mut Stepper) -> Outcome<beit::io::tensors::Tensors> {
    let read = |session: &mut dyn Session, p| session.read_page(STORE, PageKind::Param, p);
    let count = stepper.layout.pages.len();
    let pages: Vec<Vec<f32>> =
        (0..count).map(|p| read(stepper.session.as_mut(), p)).collect::<beit::Result<_>>()?;
    tensors(&stepper.layout, &pages)
}

fn compare_weights(report: &mut Report<'_>, stepper: &mut Stepper, when: &str) -> Outcome {
    let got = renamed(weights(stepper)?, Names::Transformers)?;
    report.family(&format!("{when}_weights"), &format!("{when}."), &got);
    Ok(())
}

/// The parameters that decay are those that the case lists.
fn check_decay(case: &Case, report: &mut Report<'_>, stepper: &Stepper) -> Outcome {
    let listed = case.settings("optimizer").texts("decay_params")?;
    let mut named = beit::io::tensors::Tensors::new();
    for v in &stepper.layout.views {
        let marker = if Decay::Official.applies(&v.name, &v.shape) { 1.0 } else { 0.0 };
        let t = beit::io::tensors::Tensor::f32(v.shape.clone(), vec![marker; v.elements()])?;
        named.insert(v.name.clone(), t);
    }
    for (name, values) in renamed(named, Names::Transformers)? {
        if (values[0] == 1.0) != listed.contains(&name) {
            report.fail(format!(
                "{name}: the case says {}",
                if values[0] == 1.0 { "no decay" } else { "decay" }
            ));
        }
    }
    Ok(())
}
