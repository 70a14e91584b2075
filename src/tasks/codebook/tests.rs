use super::*;

fn healthy() -> CodebookReport {
    CodebookReport {
        network: TokenizerNetwork::Openai,
        images: 100,
        cells: 6400,
        vocab: 256,
        entropy: 4.8,
        perplexity: 121.5,
        used: 240,
        dead: 16,
        commonest: 0.03,
        mae: Some(0.03),
        flat_mae: 0.06,
        flat_picture_mae: 0.16,
        relaxed: Some(RelaxedReport {
            kl: 4.0,
            max_probability: 0.8,
            relaxed_mae: 0.029,
            distortion: -1.0,
            relaxed_distortion: -1.1,
            tau: 0.0625,
        }),
        code_cosine: None,
        counts: vec![],
    }
}

#[test]
fn advice_names_what_is_wrong() {
    assert_eq!(healthy().advice(), Vec::<String>::new());
    let says = |change: fn(&mut CodebookReport)| {
        let mut r = healthy();
        change(&mut r);
        r.advice().join("\n")
    };
    let undecided = says(|r| {
        r.perplexity = 3.0;
        r.relaxed.as_mut().unwrap().kl = 0.1;
    });
    assert!(undecided.contains("collapsed (perplexity 3.0 of 256)"));
    assert!(undecided.contains("a smaller tokenizer-training.beta"));
    assert!(says(|r| r.perplexity = 3.0).contains("the temperature fell"));
    assert!(says(|r| (r.used, r.dead) = (100, 156)).contains("156 of 256 ids are never used"));
    assert!(says(|r| r.mae = Some(0.09)).contains("flat colour"));
    assert!(says(|r| r.relaxed.as_mut().unwrap().relaxed_mae = 0.02).contains("50 % worse"));
    assert!(says(|r| r.cells = 500).contains("--images"));
    // A VQ-KD tokenizer is not trained to draw: its pictures are no fault.
    let distilled = |r: &mut CodebookReport| {
        (r.relaxed, r.mae, r.code_cosine) = (None, Some(0.15), Some(0.9));
    };
    assert_eq!(says(distilled), "");
    assert!(
        says(|r| (r.relaxed, r.used, r.dead) = (None, 100, 156)).contains("restart-below"),
        "how to fill a codebook without a KL weight"
    );
}
