// Stores eight rows of a register tile as C[row, col], or as C[col, row] if SWAP.

#import put

// Elements (row..row+4, col) of the tile, stored transposed.
fn put_col(at: u32, row: u32, col: u32, v: vec4<f32>) {
    if row < p.m && col < p.n {
        put(at + col * p.ldc + row, row, v, p.m - row);
    }
}

fn put_block(at: u32, row: u32, col: u32, r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32>) {
#if SWAP
    let t = transpose(mat4x4(r0, r1, r2, r3));
    put_col(at, row, col, t[0]);
    put_col(at, row, col + 1u, t[1]);
    put_col(at, row, col + 2u, t[2]);
    put_col(at, row, col + 3u, t[3]);
#else
    put_row(at, row, col, r0);
    put_row(at, row + 1u, col, r1);
    put_row(at, row + 2u, col, r2);
    put_row(at, row + 3u, col, r3);
#endif
}

fn store_strip(tile: ptr<function, Tile>, r: u32, at: u32, row: u32, col: u32) {
    put_block(at, row, col, tile[r], tile[r + 2u], tile[r + 4u], tile[r + 6u]);
    put_block(at, row, col + 4u, tile[r + 1u], tile[r + 3u], tile[r + 5u], tile[r + 7u]);
    put_block(at, row + 4u, col, tile[r + 8u], tile[r + 10u], tile[r + 12u], tile[r + 14u]);
    put_block(at, row + 4u, col + 4u, tile[r + 9u], tile[r + 11u], tile[r + 13u], tile[r + 15u]);
}
