//! Tests of generated text. The expected values come from transformers 5.23 and tokenizers 0.23:
//! `generate(ids, do_sample=False, max_new_tokens=N, num_beams=B)` of the model in the folder, with its
//! tokenizer as a `PreTrainedTokenizerFast`, and for T5 with token 1 after the prompt.

use super::report;
use crate::support::{debug_train, fails, file, folder, kiln, ok, words};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Makes the command `kiln COMMAND MODEL` on the CPU with more arguments.
fn on(command: &str, model: &Path, more: &[&str]) -> Command {
    let mut kiln = kiln([command, "--device", "cpu"]);
    kiln.arg(model).args(more);
    kiln
}

/// Makes a command that generates text for a prompt greedily.
fn greedy(model: &Path, prompt: &str, more: &str) -> Command {
    let mut command = on("generate", model, &["--temperature", "0", "--prompt", prompt]);
    command.args(words(more));
    command
}

fn object(command: &mut Command) -> Value {
    serde_json::from_str(&ok(command)).unwrap()
}

/// Generates text for a file of prompts and returns the lines of JSON.
fn each(model: &Path, prompts: &Path, more: &str) -> Vec<Value> {
    let mut command = on("generate", model, &["--temperature", "0", "--json", "--prompts"]);
    let lines = ok(command.arg(prompts).args(words(more)));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a command that must succeed, and returns its standard error.
fn notes(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Copies a model's folder.
fn copy_of(model: &Path, folder: &TempDir, name: &str) -> PathBuf {
    let copy = folder.path().join(name);
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name != "manifest.json") && path.is_file() {
            fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}

/// Replaces the text of a JSON file of a model.
fn rewrite(model: &Path, name: &str, json: &Value) {
    fs::write(model.join(name), json.to_string()).unwrap();
}

fn read(model: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(model.join(name)).unwrap()).unwrap()
}

#[test]
fn the_first_space_is_kept() {
    let model = report("first-space").join("llama2-like");
    let folder = folder();
    let prompts = file(&folder, "prompts.txt", "the\nthe heron\n");
    let all = "the heron sat🦆 down\n";
    for beams in ["", " --num-beams 3"] {
        assert_eq!(ok(&mut greedy(&model, "the", &format!("--max-new-tokens 7{beams}"))), all);
        let found = object(&mut greedy(&model, "the", &format!("--max-new-tokens 7 --json{beams}")));
        assert_eq!((&found["text"], &found["tokens"]), (&json!(" heron sat🦆 down"), &json!(7)));
        let texts: Vec<Value> = each(&model, &prompts, &format!("--max-new-tokens 7{beams}"))
            .into_iter()
            .map(|found| found["text"].clone())
            .collect();
        assert_eq!(texts[0], " heron sat🦆 down");
        assert!(texts[1].as_str().unwrap().starts_with(" sat🦆 down"), "{texts:?}");
    }
    let mut lines = on("generate", &model, &["--temperature", "0", "--max-new-tokens", "7", "--prompts"]);
    assert_eq!(ok(lines.arg(&prompts)).lines().next(), Some(" heron sat🦆 down"));
    // Beginning within a word, which has no space.
    assert!(!ok(&mut greedy(&model, "the hero", "--max-new-tokens 1")).starts_with("the hero  "));
    let stopped = object(&mut greedy(&model, "the", "--max-new-tokens 7 --json --stop 🦆"));
    assert_eq!((&stopped["text"], &stopped["reason"]), (&json!(" heron sat"), &json!("stop_text")));
}

/// Trains a run that starts from a model and hardly changes it.
fn trained(model: &Path, folder: &TempDir, text: &str, more: &str) -> PathBuf {
    let run = folder.path().join("run");
    let data = file(folder, "data.txt", text.repeat(200));
    let mut train = kiln(words("train --device cpu --init-from"));
    train.arg(model).arg("--data").arg(data).arg("--out").arg(&run);
    let steps = "--set train.max_steps=1 --set train.learning_rate=1e-9 --set train.min_lr=1e-10 --set train.warmup_steps=0";
    let sample = "--set train.batch_size=1 --set sample.temperature=0 --set sample.max_new_tokens=7";
    ok(train.args(words(steps)).args(words(sample)).args(words(more)));
    run
}

fn sampled(run: &Path) -> Value {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let mut events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.rfind(|event| event["type"] == "sample").unwrap()["text"].clone()
}

#[test]
fn samples_of_a_training_run_keep_the_first_space_too() {
    let folder = folder();
    let model = report("first-space").join("llama2-like");
    let run = trained(&model, &folder, "the heron sat down\n", "--set sample.prompt=the");
    assert_eq!(sampled(&run), "the heron sat🦆 down");
}

#[test]
fn every_end_token_of_a_list_ends_a_text() {
    let model = report("eos-list").join("llama3-like");
    let folder = folder();
    // `generate` gives `dab<|eot_id|>` after `c`, `ab<|eot_id|>` after `d` and `<|eot_id|>` after `b`.
    let prompts = file(&folder, "prompts.txt", "a\nc\nd\nb\n");
    let expected = [("a", "b", 2), ("c", "dab", 4), ("d", "ab", 3), ("b", "", 1)];
    for beams in ["", " --num-beams 2", " --num-beams 3"] {
        let found = each(&model, &prompts, &format!("--max-new-tokens 9{beams}"));
        for (found, (prompt, text, tokens)) in found.iter().zip(expected) {
            let right = json!({ "prompt": prompt, "text": text, "tokens": tokens, "reason": "end_of_text" });
            assert_eq!(*found, right, "{beams}");
            let mut alone = object(&mut greedy(&model, prompt, &format!("--max-new-tokens 9 --json{beams}")));
            let object = alone.as_object_mut().unwrap();
            object.retain(|key, _| !["seconds", "tokens_per_second"].contains(&key.as_str()));
            assert_eq!(alone, right, "{beams}");
        }
        assert_eq!(found.len(), 4);
    }
}

#[test]
fn end_tokens_come_from_either_configuration_and_outlive_conversion_and_training() {
    let folder = folder();
    let original = report("eos-list").join("llama3-like");
    let text = |model: &Path| object(&mut greedy(model, "a", "--max-new-tokens 4 --json"))["text"].clone();
    let of = |name: &str, generation: Option<Value>, config: Value| {
        let copy = copy_of(&original, &folder, name);
        match generation {
            Some(ids) => rewrite(&copy, "generation_config.json", &json!({ "eos_token_id": ids })),
            None => fs::remove_file(copy.join("generation_config.json")).unwrap(),
        }
        let mut changed = read(&copy, "config.json");
        changed["eos_token_id"] = config;
        rewrite(&copy, "config.json", &changed);
        copy
    };
    let whole = "b<|eot_id|>cd";
    assert_eq!(text(&of("number", Some(json!(1)), json!(null))), "b");
    assert_eq!(text(&of("list", None, json!([0, 1]))), "b");
    assert_eq!(text(&of("alone", None, json!(1))), "b");
    assert_eq!(text(&of("null", Some(json!(null)), json!([1]))), "b");
    assert_eq!(text(&of("first", Some(json!(4)), json!(1))), "b<|eot_id|>");
    // Without any, the tokenizer's own names count: `<|end_of_text|>`.
    assert_eq!(text(&of("none", None, json!(null))), whole);

    let unknown = of("unknown", Some(json!([-1, 6])), json!(null));
    assert_eq!(text(&unknown), whole);
    let found = notes(&mut greedy(&unknown, "a", "--max-new-tokens 4"));
    for id in ["-1", "6"] {
        assert!(found.contains(&format!("note: `eos_token_id` {id} in `generation_config.json`")), "{found}");
    }
    let broken = of("broken", Some(json!("</s>")), json!(null));
    fails(&mut greedy(&broken, "a", ""), 2, &["`eos_token_id` in `generation_config.json` is `\"</s>\"`"]);

    for layout in ["huggingface", "kiln"] {
        let converted = folder.path().join(layout);
        ok(kiln(["convert", "--layout", layout]).arg(&original).arg(&converted));
        assert_eq!(text(&converted), "b", "{layout}");
    }
    let run = trained(&original, &folder, "abcd", "--set sample.prompt=a");
    assert_eq!(sampled(&run), "ab");
    assert_eq!(text(&run), "b");
    let checkpoint = run.join("checkpoints/latest");
    assert_eq!(read(&checkpoint, "generation_config.json")["eos_token_id"], json!([0, 1]));
    ok(kiln(words("train --device cpu --set train.max_steps=2 --resume")).arg(&run));
    assert_eq!(read(&checkpoint, "generation_config.json")["eos_token_id"], json!([0, 1]));
}

#[test]
fn a_text_of_relative_positions_is_read_and_generated_beyond_any_block() {
    let model = report("t5-long-input");
    let prompt = "the heron stood in the water and it zzzzzzzzzzzzzzzz";
    let text = |prompt: &str, more: &str| {
        let found = object(&mut greedy(&model, prompt, &format!("--json {more}")));
        assert!(found.get("prompt_tokens_cut").is_none());
        found["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(ok(&mut greedy(&model, prompt, "--max-new-tokens 12")), "wbdmrdmrwrwr\n");
    let long = "wbdmrdmrwrwrwrwrwrwrwrwrwrwrwrwrwrwrwrwrwrwrwrwrwrwrdmrdmrdmrwrwrwrwrwrwrwrwrwrw";
    assert_eq!(text(prompt, "--max-new-tokens 80"), long);
    assert_eq!(text(prompt, "--max-new-tokens 40 --num-beams 3"), format!("vvvvvvm{}r", "rw".repeat(16)));
    let folder = folder();
    let prompts = file(&folder, "prompts.txt", format!("{prompt}\na heron\nzz\n{prompt}{prompt}\n"));
    let found = each(&model, &prompts, "--max-new-tokens 45");
    let expected = [
        long[..45].to_owned(),
        format!("wrwrw{}", "rs".repeat(20)),
        "v".repeat(45),
        format!("wdmrdmrwrwrwrdm{}", "rw".repeat(15)),
    ];
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found["text"], expected);
    }
}

#[test]
fn a_text_that_is_cut_is_said_to_be() {
    let model = report("past-the-context");
    let long = "abcdefghijabcdefghij";
    let found = object(&mut greedy(&model, long, "--max-new-tokens 2 --json"));
    assert_eq!(found["prompt_tokens_cut"], 12);
    let said = notes(&mut greedy(&model, long, "--max-new-tokens 2"));
    assert_eq!(said, "note: the context does not hold the prompt: 12 tokens of it were not read\n");
    assert_eq!(notes(&mut greedy(&model, "abc", "--max-new-tokens 2")), "");
    let found = each(&model, &model.join("two.txt"), "--max-new-tokens 2");
    assert_eq!((&found[0]["prompt_tokens_cut"], found[1].get("prompt_tokens_cut")), (&json!(12), None));

    let folder = folder();
    let run = folder.path().join("filler");
    ok(&mut debug_train(&run, "--set model.architecture=encoder --set train.max_steps=1"));
    let long = format!("[MASK]{}", "to be or not ".repeat(20));
    assert!(notes(&mut on("fill", &run, &[&long])).starts_with("note: the context does not hold the text: "));
    assert_eq!(notes(&mut on("fill", &run, &["to be [MASK]"])), "");
    let far = format!("{long}[MASK]");
    fails(&mut on("fill", &run, &[far.trim_start_matches("[MASK]")]), 2, &["no mask within the first"]);
    fails(&mut on("fill", &run, &["to be"]), 2, &["there is no mask in it"]);

    let run = folder.path().join("classifier");
    let record = |text: &str, label: &str| json!({ "text": text, "label": label }).to_string();
    let short = [record("to be", "yes"), record("or not", "no")].join("\n");
    let data = file(&folder, "short.jsonl", format!("{short}\n").repeat(20));
    let classifier = "--set model.architecture=encoder --set model.head=sequence-classification \
                      --set data.label_field=label --set train.max_steps=1";
    ok(debug_train(&run, classifier).arg("--data").arg(&data));
    let long = "to be or not ".repeat(20);
    let mut classify = on("classify", &run, &["to be", &long, "--json"]);
    let lines = ok(&mut classify);
    let cut: Vec<Value> = lines
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap().get("tokens_cut").cloned().unwrap_or_default()
        })
        .collect();
    assert!(cut[0].is_null() && cut[1].as_u64().unwrap() > 100, "{cut:?}");
    assert!(notes(&mut classify).contains("note: the context does not hold 1 of 2 texts whole"));
    let mixed = [record("to be", "yes"), record(&long, "no")].join("\n");
    let data = file(&folder, "long.jsonl", mixed);
    let mut eval = on("eval", &run, &["--json", "--data", data.to_str().unwrap()]);
    assert_eq!(object(&mut eval)["cut_documents"], 1);
    assert!(notes(&mut eval).contains("does not hold 1 of 2 documents whole"));
}

#[test]
fn each_of_many_prompts_is_as_it_is_alone_also_past_the_context() {
    let model = report("past-the-context");
    let text = fs::read_to_string(model.join("two.txt")).unwrap();
    let folder = folder();
    let more = file(&folder, "more.txt", format!("{text}a\njihg\nabcdefgh\nb\n"));
    for (prompts, count) in [(model.join("two.txt"), 25), (more.clone(), 60), (more, 3)] {
        let found = each(&model, &prompts, &format!("--max-new-tokens {count}"));
        assert_eq!(found.len(), fs::read_to_string(&prompts).unwrap().lines().count());
        for found in found {
            let prompt = found["prompt"].as_str().unwrap();
            let alone = object(&mut greedy(&model, prompt, &format!("--max-new-tokens {count} --json")));
            for key in ["text", "tokens", "reason"] {
                assert_eq!(found[key], alone[key], "{key} of {prompt}");
            }
        }
    }
}

/// Sets one number of each floating-point tensor to NaN.
fn spoil(model: &Path) {
    let path = model.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let spoilt: Vec<_> = tensors
        .iter()
        .map(|(name, view)| {
            let mut data = view.data().to_vec();
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            (name.to_owned(), view.dtype(), view.shape().to_vec(), data)
        })
        .collect();
    let views = spoilt.iter().map(|(name, dtype, shape, data)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn logits_that_are_not_finite_are_an_error() {
    let model = report("nan-weights");
    let folder = folder();
    let prompts = file(&folder, "prompts.txt", "ab\nc\n");
    let named = format!("error: model `{}`: the logits are not finite: one of them is NaN", model.display());
    for more in ["--temperature 0", "--temperature 1", "--num-beams 2"] {
        for prompts in [vec!["--prompt", "ab"], vec!["--prompts", prompts.to_str().unwrap()]] {
            let mut command = on("generate", &model, &["--max-new-tokens", "5"]);
            fails(command.args(words(more)).args(prompts), 1, &[&named, "hint: "]);
        }
    }
    let data = file(&folder, "text.txt", "abcdef".repeat(20));
    let mut eval = on("eval", &model, &["--data", data.to_str().unwrap()]);
    fails(&mut eval, 1, &["the losses are not finite", "nan-weights"]);

    let run = folder.path().join("filler");
    ok(&mut debug_train(&run, "--set model.architecture=encoder --set train.max_steps=1"));
    let filler = copy_of(&run.join("checkpoints/latest"), &folder, "spoilt-filler");
    spoil(&filler);
    fails(
        &mut on("fill", &filler, &["to [MASK]"]),
        1,
        &["the probabilities are not finite", "spoilt-filler"],
    );

    let run = folder.path().join("classifier");
    let records = "{\"text\": \"to be\", \"label\": \"a\"}\n{\"text\": \"or not\", \"label\": \"b\"}\n";
    let data = file(&folder, "classes.jsonl", records.repeat(20));
    let classifier = "--set model.architecture=encoder --set model.head=sequence-classification \
                      --set data.label_field=label --set train.max_steps=1";
    ok(debug_train(&run, classifier).arg("--data").arg(&data));
    let spoilt = copy_of(&run.join("checkpoints/latest"), &folder, "spoilt-classifier");
    spoil(&spoilt);
    fails(&mut on("classify", &spoilt, &["to be"]), 1, &["the probabilities are not finite"]);
}

#[test]
fn prompts_of_a_file_from_windows_have_no_marks() {
    let model = report("first-space").join("llama2-like");
    let found = each(&model, &report("prompts-file").join("crlf.txt"), "--max-new-tokens 2");
    let prompts: Vec<&str> = found.iter().map(|found| found["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["the", "the heron"]);
    assert_eq!(found[0]["text"], " heron sat");
    let folder = folder();
    let wide = "the\r\n".encode_utf16().flat_map(u16::to_le_bytes);
    let wide = file(&folder, "wide.txt", [vec![0xFF, 0xFE], wide.collect()].concat());
    let mut command = on("generate", &model, &["--prompts"]);
    fails(command.arg(&wide), 2, &["wide.txt", "UTF-16", "hint: save the file as plain text in UTF-8"]);
}
