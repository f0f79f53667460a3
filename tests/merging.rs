//! Models with adapters in their weights: they compute what the adapters do beside the weights, after saving and
//! reading, with tied embeddings too, and as GGUF.

use crate::{
    adapter::{adapt, base, latest},
    gguf,
    support::{fails, folder, kiln, ok, words},
};
use kiln::{checkpoint::tensors, model::parameters::NamedData};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A file of text that is not the runs' own.
fn text(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("text.txt");
    fs::write(&path, "To be, or not to be: that is the question.\n".repeat(20)).unwrap();
    path
}

/// Loss of a model on a text that it does not know.
fn loss(folder: &TempDir, model: &Path) -> f64 {
    let text = ok(kiln(words("eval --json --device cpu --data")).arg(text(folder)).arg(model));
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["loss"].as_f64().unwrap()
}

fn greedy(model: &Path, adapters: &[&Path]) -> String {
    let mut command = kiln(words("generate --device cpu --temperature 0 --max-new-tokens 20 --prompt ROMEO"));
    command.arg(model);
    for adapter in adapters {
        command.arg("--adapter").arg(adapter);
    }
    ok(&mut command)
}

fn merge(model: &Path, adapters: &[&str], out: &Path) -> Command {
    let mut command = kiln(["merge"]);
    command.arg(model).arg("--out").arg(out);
    for adapter in adapters {
        command.args(["--adapter", adapter]);
    }
    command
}

fn weights(folder: &Path) -> NamedData {
    tensors::read(&fs::read(folder.join("model.safetensors")).unwrap()).unwrap()
}

#[test]
fn merged_and_unmerged_agree_after_save_and_load() {
    let folder = folder();
    for (name, more) in [("tied", ""), ("untied", "--set model.tie_embeddings=false")] {
        let base = base(&folder, name, more);
        let run = folder.path().join(format!("{name}-dora"));
        let more = "--set adapter.kind=dora --set train.learning_rate=1e-2 --set adapter.targets=['all-linear','wte']";
        let more =
            if name == "tied" { more } else { "--set adapter.kind=dora --set train.learning_rate=1e-2" };
        ok(&mut adapt(&base, &run, more));
        let merged = folder.path().join(format!("{name}-merged"));
        ok(kiln(["merge"]).arg(&run).arg("--out").arg(&merged));
        let own = greedy(&run, &[]);
        assert_eq!(greedy(&merged, &[]), own);
        assert_eq!(greedy(&base, &[&run]), own);
        let (own, merged_loss) = (loss(&folder, &run), loss(&folder, &merged));
        assert!((own - merged_loss).abs() < 1e-4, "{own} {merged_loss}");
        assert!((own - loss(&folder, &base)).abs() > 1e-4, "{own}");
        let config = fs::read_to_string(merged.join("config.json")).unwrap();
        assert!(config.contains("\"tie_word_embeddings\": false"), "{config}");
        fails(
            kiln(["merge"]).arg(&base).arg("--out").arg(folder.path().join("x")),
            2,
            &["nothing to merge", "hint: "],
        );
        let mut convert = kiln(["convert"]);
        fails(convert.arg(&run).arg(folder.path().join("y")), 2, &["an adapter", "kiln merge"]);
    }
}

/// peft#2972: merging collapsed tied embeddings.
#[test]
fn a_tied_embedding_that_both_sides_adapt_stays_tied_after_merging() {
    let folder = folder();
    let base = base(&folder, "base", "");
    let at = |name: &str| folder.path().join(name);
    let settings = "--set train.learning_rate=1e-2 --set adapter.targets=['all-linear','wte'] \
                    --set adapter.weight_tying=true";
    ok(&mut adapt(&base, &at("lora"), settings));
    ok(&mut merge(&at("lora"), &[], &at("merged")));
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(at("merged/config.json")).unwrap()).unwrap();
    assert_ne!(config["tie_word_embeddings"], false, "{config}");
    assert!(!weights(&at("merged")).contains_key("lm_head.weight"));
    assert_ne!(
        weights(&at("merged"))["transformer.wte.weight"],
        weights(&latest(&base))["transformer.wte.weight"]
    );
    assert_eq!(greedy(&at("merged"), &[]), greedy(&at("lora"), &[]));
    let (merged, own) = (loss(&folder, &at("merged")), loss(&folder, &at("lora")));
    assert!((merged - own).abs() < 1e-4, "{merged} {own}");
}

#[test]
fn several_adapters_are_merged_by_their_weights() {
    let folder = folder();
    let base = base(&folder, "base", "");
    let at = |name: &str| folder.path().join(name);
    for (name, seed) in [("first", 1), ("second", 2)] {
        let settings = format!("--set train.learning_rate=1e-2 --set train.seed={seed}");
        ok(&mut adapt(&base, &at(name), &settings));
    }
    let (first, second) = (at("first").display().to_string(), at("second").display().to_string());
    let half = format!("{second}=0.5");
    ok(&mut merge(&base, &[&first], &at("merged-first")));
    ok(&mut merge(&base, &[&second], &at("merged-second")));
    ok(&mut merge(&base, &[&first, &half], &at("both")));
    // An adapter stands for its base with it.
    ok(&mut merge(&at("first"), &[&half], &at("again")));
    assert_eq!(weights(&at("again")), weights(&at("both")));
    let plain = weights(&latest(&base));
    let [one, two, both] = ["merged-first", "merged-second", "both"].map(|name| weights(&at(name)));
    let mut changed = 0;
    for (name, tensor) in &plain {
        for (index, base) in tensor.values.iter().enumerate() {
            let value = |of: &NamedData| of[name].values[index];
            let expected = value(&one) + 0.5 * (value(&two) - base);
            assert!((value(&both) - expected).abs() < 1e-6, "{name}: {} {expected}", value(&both));
            changed += usize::from(value(&one) != *base && value(&two) != *base);
        }
    }
    assert!(changed > 1000, "{changed}");
    assert_eq!(greedy(&base, &[Path::new(&first), Path::new(&half)]), greedy(&at("both"), &[]));
}

#[test]
fn an_adapter_is_merged_once_and_into_its_own_base() {
    let folder = folder();
    let (first, second) = (base(&folder, "first", ""), base(&folder, "second", "--set train.seed=2"));
    let at = |name: &str| folder.path().join(name);
    ok(&mut adapt(&first, &at("lora"), "--set train.learning_rate=1e-2"));
    ok(&mut merge(&at("lora"), &[], &at("merged")));
    let lora = at("lora").display().to_string();
    fails(&mut merge(&at("merged"), &[], &at("x")), 2, &["nothing to merge", "--adapter DIR"]);
    fails(&mut merge(&at("merged"), &[&lora], &at("x")), 2, &["an adapter of another model than", "merged"]);
    fails(&mut merge(&second, &[&lora], &at("x")), 2, &["an adapter of another model than", "second"]);
    fails(&mut merge(&first, &[&lora], &at("merged")), 2, &["something is there already"]);
    assert!(!at("x").exists());

    // PEFT leaves the tokenizer to the base.
    let alone = at("alone");
    fs::create_dir(&alone).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(latest(&at("lora")).join(name), alone.join(name)).unwrap();
    }
    ok(&mut merge(&alone, &[], &at("of-files")));
    assert_eq!(weights(&at("of-files")), weights(&at("merged")));
    let tokenizer = |folder: &Path| fs::read(folder.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer(&at("of-files")), tokenizer(&latest(&first)));
}

#[test]
fn an_adapter_becomes_a_gguf_file_once_it_is_merged() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    gguf::trained(&at("base"));
    ok(&mut adapt(&at("base"), &at("lora"), "--set train.learning_rate=1e-2"));
    let convert = |source: &str, destination: &str, more: &str| {
        let mut command = kiln(["convert"]);
        command.arg(at(source)).arg(at(destination)).args(words(more));
        command
    };
    for more in ["", "--dtype f16", "--dtype q8_0"] {
        fails(&mut convert("lora", "x.gguf", more), 2, &["an adapter", "kiln merge DIR --out MODEL"]);
    }
    assert!(!at("x.gguf").exists());
    ok(&mut merge(&at("lora"), &[], &at("merged")));
    ok(&mut convert("merged", "merged.gguf", ""));
    ok(&mut convert("merged.gguf", "back", ""));
    assert_eq!(weights(&at("back")), weights(&at("merged")));
    assert_ne!(weights(&at("merged")), weights(&latest(&at("base"))));
    assert_eq!(greedy(&at("merged.gguf"), &[]), greedy(&at("lora"), &[]));
    let (file, own) = (loss(&folder, &at("merged.gguf")), loss(&folder, &at("lora")));
    assert!((file - own).abs() < 1e-4, "{file} {own}");
}
