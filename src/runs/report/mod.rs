//! `report.html`: one page with the curves, the pictures and the numbers to hold them against.
//!
//! The page needs nothing else: styles and curves are inline, pictures are embedded, there are no scripts, and its
//! content policy forbids every request. It follows the reader's light or dark setting.

mod chart;
mod encode;
mod series;

use std::fmt::Write;

use serde_json::Value;

use chart::{Chart, Line, Rule};
use encode::{base64, escape, short};
use series::{Series, phases};

/// A picture of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportPicture<'a> {
    /// Headline.
    pub title: &'a str,
    /// What to look for; also read to those who cannot see the picture.
    pub caption: &'a str,
    /// The PNG file.
    pub png: &'a [u8],
}

/// A number that a run can be measured against, such as ln V or the unigram entropy.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Short name, as at the line's end.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// What it means and where it comes from.
    pub explanation: String,
    /// Chart that shows it as a horizontal line: phase and group, such as `pretrain/loss`. Groups are
    /// `loss`, `accuracy`, `perplexity`, `error`, `grad_norm`, `lr`.
    pub chart: Option<String>,
}

/// What goes into a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report<'a> {
    /// Headline, such as the run's name.
    pub title: &'a str,
    /// One line under it.
    pub subtitle: &'a str,
    /// Figures for the top of the page: label and value.
    pub facts: &'a [(String, String)],
    /// Metrics records.
    pub records: &'a [Value],
    /// Numbers to compare with.
    pub references: &'a [Reference],
    /// Contact sheets, newest first.
    pub pictures: &'a [ReportPicture<'a>],
    /// The run's configuration.
    pub config: &'a str,
}

/// Curves that share a chart, if a phase has them.
struct Group {
    id: &'static str,
    title: &'static str,
    /// Keys of the records and what they are called.
    keys: &'static [(&'static str, &'static str)],
    from_zero: bool,
    /// Logarithmic where the values span more than a factor of thirty.
    may_be_log: bool,
    /// Drawn smoothed where there are many records.
    noisy: bool,
}

const GROUPS: [Group; 10] = [
    Group {
        id: "loss",
        title: "loss",
        keys: &[("loss", "training"), ("val_loss", "held out")],
        from_zero: false,
        may_be_log: false,
        noisy: true,
    },
    Group {
        id: "accuracy",
        title: "accuracy",
        keys: &[
            ("mlm_acc", "training"),
            ("val_mlm_acc", "held out"),
            ("acc1", "training"),
            ("val_acc1", "held out"),
            ("colour_acc", "training"),
            ("val_colour_acc", "held out"),
            ("pair_acc", "training"),
            ("val_pair_acc", "held out"),
            ("pixel_acc", "training"),
            ("val_aacc", "held out"),
        ],
        from_zero: true,
        may_be_log: false,
        noisy: true,
    },
    Group {
        id: "miou",
        title: "mean intersection over union",
        keys: &[("val_miou", "held out")],
        from_zero: true,
        may_be_log: false,
        noisy: false,
    },
    Group {
        id: "entropy",
        title: "entropy of the mean target",
        keys: &[("mean_entropy", "training"), ("val_mean_entropy", "held out")],
        from_zero: true,
        may_be_log: false,
        noisy: true,
    },
    Group {
        id: "target_entropy",
        title: "mean entropy of the targets",
        keys: &[("val_target_entropy", "held out")],
        from_zero: true,
        may_be_log: false,
        noisy: false,
    },
    Group {
        id: "spread",
        title: "spread of the keys",
        keys: &[("spread", "training"), ("val_spread", "held out")],
        from_zero: true,
        may_be_log: false,
        noisy: true,
    },
    Group {
        id: "perplexity",
        title: "codebook",
        keys: &[("perplexity", "perplexity"), ("codes_used", "codes in use")],
        from_zero: true,
        may_be_log: false,
        noisy: true,
    },
    Group {
        id: "error",
        title: "reconstruction error",
        keys: &[("mae", "training"), ("val_mae", "held out")],
        from_zero: true,
        may_be_log: false,
        noisy: true,
    },
    Group {
        id: "grad_norm",
        title: "gradient norm",
        keys: &[("grad_norm", "gradient norm")],
        from_zero: true,
        may_be_log: true,
        noisy: true,
    },
    Group {
        id: "lr",
        title: "learning rate",
        keys: &[("lr", "learning rate")],
        from_zero: true,
        may_be_log: false,
        noisy: false,
    },
];

impl Report<'_> {
    /// The whole page.
    pub fn to_html(&self) -> String {
        let mut page = String::from(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" \
             content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n",
        );
        let title = escape(self.title);
        add(
            &mut page,
            format_args!("<title>{title}</title>\n<style>\n{}</style>\n</head>\n", include_str!("style.css")),
        );
        add(
            &mut page,
            format_args!("<body>\n<header>\n<h1>{title}</h1>\n<p>{}</p>\n</header>\n", escape(self.subtitle)),
        );
        page.push_str("<main>\n");
        self.add_facts(&mut page);
        let summary = self.add_charts(&mut page);
        self.add_references(&mut page);
        self.add_pictures(&mut page);
        add_summary(&mut page, &summary);
        self.add_config(&mut page);
        page.push_str("</main>\n</body>\n</html>\n");
        page
    }

    fn add_facts(&self, page: &mut String) {
        if self.facts.is_empty() {
            return;
        }
        page.push_str("<dl class=\"facts\">\n");
        for (label, value) in self.facts {
            add(page, format_args!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(label), escape(value)));
        }
        page.push_str("</dl>\n");
    }

    /// Draws every group that a phase has records of, the last phase first; returns the curves for the table.
    fn add_charts(&self, page: &mut String) -> Vec<(String, Series)> {
        let mut summary = Vec::new();
        for phase in phases(self.records).into_iter().rev() {
            let mut charts = String::new();
            for group in &GROUPS {
                // keys alternate: training in the first colour, held out in the second
                let keys = group.keys.iter().zip([0, 1].into_iter().cycle());
                let found =
                    keys.map(|((key, name), colour)| Series::of(self.records, phase, key, name, colour));
                let found: Vec<Series> = found.filter(|s| !s.points.is_empty()).collect();
                if !found.is_empty() {
                    charts.push_str(&self.chart(phase, group, &found).to_figure());
                    summary.extend(found.into_iter().map(|s| (format!("{phase}: {}", group.title), s)));
                }
            }
            if !charts.is_empty() {
                let name = escape(phase);
                add(
                    page,
                    format_args!(
                        "<section>\n<h2>{name}</h2>\n<div class=\"charts\">\n{charts}</div>\n</section>\n"
                    ),
                );
            }
        }
        summary
    }

    fn chart(&self, phase: &str, group: &Group, found: &[Series]) -> Chart {
        let id = format!("{phase}/{}", group.id);
        let here = self.references.iter().filter(|r| r.chart.as_deref() == Some(&id) && r.value.is_finite());
        let values = || found.iter().flat_map(|s| &s.points).map(|&(_, y)| y);
        let (low, high) = values().fold((f64::INFINITY, 0.0f64), |(l, h), y| (l.min(y), h.max(y)));
        Chart {
            title: group.title.to_owned(),
            lines: found.iter().map(|s| Line::of(s, group.noisy)).collect(),
            rules: here.map(|r| Rule { name: r.name.clone(), value: r.value }).collect(),
            from_zero: group.from_zero,
            log: group.may_be_log && low > 0.0 && high > 30.0 * low,
        }
    }

    fn add_references(&self, page: &mut String) {
        if self.references.is_empty() {
            return;
        }
        page.push_str("<section>\n<h2>Numbers to compare with</h2>\n<div class=\"scroll\"><table>\n");
        page.push_str("<thead><tr><th scope=\"col\">name</th><th scope=\"col\" class=\"num\">value</th>");
        page.push_str("<th scope=\"col\">meaning</th></tr></thead>\n<tbody>\n");
        for r in self.references {
            let (name, value, meaning) = (escape(&r.name), short(r.value), escape(&r.explanation));
            add(
                page,
                format_args!(
                    "<tr><th scope=\"row\">{name}</th><td class=\"num\">{value}</td><td>{meaning}</td></tr>\n"
                ),
            );
        }
        page.push_str("</tbody></table></div>\n</section>\n");
    }

    fn add_pictures(&self, page: &mut String) {
        if self.pictures.is_empty() {
            return;
        }
        page.push_str("<section>\n<h2>Pictures</h2>\n<div class=\"pictures\">\n");
        for picture in self.pictures {
            let (title, caption) = (escape(picture.title), escape(picture.caption));
            add(
                page,
                format_args!(
                    "<figure>\n<figcaption><strong>{title}</strong> {caption}</figcaption>\n\
                     <img alt=\"{title}: {caption}\" src=\"data:image/png;base64,{}\">\n</figure>\n",
                    base64(picture.png)
                ),
            );
        }
        page.push_str("</div>\n</section>\n");
    }

    fn add_config(&self, page: &mut String) {
        if !self.config.is_empty() {
            let text = escape(self.config);
            add(
                page,
                format_args!("<details>\n<summary>Configuration</summary>\n<pre>{text}</pre>\n</details>\n"),
            );
        }
    }
}

/// The curves as numbers: for screen readers, and for those who want to copy them.
fn add_summary(page: &mut String, summary: &[(String, Series)]) {
    if summary.is_empty() {
        return;
    }
    page.push_str(
        "<details>\n<summary>Curves as numbers</summary>\n<div class=\"scroll\"><table>\n<thead><tr>",
    );
    for (class, head) in [
        ("", "chart"),
        ("", "curve"),
        ("num", "records"),
        ("num", "first"),
        ("num", "lowest"),
        ("num", "highest"),
        ("num", "last"),
        ("num", "at step"),
    ] {
        add(page, format_args!("<th scope=\"col\" class=\"{class}\">{head}</th>"));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (chart, series) in summary {
        let (Some((_, first)), Some((step, last))) = (series.points.first(), series.points.last()) else {
            continue;
        };
        let values = series.points.iter().map(|&(_, y)| y);
        let (low, high) =
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
        add(
            page,
            format_args!("<tr><th scope=\"row\">{}</th><td>{}</td>", escape(chart), escape(&series.name)),
        );
        add(page, format_args!("<td class=\"num\">{}</td>", series.points.len()));
        for number in [*first, low, high, *last, *step] {
            add(page, format_args!("<td class=\"num\">{}</td>", short(number)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n</details>\n");
}

/// Appends formatted text; writing to a string cannot fail.
fn add(page: &mut String, text: std::fmt::Arguments) {
    let _ = page.write_fmt(text);
}

#[cfg(test)]
mod tests;
