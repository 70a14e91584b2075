//! Parallel loops whose results do not depend on the number of threads.

#[cfg(not(target_arch = "wasm32"))]
use rayon::prelude::*;

/// Fewer elements than this are not worth a second thread.
const SERIAL: usize = 16 * 1024;

/// Calls `work(index, chunk)` on consecutive chunks of `size` elements.
pub(crate) fn par_chunks<T: Send>(out: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync + Send) {
    let size = size.max(1);
    #[cfg(not(target_arch = "wasm32"))]
    if out.len() > SERIAL {
        let group = group_of(out.len(), size);
        out.par_chunks_mut(size * group).enumerate().for_each(|(g, block)| {
            for (i, chunk) in block.chunks_mut(size).enumerate() {
                work(g * group + i, chunk);
            }
        });
        return;
    }
    for (i, chunk) in out.chunks_mut(size).enumerate() {
        work(i, chunk);
    }
}

/// As [`par_chunks`] over two results at once, chunks of `sizes.0` and `sizes.1` elements.
pub(crate) fn par_chunks2<T: Send, U: Send>(
    a: &mut [T],
    b: &mut [U],
    sizes: (usize, usize),
    work: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
) {
    #[cfg(not(target_arch = "wasm32"))]
    if a.len().max(b.len()) > SERIAL {
        let group = group_of(a.len(), sizes.0);
        a.par_chunks_mut(sizes.0)
            .zip(b.par_chunks_mut(sizes.1))
            .with_min_len(group)
            .enumerate()
            .for_each(|(i, (x, y))| work(i, x, y));
        return;
    }
    for (i, (x, y)) in a.chunks_mut(sizes.0).zip(b.chunks_mut(sizes.1)).enumerate() {
        work(i, x, y);
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn group_of(len: usize, size: usize) -> usize {
    (SERIAL / size).clamp(1, (len / size).max(1))
}

/// `work(0..n)` in parallel, results in order.
pub(crate) fn par_map<R: Send>(n: usize, work: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
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
