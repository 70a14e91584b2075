//! `cargo run --release -p beit-web-build -- [build|serve] [--egui] [--quick] [--dist DIR] [--port N]`

use std::path::PathBuf;

use anyhow::{Result, bail};
use beit_web_build::{Options, Server, build, root};

const USAGE: &str = "\
Builds the browser page of BEiT in WebGPU.

usage: beit-web-build [build|serve] [--egui] [--quick] [--dist DIR] [--port N]

  build        compile the module and write the static page (the default)
  serve        build, then serve the page on localhost until Ctrl-C
  --egui       also the window of beit-egui, at egui/ of the page
  --quick      less optimised, in a fraction of the time: for work on the page
  --dist DIR   where the page is written [default: web/dist]
  --port N     port of `serve` [default: 8737]";

fn main() {
    match run() {
        Ok(()) => {}
        Err(e) => {
            eprintln!("error: {e:#}");
            std::process::exit(1);
        }
    }
}

fn run() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (mut serve, mut dist, mut port) = (false, root().join("web/dist"), 8737);
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "build" => serve = false,
            "serve" => serve = true,
            "--quick" => options.quick = true,
            "--egui" => options.egui = true,
            "--dist" => dist = PathBuf::from(args.next().unwrap_or_default()),
            "--port" => port = args.next().unwrap_or_default().parse()?,
            "-h" | "--help" => {
                println!("{USAGE}");
                return Ok(());
            }
            other => bail!("unknown argument {other}\n\n{USAGE}"),
        }
    }
    // The folder is cleared first, so it must be one that this program made, or a new one.
    if dist.as_os_str().is_empty() || (dist.exists() && !dist.join("offline.js").is_file()) {
        bail!(
            "{} exists and is not a page that this program built; remove it or choose another --dist",
            dist.display()
        );
    }
    let built = build(&dist, options)?;
    let kib = |bytes: u64| bytes.div_ceil(1024);
    println!(
        "{}: {} KiB; the module {} KiB, {} KiB compressed by gzip",
        built.dist.display(),
        kib(built.total),
        kib(built.wasm),
        kib(built.wasm_gzip)
    );
    if serve {
        let server = Server::start(&dist, "/", port)?;
        println!("http://localhost:{}/   (Ctrl-C ends)", server.address.port());
        loop {
            std::thread::park();
        }
    }
    Ok(())
}
