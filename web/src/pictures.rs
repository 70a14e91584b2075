//! Pictures between JavaScript and the engine.

use beit::data::Picture;
pub(crate) use beit::data::source::{Album as Dropped, reduced};
use beit::{Error, Result};

/// A picture of RGBA samples, as canvases give them. Transparency is dropped.
pub(crate) fn of_rgba(width: usize, height: usize, rgba: &[u8]) -> Result<Picture> {
    let pixels = width.checked_mul(height).filter(|&n| n > 0 && n <= 16_000_000);
    if pixels.and_then(|n| n.checked_mul(4)) != Some(rgba.len()) {
        return Err(Error::data("picture data of the wrong length")
            .expected(format!("4 x {width} x {height} bytes, at most 16 million pixels"))
            .got(rgba.len().to_string()));
    }
    let rgb = rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    Ok(Picture { width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        assert_eq!(of_rgba(2, 1, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap().rgb, [1, 2, 3, 5, 6, 7]);
        for (w, h, n) in [(0, 0, 0), (2, 2, 15), (usize::MAX, 2, 4), (1 << 20, 1 << 20, 4)] {
            assert!(of_rgba(w, h, &vec![0; n]).is_err(), "{w} x {h}");
        }
    }
}
