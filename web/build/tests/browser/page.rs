//! The page as a visitor uses it: looking, painting by pointer, touch and keys, files, training, export and import.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::chromium::{Chromium, WEBGPU};
use super::{artefacts, browser, bytes_expression, fixture, site};

/// Milliseconds of the processor that a task of the page's own thread may take.
const LONGEST_TASK: f64 = 50.0;

/// Opens the page and waits for its first reconstruction.
pub fn open(chromium: &mut Chromium) {
    chromium.open(&site().url("index.html"));
    chromium.wait("document.documentElement.dataset.state === 'ready'", 120);
}

fn text(chromium: &mut Chromium, id: &str) -> String {
    chromium
        .value(&format!("document.getElementById('{id}').textContent"))
        .as_str()
        .unwrap_or_default()
        .into()
}

fn looks(chromium: &mut Chromium) -> u64 {
    chromium.value("Number(document.documentElement.dataset.looks)").as_f64().unwrap() as u64
}

/// Does something and waits for the reconstruction that follows.
fn and_look(chromium: &mut Chromium, act: impl FnOnce(&mut Chromium)) {
    let before = looks(chromium);
    act(chromium);
    chromium.wait(&format!("Number(document.documentElement.dataset.looks) > {before}"), 60);
}

fn click(chromium: &mut Chromium, selector: &str) {
    chromium.value(&format!("document.querySelector({selector:?}).click()"));
}

/// Middles of patches of the mask's board, in CSS pixels of the window.
fn points(chromium: &mut Chromium, patches: &[u32]) -> Vec<(f64, f64)> {
    chromium.value("document.getElementById('board-in').scrollIntoView({ block: 'center' })");
    let list = chromium.value(&format!(
        "{patches:?}.map((i) => {{ const b = document.querySelectorAll('#board-in [role=gridcell]')[i].getBoundingClientRect(); \
         return [b.x + b.width / 2, b.y + b.height / 2]; }})"
    ));
    let number = |v: &Value| v.as_f64().unwrap();
    list.as_array().unwrap().iter().map(|p| (number(&p[0]), number(&p[1]))).collect()
}

/// Which patches the mask's board says are hidden.
fn hidden(chromium: &mut Chromium) -> Vec<bool> {
    let said = chromium.value(
        "[...document.querySelectorAll('#board-in [role=gridcell]')].map((c) => c.getAttribute('aria-label').endsWith('hidden'))",
    );
    said.as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect()
}

/// A hash of what a board shows.
fn shown(chromium: &mut Chromium, board: &str) -> Value {
    chromium.value(&format!(
        "(() => {{ const c = document.querySelector('#{board} canvas'); \
         const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
         return d.reduce((h, v) => (h * 31 + v) | 0, 7); }})()"
    ))
}

#[test]
fn looking_painting_and_files() {
    let Some((_turn, mut chromium)) = browser(&WEBGPU) else { return };
    chromium.trace_tasks();
    open(&mut chromium);
    let c = &mut chromium;
    eprintln!(
        "first reconstruction {} ms after the page's start",
        c.value("document.documentElement.dataset.first")
    );
    let start = hidden(c);
    let count = start.iter().filter(|h| **h).count();
    assert!(count > 0 && text(c, "mask-count").starts_with(&format!("{count} of {}", start.len())));
    assert!(text(c, "guesses").contains("Token"), "the chosen patch is explained");
    for (size, name) in [((1280, 900), "desktop"), ((820, 1100), "tablet"), ((390, 844), "phone")] {
        for scheme in ["light", "dark"] {
            c.screenshot(&artefacts().join(format!("page-{name}-{scheme}.png")), size, scheme);
            let wide = c.value("document.documentElement.scrollWidth <= innerWidth");
            assert_eq!(wide, json!(true), "{name}: nothing is cut off at the side");
        }
    }
    c.call(
        "Emulation.setDeviceMetricsOverride",
        json!({"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": false}),
    );

    // Pointer: a stroke over the first row hides or shows all of it, as its first patch became.
    let row = points(c, &[0, 1, 2, 3, 4, 5, 6, 7]);
    and_look(c, |c| c.drag(&row));
    assert!(hidden(c)[..8].iter().all(|h| *h != start[0]), "a stroke paints");
    // Touch.
    let tapped = points(c, &[20])[0];
    let before = hidden(c)[20];
    c.call("Emulation.setTouchEmulationEnabled", json!({"enabled": true}));
    and_look(c, |c| c.tap(tapped));
    assert_eq!(hidden(c)[20], !before, "a touch paints");
    c.call("Emulation.setTouchEmulationEnabled", json!({"enabled": false}));
    // Keyboard: from patch 20 one to the right, one down, and paint.
    c.value("document.querySelectorAll('#board-in [role=gridcell]')[20].focus()");
    let before = hidden(c)[29];
    c.key("ArrowRight", 39);
    c.key("ArrowDown", 40);
    and_look(c, |c| c.key(" ", 32));
    assert_eq!(hidden(c)[29], !before, "space paints the patch that the arrows reached");
    assert!(text(c, "patch-note").starts_with("Row 4, column 6"), "{}", text(c, "patch-note"));

    // Masks.
    let before = hidden(c);
    and_look(c, |c| click(c, "[data-mask=inverse]"));
    assert!(hidden(c).iter().zip(&before).all(|(a, b)| a != b), "inverse");
    c.value("(() => { const s = document.getElementById('share'); s.value = 25; s.dispatchEvent(new Event('input')); })()");
    and_look(c, |c| click(c, "[data-mask=random]"));
    assert_eq!(hidden(c).iter().filter(|h| **h).count(), start.len() / 4, "a quarter at random");
    click(c, "[data-mask=clear]");
    c.wait("document.getElementById('view-note').textContent === 'Nothing is hidden.'", 20);
    and_look(c, |c| click(c, "[data-mask=blockwise]"));

    // Views.
    let mut seen = vec![];
    for view in ["reconstructed", "sampled", "iterated", "tokensOnly", "ceiling", "confidence", "attention"] {
        c.value(&format!("(() => {{ const v = document.getElementById('view'); v.value = '{view}'; v.dispatchEvent(new Event('change')); }})()"));
        std::thread::sleep(Duration::from_millis(700));
        seen.push(shown(c, "board-out"));
        if matches!(view, "confidence" | "attention" | "iterated") {
            c.screenshot(&artefacts().join(format!("view-{view}.png")), (1280, 900), "light");
        }
    }
    assert!(seen[0] != seen[3] && seen[3] != seen[4], "views differ");
    c.value("(() => { const v = document.getElementById('view'); v.value = 'reconstructed'; v.dispatchEvent(new Event('change')); })()");

    // A dropped picture, a chosen one, and files that are none.
    let drop = |file: &Path, name: &str| {
        format!(
            "(() => {{ const t = new DataTransfer(); t.items.add(new File([{}], {name:?})); \
             dispatchEvent(new DragEvent('drop', {{ dataTransfer: t, cancelable: true }})); }})()",
            bytes_expression(file)
        )
    };
    let before = shown(c, "board-in");
    and_look(c, |c| {
        c.value(&drop(&fixture("rgb_300x200.png"), "mine.png"));
    });
    c.wait("document.getElementById('status').textContent === 'mine.png is shown.'", 30);
    assert_ne!(shown(c, "board-in"), before);
    and_look(c, |c| c.upload("#choose", &[&fixture("exif6_120x83.jpg")]));
    c.wait("document.getElementById('status').textContent === 'exif6_120x83.jpg is shown.'", 30);
    hostile(c);
    and_look(c, |c| click(c, "#next"));
    assert!(c.errors.is_empty(), "{:?}", c.errors);

    // What counts is what the page's own thread computes; by the clock, a busy machine has it wait longer.
    let tasks = c.traced_tasks();
    eprintln!("longest tasks of the page's thread: {:.1?}", &tasks[..tasks.len().min(5)]);
    assert!(tasks.len() > 1000 && tasks[0].cpu > 1.0, "{} tasks were seen", tasks.len());
    assert!(tasks[0].cpu < LONGEST_TASK, "a task of {:?} on the page's thread", tasks[0]);

    // Offline: the server is not asked again once the page is kept.
    c.wait("navigator.serviceWorker.ready.then(() => caches.keys()).then((k) => k.length === 1)", 30);
    let asked = site().server.requests().len();
    c.call("Page.reload", json!({}));
    c.wait(
        "document.documentElement.dataset.state === 'ready' && navigator.serviceWorker.controller !== null",
        120,
    );
    let again: Vec<String> = site().server.requests().split_off(asked);
    let again: Vec<&String> = again.iter().filter(|r| !r.ends_with("offline.js")).collect();
    assert!(again.is_empty(), "asked the server again for {again:?}");
    foreign(c);
}

/// Files that must be refused with a message and leave the page as it was.
fn hostile(c: &mut Chromium) {
    let dir = tempfile::tempdir().unwrap();
    let png = std::fs::read(fixture("rgb_300x200.png")).unwrap();
    let mut huge = png.clone();
    // A header that claims 60,000 × 60,000 pixels, with a valid checksum left out.
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let header = (1u64 << 40).to_le_bytes().to_vec();
    let files: [(&str, Vec<u8>, &str); 6] = [
        ("empty.png", vec![], "#choose"),
        ("cut.png", png[..png.len() / 2].to_vec(), "#choose"),
        ("huge.png", huge, "#choose"),
        ("text.jpg", b"not a picture at all".to_vec(), "#choose"),
        ("model.safetensors", header, "#import"),
        ("broken.tar", vec![b'x'; 700], "#import"),
    ];
    for (name, bytes, input) in files {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        c.value("document.getElementById('status').textContent = 'waiting'");
        let from = Instant::now();
        c.upload(input, &[&path]);
        c.wait("document.getElementById('status').textContent !== 'waiting'", 20);
        let said = text(c, "status");
        eprintln!("{name}: {said} ({} ms)", from.elapsed().as_millis());
        assert!(!said.contains("is shown") && !said.contains("Imported"), "{name}: {said}");
        assert_eq!(
            c.value("document.getElementById('trouble').hidden"),
            json!(true),
            "{name}: the engine lives"
        );
    }
}

/// Nothing outside of this machine was asked for anything, and the log would have noticed.
fn foreign(c: &mut Chromium) {
    assert_eq!(*c.foreign.lock().unwrap(), Vec::<String>::new());
    assert_eq!(c.asked, Vec::<String>::new());
    let refused = c.evaluate("fetch('http://somewhere.example/x').then(() => 'sent', () => 'refused')");
    assert_eq!(refused, Ok(json!("refused")), "the policy forbids it");
    assert_eq!(*c.foreign.lock().unwrap(), Vec::<String>::new(), "refused before it was sent");
    // The policy stops it behind the point where DevTools sees it.
    c.asked.clear();
    c.call("Page.navigate", json!({"url": "http://somewhere.example/x"}));
    let until = Instant::now() + Duration::from_secs(10);
    while c.foreign.lock().unwrap().is_empty() {
        assert!(Instant::now() < until, "the log does not see foreign requests");
        std::thread::sleep(Duration::from_millis(50));
    }
    c.value("1");
    assert!(!c.asked.is_empty(), "DevTools does not see foreign requests");
}

/// Sets the form and starts a training.
fn train(c: &mut Chromium, kind: &str, source: &str, steps: u32, batch: u32) {
    c.value(&format!(
        "(() => {{ const set = (id, v) => (document.getElementById(id).value = v); set('kind', '{kind}'); set('from', 'fresh'); \
         set('source', '{source}'); set('steps', {steps}); set('batch', {batch}); document.getElementById('start').click(); }})()"
    ));
}

/// The losses that the first chart has seen.
fn loss(c: &mut Chromium) -> String {
    c.value("document.querySelector('#charts svg').getAttribute('aria-label')").as_str().unwrap().into()
}

/// First and last number of a chart's label.
fn ends(label: &str) -> (f64, f64) {
    let mut numbers = label.split(' ').filter_map(|w| w.parse::<f64>().ok());
    (numbers.next().unwrap_or(f64::NAN), numbers.next().unwrap_or(f64::NAN))
}

#[test]
fn training_export_import_and_a_lost_device() {
    let Some((_turn, mut chromium)) = browser(&WEBGPU) else { return };
    open(&mut chromium);
    let c = &mut chromium;
    // The page draws the seed of a training; here it is always the same.
    c.value("(Math.random = () => 0.25, 1)");
    // The tokenizer, on the visitor's pictures. Single losses scatter by 0.05: 60 updates lead out of that, 20 do not.
    let names =
        ["rgb_300x200.png", "jpeg444_250x187.jpg", "rgba_160x121.png", "exact_224x224.png"].map(fixture);
    let mut files: Vec<&Path> = names.iter().map(|p| p.as_path()).collect();
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.png");
    std::fs::write(&broken, b"no picture").unwrap();
    files.push(&broken);
    c.upload("#own", &files);
    c.wait("document.getElementById('status').textContent.includes('4 pictures to train on. 1 could not be read')", 30);
    train(c, "tokenizer", "own", 60, 4);
    c.wait("document.documentElement.dataset.training === 'done'", 240);
    let (first, last) = ends(&loss(c));
    eprintln!("tokenizer: {}", loss(c));
    assert!(last < first, "the loss falls: {first} to {last}");
    let before = shown(c, "board-out");
    click(c, "#reset");
    c.wait("document.documentElement.dataset.training === 'idle'", 60);
    c.wait("document.getElementById('status').textContent.startsWith('Back to')", 60);
    assert_ne!(shown(c, "board-out"), before, "reset brings the loaded tokenizer back");

    // The transformer; paused, continued, and its device taken away.
    train(c, "model", "built-in", 30, 4);
    c.wait("Number(document.documentElement.dataset.step) >= 4 && document.documentElement.dataset.training === 'running'", 120);
    click(c, "#pause");
    c.wait("document.documentElement.dataset.training === 'paused'", 30);
    std::thread::sleep(Duration::from_secs(1));
    let step = c.value("document.documentElement.dataset.step");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(c.value("document.documentElement.dataset.step"), step, "paused");
    click(c, "#start");
    c.wait("Number(document.documentElement.dataset.step) >= 8", 240);
    c.screenshot(&artefacts().join("training-desktop-light.png"), (1280, 900), "light");
    c.screenshot(&artefacts().join("training-desktop-dark.png"), (1280, 900), "dark");
    let killed = Instant::now();
    if cfg!(target_os = "linux") {
        c.kill_gpu_process();
        c.wait("Number(document.documentElement.dataset.recovered) >= 1", 60);
        eprintln!(
            "back {:.1} s after the GPU process was killed: {}",
            killed.elapsed().as_secs_f64(),
            text(c, "status")
        );
        let from = c.value("Number(document.documentElement.dataset.from)");
        assert!(from.as_f64() >= Some(4.0), "what was paused at update {step} goes on from update {from}");
    }
    c.wait("document.documentElement.dataset.training === 'done'", 300);
    eprintln!("transformer: {}", loss(c));
    let (first, last) = ends(&loss(c));
    assert!(last < first && last < 5.5, "the loss falls below ln 256: {first} to {last}");
    click(c, "#keep");
    c.wait("document.getElementById('status').textContent.startsWith('The trained weights are kept')", 60);

    // Export: the native program reads the files, and the page reads them back.
    let downloads = dir.path().join("downloads");
    std::fs::create_dir(&downloads).unwrap();
    c.call(
        "Browser.setDownloadBehavior",
        json!({"behavior": "allow", "downloadPath": downloads, "eventsEnabled": false}),
    );
    click(c, "#export");
    let archive = downloads.join("beit-tab.tar");
    let until = Instant::now() + Duration::from_secs(60);
    while !archive.is_file() {
        assert!(Instant::now() < until, "no download");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(300));
    let files = untar(&std::fs::read(&archive).unwrap());
    let file = |name: &str| files.iter().find(|f| f.0.ends_with(name)).map(|f| f.1.as_slice()).unwrap();
    let exported = beit_web::Files {
        model: file("/model.safetensors"),
        config: file("/config.json"),
        tokenizer: file("/tokenizer.safetensors"),
        sizes: file("/tokenizer.json"),
    };
    let weights = beit_web::Weights::read(&exported, 1 << 27).unwrap();
    let built_in = super::numbers::built_in_weights();
    assert_eq!(weights.tokenizer_pages, built_in.tokenizer_pages, "the tokenizer was only used");
    assert_ne!(weights.model_pages, built_in.model_pages, "the transformer was trained");
    beit::train::Tokenizer::read(exported.tokenizer, exported.sizes, 1 << 27).expect("the trainer reads it");

    let trained = shown(c, "board-out");
    and_look(c, |c| click(c, "#built-in"));
    c.wait("document.getElementById('status').textContent === 'The built-in model is loaded.'", 60);
    assert_ne!(shown(c, "board-out"), trained);
    and_look(c, |c| c.upload("#import", &[&archive]));
    c.wait("document.getElementById('status').textContent.startsWith('Imported model.safetensors')", 60);
    assert!(c.errors.iter().all(|e| e.contains("device") || e.contains("Device")), "{:?}", c.errors);
}

/// Plain files of a tar archive.
fn untar(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut out = vec![];
    let mut at = 0;
    while at + 512 <= bytes.len() && bytes[at] != 0 {
        let text = |from: usize, to: usize| {
            let part = &bytes[at + from..at + to];
            String::from_utf8_lossy(part.split(|b| *b == 0).next().unwrap()).trim().to_string()
        };
        let size = usize::from_str_radix(&text(124, 136), 8).unwrap();
        out.push((text(0, 100), bytes[at + 512..at + 512 + size].to_vec()));
        at += 512 + size.div_ceil(512) * 512;
    }
    out
}
