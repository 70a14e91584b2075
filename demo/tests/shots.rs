//! Pictures of the whole window at three sizes, light and dark, for people to look at: they are left in `target/egui/`.
//! `cargo test -p beit-egui --test shots -- --ignored`

mod support;

use beit_egui::app::{App, Start};
use beit_egui::beit::train::{LiveSettings, Trained};
use beit_egui::egui::{Theme, vec2};
use beit_egui::{Beit, TrainOn};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use egui_kittest::wgpu::WgpuTestRenderer;
use std::path::Path;
use std::time::{Duration, Instant};
use support::device;

const SIZES: [(&str, [f32; 2]); 3] =
    [("wide", [1440.0, 900.0]), ("middle", [1024.0, 768.0]), ("phone", [400.0, 860.0])];

fn wait(w: &mut Harness<'_, App>, what: &str, holds: impl Fn(&Beit) -> bool) {
    let start = Instant::now();
    while !holds(w.state_mut().beit()) {
        assert!(start.elapsed() < Duration::from_secs(400), "no {what}");
        std::thread::sleep(Duration::from_millis(10));
        w.step();
    }
    w.run_steps(3);
}

#[test]
#[ignore = "for people to look at; half a minute on a software adapter"]
fn the_whole_window() {
    let Some(state) = device() else { return };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/egui");
    std::fs::create_dir_all(&dir).expect("a folder for the pictures");
    let beit = Beit::on(Some(&state));
    let renderer = WgpuTestRenderer::from_render_state(state);
    let mut w = Harness::builder()
        .with_size([1440.0, 900.0])
        .renderer(renderer)
        .build_ui_state(|ui, app: &mut App| app.show(ui), App::with(beit, Start::default()));
    wait(&mut w, "answer", |b| b.seen().is_some());
    w.state_mut().beit().choose_patch(Some(27));
    wait(&mut w, "codebook", |b| b.codebook_drawn() == 256);
    let shoot = |w: &mut Harness<'_, App>, view: &str| {
        for (size, [x, y]) in SIZES {
            for theme in [Theme::Dark, Theme::Light] {
                w.ctx.set_theme(theme);
                w.set_size(vec2(x, y));
                w.run_steps(4);
                let name = format!("{view}-{size}-{}.png", format!("{theme:?}").to_lowercase());
                let shot = w.render().expect("a picture");
                // The harness leaves a margin around the window.
                let (width, height) = (shot.width() - 16, shot.height() - 16);
                let shot = image::imageops::crop_imm(&shot, 8, 8, width, height).to_image();
                shot.save(dir.join(name)).expect("a file");
            }
        }
    };
    shoot(&mut w, "look");
    w.get_by_label("Codebook").click();
    w.run_steps(3);
    shoot(&mut w, "codebook");
    w.get_by_label("Train").click();
    w.run_steps(3);
    let settings = LiveSettings { kind: Trained::Model, fresh: true, steps: 30, batch: 8, seed: 0 };
    w.state_mut().beit().train(settings, TrainOn::Scenes);
    wait(&mut w, "training", |b| b.training().is_some_and(|t| t.done));
    shoot(&mut w, "train");
}
