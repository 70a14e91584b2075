// Counter-based randomness, bit for bit as in src/rng.rs: a draw is a pure function of the key and the index.
// `pcg4d` is the mixing function of Jarzynski and Olano, "Hash Functions for GPU Rendering" (2020).

fn pcg4d(words: vec4<u32>) -> vec4<u32> {
    var v = words * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v ^= v >> vec4<u32>(16u);
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v;
}

// A key derived from a key: one per sample, per layer.
fn child_key(key: vec4<u32>, index: u32) -> vec4<u32> {
    return pcg4d(vec4<u32>(key.x ^ 0x9e3779b9u, key.y, key.z, index));
}

// Four random words.
fn random_words(key: vec4<u32>, index: u32) -> vec4<u32> {
    return pcg4d(vec4<u32>(key.xyz, key.w + index));
}

// Uniform in the open interval (0, 1), exact in f32.
fn uniform_unit(key: vec4<u32>, index: u32) -> f32 {
    return f32(2u * (random_words(key, index).x >> 9u) + 1u) * (1.0 / 16777216.0);
}
