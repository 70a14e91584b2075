//! Writes a contact sheet of the built-in scenes: `cargo run --release --example scenes -- OUT.png [SEED [SIDE]]`.

use beit::data::decode::encode_png;
use beit::data::{Picture, Source, SyntheticSource};

/// Scenes per row and per column.
const ACROSS: usize = 8;
/// White pixels between scenes.
const GAP: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or("where to write the PNG?")?;
    let seed = args.next().map_or(Ok(0), |s| s.parse())?;
    let side: usize = args.next().map_or(Ok(96), |s| s.parse())?;
    let scenes = SyntheticSource::new(seed, ACROSS * ACROSS, side);
    let whole = ACROSS * (side + GAP) + GAP;
    let mut sheet = Picture::flat(whole, whole, [255; 3]);
    for index in 0..scenes.len() {
        let picture = scenes.load(index)?.picture;
        let (left, top) = (GAP + index % ACROSS * (side + GAP), GAP + index / ACROSS * (side + GAP));
        for (y, row) in picture.rgb.chunks_exact(side * 3).enumerate() {
            let start = ((top + y) * whole + left) * 3;
            sheet.rgb[start..start + row.len()].copy_from_slice(row);
        }
    }
    std::fs::write(out, encode_png(&sheet)?)?;
    Ok(())
}
