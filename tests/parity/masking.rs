//! `masking`: the distribution of blockwise masks.

use beit::data::{MaskKind, MaskSpec, generate};
use beit::rng::{Key, Stream};

use super::case::{Case, Outcome};
use super::report::Report;

/// Masks drawn per case.
const MASKS: u32 = 50_000;

/// Sums over the drawn masks.
#[derive(Default)]
struct Statistics {
    count: Vec<f64>,
    components: Vec<f64>,
    inner: f64,
    outer: f64,
    cells: Vec<f64>,
    rows: Vec<Vec<f64>>,
    columns: Vec<Vec<f64>>,
    horizontal: f64,
    vertical: f64,
}

/// Means, probabilities and histograms of many masks against those of the case.
pub fn check(case: &Case, report: &mut Report<'_>) -> Outcome {
    let c = case.config();
    let spec = MaskSpec {
        rows: c.count("rows")?,
        columns: c.count("columns")?,
        target: c.count("num_masking_patches")?,
        min_block: c.count("min_num_patches")?,
        max_block: c.count("max_num_patches")?,
        min_aspect: c.number("min_aspect")?,
        kind: MaskKind::Blockwise,
    };
    spec.validate()?;
    let statistics = draw(&spec);
    let mut test = MaskTest { case, samples: c.number("samples")?, failures: Vec::new() };
    test.run(&spec, &statistics)?;
    test.failures.into_iter().for_each(|f| report.fail(f));
    report.claim(report.family_names("out."));
    Ok(())
}

fn draw(spec: &MaskSpec) -> Statistics {
    let (r, c) = (spec.rows, spec.columns);
    let mut s = Statistics { cells: vec![0.0; r * c], ..Statistics::default() };
    s.rows = vec![vec![0.0; c + 1]; r];
    s.columns = vec![vec![0.0; r + 1]; c];
    for i in 0..MASKS {
        let mask = generate(spec, Key::new(20, Stream::Mask, i));
        add(&mut s.count, mask.iter().filter(|m| **m).count());
        add(&mut s.components, components(&mask, c));
        for (cell, &m) in s.cells.iter_mut().zip(&mask) {
            *cell += f64::from(u8::from(m));
        }
        for (row, fill) in s.rows.iter_mut().enumerate() {
            fill[(0..c).filter(|x| mask[row * c + x]).count()] += 1.0;
        }
        for (column, fill) in s.columns.iter_mut().enumerate() {
            fill[(0..r).filter(|y| mask[y * c + column]).count()] += 1.0;
        }
        borders(&mut s, &mask, r, c);
    }
    s
}

fn borders(s: &mut Statistics, mask: &[bool], rows: usize, columns: usize) {
    let at = |y: usize, x: usize| mask[y * columns + x];
    for y in 0..rows {
        for x in 0..columns {
            let right = x + 1 < columns && at(y, x + 1);
            let down = y + 1 < rows && at(y + 1, x);
            s.horizontal += f64::from(u8::from(at(y, x) && right));
            s.vertical += f64::from(u8::from(at(y, x) && down));
            let differ =
                u8::from(x + 1 < columns && at(y, x) != right) + u8::from(y + 1 < rows && at(y, x) != down);
            s.inner += f64::from(differ);
            let edges = [x == 0, x + 1 == columns, y == 0, y + 1 == rows];
            s.outer += if at(y, x) { edges.iter().filter(|e| **e).count() as f64 } else { 0.0 };
        }
    }
}

fn add(histogram: &mut Vec<f64>, value: usize) {
    histogram.resize(histogram.len().max(value + 1), 0.0);
    histogram[value] += 1.0;
}

/// Number of 4-connected parts.
fn components(mask: &[bool], columns: usize) -> usize {
    let mut left = mask.to_vec();
    let mut parts = 0;
    while let Some(start) = left.iter().position(|m| *m) {
        parts += 1;
        let mut open = vec![start];
        while let Some(i) = open.pop() {
            if !std::mem::take(&mut left[i]) {
                continue;
            }
            let x = i % columns;
            open.extend((x > 0).then(|| i - 1));
            open.extend((x + 1 < columns).then_some(i + 1));
            open.extend(i.checked_sub(columns));
            open.extend((i + columns < left.len()).then_some(i + columns));
        }
    }
    parts
}

struct MaskTest<'a> {
    case: &'a Case,
    /// Masks behind the expected values.
    samples: f64,
    failures: Vec<String>,
}

impl MaskTest<'_> {
    fn run(&mut self, spec: &MaskSpec, s: &Statistics) -> Outcome {
        let n = f64::from(MASKS);
        let mean = |h: &[f64]| h.iter().enumerate().map(|(k, c)| k as f64 * c).sum::<f64>() / n;
        if s.count.len() > spec.target + 1 || s.count[0] > 0.0 {
            self.failures.push(format!("counts from 0 to {}", s.count.len() - 1));
        }
        self.mean("masked_count", mean(&s.count))?;
        self.mean("components", mean(&s.components))?;
        self.mean("perimeter_inside_grid", s.inner / n)?;
        self.mean("perimeter_with_grid_border", (s.inner + s.outer) / n)?;
        let (r, c) = (spec.rows as f64, spec.columns as f64);
        let expected = self.case.settings("expected");
        let both = &expected.value["probability_both_masked"];
        let exact = expected.value["masked_count"]["fraction_exactly_target"].as_f64();
        let (horizontal, vertical) =
            (both["horizontal_neighbours"].as_f64(), both["vertical_neighbours"].as_f64());
        let reached = s.count.get(spec.target).copied().unwrap_or(0.0) / n;
        self.probability("exactly target", reached, exact)?;
        self.probability("horizontal neighbours", s.horizontal / n / (r * (c - 1.0)), horizontal)?;
        self.probability("vertical neighbours", s.vertical / n / ((r - 1.0) * c), vertical)?;
        let fraction = s.cells.iter().sum::<f64>() / n / (r * c);
        self.probability("masked fraction", fraction, expected.value["masked_fraction"].as_f64())?;
        let case = self.case;
        for (i, p) in case.given("out.cell_probability")?.values.iter().enumerate() {
            self.probability(&format!("cell {i}"), s.cells[i] / n, Some(*p))?;
        }
        self.histogram("masked count", &s.count, &case.given("out.masked_count_histogram")?.values);
        self.histogram("components", &s.components, &case.given("out.component_histogram")?.values);
        for (what, got) in [("row", &s.rows), ("column", &s.columns)] {
            let expected = case.given(&format!("out.{what}_fill_histogram"))?;
            for (i, h) in expected.values.chunks_exact(expected.shape[1]).enumerate() {
                self.histogram(&format!("{what} {i}"), &got[i], h);
            }
        }
        Ok(())
    }

    /// Standard error of a difference of means in units of the standard deviation.
    fn scale(&self) -> f64 {
        (1.0 / f64::from(MASKS) + 1.0 / self.samples).sqrt()
    }

    fn mean(&mut self, what: &str, got: f64) -> Outcome {
        let expected = &self.case.json["expected"][what];
        let (Some(mean), Some(std)) = (expected["mean"].as_f64(), expected["std"].as_f64()) else {
            return Err(format!("case.json: expected.{what}: no mean or std").into());
        };
        if (got - mean).abs() > 5.0 * std * self.scale() {
            self.failures.push(format!("mean {what} {got}, expected {mean}"));
        }
        Ok(())
    }

    fn probability(&mut self, what: &str, got: f64, expected: Option<f64>) -> Outcome {
        let p = expected.ok_or_else(|| format!("case.json: no expected probability of {what}"))?;
        if (got - p).abs() > 5.0 * (p * (1.0 - p)).sqrt() * self.scale() {
            self.failures.push(format!("probability of {what} {got}, expected {p}"));
        }
        Ok(())
    }

    /// Chi-square of two histograms at significance 1e-6; cells with few expected are pooled.
    fn histogram(&mut self, what: &str, got: &[f64], expected: &[f64]) {
        let (n, m) = (f64::from(MASKS), self.samples);
        let mut pools = vec![(0.0, 0.0)];
        for k in 0..got.len().max(expected.len()) {
            let cell = |h: &[f64]| h.get(k).copied().unwrap_or(0.0);
            let last = pools.last_mut().unwrap();
            *last = (last.0 + cell(got), last.1 + cell(expected));
            // Expected in the smaller of the two samples.
            if (last.0 + last.1) * n.min(m) / (n + m) >= 20.0 {
                pools.push((0.0, 0.0));
            }
        }
        let rest = pools.pop().unwrap();
        if let Some(last) = pools.last_mut() {
            *last = (last.0 + rest.0, last.1 + rest.1);
        }
        let term = |(a, b): &(f64, f64)| ((m / n).sqrt() * a - (n / m).sqrt() * b).powi(2) / (a + b);
        let chi2: f64 = pools.iter().map(term).sum();
        let bound = chi_square_bound(pools.len().saturating_sub(1) as f64);
        if chi2 > bound {
            self.failures.push(format!("histogram of {what}: chi-square {chi2:.1} over {bound:.1}"));
        }
    }
}

/// Upper quantile of chi-square at 1e-6, by the cube-root normal approximation.
fn chi_square_bound(freedom: f64) -> f64 {
    if freedom == 0.0 {
        return 1e-9;
    }
    let v = 2.0 / (9.0 * freedom);
    freedom * (1.0 - v + 4.7534 * v.sqrt()).powi(3)
}
