//! Masked prediction inside an eframe program of one's own: `cargo run --release -p beit-egui --example embed`.

use beit_egui::{Beit, MaskEditor, ReconstructionView, egui};

struct Window {
    beit: Beit,
    scene: usize,
}

impl eframe::App for Window {
    fn ui(&mut self, ui: &mut egui::Ui, _: &mut eframe::Frame) {
        egui::CentralPanel::default().show(ui, |ui| {
            ui.heading("My program, with a BEiT in it");
            if ui.button("Another picture").clicked() {
                self.scene += 1;
                self.beit.show_scene(self.scene);
            }
            ui.columns(2, |columns| {
                MaskEditor::new(&mut self.beit).show(&mut columns[0]);
                ReconstructionView::new(&mut self.beit).show(&mut columns[1]);
            });
        });
    }
}

fn main() -> eframe::Result {
    let start = |cc: &eframe::CreationContext<'_>| {
        // The window's own device is used; nothing else has to be set up.
        let beit = Beit::on(cc.wgpu_render_state.as_ref());
        Ok(Box::new(Window { beit, scene: 0 }) as Box<dyn eframe::App>)
    };
    eframe::run_native("embed", eframe::NativeOptions::default(), Box::new(start))
}
