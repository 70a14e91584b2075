//! Curves out of metrics records.

use serde_json::Value;

/// One curve: step and value, in the order of the records.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub name: String,
    /// Which of the page's colours it has.
    pub colour: usize,
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// The values of a key in the records of a phase; what is not a finite number is left out.
    pub(super) fn of(records: &[Value], phase: &str, key: &str, name: &str, colour: usize) -> Self {
        let of_phase = records.iter().filter(|r| phase_of(r) == Some(phase));
        let points = of_phase.filter_map(|r| {
            let (step, value) = (r.get("step")?.as_f64()?, r.get(key)?.as_f64()?);
            (step.is_finite() && value.is_finite()).then_some((step, value))
        });
        Series { name: name.to_owned(), colour, points: points.collect() }
    }
}

/// Names of the phases in the order in which they first appear.
pub(super) fn phases(records: &[Value]) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for phase in records.iter().filter_map(phase_of) {
        if !found.contains(&phase) {
            found.push(phase);
        }
    }
    found
}

fn phase_of(record: &Value) -> Option<&str> {
    record.get("phase")?.as_str()
}

/// At most `limit` points: neighbours are replaced by their mean, at the step of the last of them.
pub(super) fn thin(points: &[(f64, f64)], limit: usize) -> Vec<(f64, f64)> {
    let per_bucket = points.len().div_ceil(limit.max(1)).max(1);
    let mean = |bucket: &[(f64, f64)]| {
        let sum: f64 = bucket.iter().map(|p| p.1).sum();
        Some((bucket.last()?.0, sum / bucket.len() as f64))
    };
    points.chunks(per_bucket).filter_map(mean).collect()
}

/// Moving average over about `window` points to both sides, weights falling exponentially:
/// unlike a one-sided average it does not lag behind a falling curve.
pub(super) fn smooth(points: &[(f64, f64)], window: f64) -> Vec<(f64, f64)> {
    let keep = (-1.0 / window.max(1.0)).exp();
    let pass = |order: &mut dyn Iterator<Item = &(f64, f64)>| {
        let mut state = (0.0, 0.0); // weighted sum, and sum of the weights
        let step = |&(_, y): &(f64, f64)| {
            state = (state.0 * keep + y, state.1 * keep + 1.0);
            state
        };
        order.map(step).collect::<Vec<_>>()
    };
    let before = pass(&mut points.iter());
    let after = pass(&mut points.iter().rev());
    let both = before.iter().zip(after.iter().rev());
    let joined = points.iter().zip(both).map(|(&(x, y), (before, after))| {
        // a point is the last of both passes: it counts once
        (x, (before.0 + after.0 - y) / (before.1 + after.1 - 1.0))
    });
    joined.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn picks_numbers_of_its_phase() {
        let records = [
            json!({"phase": "a", "step": 1, "loss": 2.0}),
            json!({"phase": "b", "step": 1, "loss": 9.0}),
            json!({"phase": "a", "step": 2, "loss": null}),
            json!({"phase": "a", "step": 3, "loss": 1}),
            json!([]),
        ];
        assert_eq!(Series::of(&records, "a", "loss", "l", 0).points, [(1.0, 2.0), (3.0, 1.0)]);
        assert_eq!(phases(&records), ["a", "b"]);
    }

    #[test]
    fn thinning_and_smoothing_keep_means() {
        let flat: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), 3.0)).collect();
        assert_eq!(thin(&flat, 100).len(), 100);
        assert!(smooth(&thin(&flat, 100), 9.0).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        assert_eq!(thin(&flat[..3], 100), flat[..3]);
    }
}
