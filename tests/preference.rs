//! Objectives over preferred and rejected answers, reward models and distillation, by the binary on tiny models.
//! Their numbers are compared with PyTorch's in the fixtures of post-training.

use crate::support::{debug_train, fails, file, folder, kiln, ok, words};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

fn lines(records: impl IntoIterator<Item = Value>) -> String {
    records.into_iter().map(|record| format!("{record}\n")).collect()
}

/// A text for each number, of which the answer that says so is preferred.
fn answers(number: usize) -> [String; 3] {
    let prompt = format!("Is {number} more than {}?", number % 7);
    [prompt, " Yes, it is.".into(), " No.".into()]
}

/// Texts with both answers, which a language model is trained on.
fn texts(folder: &TempDir) -> PathBuf {
    let texts = (0..40).flat_map(|number| {
        let [prompt, chosen, rejected] = answers(number);
        [json!({ "text": format!("{prompt}{chosen}") }), json!({ "text": format!("{prompt}{rejected}") })]
    });
    file(folder, "texts.jsonl", lines(texts))
}

/// Pairs of answers to the prompts of the texts.
pub fn pairs(folder: &TempDir) -> PathBuf {
    let pairs = (0..40).map(|number| {
        let [prompt, chosen, rejected] = answers(number);
        json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
    });
    file(folder, "pairs.jsonl", lines(pairs))
}

/// A language model of the texts.
pub fn base(folder: &TempDir) -> PathBuf {
    let run = folder.path().join("base");
    let settings = "--set data.layout=documents --set train.max_steps=30 --set train.learning_rate=3e-3 \
                    --set model.block_size=48";
    ok(debug_train(&run, settings).arg("--data").arg(texts(folder)));
    run
}

/// A command that trains a model further.
pub fn from(base: &Path, run: &Path, data: &Path, settings: &str) -> Command {
    let mut command = debug_train(run, settings);
    command.arg("--init-from").arg(base).arg("--data").arg(data);
    command
}

/// Events of one type in the log of a run.
fn events(run: &Path, kind: &str) -> Vec<Value> {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let all = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["type"] == kind).collect()
}

fn model_file(run: &Path) -> Vec<u8> {
    fs::read(run.join("checkpoints/latest/model.safetensors")).unwrap()
}

#[test]
fn dpo_begins_as_its_reference_and_resumes_exactly() {
    let folder = folder();
    let (base, pairs) = (base(&folder), pairs(&folder));
    let out = |name: &str| folder.path().join(name);
    let settings = "--set objective.kind=dpo --set train.max_steps=12 --set train.learning_rate=1e-3 \
                    --set train.warmup_steps=0 --set train.min_lr=1e-4 --set train.eval_interval=6";
    ok(&mut from(&base, &out("whole"), &pairs, settings));
    let steps = events(&out("whole"), "step");
    assert!((steps[0]["loss"].as_f64().unwrap() - 2f64.ln()).abs() < 1e-5, "{}", steps[0]);
    let margin = |step: &Value| step["metrics"]["rewards/margin"].as_f64().unwrap();
    assert!(margin(&steps[0]).abs() < 1e-5 && margin(&steps[11]) > 0.0, "{} {}", steps[0], steps[11]);
    let evaluation = events(&out("whole"), "evaluation");
    assert!(evaluation.last().unwrap()["metrics"]["rewards/accuracy"].as_f64().unwrap() > 0.5);

    // The reference is the model of the beginning, also when a run goes on.
    let toml = fs::read_to_string(out("whole").join("checkpoints/latest/kiln.toml")).unwrap();
    assert!(toml.contains("reference = ") && toml.contains("base"), "{toml}");
    ok(&mut from(&base, &out("parts"), &pairs, &format!("{settings} --set train.stop_after=5")));
    let mut resume = kiln(words("train --device cpu --set train.stop_after=0 --resume"));
    ok(resume.arg(out("parts")));
    assert!(model_file(&out("whole")) == model_file(&out("parts")));
    // Kept or computed in each step, the reference's log-probabilities are the same.
    let live = format!("{settings} --set preference.cache_reference=false");
    ok(&mut from(&base, &out("live"), &pairs, &live));
    let live = events(&out("live"), "step");
    for (kept, live) in steps.iter().zip(&live) {
        let difference = kept["loss"].as_f64().unwrap() - live["loss"].as_f64().unwrap();
        assert!(difference.abs() < 1e-4, "{kept} {live}");
    }
    // Dropout is left out, as in the reference, unless it is asked for.
    let dropout = format!("{settings} --set model.dropout=0.2");
    ok(&mut from(&base, &out("without"), &pairs, &dropout));
    assert!(model_file(&out("whole")) == model_file(&out("without")));
    let started = &events(&out("without"), "started")[0];
    let note = "`dpo` trains without the model's dropout (`preference.dropout = true` applies it)";
    assert!(started["notes"].as_array().unwrap().contains(&json!(note)), "{started}");
    ok(&mut from(&base, &out("with"), &pairs, &format!("{dropout} --set preference.dropout=true")));
    assert!(model_file(&out("whole")) != model_file(&out("with")));
    // And measured on pairs that it has not seen.
    let result = ok(kiln(["eval", "--device", "cpu", "--json"]).arg(out("whole")).arg("--data").arg(&pairs));
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["examples"], 40);
    assert!(result["metrics"]["rewards/margin"].as_f64().unwrap() > 0.0, "{result}");
}

/// A new adapter is compared with its base, and one that is trained further with what it was.
#[test]
fn dpo_of_an_adapter_begins_as_its_reference() {
    let folder = folder();
    let (base, pairs) = (base(&folder), pairs(&folder));
    let out = |name: &str| folder.path().join(name);
    let settings = "--set train.max_steps=6 --set train.learning_rate=1e-2 --set train.warmup_steps=0 \
                    --set train.min_lr=1e-3";
    let tuning = format!("{settings} --set adapter.kind=lora --set data.layout=documents");
    ok(&mut from(&base, &out("tuned"), &out("texts.jsonl"), &tuning));
    for (start, name, adapter) in
        [(&base, "new", "--set adapter.kind=lora"), (&out("tuned"), "further", "--set adapter.dropout=0")]
    {
        let run = out(name);
        ok(&mut from(start, &run, &pairs, &format!("{settings} --set objective.kind=dpo {adapter}")));
        let first = &events(&run, "step")[0];
        assert!((first["loss"].as_f64().unwrap() - 2f64.ln()).abs() < 1e-5, "{name}: {first}");
    }
}

#[test]
fn every_preference_objective_prefers_the_chosen_answers() {
    let folder = folder();
    let (base, pairs) = (base(&folder), pairs(&folder));
    let labels = (0..40).map(|number| {
        let [prompt, chosen, rejected] = answers(number);
        let label = number % 2 == 0;
        json!({ "prompt": prompt, "completion": if label { chosen } else { rejected }, "label": label })
    });
    let labels = file(&folder, "labels.jsonl", lines(labels));
    let settings = "--set train.max_steps=10 --set train.learning_rate=1e-3 --set train.warmup_steps=0 \
                    --set train.min_lr=1e-4 --set train.eval_interval=10";
    for (name, data, more) in [
        (
            "robust",
            &pairs,
            "--set objective.kind=dpo --set preference.loss=robust --set preference.label_smoothing=0.1",
        ),
        ("hinge", &pairs, "--set objective.kind=dpo --set preference.loss=hinge"),
        ("ipo", &pairs, "--set objective.kind=dpo --set preference.loss=ipo --set preference.average=true"),
        (
            "cpo",
            &pairs,
            "--set objective.kind=dpo --set preference.reference_free=true --set preference.sft_weight=1",
        ),
        ("simpo", &pairs, "--set objective.kind=simpo"),
        ("orpo", &pairs, "--set objective.kind=orpo"),
        ("kto", &labels, "--set objective.kind=kto"),
    ] {
        let run = folder.path().join(name);
        ok(&mut from(&base, &run, data, &format!("{settings} {more}")));
        let steps = events(&run, "step");
        let margin = |step: &Value| step["metrics"]["rewards/margin"].as_f64().unwrap();
        assert!(margin(steps.last().unwrap()) > margin(&steps[0]), "{name}: {steps:?}");
    }
}

#[test]
fn a_second_model_has_to_be_named_and_to_suit() {
    let folder = folder();
    let (base, pairs) = (base(&folder), pairs(&folder));
    let run = folder.path().join("run");
    let mut alone = debug_train(&run, "--set objective.kind=dpo");
    fails(alone.arg("--data").arg(&pairs), 2, &["`objective.reference`", "--init-from"]);
    let mut alone = debug_train(&run, "--set objective.kind=distill --set data.layout=documents");
    let texts = folder.path().join("texts.jsonl");
    fails(alone.arg("--data").arg(&texts), 2, &["`distill.teacher`", "--save-logits"]);
    // Of another tokenizer.
    let other = folder.path().join("other");
    ok(&mut debug_train(&other, "--set train.max_steps=2 --set model.block_size=48"));
    let distill = |settings: &str| {
        let mut command = debug_train(&run, &format!("--set objective.kind=distill {settings}"));
        command.args(["--set", "data.layout=documents", "--data"]).arg(&texts);
        command
    };
    let teacher = format!("--set distill.teacher={}", other.display());
    let said = ["for `distill.teacher`: its tokenizer is another one", "tokenizer.path="];
    fails(&mut distill(&teacher), 2, &said);
    let reference = format!("--set objective.kind=dpo --set objective.reference={}", other.display());
    fails(&mut from(&base, &run, &pairs, &reference), 2, &["for `objective.reference`: its tokenizer"]);
    // A context that is too short, or none at all.
    let teacher = format!("--set distill.teacher={} --set model.block_size=96", base.display());
    fails(&mut distill(&teacher), 2, &["it reads 48 tokens, but rows have up to 96"]);
    fails(&mut distill("--set distill.teacher=no/model"), 2, &["no/model` does not exist"]);
    let weight = "--set distill.weight=1.5 --set distill.teacher=no/model";
    fails(&mut distill(weight), 2, &["`1.5` for `distill.weight`"]);
    assert!(!run.join("checkpoints/latest").exists());
}

#[test]
fn a_run_that_is_named_as_a_reference_stays_the_checkpoint_that_it_was() {
    let folder = folder();
    let (base, pairs) = (base(&folder), pairs(&folder));
    let run = folder.path().join("run");
    let reference = format!("--set objective.reference={}", base.display());
    let settings = format!("--set objective.kind=dpo --set train.max_steps=2 {reference}");
    ok(&mut from(&base, &run, &pairs, &settings));
    // The run goes on, and this one is resumed with what it began with.
    ok(kiln(words("train --device cpu --set train.max_steps=32 --resume")).arg(&base));
    let toml = fs::read_to_string(run.join("checkpoints/latest/kiln.toml")).unwrap();
    let line = toml.lines().find(|line| line.starts_with("reference = ")).unwrap();
    assert!(line.contains("step-000030"), "{line}");
    ok(kiln(words("train --device cpu --set train.max_steps=3 --resume")).arg(&run));
}

#[test]
fn a_reward_model_orders_answers_and_is_read_from_its_files_alone() {
    let folder = folder();
    let (base, pairs) = (base(&folder), pairs(&folder));
    let run = folder.path().join("reward");
    let settings = "--set objective.kind=reward --set train.max_steps=40 --set train.learning_rate=3e-3 \
                    --set train.warmup_steps=0 --set train.min_lr=1e-3 --set train.eval_interval=20";
    // The head follows from the objective.
    ok(&mut from(&base, &run, &pairs, settings));
    let evaluation = events(&run, "evaluation").pop().unwrap();
    let metric = |name: &str| evaluation["metrics"][name].as_f64().unwrap();
    assert!(metric("rewards/accuracy") > 0.9 && metric("rewards/margin") > 0.0, "{evaluation}");
    assert!((0.0..=0.5).contains(&metric("rewards/calibration_error")), "{evaluation}");
    assert!(ok(kiln(["eval", "--device", "cpu"]).arg(&run)).contains("rewards/accuracy"));

    let checkpoint = run.join("checkpoints/latest");
    let config: Value = serde_json::from_slice(&fs::read(checkpoint.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"], json!(["GPT2ForSequenceClassification"]));
    let classify = |model: &Path, text: &str| -> f64 {
        ok(kiln(["classify", "--device", "cpu"]).arg(model).arg(text)).trim().parse().unwrap()
    };
    let [prompt, chosen, rejected] = answers(5);
    let (chosen, rejected) = (format!("{prompt}{chosen}"), format!("{prompt}{rejected}"));
    assert!(classify(&run, &chosen) > classify(&run, &rejected));
    let alone = folder.path().join("alone");
    fs::create_dir(&alone).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(checkpoint.join(name), alone.join(name)).unwrap();
    }
    assert_eq!(classify(&alone, &chosen), classify(&run, &chosen));
    fails(kiln(["generate", "--device", "cpu"]).arg(&run), 2, &["`model.head`", "kiln classify"]);
}

#[test]
fn a_decoder_learns_numbers_of_texts() {
    let folder = folder();
    let records = (0..300u32).map(|number| {
        let text: String =
            (0..4).map(|place| if number >> place & 1 == 1 { 'a' } else { 'b' }).chain(['.']).collect();
        json!({ "text": text, "label": text.matches('a').count() })
    });
    let data = file(&folder, "numbers.jsonl", lines(records));
    let run = folder.path().join("numbers");
    let settings = "--set model.head=regression --set data.label_field=label --set train.max_steps=150 \
                    --set train.learning_rate=5e-3 --set train.batch_size=16 --set train.eval_interval=50";
    ok(debug_train(&run, settings).arg("--data").arg(&data));
    let said: f64 = ok(kiln(["classify", "--device", "cpu"]).arg(&run).arg("abba.")).trim().parse().unwrap();
    assert!((said - 2.0).abs() < 0.5, "{said}");
}

#[test]
fn a_student_learns_from_a_teacher_or_from_its_saved_logits() {
    let folder = folder();
    let base = base(&folder);
    let texts = folder.path().join("texts.jsonl");
    let tokenizer = base.join("checkpoints/latest/tokenizer.json");
    let common = format!(
        "--set objective.kind=distill --set data.layout=documents --set model.block_size=48 --set model.n_embd=16 \
         --set train.max_steps=8 --set train.eval_interval=8 --set train.learning_rate=3e-3 --set train.warmup_steps=0 \
         --set distill.temperature=2 --set distill.weight=0.7 --set tokenizer.kind=file --set tokenizer.path={}",
        tokenizer.display()
    );
    let train = |name: &str, more: &str| {
        let run = folder.path().join(name);
        ok(debug_train(&run, &format!("{common} {more}")).arg("--data").arg(&texts));
        run
    };
    let live_teacher = format!("--set distill.teacher={}", base.display());
    let live = train("live", &live_teacher);
    let losses = |run: &Path| -> Vec<f64> {
        events(run, "step").iter().map(|step| step["loss"].as_f64().unwrap()).collect()
    };
    assert!(losses(&live).last() < losses(&live).first());
    let evaluation = events(&live, "evaluation").pop().unwrap();
    assert!(evaluation["metrics"]["distill/cross_entropy"].as_f64().unwrap() > 0.0, "{evaluation}");
    assert!(ok(kiln(["eval", "--device", "cpu"]).arg(&live)).contains("perplexity"));

    let logits = folder.path().join("logits");
    let mut save = kiln(words("distill --device cpu --preset debug --set data.layout=documents"));
    save.args(["--set", "model.block_size=48", "--set", "distill.temperature=2", "--set", "distill.top_k=8"]);
    save.arg("--save-logits").arg(&base).arg("--data").arg(&texts).arg("--out").arg(&logits);
    assert!(ok(&mut save).contains("saved the 8 most likely tokens for"));
    let saved = train("saved", &format!("--set distill.logits={}", logits.display()));
    let top = format!("--set distill.teacher={} --set distill.top_k=8", base.display());
    for (saved, live) in losses(&saved).iter().zip(losses(&train("top", &top))) {
        assert!((saved - live).abs() < 1e-4, "{saved} {live}");
    }
    // On its own answers, which no saved logits are of.
    let own = train("own", &format!("--set distill.lambda=1 --set rollout.max_new_tokens=8 {live_teacher}"));
    assert!(events(&own, "step").iter().all(|step| step["metrics"]["distill/on_policy"] == 1.0));
    let evaluation = events(&own, "evaluation").pop().unwrap();
    assert!(evaluation["metrics"]["distill/divergence"].as_f64().unwrap() > 0.0, "{evaluation}");
    let mut refused = debug_train(&folder.path().join("refused"), &common);
    refused.args(["--set", "distill.lambda=0.5", "--set", &format!("distill.logits={}", logits.display())]);
    fails(&mut refused, 2, &["`0.5` for `distill.lambda`", "distill.teacher"]);
    // Rows of other data have no logits.
    let other = file(&folder, "other.jsonl", lines((0..9).map(|_| json!({ "text": "Is it? No." }))));
    let mut command = debug_train(&folder.path().join("none"), &common);
    command.args(["--set", &format!("distill.logits={}", logits.display()), "--data"]).arg(other);
    fails(&mut command, 2, &["`distill.logits`", "not among the saved ones"]);
    let mut stream = kiln(words("distill --device cpu --preset debug"));
    stream.arg("--save-logits").arg(&base).arg("--out").arg(&logits);
    fails(&mut stream, 2, &["`stream` for `data.layout`"]);
}
