// The unit that light kernels work in: four elements if every size divides by four (VEC), else one.

#if VEC
alias E = vec4<f32>; // real numbers
alias U = vec4<u32>; // their bits
alias I = vec4<i32>;
const WIDTH: u32 = 4u;

fn total(v: E) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
fn largest(v: E) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}
fn element(v: E, i: u32) -> f32 {
    return v[i];
}
// 1 where one of the element numbers first, first + 1, … is `id`, else 0.
fn indicator(first: u32, id: u32) -> E {
    return select(E(0.0), E(1.0), U(first, first + 1u, first + 2u, first + 3u) == U(id));
}
#else
alias E = f32;
alias U = u32;
alias I = i32;
const WIDTH: u32 = 1u;

fn total(v: E) -> f32 {
    return v;
}
fn largest(v: E) -> f32 {
    return v;
}
fn element(v: E, i: u32) -> f32 {
    return v;
}
fn indicator(first: u32, id: u32) -> E {
    return select(0.0, 1.0, first == id);
}
#endif

#if PARTS
// What is loaded and stored at once: PARTS units, two where eight elements are one move (OCT), else one.
#if OCT
#import words
alias Word = Oct;
alias Parts = array<E, 2>;
fn parts(w: Word) -> Parts {
    return Parts(lower(w), upper(w));
}
fn word(v: Parts) -> Word {
    return join(v[0], v[1]);
}
#else
alias Word = E;
alias Parts = array<E, 1>;
fn parts(w: Word) -> Parts {
    return Parts(w);
}
fn word(v: Parts) -> Word {
    return v[0];
}
#endif
#endif
