// A register tile of ROWS rows, held by the LANES lanes of a workgroup, which are a subgroup where there are subgroups.
//
// Each lane accumulates eight columns of every row. An element of the left operand is loaded by one lane and broadcast;
// without subgroup operations (!SUBGROUP) every lane loads the whole rows itself.
// ROWS = 8 · STRIPS. Sums run over k in order, four terms at a time.

alias Tile = array<vec4<f32>, ROWS * 2u>;
// What the lanes of a subgroup hold of eight rows and four k.
#if SUBGROUP
alias Left = vec4<f32>;
#else
alias Left = array<vec4<f32>, 8>;
#endif

// Adds eight rows times four k to the tile, from row `r / 2`; `lo` and `hi` map four k to four columns each.
fn strip(tile: ptr<function, Tile>, r: u32, a: Left, lo: mat4x4<f32>, hi: mat4x4<f32>) {
#if SUBGROUP
#if LEFT_BY_K
    // Lane = k (0..4) + 4 · (rows 0..4 or 4..8): gather the four k of each row.
    let a0 = vec4(subgroupBroadcast(a.x, 0u), subgroupBroadcast(a.x, 1u), subgroupBroadcast(a.x, 2u), subgroupBroadcast(a.x, 3u));
    let a1 = vec4(subgroupBroadcast(a.y, 0u), subgroupBroadcast(a.y, 1u), subgroupBroadcast(a.y, 2u), subgroupBroadcast(a.y, 3u));
    let a2 = vec4(subgroupBroadcast(a.z, 0u), subgroupBroadcast(a.z, 1u), subgroupBroadcast(a.z, 2u), subgroupBroadcast(a.z, 3u));
    let a3 = vec4(subgroupBroadcast(a.w, 0u), subgroupBroadcast(a.w, 1u), subgroupBroadcast(a.w, 2u), subgroupBroadcast(a.w, 3u));
    let a4 = vec4(subgroupBroadcast(a.x, 4u), subgroupBroadcast(a.x, 5u), subgroupBroadcast(a.x, 6u), subgroupBroadcast(a.x, 7u));
    let a5 = vec4(subgroupBroadcast(a.y, 4u), subgroupBroadcast(a.y, 5u), subgroupBroadcast(a.y, 6u), subgroupBroadcast(a.y, 7u));
    let a6 = vec4(subgroupBroadcast(a.z, 4u), subgroupBroadcast(a.z, 5u), subgroupBroadcast(a.z, 6u), subgroupBroadcast(a.z, 7u));
    let a7 = vec4(subgroupBroadcast(a.w, 4u), subgroupBroadcast(a.w, 5u), subgroupBroadcast(a.w, 6u), subgroupBroadcast(a.w, 7u));
#else
    let a0 = subgroupBroadcast(a, 0u);
    let a1 = subgroupBroadcast(a, 1u);
    let a2 = subgroupBroadcast(a, 2u);
    let a3 = subgroupBroadcast(a, 3u);
    let a4 = subgroupBroadcast(a, 4u);
    let a5 = subgroupBroadcast(a, 5u);
    let a6 = subgroupBroadcast(a, 6u);
    let a7 = subgroupBroadcast(a, 7u);
#endif
#else
    let a0 = a[0];
    let a1 = a[1];
    let a2 = a[2];
    let a3 = a[3];
    let a4 = a[4];
    let a5 = a[5];
    let a6 = a[6];
    let a7 = a[7];
#endif
    tile[r] += lo * a0;
    tile[r + 1u] += hi * a0;
    tile[r + 2u] += lo * a1;
    tile[r + 3u] += hi * a1;
    tile[r + 4u] += lo * a2;
    tile[r + 5u] += hi * a2;
    tile[r + 6u] += lo * a3;
    tile[r + 7u] += hi * a3;
    tile[r + 8u] += lo * a4;
    tile[r + 9u] += hi * a4;
    tile[r + 10u] += lo * a5;
    tile[r + 11u] += hi * a5;
    tile[r + 12u] += lo * a6;
    tile[r + 13u] += hi * a6;
    tile[r + 14u] += lo * a7;
    tile[r + 15u] += hi * a7;
}
