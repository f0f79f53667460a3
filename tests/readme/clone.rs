//! A folder laid out like a clone, with programs that make the commands of READMEs small.

use super::ROOT;
use crate::support::folder;
use serde_json::{Value, json};
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Program `kiln` that READMEs call: the same command on the CPU, with few steps. Its results are tested
/// elsewhere.
const KILN: &str = r#"#!/bin/sh
case "$*" in
    *" --device "*) ;;
    "train "* | "generate "* | "chat "* | "eval "* | "plan "* | "fill "* | "classify "* | "verify "* | "distill "* | "prune "*) set -- "$@" --device cpu ;;
esac
case "$*" in
    "train "*"--resume"*) set -- "$@" --set train.stop_after=5 --set train.eval_batches=1 ;;
    "train"*) set -- "$@" --set train.max_steps=3 --set train.eval_batches=1 ;;
    "bench kernels"*) set -- "$@" --only rms-norm --runs 1 ;;
    "bench generate"*) set -- "$@" --tokens 8 ;;
    "bench"*) set -- "$@" --steps 1 --warmup 1 ;;
esac
exec "$KILN_BINARY" "$@"
"#;

/// Program `cargo` that READMEs call as `cargo run --release -- …`: it runs the binary that is already built.
const CARGO: &str = r#"#!/bin/sh
[ "$1 $2 $3" = "run --release --" ] || { echo "run this elsewhere: cargo $*" >&2; exit 1; }
shift 3
exec kiln "$@"
"#;

/// Folder in which commands find the files of a clone and write their own; a fresh one for each README.
pub struct Clone {
    folder: tempfile::TempDir,
    programs: tempfile::TempDir,
}

impl Clone {
    pub fn new() -> Self {
        let clone = Self { folder: folder(), programs: folder() };
        for (name, script) in [("kiln", KILN), ("cargo", CARGO)] {
            let path = clone.programs.path().join(name);
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        for name in ["examples/mails.toml", "examples/cmudict.toml", "examples/corpora.toml"] {
            clone.copy(name);
        }
        clone.copy("tests/fixtures/tinyshakespeare.txt");
        for entry in std::fs::read_dir(Path::new(ROOT).join("tests/fixtures/models/gpt2")).unwrap() {
            clone.copy(&format!(
                "tests/fixtures/models/gpt2/{}",
                entry.unwrap().file_name().to_str().unwrap()
            ));
        }
        stand_ins(clone.folder.path());
        clone
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn copy(&self, name: &str) {
        std::fs::copy(Path::new(ROOT).join(name), self.path(name)).unwrap();
    }

    pub fn file(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs commands until one fails, and returns their output.
    pub fn run(&self, commands: &str) -> Result<String, String> {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("sh")
            .args(["-e", "-x", "-c", commands])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", self.programs.path().display()))
            .env("KILN_BINARY", env!("CARGO_BIN_EXE_kiln"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(text) } else { Err(format!("{}\n{commands}\n{text}", output.status)) }
    }
}

/// Writes a few records in place of the corpora that `examples/corpora.mjs` fetches, which `tests/check.sh`
/// runs.
fn stand_ins(folder: &Path) {
    let corpora = folder.join("corpora");
    std::fs::create_dir(&corpora).unwrap();
    raw_stand_ins(&corpora);
    let mail = |number: usize| match number % 2 {
        0 => json!({ "text": format!("Buy {number} now, for free"), "label": "spam" }),
        _ => json!({ "text": format!("See you at {number} o'clock"), "label": "ham" }),
    };
    let word = |number: usize| json!({ "text": format!("{}shakespeare", "kiln".repeat(number % 3)), "target": "K IH L N" });
    let write = |name: &str, count: usize, record: &dyn Fn(usize) -> Value| {
        let lines: String = (0..count).map(|number| format!("{}\n", record(number))).collect();
        std::fs::write(corpora.join(format!("{name}.jsonl")), lines).unwrap();
    };
    // As many mails as it takes for a validation split with a block of 256 tokens.
    write("mails-train", 1200, &mail);
    write("mails-test", 40, &mail);
    write("cmudict-train", 60, &word);
    write("cmudict-test", 40, &word);
}

/// Writes a little of the output of `examples/corpora.mjs raw`.
fn raw_stand_ins(corpora: &Path) {
    let plays = include_str!("../fixtures/tinyshakespeare.txt");
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
    gzip(corpora.join("novels.jsonl"), format!("{novel}\n"));
    std::fs::write(
        corpora.join("speeches.csv"),
        format!("year,text\n1800,\"{}\"\n", part(22).replace('"', "'")),
    )
    .unwrap();
    let body = part(23);
    let record =
        format!("WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: {}\r\n\r\n{body}\r\n\r\n", body.len());
    gzip(corpora.join("mails.warc"), record);
}

/// Writes `PATH.gz` with this text.
fn gzip(path: PathBuf, text: String) {
    std::fs::write(&path, text).unwrap();
    assert!(Command::new("gzip").arg(path).status().unwrap().success());
}
