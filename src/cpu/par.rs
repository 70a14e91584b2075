//! Parallel loops whose results do not depend on the number of threads.

use super::simd::dispatch;
#[cfg(not(target_arch = "wasm32"))]
use rayon::prelude::*;

/// Fewer elements than this are not worth a second thread.
const SERIAL: usize = 16 * 1024;

/// Calls `work(index, chunk)` on consecutive chunks of `size` elements.
pub(crate) fn par_chunks<T: Send>(out: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync + Send) {
    par_rows(out, size, size, work);
}

/// As [`par_chunks`] where the work on a chunk is like that on `cost` elements (a row of logits behind one number).
pub(crate) fn par_rows<T: Send>(
    out: &mut [T],
    size: usize,
    cost: usize,
    work: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let size = size.max(1);
    let group = (SERIAL / cost.max(1)).max(1);
    let block = |g: usize, block: &mut [T]| {
        dispatch(|| {
            for (i, chunk) in block.chunks_mut(size).enumerate() {
                work(g * group + i, chunk);
            }
        });
    };
    #[cfg(not(target_arch = "wasm32"))]
    if out.len() > size * group {
        out.par_chunks_mut(size * group).enumerate().for_each(|(g, b)| block(g, b));
        return;
    }
    out.chunks_mut(size * group).enumerate().for_each(|(g, b)| block(g, b));
}

/// As [`par_chunks`] over two results at once, chunks of `sizes.0` and `sizes.1` elements.
pub(crate) fn par_chunks2<T: Send, U: Send>(
    a: &mut [T],
    b: &mut [U],
    sizes: (usize, usize),
    work: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
) {
    let group = (SERIAL / sizes.0.max(sizes.1).max(1)).max(1);
    let (block_a, block_b) = (sizes.0 * group, sizes.1 * group);
    let block = |g: usize, a: &mut [T], b: &mut [U]| {
        dispatch(|| {
            for (i, (a, b)) in a.chunks_mut(sizes.0).zip(b.chunks_mut(sizes.1)).enumerate() {
                work(g * group + i, a, b);
            }
        });
    };
    #[cfg(not(target_arch = "wasm32"))]
    if a.len() > block_a {
        let pairs = a.par_chunks_mut(block_a).zip(b.par_chunks_mut(block_b));
        pairs.enumerate().for_each(|(g, (a, b))| block(g, a, b));
        return;
    }
    a.chunks_mut(block_a).zip(b.chunks_mut(block_b)).enumerate().for_each(|(g, (a, b))| block(g, a, b));
}

/// As [`par_chunks`] over three results of equal length at once.
pub(crate) fn par_chunks3<T: Send>(
    [a, b, c]: [&mut [T]; 3],
    size: usize,
    work: impl Fn(usize, [&mut [T]; 3]) + Sync + Send,
) {
    #[cfg(not(target_arch = "wasm32"))]
    if a.len() > SERIAL {
        let (a, b, c) = (a.par_chunks_mut(size), b.par_chunks_mut(size), c.par_chunks_mut(size));
        let group = (SERIAL / size.max(1)).max(1);
        let all = a.zip(b).zip(c).with_min_len(group).enumerate();
        all.for_each(|(i, ((a, b), c))| dispatch(|| work(i, [a, b, c])));
        return;
    }
    let all = a.chunks_mut(size).zip(b.chunks_mut(size)).zip(c.chunks_mut(size)).enumerate();
    all.for_each(|(i, ((a, b), c))| dispatch(|| work(i, [a, b, c])));
}

/// `work(0..n)` in parallel, results in order.
pub(crate) fn par_map<R: Send>(n: usize, work: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    let work = |i: usize| dispatch(|| work(i));
    #[cfg(not(target_arch = "wasm32"))]
    if n > 1 {
        return (0..n).into_par_iter().map(work).collect();
    }
    (0..n).map(work).collect()
}

/// Sums `part(range)` over fixed ranges of at most `chunk` items, in order: the same bits for any thread count.
pub(crate) fn chunked_sum<T: super::Real>(
    items: usize,
    chunk: usize,
    part: impl Fn(std::ops::Range<usize>) -> T + Sync + Send,
) -> T {
    let parts = par_map(items.div_ceil(chunk), |c| part(c * chunk..items.min((c + 1) * chunk)));
    parts.into_iter().fold(T::ZERO, |a, b| a + b)
}
