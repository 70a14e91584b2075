// The optional bias and the result of a product, after its two operands.

#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<f32>;
#if C_VEC
@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;
#else
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
#endif
#else
#if C_VEC
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
#endif
#endif
