// What the attention kernels share: rows of q, k, v of one head, and the relative position bias from its table.
// Units `E` as in common/elem.wgsl; UNITS = head width in units. TABLE: a bias table [R, heads] of a gh × gw grid is used.

#import elem
#import grid

struct Params {
    batch: u32,
    tokens: u32,
    heads: u32,
    gh: u32,
    gw: u32,
    scale: f32,
    // Heads of one dispatch of the table gradient.
    first_head: u32,
    some_heads: u32,
    // Images that one workgroup of the lanes' kernels goes through, tiles of eight tokens, row stride of the map.
    images: u32,
    tiles: u32,
    stride: u32,
}
@group(1) @binding(0) var<uniform> p: Params;

alias Row = array<E, UNITS>;

// First unit of q (0), k (1) or v (2) of a token.
fn qkv_at(which: u32, b: u32, token: u32, head: u32) -> u32 {
    return (((b * p.tokens + token) * 3u + which) * p.heads + head) * UNITS;
}
// First unit of a token in an array [B, N, heads·width].
fn token_at(b: u32, token: u32, head: u32) -> u32 {
    return ((b * p.tokens + token) * p.heads + head) * UNITS;
}

#if TABLE
// Row of the bias table for query i and key j; token 0 is the class token.
fn table_row(i: u32, j: u32) -> u32 {
    let patches = (2u * p.gh - 1u) * (2u * p.gw - 1u);
    if i == 0u {
        return select(patches, patches + 2u, j == 0u);
    }
    if j == 0u {
        return patches + 1u;
    }
    let dr = (i - 1u) / p.gw + p.gh - 1u - (j - 1u) / p.gw;
    let dc = (i - 1u) % p.gw + p.gw - 1u - (j - 1u) % p.gw;
    return dr * (2u * p.gw - 1u) + dc;
}
#endif
