// add_scaled: y[n] = a[n] + s·b[n].
// scale: y[n] = s·a[n]; with s = 1 a copy in the precision of y. X_HALF, Y_HALF: kept in half precision.
// Grid: one invocation per word. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // words
    s: f32,
}
@group(0) @binding(15) var<uniform> p: Params;

#if add_scaled
@group(0) @binding(0) var<storage, read_write> y: array<Word>;
@group(0) @binding(1) var<storage, read> a: array<Word>;
@group(0) @binding(2) var<storage, read> b: array<Word>;

@compute @workgroup_size(WG)
fn add_scaled(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        var v = parts(a[i]);
        let w = parts(b[i]);
#repeat k PARTS
        v[k] += p.s * w[k];
#end
        y[i] = word(v);
    }
}
#endif

#if scale
#if X_HALF
#import half
alias X = Halves;
fn number(v: X) -> Parts {
    return half_parts(v);
}
#else
alias X = Word;
fn number(v: X) -> Parts {
    return parts(v);
}
#endif
#import stored
@group(0) @binding(0) var<storage, read_write> y: array<Y>;
@group(0) @binding(1) var<storage, read> a: array<X>;

@compute @workgroup_size(WG)
fn scale(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        var v = number(a[i]);
#repeat k PARTS
        v[k] *= p.s;
#end
        y[i] = stored(v);
    }
}
#endif
