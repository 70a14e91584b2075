// The unit that light kernels work in: four elements if every size divides by four (VEC), else one.

#if VEC
alias E = vec4<f32>;
const WIDTH: u32 = 4u;

fn total(v: E) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
fn largest(v: E) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}
#else
alias E = f32;
const WIDTH: u32 = 1u;

fn total(v: E) -> f32 {
    return v;
}
fn largest(v: E) -> f32 {
    return v;
}
#endif
