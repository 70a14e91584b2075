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
    // Images that one workgroup of the lanes' and tiles' kernels goes through, its tiles of tokens, row stride of the map.
    images: u32,
    tiles: u32,
    stride: u32,
    // Maps to add up.
    parts: u32,
}
@group(0) @binding(15) var<uniform> p: Params;

alias Row = array<E, UNITS>;

// First unit of q (0), k (1) or v (2) of a token.
fn qkv_at(which: u32, b: u32, token: u32, head: u32) -> u32 {
    return (((b * p.tokens + token) * 3u + which) * p.heads + head) * UNITS;
}
// First unit of a token in an array [B, N, heads·width].
fn token_at(b: u32, token: u32, head: u32) -> u32 {
    return ((b * p.tokens + token) * p.heads + head) * UNITS;
}

// Row of the bias table for query i and key j is query_row(i) − key_row(j) where neither is the class token, token 0.
// Loops go from one token to the next with next_row instead of dividing again.
struct TokenRow {
    row: u32,
    column: u32,
}
fn patch_row(token: u32) -> TokenRow {
    let patch_at = max(token, 1u) - 1u;
    let column = patch_at % max(p.gw, 1u);
    return TokenRow(patch_at / max(p.gw, 1u) * (2u * p.gw - 1u) + column, column);
}
// That of the token after `token`.
fn next_row(t: TokenRow, token: u32) -> TokenRow {
    if token == 0u {
        return t;
    }
    let last = t.column + 1u == p.gw;
    return TokenRow(t.row + select(1u, p.gw, last), select(t.column + 1u, 0u, last));
}
fn key_row(j: u32) -> u32 {
    return patch_row(j).row;
}
// What a query's row has more than a key's.
fn query_shift() -> u32 {
    return (p.gh - 1u) * (2u * p.gw - 1u) + p.gw - 1u;
}
fn query_row(i: u32) -> u32 {
    return patch_row(i).row + query_shift();
}
// Rows for pairs of patches; those of the class token follow.
fn outside() -> u32 {
    return (2u * p.gh - 1u) * (2u * p.gw - 1u);
}
fn pair_row(i: u32, j: u32, query: u32, key: u32) -> u32 {
    if i == 0u {
        return outside() + select(0u, 2u, j == 0u);
    }
    return select(query - key, outside() + 1u, j == 0u);
}
