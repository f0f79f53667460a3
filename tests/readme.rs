//! Every `kiln` command of the README runs, in the order in which it stands there.

use crate::support::{folder, kiln, ok};
use serde_json::{Value, json};
use std::path::Path;

#[test]
fn commands_of_the_readme_run() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let folder = folder();
    std::fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tinyshakespeare.txt"),
        folder.path().join("tinyshakespeare.txt"),
    )
    .unwrap();
    stand_ins(folder.path());
    let model = folder.path().join("tests/fixtures/models/gpt2");
    std::fs::create_dir_all(&model).unwrap();
    for entry in std::fs::read_dir(crate::parity::fixture("gpt2")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let mut count = 0;
    let mut in_shell = false;
    for line in readme.lines() {
        if let Some(language) = line.strip_prefix("```") {
            in_shell = language == "sh";
            continue;
        }
        let command = line.strip_prefix("cargo run --release -- ").map(|rest| format!("kiln {rest}"));
        let command = command.unwrap_or_else(|| line.to_owned());
        let Some(arguments) = command.strip_prefix("kiln ").filter(|_| in_shell) else { continue };
        let arguments = arguments.split(" #").next().unwrap();
        let mut words = shell_words(arguments);
        if words[0] == "data" && !cfg!(feature = "data") {
            continue;
        }
        let trains = ["train", "generate", "eval", "bench", "fill", "classify"].contains(&words[0].as_str());
        if trains && !words.iter().any(|word| word == "--device") {
            words.extend(["--device".into(), "cpu".into()]);
        }
        if words[0] == "train"
            && words.iter().any(|word| word.starts_with("prepared"))
            && !cfg!(feature = "data")
        {
            continue;
        }
        if words[0] == "train" && !words.iter().any(|word| word == "--resume") {
            // The same commands, shortened: what they compute is tested elsewhere.
            words.extend(["--set", "train.max_steps=6", "--set", "train.eval_batches=1"].map(String::from));
        }
        if words[0] == "train" && words.iter().any(|word| word == "--resume") {
            words.extend(["--set", "train.stop_after=8", "--set", "train.eval_batches=1"].map(String::from));
        }
        if words[0] == "bench" && words[1] == "kernels" {
            words.extend(["--only", "rms-norm", "--runs", "1"].map(String::from));
        } else if words[0] == "bench" && words[1] != "generate" {
            words.extend(["--steps", "1", "--warmup", "1"].map(String::from));
        }
        ok(kiln(&words).current_dir(&folder));
        count += 1;
    }
    assert!(count >= 8, "only {count} commands found");
}

/// The examples' configurations, and a few records in place of the corpora that `examples/corpora.mjs`
/// fetches, which `tests/check.sh` runs.
fn stand_ins(folder: &Path) {
    let [examples, corpora] = ["examples", "corpora"].map(|name| folder.join(name));
    std::fs::create_dir(&examples).unwrap();
    std::fs::create_dir(&corpora).unwrap();
    for name in ["mails.toml", "cmudict.toml", "corpora.toml"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        std::fs::copy(source, examples.join(name)).unwrap();
    }
    raw_stand_ins(&corpora);
    let mail = |number: usize| match number % 2 {
        0 => json!({ "text": format!("Buy {number} now, for free"), "label": "spam" }),
        _ => json!({ "text": format!("See you at {number} o'clock"), "label": "ham" }),
    };
    let word = |number: usize| json!({ "text": format!("{}shakespeare", "kiln".repeat(number % 3)), "target": "K IH L N" });
    for (name, record) in [("mails", &mail as &dyn Fn(usize) -> Value), ("cmudict", &word)] {
        let lines: String = (0..60).map(|number| format!("{}\n", record(number))).collect();
        for part in ["train", "test"] {
            std::fs::write(corpora.join(format!("{name}-{part}.jsonl")), &lines).unwrap();
        }
    }
}

/// A little of what `examples/corpora.mjs raw` makes.
fn raw_stand_ins(corpora: &Path) {
    let plays = include_str!("fixtures/tinyshakespeare.txt");
    let page = |text: &str| {
        format!(
            "<!doctype html><html><body><article><p>{}</p></article></body></html>",
            text.replace("\n\n", "</p><p>")
        )
    };
    for folder in ["plays", "broken"] {
        std::fs::create_dir(corpora.join(folder)).unwrap();
    }
    let part = |number: usize| &plays[number * 20_000..(number + 1) * 20_000];
    for number in 0..20 {
        std::fs::write(corpora.join(format!("plays/{number}.html")), page(part(number))).unwrap();
    }
    std::fs::write(corpora.join("broken/empty.jsonl"), "").unwrap();
    let novel = json!({ "text": part(21) });
    std::fs::write(corpora.join("novels.jsonl.gz"), format!("{novel}\n")).unwrap();
    std::fs::write(
        corpora.join("speeches.csv"),
        format!("year,text\n1800,\"{}\"\n", part(22).replace('"', "'")),
    )
    .unwrap();
    let body = part(23);
    let record =
        format!("WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: {}\r\n\r\n{body}\r\n\r\n", body.len());
    std::fs::write(corpora.join("mails.warc.gz"), record).unwrap();
}

/// Splits a line as a shell does, quotes and all.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.trim().chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
