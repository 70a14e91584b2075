// What the lanes of a register tile (strip.wgsl) load of the operands (operands.wgsl).
//
// A lane first finds where its rows and columns begin, once: rows_at for each eight rows of the tile, columns_at for its
// eight columns. In eights (OCT) that is an index of words; else the row or column itself.

#if OCT
// The first word of what lane `lane` loads of eight rows; rows beyond m repeat the last, lanes beyond the eighth load the
// same again.
fn rows_at(row: u32, lane: u32) -> u32 {
#if TA
    return (p.a_at + (lane & 7u) * p.lda + min(row, p.m - 8u)) >> 3u;
#else
    return (p.a_at + min(row + (lane & 7u), p.m - 1u) * p.lda) >> 3u;
#endif
}
fn load_left(at: u32, k: u32, lane: u32) -> Left {
#if TA
    return terms(a[at + (k >> 3u) * p.lda]);
#else
    return terms(a[at + (k >> 3u)]);
#endif
}
fn terms(w: Run) -> Left {
    return Left(lower(w), upper(w));
}

// The first words of eight columns (TB), or of eight rows of them; columns beyond n repeat the last.
alias Columns = array<u32, 8>;
fn columns_at(col: u32) -> Columns {
    var at: Columns;
#repeat j 8
#if TB
    at[j] = (p.b_at + min(col + j, p.n - 1u) * p.ldb) >> 3u;
#else
    at[j] = (p.b_at + j * p.ldb + min(col, p.n - 8u)) >> 3u;
#endif
#end
    return at;
}
fn load_right(at: Columns, k: u32) -> Right {
    var r: array<Run, 8>;
#repeat j 8
#if TB
    r[j] = b[at[j] + (k >> 3u)];
#else
    r[j] = b[at[j] + (k >> 3u) * p.ldb];
#endif
#end
#if TB
    return by_column(r);
#else
    return Right(
        mat4x4(lower(r[0]), lower(r[1]), lower(r[2]), lower(r[3])),
        mat4x4(upper(r[0]), upper(r[1]), upper(r[2]), upper(r[3])),
        mat4x4(lower(r[4]), lower(r[5]), lower(r[6]), lower(r[7])),
        mat4x4(upper(r[4]), upper(r[5]), upper(r[6]), upper(r[7])),
    );
#endif
}
// The map of eight columns, each with eight terms.
fn by_column(c: array<Run, 8>) -> Right {
    return Right(
        transpose(mat4x4(lower(c[0]), lower(c[1]), lower(c[2]), lower(c[3]))),
        transpose(mat4x4(lower(c[4]), lower(c[5]), lower(c[6]), lower(c[7]))),
        transpose(mat4x4(upper(c[0]), upper(c[1]), upper(c[2]), upper(c[3]))),
        transpose(mat4x4(upper(c[4]), upper(c[5]), upper(c[6]), upper(c[7]))),
    );
}
#else
fn rows_at(row: u32, lane: u32) -> u32 {
    return row;
}
#if SUBGROUP
// Lanes beyond the eighth load the same again.
fn load_left(row: u32, k: u32, lane: u32) -> Left {
#if TA
    return left(row + (lane & 4u), k + (lane & 3u));
#else
    return left(row + (lane & 7u), k);
#endif
}
#else
fn load_left(row: u32, k: u32, lane: u32) -> Left {
#if TA
    let lo = transpose(mat4x4(left(row, k), left(row, k + 1u), left(row, k + 2u), left(row, k + 3u)));
    let hi = transpose(mat4x4(left(row + 4u, k), left(row + 4u, k + 1u), left(row + 4u, k + 2u), left(row + 4u, k + 3u)));
    return Left(lo[0], lo[1], lo[2], lo[3], hi[0], hi[1], hi[2], hi[3]);
#else
    return Left(left(row, k), left(row + 1u, k), left(row + 2u, k), left(row + 3u, k), left(row + 4u, k), left(row + 5u, k), left(row + 6u, k), left(row + 7u, k));
#endif
}
#endif

alias Columns = u32;
fn columns_at(col: u32) -> Columns {
    return col;
}
fn load_right(col: Columns, k: u32) -> Right {
#if TB
    return by_column(array<Run, 8>(right(k, col), right(k, col + 1u), right(k, col + 2u), right(k, col + 3u), right(k, col + 4u), right(k, col + 5u), right(k, col + 6u), right(k, col + 7u)));
#else
    return Right(
        mat4x4(right(k, col), right(k + 1u, col), right(k + 2u, col), right(k + 3u, col)),
        mat4x4(right(k, col + 4u), right(k + 1u, col + 4u), right(k + 2u, col + 4u), right(k + 3u, col + 4u)),
    );
#endif
}
// The map of eight columns, each with four terms.
fn by_column(c: array<Run, 8>) -> Right {
    return Right(transpose(mat4x4(c[0], c[1], c[2], c[3])), transpose(mat4x4(c[4], c[5], c[6], c[7])));
}
#endif
