//! Errors as JavaScript exceptions with a code.

use beit::{Error, ErrorKind};
use js_sys::Reflect;
use wasm_bindgen::JsValue;

/// What a failing call throws.
pub(crate) type Thrown<T> = Result<T, JsValue>;

/// The code of an error: what a program branches on.
fn code(e: &Error) -> &'static str {
    let text = format!("{} {}", e.what, e.got.as_deref().unwrap_or_default()).to_lowercase();
    let says = |words: &str| text.contains(words);
    match e.kind {
        ErrorKind::Config => "config",
        ErrorKind::Data => "data",
        ErrorKind::Shape => "shape",
        ErrorKind::Checkpoint => "file",
        ErrorKind::Io => "io",
        ErrorKind::Diverged => "diverged",
        ErrorKind::Device if says("memory") => "out-of-memory",
        ErrorKind::Device if says("lost") => "device-lost",
        ErrorKind::Device if says("no adapter") => "no-adapter",
        ErrorKind::Device if says("no usable compute") || says("larger than") => "small-limits",
        ErrorKind::Device => "device",
    }
}

/// An `Error` named `BeitError` with `code` and the parts `what`, `at`, `expected`, `got`, `hint`.
pub(crate) fn thrown(e: Error) -> JsValue {
    let error = js_sys::Error::new(&e.to_string());
    error.set_name("BeitError");
    let set = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            // Setting a property of a fresh error cannot fail.
            let _ = Reflect::set(&error, &key.into(), &value.into());
        }
    };
    set("code", Some(code(&e)));
    set("what", Some(&e.what));
    set("at", e.at.as_deref());
    set("expected", e.expected.as_deref());
    set("got", e.got.as_deref());
    set("hint", e.hint.as_deref());
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (e, want) in [
            (Error::device("no adapter found"), "no-adapter"),
            (Error::device("the device has no usable compute shaders"), "small-limits"),
            (Error::device("a buffer larger than the adapter allows"), "small-limits"),
            (Error::device("a tensor larger than one binding of the adapter"), "small-limits"),
            (Error::device("not enough GPU memory"), "out-of-memory"),
            (Error::device("the GPU device was lost").got("Out of Memory"), "out-of-memory"),
            (Error::device("the GPU device was lost").got("Unknown: gone"), "device-lost"),
            (Error::device("no such plan"), "device"),
            (Error::checkpoint("malformed config"), "file"),
            (Error::data("not a picture"), "data"),
        ] {
            assert_eq!(code(&e), want, "{e}");
        }
    }
}
