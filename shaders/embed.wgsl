// The token sequence of patches[B, n, D] (formula in src/ops/embed.rs) and its gradients.
// embed: x[B, n+1, D].  grad_patches: dpatches = dx of the patch, 0 where masked.
// sum_images: y[i] = Σ_b dx[b, i] (class token, positions).  token_part: Σ of masked dx over blocks of patches.
// Grid: one invocation per unit of the result; sums run in order, f32.

#import grid
#import elem

#if embed
struct Params {
    n: u32, // units of x
    d: u32, // units of a token
    tokens: u32, // n + 1
}
@group(0) @binding(0) var<storage, read_write> x: array<E>;
@group(0) @binding(1) var<storage, read> patches: array<E>;
@group(0) @binding(2) var<storage, read> cls: array<E>;
#if MASKED
@group(0) @binding(3) var<storage, read> mask_token: array<E>;
@group(0) @binding(4) var<storage, read> mask: array<u32>;
#endif
#if POS
@group(0) @binding(POS_AT) var<storage, read> pos: array<E>;
#endif
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn embed(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let e = i % p.d;
    let row = i / p.d;
    let t = row % p.tokens;
    var value: E;
    if t == 0u {
        value = cls[e];
    } else {
        // One class token per image lies before this patch: row / tokens + 1 of them.
        let patch_row = row - row / p.tokens - 1u;
        value = patches[patch_row * p.d + e];
#if MASKED
        if mask[patch_row] != 0u {
            value = mask_token[e];
        }
#endif
    }
#if POS
    value += pos[t * p.d + e];
#endif
    x[i] = value;
}
#endif

#if grad_patches
struct Params {
    n: u32, // units of dpatches
    d: u32,
    patches: u32, // per image
}
@group(0) @binding(0) var<storage, read_write> dpatches: array<E>;
@group(0) @binding(1) var<storage, read> dx: array<E>;
#if MASKED
@group(0) @binding(2) var<storage, read> mask: array<u32>;
#endif
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn grad_patches(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let patch_row = i / p.d;
    var value = dx[(patch_row + patch_row / p.patches + 1u) * p.d + i % p.d];
#if MASKED
    value = select(value, E(0.0), mask[patch_row] != 0u);
#endif
    dpatches[i] = value;
}
#endif

#if sum_images
struct Params {
    n: u32, // units of y
    batch: u32,
    image: u32, // units of dx per image
}
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> dx: array<E>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn sum_images(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    var sum = E(0.0);
    for (var b = 0u; b < p.batch; b++) {
        sum += dx[b * p.image + i];
    }
    y[i] = sum;
}
#endif

#if token_part
struct Params {
    n: u32, // units of part
    d: u32,
    patches: u32, // per image
    rows: u32, // patches of the batch
    block: u32, // patches per partial sum
}
@group(0) @binding(0) var<storage, read_write> part: array<E>;
@group(0) @binding(1) var<storage, read> dx: array<E>;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn token_part(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let e = i % p.d;
    let first = i / p.d * p.block;
    var sum = E(0.0);
    for (var r = first; r < min(first + p.block, p.rows); r++) {
        if mask[r] != 0u {
            sum += dx[(r + r / p.patches + 1u) * p.d + e];
        }
    }
    part[i] = sum;
}
#endif
