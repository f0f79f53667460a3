//! `kiln train --init-from`: a new run starts from the weights of a pretrained model.

use crate::{
    parity::copy_of,
    support::{debug_config, debug_train, fails, file, folder, kiln, ok, words},
};
use kiln::{
    checkpoint::{Checkpoint, tensors},
    data::Dataset,
    device::Choice,
    train::Trainer,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn from(model: &Path, run: &Path, more: &str) -> Command {
    let mut command = debug_train(run, more);
    command.arg("--init-from").arg(model);
    command
}

fn first_loss(run: &Path) -> f64 {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let mut lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let first = lines.find(|event| event["type"] == "step").unwrap();
    assert_eq!(first["step"], 1);
    first["loss"].as_f64().unwrap()
}

/// Trains a run of a few steps.
fn base(folder: &tempfile::TempDir, more: &str) -> PathBuf {
    let run = folder.path().join("base");
    ok(&mut debug_train(&run, more));
    run
}

#[test]
fn weights_are_taken_as_they_are_and_the_rest_begins_anew() {
    let folder = folder();
    let base = base(&folder, "--set model.n_embd=48 --set model.n_head=3 --set train.learning_rate=1e-2");
    let checkpoint = Checkpoint::open_model(&base).unwrap();
    let mut config = debug_config(&[]);
    config.model = checkpoint.model.clone();
    let dataset = Dataset::prepare(&config, Some(checkpoint.tokenizer().unwrap())).unwrap();
    let config = config.resolve(&dataset).unwrap();
    let trainer = Trainer::start_from(config, dataset, &Choice::cpu().open().unwrap(), &checkpoint).unwrap();
    let files = pollster::block_on(trainer.checkpoint()).unwrap();
    let model = fs::read(base.join("checkpoints/latest/model.safetensors")).unwrap();
    assert_eq!(files.get("model.safetensors"), Some(&model[..]));
    assert_eq!(tensors::read(files.get("optimizer.safetensors").unwrap()).unwrap().len(), 0);
    assert_eq!(trainer.steps_done(), 0);

    // By a run, a checkpoint, its file, and the folder that `kiln convert` makes of it.
    let out = |name: &str| folder.path().join(name);
    ok(kiln(["convert", "--max-shard-size", "20KB"]).arg(&base).arg(out("converted")));
    let file = base.join("checkpoints/latest/model.safetensors");
    for (name, path) in
        [("a", base.clone()), ("b", base.join("checkpoints/best")), ("c", file), ("d", out("converted"))]
    {
        ok(&mut from(&path, &out(name), "--set train.max_steps=2"));
        let config = fs::read_to_string(out(name).join("checkpoints/latest/kiln.toml")).unwrap();
        for line in ["n_embd = 48", "n_head = 3", "kind = \"file\"", "tokenizer.json\""] {
            assert!(config.contains(line), "{line}: {config}");
        }
        let (new, old) = (first_loss(&out(name)), first_loss(&base));
        assert!(new < old - 0.2, "{new} after {old}");
    }
    // And goes on like any run.
    ok(kiln(words("train --device cpu --set train.max_steps=4 --resume")).arg(out("a")));
}

#[test]
fn only_the_context_and_the_dropout_may_differ() {
    let folder = folder();
    let base = base(&folder, "--set train.max_steps=2");
    let new = folder.path().join("new");
    let refused = |settings: &str, parts: &[&str]| {
        let mut all = vec!["hint: leave it out: `--init-from` takes the model as it is"];
        all.extend(parts);
        fails(&mut from(&base, &new, settings), 2, &all);
    };
    refused("--set model.n_layer=3", &["`3` for `model.n_layer`", "has `2`"]);
    refused("--set model.position=rotary", &["`rotary` for `model.position`", "has `learned`"]);
    refused("--set model.n_kv_head=1", &["`model.n_kv_head`"]);
    refused("--set model.block_size=4096", &["`4096` for `model.block_size`", "positions for 32 tokens"]);
    let toml = file(&folder, "run.toml", "[model]\nn_embd = 64\n[train]\nmax_steps = 2\n");
    let mut command = kiln(words("train --device cpu --config"));
    command.arg(&toml).arg("--out").arg(&new).arg("--init-from").arg(&base);
    fails(&mut command, 2, &["`64` for `model.n_embd`", "has `32`"]);
    let mut command = from(&base, &new, "");
    let output = command.arg("--resume").arg(&base).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && stderr.contains("--resume"), "{stderr}");
    fails(&mut from(Path::new("no/model"), &new, ""), 2, &["`no/model` does not exist", "hint: "]);
    assert!(!new.exists());

    // The same said again is no contradiction, and 0 is what it stands for.
    let settings = "--set model.n_layer=2 --set model.n_kv_head=0 --set model.vocab_size=0 --set model.dropout=0.1 \
                    --set model.block_size=8 --set train.max_steps=2";
    ok(&mut from(&base, &new, settings));
    let config = fs::read_to_string(new.join("checkpoints/latest/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!((&config["n_positions"], &config["resid_pdrop"]), (&8.into(), &0.1.into()), "{config}");
}

#[test]
fn the_tokenizer_is_the_models_or_one_that_fits() {
    let folder = folder();
    let new = folder.path().join("new");
    for family in ["gpt2", "llama"] {
        let copy = copy_of(family, &folder);
        let out = folder.path().join(format!("{family}-run"));
        fails(
            &mut from(&copy, &new, ""),
            2,
            &["tokenizer.json` does not exist", "`--set tokenizer.kind=file"],
        );
        let mut large = from(&copy, &new, "--set tokenizer.kind=byte");
        fails(&mut large, 2, &["`byte` for `tokenizer.kind`", "it has 256 tokens", "has 101", "hint: "]);
        let mut large = from(&copy, &new, "--set tokenizer.kind=bpe --set tokenizer.vocab_size=300");
        fails(&mut large, 2, &["`bpe` for `tokenizer.kind`", "it has 300 tokens", "has 101", "hint: "]);
        assert!(!new.exists());
        ok(&mut from(&copy, &out, "--set tokenizer.kind=char --set train.max_steps=2"));

        ok(kiln(["tokenizer", "train", "--kind", "char", "--out"]).arg(copy.join("tokenizer.json")));
        let greek = file(&folder, "greek.txt", "μῆνιν ἄειδε θεά ".repeat(100));
        let mut unknown = from(&copy, &new, "");
        fails(unknown.arg("--data").arg(greek), 2, &["does not fit the data", "hint: "]);
        let out = folder.path().join(format!("{family}-own"));
        ok(&mut from(&copy, &out, "--set train.max_steps=2"));
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("checkpoints/latest/config.json")).unwrap()).unwrap();
        assert_eq!((&config["model_type"], &config["vocab_size"]), (&family.into(), &101.into()));
    }
}
