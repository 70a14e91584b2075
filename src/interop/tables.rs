//! Position tables for another patch grid (beit-spec §6.5).
//!
//! Every way is a linear map along each axis, so it is computed once as a matrix and applied to both axes of every head.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How relative position tables are resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// The official way: cubic splines over source offsets spaced in a geometric progression, so that near offsets
    /// keep their meaning and far ones stretch.
    #[default]
    Geometric,
    /// The same spacing, linear between the offsets (timm without SciPy).
    GeometricLinear,
    /// Bilinear over evenly spaced offsets, as transformers does when it runs at another size.
    Uniform,
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resize::Geometric => "cubic splines over geometrically spaced offsets",
            Resize::GeometricLinear => "lines over geometrically spaced offsets",
            Resize::Uniform => "lines over evenly spaced offsets",
        })
    }
}

/// Rows and columns of a patch grid.
pub type Grid = (usize, usize);

/// Rows of the relative table of a grid, R = (2h-1)(2w-1) + 3.
pub fn table_rows(grid: Grid) -> usize {
    (2 * grid.0 - 1) * (2 * grid.1 - 1) + 3
}

/// A relative table `[R, heads]` of the grid `from` for the grid `to`. The last three rows, those of the class token,
/// stay as they are.
///
/// # Errors
/// If the table is not one of the grid `from`.
pub fn resize_relative(table: &[f32], heads: usize, from: Grid, to: Grid, how: Resize) -> Result<Vec<f32>> {
    let rows = table_rows(from);
    if table.len() != rows * heads || heads == 0 {
        return Err(Error::shape("relative position table")
            .expected(format!("{rows} x {heads} for a grid of {} x {}", from.0, from.1))
            .got(format!("{} elements", table.len())));
    }
    let axis = |source: usize, target: usize| relative_axis(2 * source - 1, 2 * target - 1, how);
    let (down, across) = (axis(from.0, to.0), axis(from.1, to.1));
    let (patches, special) = table.split_at(table.len() - 3 * heads);
    let mut out = apply(&down, &across, patches, heads);
    out.extend_from_slice(special);
    Ok(out)
}

/// Absolute positions `[1, h·w + 1, D]` for another grid: bicubic over the patches, the class token's row kept.
///
/// # Errors
/// If the positions are not those of the grid `from`.
pub fn resize_absolute(positions: &[f32], width: usize, from: Grid, to: Grid) -> Result<Vec<f32>> {
    let tokens = from.0 * from.1 + 1;
    if positions.len() != tokens * width || width == 0 {
        return Err(Error::shape("absolute positions")
            .expected(format!("{tokens} x {width}"))
            .got(format!("{} elements", positions.len())));
    }
    let (class, patches) = positions.split_at(width);
    let (down, across) = (bicubic_axis(from.0, to.0), bicubic_axis(from.1, to.1));
    let mut out = class.to_vec();
    out.extend(apply(&down, &across, patches, width));
    Ok(out)
}

/// Rows of weights, one for each target.
type Axis = Vec<Vec<f64>>;

/// `[h, w, channels]` mapped along both spatial axes.
fn apply(down: &Axis, across: &Axis, values: &[f32], channels: usize) -> Vec<f32> {
    let columns = across.first().map_or(0, Vec::len);
    let lines: Vec<&[f32]> = values.chunks_exact((columns * channels).max(1)).collect();
    // along the columns first: [h, w', channels]
    let narrowed: Vec<Vec<f64>> = lines
        .iter()
        .map(|line| {
            let pixels: Vec<&[f32]> = line.chunks_exact(channels).collect();
            across.iter().flat_map(|weights| mix(weights, &pixels, channels)).collect()
        })
        .collect();
    down.iter()
        .flat_map(|weights| {
            let mut sum = vec![0.0; across.len() * channels];
            for (w, line) in weights.iter().zip(&narrowed) {
                sum.iter_mut().zip(line).for_each(|(s, x)| *s += w * x);
            }
            sum.into_iter().map(|x| x as f32)
        })
        .collect()
}

fn mix(weights: &[f64], pixels: &[&[f32]], channels: usize) -> Vec<f64> {
    let mut sum = vec![0.0; channels];
    for (w, pixel) in weights.iter().zip(pixels) {
        sum.iter_mut().zip(*pixel).for_each(|(s, &x)| *s += w * f64::from(x));
    }
    sum
}

/// The map from `s` source offsets to `d` target offsets (both odd).
fn relative_axis(s: usize, d: usize, how: Resize) -> Axis {
    if s == d {
        return identity(s);
    }
    if how == Resize::Uniform {
        return bilinear_axis(s, d);
    }
    let positions = geometric_positions(s, d);
    let last = positions.last().copied().unwrap_or(0.0);
    let half = (d / 2) as f64;
    let targets: Vec<f64> = (0..d).map(|i| (i as f64 - half).clamp(-last, last)).collect();
    // unit vectors through a linear interpolation give its matrix, column by column
    let mut axis = vec![vec![0.0; s]; d];
    for source in 0..s {
        let unit: Vec<f64> = (0..s).map(|i| f64::from(u8::from(i == source))).collect();
        let curve = match how {
            Resize::Geometric => Curve::spline(&positions, &unit),
            _ => Curve::lines(&positions, &unit),
        };
        for (row, &t) in axis.iter_mut().zip(&targets) {
            if let Some(weight) = row.get_mut(source) {
                *weight = curve.at(t);
            }
        }
    }
    axis
}

fn identity(n: usize) -> Axis {
    (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

/// Positions 0, ±1, ±(1+q), ±(1+q+q²) … of the source offsets, with q such that the outermost of them lie on the
/// outermost of the `d` targets. q is sought between 1.01 and 1.5; a smaller target keeps 1.01.
fn geometric_positions(s: usize, d: usize) -> Vec<f64> {
    let (n, reach) = ((s / 2) as i32, (d / 2) as f64);
    let (mut left, mut right, mut q) = (1.01f64, 1.5f64, 1.01f64);
    while right - left > 1e-6 {
        q = f64::midpoint(left, right);
        let outermost = (1.0 - q.powi(n)) / (1.0 - q);
        if outermost > reach { right = q } else { left = q }
    }
    let mut side = Vec::new();
    let mut position = 1.0;
    for i in 0..n {
        side.push(position);
        position += q.powi(i + 1);
    }
    side.iter().rev().map(|x| -x).chain([0.0]).chain(side.iter().copied()).collect()
}

/// A piecewise cubic through points; between `x[i]` and `x[i+1]` it has the second derivatives `m[i]` and `m[i+1]`.
struct Curve<'a> {
    x: &'a [f64],
    y: &'a [f64],
    m: Vec<f64>,
}

impl<'a> Curve<'a> {
    fn lines(x: &'a [f64], y: &'a [f64]) -> Self {
        Curve { x, y, m: vec![0.0; x.len()] }
    }
    /// Cubic spline with not-a-knot ends; with three points the parabola through them.
    fn spline(x: &'a [f64], y: &'a [f64]) -> Self {
        let m = second_derivatives(x, y).unwrap_or_else(|| vec![0.0; x.len()]);
        Curve { x, y, m }
    }
    fn at(&self, t: f64) -> f64 {
        let i = self.x.partition_point(|&x| x <= t).clamp(1, self.x.len().max(2) - 1) - 1;
        let point = |i: usize| Some((*self.x.get(i)?, *self.y.get(i)?, *self.m.get(i)?));
        let Some((x0, y0, m0)) = point(i) else { return 0.0 };
        let Some((x1, y1, m1)) = point(i + 1) else { return y0 };
        let h = x1 - x0;
        let (a, b) = ((x1 - t) / h, (t - x0) / h);
        a * y0 + b * y1 + ((a * a * a - a) * m0 + (b * b * b - b) * m1) * h * h / 6.0
    }
}

/// Second derivatives at the points; nothing for fewer than three.
fn second_derivatives(x: &[f64], y: &[f64]) -> Option<Vec<f64>> {
    let n = x.len();
    let step = |i: usize| Some(x.get(i + 1)? - x.get(i)?);
    let slope = |i: usize| Some((y.get(i + 1)? - y.get(i)?) / step(i)?);
    if n < 3 {
        return None;
    }
    if n == 3 {
        let m = 2.0 * (slope(1)? - slope(0)?) / (x.get(2)? - x.first()?);
        return Some(vec![m; 3]);
    }
    // dense: at most some hundred points, once per table
    let mut rows = vec![vec![0.0; n + 1]; n];
    let mut set = |row: usize, entries: [(usize, f64); 3], right: f64| -> Option<()> {
        let line = rows.get_mut(row)?;
        for (column, value) in entries {
            *line.get_mut(column)? = value;
        }
        *line.get_mut(n)? = right;
        Some(())
    };
    let (a, b) = (step(0)?, step(1)?);
    set(0, [(0, b), (1, -(a + b)), (2, a)], 0.0)?;
    let (a, b) = (step(n - 3)?, step(n - 2)?);
    set(n - 1, [(n - 3, b), (n - 2, -(a + b)), (n - 1, a)], 0.0)?;
    for i in 1..n - 1 {
        let (a, b) = (step(i - 1)?, step(i)?);
        set(i, [(i - 1, a), (i, 2.0 * (a + b)), (i + 1, b)], 6.0 * (slope(i)? - slope(i - 1)?))?;
    }
    solve(rows)
}

/// Gaussian elimination with row pivoting of `[A | b]`.
fn solve(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = rows.len();
    for k in 0..n {
        let size = |row: &Vec<f64>| row.get(k).map_or(0.0, |v| v.abs());
        let pivot = (k..n).max_by(|&a, &b| {
            let (a, b) = (rows.get(a).map_or(0.0, size), rows.get(b).map_or(0.0, size));
            a.total_cmp(&b)
        })?;
        rows.swap(k, pivot);
        let (done, rest) = rows.split_at_mut(k + 1);
        let top = done.last()?;
        for row in rest {
            let factor = row.get(k)? / top.get(k)?;
            row.iter_mut().zip(top).skip(k).for_each(|(r, t)| *r -= factor * t);
        }
    }
    let mut out = vec![0.0; n];
    for k in (0..n).rev() {
        let row = rows.get(k)?;
        let known: f64 = row.iter().zip(&out).skip(k + 1).map(|(a, x)| a * x).sum();
        *out.get_mut(k)? = (row.get(n)? - known) / row.get(k)?;
    }
    Some(out)
}

/// Centre of target `i` of `d` among `s` sources (pixel centres at halves; corners not aligned).
fn centre(i: usize, s: usize, d: usize) -> f64 {
    (i as f64 + 0.5) * s as f64 / d as f64 - 0.5
}

fn bilinear_axis(s: usize, d: usize) -> Axis {
    let row = |i: usize| {
        let t = centre(i, s, d).max(0.0);
        let (low, part) = (t.floor() as usize, t.fract());
        taps(s, [(low as i64, 1.0 - part), (low as i64 + 1, part)])
    };
    (0..d).map(row).collect()
}

/// Keys' cubic with a = -0.75; outside the source the border repeats.
fn bicubic_axis(s: usize, d: usize) -> Axis {
    if s == d {
        return identity(s);
    }
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let row = |i: usize| {
        let t = centre(i, s, d);
        let (low, p) = (t.floor() as i64, t - t.floor());
        taps(s, [(low - 1, far(p + 1.0)), (low, near(p)), (low + 1, near(1.0 - p)), (low + 2, far(2.0 - p))])
    };
    (0..d).map(row).collect()
}

fn taps<const N: usize>(s: usize, entries: [(i64, f64); N]) -> Vec<f64> {
    let mut row = vec![0.0; s];
    for (at, weight) in entries {
        let at = at.clamp(0, s as i64 - 1) as usize;
        row.iter_mut().skip(at).take(1).for_each(|w| *w += weight);
    }
    row
}

#[cfg(test)]
mod tests;
