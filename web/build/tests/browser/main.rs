//! The page and the JavaScript API in a real browser: WebGPU on Chromium's software adapter.
//!
//! Without a Chromium the tests say so loudly and pass (`sh setup.sh` installs one; `BEIT_CHROMIUM` names another).
//! Screenshots are left in `target/browser/`.

mod chromium;
mod numbers;
mod page;
mod trouble;
mod window;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use beit_web_build::{Built, Options, Server, build, root};
use chromium::Chromium;

/// The path that everything is served below: a sub-folder, as on a shared host.
const PREFIX: &str = "/some/folder/";

struct Site {
    built: Built,
    server: Server,
}

impl Site {
    fn url(&self, page: &str) -> String {
        format!("http://127.0.0.1:{}{PREFIX}{page}", self.server.address.port())
    }
}

/// Where screenshots go.
fn artefacts() -> PathBuf {
    let dir = root().join("target/browser");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The page, built once for all tests.
fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let built = build(&artefacts().join("dist"), Options { suite: true, quick: true, egui: true })
            .expect("the page builds");
        let server = Server::start(&built.dist, PREFIX, 0).expect("a port is free");
        Site { built, server }
    })
}

/// A browser of one's own, one at a time; nothing where none is installed.
fn browser(flags: &[&str]) -> Option<(MutexGuard<'static, ()>, Chromium)> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(program) = chromium::find() else {
        eprintln!("NO CHROMIUM: the browser page was not tested (sh setup.sh installs one)");
        return None;
    };
    Some((turn, Chromium::start(&program, flags)))
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/preprocess").join(name)
}

/// Bytes of a file as a JavaScript expression.
fn bytes_expression(path: &Path) -> String {
    format!("new Uint8Array({:?})", std::fs::read(path).unwrap())
}

/// The module of these tests is compiled quickly and holds the op suite; the shipped one is about half its size.
#[test]
fn page_is_small() {
    if chromium::find().is_none() {
        eprintln!("NO CHROMIUM: the browser page was not built");
        return;
    }
    let built = &site().built;
    eprintln!(
        "module of the tests: {} bytes, {} by gzip; page {} bytes",
        built.wasm, built.wasm_gzip, built.total
    );
    assert!(built.wasm_gzip < 3 << 19, "{} bytes", built.wasm_gzip);
    let model: u64 = std::fs::read_dir(root().join("web/model"))
        .unwrap()
        .map(|f| f.unwrap().metadata().unwrap().len())
        .sum();
    assert!(model < 8 << 20, "{model} bytes");
}

/// What a visitor downloads before anything is seen.
#[test]
#[ignore = "compiles the module as it is shipped, which takes minutes"]
fn shipped_module_is_small() {
    let built = build(&artefacts().join("shipped"), Options::default()).expect("the page builds");
    eprintln!("module: {} bytes, {} by gzip; page {} bytes", built.wasm, built.wasm_gzip, built.total);
    assert!(built.wasm_gzip < 1 << 20, "{} bytes", built.wasm_gzip);
}
