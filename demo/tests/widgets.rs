//! The widgets on a device of the test's own, found by what they are called for a screen reader.
//!
//! One window holds them one after the other, because the kernels of a device are compiled once. Without an adapter the
//! test says so loudly and passes.

mod support;

use beit_egui::beit::data::Picture;
use beit_egui::beit::train::{LiveSettings, Trained};
use beit_egui::egui::{Key, accesskit::Toggled};
use beit_egui::{
    AttentionOverlay, Beit, CodebookAtlas, Compute, MaskEditor, ReconstructionView, TokenInspector, TrainOn,
    TrainingMonitor, View,
};
use egui_kittest::kittest::{NodeT, Queryable};
use support::{Shown, Window, device, settle, window, window_on};

fn hidden(w: &Window) -> usize {
    w.state().beit.mask().iter().filter(|&&m| m).count()
}

/// Waits until the networks have answered to the mask and the picture as they are.
fn answered(w: &mut Window) {
    settle(w, "an answer", |s| s.beit.seen().is_some_and(|seen| *seen.mask == *s.beit.mask()));
}

#[test]
fn the_widgets_work() {
    let Some(state) = device() else { return };
    let mut w = window(&state, [560.0, 760.0]);
    assert!(w.query_by_label_contains("Mask:").is_none(), "no picture before there is a model");
    settle(&mut w, "the built-in model", |s| s.beit.model().is_some() && !s.beit.picture_name().is_empty());
    mask_editor(&mut w);
    reconstruction(&mut w);
    tokens(&mut w);
    attention(&mut w);
    codebook_is_drawn(&mut w);
    training(&mut w);
    looks(&mut w);
}

fn mask_editor(w: &mut Window) {
    w.state_mut().show = Shown::Mask;
    w.run_steps(3);
    assert_eq!(w.state().beit.mask().len(), 64);
    w.get_by_label("Clear").click();
    w.run_steps(3);
    assert_eq!(hidden(w), 0);
    w.get_by_label("Mask: 0 of 64 patches hidden");

    // A click turns a patch around, and back; it is chosen as well.
    let cell = |w: &Window| w.get_by_label("row 3, column 4").accesskit_node().toggled();
    assert_eq!(cell(w), Some(Toggled::False));
    w.get_by_label("row 3, column 4").click();
    w.run_steps(3);
    assert_eq!((cell(w), hidden(w)), (Some(Toggled::True), 1));
    assert_eq!(w.state().beit.chosen_patch(), Some(2 * 8 + 3));

    // The keyboard: arrow keys walk, the space bar turns around.
    w.get_by_label("row 3, column 4").focus();
    w.run_steps(2);
    w.key_press(Key::ArrowRight);
    w.run_steps(2);
    w.key_press(Key::Space);
    w.run_steps(3);
    assert!(w.state().beit.mask()[2 * 8 + 4], "the neighbour is hidden by the space bar");

    // A stroke paints what its first patch turned to.
    let [from, to] = ["row 5, column 2", "row 5, column 6"].map(|l| w.get_by_label(l).rect().center());
    w.drag_at(from);
    w.run_steps(2);
    w.hover_at(from + (to - from) * 0.5);
    w.run_steps(2);
    w.drop_at(to);
    w.run_steps(3);
    let row: Vec<bool> = w.state().beit.mask()[4 * 8..5 * 8].to_vec();
    assert_eq!(row, [false, true, true, true, true, true, false, false], "a stroke without gaps");

    let before = hidden(w);
    w.get_by_label("Invert").click();
    w.run_steps(3);
    assert_eq!(hidden(w), 64 - before);
    w.get_by_label("Scattered").click();
    w.run_steps(3);
    assert_eq!(hidden(w), 26, "two fifths of 64");
    w.get_by_label("Blocks").click();
    w.run_steps(3);
    assert!((20..=26).contains(&hidden(w)), "{} hidden in blocks", hidden(w));
}

fn reconstruction(w: &mut Window) {
    w.state_mut().show = Shown::Reconstruction;
    answered(w);
    w.run_steps(3);
    let n = hidden(w);
    w.get_by_label(&format!("Filled in: {n} patches predicted"));
    w.get_by_label_contains(&format!("{n} of 64 patches hidden"));
    w.get_by_label("Confidence").click();
    w.run_steps(3);
    w.get_by_label(&format!("Confidence: {n} patches predicted"));
    w.get_by_label("Filled in").click();
    w.run_steps(3);
    // A click chooses the patch under it.
    let picture = w.get_by_label(&format!("Filled in: {n} patches predicted")).rect();
    w.state_mut().beit.choose_patch(None);
    w.drag_at(picture.min + picture.size() * (5.5 / 8.0));
    w.drop_at(picture.min + picture.size() * (5.5 / 8.0));
    w.run_steps(3);
    assert_eq!(w.state().beit.chosen_patch(), Some(5 * 8 + 5));
    pixels_are_those_of_the_engine(w);
    more_than_the_most_probable(w);
}

/// Rounds, drawing at random, and the sheet.
fn more_than_the_most_probable(w: &mut Window) {
    let n = hidden(w);
    w.run_steps(3);
    w.get_by_label("Step by step").click();
    settle(w, "rounds", |s| s.beit.seen().is_some_and(|seen| seen.rounds == 8));
    let seen = w.state().beit.seen().expect("an answer").clone();
    let rounds: Vec<usize> = seen.patches.iter().filter_map(|p| p.round).collect();
    assert_eq!((rounds.len(), rounds.iter().max()), (n, Some(&8)), "every hidden patch is filled in");
    w.run_steps(3);
    w.get_by_label(&format!("Step by step: {n} patches predicted"));
    w.get_by_label("Drawn at random").click();
    settle(w, "a draw", |s| s.beit.seen().is_some_and(|seen| seen.sampling.is_some()));
    let drawn = |w: &Window| -> Vec<Option<u32>> {
        w.state().beit.seen().expect("an answer").patches.iter().map(|p| p.sampled).collect()
    };
    let before = drawn(w);
    w.get_by_label("Draw again").click();
    settle(w, "another draw", |s| s.beit.seen().and_then(|s| s.sampling).is_some_and(|s| s.seed == 1));
    assert_ne!(drawn(w), before);
    let dir = tempfile::tempdir().expect("a folder");
    let sheet = dir.path().join("sheet.png");
    w.state_mut().beit.save_picture(&sheet);
    settle(w, "a file", |s| s.beit.note().is_some_and(|n| n.starts_with("saved as")));
    let sheet = image::open(&sheet).expect("a picture");
    assert!(sheet.width() > 600 && sheet.height() > 300, "{} × {}", sheet.width(), sheet.height());
    w.get_by_label("Filled in").click();
    w.run_steps(3);
}

/// The same networks on the processor, which is what a software adapter gets by default.
#[test]
fn the_processor_draws_the_same() {
    let Some(state) = device() else { return };
    let mut w = window_on(&state, [560.0, 760.0], Compute::Processor);
    assert!(w.state().beit.computes_on().contains("on the processor"), "{}", w.state().beit.computes_on());
    w.state_mut().show = Shown::Reconstruction;
    answered(&mut w);
    w.state_mut().beit.choose_patch(Some(5 * 8 + 5));
    w.run_steps(3);
    pixels_are_those_of_the_engine(&mut w);
    codebook_is_drawn(&mut w);
}

/// What is drawn from the device's buffers is what the engine decodes on the host.
fn pixels_are_those_of_the_engine(w: &mut Window) {
    let want = support::engine_pictures(w.state().beit.seen().expect("an answer"));
    for (layer, want) in [(View::Best, &want.ceiling), (View::Tokens, &want.tokens_only)] {
        w.state_mut().layer = Some(layer);
        w.run_steps(3);
        let n = hidden(w);
        let name = if layer == View::Best { "Tokenizer's best" } else { "All from tokens" };
        let rect = w.get_by_label(&format!("{name}: {n} patches predicted")).rect();
        let shot = w.render().expect("a picture of the window");
        let mut worst = 0;
        for y in 0..want.height {
            for x in 0..want.width {
                let patch = (y * 8 / want.height) * 8 + x * 8 / want.width;
                if w.state().beit.chosen_patch() == Some(patch) || near_chosen(patch) {
                    continue;
                }
                let at = |i: usize, n: usize, from: f32, size: f32| from + (i as f32 + 0.5) / n as f32 * size;
                let px = at(x, want.width, rect.left(), rect.width()) as u32;
                let py = at(y, want.height, rect.top(), rect.height()) as u32;
                let got = shot.get_pixel(px, py).0;
                let i = 3 * (y * want.width + x);
                let difference = (0..3).map(|c| got[c].abs_diff(want.rgb[i + c])).max().unwrap_or(0);
                worst = worst.max(difference);
            }
        }
        assert!(worst <= 2, "{name}: a pixel differs by {worst} of 255");
    }
    w.state_mut().layer = None;
}

/// The frame around patch (6, 6) reaches into its neighbours.
fn near_chosen(patch: usize) -> bool {
    let (row, column) = (patch / 8, patch % 8);
    row.abs_diff(5) <= 1 && column.abs_diff(5) <= 1
}

fn tokens(w: &mut Window) {
    w.state_mut().show = Shown::Tokens;
    settle(w, "the codebook", |s| s.atlas_is_ready());
    w.run_steps(3);
    assert_eq!(w.state().beit.error(), None);
    let seen = w.state().beit.seen().expect("an answer").clone();
    let report = &seen.patches[5 * 8 + 5];
    w.get_by_label_contains("Row 6, column 6:");
    assert!(w.query_all_by_label(&format!("token {}", report.true_id)).count() >= 1, "its own token");
    let first = report.top[0];
    assert!(w.query_all_by_label(&format!("token {}", first.id)).count() >= 1, "the first guess");
    w.state_mut().beit.choose_patch(None);
    w.run_steps(3);
    w.get_by_label_contains("Choose a patch");
}

fn attention(w: &mut Window) {
    w.state_mut().show = Shown::Attention;
    w.run_steps(3);
    w.get_by_label("Attention: no patch chosen");
    w.state_mut().beit.choose_patch(Some(9));
    w.run_steps(3);
    let picture = w.get_by_label("Attention from row 2, column 2").rect();
    let before = w.render().expect("a picture");
    w.state_mut().beit.choose_patch(Some(54));
    w.run_steps(3);
    let after = w.render().expect("a picture");
    let at = picture.center();
    assert_ne!(before, after, "another patch looks elsewhere (around {at:?})");
}

fn codebook_is_drawn(w: &mut Window) {
    w.state_mut().show = Shown::Codebook;
    settle(w, "the codebook", |s| s.atlas_is_ready());
    w.run_steps(3);
    w.get_by_label("Codebook of 256 tokens");
    let shot = w.render().expect("a picture");
    let rect = w.get_by_label("Codebook of 256 tokens").rect();
    let mut colours = std::collections::BTreeSet::new();
    for i in 0..256u32 {
        let (x, y) = ((i % 16) as f32 + 0.5, (i / 16) as f32 + 0.5);
        let at = rect.min + beit_egui::egui::vec2(x, y) / 16.0 * rect.size();
        colours.insert(shot.get_pixel(at.x as u32, at.y as u32).0);
    }
    assert!(colours.len() > 60, "{} colours in the middles of 256 tokens", colours.len());
}

fn training(w: &mut Window) {
    w.state_mut().show = Shown::Training;
    w.run_steps(3);
    w.get_by_label("Start training");
    let settings = LiveSettings { kind: Trained::Tokenizer, fresh: true, steps: 3, batch: 2, seed: 0 };
    w.state_mut().beit.train(settings, TrainOn::Scenes);
    settle(w, "the updates", |s| s.beit.training().is_some_and(|t| t.done));
    let curve = w.state().beit.training().expect("a training").curve.clone();
    assert_eq!(curve.iter().map(|p| p.figures.step).collect::<Vec<_>>(), [1, 2, 3]);
    w.run_steps(3);
    w.get_by_label_contains("done: update 3 of 3");
    assert!(w.query_by_label("Start training").is_none());
    answered(w);
    w.get_by_label("Reset").click();
    settle(w, "the networks from before", |s| s.beit.training().is_none() && s.beit.model().is_some());
    w.run_steps(3);
    w.get_by_label("Start training");
    assert_eq!(w.state().beit.error(), None);
}

/// A picture and a mask that never change, so that what the editor paints is seen when it does.
fn looks(w: &mut Window) {
    let pixel = |i: usize| [(i % 64 * 4) as u8, (i / 64 * 4) as u8, 128];
    let picture = Picture { width: 64, height: 64, rgb: (0..64 * 64).flat_map(pixel).collect() };
    w.state_mut().show = Shown::Mask;
    w.state_mut().beit.show_picture(picture, "gradient");
    w.state_mut().beit.set_mask((0..64).map(|p| p % 8 > 4 && p / 8 > 1).collect());
    w.state_mut().beit.choose_patch(Some(12));
    w.remove_cursor();
    answered(w);
    w.run_steps(4);
    w.snapshot("mask_editor");
    w.state_mut().show = Shown::Training;
    w.run_steps(4);
    w.snapshot("training_settings");
    w.state_mut().show = Shown::Attention;
    w.state_mut().beit.choose_patch(None);
    w.run_steps(4);
    w.snapshot("attention_without_a_patch");
}

#[test]
fn a_window_without_compute_says_so() {
    let mut beit = Beit::on(None);
    let mut w = egui_kittest::Harness::builder().with_size([500.0, 400.0]).build_ui(move |ui| {
        MaskEditor::new(&mut beit).show(ui);
        ReconstructionView::new(&mut beit).show(ui);
        TokenInspector::new(&mut beit).show(ui);
        AttentionOverlay::new(&mut beit).show(ui);
        CodebookAtlas::new(&mut beit).show(ui);
        TrainingMonitor::new(&mut beit).show(ui);
    });
    w.run_steps(3);
    assert_eq!(w.query_all_by_label_contains("Nothing can be computed here: this window is not").count(), 6);
}
