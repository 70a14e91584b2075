// The optional bias and the result of a product, after its two operands. C_HALF: the result is kept in half precision;
// C_OCT: it is written in eights.

#if C_HALF
#import half
alias Stored = Half;
fn stored(v: vec4<f32>) -> Stored {
    return narrow(v);
}
#else
#if C_OCT
alias Stored = Oct;
#else
#if C_VEC
alias Stored = vec4<f32>;
#else
alias Stored = f32;
#endif
#endif
fn stored(v: Stored) -> Stored {
    return v;
}
#endif
#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<Stored>;
#else
@group(0) @binding(2) var<storage, read_write> c: array<Stored>;
#endif
