//! The table of a comparison: means over seeds with their spread, beside the published numbers.

use super::{Cell, CompareConfig, Published, Route, Task, published};
use serde::Serialize;
use std::fmt::Write;

/// A mean and its spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean over seeds.
    pub mean: f64,
    /// Standard deviation over seeds (n − 1); nothing for a single one.
    pub deviation: Option<f64>,
    /// Number of seeds.
    pub seeds: usize,
}

impl Spread {
    /// Nothing of no values.
    fn of(values: &[f64]) -> Option<Spread> {
        if values.is_empty() {
            return None;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        let deviation = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Some(Spread { mean, deviation, seeds: values.len() })
    }
    fn percent(self) -> String {
        match self.deviation {
            Some(d) => format!("{:.1} ± {:.1}", 100.0 * self.mean, 100.0 * d),
            None => format!("{:.1}", 100.0 * self.mean),
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The route.
    pub method: Route,
    /// What was measured, task by task.
    pub measured: Vec<(Task, Option<Spread>)>,
    /// Seconds of training before the tasks, mean over seeds.
    pub seconds: f64,
    /// The published numbers.
    pub published: Published,
}

/// The table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// What was compared.
    pub config: CompareConfig,
    /// A row a route.
    pub rows: Vec<Row>,
    /// All cells.
    pub cells: Vec<Cell>,
    /// Where it ran.
    pub device: String,
}

impl Table {
    /// Gathers the cells; `seconds` of each route of the config.
    pub fn new(config: CompareConfig, cells: Vec<Cell>, seconds: &[f64], device: &str) -> Table {
        let row = |(&method, &seconds): (&Route, &f64)| {
            let values = |task: Task| {
                let own = cells.iter().filter(|c| c.method == method && c.task == task);
                Spread::of(&own.map(|c| c.value).collect::<Vec<_>>())
            };
            let measured = config.tasks.iter().map(|&task| (task, values(task))).collect();
            Row { method, measured, seconds, published: published(method) }
        };
        let rows = config.methods.iter().zip(seconds).map(row).collect();
        Table { config, rows, cells, device: device.into() }
    }

    fn about(&self) -> String {
        let c = &self.config;
        let labels = match c.labels_per_class {
            0 => "all labels".to_string(),
            n => format!("{n} labels a class"),
        };
        let maps = match c.maps {
            0 => "all label maps".to_string(),
            n => format!("{n} label maps"),
        };
        let segment = if c.tasks.contains(&Task::Segment) {
            format!(", segmentation {} updates on {maps} of {}", c.segment_steps, c.segment_data)
        } else {
            String::new()
        };
        format!(
            "Preset {}, pictures {}. Pre-training: {} updates (BEiT: and {} of its tokenizer, network {}; intermediate \
             fine-tuning: and {} on all labels). Then classification {} updates on {labels}{segment}. Held-out pictures, percent, \
             {} seed{}. Probes: frozen features of the best layer, the same labels known. {}.",
            c.preset,
            c.data,
            c.steps,
            c.tokenizer_steps,
            c.network.name(),
            c.intermediate_steps,
            c.finetune_steps,
            c.seeds,
            if c.seeds == 1 { "" } else { "s, mean ± standard deviation" },
            self.device,
        )
    }

    fn heads(&self) -> Vec<String> {
        let mut heads = vec!["method".to_string(), "labels seen before".into()];
        heads.extend(self.config.tasks.iter().map(|t| t.title().to_string()));
        heads.push("seconds before".into());
        let published = ["CIFAR-100", "ImageNet", "ADE20K mIoU", "linear", "k-NN"];
        heads.extend(published.map(|name| format!("published: {name}")));
        heads.push("remark".into());
        heads
    }

    fn line(row: &Row) -> Vec<String> {
        let number = |v: Option<f64>| v.map_or("–".to_string(), |v| format!("{v:.1}"));
        let mut line = vec![row.method.title().to_string()];
        line.push(if row.method.sees_labels() { "all" } else { "none" }.into());
        line.extend(row.measured.iter().map(|(_, s)| s.map_or("…".into(), Spread::percent)));
        line.push(format!("{:.0}", row.seconds));
        let p = &row.published;
        line.extend([p.cifar100, p.imagenet, p.ade20k, p.linear, p.knn].map(number));
        line.push(p.remark.into());
        line
    }

    /// Markdown.
    pub fn markdown(&self) -> String {
        let heads = self.heads();
        let mut out =
            format!("{}\n\n| {} |\n|{}\n", self.about(), heads.join(" | "), "---|".repeat(heads.len()));
        for row in &self.rows {
            let _ = writeln!(out, "| {} |", Self::line(row).join(" | "));
        }
        out.push_str(
            "\nThe published numbers are of base-size networks on ImageNet: another size, other data.\n",
        );
        out
    }

    /// One self-contained page.
    pub fn html(&self) -> String {
        let escape = |s: &str| s.replace('&', "&amp;").replace('<', "&lt;");
        let cells = |tag: &str, all: Vec<String>| {
            all.iter().map(|c| format!("<{tag}>{}</{tag}>", escape(c))).collect::<String>()
        };
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>Comparison</title>\n<style>\n\
             :root {{ color-scheme: light dark; }}\nbody {{ font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; \
             margin: 2rem auto; padding: 0 1rem; }}\ndiv {{ overflow-x: auto; }}\ntable {{ border-collapse: collapse; \
             font-variant-numeric: tabular-nums; }}\nth, td {{ border-bottom: 1px solid #8888; padding: .4rem .6rem; \
             text-align: left; vertical-align: top; }}\ntd {{ white-space: nowrap; }}\n\
             td:last-child {{ white-space: normal; min-width: 12rem; }}\n</style>\n\
             <h1>Comparison</h1>\n<p>{}</p>\n<div><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n",
            escape(&self.about()),
            cells("th", self.heads()),
        );
        for row in &self.rows {
            let _ = writeln!(out, "<tr>{}</tr>", cells("td", Self::line(row)));
        }
        out.push_str(
            "</tbody></table></div>\n<p>The published numbers are of base-size networks on ImageNet: another size, \
             other data.</p>\n</html>\n",
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::DvaeNetwork;

    fn config() -> CompareConfig {
        CompareConfig {
            preset: "nano".into(),
            data: "a<b".into(),
            val: String::new(),
            segment_data: "synthetic".into(),
            segment_labels: String::new(),
            methods: vec![Route::Scratch, Route::Beit],
            tasks: vec![Task::Classify, Task::Knn],
            seed: 0,
            seeds: 2,
            labels_per_class: 5,
            maps: 0,
            network: DvaeNetwork::Custom,
            tokenizer_steps: 1,
            steps: 1,
            intermediate_steps: 1,
            finetune_steps: 1,
            segment_steps: 1,
            flip: true,
        }
    }

    #[test]
    fn means_and_spread() {
        let cell = |method, task, seed, value| Cell { method, task, seed, value, layer: None };
        let cells = vec![
            cell(Route::Scratch, Task::Classify, 0, 0.4),
            cell(Route::Beit, Task::Classify, 0, 0.5),
            cell(Route::Scratch, Task::Classify, 1, 0.6),
            cell(Route::Beit, Task::Knn, 1, 0.25),
        ];
        let table = Table::new(config(), cells, &[0.0, 12.4], "here");
        let text = table.markdown();
        assert!(text.contains("| from scratch | none | 50.0 ± 14.1 | … | 0 | 48.5 | 81.8 | – |"), "{text}");
        assert!(
            text.contains("| BEiT | none | 50.0 | 25.0 | 12 | 90.1 | 83.2 | 45.6 | 56.7 | – |"),
            "{text}"
        );
        let page = table.html();
        assert!(page.contains("<td>50.0 ± 14.1</td>") && page.contains("a&lt;b") && !page.contains("a<b"));
    }

    #[test]
    fn more_of_the_same_is_compatible() {
        let one = config();
        let more = CompareConfig { seeds: 5, methods: Route::ALL.to_vec(), ..config() };
        assert!(one.compatible(&more));
        assert!(!one.compatible(&CompareConfig { steps: 2, ..config() }));
        // folders from before the network was a choice say nothing of it
        let mut written = serde_json::to_value(config()).unwrap();
        written.as_object_mut().unwrap().remove("network");
        let old: CompareConfig = serde_json::from_value(written).unwrap();
        assert!(old.network == DvaeNetwork::Openai && !one.compatible(&old));
    }
}
