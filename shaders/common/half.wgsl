// Four numbers in half precision, as two words: any adapter can read them, with or without 16-bit floats.
// What is too large for a half becomes an infinity, and what is not a number stays none: the built-in packing promises
// neither. WIDE: one 64-bit word, as in words.wgsl.

#if WIDE
alias Half = u64;
fn half_words(h: Half) -> vec2<u32> {
    return vec2<u32>(u32(h), u32(h >> 32u));
}
fn half_of(w: vec2<u32>) -> Half {
    return u64(w.x) | (u64(w.y) << 32u);
}
#else
alias Half = vec2<u32>;
fn half_words(h: Half) -> vec2<u32> {
    return h;
}
fn half_of(w: vec2<u32>) -> Half {
    return w;
}
#endif

fn widen(h: Half) -> vec4<f32> {
    let w = half_words(h);
    return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
}

fn narrow(v: vec4<f32>) -> Half {
    let bits = bitcast<vec4<u32>>(v);
    let size = bits & vec4<u32>(0x7fffffffu);
    // From 65520 on a half is infinite; beyond the bits of infinity are those that are not numbers.
    let large = size >= vec4<u32>(0x477ff000u);
    let none = size > vec4<u32>(0x7f800000u);
    let inside = select(v, vec4<f32>(), large);
    let w = vec2<u32>(pack2x16float(inside.xy), pack2x16float(inside.zw));
    let special = ((bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u)) | select(vec4<u32>(0x7c00u), vec4<u32>(0x7e00u), none);
    let halves = select(vec4<u32>(w.x & 0xffffu, w.x >> 16u, w.y & 0xffffu, w.y >> 16u), special, large);
    return half_of(vec2<u32>(halves.x | (halves.y << 16u), halves.z | (halves.w << 16u)));
}

#if PARTS
// The PARTS of elem.wgsl.
#if OCT
alias Halves = vec2<Half>;
fn half_parts(h: Halves) -> Parts {
    return Parts(widen(h.x), widen(h.y));
}
fn half_word(v: Parts) -> Halves {
    return Halves(narrow(v[0]), narrow(v[1]));
}
#else
alias Halves = Half;
fn half_parts(h: Halves) -> Parts {
    return Parts(widen(h));
}
fn half_word(v: Parts) -> Halves {
    return narrow(v[0]);
}
#endif
#endif
