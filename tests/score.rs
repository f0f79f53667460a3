//! `kiln score` and `kiln verify` of metrics: the numbers are those of the Python tools, and what cannot be scored is told.

use crate::support::{fails, file, folder, kiln, ok, words};
use serde_json::Value;
use std::path::Path;

/// A part of `../shared/fixtures/post/metrics`, made by sacrebleu 2.6.0, rouge-score 0.1.2, scikit-learn 1.9.1, SQuAD's
/// scripts and lm-evaluation-harness 0.4.13.
const METRICS: &str = "tests/fixtures/metrics";

#[test]
fn metrics_equal_those_of_the_python_tools() {
    let metrics = Path::new(env!("CARGO_MANIFEST_DIR")).join(METRICS);
    let printed = ok(kiln(["verify"]).arg(&metrics));
    assert!(printed.lines().count() > 1000, "{}", printed.lines().count());

    let other = folder();
    for name in ["texts.json", "corpora.json", "answers.json", "labels.json", "choices.json"] {
        let text = std::fs::read_to_string(metrics.join(name)).unwrap();
        let text =
            if name == "answers.json" { text.replacen("\"exact\": 1", "\"exact\": 0", 1) } else { text };
        file(&other, name, text);
    }
    let output = kiln(["verify"]).arg(other.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("answers.json: "), "{said}");
}

#[test]
fn texts_are_scored_with_intervals_and_compared() {
    let folder = folder();
    let system = file(&folder, "system", "the cat sat on the mat\nit is raining today\n");
    let other = file(&folder, "other", "a cat sat on a mat\nit rains\n");
    let reference = file(&folder, "reference", "the cat sat on the mat\nit is raining now\n");
    let score = |arguments: &str| -> Value {
        let mut command = kiln(words(&format!("score {arguments} --json")));
        command.arg("--system").arg(&system).arg("--reference").arg(&reference).arg("--against").arg(&other);
        serde_json::from_str(&ok(&mut command)).unwrap()
    };
    let bleu = score("bleu --bootstrap 100");
    assert!(
        bleu["signature"].as_str().unwrap().starts_with("nrefs:1|bs:100|seed:12345|case:mixed"),
        "{bleu}"
    );
    for (arguments, scores) in [
        ("bleu", 1),
        ("chrf --word-order 2", 1),
        ("rouge", 4),
        ("answers", 3),
        ("classes", 10),
        ("errors", 1),
    ] {
        let found = score(arguments);
        let rows = found["scores"].as_array().unwrap();
        assert_eq!(rows.len(), scores, "{arguments}");
        for row in rows {
            let [low, high] = [0, 1].map(|end| row["interval"][end].as_f64().unwrap());
            assert!(low <= high && row["score"].is_number() && row["p_value"].is_number(), "{row}");
        }
    }
}

#[test]
fn what_cannot_be_scored_is_told() {
    let folder = folder();
    let [two, one] = [file(&folder, "two", "a\nb\n"), file(&folder, "one", "a\n")];
    let score = |arguments: &str, reference: &Path| {
        let mut command = kiln(words(&format!("score {arguments}")));
        command.arg("--system").arg(&two).arg("--reference").arg(reference);
        command
    };
    fails(&mut score("bleu", &one), 2, &["it has 1 lines", "has 2"]);
    fails(&mut score("bleu --tokenize 14a", &two), 2, &["14a"]);
    fails(&mut score("bleu --smooth hard", &two), 2, &["hard"]);
    fails(&mut score("errors --unit bits", &two), 2, &["expected characters, words or phonemes"]);
    fails(kiln(["verify"]).arg(folder.path()), 2, &["fixture.safetensors"]);
}
