use serde_json::json;

use super::*;
use crate::runs::sheet::{Sheet, SheetRow, Tile};

/// Made-up metrics of a run with both phases.
fn records() -> Vec<Value> {
    let noise = |i: u64| ((i.wrapping_mul(2_654_435_761) >> 7) % 1000) as f64 / 1000.0 - 0.5;
    let mut out = Vec::new();
    for step in 1..=800u64 {
        let t = step as f64 / 800.0;
        let loss = -1.1 + 1.5 * (-6.0 * t).exp() + 0.1 * noise(step);
        let (perplexity, used) = (12.0 + 80.0 * t.sqrt() + 6.0 * noise(step + 9), 30.0 + 90.0 * t.sqrt());
        let mut record = json!({"phase": "tokenizer", "step": step, "loss": loss, "lr": 6e-3 * (1.0 - t),
            "perplexity": perplexity, "codes_used": used.round(), "grad_norm": 0.4 + 30.0 * (-20.0 * t).exp()});
        if step % 100 == 0 {
            record["val_mae"] = json!(0.07 + 0.1 * (-4.0 * t).exp());
        }
        out.push(record);
    }
    for step in 1..=400u64 {
        let t = step as f64 / 400.0;
        let loss = 2.9 + 2.6 * (-5.0 * t).exp() + 0.18 * noise(step);
        let warm = (t * 10.0).min(1.0);
        let mut record = json!({"phase": "pretrain", "step": step, "loss": loss, "mlm_acc": 0.28 - 0.26 * (-4.0 * t).exp() + 0.03 * noise(step),
            "lr": 3e-3 * warm * (1.0 + (std::f64::consts::PI * t).cos()) / 2.0, "grad_norm": 1.0 + 0.3 * noise(step) + 2.0 * (-9.0 * t).exp()});
        if step % 40 == 0 {
            record["val_loss"] = json!(2.95 + 2.6 * (-5.0 * t).exp());
            record["val_mlm_acc"] = json!(0.27 - 0.26 * (-4.0 * t).exp());
        }
        out.push(record);
    }
    out
}

fn references() -> Vec<Reference> {
    let line = |name: &str, value: f64, explanation: &str, chart: &str| Reference {
        name: name.into(),
        value,
        explanation: explanation.into(),
        chart: (!chart.is_empty()).then(|| chart.into()),
    };
    vec![
        line(
            "ln V",
            256f64.ln(),
            "Loss of a network that knows nothing: every one of the V tokens is as likely.",
            "pretrain/loss",
        ),
        line("unigram entropy", 4.5, "Loss of one who knows only how common each token is.", "pretrain/loss"),
        line(
            "per-position",
            4.42,
            "Loss of one who knows how common each token is at each place of the grid.",
            "pretrain/loss",
        ),
        line(
            "commonest token",
            0.025,
            "Accuracy of always guessing the commonest token.",
            "pretrain/accuracy",
        ),
        line("V/4", 64.0, "A perplexity below this points to a collapsing codebook.", "tokenizer/perplexity"),
        line("published end point", 8192f64.ln(), "ln V of the published models, V = 8192, for scale.", ""),
    ]
}

fn sheet() -> Vec<u8> {
    let tile = |row: usize, column: usize| {
        let pixel = |i: usize| {
            let (x, y) = (i % 32, i / 32);
            let hidden = column == 1 && (x / 8 + y / 8 + row).is_multiple_of(2);
            let disc = (x as i32 - 12 - 3 * row as i32).pow(2) + (y as i32 - 15).pow(2) < 80;
            let blur = if column > 1 { 20 } else { 0 };
            match (hidden, disc) {
                (true, _) => [128, 128, 128],
                (_, true) => [220 - blur, 90 + blur, 60],
                _ => [60 + 4 * x as u8, 110 + 3 * y as u8, 200 - blur],
            }
        };
        Tile::new(32, 32, (0..32 * 32).flat_map(pixel).collect()).unwrap()
    };
    let row = |row| SheetRow {
        caption: format!("loss {:.2}, {} of 25 tokens right", 2.7 + row as f64 / 10.0, 9 - row),
        tiles: (0..4).map(|column| tile(row, column)).collect(),
    };
    let columns = ["original", "corrupted", "reconstructed", "tokenizer's best"].map(String::from).into();
    Sheet { title: "pretrain, step 400: held-out pictures".into(), columns, rows: (0..3).map(row).collect() }
        .to_png()
        .unwrap()
        .png
}

fn page() -> String {
    let facts = [
        ("held-out loss", "2.96 nat"),
        ("held-out accuracy", "26.5 %"),
        ("codebook perplexity", "90 of 256"),
        ("steps", "800 + 400"),
        ("speed", "312 images/s"),
    ];
    let facts: Vec<(String, String)> = facts.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let png = sheet();
    let picture =
        ReportPicture { title: "Step 400", caption: "Grey squares were hidden from the network.", png: &png };
    Report {
        title: "pretrain-0001",
        subtitle: "preset nano on synthetic scenes, built-in CPU device",
        facts: &facts,
        records: &records(),
        references: &references(),
        pictures: &[picture],
        config: "preset = \"nano\"\nseed = 1\n\n[pretrain]\nsteps = 400\nbatch_size = 64\n",
    }
    .to_html()
}

#[test]
fn page_is_whole_and_self_contained() {
    let page = page();
    assert_eq!(page, self::page());
    for needle in
        ["ln V", "unigram entropy", "role=\"img\"", "data:image/png;base64,iVBOR", "prefers-color-scheme"]
    {
        assert!(page.contains(needle), "{needle}");
    }
    for needle in ["<script", "http://", "https://", "url(", ">NaN", ">inf", " NaN", " inf "] {
        assert!(!page.contains(needle), "{needle}");
    }
    assert_eq!(page.matches("<figure class=\"chart\">").count(), 4 + 5);
    for tag in ["figure", "section", "table", "details", "svg", "text", "tr", "div"] {
        let open = page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    // for looking at: the page and its sheet, written where the variable says
    if let Ok(path) = std::env::var("BEIT_REPORT_SAMPLE") {
        std::fs::write(&path, &page).unwrap();
        std::fs::write(format!("{path}.png"), sheet()).unwrap();
    }
}

#[test]
fn empty_and_hostile_input_is_harmless() {
    let report = Report {
        title: "<script>alert(1)</script>",
        subtitle: "",
        facts: &[],
        records: &[json!({"phase": "<b>", "step": 1, "loss": 1.0}), json!(null), json!({"step": "x"})],
        references: &[],
        pictures: &[],
        config: "</pre><script>",
    };
    let page = report.to_html();
    assert!(!page.contains("<script"));
    assert!(page.contains("<h2>&lt;b&gt;</h2>"));
    assert!(page.contains("&lt;script&gt;alert(1)"));
    let empty = Report { records: &[], ..report }.to_html();
    assert!(!empty.contains("<svg"));
}
