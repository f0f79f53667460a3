//! Tests of Hugging Face configurations with absent keys, and with absent output projections.

use super::report;
use crate::{
    parity::{copy_of, fixture},
    support::{fails, folder, kiln, ok, words},
};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln::{
    checkpoint::{
        Checkpoint, Export, Names, Weights,
        tensors::{self, FloatType},
    },
    device::Choice,
    model::{
        Input, Side,
        families::Family,
        parameters::{HostTensor, NamedData},
    },
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};

fn verify(folder: &Path) -> std::process::Command {
    let mut command = kiln(["verify", "--device", "cpu"]);
    command.arg(folder);
    command
}

fn inspect(folder: &Path) -> Value {
    serde_json::from_str(&ok(kiln(["inspect", "--json"]).arg(folder))).unwrap()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Changes a model's `config.json`; null removes a key.
fn configure(model: &Path, changes: Value) {
    let path = model.join("config.json");
    let mut config = json_of(&path);
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(config.as_object_mut().unwrap().remove(key)),
            _ => config[key] = value.clone(),
        }
    }
    fs::write(path, config.to_string()).unwrap();
}

fn change_weights(model: &Path, change: impl FnOnce(&mut NamedData)) {
    let path = model.join("model.safetensors");
    let mut weights = tensors::read(&fs::read(&path).unwrap()).unwrap();
    change(&mut weights);
    fs::write(path, tensors::write(&weights, FloatType::F32).unwrap()).unwrap();
}

/// The numbers in the fixtures come from transformers 5.23.0: `AutoModelForCausalLM.from_pretrained(folder)`.
#[test]
fn a_key_that_is_absent_has_the_default_of_its_class() {
    for name in ["config-defaults/gemma2-without-caps", "config-defaults/gpt2-oldest"] {
        ok(&mut verify(&report(name)));
    }
}

/// The numbers in the fixture come from `AutoModelForSeq2SeqLM.from_pretrained(folder)`.
#[test]
fn a_t5_may_be_tied_and_unscaled() {
    let source = report("t5-tied-unscaled");
    ok(&mut verify(&source));
    assert_eq!(inspect(&source)["model"]["note"], Value::Null);

    // As transformers 4 said it: untied is unscaled, and there is no projection to untie.
    let folder = folder();
    let old = folder.path().join("old");
    ok(kiln(["convert"]).arg(&source).arg(&old));
    fs::copy(source.join("fixture.safetensors"), old.join("fixture.safetensors")).unwrap();
    configure(&old, json!({ "tie_word_embeddings": false, "scale_decoder_outputs": null }));
    ok(&mut verify(&old));
    let model = &inspect(&old)["model"];
    assert_eq!(model["tied"], true);
    assert!(model["note"].as_str().unwrap().starts_with("`lm_head.weight` is not in the file"), "{model}");

    // What is written says the same to transformers 5, by both layouts.
    for (name, layout) in [("direct", "huggingface"), ("kiln", "kiln")] {
        ok(kiln(["convert"]).arg(&old).arg(folder.path().join(name)).args(["--layout", layout]));
    }
    ok(kiln(["convert"]).arg(folder.path().join("kiln")).arg(folder.path().join("back")));
    for name in ["direct", "back"] {
        let written = folder.path().join(name);
        let config = json_of(&written.join("config.json"));
        assert_eq!(config["tie_word_embeddings"], true, "{config}");
        assert_eq!(config["scale_decoder_outputs"], false, "{config}");
        fs::copy(source.join("fixture.safetensors"), written.join("fixture.safetensors")).unwrap();
        ok(&mut verify(&written));
    }
}

#[test]
fn an_output_projection_that_is_missing_is_tied_and_that_is_told() {
    let folder = folder();
    let model = copy_of("llama", &folder);
    let whole = inspect(&model);
    assert_eq!((&whole["model"]["tied"], &whole["model"]["note"]), (&false.into(), &Value::Null));
    change_weights(&model, |weights| drop(weights.remove("lm_head.weight")));
    let check = |model: &Path, note: bool| {
        let report = inspect(model);
        let found = &report["model"];
        assert_eq!(found["tied"], true, "{report}");
        assert_eq!(found["parameters"], report["parameters"], "{report}");
        // The vocabulary times the width.
        let both = whole["parameters"].as_u64().unwrap() - 101 * 48;
        assert_eq!(found["parameters"], both, "{report}");
        assert_eq!(found["weight_bytes"], 4 * both);
        assert_eq!(found["note"].as_str().is_some_and(|note| note.contains("`lm_head.weight`")), note);
    };
    check(&model, true);
    let text = ok(kiln(["inspect"]).arg(&model));
    assert!(text.contains("`model.embed_tokens.weight`, serves as output projection"), "{text}");

    // In parts with an index, where the configuration still says that there is one.
    let parts = folder.path().join("parts");
    let output = kiln(["convert"]).arg(&model).arg(&parts).args(words("--max-shard-size 30KB")).output();
    let told = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(told.contains("note: `lm_head.weight` is not in the file"), "{told}");
    check(&parts, false);
    assert_eq!(json_of(&parts.join("config.json"))["tie_word_embeddings"], true);
    configure(&parts, json!({ "tie_word_embeddings": false }));
    check(&parts, true);

    // Another name of the file.
    fs::rename(model.join("model.safetensors"), model.join("other.safetensors")).unwrap();
    check(&model.join("other.safetensors"), true);
}

#[test]
fn an_output_projection_that_differs_is_kept_and_one_that_does_not_is_tied() {
    let folder = folder();
    for (family, output, embedding) in [
        ("gpt2", "lm_head.weight", "transformer.wte.weight"),
        ("qwen2", "lm_head.weight", "model.embed_tokens.weight"),
        ("bert", "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("modernbert", "decoder.weight", "model.embeddings.tok_embeddings.weight"),
    ] {
        let model = copy_of(family, &folder);
        let parameters = inspect(&model)["model"]["parameters"].as_u64().unwrap();
        change_weights(&model, |weights| {
            let twice = weights[embedding].clone();
            weights.insert(output.into(), twice);
        });
        let report = inspect(&model);
        assert_eq!((&report["model"]["tied"], &report["model"]["note"]), (&true.into(), &Value::Null));
        assert_eq!(report["model"]["parameters"], parameters);
        ok(&mut verify(&model));

        let mut size = 0;
        change_weights(&model, |weights| {
            let own = weights.get_mut(output).unwrap();
            (own.values[3], size) = (7.0, own.values.len() as u64);
        });
        let report = inspect(&model);
        assert_eq!(report["model"]["tied"], false, "{report}");
        assert_eq!(report["model"]["parameters"], parameters + size);
        let note = report["model"]["note"].as_str().unwrap();
        assert!(note.contains(&format!("`{output}` differs from `{embedding}`")), "{note}");

        // What is written is untied for all readers.
        let written = folder.path().join(format!("{family}-written"));
        ok(kiln(["convert"]).arg(&model).arg(&written));
        assert_eq!(json_of(&written.join("config.json"))["tie_word_embeddings"], false);
        let weights = tensors::read(&fs::read(written.join("model.safetensors")).unwrap()).unwrap();
        assert_eq!(weights[output].values[3], 7.0);
        let report = inspect(&written);
        assert_eq!((&report["model"]["tied"], &report["model"]["note"]), (&false.into(), &Value::Null));
    }
}

#[test]
fn embeddings_of_an_encoder_and_its_decoder_are_one() {
    let folder = folder();
    let model = copy_of("t5", &folder);
    let copies = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
    change_weights(&model, |weights| {
        let shared = weights.remove("shared.weight").unwrap();
        weights.extend(copies.map(|name| (name.into(), shared.clone())));
    });
    ok(&mut verify(&model));
    change_weights(&model, |weights| weights.get_mut(copies[1]).unwrap().values[0] += 1.0);
    let told = ["`decoder.embed_tokens.weight` differs from `shared.weight`", "hint: "];
    fails(&mut verify(&model), 2, &told);
}

#[test]
fn layouts_of_kilns_own_are_tied_alike() {
    let folder = folder();
    let own = folder.path().join("own");
    ok(kiln(["convert", "--layout", "kiln"]).arg(fixture("llama")).arg(&own));
    fs::remove_file(own.join("manifest.json")).unwrap();
    change_weights(&own, |weights| drop(weights.remove("head.weight")));
    let report = inspect(&own);
    assert_eq!(report["model"]["tied"], true, "{report}");
    assert!(report["model"]["note"].as_str().unwrap().contains("`head.weight`"), "{report}");
    let back = folder.path().join("back");
    ok(kiln(["convert"]).arg(&own).arg(&back));
    assert_eq!(json_of(&back.join("config.json"))["tie_word_embeddings"], true);
    // The projection is stored the other way round; the configuration says that it is not there.
    let whole = folder.path().join("whole");
    ok(kiln(["convert", "--layout", "kiln"]).arg(&own).arg(&whole));
    fs::remove_file(whole.join("manifest.json")).unwrap();
    change_weights(&whole, |weights| {
        let HostTensor { shape, values } = weights["embedding"].clone();
        let (rows, columns) = (shape[0], shape[1]);
        let turned = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
        let turned = turned.map(|place| values[place]).collect();
        weights.insert("head.weight".into(), HostTensor::new([columns, rows], turned));
    });
    assert_eq!(inspect(&whole)["model"]["tied"], true);
    change_weights(&whole, |weights| weights.get_mut("head.weight").unwrap().values[1] += 1.0);
    assert_eq!(inspect(&whole)["model"]["tied"], false);
}

/// A case of `configurations/recorded.json`.
#[derive(serde::Deserialize)]
struct Case {
    name: String,
    config: Value,
    refused: Option<String>,
    #[serde(default)]
    tensors: BTreeMap<String, Vec<usize>>,
    #[serde(default)]
    copies: BTreeMap<String, String>,
    #[serde(default)]
    input_ids: Vec<Vec<u32>>,
    #[serde(default)]
    attention_mask: Vec<Vec<usize>>,
    decoder_input_ids: Option<Vec<Vec<i32>>>,
    #[serde(default)]
    logits: Vec<f32>,
}

impl Case {
    fn write(&self, folder: &Path) {
        fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        let tensor = |(name, shape): (&String, &Vec<usize>)| {
            let source = self.copies.get(name).unwrap_or(name);
            (name.clone(), HostTensor::new(shape.clone(), weights(source, shape)))
        };
        let tensors: NamedData = self.tensors.iter().map(tensor).collect();
        fs::write(folder.join("model.safetensors"), tensors::write(&tensors, FloatType::F32).unwrap())
            .unwrap();
    }

    /// Computes the logits of the model in a folder, or returns the error that refuses it.
    fn logits(&self, folder: &Path, device: &Device) -> kiln::Result<Vec<f32>> {
        let model = Checkpoint::open_model(folder)?.build(Weights::Latest, device)?;
        let rows = self.input_ids.iter().zip(&self.attention_mask);
        let rows: Vec<Vec<u32>> =
            rows.map(|(ids, mask)| ids[..mask.iter().sum::<usize>()].to_vec()).collect();
        let decoder_tokens = self.decoder_input_ids.as_ref().map(|ids| {
            let data = TensorData::new(ids.concat(), [ids.len(), ids[0].len()]);
            Tensor::<2, Int>::from_data(data, device)
        });
        let input = Input { decoder_tokens, ..Input::padded(&rows, Side::Right, device) };
        Ok(model.forward(input).0.into_data().try_into_vec_as().unwrap())
    }

    /// Largest error outside of padding; relative for numbers above 1.
    fn error(&self, found: &[f32]) -> f32 {
        assert_eq!(found.len(), self.logits.len(), "{}", self.name);
        let is_real: Vec<bool> = match &self.decoder_input_ids {
            Some(ids) => vec![true; ids.concat().len()],
            None => self.attention_mask.concat().iter().map(|&real| real == 1).collect(),
        };
        let width = found.len() / is_real.len();
        let pairs = found.iter().zip(&self.logits).enumerate();
        let pairs = pairs.filter(|(place, _)| is_real[place / width]).map(|(_, pair)| pair);
        let errors = pairs.map(|(found, expected)| (found - expected).abs() / expected.abs().max(1.0));
        errors.fold(0.0, |worst, error| if error > worst || error.is_nan() { error } else { worst })
    }
}

/// Generates the same weights as `weights` in `configurations/generate.py`.
fn weights(name: &str, shape: &[usize]) -> Vec<f32> {
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    let start = name.bytes().fold(2_166_136_261, hash);
    let is_around_one = shape.len() == 1 && name.ends_with("weight");
    let number = |place: u32| {
        let mut x = start.wrapping_add(place.wrapping_mul(2_654_435_761));
        x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
        x ^= x >> 16;
        let value = f64::from(x >> 8) / f64::from(1 << 24) - 0.5;
        (if is_around_one { 1.0 + value / 2.0 } else { value }) as f32
    };
    (0..shape.iter().product::<usize>() as u32).map(number).collect()
}

/// `configurations/generate.py` made the cases and their logits, with transformers 5.23.0.
#[test]
fn configurations_are_read_as_by_transformers() {
    let cases = fs::read(report("configurations/recorded.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();
    let device = Choice::cpu().open().unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let folder = folder();
        case.write(folder.path());
        match (case.logits(folder.path(), &device), &case.refused) {
            (Err(error), Some(reason)) if error.to_string().contains(reason) => {}
            (Err(error), _) => wrong.push(format!("{}: refused: {error}", case.name)),
            (Ok(_), Some(reason)) => wrong.push(format!("{}: not refused for {reason}", case.name)),
            (Ok(logits), None) => {
                let error = case.error(&logits);
                if error.is_nan() || error > 1e-4 {
                    wrong.push(format!("{}: off by {error:e}", case.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 200);
}

/// It was checked by hand that transformers computes the same from the written files.
#[test]
fn configurations_are_written_as_they_are_read() {
    let cases = fs::read(report("configurations/recorded.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();
    let device = Choice::cpu().open().unwrap();
    for case in cases.iter().filter(|case| case.refused.is_none()) {
        let folder = folder();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        case.write(&source);
        let expected = case.logits(&source, &device).unwrap();
        let write = |from: &Path, name: &str, names| {
            let to = folder.path().join(name);
            let export = Export { names, float: None, max_shard_size: 1 << 30 };
            export.write(&Checkpoint::open_model(from).unwrap(), &to).unwrap();
            to
        };
        let direct = write(&source, "direct", Names::HuggingFace);
        assert_eq!(case.logits(&direct, &device).unwrap(), expected, "{}", case.name);
        let own = write(&source, "own", Names::Kiln);
        assert_eq!(case.logits(&own, &device).unwrap(), expected, "{}", case.name);
        if Family::of(&Checkpoint::open_model(&own).unwrap().model) != Family::KILN {
            let back = write(&own, "back", Names::HuggingFace);
            let error = case.error(&case.logits(&back, &device).unwrap());
            assert!(error <= 1e-4, "{}: {error:e}", case.name);
        }
    }
}
