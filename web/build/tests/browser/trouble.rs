//! What the page says where there is no WebGPU, or no adapter, or one that is too small.

use serde_json::json;

use super::chromium::WEBGPU;
use super::{artefacts, browser, site};

fn said(flags: &[&str], script: &str, code: &str) -> Option<String> {
    let (_turn, mut c) = browser(flags)?;
    if !script.is_empty() {
        c.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}));
    }
    c.open(&site().url("index.html"));
    c.wait("document.documentElement.dataset.state === 'failed'", 60);
    assert_eq!(c.value("document.documentElement.dataset.trouble"), json!(code));
    assert_eq!(c.value("document.getElementById('trouble').hidden"), json!(false));
    c.screenshot(&artefacts().join(format!("trouble-{code}.png")), (820, 700), "light");
    let text = c.value("document.getElementById('trouble').textContent");
    Some(text.as_str().unwrap().to_string())
}

#[test]
fn without_webgpu() {
    let asked = site_requests();
    let Some(text) = said(&[], "delete Navigator.prototype.gpu;", "no-webgpu") else {
        return;
    };
    assert!(text.contains("has no WebGPU") && text.contains("Firefox"), "{text}");
    let fetched: Vec<String> = site_requests().split_off(asked.len());
    assert!(!fetched.iter().any(|f| f.ends_with(".wasm") || f.ends_with(".safetensors")), "{fetched:?}");
}

#[test]
fn without_an_adapter() {
    // Without flags a Chromium on a machine without a graphics card offers WebGPU, but no adapter.
    let Some((turn, mut c)) = browser(&[]) else { return };
    c.open(&site().url("example.html"));
    let adapter = c.value("navigator.gpu ? navigator.gpu.requestAdapter().then((a) => a !== null) : true");
    drop((turn, c));
    if adapter == json!(true) {
        eprintln!("this machine has an adapter: the message for none was not tested");
        return;
    }
    let Some(text) = said(&[], "", "no-adapter") else { return };
    assert!(text.contains("No graphics adapter"), "{text}");
}

fn site_requests() -> Vec<String> {
    if super::chromium::find().is_none() {
        return vec![];
    }
    site().server.requests()
}

#[test]
fn policy_is_in_the_page_and_in_the_header() {
    let Some((_turn, mut c)) = browser(&WEBGPU) else { return };
    c.open(&site().url("example.html"));
    let header = c.value("fetch('index.html').then((r) => r.headers.get('content-security-policy'))");
    let header = header.as_str().unwrap();
    let page = std::fs::read_to_string(site().built.dist.join("index.html")).unwrap();
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "form-action 'none'",
    ] {
        assert!(header.contains(part) && page.contains(part), "{part}");
    }
    assert!(header.contains("frame-ancestors 'none'"));
    // What a policy does not cover is not used at all.
    for file in std::fs::read_dir(&site().built.dist).unwrap().map(|f| f.unwrap().path()) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for word in ["RTCPeerConnection", "WebTransport", "sendBeacon", "http://", "https://"] {
            let allowed = word == "http://" && file.ends_with("icon.svg") || file.ends_with("charts.js");
            assert!(allowed || !text.contains(word), "{word} in {}", file.display());
        }
    }
}
