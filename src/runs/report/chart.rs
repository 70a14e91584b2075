//! A line chart as inline SVG.

use super::encode::{escape, short};
use super::series::{Series, smooth, thin};

/// Size of the drawing and of its margins, in SVG units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 54.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 38.0;
/// Right margin, and what the name of a reference line adds to it: its rule's end, and the width of a character.
const RIGHT: f64 = 16.0;
const NAME_START: f64 = 12.0;
const NAME_CHAR: f64 = 6.6;
/// Least distance between two names in the margin.
const NAME_GAP: f64 = 15.0;

/// Points that a curve is thinned to.
const MAX_POINTS: usize = 400;
/// Curves with at least this many points are drawn smoothed, over a faint raw one.
const SMOOTH_FROM: usize = 60;
/// Curves with at most this many points get a dot at each.
const DOTS_UP_TO: usize = 60;

/// One curve, ready to draw.
pub(super) struct Line {
    name: String,
    colour: usize,
    /// Faint background of a smoothed curve; may be empty.
    raw: Vec<(f64, f64)>,
    main: Vec<(f64, f64)>,
    dots: bool,
    last: f64,
}

impl Line {
    pub(super) fn of(series: &Series, noisy: bool) -> Self {
        let thinned = thin(&series.points, MAX_POINTS);
        let last = series.points.last().map_or(f64::NAN, |p| p.1);
        let (name, colour) = (series.name.clone(), series.colour);
        if !noisy || thinned.len() < SMOOTH_FROM {
            let dots = thinned.len() <= DOTS_UP_TO;
            return Line { name, colour, raw: Vec::new(), main: thinned, dots, last };
        }
        let main = smooth(&thinned, thinned.len() as f64 / 80.0);
        Line { name, colour, raw: thinned, main, dots: false, last }
    }
}

/// A horizontal line at a number to compare with.
pub(super) struct Rule {
    pub name: String,
    pub value: f64,
}

/// Curves that share their axes.
pub(super) struct Chart {
    pub title: String,
    pub lines: Vec<Line>,
    pub rules: Vec<Rule>,
    pub from_zero: bool,
    pub log: bool,
}

/// Maps values to places on the drawing.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    right: f64,
    log: bool,
}

impl Axes {
    fn px(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0) * (self.right - LEFT)
    }
    fn py(&self, y: f64) -> f64 {
        let at = |v: f64| if self.log { v.max(f64::MIN_POSITIVE).log10() } else { v };
        let share = (at(y) - at(self.y.0)) / (at(self.y.1) - at(self.y.0));
        (HEIGHT - BOTTOM) - share * (HEIGHT - BOTTOM - TOP)
    }
}

impl Chart {
    /// A `<figure>` with title, legend and drawing.
    pub(super) fn to_figure(&self) -> String {
        let mut legend = String::new();
        for line in &self.lines {
            let (name, last) = (escape(&line.name), short(line.last));
            legend.push_str(&format!("<span class=\"key s{}\">{name} <b>{last}</b></span>", line.colour));
        }
        let scale = if self.log { "<span class=\"key\">logarithmic</span>" } else { "" };
        let title = escape(&self.title);
        format!(
            "<figure class=\"chart\">\n<figcaption><strong>{title}</strong>{legend}{scale}</figcaption>\n{}</figure>\n",
            self.to_svg()
        )
    }

    fn to_svg(&self) -> String {
        let axes = self.axes();
        let label = escape(&self.describe());
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">\n");
        self.add_grid(&mut svg, &axes);
        for line in &self.lines {
            let class = line.colour;
            if !line.raw.is_empty() {
                svg.push_str(&format!("<path class=\"raw s{class}\" d=\"{}\"/>\n", path(&line.raw, &axes)));
            }
            svg.push_str(&format!("<path class=\"line s{class}\" d=\"{}\"/>\n", path(&line.main, &axes)));
            if line.dots {
                add_dots(&mut svg, line, class, &axes);
            }
        }
        self.add_rules(&mut svg, &axes);
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self) -> Axes {
        let points = || self.lines.iter().flat_map(|l| if l.raw.is_empty() { &l.main } else { &l.raw });
        let x = span(points().map(|p| p.0));
        let (mut low, mut high) = span(points().map(|p| p.1).chain(self.rules.iter().map(|r| r.value)));
        if self.log {
            (low, high) = (low / 1.2, high * 1.2);
        } else {
            let room = (high - low) * 0.05;
            low = if self.from_zero && low >= 0.0 { 0.0 } else { low - room };
            high += room;
        }
        let right = WIDTH - RIGHT - self.name_width();
        Axes { x, y: (low, high), right, log: self.log }
    }

    /// Room for the names of reference lines: the longest with its value, but never half of the drawing.
    fn name_width(&self) -> f64 {
        let chars = |rule: &Rule| rule.name.chars().count() + 1 + short(rule.value).chars().count();
        let longest =
            self.rules.iter().map(|rule| NAME_START + chars(rule) as f64 * NAME_CHAR).fold(0.0, f64::max);
        longest.min(WIDTH / 2.0)
    }

    fn add_grid(&self, svg: &mut String, axes: &Axes) {
        let (bottom, right) = (HEIGHT - BOTTOM, axes.right);
        let levels = if self.log { decades(axes.y) } else { ticks(axes.y, 5) };
        for y in levels {
            let (at, text) = (axes.py(y), short(y));
            svg.push_str(&format!("<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>"));
            svg.push_str(&format!(
                "<text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
                LEFT - 8.0,
                at + 4.0
            ));
        }
        for x in ticks(axes.x, 6) {
            let (at, text) = (axes.px(x), short(x));
            svg.push_str(&format!(
                "<text class=\"tick\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>\n",
                bottom + 17.0
            ));
        }
        svg.push_str(&format!("<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>"));
        let middle = (LEFT + right) / 2.0;
        svg.push_str(&format!(
            "<text class=\"tick\" x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\">step</text>\n",
            HEIGHT - 5.0
        ));
    }

    /// Dashed lines with their names in the right margin, moved apart where they would overlap.
    fn add_rules(&self, svg: &mut String, axes: &Axes) {
        let mut order: Vec<&Rule> = self.rules.iter().collect();
        order.sort_by(|a, b| b.value.total_cmp(&a.value));
        let lowest = HEIGHT - BOTTOM - NAME_GAP * order.len().saturating_sub(1) as f64;
        let mut next = f64::NEG_INFINITY;
        for (i, rule) in order.into_iter().enumerate() {
            let (at, right) = (axes.py(rule.value), axes.right);
            let name_at = at.max(next).min(lowest + NAME_GAP * i as f64);
            next = name_at + NAME_GAP;
            let (name, value) = (escape(&rule.name), short(rule.value));
            svg.push_str(&format!(
                "<path class=\"rule\" d=\"M{LEFT} {at:.1}H{right}l8 {:.1}\"/>",
                name_at - at
            ));
            let (x, y) = (right + NAME_START, name_at + 4.0);
            svg.push_str(&format!("<text class=\"name\" x=\"{x}\" y=\"{y:.1}\">{name} <tspan class=\"tick\">{value}</tspan></text>\n"));
        }
    }

    /// The chart in words.
    fn describe(&self) -> String {
        let mut text = format!("{}.", self.title);
        for line in &self.lines {
            let (Some(first), Some(last)) = (line.main.first(), line.main.last()) else { continue };
            text.push_str(&format!(
                " {}: from {} to {} at step {}.",
                line.name,
                short(first.1),
                short(last.1),
                short(last.0)
            ));
        }
        for rule in &self.rules {
            text.push_str(&format!(" Reference {}: {}.", rule.name, short(rule.value)));
        }
        text
    }
}

/// Dots that show their numbers under the pointer.
fn add_dots(svg: &mut String, line: &Line, class: usize, axes: &Axes) {
    for &(x, y) in &line.main {
        let (cx, cy) = (axes.px(x), axes.py(y));
        svg.push_str(&format!(
            "<circle class=\"s{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2.6\"><title>{} {} at step {}</title></circle>\n",
            escape(&line.name),
            short(y),
            short(x)
        ));
    }
}

fn path(points: &[(f64, f64)], axes: &Axes) -> String {
    let mut d = String::with_capacity(points.len() * 12);
    for (i, &(x, y)) in points.iter().enumerate() {
        let letter = if i == 0 { 'M' } else { 'L' };
        d.push_str(&format!("{letter}{:.1} {:.1}", axes.px(x), axes.py(y)));
    }
    d
}

/// Lowest and highest value, never equal.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    match high - low {
        d if !d.is_finite() => (0.0, 1.0),
        d if d > 0.0 => (low, high),
        _ => (low - 0.5 * low.abs().max(1e-9), high + 0.5 * high.abs().max(1e-9)),
    }
}

/// About `count` round numbers within the range: multiples of 1, 2 or 5 times a power of ten.
fn ticks((low, high): (f64, f64), count: usize) -> Vec<f64> {
    let rough = (high - low) / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough).unwrap_or(10.0);
    let first = (low / step).ceil();
    let tick = |i: i32| (first + f64::from(i)) * step;
    (0..20).map(tick).take_while(|t| *t <= high + step * 1e-9).collect()
}

/// Powers of ten within the range, with twos and fives where there are few.
fn decades((low, high): (f64, f64)) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let factors: &[f64] = if powers.clone().count() > 4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = powers.flat_map(|p| factors.iter().map(move |f| f * 10f64.powi(p)));
    all.filter(|t| (low..=high).contains(t)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks((0.0, 100.0), 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks((2.3, 5.9), 4), [3.0, 4.0, 5.0]);
        assert_eq!(decades((0.3, 30.0)), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
    }

    #[test]
    fn flat_and_single_values_have_room() {
        for values in [vec![], vec![3.0], vec![0.0, 0.0]] {
            let (low, high) = span(values.into_iter());
            assert!(low < high && low.is_finite());
        }
    }
}
