// Pixels of a decoder's output as colours of a texture.
//
// values [B,H,W,C], f32: the first three of six channels are means (beit-spec section 3.3); pixel = clamp((sigmoid(mu) - 0.1) / 0.8).
// Three channels are values in -1..1 (sections 3.6 and 3.7).
// Instance i is a square of `side` pixels, cut at (first, first) out of image i, and lies in place `start + i` of a grid of
// `columns` squares on the target. One picture is one square. Bytes are gamma-encoded, as egui wants them.

struct Cut {
    // Elements before the first image, of an image, of its rows, of a pixel.
    offset: u32,
    image: u32,
    row: u32,
    pixel: u32,
    // First row and column of the square in pixels, its width and height, columns of the grid of squares.
    first: u32,
    width: u32,
    height: u32,
    columns: u32,
    // Place of instance 0, width and height of the target in pixels.
    start: u32,
    target_width: u32,
    target_height: u32,
    padding: u32,
}

@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<uniform> cut: Cut;

struct Corner {
    @builtin(position) position: vec4<f32>,
    // Pixel within the square.
    @location(0) at: vec2<f32>,
    @location(1) @interpolate(flat) image: u32,
}

@vertex
fn corner(@builtin(vertex_index) vertex: u32, @builtin(instance_index) instance: u32) -> Corner {
    let unit = vec2<f32>(f32(vertex & 1u), f32(vertex >> 1u));
    let size = vec2<f32>(f32(cut.width), f32(cut.height));
    let place = cut.start + instance;
    let origin = vec2<f32>(f32(place % cut.columns), f32(place / cut.columns)) * size;
    let share = (origin + unit * size) / vec2<f32>(f32(cut.target_width), f32(cut.target_height));
    var out: Corner;
    out.position = vec4<f32>(share.x * 2.0 - 1.0, 1.0 - share.y * 2.0, 0.0, 1.0);
    out.at = unit * size;
    out.image = instance;
    return out;
}

fn colour(mu: f32) -> f32 {
    if cut.pixel == 3u {
        return clamp(0.5 * mu + 0.5, 0.0, 1.0);
    }
    return clamp((1.0 / (1.0 + exp(-mu)) - 0.1) / 0.8, 0.0, 1.0);
}

@fragment
fn pixel(in: Corner) -> @location(0) vec4<f32> {
    let x = min(u32(in.at.x), cut.width - 1u) + cut.first;
    let y = min(u32(in.at.y), cut.height - 1u) + cut.first;
    let i = cut.offset + in.image * cut.image + y * cut.row + x * cut.pixel;
    return vec4<f32>(colour(values[i]), colour(values[i + 1u]), colour(values[i + 2u]), 1.0);
}
