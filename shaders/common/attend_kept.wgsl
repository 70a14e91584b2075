// How the attention kernels' operands and results are kept: in full, or in half precision where QKV_HALF, O_HALF (what is
// mixed), DO_HALF (the cotangent) or OUT_HALF (the result) say so.

#import words
#if VEC
#import half
#if OCT
alias Full = Oct; // two units; none is kept in half precision
#else
alias Full = Quad;
fn of_full(x: Full) -> E {
    return quad(x);
}
#endif
#else
alias Full = f32;
fn of_full(x: Full) -> E {
    return x;
}
#endif
#if QKV_HALF
alias Qkv = Half;
fn unit(v: Qkv) -> E {
    return widen(v);
}
#else
alias Qkv = Full;
#if !OCT
fn unit(v: Qkv) -> E {
    return of_full(v);
}
#endif
#endif
#if O_HALF
alias Mixed = Half;
fn mixed(v: Mixed) -> E {
    return widen(v);
}
#else
alias Mixed = Full;
#if !OCT
fn mixed(v: Mixed) -> E {
    return of_full(v);
}
#endif
#endif
#if DO_HALF
alias Cotangent = Half;
fn cotangent_of(v: Cotangent) -> E {
    return widen(v);
}
#else
alias Cotangent = Full;
#if !OCT
fn cotangent_of(v: Cotangent) -> E {
    return of_full(v);
}
#endif
#endif
#if OUT_HALF
alias Out = Half;
fn stored(v: E) -> Out {
    return narrow(v);
}
#else
#if OCT
alias Out = Oct;
#else
alias Out = E;
fn stored(v: E) -> Out {
    return v;
}
#endif
#endif
