// Whole rows of q, k, v, what is mixed and its cotangent, read and written by a lane of attention_lanes.wgsl.
// OCT: in eights, PAIRS of units a row.

#import attend_kept

// Units of the R rows that a lane holds.
alias Rows = array<E, R * UNITS>;

// The row of q, k or v from unit `at` on.
fn qkv_row(at: u32) -> Row {
    var x: Row;
#if OCT
#repeat u PAIRS
    {
        let pair = qkv[at / 2u + u];
        x[2u * u] = lower(pair);
        x[2u * u + 1u] = upper(pair);
    }
#end
#else
#repeat u UNITS
    x[u] = unit(qkv[at + u]);
#end
#endif
    return x;
}
#if !forward
fn cotangent_row(at: u32) -> Row {
    var x: Row;
#if OCT
#repeat u PAIRS
    {
        let pair = cotangent[at / 2u + u];
        x[2u * u] = lower(pair);
        x[2u * u + 1u] = upper(pair);
    }
#end
#else
#repeat u UNITS
    x[u] = cotangent_of(cotangent[at + u]);
#end
#endif
    return x;
}
#endif
#if queries
fn mixed_row(at: u32) -> Row {
    var x: Row;
#if OCT
#repeat u PAIRS
    {
        let pair = o[at / 2u + u];
        x[2u * u] = lower(pair);
        x[2u * u + 1u] = upper(pair);
    }
#end
#else
#repeat u UNITS
    x[u] = mixed(o[at + u]);
#end
#endif
    return x;
}
#endif
// Stores row `r` of `x`, times `factor`.
fn put_row(at: u32, x: ptr<function, Rows>, r: u32, factor: f32) {
#if OCT
#repeat u PAIRS
    result[at / 2u + u] = join((*x)[r * UNITS + 2u * u] * factor, (*x)[r * UNITS + 2u * u + 1u] * factor);
#end
#else
#repeat u UNITS
    result[at + u] = stored((*x)[r * UNITS + u] * factor);
#end
#endif
}
