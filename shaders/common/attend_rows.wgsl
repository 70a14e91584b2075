// Whole rows of q, k, v, what is mixed and its cotangent, WORDS words each, read and written by a lane of attention_lanes.wgsl.

#import attend_kept

// Units of the R rows that a lane holds.
alias Rows = array<E, R * UNITS>;

// The row of q, k or v from unit `at` on.
fn qkv_row(at: u32) -> Row {
    var x: Row;
#repeat w WORDS
    {
        let v = unit(qkv[at / PARTS + w]);
#repeat j PARTS
        x[PARTS * w + j] = v[j];
#end
    }
#end
    return x;
}
#if !forward
fn cotangent_row(at: u32) -> Row {
    var x: Row;
#repeat w WORDS
    {
        let v = cotangent_of(cotangent[at / PARTS + w]);
#repeat j PARTS
        x[PARTS * w + j] = v[j];
#end
    }
#end
    return x;
}
#endif
#if queries
fn mixed_row(at: u32) -> Row {
    var x: Row;
#repeat w WORDS
    {
        let v = mixed(o[at / PARTS + w]);
#repeat j PARTS
        x[PARTS * w + j] = v[j];
#end
    }
#end
    return x;
}
#endif
// Stores row `r` of `x`, times `factor`.
fn put_row(at: u32, x: ptr<function, Rows>, r: u32, factor: f32) {
#repeat w WORDS
    {
        var v: Parts;
#repeat j PARTS
        v[j] = (*x)[r * UNITS + PARTS * w + j] * factor;
#end
        result[at / PARTS + w] = stored(v);
    }
#end
}
