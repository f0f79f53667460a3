//! Adapters by the command line: trained, resumed, generated with, merged, shown, refused for another model; and PEFT's
//! own files.

use crate::support::{debug_config, debug_train, fails, folder, kiln, ok, words};
use kiln::{
    checkpoint::{Checkpoint, Weights, tensors},
    data::Dataset,
    device::Choice,
    eval::verify::SUBJECTS,
    train::Trainer,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/post")
}

/// Trains a small base.
pub fn base(folder: &TempDir, name: &str, more: &str) -> PathBuf {
    let run = folder.path().join(name);
    ok(&mut debug_train(&run, more));
    run
}

/// A command that trains an adapter of rank 4.
pub fn adapt(base: &Path, run: &Path, more: &str) -> Command {
    let mut command = debug_train(run, "--set adapter.kind=lora --set adapter.r=4");
    command.arg("--init-from").arg(base).args(words(more));
    command
}

/// Folder of a run's newest checkpoint.
pub fn latest(run: &Path) -> PathBuf {
    run.join("checkpoints/latest").canonicalize().unwrap()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn adapters_agree_with_peft() {
    let subject = SUBJECTS.iter().find(|subject| subject.name == "lora").unwrap();
    let cases = (subject.verify)(&fixtures(), &Choice::cpu().open().unwrap()).unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let failures: Vec<_> = case.failures().collect();
        assert!(failures.is_empty(), "{}: {failures:?}", case.name);
        assert!(case.differences.len() > 20, "{}", case.name);
    }
}

#[test]
fn checkpoints_hold_only_the_adapter_and_leave_the_base_as_it_was() {
    let folder = folder();
    let base = base(&folder, "base", "");
    let before = fs::read(latest(&base).join("model.safetensors")).unwrap();
    let run = folder.path().join("lora");
    ok(&mut adapt(&base, &run, "--set train.ema_decay=0.9 --set train.learning_rate=1e-2"));
    let checkpoint = latest(&run);
    let names = names_in(&checkpoint);
    for name in
        ["adapter_config.json", "adapter_model.safetensors", "base.json", "ema.safetensors", "kiln.toml"]
    {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    assert!(!names.contains("model.safetensors") && !names.contains("config.json"), "{names:?}");
    assert!(fs::read(latest(&base).join("model.safetensors")).unwrap() == before);
    let adapter = tensors::read(&fs::read(checkpoint.join("adapter_model.safetensors")).unwrap()).unwrap();
    assert!(adapter.keys().all(|key| key.contains(".lora_A.weight") || key.contains(".lora_B.weight")));
    let moments = tensors::read(&fs::read(checkpoint.join("optimizer.safetensors")).unwrap()).unwrap();
    assert_eq!(moments.len(), 2 * adapter.len());
    assert!(moments.keys().all(|name| name.contains(".adapter.")), "{moments:?}");
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(checkpoint.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(
        (&config["peft_type"], &config["r"], &config["fan_in_fan_out"]),
        (&"LORA".into(), &4.into(), &true.into())
    );
    assert_eq!(config["base_model_name_or_path"].as_str(), latest(&base).to_str());
    // The adapter has learned something.
    let b = adapter.iter().filter(|(key, _)| key.contains("lora_B"));
    assert!(b.flat_map(|(_, tensor)| &tensor.values).any(|value| *value != 0.0));
}

#[test]
fn resume_does_not_lose_the_adapter() {
    let folder = folder();
    let base = base(&folder, "base", "");
    let (whole, part) = (folder.path().join("whole"), folder.path().join("part"));
    let settings = "--set adapter.dropout=0.2 --set train.ema_decay=0.9 --set train.learning_rate=1e-2";
    ok(&mut adapt(&base, &whole, settings));
    ok(&mut adapt(&base, &part, &format!("{settings} --set train.stop_after=7")));
    ok(kiln(words("train --device cpu --set train.stop_after=0 --resume")).arg(&part));
    for name in
        ["adapter_model.safetensors", "optimizer.safetensors", "ema.safetensors", "adapter_config.json"]
    {
        let read = |run: &Path| fs::read(latest(run).join(name)).unwrap();
        assert!(read(&whole) == read(&part), "{name} differs");
    }
    let mut command = kiln(words("train --device cpu --set train.max_steps=30 --set adapter.r=8 --resume"));
    fails(command.arg(&part), 2, &["`[adapter]` differs"]);
}

/// Where the frozen weights below an adapter have no gradient, it may have none either. Kiln keeps all activations, so
/// that only micro-batches could lose it.
#[test]
fn gradients_of_lora_are_not_zero_over_frozen_weights() {
    let folder = folder();
    let base = base(&folder, "base", "");
    let checkpoint = Checkpoint::open_model(&base).unwrap();
    let step = |overrides: &[&str]| {
        let adapter = ["adapter.kind=lora", "adapter.r=4", "train.warmup_steps=0"];
        let mut config = debug_config(&[&adapter[..], overrides].concat());
        config.model = checkpoint.model.clone();
        let dataset = Dataset::prepare(&config, Some(checkpoint.tokenizer().unwrap())).unwrap();
        let config = config.resolve(&dataset).unwrap();
        let device = Choice::cpu().open().unwrap();
        let mut trainer = Trainer::start_from(config, dataset, &device, &checkpoint).unwrap();
        trainer.step();
        let (_, norm) = pollster::block_on(trainer.last_numbers()).unwrap();
        assert!(norm > 0.0);
        let files = pollster::block_on(trainer.checkpoint()).unwrap();
        tensors::read(files.get("adapter_model.safetensors").unwrap()).unwrap()
    };
    let at_once = step(&["train.batch_size=4"]);
    let in_parts = step(&["train.batch_size=1", "train.gradient_accumulation_steps=4"]);
    assert!(at_once.keys().eq(in_parts.keys()));
    for (key, tensor) in &at_once {
        let pairs = tensor.values.iter().zip(&in_parts[key].values);
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-5), "{key}");
        assert!(!key.contains("lora_B") || pairs.clone().any(|(a, _)| *a != 0.0), "{key}");
    }
}

#[test]
fn an_adapter_of_another_base_is_refused() {
    let folder = folder();
    let (first, second) = (base(&folder, "first", ""), base(&folder, "second", "--set train.seed=2"));
    let run = folder.path().join("lora");
    ok(&mut adapt(&first, &run, ""));
    let generate = |model: &Path| {
        let mut command = kiln(words("generate --device cpu --max-new-tokens 2"));
        command.arg(model).arg("--adapter").arg(&run);
        command
    };
    ok(&mut generate(&first));
    fails(&mut generate(&second), 2, &["an adapter of another model than", "second", "hint: "]);
    // One that was overwritten, and one that has moved.
    let weights = latest(&second).join("model.safetensors");
    let place = latest(&first);
    fs::rename(place.join("model.safetensors"), folder.path().join("kept")).unwrap();
    fs::copy(&weights, place.join("model.safetensors")).unwrap();
    let manifest = place.join("manifest.json");
    fs::rename(&manifest, folder.path().join("manifest")).unwrap();
    let resume = |more: &str| {
        let mut command = kiln(words("train --device cpu --set train.max_steps=22"));
        command.args(words(more)).arg("--resume").arg(&run);
        command
    };
    fails(&mut resume(""), 2, &["an adapter of another model"]);
    fs::rename(folder.path().join("kept"), place.join("model.safetensors")).unwrap();
    let moved = folder.path().join("moved");
    fs::rename(&place, &moved).unwrap();
    fails(&mut resume(""), 2, &["does not exist", "--adapter", "adapter.base"]);
    ok(&mut resume(&format!("--set adapter.base={}", moved.display())));
}

#[test]
fn adapters_of_peft_are_read_shown_and_trained_further() {
    let folder = folder();
    let adapter = fixtures().join("lora/llama-patterns-head");
    let report: serde_json::Value =
        serde_json::from_str(&ok(kiln(["inspect", "--json"]).arg(&adapter))).unwrap();
    let shown = &report["adapters"][0];
    assert_eq!(
        (&shown["rank"], &shown["modules"], &shown["base"]),
        (&4.into(), &2.into(), &"models/llama".into())
    );
    assert_eq!(report["model"]["family"], "llama");
    let text = ok(kiln(["inspect"]).arg(fixtures().join("models/llama")).arg("--adapter").arg(&adapter));
    assert!(text.contains("lora of rank 4, alpha 8") && text.contains("whole lm_head.weight"), "{text}");

    let further = |more: &str| {
        let run = folder.path().join("further");
        let mut command = debug_train(&run, "--set tokenizer.kind=char --set train.max_steps=2");
        command.arg("--init-from").arg(&adapter).args(words(more));
        command
    };
    fails(&mut further("--set adapter.r=8"), 2, &["`8` for `adapter.r`", "has `4`", "kiln merge"]);
    ok(&mut further("--set adapter.dropout=0.1"));
    let further = latest(&folder.path().join("further"));
    let read =
        |path: &Path| tensors::read(&fs::read(path.join("adapter_model.safetensors")).unwrap()).unwrap();
    let (old, new) = (read(&adapter), read(&further));
    assert!(old.keys().eq(new.keys()));
    assert!(old.iter().all(|(key, tensor)| new[key].values != tensor.values));
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(further.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(config["rank_pattern"], serde_json::json!({ "q_proj": 2 }));

    // Without a model beside it, it says what it needs.
    let alone = folder.path().join("alone");
    fs::create_dir(&alone).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(adapter.join(name), alone.join(name)).unwrap();
    }
    let mut generate = kiln(words("generate --device cpu"));
    fails(generate.arg(&alone), 2, &["`models/llama` does not exist", "--adapter"]);
    assert!(ok(kiln(["inspect"]).arg(&alone)).contains("lora of rank 4"));
    let opened = Checkpoint::open_model(&adapter).unwrap();
    assert!(opened.is_adapter() && opened.weights(Weights::Latest).is_err());
}

#[test]
fn adapters_need_a_model_and_modules_that_it_has() {
    let folder = folder();
    let run = folder.path().join("run");
    fails(&mut debug_train(&run, "--set adapter.kind=lora"), 2, &["no pretrained model", "--init-from"]);
    let base = base(&folder, "base", "--set train.max_steps=2");
    let run = folder.path().join("lora");
    fails(
        &mut adapt(&base, &run, "--set adapter.targets=['q_proj']"),
        2,
        &["`q_proj` for `adapter.targets`", "`transformer.h.0.attn.c_attn`"],
    );
    fails(
        &mut adapt(&base, &run, "--set adapter.modules_to_save=['lm_head']"),
        2,
        &["`lm_head`", "token embedding"],
    );
}

#[test]
fn a_new_head_is_trained_with_the_adapter() {
    let folder = folder();
    let encoder = "--set model.architecture=encoder --set model.position=rotary --set train.max_steps=3";
    let base = base(&folder, "base", encoder);
    let records = folder.path().join("mails.jsonl");
    let mail = |i: usize| {
        let label = if i.is_multiple_of(2) { "spam" } else { "ham" };
        format!("{{\"text\": \"buy {} now\", \"label\": \"{label}\"}}\n", "x".repeat(1 + i % 5))
    };
    let lines: String = (0..60).map(mail).collect();
    fs::write(&records, lines).unwrap();
    let run = folder.path().join("lora");
    let head =
        "--set model.head=sequence-classification --set data.label_field=label --set train.max_steps=4";
    ok(adapt(&base, &run, head).arg("--data").arg(&records));
    let merged = folder.path().join("merged");
    ok(kiln(["merge"]).arg(&run).arg("--out").arg(&merged));
    let classify = |model: &Path| -> (String, f64) {
        let text = ok(kiln(words("classify --device cpu --json")).arg(model).arg("buy xx now"));
        let guess = &serde_json::from_str::<serde_json::Value>(&text).unwrap()["prediction"][0];
        (guess["label"].as_str().unwrap().to_owned(), guess["probability"].as_f64().unwrap())
    };
    let (own, merged) = (classify(&run), classify(&merged));
    assert!(own.0 == merged.0 && (own.1 - merged.1).abs() < 1e-4, "{own:?} {merged:?}");
    ok(kiln(words("train --device cpu --set train.max_steps=5 --resume")).arg(&run));
}
