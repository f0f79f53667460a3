//! Tests of encoders and encoder-decoders through the binary, from text to predictions.

use crate::support::{debug_train, fails, file, folder, kiln, losses, ok, trainer, words};
use kiln::config::Config;
use serde_json::{Value, json};
use std::{fmt::Write, fs, path::Path};

const ENCODER: &str = "--set model.architecture=encoder";
const CLASSIFIER: &str =
    "--set model.architecture=encoder --set model.head=sequence-classification --set data.label_field=label";

/// The last evaluation in a run's log.
fn last_evaluation(run: &Path) -> Value {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let mut events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.rfind(|event| event["type"] == "evaluation").unwrap()
}

/// Nats by which a run's validation loss is below uniform guessing. Untrained weights are near 0; learning
/// only the frequency of each character gives 0.86.
fn learned(run: &Path) -> f64 {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let begun: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let learned =
        begun["uniform_loss"].as_f64().unwrap() - last_evaluation(run)["val_loss"].as_f64().unwrap();
    eprintln!("learned {learned:.3} nats");
    learned
}

/// Makes the command `kiln COMMAND RUN` on the CPU with more arguments.
fn on(command: &str, run: &Path, more: &[&str]) -> std::process::Command {
    let mut kiln = kiln([command, "--device", "cpu"]);
    kiln.arg(run).args(more);
    kiln
}

/// Trains, and returns what the command shows on standard error.
fn shown(train: &mut std::process::Command) -> String {
    let output = train.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// Checks that no perplexity is shown, as for a loss over classes and a squared error: while the run trained
/// (`shown`), in its files, and in an evaluation of it.
fn has_no_perplexity(run: &Path, shown: &str) {
    let found = last_evaluation(run);
    assert!(found.get("perplexity").is_none(), "{found}");
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    let tensorboard = fs::read_dir(run.join("tensorboard")).unwrap();
    let curves: Vec<u8> = tensorboard.flat_map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    let (text, json) = (ok(&mut on("eval", run, &[])), ok(&mut on("eval", run, &["--json"])));
    let all = [shown, &report, &String::from_utf8_lossy(&curves), &text, &json];
    for said in all {
        assert!(!said.contains("perplexity"), "{said}");
    }
    assert!(shown.contains("best validation loss") && report.contains("best validation loss"));
    assert!(all[2].contains("val/loss"));
}

/// Formats records as JSONL.
fn lines(records: impl Iterator<Item = Value>) -> String {
    records.fold(String::new(), |mut text, record| {
        writeln!(text, "{record}").unwrap();
        text
    })
}

/// Makes texts of letters, some of which contain a `z`.
fn letters(count: u32) -> impl Iterator<Item = (String, bool)> {
    (0..count).map(|number| {
        let mut random = number.wrapping_mul(2_654_435_761) >> 4;
        let mut letter = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (random >> 24) as u8 % 20)
        };
        let mut text: String = (0..8).map(|_| letter()).collect();
        let has = number % 2 == 1;
        if has {
            let at = number as usize % 8;
            text.replace_range(at..=at, "z");
        }
        (text, has)
    })
}

#[test]
fn an_encoder_learns_what_was_hidden_and_fills_it_in() {
    let folder = folder();
    let run = folder.path().join("run");
    let settings = "--set objective.whole_words=true --set train.max_steps=60 --set train.learning_rate=5e-3";
    ok(&mut debug_train(&run, &format!("{ENCODER} {settings}")));
    assert!(learned(&run) > 0.8);
    let text = ok(&mut on("fill", &run, &["to be or n[MASK]t to be", "--top-k", "3"]));
    assert_eq!(text.lines().count(), 4, "{text}");
    let found: Value =
        serde_json::from_str(&ok(&mut on("fill", &run, &["[MASK] and [MASK]", "--json"]))).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 2);
    fails(&mut on("fill", &run, &["nothing to do"]), 2, &["no mask", "hint: write `[MASK]`"]);
    fails(&mut on("generate", &run, &[]), 2, &["an encoder does not generate text", "kiln fill"]);
    fails(&mut on("classify", &run, &["x"]), 2, &["fills masks", "--init-from"]);
    ok(&mut on("eval", &run, &[]));
    // It goes on where it stopped, with what would have been hidden then.
    ok(kiln(words("train --device cpu --set train.max_steps=62 --resume")).arg(&run));
}

#[test]
fn what_is_hidden_does_not_depend_on_micro_batches_or_on_when_it_began() {
    let of = |more: &[&str]| {
        let mut overrides = vec!["model.architecture=encoder"];
        overrides.extend(more);
        losses(trainer(crate::support::debug_config(&overrides), "cpu"), 3)
    };
    let whole = of(&["train.batch_size=4"]);
    let parts = of(&["train.batch_size=1", "train.gradient_accumulation_steps=4"]);
    assert!(crate::support::largest_difference(&whole, &parts) < 1e-5, "{whole:?} {parts:?}");
}

#[test]
fn a_classifier_tells_texts_apart() {
    let folder = folder();
    let label = |has| if has { "with" } else { "without" };
    let records = lines(letters(400).map(|(text, has)| json!({ "text": text, "label": label(has) })));
    let data = file(&folder, "data.jsonl", records);
    let run = folder.path().join("run");
    let settings = "--set train.max_steps=150 --set train.learning_rate=5e-3 --set model.pooling=mean \
                    --set train.eval_interval=50 --set train.batch_size=16 --set train.eval_batches=0";
    let train = shown(debug_train(&run, &format!("{CLASSIFIER} {settings}")).arg("--data").arg(&data));
    let found = last_evaluation(&run);
    assert!(found["macro_f1"].as_f64().unwrap() > 0.95, "{found}");
    has_no_perplexity(&run, &train);
    assert!(train.contains("uniform loss 0.6931") && train.contains(" | F1 "), "{train}");
    assert!(fs::read_to_string(run.join("report.html")).unwrap().contains("<th>macro F1</th>"));
    let text = ok(&mut on("eval", &run, &["--data", data.to_str().unwrap()]));
    assert!(text.contains("macro F1") && text.contains("  without"), "{text}");
    let said = ok(&mut on("classify", &run, &["abcdzefg", "abcdefgh"]));
    let first: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(first, ["with", "without"]);
    let texts = file(&folder, "texts.txt", "zzzz\n\nabcabcab\n");
    let json = ok(&mut on("classify", &run, &["--json", "--file", texts.to_str().unwrap()]));
    let second: Value = serde_json::from_str(json.lines().nth(1).unwrap()).unwrap();
    assert_eq!(second["prediction"][0]["label"], "without");
    fails(&mut on("classify", &run, &[]), 2, &["there is no text"]);
    fails(&mut on("fill", &run, &["x"]), 2, &["does not fill masks"]);

    // Other data may not have other classes.
    let other = file(&folder, "other.jsonl", r#"{"text":"abc","label":"maybe"}"#);
    fails(&mut on("eval", &run, &["--data", other.to_str().unwrap()]), 2, &["`maybe`", "model.labels"]);
}

#[test]
fn a_classifier_begins_from_an_encoder_that_fills_masks() {
    let folder = folder();
    let (base, run) = (folder.path().join("base"), folder.path().join("run"));
    ok(&mut debug_train(&base, ENCODER));
    let records = lines(letters(60).map(|(text, has)| json!({ "text": text, "label": has })));
    let data = file(&folder, "data.jsonl", records);
    let settings = "--set model.head=sequence-classification --set data.label_field=label";
    ok(debug_train(&run, settings).arg("--init-from").arg(&base).arg("--data").arg(&data));
    let said = ok(&mut on("classify", &run, &["abc"]));
    assert!(said.contains("true") && said.contains("false"), "{said}");
}

#[test]
fn words_get_classes_and_texts_get_numbers() {
    let folder = folder();
    let word = |index: u32| if index.is_multiple_of(3) { "7" } else { "cat" };
    let records = lines((0..60).map(|number| {
        let words: Vec<&str> = (0..5).map(|index| word(number + index * index)).collect();
        let classes: Vec<&str> = words.iter().map(|word| if *word == "7" { "NUM" } else { "O" }).collect();
        json!({ "text": words, "label": classes })
    }));
    let data = file(&folder, "words.jsonl", records);
    let run = folder.path().join("words");
    let settings = "--set model.architecture=encoder --set model.head=token-classification \
                    --set data.label_field=label --set train.max_steps=60 --set train.learning_rate=5e-3 \
                    --set train.eval_interval=30";
    let train = shown(debug_train(&run, settings).arg("--data").arg(&data));
    has_no_perplexity(&run, &train);
    let said = ok(&mut on("classify", &run, &["cat 7 cat"]));
    let classes: Vec<&str> = said.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    assert_eq!(classes, ["O", "NUM", "O"]);

    let count = |text: &str| text.matches('a').count();
    let records = lines(letters(600).map(|(text, _)| json!({ "text": text, "label": count(&text) })));
    let data = file(&folder, "numbers.jsonl", records);
    let run = folder.path().join("numbers");
    let settings = "--set model.architecture=encoder --set model.head=regression --set model.pooling=mean \
                    --set data.label_field=label --set train.max_steps=400 --set train.learning_rate=3e-3 \
                    --set train.batch_size=16 --set train.eval_interval=100 --set train.eval_batches=0";
    let train = shown(debug_train(&run, settings).arg("--data").arg(&data));
    let found = last_evaluation(&run);
    assert!(found["val_loss"].as_f64().unwrap() < 0.1, "{found}");
    // Nothing is guessed among several, so there is no share of right guesses, either.
    has_no_perplexity(&run, &train);
    assert!(!train.contains("uniform loss"), "{train}");
    let json: Value = serde_json::from_str(&ok(&mut on("eval", &run, &["--json"]))).unwrap();
    assert!(json.get("accuracy").is_none() && json.get("exact_match").is_none(), "{json}");
    let said: f64 = ok(&mut on("classify", &run, &["abbcadbb"])).trim().parse().unwrap();
    assert!((said - 2.0).abs() < 0.5, "{said}");
    assert!(ok(&mut on("eval", &run, &[])).contains("squared error"));
}

#[test]
fn an_encoder_decoder_writes_what_belongs_to_a_text() {
    let folder = folder();
    let records = lines((0..200u32).map(|number| {
        let text: String =
            (0..3).map(|place| char::from(b'a' + (number / 6u32.pow(place) % 6) as u8)).collect();
        json!({ "text": text, "target": text.to_uppercase() })
    }));
    let data = file(&folder, "pairs.jsonl", records);
    let run = folder.path().join("run");
    let settings = "--set model.architecture=encoder-decoder --set data.target_field=target \
                    --set model.position=rotary --set train.max_steps=300 --set train.learning_rate=5e-3 \
                    --set train.batch_size=16 --set train.eval_interval=100 --set train.eval_batches=0 \
                    --set sample.temperature=0 --set sample.prompt=abc";
    ok(debug_train(&run, settings).arg("--data").arg(&data));
    let found = last_evaluation(&run);
    assert!(found["exact_match"].as_f64().unwrap() > 0.9, "{found}");
    assert_eq!(ok(&mut on("generate", &run, &["--prompt", "fab"])), "FAB\n");
    assert_eq!(ok(&mut on("generate", &run, &["--prompt", "fab", "--num-beams", "3"])), "FAB\n");
    let prompts = file(&folder, "prompts.txt", "abc\nde\nfed\n");
    let many = ok(&mut on("generate", &run, &["--prompts", prompts.to_str().unwrap()]));
    assert_eq!((many.lines().next(), many.lines().nth(2)), (Some("ABC"), Some("FED")));
    let text = ok(&mut on("eval", &run, &["--generate"]));
    assert!(text.contains("word errors"), "{text}");
    // Written by the letter, what is right by the letter is right as a whole.
    let json: Value = serde_json::from_str(&ok(&mut on("eval", &run, &["--generate", "--json"]))).unwrap();
    assert_eq!(json["written"]["exact_match"], json["exact_match"]);
}

#[test]
fn an_encoder_decoder_learns_what_was_cut_out() {
    let folder = folder();
    let run = folder.path().join("run");
    let settings = "--set model.architecture=encoder-decoder --set model.position=relative \
                    --set train.max_steps=60 --set train.learning_rate=5e-3";
    ok(&mut debug_train(&run, settings));
    assert!(learned(&run) > 1.1);
    let text =
        ok(&mut on("generate", &run, &["--prompt", "to be or <extra_id_0> be", "--max-new-tokens", "5"]));
    assert!(!text.starts_with("to be"), "{text}");
}

#[test]
fn prefix_attention_learns_a_task() {
    let losses = |prefix: &str| {
        let mut config = kiln::config::presets::Preset::find("copy").unwrap().config().unwrap();
        config.apply(&[format!("model.attention.prefix={prefix}"), "train.max_steps=30".into()]).unwrap();
        losses(trainer(config, "cpu"), 30)
    };
    let (whole, causal) = (losses("true"), losses("false"));
    assert_ne!(whole[0], causal[0]);
    assert!(whole[29] < 0.9 * whole[0], "{whole:?}");
}

#[test]
fn every_pattern_of_attention_trains() {
    for more in [
        "model.position=alibi",
        "model.position=relative",
        "model.attention.sparse_block=4 model.attention.sparse_global_tokens=2",
        "model.attention.sparse_block=4 model.architecture=encoder",
        "model.attention.sliding_window=8 model.architecture=encoder",
        // Rows whose length is rounded up may not leave the context.
        "model.block_size=30 model.architecture=encoder",
        "model.block_size=30 model.architecture=encoder-decoder",
        "model.attention.sliding_window=8 model.architecture=encoder-decoder",
        // Routers of both texts, which differ in length.
        "model.moe.n_experts=3 model.activation=swiglu model.moe.aux_loss=0.1 model.architecture=encoder-decoder",
        "model.moe.n_experts=3 model.activation=swiglu model.architecture=encoder",
    ] {
        let config: Config = crate::support::debug_config(&more.split(' ').collect::<Vec<_>>());
        let found = losses(trainer(config, "cpu"), 20);
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        assert!(mean(&found[15..]) < mean(&found[..2]) - 0.15, "{more:?}: {found:?}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = folder();
    let run = folder.path().join("run");
    let data =
        file(&folder, "data.jsonl", "{\"text\":\"ab\",\"label\":\"x\"}\n{\"text\":\"cd\",\"label\":\"x\"}\n");
    let train = |more: &str| {
        let mut command = debug_train(&run, more);
        command.arg("--data").arg(&data);
        command
    };
    let without_field = "--set model.architecture=encoder --set model.head=sequence-classification";
    fails(&mut train(without_field), 2, &["`data.label_field`", "hint: name the field"]);
    fails(&mut train("--set data.label_field=label"), 2, &["the model gives no classes", "hint: "]);
    fails(&mut train("--set data.target_field=x"), 2, &["only an encoder-decoder", "hint: "]);
    fails(&mut train("--set model.head=token-classification"), 2, &["only encoders classify", "hint: "]);
    fails(&mut train("--set model.head=regression"), 2, &["`data.label_field`", "hint: name the field"]);
    fails(&mut train(CLASSIFIER), 2, &["at least two classes"]);
    let regression =
        "--set model.architecture=encoder --set model.head=regression --set data.label_field=label";
    fails(&mut train(regression), 2, &["data.jsonl` line 1", "not a number"]);
    fails(&mut debug_train(&run, CLASSIFIER), 2, &["the embedded corpus has no field `label`", "--data"]);
    let text = file(&folder, "text.txt", "no fields here");
    fails(debug_train(&run, CLASSIFIER).arg("--data").arg(&text), 2, &["text.txt", "`.jsonl`"]);
    fails(&mut train("--set objective.mask_fraction=1"), 2, &["`objective.mask_fraction`"]);
    let plain = folder.path().join("plain");
    ok(&mut debug_train(&plain, "--set train.max_steps=1"));
    let tokenizer = plain.join("checkpoints/latest/tokenizer.json");
    let with = format!("{ENCODER} --set tokenizer.kind=file --set tokenizer.path={}", tokenizer.display());
    fails(&mut debug_train(&run, &with), 2, &["[MASK]", "hint: "]);
    fails(&mut on("fill", &plain, &["x"]), 2, &["only an encoder", "kiln generate"]);
    assert!(!run.exists());
}
