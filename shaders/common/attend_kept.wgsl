// How the attention kernels' operands and results are kept, word by word (elem.wgsl): in full, or in half precision where
// QKV_HALF, O_HALF (what is mixed), DO_HALF (the cotangent) or OUT_HALF (the result) say so.

#import elem
#if VEC
#import half
#endif
#if QKV_HALF
alias Qkv = Halves;
fn unit(v: Qkv) -> Parts {
    return half_parts(v);
}
#else
alias Qkv = Word;
fn unit(v: Qkv) -> Parts {
    return parts(v);
}
#endif
#if O_HALF
alias Mixed = Halves;
fn mixed(v: Mixed) -> Parts {
    return half_parts(v);
}
#else
alias Mixed = Word;
fn mixed(v: Mixed) -> Parts {
    return parts(v);
}
#endif
#if DO_HALF
alias Cotangent = Halves;
fn cotangent_of(v: Cotangent) -> Parts {
    return half_parts(v);
}
#else
alias Cotangent = Word;
fn cotangent_of(v: Cotangent) -> Parts {
    return parts(v);
}
#endif
#if OUT_HALF
alias Out = Halves;
fn stored(v: Parts) -> Out {
    return half_word(v);
}
#else
alias Out = Word;
fn stored(v: Parts) -> Out {
    return word(v);
}
#endif
