//! Decoding PNG, JPEG, WebP, GIF and BMP to 8-bit RGB, with limits that hold before anything large is allocated.
//!
//! Colour conventions are those of Pillow's `convert("RGB")`: grey is repeated, palettes are looked up, alpha is
//! dropped without blending, CMYK is multiplied out; of 16-bit samples the high byte is kept.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader};

use super::jpeg;
use super::picture::Picture;
use crate::{Error, Result};

/// Names of the formats that are read, for messages.
pub const FORMATS: &str = "PNG, JPEG, WebP, GIF or BMP";

/// A decoded size below this is never called a decompression bomb, bytes.
const SMALL: u64 = 4 << 20;
/// Most decoded bytes per byte of file for larger pictures.
const MOST_EXPANSION: u64 = 1000;

/// What a picture file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Largest file, bytes.
    pub file_bytes: u64,
    /// Longest side, pixels.
    pub side: u32,
    /// Most pixels.
    pub pixels: u64,
    /// Memory that the decoder may use, bytes.
    pub memory: u64,
}

impl ImageLimits {
    /// Limits of a native program.
    pub const fn native() -> Self {
        ImageLimits { file_bytes: 128 << 20, side: 16_384, pixels: 128_000_000, memory: 512 << 20 }
    }

    /// Limits of a browser tab.
    pub const fn web() -> Self {
        ImageLimits { file_bytes: 32 << 20, side: 4096, pixels: 16_000_000, memory: 64 << 20 }
    }
}

impl Default for ImageLimits {
    fn default() -> Self {
        if cfg!(target_arch = "wasm32") { Self::web() } else { Self::native() }
    }
}

/// Decodes a picture file and turns it upright by its EXIF orientation.
pub fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<Picture> {
    guarded(bytes, limits, true)
}

/// Decodes a picture file as it is stored, without regard to its EXIF orientation.
pub fn decode_ignoring_orientation(bytes: &[u8], limits: &ImageLimits) -> Result<Picture> {
    guarded(bytes, limits, false)
}

/// A decoder that panics on a hostile file must not end a training run: the file counts as unreadable.
fn guarded(bytes: &[u8], limits: &ImageLimits, upright: bool) -> Result<Picture> {
    catch_unwind(AssertUnwindSafe(|| decode_with(bytes, limits, upright)))
        .unwrap_or_else(|_| Err(Error::data("the picture decoder failed on this file")))
}

fn decode_with(bytes: &[u8], limits: &ImageLimits, upright: bool) -> Result<Picture> {
    let format = recognise(bytes, limits)?;
    let failed = |e: image::ImageError| undecodable(&e, format, limits);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut memory = image::Limits::no_limits();
    memory.max_alloc = Some(limits.memory);
    reader.limits(memory.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    check_size(decoder.dimensions(), decoder.total_bytes(), bytes.len(), limits)?;
    if format == ImageFormat::Jpeg {
        jpeg::check_complete(bytes).map_err(|e| Error::data("damaged picture: incomplete JPEG").got(e))?;
    }
    decoder.set_limits(memory).map_err(failed)?;
    // Damaged EXIF is no reason to lose the picture.
    let orientation = if upright { decoder.orientation().ok() } else { None };
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(to_rgb(image))
}

fn recognise(bytes: &[u8], limits: &ImageLimits) -> Result<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    if bytes.is_empty() {
        return Err(Error::data("empty picture file").expected(FORMATS).got("0 bytes"));
    }
    if bytes.len() as u64 > limits.file_bytes {
        return Err(Error::data("picture file too large")
            .expected(format!("at most {} bytes", limits.file_bytes))
            .got(format!("{} bytes", bytes.len())));
    }
    match image::guess_format(bytes) {
        Ok(format @ (Png | Jpeg | WebP | Gif | Bmp)) => Ok(format),
        Ok(other) => Err(Error::data("picture format not supported").expected(FORMATS).got(name(other))),
        Err(_) => Err(Error::data("not a picture").expected(FORMATS).got(first_bytes(bytes))),
    }
}

/// The decoder's refusal or failure.
fn undecodable(error: &image::ImageError, format: ImageFormat, limits: &ImageLimits) -> Error {
    if matches!(error, image::ImageError::Limits(_)) {
        let expected = format!("sides up to {} and up to {} bytes for decoding", limits.side, limits.memory);
        return Error::data("picture too large")
            .expected(expected)
            .got(format!("more, in a {}", name(format)));
    }
    Error::data(format!("damaged picture: this {} cannot be decoded", name(format))).got(reason(error))
}

fn first_bytes(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("a file that begins with the bytes {}", hex.join(" "))
}

/// Refuses by the header alone. `decoded` is the size of the decoder's output in bytes.
fn check_size((width, height): (u32, u32), decoded: u64, file: usize, limits: &ImageLimits) -> Result<()> {
    let found = format!("{width}x{height}");
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Error::data("picture without pixels").got(found));
    }
    if width.max(height) > limits.side || pixels > limits.pixels || decoded > limits.memory {
        return Err(Error::data("picture too large")
            .expected(format!("sides up to {} and up to {} pixels", limits.side, limits.pixels))
            .got(found));
    }
    if decoded > SMALL && decoded / (file as u64).max(1) > MOST_EXPANSION {
        return Err(Error::data("suspicious picture")
            .expected(format!("at most {MOST_EXPANSION} decoded bytes per byte of file"))
            .got(format!("{found} in a file of {file} bytes")));
    }
    Ok(())
}

fn name(format: ImageFormat) -> String {
    match format {
        ImageFormat::WebP => "WebP".into(),
        other => format!("{other:?}").to_uppercase(),
    }
}

/// The decoder's message on one line.
fn reason(error: &image::ImageError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn to_rgb(image: DynamicImage) -> Picture {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let high = |v: &u16| (v >> 8) as u8;
    let rgb = match image {
        DynamicImage::ImageRgb8(i) => i.into_raw(),
        DynamicImage::ImageLuma8(i) => i.as_raw().iter().flat_map(|&v| [v; 3]).collect(),
        DynamicImage::ImageLumaA8(i) => i.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
        DynamicImage::ImageRgba8(i) => i.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect(),
        DynamicImage::ImageLuma16(i) => i.as_raw().iter().flat_map(|v| [high(v); 3]).collect(),
        DynamicImage::ImageLumaA16(i) => i.pixels().flat_map(|p| [high(&p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(i) => i.as_raw().iter().map(high).collect(),
        DynamicImage::ImageRgba16(i) => {
            i.pixels().flat_map(|p| [high(&p.0[0]), high(&p.0[1]), high(&p.0[2])]).collect()
        }
        other => other.into_rgb8().into_raw(),
    };
    Picture { width, height, rgb }
}

/// Writes a PNG, for contact sheets and tests.
pub fn encode_png(picture: &Picture) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    let failed = |e: image::ImageError| Error::data("PNG cannot be written").got(reason(&e));
    // Sheets of enlarged pictures take a third less than with the default, which is made for speed.
    let (compression, filter) = (CompressionType::Default, FilterType::Adaptive);
    PngEncoder::new_with_quality(&mut bytes, compression, filter)
        .write_image(
            &picture.rgb,
            picture.width as u32,
            picture.height as u32,
            image::ExtendedColorType::Rgb8,
        )
        .map_err(failed)?;
    Ok(bytes.into_inner())
}
