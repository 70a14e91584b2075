// The result of a light kernel, word by word (elem.wgsl). Y_HALF: it is kept in half precision.

#if Y_HALF
#import half
alias Y = Halves;
fn stored(v: Parts) -> Y {
    return half_word(v);
}
#else
alias Y = Word;
fn stored(v: Parts) -> Y {
    return word(v);
}
#endif
