//! Pictures seen as a grid of patches: hidden, filled in, coloured by a value.

use super::colour::{heat, mix};
use crate::data::{Normalization, Picture};
use crate::tasks::tokenizer::{pixel_of, unmap};

/// The two greys of a hidden patch: a chequered ground that no picture shows.
const HIDDEN: [[u8; 3]; 2] = [[122, 124, 130], [138, 140, 146]];

fn byte(v: f32) -> u8 {
    (v * 255.0).round() as u8
}

/// A picture of mapped values `[H,W,3]` in 0.1..0.9 (a tokenizer's input).
pub fn of_mapped(view: &[f32], (height, width): (usize, usize)) -> Picture {
    Picture { width, height, rgb: view.iter().map(|&v| byte(unmap(v))).collect() }
}

/// A picture of normalised values `[H,W,3]` (a transformer's input).
pub fn of_normalized(view: &[f32], (height, width): (usize, usize), n: Normalization) -> Picture {
    let value = |(i, &v): (usize, &f32)| byte((v * n.std[i % 3] + n.mean[i % 3]).clamp(0.0, 1.0));
    Picture { width, height, rgb: view.iter().enumerate().map(value).collect() }
}

/// A picture of a decoder's output `[H,W,C]`: of the first three of six channels, μ (beit-spec §3.3), or of three values
/// in −1..1 (§3.6).
pub fn of_decoded(decoded: &[f32], (height, width): (usize, usize)) -> Picture {
    let channels = (decoded.len() / (height * width).max(1)).max(3);
    let value = pixel_of(channels);
    let rgb = decoded.chunks_exact(channels).flat_map(|p| &p[..3]).map(|&v| byte(value(v))).collect();
    Picture { width, height, rgb }
}

/// Number of the patch that a pixel belongs to, on a grid of (rows, columns).
fn cell(picture: &Picture, (rows, columns): (usize, usize), x: usize, y: usize) -> usize {
    y * rows / picture.height.max(1) * columns + x * columns / picture.width.max(1)
}

/// Repaints every pixel from its patch, its place and its colour.
fn repaint(
    picture: &Picture,
    grid: (usize, usize),
    mut f: impl FnMut(usize, (usize, usize), [u8; 3]) -> [u8; 3],
) -> Picture {
    let mut out = picture.clone();
    for (i, pixel) in out.rgb.as_chunks_mut().0.iter_mut().enumerate() {
        let (x, y) = (i % picture.width, i / picture.width);
        *pixel = f(cell(picture, grid, x, y), (x, y), *pixel);
    }
    out
}

/// The picture with masked patches hidden; `mask[rows·columns]`, row-major.
pub fn hide(picture: &Picture, mask: &[bool], grid: (usize, usize)) -> Picture {
    let check = (picture.width / grid.1.max(1) / 4).max(1);
    repaint(picture, grid, |p, (x, y), colour| {
        if mask.get(p) == Some(&true) { HIDDEN[(x / check + y / check) % 2] } else { colour }
    })
}

/// The picture with masked patches taken from another one of the same size.
pub fn fill_in(picture: &Picture, filled: &Picture, mask: &[bool], grid: (usize, usize)) -> Picture {
    repaint(picture, grid, |p, (x, y), colour| {
        let from = 3 * (y * picture.width + x);
        match filled.rgb.get(from..from + 3) {
            Some(&[r, g, b]) if mask.get(p) == Some(&true) => [r, g, b],
            _ => colour,
        }
    })
}

fn grey([r, g, b]: [u8; 3]) -> [u8; 3] {
    [((u32::from(r) * 3 + u32::from(g) * 6 + u32::from(b)) / 10) as u8; 3]
}

/// A heat map: patches that have a value in its colour (0 dark, 1 bright), the others as the faded picture.
pub fn heat_map(picture: &Picture, values: &[Option<f32>], grid: (usize, usize)) -> Picture {
    repaint(picture, grid, |p, _, colour| match values.get(p) {
        Some(Some(v)) => heat(*v),
        _ => mix(grey(colour), [236; 3], 0.65),
    })
}

/// Values over the whole picture, in their colours on its greys; for attention.
pub fn spotlight(picture: &Picture, values: &[f32], grid: (usize, usize)) -> Picture {
    repaint(picture, grid, |p, _, colour| mix(grey(colour), heat(values.get(p).copied().unwrap_or(0.0)), 0.7))
}

/// A frame around one patch.
pub fn mark(picture: &Picture, patch: usize, grid: (usize, usize), colour: [u8; 3]) -> Picture {
    let (width, height) = (picture.width, picture.height);
    let thick = (width / grid.1.max(1) / 8).max(1);
    repaint(picture, grid, |p, (x, y), c| {
        let other = |dx: isize, dy: isize| match (x.checked_add_signed(dx), y.checked_add_signed(dy)) {
            (Some(x), Some(y)) if x < width && y < height => cell(picture, grid, x, y) != patch,
            _ => true,
        };
        let t = thick as isize;
        let edge = p == patch && (other(t, 0) || other(-t, 0) || other(0, t) || other(0, -t));
        if edge { colour } else { c }
    })
}

/// The patch at (row, column) cut out, in pixels.
pub fn cut_patch(picture: &Picture, patch: usize, (rows, columns): (usize, usize)) -> Picture {
    let (height, width) = (picture.height / rows.max(1), picture.width / columns.max(1));
    let (row, column) = (patch / columns.max(1), patch % columns.max(1));
    picture.cut(crate::data::Crop { left: column * width, top: row * height, width, height })
}

/// Four times the absolute difference of two pictures of one size, on black.
pub fn of_difference(a: &Picture, b: &Picture) -> Picture {
    let rgb = a.rgb.iter().zip(&b.rgb).map(|(&x, &y)| x.abs_diff(y).saturating_mul(4)).collect();
    Picture { rgb, ..*a }
}

/// Ids `[rows·columns]` as squares of `side` pixels in all; a colour of its own for each id.
pub fn ids_map(ids: &[u32], vocab: usize, grid: (usize, usize), side: usize) -> Picture {
    let empty = Picture::flat(side, side, [255; 3]);
    repaint(&empty, grid, |p, _, _| {
        let id = ids.get(p).copied().unwrap_or(0);
        // Neighbouring numbers are unrelated: the golden ratio spreads them over the hues.
        let hue = f64::from(id) * 0.618_033_988_75 % 1.0;
        let light = 0.45 + 0.4 * f64::from(id) / vocab.max(1) as f64;
        let channel = |shift: f64| {
            let wave = 0.5 + 0.5 * (std::f64::consts::TAU * (hue + shift)).cos();
            (255.0 * (light * (0.35 + 0.65 * wave))).round() as u8
        };
        [channel(0.0), channel(1.0 / 3.0), channel(2.0 / 3.0)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_where_the_grid_says() {
        let picture = Picture::flat(8, 6, [10, 20, 30]);
        let other = Picture::flat(8, 6, [200; 3]);
        let mut mask = vec![false; 12];
        mask[4 + 2] = true; // second row, third column
        for (out, masked) in [
            (hide(&picture, &mask, (3, 4)), None),
            (fill_in(&picture, &other, &mask, (3, 4)), Some([200u8; 3])),
        ] {
            for (i, pixel) in out.rgb.chunks(3).enumerate() {
                let inside = (4..6).contains(&(i % 8)) && (2..4).contains(&(i / 8));
                assert_eq!(inside, pixel != [10, 20, 30], "pixel {i}");
                assert!(!inside || masked.is_none_or(|m| pixel == m));
            }
        }
        assert_eq!(
            cut_patch(&fill_in(&picture, &other, &mask, (3, 4)), 6, (3, 4)),
            Picture::flat(2, 2, [200; 3])
        );
        let framed = mark(&Picture::flat(16, 16, [0; 3]), 0, (2, 2), [255; 3]);
        let lit: Vec<usize> = (0..256).filter(|i| framed.rgb[3 * i] == 255).collect();
        assert_eq!(lit.len(), 64 - 36, "a frame of one pixel around 8 x 8");
        assert!(lit.iter().all(|i| i % 16 < 8 && i / 16 < 8));
    }

    #[test]
    fn equal_ids_have_equal_colours() {
        let map = ids_map(&[7, 7, 8, 300], 512, (2, 2), 4);
        let at = |x: usize, y: usize| &map.rgb[3 * (y * 4 + x)..][..3];
        assert!(at(0, 0) == at(3, 1) && at(0, 0) != at(0, 2) && at(0, 2) != at(2, 2));
        let (a, b) = (Picture::flat(1, 1, [10, 200, 0]), Picture::flat(1, 1, [12, 100, 0]));
        assert_eq!(of_difference(&a, &b).rgb, [8, 255, 0]);
    }

    #[test]
    fn decoder_channels() {
        let mu = [0.0f32, 100.0, -100.0, 5.0, 5.0, 5.0];
        assert_eq!(of_decoded(&mu, (1, 1)).rgb, [128, 255, 0]);
        assert_eq!(of_mapped(&[0.1, 0.5, 0.9], (1, 1)).rgb, [0, 128, 255]);
    }
}
