//! Compares with files that the Python package `gguf` has made (`tests/fixtures/gguf/make.py`).
#![allow(clippy::disallowed_methods)]

mod damaged;
mod tokenizers;

use crate::{
    Contents, Form, Gguf, Layout, TensorType, Value, dequantize,
    hugging_face::{Architecture, extra_tensors, model_metadata},
    quantize,
};
use safetensors::SafeTensors;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("gguf").join(name)).unwrap()
}

fn parse(bytes: &[u8]) -> Gguf<'_> {
    Gguf::parse(bytes, "model.gguf".as_ref()).unwrap()
}

fn json(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap()
}

fn bytes_of(hexadecimal: &Json) -> Vec<u8> {
    let digits = hexadecimal.as_str().unwrap().as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn blocks_of_every_type_are_converted_as_by_python() {
    let blocks = json(&fixture("blocks.json"));
    for kind in TensorType::ALL {
        let expected = floats(&bytes_of(&blocks["read"][kind.name()]["values"]));
        let bytes = bytes_of(&blocks["read"][kind.name()]["bytes"]);
        assert_eq!(bytes.len() / kind.block_bytes(), expected.len() / kind.block_length());
        let mut values = vec![f32::NAN; expected.len()];
        dequantize::dequantize(kind, &bytes, &mut values);
        assert_eq!(bits(&values), bits(&expected), "{kind:?}");
    }
    for kind in quantize::WRITTEN {
        let case = &blocks["written"][kind.name()];
        let mut bytes = Vec::new();
        quantize::quantize(kind, &floats(&bytes_of(&case["values"])), &mut bytes);
        assert_eq!(bytes, bytes_of(&case["bytes"]), "{kind:?}");
    }
}

/// Models in `tests/fixtures`, by the names of both forms.
const MODELS: [&str; 4] = ["gpt2", "llama3", "qwen2", "qwen3"];

fn original(name: &str) -> (Json, Vec<u8>) {
    let folder = fixtures().join("models").join(name);
    let read = |file| std::fs::read(folder.join(file)).unwrap();
    (json(&read("config.json")), read("model.safetensors"))
}

/// Compares a file with the model that it was made of.
fn assert_same(file: &Gguf<'_>, name: &str) {
    let (config, weights) = original(name);
    let own = file.config().unwrap();
    for (key, value) in own.as_object().unwrap() {
        // Null is transformers' word for four times the width.
        let same = match (&config[key], value) {
            (Json::Null, _) => true,
            (a, b) => a == b || (a.is_number() && a.as_f64() == b.as_f64()),
        };
        assert!(
            same || key == "bos_token_id" || key == "eos_token_id",
            "{name} {key}: {value}, not {}",
            config[key]
        );
    }
    let weights = SafeTensors::deserialize(&weights).unwrap();
    let mut tensors = file.model_tensors().unwrap();
    assert_eq!(tensors.len(), weights.len(), "{name}");
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    for tensor in tensors {
        let expected = weights.tensor(&tensor.name).unwrap();
        assert_eq!(
            (&tensor.shape[..], tensor.kind()),
            (expected.shape(), TensorType::F32),
            "{}",
            tensor.name
        );
        assert_eq!(bits(&tensor.read()), bits(&floats(expected.data())), "{name} {}", tensor.name);
    }
}

#[test]
fn a_file_for_inference_has_no_dropout() {
    let bytes = fixture("gpt2.gguf");
    let config = parse(&bytes).config().unwrap();
    for key in ["embd_pdrop", "attn_pdrop", "resid_pdrop"] {
        assert_eq!(config[key], 0.0, "{key}");
    }
}

#[test]
fn models_are_those_that_they_were_made_of() {
    for name in MODELS {
        let bytes = fixture(&format!("{name}.gguf"));
        assert_same(&parse(&bytes), name);
    }
}

/// Writes a model of transformers' as a file with matrices of a type.
fn written(config: &Json, weights: &[u8], kind: TensorType) -> Vec<u8> {
    let weights = SafeTensors::deserialize(weights).unwrap();
    let mut names: Vec<String> = weights.names().into_iter().map(str::to_owned).collect();
    names.sort();
    let mut contents = Contents { metadata: model_metadata(config, kind).unwrap(), tensors: Vec::new() };
    let mut values = Vec::new();
    for name in names {
        let view = weights.tensor(&name).unwrap();
        let (stored, form) = Form::in_gguf(config, &name).unwrap();
        let shape = form.shape(view.shape()).unwrap();
        let kind = if shape.len() == 1 { TensorType::F32 } else { kind };
        contents.tensors.push(Layout::new(stored, shape, kind));
        values.push(form.store(view.shape(), floats(view.data())));
    }
    for (name, factors) in extra_tensors(config).unwrap() {
        contents.tensors.push(Layout::new(name.into(), vec![factors.len()], TensorType::F32));
        values.push(factors);
    }
    let mut bytes = Vec::new();
    contents.write(&mut bytes, |number| values[number].clone()).unwrap();
    bytes
}

#[test]
fn what_is_written_is_read_as_it_was() {
    for name in MODELS {
        let (config, weights) = original(name);
        let bytes = written(&config, &weights, TensorType::F32);
        let file = parse(&bytes);
        assert_same(&file, name);
        let theirs = fixture(&format!("{name}.gguf"));
        let theirs = parse(&theirs);
        assert_eq!(file.tensors.len(), theirs.tensors.len());
        for tensor in &file.tensors {
            let expected = theirs.tensor(tensor.name).unwrap();
            assert_eq!((&tensor.shape, tensor.kind), (&expected.shape, expected.kind), "{}", tensor.name);
            let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs();
            assert!(tensor.read().iter().zip(&expected.read()).all(is_near), "{name} {}", tensor.name);
        }
        for (key, value) in theirs.metadata.entries() {
            assert_eq!(file.metadata.get(key), Some(value), "{name} {key}");
        }
    }
}

#[test]
fn rows_that_are_no_whole_blocks_are_not_quantized() {
    let (config, weights) = original("qwen2");
    let bytes = written(&config, &weights, TensorType::Q8_0);
    let file = parse(&bytes);
    let kind = |name: &str| file.tensor(name).unwrap().kind;
    // 32 columns, 48 columns, a vector.
    assert_eq!(kind("blk.0.attn_q.weight"), TensorType::Q8_0);
    assert_eq!(kind("blk.0.ffn_down.weight"), TensorType::F16);
    assert_eq!(kind("blk.0.attn_q.bias"), TensorType::F32);
    assert_eq!(file.metadata.unsigned("general.file_type"), Ok(Some(7)));
    let (_, weights) = original("qwen2");
    let weights = SafeTensors::deserialize(&weights).unwrap();
    for tensor in file.model_tensors().unwrap() {
        let expected = floats(weights.tensor(&tensor.name).unwrap().data());
        let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        for (value, expected) in tensor.read().iter().zip(expected) {
            assert!((value - expected).abs() <= largest / 200.0, "{}", tensor.name);
        }
    }
}

#[test]
fn tensors_begin_at_multiples_of_the_alignment() {
    let layout = |name: &str, length| Layout::new(name.into(), vec![length], TensorType::F32);
    let mut contents = Contents {
        metadata: vec![("general.alignment".into(), Value::U32(64))],
        tensors: vec![layout("a", 3), layout("b", 17)],
    };
    let mut bytes = Vec::new();
    contents.write(&mut bytes, |number| vec![number as f32; [3, 17][number]]).unwrap();
    assert!(bytes.len().is_multiple_of(64));
    let file = parse(&bytes);
    let offset = |number: usize| file.tensors[number].data.as_ptr().addr() - bytes.as_ptr().addr();
    assert!((0..2).all(|number| offset(number).is_multiple_of(64)));
    assert_eq!(file.tensors[1].read(), [1.0; 17]);
    contents.tensors[0].shape = vec![4];
    let error = contents.write(&mut Vec::new(), |_| vec![0.0; 3]).unwrap_err();
    assert!(error.to_string().contains("tensor `a` has 3 elements"), "{error}");
}

#[test]
fn a_model_that_computes_something_else_is_refused() {
    let (config, weights) = original("llama3");
    let bytes = written(&config, &weights, TensorType::F32);
    let text = |text: &'static str| Value::Text(text.into());
    for (key, value, message) in [
        ("general.architecture", text("gemma3"), "`general.architecture` is `gemma3`"),
        ("general.type", text("adapter"), "`general.type` is `adapter`"),
        ("split.count", Value::U16(3), "one of the 3 files"),
        ("llama.expert_count", Value::U32(8), "`llama.expert_count` is 8"),
        ("llama.attention.scale", Value::F32(0.5), "`llama.attention.scale` is 0.5"),
        ("llama.attention.causal", Value::Bool(false), "`llama.attention.causal` is false"),
        ("llama.attention.sliding_window", Value::U32(5), "`llama.attention.sliding_window` is 5"),
        ("llama.rope.scaling.type", text("yarn"), "`llama.rope.scaling.type` is `yarn`"),
        ("llama.rope.freq_base", Value::F32(100.0), "`rope_freqs.weight` are not Llama 3's"),
        ("llama.rope.dimension_count", Value::U32(4), "`llama.rope.dimension_count` is 4, but a head has 8"),
        ("llama.attention.value_length", Value::U32(4), "`llama.attention.value_length` is 4"),
        ("llama.block_count", Value::U32(0), "`llama.block_count` is 0"),
        (
            "llama.block_count",
            text("two"),
            "`llama.block_count` is `two`, which is not a non-negative integer",
        ),
        ("llama.attention.head_count", Value::Array(crate::Array::I32(vec![4, 4])), "a list of 2 values"),
    ] {
        let file = parse(&bytes);
        let mut metadata = model_metadata(&config, TensorType::F32).unwrap();
        metadata.retain(|(own, _)| own != key);
        metadata.push((key.into(), value));
        let tensors: Vec<Layout> = file
            .tensors
            .iter()
            .map(|tensor| Layout::new(tensor.name.into(), tensor.shape.clone(), tensor.kind))
            .collect();
        let mut changed = Vec::new();
        let contents = Contents { metadata, tensors };
        contents.write(&mut changed, |number| file.tensors[number].read()).unwrap();
        let error = parse(&changed).config().unwrap_err().to_string();
        assert!(error.starts_with("checkpoint `model.gguf`: ") && error.contains(message), "{error}");
    }
}

#[test]
fn what_gguf_cannot_express_is_not_written() {
    let (config, _) = original("llama3");
    for (key, value, message) in [
        ("model_type", Json::from("gemma2"), "its family is `gemma2`"),
        ("hidden_act", "gelu".into(), "`hidden_act` is \"gelu\""),
        ("use_sliding_window", true.into(), "`use_sliding_window`"),
        ("hidden_size", 0.into(), "`hidden_size` is 0"),
        ("rope_parameters", serde_json::json!({ "rope_type": "yarn" }), "`rope_type` is `yarn`"),
    ] {
        let mut changed = config.clone();
        changed[key] = value;
        let error = model_metadata(&changed, TensorType::F32).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    assert!(Form::in_gguf(&config, "model.layers.00.mlp.up_proj.weight").is_err());
    assert!(Form::in_gguf(&config, "score.weight").unwrap_err().contains("`score.weight` has no place"));
    assert_eq!(Architecture::from_name("mistral"), None);
}

#[test]
fn the_tokens_that_end_a_text_are_those_of_all_keys() {
    let metadata = |key: &str, value| (key.to_owned(), Value::U32(value));
    let contents = Contents {
        metadata: vec![
            ("general.architecture".into(), "llama".into()),
            metadata("tokenizer.ggml.bos_token_id", 1),
            metadata("tokenizer.ggml.eos_token_id", 7),
            metadata("tokenizer.ggml.eot_token_id", 9),
            metadata("tokenizer.ggml.eom_token_id", 7),
            ("tokenizer.chat_template".into(), "{{ messages }}".into()),
        ],
        tensors: Vec::new(),
    };
    let mut bytes = Vec::new();
    contents.write(&mut bytes, |_| Vec::new()).unwrap();
    let file = parse(&bytes);
    let generation = file.generation_config().unwrap();
    assert_eq!(generation["eos_token_id"], serde_json::json!([7, 9]));
    assert_eq!((&generation["bos_token_id"], &generation["pad_token_id"]), (&1.into(), &Json::Null));
    assert_eq!(file.chat_template().unwrap(), Some("{{ messages }}"));
    assert!(!file.has_tokenizer());
}
