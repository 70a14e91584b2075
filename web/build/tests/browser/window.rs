//! The window of beit-egui as a page: it is drawn, looks at a picture, and follows the pointer.

use serde_json::json;

use super::chromium::{Chromium, WEBGPU_CANVAS, base64};
use super::{artefacts, browser, site};

const SIZES: [(&str, (u32, u32)); 3] =
    [("desktop", (1280, 860)), ("tablet", (820, 1100)), ("phone", (390, 844))];

/// The canvas right after a frame of the window, as a PNG in base64. The browser's own screenshots leave such canvases
/// out on a machine without a graphics card.
const FRAME: &str = "new Promise((done) => {
  const canvas = document.getElementById('window');
  let frames = 0;
  const frame = () => requestAnimationFrame(() => {
    // The window draws when something moves; the first frames after a change of size may show a part.
    canvas.dispatchEvent(new PointerEvent('pointermove', { clientX: 3 + (frames % 2), clientY: 3, bubbles: true }));
    frames += 1;
    if (frames > 4) done(canvas.toDataURL('image/png').split(',')[1]);
    else frame();
  });
  frame();
})";

/// A picture of the window with at least so many colours; a frame in which nothing was drawn is empty.
fn picture(c: &mut Chromium, colours: usize) -> Vec<u8> {
    let mut most = 0;
    for _ in 0..50 {
        let png = base64(c.value(FRAME).as_str().unwrap());
        let pixels = beit::data::decode(&png, &beit::data::ImageLimits::default()).unwrap().rgb;
        most = pixels.chunks(3).collect::<std::collections::BTreeSet<_>>().len();
        if most >= colours {
            return png;
        }
    }
    panic!("the window shows {most} colours");
}

fn answers(c: &mut Chromium) -> u64 {
    c.value("Number(document.getElementById('window').dataset.answers ?? 0)").as_u64().unwrap_or(0)
}

fn wait_for_answer(c: &mut Chromium, after: u64) {
    c.wait(&format!("Number(document.getElementById('window').dataset.answers ?? 0) > {after}"), 240);
}

#[test]
fn the_egui_window_is_drawn_and_answers() {
    let Some((_turn, mut chromium)) = browser(&WEBGPU_CANVAS) else { return };
    let c = &mut chromium;
    c.resize(SIZES[0].1, "dark");
    c.open(&site().url("egui/"));
    wait_for_answer(c, 0);
    let first = c.value("Math.round(performance.now())");
    eprintln!("the window's first reconstruction: within {first} ms");
    for (name, size) in SIZES {
        for scheme in ["light", "dark"] {
            c.resize(size, scheme);
            let wide = format!("document.getElementById('window').width === {}", size.0);
            c.wait(&wide, 30);
            let png = picture(c, 500);
            std::fs::write(artefacts().join(format!("egui-{name}-{scheme}.png")), png).unwrap();
        }
    }
    // A stroke over the picture of the first card changes the mask, and the networks look again.
    c.resize(SIZES[0].1, "dark");
    c.wait("document.getElementById('window').width === 1280", 30);
    picture(c, 500);
    let before = answers(c);
    c.drag(&[(60.0, 190.0), (110.0, 190.0), (160.0, 192.0)]);
    wait_for_answer(c, before);
    assert_eq!(c.value("document.getElementById('trouble').hidden"), json!(true));
    assert!(c.errors.is_empty(), "{:?}", c.errors);
    assert_eq!((c.foreign.lock().unwrap().len(), c.asked.len()), (0, 0), "nothing is asked elsewhere");
}
