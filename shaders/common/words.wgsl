// Vectors of four reals read from storage in the unit that the adapter loads fastest.
//
// WIDE reads two 64-bit words: a software adapter moves every lane's words one by one, whatever their width.

#if WIDE
alias Quad = vec2<u64>;
fn quad(w: Quad) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(u32(w.x), u32(w.x >> 32u), u32(w.y), u32(w.y >> 32u)));
}
fn packed(v: vec4<f32>) -> Quad {
    let w = bitcast<vec4<u32>>(v);
    return Quad(u64(w.x) | (u64(w.y) << 32u), u64(w.z) | (u64(w.w) << 32u));
}
#else
alias Quad = vec4<f32>;
fn quad(w: Quad) -> vec4<f32> {
    return w;
}
fn packed(v: vec4<f32>) -> Quad {
    return v;
}
#endif

#if OCT
// Eight reals: a lane's move costs little more for eight words than for four.
alias Oct = vec4<u64>;
fn lower(w: Oct) -> vec4<f32> {
    return quad_of(w.xy);
}
fn upper(w: Oct) -> vec4<f32> {
    return quad_of(w.zw);
}
fn quad_of(w: vec2<u64>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(u32(w.x), u32(w.x >> 32u), u32(w.y), u32(w.y >> 32u)));
}
fn join(lo: vec4<f32>, hi: vec4<f32>) -> Oct {
    let a = bitcast<vec4<u32>>(lo);
    let b = bitcast<vec4<u32>>(hi);
    let low = vec4<u64>(vec4<u32>(a.xz, b.xz));
    return low | (vec4<u64>(vec4<u32>(a.yw, b.yw)) << vec4<u32>(32u));
}
#endif
