//! `kiln scale`: a law is found again from runs that follow it, what cannot be fitted is told, and a sweep trains its runs,
//! after a kill only those that are missing.

use crate::support::{fails, file, folder, kiln, ok, words};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Runs of Chinchilla's law, with up to 0.5 % of noise.
fn runs() -> String {
    let mut state = 7u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1.0 + 0.005 * ((state >> 33) as f64 / (1u64 << 30) as f64 - 1.0)
    };
    let mut text = "parameters,tokens,loss\n".to_owned();
    for n in 0..7 {
        for d in 0..9 {
            let (n, d) = (1e7 * 10f64.powf(f64::from(n) / 2.0), 1e8 * 10f64.powf(f64::from(d) / 2.0));
            let loss = 1.69 + 406.4 / n.powf(0.34) + 410.7 / d.powf(0.28);
            text += &format!("{n:e},{d:e},{}\n", loss * noise());
        }
    }
    text
}

#[test]
fn a_law_is_found_again_and_predicts() {
    let folder = folder();
    let runs = file(&folder, "runs.csv", runs());
    let mut fit = kiln(words("scale fit --budget 1e21 --predict 7e10,1.4e12 --resamples 50 --json"));
    let found: Value = serde_json::from_str(&ok(fit.arg(&runs))).unwrap();
    let law = &found["fit"]["law"];
    for (name, expected) in [("alpha", 0.34), ("beta", 0.28)] {
        let exponent = law[name].as_f64().unwrap();
        assert!((exponent - expected).abs() < 0.02, "{name} {exponent}");
    }
    let loss = found["predictions"][0]["loss"]["value"].as_f64().unwrap();
    let expected = 1.69 + 406.4 / 7e10f64.powf(0.34) + 410.7 / 1.4e12f64.powf(0.28);
    assert!((loss / expected - 1.0).abs() < 0.02, "{loss} instead of {expected}");
    assert!(found["optima"][0]["tokens_per_parameter"]["interval"]["low"].is_number(), "{found}");
    let printed = ok(kiln(words("scale fit --budget 1e21")).arg(&runs));
    assert!(printed.contains("alpha") && printed.contains("tokens per parameter"), "{printed}");
    ok(kiln(words("scale kaplan")).arg(&runs));
    let plan = ok(&mut kiln(words("scale plan --flops 1e17")));
    assert!(plan.lines().count() > 12, "{plan}");
}

#[test]
fn what_cannot_be_fitted_is_told() {
    let folder = folder();
    let bad = |text: &str| file(&folder, "bad.csv", text);
    let few = "n,d,loss\n1e6,1e8,3\n1e7,1e9,2.5\n";
    for (text, part) in
        [(few, "runs"), ("n,d,loss\n1e6,x,3\n", "bad.csv"), ("n,loss\n1e6,3\n", "bad.csv"), ("", "bad.csv")]
    {
        fails(kiln(words("scale fit")).arg(bad(text)), 2, &[part]);
    }
    fails(kiln(words("scale fit --predict 7")).arg(bad(few)), 2, &["--predict"]);
    let mixed = bad("n,d,loss,vocabulary\n1e6,1e8,1.5,65\n1e6,2e8,3.9,512\n");
    fails(
        kiln(words("scale fit")).arg(mixed),
        2,
        &["one of 512, so that their losses per token cannot be compared", "--bits-per-byte"],
    );
}

/// A sweep of twelve runs of some dozen steps.
fn sweep(out: &Path, more: &str) -> Command {
    let mut command = kiln(words(
        "scale run --preset debug --device cpu --flops 4e10 --sizes 4 --budgets 3 --tokens-per-parameter 0.3 --layers 1 \
         --set train.batch_size=2 --set train.eval_batches=20 --set train.learning_rate=1e-2",
    ));
    command.arg("--out").arg(out).args(words(more));
    command
}

#[test]
fn a_sweep_is_trained_and_after_a_kill_only_what_is_missing() {
    let folder = folder();
    let out = folder.path().join("sweep");
    let mut process = sweep(&out, "").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    // The second run has begun.
    while std::fs::read_dir(out.join("runs")).map_or(0, Iterator::count) < 2 {
        assert!(Instant::now() < until, "the second run does not begin");
        thread::sleep(Duration::from_millis(5));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let output = sweep(&out, "--verify 2 --predict 1e5,1e6").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let before = said.matches("finished before").count();
    assert!((1..12).contains(&before), "{said}");
    // The process of the second run goes on after the kill, and may have come to its end.
    assert!((12 - before..=13 - before).contains(&said.matches(": finished in").count()), "{said}");

    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "N is counted without embeddings",
        "alpha",
        "tokens per parameter",
        "N = 1.000e5",
        "the prediction is",
    ] {
        assert!(printed.contains(part), "`{part}` is not in\n{printed}");
    }
    let found: Value = serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 12);
    for run in runs {
        let [parameters, tokens, flops] =
            ["parameters", "tokens", "flops"].map(|name| run[name].as_f64().unwrap());
        assert!(
            (6.0 * parameters * tokens / flops - 1.0).abs() < 1e-9 && run["loss"].as_f64().unwrap() < 4.5,
            "{run}"
        );
    }
    assert!(found["verification"]["relative_error"].is_number(), "{found}");
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("var(--series-2)") && html.contains("larger run, predicted"));
    assert!(std::fs::read_to_string(out.join("report.md")).unwrap().contains("| budget | layers |"));
    // The table is one that `kiln scale fit` reads, and it gives the same law.
    let fit = ok(kiln(words("scale fit --json")).arg(out.join("runs.csv")));
    let fit: Value = serde_json::from_str(&fit).unwrap();
    assert_eq!(fit["fit"]["law"], found["fit"]["law"]);
    ok(kiln(words("scale fit --bits-per-byte")).arg(out.join("runs.csv")));

    let again = sweep(&out, "--verify 2").output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(said.matches("finished before").count(), 13, "{said}");
    fails(&mut sweep(&out, "--set train.seed=7"), 2, &["it holds another experiment"]);
}

#[test]
fn a_sweep_that_cannot_be_trained_is_told_before_anything_runs() {
    let folder = folder();
    let out = folder.path().join("sweep");
    for (arguments, parts) in [
        ("--flops 1e6", &["too small for runs on both sides"][..]),
        (
            "--flops 4e10 --sizes 4 --budgets 3 --tokens-per-parameter 0.3 --layers 1",
            &["the share of a run is too small", "`train.batch_size`"],
        ),
        ("--flops 1e12 --sizes 3 --budgets 2", &["makes 6 runs, not 12"]),
        ("--flops 1e12 --preset debgu", &["unknown preset `debgu`", "did you mean `debug`?"]),
        ("--flops 1e12 --set train.max_steps=5", &["each run of the sweep has its own"]),
        ("--flops 1e12 --set data.val_fraction=0", &["there is none"]),
        ("--flops 1e12 --preset bert-tiny", &["the laws are those of language models"]),
        ("--minutes 0", &["--minutes"]),
        ("--flops 1e12 --predict 7", &["--predict"]),
    ] {
        let mut command = kiln(words("scale run --device cpu --out"));
        fails(command.arg(&out).args(words(arguments)), 2, parts);
        assert!(!out.exists(), "{arguments}");
    }
}
