// A register tile of ROWS rows, held by the LANES lanes of a workgroup, which are a subgroup where there are subgroups.
//
// Each lane accumulates eight columns of every row. An element of the left operand is loaded by one lane and broadcast;
// without subgroup operations (!SUBGROUP) every lane loads the whole rows itself.
// ROWS = 8 · STRIPS. Sums run over k in order, STEP terms at a time: eight where operands are read so (OCT), else four.

alias Tile = array<vec4<f32>, ROWS * 2u>;
#if OCT
const STEP: u32 = 8u;
// Of a lane: a row's eight terms, or LEFT_BY_K eight rows of one term.
alias Left = mat2x4<f32>;
// Maps of terms to the lane's columns: of the first four terms and of the last four.
struct Right {
    lo: mat4x4<f32>,
    hi: mat4x4<f32>,
    lo_last: mat4x4<f32>,
    hi_last: mat4x4<f32>,
}
#else
const STEP: u32 = 4u;
// Of a lane: a row's four terms, or LEFT_BY_K (lane = term + 4 · half) four rows of one term, or all eight rows.
#if SUBGROUP
alias Left = vec4<f32>;
#else
alias Left = array<vec4<f32>, 8>;
#endif
// Maps of four terms to four columns each.
struct Right {
    lo: mat4x4<f32>,
    hi: mat4x4<f32>,
}
#endif

// Adds eight rows times STEP terms to the tile, from row `r / 2`.
fn strip(tile: ptr<function, Tile>, r: u32, a: Left, b: Right) {
#repeat i 8
    {
#if OCT
#if LEFT_BY_K
        let x = a[i / 4u][i % 4u];
        let first = vec4(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u));
        let last = vec4(subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u));
#else
        let first = subgroupBroadcast(a[0], i);
        let last = subgroupBroadcast(a[1], i);
#endif
        tile[r + 2u * i] += b.lo * first + b.lo_last * last;
        tile[r + 2u * i + 1u] += b.hi * first + b.hi_last * last;
#else
#if SUBGROUP
#if LEFT_BY_K
        let x = a[i % 4u];
        let row = vec4(subgroupBroadcast(x, i / 4u * 4u), subgroupBroadcast(x, i / 4u * 4u + 1u), subgroupBroadcast(x, i / 4u * 4u + 2u), subgroupBroadcast(x, i / 4u * 4u + 3u));
#else
        let row = subgroupBroadcast(a, i);
#endif
#else
        let row = a[i];
#endif
        tile[r + 2u * i] += b.lo * row;
        tile[r + 2u * i + 1u] += b.hi * row;
#endif
    }
#end
}
