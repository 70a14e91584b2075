//! What a check found: the worst error of each group of tensors against its bound, and everything that is wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::case::{Array, Arrays, Case};

/// Share of a family's largest magnitude below which a member's own is not used as denominator.
const FLOOR: f64 = 1e-3;

#[derive(Debug, Default)]
struct Group {
    worst: f64,
    at: String,
    bound: f64,
    tensors: usize,
}

/// Errors of one case on one device.
#[derive(Debug)]
pub struct Report<'a> {
    case: &'a Case,
    bound: &'static str,
    /// Prepended to the names of groups (`eval.`, where a case has several files).
    prefix: String,
    expected: Arrays,
    groups: BTreeMap<String, Group>,
    claimed: BTreeSet<String>,
    compared: usize,
    failures: Vec<String>,
}

impl<'a> Report<'a> {
    /// For `io.safetensors`, measured against the bounds of that name (`cpu_f32`, `gpu_f32`).
    pub fn new(case: &'a Case, bound: &'static str) -> Self {
        Report {
            case,
            bound,
            prefix: String::new(),
            expected: case.io.clone(),
            groups: BTreeMap::new(),
            claimed: BTreeSet::new(),
            compared: 0,
            failures: vec![],
        }
    }
    /// Compares with the tensors of another file from here on; its groups have a prefix.
    pub fn turn_to(&mut self, prefix: &str, expected: Arrays) {
        self.note_unclaimed();
        (self.prefix, self.expected) = (prefix.into(), expected);
        self.claimed.clear();
    }
    /// Records something wrong.
    pub fn fail(&mut self, what: impl Into<String>) {
        self.failures.push(what.into());
    }
    /// Counts comparisons that a check made on its own, by tensors of `io.safetensors`.
    pub fn claim(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            self.compared += 1;
            self.claimed.insert(name);
        }
    }
    /// The expected tensor of a name, if the case has it.
    pub fn expected(&self, name: &str) -> Option<&Array> {
        self.expected.get(name)
    }
    /// Names of the expected tensors that start so.
    pub fn family_names(&self, prefix: &str) -> Vec<String> {
        self.expected.keys().filter(|n| n.starts_with(prefix)).cloned().collect()
    }

    /// Compares a tensor that the case may have.
    pub fn tensor(&mut self, group: &str, name: &str, got: &[f64]) {
        if let Some(expected) = self.expected.get(name).cloned() {
            let largest = magnitude(&expected.values);
            self.one(group, name, got, &expected, largest);
        }
    }
    /// Compares a tensor that the case must have.
    pub fn required(&mut self, group: &str, name: &str, got: &[f64]) {
        if !self.expected.contains_key(name) {
            self.fail(format!("the case has no {name}"));
        }
        self.tensor(group, name, got);
    }
    /// Compares whole numbers, which must agree exactly, if the case has them.
    pub fn exact(&mut self, name: &str, got: &[u32]) {
        let Some(expected) = self.expected.get(name) else { return };
        let differ = expected.values.iter().zip(got).filter(|(e, g)| **e != f64::from(**g)).count();
        let (lengths, total) = ((expected.values.len(), got.len()), got.len());
        self.claim([name.to_string()]);
        if lengths.0 != lengths.1 || differ > 0 {
            self.fail(format!("{name}: {differ} of {total} differ (expected {} numbers)", lengths.0));
        }
    }
    /// Compares gradients or trained weights: all expected tensors named `prefix…` except those compared on their
    /// own, with a common floor of the denominators; those known to be zero are measured against the largest.
    pub fn family(&mut self, group: &str, prefix: &str, got: &BTreeMap<String, Vec<f64>>) {
        let names: Vec<String> =
            self.family_names(prefix).into_iter().filter(|n| !n.ends_with("pixel_values")).collect();
        let zeros = format!("{}{group}_that_are_zero", self.prefix);
        let zero_names: BTreeSet<String> =
            serde_json::from_value(self.case.json["f32_vs_f64"][&zeros]["names"].clone()).unwrap_or_default();
        let largest = names.iter().map(|n| magnitude(&self.expected[n].values)).fold(0.0, f64::max);
        for name in &names {
            let Some(got) = got.get(&name[prefix.len()..]) else {
                self.fail(format!("{name} was not computed"));
                self.claim([name.clone()]);
                continue;
            };
            let expected = self.expected[name].clone();
            if zero_names.contains(name) {
                self.one(&format!("{group}_that_are_zero"), name, got, &expected, largest);
            } else {
                let own = magnitude(&expected.values).max(FLOOR * largest);
                self.one(group, name, got, &expected, own);
            }
        }
        for name in got.keys().filter(|n| !self.expected.contains_key(&format!("{prefix}{n}"))) {
            self.failures.push(format!("{prefix}{name} was computed but the case has none"));
        }
    }

    fn one(&mut self, group: &str, name: &str, got: &[f64], expected: &Array, largest: f64) {
        let group = format!("{}{group}", self.prefix);
        self.claim([name.to_string()]);
        if got.len() != expected.values.len() {
            return self.fail(format!("{name}: {} numbers for shape {:?}", got.len(), expected.shape));
        }
        let Some(bound) = self.case.json["tolerance"][&group][self.bound].as_f64() else {
            return self.fail(format!("case.json: no tolerance.{group}.{} for {name}", self.bound));
        };
        let error = scaled_error(got, &expected.values, largest);
        let entry = self.groups.entry(group.clone()).or_insert(Group { bound, ..Group::default() });
        entry.tensors += 1;
        if error >= entry.worst {
            (entry.worst, entry.at) = (error, name.to_string());
        }
        if error > bound {
            self.fail(format!("{group}: {name}: scaled error {error:.1e} over {bound:.0e}"));
        }
    }
    fn note_unclaimed(&mut self) {
        let left = self.expected.keys().filter(|n| !self.claimed.contains(*n) && !n.starts_with("in."));
        let left: Vec<String> = left.map(|n| format!("{n} was not compared")).collect();
        self.failures.extend(left);
    }
    /// One line per group, and everything that is wrong.
    pub fn finish(mut self) -> (Vec<String>, Vec<String>) {
        self.note_unclaimed();
        if self.compared == 0 {
            self.fail("nothing was compared");
        }
        let line = |(name, g): (&String, &Group)| {
            format!(
                "{name:24} worst {:7.1e} of {:7.1e} allowed ({} tensors, {})",
                g.worst, g.bound, g.tensors, g.at
            )
        };
        let mut lines: Vec<String> = self.groups.iter().map(line).collect();
        if lines.is_empty() {
            lines.push(format!("{} comparisons", self.compared));
        }
        (lines, self.failures)
    }
}

fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| v.abs().max(m))
}

/// `max|got − expected| / largest`; infinite where a number is not one, or nothing but zero was expected.
fn scaled_error(got: &[f64], expected: &[f64], largest: f64) -> f64 {
    let mut worst = 0.0f64;
    for (g, e) in got.iter().zip(expected) {
        let difference = (g - e).abs();
        if difference.is_nan() {
            return f64::INFINITY;
        }
        worst = worst.max(difference);
    }
    if worst == 0.0 { 0.0 } else { worst / largest }
}

#[test]
fn errors_are_scaled() {
    assert_eq!(scaled_error(&[1.0, 2.5], &[1.0, 2.0], 2.0), 0.25);
    assert_eq!(scaled_error(&[f64::NAN], &[1.0], 1.0), f64::INFINITY);
    assert_eq!(scaled_error(&[1e-9], &[0.0], 0.0), f64::INFINITY);
    assert_eq!(scaled_error(&[0.0], &[0.0], 0.0), 0.0);
}

/// What a made-up case with one output, one id and two gradients finds wrong with what it is given.
#[cfg(test)]
fn wrong_with(out: &[f64], id: u32, gradients: &[(&str, f64)]) -> Vec<String> {
    let array = |v: f64| Array { shape: vec![1], values: vec![v] };
    let expected = [("out.y", 2.0), ("out.id", 3.0), ("grad.w", 100.0), ("grad.zero", 0.0)];
    let case = Case {
        name: "made up".into(),
        dir: "".into(),
        kind: "none".into(),
        json: serde_json::json!({
            "tolerance": {"a.y": {"cpu_f32": 1e-3}, "a.g": {"cpu_f32": 1e-3}, "a.g_that_are_zero": {"cpu_f32": 1e-5}},
            "f32_vs_f64": {"a.g_that_are_zero": {"names": ["grad.zero"]}},
        }),
        io: Arrays::new(),
    };
    let mut report = Report::new(&case, "cpu_f32");
    report.turn_to("a.", expected.into_iter().map(|(n, v)| (n.to_string(), array(v))).collect());
    report.required("y", "out.y", out);
    report.exact("out.id", &[id]);
    report.family("g", "grad.", &gradients.iter().map(|(n, v)| (n.to_string(), vec![*v])).collect());
    report.finish().1
}

#[test]
fn what_is_wrong_is_noticed() {
    let right = [("w", 100.0), ("zero", 1e-4)];
    assert_eq!(wrong_with(&[2.0], 3, &right), Vec::<String>::new());
    let fails = |out: &[f64], id, gradients: &[(&str, f64)], with: &str| {
        let wrong = wrong_with(out, id, gradients);
        assert!(wrong.len() == 1 && wrong[0].contains(with), "{with}: {wrong:?}");
    };
    fails(&[2.003], 3, &right, "scaled error 1.5e-3");
    fails(&[f64::NAN], 3, &right, "scaled error inf");
    fails(&[2.0, 2.0], 3, &right, "2 numbers");
    fails(&[2.0], 4, &right, "1 of 1 differ");
    fails(&[2.0], 3, &[("w", 100.2), ("zero", 0.0)], "grad.w");
    fails(&[2.0], 3, &[("w", 100.0), ("zero", 0.01)], "a.g_that_are_zero: grad.zero");
    fails(&[2.0], 3, &[("w", 100.0)], "grad.zero was not computed");
    fails(&[2.0], 3, &[("w", 100.0), ("zero", 0.0), ("extra", 0.0)], "grad.extra was computed");
}
