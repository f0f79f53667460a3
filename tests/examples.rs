//! The programs in `examples/` work as described; the scripts say what they need instead of failing with a
//! stack trace.

#[path = "../examples/custom_objective.rs"]
#[allow(dead_code, reason = "the test calls what `main` calls")]
mod custom_objective;

use crate::support::folder;
use std::{path::Path, process::Command};

/// Runs a script with `words` in an empty folder, and returns its exit code and output.
fn output(script: &str, words: &[&str]) -> (Option<i32>, String) {
    let interpreter = if script.ends_with(".py") { "python3" } else { "node" };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(script);
    let folder = folder();
    let mut command = Command::new(interpreter);
    // Nothing is written beside the scripts.
    command.arg(path).args(words).current_dir(&folder).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().unwrap_or_else(|error| panic!("{script} needs {interpreter}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn scripts_without_arguments_say_how_they_are_used() {
    let mut tried = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_script = name.ends_with(".py") || name.ends_with(".mjs");
        // The others are modules of those.
        let source = if is_script { std::fs::read_to_string(&path).unwrap() } else { continue };
        if !source.contains("argv") && !source.contains("argparse") {
            continue;
        }
        tried += 1;
        let (code, text) = output(name, &[]);
        assert!(matches!(code, Some(1 | 2)), "{name}: {text}");
        assert!(text.contains("usage: ") || text.contains("hint: node examples/"), "{name}: {text}");
        assert!(!text.contains("Traceback") && !text.contains("    at "), "{name}: {text}");
    }
    assert!(tried >= 5, "only {tried} scripts found");
}

#[test]
fn checking_what_is_no_checkpoint_is_refused() {
    let (code, text) = output("check_transformers.py", &["nowhere"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("`nowhere` is no checkpoint"), "{text}");
}

/// Runs a script that trains models, with as few steps as it goes.
fn quick(script: &str) -> String {
    let folder = folder();
    let out = folder.path().join("out").display().to_string();
    let words = [out.as_str(), "--quick", "--seeds", "1", "--kiln", env!("CARGO_BIN_EXE_kiln")];
    let (code, text) = output(script, &words);
    assert_eq!(code, Some(0), "{script}: {text}");
    text
}

#[test]
fn rlhf_goes_from_pretraining_to_ppo_grpo_and_dpo() {
    let text = quick("rlhf.mjs");
    for part in ["reward model", "PPO", "GRPO with a rule", "DPO", "wins, all seeds"] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}

#[test]
fn a_student_learns_from_a_teacher_and_from_its_saved_logits() {
    let text = quick("distill.mjs");
    for part in ["teacher", "text alone", "distilled", "saved logits", "less than text alone"] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}

#[test]
fn a_custom_objective_has_its_metrics_in_the_log_and_in_the_report() {
    let folder = folder();
    let run = folder.path().join("run");
    custom_objective::train(&run).unwrap();
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let steps: Vec<_> = events.clone().filter(|event| event["type"] == "step").collect();
    assert_eq!(steps.len(), 20);
    let metric = |step: usize, name: &str| steps[step]["metrics"][name].as_f64().unwrap();
    for (step, report) in steps.iter().enumerate() {
        let expected = metric(step, "nll") + 0.5 * metric(step, "divergence");
        assert!((report["loss"].as_f64().unwrap() - expected).abs() < 1e-4, "{report}");
    }
    // The model begins as its reference, and leaves it as it learns.
    assert!(metric(0, "divergence").abs() < 1e-5 && metric(19, "divergence") > 1e-2, "{:?}", steps[19]);
    assert!(metric(19, "nll") < metric(0, "nll") - 0.2);
    let evaluation = events.clone().find(|event| event["type"] == "evaluation").unwrap();
    assert!(
        evaluation["metrics"]["nll"].as_f64().is_some() && evaluation["perplexity"].is_null(),
        "{evaluation}"
    );
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    for name in ["nll", "divergence"] {
        assert!(
            report.contains(&format!("aria-label=\"{name}\""))
                && report.contains(&format!("<th>{name}</th>"))
        );
    }
}
