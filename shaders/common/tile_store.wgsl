// Stores eight rows of a register tile as C[row, col], or as C[col, row] if SWAP.

#import put

// Ends of eight neighbours.
struct Ends8 {
    lo: Ends,
    hi: Ends,
}
fn ends8(j: u32) -> Ends8 {
    return Ends8(ends(j), ends(j + 4u));
}

#if C_OCT
// `of_cols` are the ends of the lane's columns; if SWAP those of the rows count instead.
fn store_strip(tile: ptr<function, Tile>, r: u32, at: u32, row: u32, col: u32, of_cols: Ends8) {
#if SWAP
    let of_rows = ends8(row);
    if row < p.m {
#repeat h 2
        {
            let lo = transpose(mat4x4(tile[r + h], tile[r + 2u + h], tile[r + 4u + h], tile[r + 6u + h]));
            let hi = transpose(mat4x4(tile[r + 8u + h], tile[r + 10u + h], tile[r + 12u + h], tile[r + 14u + h]));
#repeat j 4
            if col + 4u * h + j < p.n {
                put_eight(at + (col + 4u * h + j) * p.ldc + row, of_rows.lo, of_rows.hi, lo[j], hi[j]);
            }
#end
        }
#end
    }
#else
    if col < p.n {
#repeat i 8
        if row + i < p.m {
            put_eight(at + (row + i) * p.ldc + col, of_cols.lo, of_cols.hi, tile[r + 2u * i], tile[r + 2u * i + 1u]);
        }
#end
    }
#endif
}
#else
// Elements (row..row+4, col) of the tile, stored transposed.
fn put_col(at: u32, row: u32, col: u32, e: Ends, v: vec4<f32>) {
    if row < p.m && col < p.n {
        put(at + col * p.ldc + row, e, v, p.m - row);
    }
}

fn put_block(at: u32, row: u32, col: u32, e: Ends, r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32>) {
#if SWAP
    let t = transpose(mat4x4(r0, r1, r2, r3));
    put_col(at, row, col, e, t[0]);
    put_col(at, row, col + 1u, e, t[1]);
    put_col(at, row, col + 2u, e, t[2]);
    put_col(at, row, col + 3u, e, t[3]);
#else
    put_row(at, row, col, e, r0);
    put_row(at, row + 1u, col, e, r1);
    put_row(at, row + 2u, col, e, r2);
    put_row(at, row + 3u, col, e, r3);
#endif
}

// `of_cols` are the ends of the lane's columns; if SWAP those of the rows count instead.
fn store_strip(tile: ptr<function, Tile>, r: u32, at: u32, row: u32, col: u32, of_cols: Ends8) {
#if SWAP
    let of_rows = ends8(row);
    put_block(at, row, col, of_rows.lo, tile[r], tile[r + 2u], tile[r + 4u], tile[r + 6u]);
    put_block(at, row, col + 4u, of_rows.lo, tile[r + 1u], tile[r + 3u], tile[r + 5u], tile[r + 7u]);
    put_block(at, row + 4u, col, of_rows.hi, tile[r + 8u], tile[r + 10u], tile[r + 12u], tile[r + 14u]);
    put_block(at, row + 4u, col + 4u, of_rows.hi, tile[r + 9u], tile[r + 11u], tile[r + 13u], tile[r + 15u]);
#else
    put_block(at, row, col, of_cols.lo, tile[r], tile[r + 2u], tile[r + 4u], tile[r + 6u]);
    put_block(at, row, col + 4u, of_cols.hi, tile[r + 1u], tile[r + 3u], tile[r + 5u], tile[r + 7u]);
    put_block(at, row + 4u, col, of_cols.lo, tile[r + 8u], tile[r + 10u], tile[r + 12u], tile[r + 14u]);
    put_block(at, row + 4u, col + 4u, of_cols.hi, tile[r + 9u], tile[r + 11u], tile[r + 13u], tile[r + 15u]);
#endif
}
#endif
