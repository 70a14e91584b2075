//! The float type of a CPU session: f32 (fast) or f64 (reference).

use super::conv::{ConvShape, Forward, GradWeight};
use super::gemm::Start;
use super::math;
use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// A matrix in memory: first element of the slice, strides of rows and columns in elements.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a, T> {
    /// Elements.
    pub data: &'a [T],
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub col: usize,
}

/// f32 or f64.
pub trait Real:
    Copy
    + Send
    + Sync
    + Debug
    + Display
    + Default
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Conversion, rounding.
    fn of(x: f64) -> Self;
    /// Conversion, exact.
    fn to_f64(self) -> f64;
    /// e^x.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Magnitude.
    fn abs(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// `Σ f(a[i], b[i])` over the shorter of the two.
    fn sum2(a: &[Self], b: &[Self], f: impl Fn(Self, Self) -> Self) -> Self;
    /// `Σ f(x[i])`.
    #[inline(always)]
    fn sum1(x: &[Self], f: impl Fn(Self) -> Self) -> Self {
        Self::sum2(x, x, |x, _| f(x))
    }
    /// The largest element, the first if it is NaN; later NaNs count for nothing.
    fn largest(x: &[Self]) -> Self;
    /// `c[m,n] = a[m,k]·b[k,n]` (+ c if `add`); `c` is row-major with distance `c_row` between rows.
    fn gemm(
        size: (usize, usize, usize),
        a: Mat<'_, Self>,
        b: Mat<'_, Self>,
        c: &mut [Self],
        c_row: usize,
        add: bool,
        parallel: bool,
    );
    /// `c[m,n] = a[m,k]·b[k,n] + bias[n]` in parallel; `c` is row-major.
    fn gemm_bias(
        size: (usize, usize, usize),
        a: Mat<'_, Self>,
        b: Mat<'_, Self>,
        bias: &[Self],
        c: &mut [Self],
    ) {
        c.chunks_mut(size.1.max(1)).for_each(|row| row.copy_from_slice(bias));
        Self::gemm(size, a, b, c, size.1, true, true);
    }
    /// Rows `first..` of the convolution of one padded image (see [`ConvShape`]) into `y[.., W, O]`; `packed` weights,
    /// `bias[O]` or nothing.
    fn convolve(
        shape: ConvShape,
        padded: &[Self],
        packed: &[Self],
        bias: &[Self],
        first: usize,
        y: &mut [Self],
    );
    /// Adds to packed weight gradients `dw` what rows `first..` of one image give, with `dy[.., W, O]`.
    fn convolve_grad_weight(shape: ConvShape, padded: &[Self], dy: &[Self], first: usize, dw: &mut [Self]);
    /// The larger of two.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    fn of(x: f64) -> f64 {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    fn abs(self) -> f64 {
        f64::abs(self)
    }
    fn erf(self) -> f64 {
        libm::erf(self)
    }
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }
    fn sum2(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> f64 {
        a.iter().zip(b).fold(0.0, |s, (&a, &b)| s + f(a, b))
    }
    fn largest(x: &[f64]) -> f64 {
        x.iter().fold(x[0], |m, &v| if v > m { v } else { m })
    }
    /// Plain loops over pixels, taps and channels.
    fn convolve(s: ConvShape, padded: &[f64], packed: &[f64], bias: &[f64], first: usize, y: &mut [f64]) {
        for (pixel, y) in y.chunks_mut(s.o).enumerate() {
            for (o, y) in y.iter_mut().enumerate() {
                *y = bias.get(o).copied().unwrap_or(0.0);
                for tap in 0..s.taps() {
                    *y += padded[s.under(first, pixel, tap)] * packed[s.packed_at(tap, o)];
                }
            }
        }
    }
    fn convolve_grad_weight(s: ConvShape, padded: &[f64], dy: &[f64], first: usize, dw: &mut [f64]) {
        for (pixel, dy) in dy.chunks(s.o).enumerate() {
            for (o, dy) in dy.iter().enumerate() {
                for tap in 0..s.taps() {
                    dw[s.packed_at(tap, o)] += dy * padded[s.under(first, pixel, tap)];
                }
            }
        }
    }
    /// Three plain loops: the reference takes no shortcut.
    fn gemm(
        (m, n, k): (usize, usize, usize),
        a: Mat<'_, f64>,
        b: Mat<'_, f64>,
        c: &mut [f64],
        c_row: usize,
        add: bool,
        _parallel: bool,
    ) {
        for i in 0..m {
            let row = &mut c[i * c_row..i * c_row + n];
            if !add {
                row.fill(0.0);
            }
            for l in 0..k {
                let x = a.data[i * a.row + l * a.col];
                for (j, y) in row.iter_mut().enumerate() {
                    *y += x * b.data[l * b.row + j * b.col];
                }
            }
        }
    }
}

/// Partial results that a reduction in f32 keeps: one register of the widest instruction set.
const LANES: usize = 16;

/// Combines lanes pairwise.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn exp(self) -> f32 {
        math::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> f32 {
        math::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
    #[inline(always)]
    fn erf(self) -> f32 {
        math::erf(self)
    }
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }
    /// In lanes, so that it vectorises; the same order on every machine.
    #[inline(always)]
    fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
        let n = a.len().min(b.len());
        let ((a, a_tail), (b, b_tail)) = (a[..n].as_chunks::<LANES>(), b[..n].as_chunks::<LANES>());
        let mut lanes = [0.0; LANES];
        for (a, b) in a.iter().zip(b) {
            for i in 0..LANES {
                lanes[i] += f(a[i], b[i]);
            }
        }
        let tail = a_tail.iter().zip(b_tail).fold(0.0, |s, (&a, &b)| s + f(a, b));
        fold(lanes, |a, b| a + b) + tail
    }
    #[inline(always)]
    fn largest(x: &[f32]) -> f32 {
        let (chunks, tail) = x.as_chunks::<LANES>();
        let larger = |m: f32, v: f32| if v > m { v } else { m };
        let mut lanes = [x[0]; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] = larger(lanes[i], chunk[i]);
            }
        }
        tail.iter().fold(fold(lanes, larger), |m, &v| larger(m, v))
    }
    fn convolve(shape: ConvShape, padded: &[f32], packed: &[f32], bias: &[f32], first: usize, y: &mut [f32]) {
        pulp::Arch::new().dispatch(Forward { shape, padded, packed, bias, first, y });
    }
    fn convolve_grad_weight(shape: ConvShape, padded: &[f32], dy: &[f32], first: usize, dw: &mut [f32]) {
        pulp::Arch::new().dispatch(GradWeight { shape, padded, dy, first, dw });
    }
    fn gemm(
        size: (usize, usize, usize),
        a: Mat<'_, f32>,
        b: Mat<'_, f32>,
        c: &mut [f32],
        c_row: usize,
        add: bool,
        parallel: bool,
    ) {
        let start = if add { Start::Old } else { Start::Zero };
        super::gemm::gemm(size, a, b, c, c_row, start, parallel);
    }
    fn gemm_bias(size: (usize, usize, usize), a: Mat<'_, f32>, b: Mat<'_, f32>, bias: &[f32], c: &mut [f32]) {
        super::gemm::gemm(size, a, b, c, size.1, Start::Bias(bias), true);
    }
}
