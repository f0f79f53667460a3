//! Tests of what each command prints and writes.

use crate::support::{debug_train, file, folder, kiln, ok, words};
use serde_json::Value;
use std::fs;

fn json(command: &mut std::process::Command) -> Value {
    let text = ok(command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_run_leaves_everything_it_promises() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, ""));
    for name in ["log.jsonl", "loss.svg", "loss.png", "report.html", "checkpoints/best", "checkpoints/latest"]
    {
        assert!(run.join(name).exists(), "{name}");
    }
    assert!(fs::read_dir(run.join("tensorboard")).unwrap().count() > 0);
    for name in [
        "config.json",
        "tokenizer.json",
        "generation_config.json",
        "trainer.json",
        "kiln.toml",
        "manifest.json",
    ] {
        assert!(run.join("checkpoints/latest").join(name).is_file(), "{name}");
    }
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    for kind in ["started", "step", "evaluation", "sample", "checkpoint", "finished"] {
        assert!(log.contains(&format!("\"type\":\"{kind}\"")), "{kind}");
    }
}

#[test]
fn generating_is_seeded_and_the_cache_changes_nothing() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, ""));
    let generate = |more: &str| {
        let mut command = kiln(["generate", "--device", "cpu", "--prompt", "To be"]);
        ok(command.arg(&run).args(words(more)))
    };
    // Longer than the context, so that the window slides.
    let text = generate("--max-new-tokens 100 --seed 1");
    assert!(text.starts_with("To be") && text.chars().count() == 106, "{text}");
    assert_eq!(text, generate("--max-new-tokens 100 --seed 1"));
    assert_ne!(text, generate("--max-new-tokens 100 --seed 2"));
    let result = json(kiln(["generate", "--device", "cpu", "--json", "--stop", "e"]).arg(&run));
    assert!(!result["text"].as_str().unwrap().contains('e'), "{result}");
}

#[test]
fn evaluating_reads_the_whole_split() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, ""));
    let result = json(kiln(["eval", "--device", "cpu", "--json"]).arg(&run));
    let loss = result["loss"].as_f64().unwrap();
    assert!((result["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-9);
    // Characters of plain ASCII: a token is a byte, and the first of the split has no prediction.
    let bits = result["bits_per_byte"].as_f64().unwrap();
    assert!((bits - loss / std::f64::consts::LN_2).abs() < 1e-3 * bits, "{result}");
    assert!(result["tokens"].as_u64().unwrap() > 100_000, "{result}");
    let other = file(&folder, "other.txt", "To be, or not to be");
    let result = json(kiln(["eval", "--device", "cpu", "--json", "--data"]).arg(other).arg(&run));
    assert_eq!(result["tokens"], 18);
}

#[test]
fn tokenizers_round_trip() {
    let folder = folder();
    let text = file(&folder, "text.txt", "the cat sat on the mat, the cat sat. ".repeat(20));
    for kind in ["char", "byte", "bpe"] {
        let out = folder.path().join(format!("{kind}.json"));
        let mut train = kiln(["tokenizer", "train", "--kind", kind, "--vocab-size", "280"]);
        ok(train.arg(&text).arg("--out").arg(&out));
        let tokens = ok(kiln(["tokenizer", "encode", "the cat", "--tokenizer"]).arg(&out));
        let mut decode = kiln(["tokenizer", "decode", "--tokenizer"]);
        assert_eq!(ok(decode.arg(&out).args(tokens.split_whitespace())), "the cat\n", "{kind}");
        let info = ok(kiln(["tokenizer", "info", "--tokenizer"]).arg(&out).arg("--data").arg(&text));
        assert!(info.contains(kind) && info.contains("MB/s"), "{info}");
    }
    // A shard that `kiln train` maps.
    let shards = folder.path().join("shards");
    fs::create_dir(&shards).unwrap();
    fs::copy(folder.path().join("bpe.json"), shards.join("tokenizer.json")).unwrap();
    for split in ["train.bin", "val.bin"] {
        let mut encode = kiln(["tokenizer", "encode", "--tokenizer"]);
        ok(encode
            .arg(shards.join("tokenizer.json"))
            .arg("--data")
            .arg(&text)
            .arg("--out")
            .arg(shards.join(split)));
    }
    let run = folder.path().join("run");
    ok(debug_train(&run, "--set model.block_size=8 --set train.max_steps=5").arg("--data").arg(&shards));
}

#[test]
fn devices_are_listed() {
    let devices = json(&mut kiln(["devices", "--json"]));
    let devices = devices.as_array().unwrap();
    let cpu = devices.iter().find(|device| device["name"] == "cpu").unwrap();
    assert!(cpu["memory_bytes"].as_u64().unwrap() > 1 << 28);
    assert!(cpu["dtypes"].as_array().unwrap().iter().any(|dtype| dtype == "f32"));
    let auto: Vec<_> = devices.iter().filter(|device| device["auto"] == true).collect();
    assert!(auto.len() == 1 && auto[0]["software"] == false, "{devices:?}");
    assert!(ok(&mut kiln(["devices"])).contains("cpu"));
}

#[test]
fn fused_operations_are_held_to_burns() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("memory.svg");
    let mut command = kiln(words("bench kernels --json --device cpu --runs 1 --only swiglu --lengths 16,32"));
    let figures = json(command.arg("--plot").arg(&plot));
    let operation = &figures["operations"][0];
    assert!(operation["operation"] == "swiglu" && figures["operations"].as_array().unwrap().len() == 1);
    assert!(operation["forward_error"].as_f64().unwrap() < 1e-5, "{operation}");
    assert!(operation["gradient_error"].as_f64().unwrap() < 1e-4, "{operation}");
    assert_eq!(figures["attention_memory"][1]["tokens"], 32);
    assert!(figures["description"].as_str().unwrap().contains("thread"), "{figures}");
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));
    let output = kiln(words("bench kernels --only gulu")).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("`gulu`") && message.contains("swiglu"), "{message}");
}

#[test]
fn benchmarks_are_measured_side_by_side() {
    let command = "bench --json --preset debug --steps 3 --warmup 1 --device cpu --device cpu";
    let figures = json(&mut kiln(words(command)));
    let figures = figures.as_array().unwrap();
    assert_eq!(figures.len(), 2);
    let devices = json(&mut kiln(["devices", "--json"]));
    let cpu = devices.as_array().unwrap().iter().find(|device| device["name"] == "cpu").unwrap();
    for row in figures {
        assert!(row["description"] == cpu["description"], "{row}");
        assert!(row["instruction_set"] == cpu["instruction_set"], "{row}");
        assert!(row["tokens_per_second"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["mfu"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["seconds_to_first_step"].as_f64().unwrap() > 0.0, "{row}");
    }
    // The processor with its instructions, its peak, and the share of it that training reaches.
    let table = ok(&mut kiln(words("bench --preset debug --steps 2 --device cpu")));
    let instructions = cpu["instruction_set"].as_str().unwrap_or_default();
    let summary = [cpu["description"].as_str().unwrap(), instructions].join(", ");
    for part in ["tokens/s", "f32 peak", "MFU", summary.trim_end_matches(", ")] {
        assert!(table.contains(part), "`{part}` is not in\n{table}");
    }
    let generate = "bench generate --preset debug --tokens 4 --device cpu";
    let written = json(&mut kiln(words(&format!("{generate} --json"))));
    assert!(written["description"] == cpu["description"], "{written}");
    assert!(ok(&mut kiln(words(generate))).contains(summary.trim_end_matches(", ")));
    let named = json(&mut kiln(words("bench train --json --size 0.8M --steps 1 --warmup 1 --device cpu")));
    assert!(named[0]["size"] == "0.8M" && named[0]["tokens_per_step"] == 768, "{named}");
}

#[test]
fn configurations_are_shown_and_read_back() {
    let folder = folder();
    let shown = ok(&mut kiln(words("config show --preset llama-tiny --set train.seed=7")));
    let path = file(&folder, "shown.toml", &shown);
    let again = json(kiln(["config", "show", "--json", "--config"]).arg(path));
    assert_eq!(again["train"]["seed"], 7);
    assert_eq!(again["model"]["activation"], "swiglu");
    // A key by its earlier name is taken, with a note.
    let old = file(&folder, "old.toml", "[model]\nrope_theta = 500\n");
    let mut earlier = kiln(words("config show --json --set model.qk_norm=true --config"));
    let output = earlier.arg(old).output().unwrap();
    let tree: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&tree["model"]["rope"]["theta"], &tree["model"]["attention"]["qk_norm"]),
        (&500.0.into(), &true.into())
    );
    let notes = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        notes,
        "note: `model.rope_theta` is called `model.rope.theta` now\n\
         note: `model.qk_norm` is called `model.attention.qk_norm` now\n"
    );
    let presets = ok(&mut kiln(words("config presets")));
    for name in ["shakespeare-char", "shakespeare-char-cpu", "gpt2-124m", "llama-tiny", "debug"] {
        assert!(presets.contains(name), "{presets}");
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(ok(&mut kiln(["completions", shell])).contains("kiln"));
    }
}

/// Runs `kiln ARGUMENTS | READER` and returns the exit status of `kiln`; nothing may be on standard error.
#[cfg(unix)]
fn piped(arguments: &str, reader: &str) -> i32 {
    let script = format!("timeout 60 \"$KILN\" {arguments} | {reader} >/dev/null; exit ${{PIPESTATUS[0]}}");
    let mut bash = std::process::Command::new("bash");
    let output = bash.args(["-c", &script]).env("KILN", env!("CARGO_BIN_EXE_kiln")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
    output.status.code().unwrap()
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_a_command_quietly_and_at_once() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.max_steps=2"));
    let run = run.display();
    // 128 + SIGPIPE. Writing a million tokens would take far longer than the timeout.
    let generate = format!("generate {run} --device cpu --prompt $'one\\ntwo' --max-new-tokens 1000000");
    assert_eq!(piped(&generate, "head -1"), 141);
    let fixture = crate::parity::fixture("gpt2");
    for command in [
        format!("eval {run} --device cpu"),
        format!("verify {} --device cpu", fixture.display()),
        "devices".into(),
        format!("inspect {}", fixture.display()),
        "bench --preset debug --device cpu --steps 1 --warmup 1".into(),
        "config show".into(),
        "completions bash".into(),
        "tokenizer encode 'to be' --tokenizer ".to_owned() + &format!("{run}"),
    ] {
        // 0 where all was written before the reader was gone.
        assert!([0, 141].contains(&piped(&command, "true")), "{command}");
    }
}

#[test]
fn the_default_folder_is_never_taken_twice() {
    let folder = folder();
    let train =
        || ok(kiln(words("train --preset debug --device cpu --set train.max_steps=5")).current_dir(&folder));
    train();
    let first = fs::read(folder.path().join("runs/debug/log.jsonl")).unwrap();
    train();
    assert_eq!(fs::read(folder.path().join("runs/debug/log.jsonl")).unwrap(), first);
    assert!(folder.path().join("runs/debug-2/checkpoints/latest").exists());
}

#[test]
fn knobs_are_configuration_not_flags() {
    // A new knob belongs in the configuration; this list of flags grows only on purpose.
    let help = ok(&mut kiln(["train", "--help"]));
    let mut flags: Vec<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    flags.iter_mut().for_each(|flag| *flag = flag.trim_end_matches(|c: char| !c.is_alphanumeric()));
    flags.retain(|flag| {
        help.lines().any(|line| {
            line.trim_start().trim_start_matches("-q, ").trim_start_matches("-h, ").starts_with(*flag)
        })
    });
    flags.sort_unstable();
    flags.dedup();
    let expected = [
        "--config",
        "--data",
        "--device",
        "--help",
        "--init-from",
        "--out",
        "--preset",
        "--quiet",
        "--resume",
        "--set",
    ];
    assert_eq!(flags, expected);
}
