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
    use beit_egui::device_descriptor;
    use eframe::egui_wgpu::WgpuSetup;
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;
    use std::sync::Arc;

    const HELP: &str = "beit-egui: masked image modelling in a window

Usage: beit-egui [RUN] [PICTURE]

  RUN       a run folder, a checkpoint folder or a weights file [default: the built-in model]
  PICTURE   a picture to look at [default: a built-in scene]

Examples:
  beit-egui
  beit-egui runs/pretrain-0001
  beit-egui runs/pretrain-0001 cat.png
";

    /// What the arguments ask for; an error in words otherwise.
    fn parse(args: &[String]) -> Result<Start, String> {
        let mut start = Start::default();
        for arg in args {
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
            assert!(start(&[here, here]).unwrap_err().contains("at most"));
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod web {
    pub fn main() {}
}
