//! Matrix products in f32 through `matrixmultiply` (by way of ndarray's safe interface), split over threads.
//!
//! A split by rows or columns does not change how any element is summed. A split of the inner dimension does, so whether
//! there is one depends on the sizes alone, its chunks have a fixed length and are added in order: results do not depend
//! on the number of threads.

use super::par::par_map;
use super::real::Mat;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, ShapeBuilder, Slice};

/// Multiply-adds below which a second thread does not pay.
const SERIAL: usize = 64 * 1024;
/// Inner length of one chunk when the inner dimension is split.
const INNER: usize = 2048;
/// Products with fewer rows and columns than this are split along the inner dimension if that is long.
const NARROW: usize = 64;
/// Rows or columns of a part are a multiple of the widest micro-kernel's side.
#[cfg(not(target_arch = "wasm32"))]
const TILE: usize = 16;
/// Parts beyond one per thread, which even out threads of unequal speed, have at least this many rows or columns.
#[cfg(not(target_arch = "wasm32"))]
const LONG: usize = 128;

/// What the product is added to.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zero,
    /// What `c` holds.
    Old,
    /// The same row everywhere.
    Bias(&'a [f32]),
}

pub(super) fn gemm(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, f32>,
    b: Mat<'_, f32>,
    c: &mut [f32],
    c_row: usize,
    start: Start<'_>,
    parallel: bool,
) {
    let left = ArrayView2::from_shape((m, k).strides((a.row, a.col)), a.data);
    let right = ArrayView2::from_shape((k, n).strides((b.row, b.col)), b.data);
    let product = ArrayViewMut2::from_shape((m, n).strides((c_row, 1)), c);
    let (Ok(left), Ok(right), Ok(product)) = (left, right, product) else {
        debug_assert!(false, "matrix outside its slice: {m}x{n}x{k}");
        return;
    };
    if !parallel || m * n * k < SERIAL {
        serial(left, right, product, start);
    } else if m.max(n) < NARROW && k >= 2 * INNER {
        split_inner(left, right, product, start);
    } else {
        split(left, right, product, start);
    }
}

fn serial(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, mut c: ArrayViewMut2<'_, f32>, start: Start<'_>) {
    if let Start::Bias(bias) = start {
        for mut row in c.rows_mut() {
            row.iter_mut().zip(bias).for_each(|(y, &b)| *y = b);
        }
    }
    general_mat_mul(1.0, &a, &b, if matches!(start, Start::Zero) { 0.0 } else { 1.0 }, &mut c);
}

/// Splits the longer side of the product.
#[cfg(not(target_arch = "wasm32"))]
fn split(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, mut c: ArrayViewMut2<'_, f32>, start: Start<'_>) {
    use rayon::prelude::*;
    let axis = if c.nrows() >= c.ncols() { Axis(0) } else { Axis(1) };
    let (side, threads) = (c.len_of(axis), rayon::current_num_threads());
    let parts = (side / LONG).min(2 * threads).max(threads).min(side.div_ceil(TILE));
    let size = side.div_ceil(parts).next_multiple_of(TILE);
    let parts: Vec<_> = c.axis_chunks_iter_mut(axis, size).enumerate().collect();
    parts.into_par_iter().for_each(|(i, c)| {
        let range = i * size..i * size + c.len_of(axis);
        if axis == Axis(0) {
            serial(a.slice_axis(axis, Slice::from(range)), b, c, start);
        } else {
            let start = match start {
                Start::Bias(bias) => Start::Bias(&bias[range.clone()]),
                other => other,
            };
            serial(a, b.slice_axis(axis, Slice::from(range)), c, start);
        }
    });
}

#[cfg(target_arch = "wasm32")]
fn split(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, c: ArrayViewMut2<'_, f32>, start: Start<'_>) {
    serial(a, b, c, start);
}

fn split_inner(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    mut c: ArrayViewMut2<'_, f32>,
    start: Start<'_>,
) {
    let ((m, n), k) = (c.dim(), a.ncols());
    let parts = par_map(k.div_ceil(INNER), |i| {
        let range = Slice::from(i * INNER..k.min((i + 1) * INNER));
        let mut part = vec![0.0; m * n];
        if let Ok(product) = ArrayViewMut2::from_shape((m, n), &mut part) {
            serial(a.slice_axis(Axis(1), range), b.slice_axis(Axis(0), range), product, Start::Zero);
        }
        part
    });
    for (i, mut row) in c.rows_mut().into_iter().enumerate() {
        match start {
            Start::Zero => row.fill(0.0),
            Start::Old => {}
            Start::Bias(bias) => row.iter_mut().zip(bias).for_each(|(y, &b)| *y = b),
        }
        for part in &parts {
            row.iter_mut().zip(&part[i * n..]).for_each(|(y, x)| *y += x);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cpu::{Mat, Real};
    use crate::rng::{Key, Stream};

    /// Every split and stride against the plain loops in f64.
    #[test]
    fn agrees_with_the_reference() {
        let key = Key::new(1, Stream::Test, 0);
        for (case, (m, n, k)) in
            [(1, 1, 1), (3, 5, 7), (65, 16, 65), (200, 33, 70), (9, 31, 5000), (300, 7, 4096)]
                .into_iter()
                .enumerate()
        {
            for transposed in 0..4 {
                let a: Vec<f32> = (0..m * k).map(|i| key.child(case as u32).normal(i as u32)).collect();
                let b: Vec<f32> = (0..n * k).map(|i| key.child(99).normal(i as u32)).collect();
                let (ar, ac) = if transposed & 1 == 0 { (k, 1) } else { (1, m) };
                let (br, bc) = if transposed & 2 == 0 { (n, 1) } else { (1, k) };
                let mut c = vec![0.5f32; m * n];
                f32::gemm(
                    (m, n, k),
                    Mat { data: &a, row: ar, col: ac },
                    Mat { data: &b, row: br, col: bc },
                    &mut c,
                    n,
                    true,
                    true,
                );
                let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
                let (a, b) = (wide(&a), wide(&b));
                let mut r = vec![0.5f64; m * n];
                f64::gemm(
                    (m, n, k),
                    Mat { data: &a, row: ar, col: ac },
                    Mat { data: &b, row: br, col: bc },
                    &mut r,
                    n,
                    true,
                    true,
                );
                for (x, y) in c.iter().zip(&r) {
                    assert!(
                        (f64::from(*x) - y).abs() < 1e-4 * (k as f64).sqrt(),
                        "{m}x{n}x{k} {transposed}: {x} {y}"
                    );
                }
            }
        }
    }
}
