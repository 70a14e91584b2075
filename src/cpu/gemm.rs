//! Matrix products in f32 through `matrixmultiply` (by way of ndarray's safe interface), split over threads.
//!
//! A split by rows does not change how any element is summed. A split of the inner dimension does, so its chunks have
//! a fixed length and are added in order: results do not depend on the number of threads.

use super::par::par_map;
use super::real::Mat;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};

/// Multiply-adds below which a second thread does not pay.
const SERIAL: usize = 64 * 1024;
/// Inner length of one chunk when the inner dimension is split.
const INNER: usize = 2048;

pub(super) fn gemm(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, f32>,
    b: Mat<'_, f32>,
    c: &mut [f32],
    c_row: usize,
    add: bool,
    parallel: bool,
) {
    if !parallel || m * n * k < SERIAL {
        serial((m, n, k), a, b, c, c_row, add);
    } else if m < 64 && k >= 2 * INNER {
        split_inner((m, n, k), a, b, c, c_row, add);
    } else {
        split_rows((m, n, k), a, b, c, c_row, add);
    }
}

fn serial(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, f32>,
    b: Mat<'_, f32>,
    c: &mut [f32],
    c_row: usize,
    add: bool,
) {
    let left = ArrayView2::from_shape((m, k).strides((a.row, a.col)), a.data);
    let right = ArrayView2::from_shape((k, n).strides((b.row, b.col)), b.data);
    let product = ArrayViewMut2::from_shape((m, n).strides((c_row, 1)), c);
    if let (Ok(left), Ok(right), Ok(mut product)) = (left, right, product) {
        general_mat_mul(1.0, &left, &right, if add { 1.0 } else { 0.0 }, &mut product);
    } else {
        debug_assert!(false, "matrix outside its slice: {m}x{n}x{k}");
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn split_rows(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, f32>,
    b: Mat<'_, f32>,
    c: &mut [f32],
    c_row: usize,
    add: bool,
) {
    use rayon::prelude::*;
    let chunks = rayon::current_num_threads().min(m.div_ceil(16)).max(1);
    let rows = m.div_ceil(chunks).next_multiple_of(8);
    c.par_chunks_mut(rows * c_row).enumerate().for_each(|(i, c)| {
        let first = i * rows;
        if first < m {
            let part = Mat { data: &a.data[first * a.row..], ..a };
            serial((rows.min(m - first), n, k), part, b, c, c_row, add);
        }
    });
}

#[cfg(target_arch = "wasm32")]
fn split_rows(
    size: (usize, usize, usize),
    a: Mat<'_, f32>,
    b: Mat<'_, f32>,
    c: &mut [f32],
    c_row: usize,
    add: bool,
) {
    serial(size, a, b, c, c_row, add);
}

fn split_inner(
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, f32>,
    b: Mat<'_, f32>,
    c: &mut [f32],
    c_row: usize,
    add: bool,
) {
    let parts = par_map(k.div_ceil(INNER), |i| {
        let first = i * INNER;
        let mut part = vec![0.0; m * n];
        let left = Mat { data: &a.data[first * a.col..], ..a };
        let right = Mat { data: &b.data[first * b.row..], ..b };
        serial((m, n, INNER.min(k - first)), left, right, &mut part, n, false);
        part
    });
    for (i, row) in c.chunks_mut(c_row).take(m).enumerate() {
        if !add {
            row[..n].fill(0.0);
        }
        for part in &parts {
            row[..n].iter_mut().zip(&part[i * n..]).for_each(|(y, x)| *y += x);
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
