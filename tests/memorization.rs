//! Memorization: canaries, verbatim continuations and overlaps, the warning of overfitting.

use crate::support::{debug_train, fails, file, folder, kiln, ok, words};
use kiln::{checkpoint::Checkpoint, data::Dataset};
use serde_json::Value;
use std::{fs, path::Path};

const TEXT: &str = include_str!("fixtures/tinyshakespeare.txt");

/// Settings of a small model that learns a short text by heart.
const SMALL: &str = "--set model.n_embd=64 --set train.batch_size=16 --set train.learning_rate=3e-3 \
                     --set train.warmup_steps=20 --set tokenizer.kind=char";

/// A `--set` of canaries, given by name and number of repetitions.
fn canaries(canaries: &[(&str, usize)]) -> [String; 2] {
    let canary = |(name, repeat): &(&str, usize)| {
        format!("{{text = \"{name} has the code {{}}.\", length = 3, repeat = {repeat}}}")
    };
    let all: Vec<String> = canaries.iter().map(canary).collect();
    ["--set".into(), format!("data.canaries=[{}]", all.join(", "))]
}

fn events(run: &Path, kind: &str) -> Vec<Value> {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["type"] == kind).collect()
}

#[test]
fn canaries_are_exposed_the_more_the_more_often_they_are_repeated() {
    let folder = folder();
    let data = file(&folder, "text.txt", &TEXT[..20_000]);
    let run = folder.path().join("run");
    let mut train = debug_train(&run, SMALL);
    train.arg("--data").arg(&data).args(canaries(&[("Anna", 1), ("Bert", 10), ("Cleo", 100)]));
    ok(train.args(words(
        "--set train.max_steps=200 --set train.eval_interval=100 --set train.memorization=true",
    )));

    let mut eval = kiln(words("eval --device cpu --memorization --json"));
    let json: Value = serde_json::from_str(&ok(eval.arg(&run))).unwrap();
    let found = &json["memorization"];
    let exposures: Vec<f64> = found["canaries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|canary| canary["exposure"].as_f64().unwrap())
        .collect();
    let [once, tenfold, hundredfold] = exposures[..] else { panic!("{exposures:?}") };
    assert!(once + 0.5 < tenfold && tenfold + 0.5 < hundredfold, "{exposures:?}");
    assert!(hundredfold > 7.0, "{exposures:?}");
    assert_eq!(found["canaries"][2]["scored"], 1000);

    // Each longest overlap is in the training text, at its place. A token is a character.
    let checkpoint = Checkpoint::open_model(&run).unwrap();
    let dataset =
        Dataset::prepare(&checkpoint.config.clone().unwrap(), Some(checkpoint.tokenizer().unwrap()));
    let train = dataset.unwrap().train;
    let overlaps = found["overlaps"].as_array().unwrap();
    assert!(overlaps.len() >= 4, "{overlaps:?}");
    for overlap in overlaps {
        let text = overlap["text"].as_str().unwrap();
        assert_eq!(text.chars().count() as u64, overlap["characters"].as_u64().unwrap());
        assert!(text.len() > 2 && overlap["mean_tokens"].as_f64().unwrap() > 2.0, "{overlap}");
        let [offset, tokens] = ["offset", "tokens"].map(|name| overlap[name].as_u64().unwrap() as usize);
        let own: Vec<u32> =
            train.read(offset..offset + tokens).into_iter().map(|token| token as u32).collect();
        assert_eq!(checkpoint.tokenizer().unwrap().decode(&own).unwrap(), text);
    }
    let train = &found["train"];
    assert!((50..=256).contains(&train["prompts"].as_u64().unwrap()), "{train}");
    assert_eq!((train["prompt_tokens"].as_u64(), train["new_tokens"].as_u64()), (Some(16), Some(16)));

    // The same figures are in the log, and the report shows them.
    let logged = events(&run, "memorization");
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0]["memorization"]["canaries"], found["canaries"]);
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["<h2>Memorization</h2>", "Cleo has the code", "continuations of training text"] {
        assert!(report.contains(part), "{part}");
    }
    let mut eval = kiln(words("eval --device cpu --memorization"));
    let shown = ok(eval.arg(&run));
    for part in ["greedy continuations", "longest verbatim overlap", "repeated 100×, exposure"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn a_run_with_canaries_goes_on_exactly() {
    let folder = folder();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let set = canaries(&[("Anna", 5)]);
    for order in ["random", "shuffled"] {
        let order = format!("--set data.order={order}");
        ok(debug_train(&whole, &order).args(&set));
        ok(debug_train(&parts, &format!("{order} --set train.stop_after=10")).args(&set));
        let resume = || {
            let mut resume = kiln(words("train --device cpu --set train.stop_after=0 --resume"));
            resume.arg(&parts);
            resume
        };
        fails(resume().args(["--set", "data.canaries=[]"]), 2, &["the training data is not what", "hint: "]);
        ok(&mut resume());
        let bytes = |run: &Path| fs::read(run.join("checkpoints/step-000020/model.safetensors")).unwrap();
        assert!(bytes(&whole) == bytes(&parts), "{order}");
        let without = folder.path().join("without");
        ok(&mut debug_train(&without, &order));
        assert!(bytes(&without) != bytes(&whole));
        for run in [&whole, &parts, &without] {
            fs::remove_dir_all(run).unwrap();
        }
    }
}

#[test]
fn overfitting_is_said_once() {
    let folder = folder();
    let data = file(&folder, "text.txt", &TEXT[..2000]);
    let run = folder.path().join("run");
    let settings = format!(
        "{SMALL} --set train.max_steps=300 --set train.eval_interval=20 --set train.learning_rate=1e-2 \
         --set train.schedule=constant"
    );
    let output = debug_train(&run, &settings).arg("--data").arg(&data).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.matches("warning: the model overfits").count(), 1, "{stderr}");
    assert_eq!(events(&run, "overfitting").len(), 1);
    assert!(fs::read_to_string(run.join("report.html")).unwrap().contains("the model overfits"));
    let evaluations = events(&run, "evaluation");
    let gap = |event: &Value| event["gap"].as_f64().unwrap();
    assert!(gap(evaluations.last().unwrap()) > gap(&evaluations[0]) + 0.5);

    // A run that does not overfit says nothing.
    let healthy = folder.path().join("healthy");
    ok(&mut debug_train(&healthy, "--set train.eval_interval=2"));
    assert!(events(&healthy, "overfitting").is_empty());
}

#[test]
fn canaries_and_measures_that_cannot_be() {
    let folder = folder();
    let run = folder.path().join("run");
    let refused = |canary: &str, parts: &[&str]| {
        let set = format!("data.canaries=[{{{canary}}}]");
        fails(debug_train(&run, "").args(["--set", &set]), 2, &[&["`data.canaries`"], parts].concat());
        assert!(!run.exists());
    };
    let long = format!("text='{} {{}}'", "very ".repeat(10));
    refused(&long, &["does not fit into a block of 32 tokens", "model.block_size"]);
    refused("text='{}', format='hex'", &["expected `digits` or `letters`"]);
    refused("text='{}', repeat=0", &["`repeat = 0`", "1 to 1000000 times"]);
    refused("text='no place'", &["`no place`", "with `{}` once"]);
    let encoder = ["--set", "model.architecture=encoder", "--set", "train.memorization=true"];
    fails(debug_train(&run, "").args(encoder), 2, &["`train.memorization`", "only a decoder"]);

    ok(&mut debug_train(&run, ""));
    let mut eval = kiln(words("eval --device cpu --memorization --data x.txt"));
    assert_eq!(eval.arg(&run).output().unwrap().status.code(), Some(2));
    let mut eval = kiln(words("eval --device cpu --memorization tests/fixtures/models/gpt2"));
    fails(eval.current_dir(env!("CARGO_MANIFEST_DIR")), 2, &["was not trained by Kiln"]);
}
