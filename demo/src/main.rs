//! The desktop window, and its web build.

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    native::main()
}

#[cfg(target_arch = "wasm32")]
fn main() {
    web::main();
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use beit_egui::app::{App, Start};
    use beit_egui::{Compute, device_descriptor};
    use eframe::egui_wgpu::WgpuSetup;
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;
    use std::sync::Arc;

    const HELP: &str = "beit-egui: masked image modelling in a window

Usage: beit-egui [--compute WHERE] [RUN] [PICTURE]

  RUN              a run folder, a checkpoint folder or a weights file [default: the built-in model]
  PICTURE          a picture to look at [default: a built-in scene]
  --compute WHERE  device (the window's graphics device), processor, or auto: the device unless it is a software
                   adapter [default: auto]

Examples:
  beit-egui
  beit-egui runs/pretrain-0001
  beit-egui runs/pretrain-0001 cat.png
";

    /// What the arguments ask for; an error in words otherwise.
    fn parse(args: &[String]) -> Result<Start, String> {
        let mut start = Start::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--compute" {
                start.compute = match args.next().map(String::as_str) {
                    Some("auto") => Compute::Auto,
                    Some("device") => Compute::Device,
                    Some("processor") => Compute::Processor,
                    _ => return Err("--compute: auto, device or processor".into()),
                };
                continue;
            }
            let path = PathBuf::from(arg);
            if arg.starts_with('-') {
                return Err(format!("no such flag: {arg}"));
            }
            if !path.exists() {
                return Err(format!("no such file or folder: {arg}"));
            }
            let slot = if is_picture(&path) { &mut start.picture } else { &mut start.model };
            if slot.replace(path).is_some() {
                return Err(format!("one model and one picture at most: {arg}"));
            }
        }
        Ok(start)
    }

    fn is_picture(path: &Path) -> bool {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        extension.is_some_and(|e| beit_egui::beit::data::source::PICTURE_EXTENSIONS.contains(&e.as_str()))
    }

    pub fn main() -> ExitCode {
        let args: Vec<String> = std::env::args().skip(1).collect();
        if args.iter().any(|a| a == "-h" || a == "--help") {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        let start = match parse(&args) {
            Ok(start) => start,
            Err(e) => {
                eprintln!("{e}\n\n{HELP}");
                return ExitCode::from(2);
            }
        };
        match run(start) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("the window could not be opened: {e}");
                ExitCode::FAILURE
            }
        }
    }

    fn run(start: Start) -> eframe::Result {
        let mut options = eframe::NativeOptions {
            viewport: beit_egui::egui::ViewportBuilder::default()
                .with_title("BEiT")
                .with_inner_size([1180.0, 800.0])
                .with_min_inner_size([360.0, 480.0]),
            ..Default::default()
        };
        if let WgpuSetup::CreateNew(setup) = &mut options.wgpu_options.wgpu_setup {
            setup.device_descriptor = Arc::new(device_descriptor);
        }
        eframe::run_native("BEiT", options, Box::new(|cc| Ok(Box::new(App::new(cc, start)))))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn arguments() {
            let start = |args: &[&str]| parse(&args.iter().map(|a| a.to_string()).collect::<Vec<_>>());
            assert!(start(&[]).is_ok_and(|s| s.model.is_none() && s.picture.is_none()));
            let here = env!("CARGO_MANIFEST_DIR");
            let picture = format!("{here}/../docs/pictures/nano.png");
            let both = start(&[&picture, here]).unwrap();
            assert_eq!((both.model, both.picture), (Some(here.into()), Some(picture.into())));
            for (args, says) in [(&["--fast"][..], "no such flag"), (&["/nowhere/x.png"], "no such file")] {
                assert!(start(args).unwrap_err().contains(says));
            }
            assert_eq!(start(&["--compute", "processor"]).unwrap().compute, Compute::Processor);
            assert!(start(&["--compute", "fast"]).unwrap_err().contains("auto, device or processor"));
            assert!(start(&[here, here]).unwrap_err().contains("at most"));
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod web {
    use beit_egui::app::{App, Start};
    use beit_egui::{device_descriptor, egui};
    use eframe::egui_wgpu::WgpuSetup;
    use eframe::wasm_bindgen::JsCast;
    use eframe::web_sys::{Element, HtmlCanvasElement, window};
    use std::sync::Arc;

    /// Name of the canvas in `demo/page/index.html`.
    const CANVAS: &str = "window";

    fn element(id: &str) -> Option<Element> {
        window()?.document()?.get_element_by_id(id)
    }

    /// The window, and a word for the page about how far it is.
    struct Page {
        app: App,
        answers: u64,
    }

    impl eframe::App for Page {
        fn ui(&mut self, ui: &mut egui::Ui, _: &mut eframe::Frame) {
            self.app.show(ui);
            let answers = self.app.beit().seen().map_or(0, |s| s.request);
            if answers != self.answers
                && let Some(canvas) = element(CANVAS)
            {
                self.answers = answers;
                // A page without the attribute only lacks the word.
                let _ = canvas.set_attribute("data-answers", &answers.to_string());
            }
        }
    }

    pub fn main() {
        wasm_bindgen_futures::spawn_local(async {
            if let Err(e) = start().await {
                trouble(&format!("The window could not be opened: {e}"));
            }
        });
    }

    /// Says a sentence in place of the canvas.
    fn trouble(text: &str) {
        let (Some(canvas), Some(place)) = (element(CANVAS), element("trouble")) else { return };
        place.set_text_content(Some(text));
        // Attributes of these names can be set on every element.
        let _ = canvas.set_attribute("hidden", "");
        let _ = place.remove_attribute("hidden");
    }

    /// The device is the window's own, so that its loss may be listened for.
    fn watch(device: &beit_egui::wgpu::Device) {
        device.set_device_lost_callback(|_, why| {
            trouble(&format!(
                "The browser took the graphics device away, or cannot show what it draws ({why}). Reload the page to start again."
            ));
        });
    }

    async fn start() -> Result<(), String> {
        let canvas = element(CANVAS).and_then(|e| e.dyn_into::<HtmlCanvasElement>().ok());
        let canvas = canvas.ok_or("the page has no canvas")?;
        let mut options = eframe::WebOptions::default();
        if let WgpuSetup::CreateNew(setup) = &mut options.wgpu_options.wgpu_setup {
            setup.device_descriptor = Arc::new(device_descriptor);
        }
        let create = |cc: &eframe::CreationContext<'_>| {
            cc.wgpu_render_state.iter().for_each(|state| watch(&state.device));
            let app = App::new(cc, Start::default());
            Ok(Box::new(Page { app, answers: 0 }) as Box<dyn eframe::App>)
        };
        let started = eframe::WebRunner::new().start(canvas, options, Box::new(create)).await;
        started.map_err(|e| format!("{e:?}"))
    }
}
