//! `kiln convert` writes the same model. That transformers loads it was checked by hand with:
//!
//! ```python
//! model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)  # transformers 5.23.0
//! ```

use crate::{
    parity::{copy_of, fixture},
    support::{debug_train, fails, file, folder, kiln, ok, words},
};
use kiln::{
    checkpoint::tensors::{self, FloatType},
    model::parameters::NamedData,
};
use serde_json::Value;
use std::{fs, path::Path};

fn convert(source: &Path, destination: &Path, more: &str) -> String {
    ok(kiln(["convert"]).arg(source).arg(destination).args(words(more)))
}

fn weights(folder: &Path) -> NamedData {
    tensors::read(&fs::read(folder.join("model.safetensors")).unwrap()).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn types_layouts_and_files_give_the_same_model() {
    for family in ["gpt2", "llama", "bert", "t5"] {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let source = fixture(family);
        let original = weights(&source);

        convert(&source, &at("f32"), "");
        assert_eq!(weights(&at("f32")), original, "{family}");
        assert_eq!(json(&at("f32/config.json")), json(&source.join("config.json")));
        let generation = "generation_config.json";
        assert_eq!(at("f32").join(generation).is_file(), source.join(generation).is_file());

        for (name, float, torch) in
            [("bf16", FloatType::Bf16, "bfloat16"), ("f16", FloatType::F16, "float16")]
        {
            let text = convert(&source, &at(name), &format!("--dtype {name}"));
            assert!(text.contains(family) && text.contains(name), "{text}");
            let rounded = tensors::read(&tensors::write(&original, float).unwrap()).unwrap();
            assert_ne!(rounded, original);
            assert_eq!(weights(&at(name)), rounded);
            assert_eq!(json(&at(name).join("config.json"))["dtype"], torch);
            // Without a type it stays what it is.
            convert(&at(name), &at("again"), "");
            assert_eq!(
                fs::read(at("again/model.safetensors")).unwrap(),
                fs::read(at(name).join("model.safetensors")).unwrap()
            );
            fs::remove_dir_all(at("again")).unwrap();
        }

        // In parts and back.
        convert(&source, &at("parts"), "--max-shard-size 30KB");
        let index = json(&at("parts/model.safetensors.index.json"));
        let bytes = original.values().map(|tensor| 4 * tensor.values.len() as u64).sum::<u64>();
        assert_eq!(index["metadata"]["total_size"], bytes, "{index}");
        assert_eq!(index["weight_map"].as_object().unwrap().len(), original.len());
        convert(&at("parts"), &at("joined"), "");
        assert_eq!(weights(&at("joined")), original);

        // Under Kiln's names and back.
        convert(&source, &at("kiln"), "--layout kiln");
        assert_eq!(json(&at("kiln/config.json"))["model_type"], "kiln");
        assert!(weights(&at("kiln")).contains_key("embedding") && at("kiln/manifest.json").is_file());
        convert(&at("kiln"), &at("back"), "");
        assert_eq!(weights(&at("back")), original);
        let (config, back) = (json(&source.join("config.json")), json(&at("back/config.json")));
        for key in ["model_type", "vocab_size", "eos_token_id", "tie_word_embeddings"] {
            assert_eq!(back[key], config[key], "{key}");
        }
        assert!(
            !folder.path().read_dir().unwrap().any(|e| e
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with('.'))
        );
    }
}

#[test]
fn a_run_comes_with_its_tokenizer() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.max_steps=2"));
    let out = folder.path().join("out");
    // An empty folder may be filled.
    fs::create_dir(&out).unwrap();
    convert(&run, &out, "--dtype bf16");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let original = fs::read(run.join("checkpoints/latest").join(name)).unwrap();
        assert_eq!(fs::read(out.join(name)).unwrap(), original, "{name}");
    }
    assert!(!out.join("optimizer.safetensors").exists() && !out.join("kiln.toml").exists());
    ok(kiln(["generate", "--device", "cpu", "--max-new-tokens", "5"]).arg(&out));
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written_is_left() {
    let folder = folder();
    let precious = file(&folder, "precious", "mine");
    let convert = |destination: &Path, more: &str| {
        let mut command = kiln(["convert"]);
        command.arg(fixture("gpt2")).arg(destination).args(words(more));
        command
    };
    fails(&mut convert(folder.path(), ""), 2, &["`DST`", "hint: name a new or empty folder"]);
    fails(&mut convert(&precious, ""), 2, &["`DST`", "hint: "]);
    fails(&mut convert(&fixture("gpt2"), ""), 2, &["`DST`"]);
    assert_eq!(fs::read(&precious).unwrap(), b"mine");
    for wrong in ["--dtype f8", "--max-shard-size 5XB", "--max-shard-size 0", "--layout gguf"] {
        let output = convert(&folder.path().join("new"), wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
    // Numbers that f16 does not have.
    let copy = copy_of("gpt2", &folder);
    let mut large = weights(&copy);
    large.get_mut("transformer.wte.weight").unwrap().values[7] = 1e5;
    fs::write(copy.join("model.safetensors"), tensors::write(&large, FloatType::F32).unwrap()).unwrap();
    let new = folder.path().join("new");
    let mut command = kiln(["convert", "--dtype", "f16"]);
    let told = ["`transformer.wte.weight` has the number 100000, beyond the range of f16", "bf16"];
    fails(command.arg(&copy).arg(&new), 2, &told);
    // What no family of transformers computes.
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.max_steps=2 --set model.position=sinusoidal"));
    fails(kiln(["convert"]).arg(&run).arg(&new), 2, &["no Hugging Face family", "`--layout kiln`"]);
    assert!(!new.exists());
    ok(kiln(["convert", "--layout", "kiln"]).arg(&run).arg(&new));
    ok(kiln(["generate", "--device", "cpu", "--max-new-tokens", "5"]).arg(&new));
}
