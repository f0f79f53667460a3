//! Vocabularies become a `tokenizer.json` and again the same vocabularies. That the tokens are those of
//! Python is tested where Hugging Face's tokenizers is at hand (`tests/gguf.rs`).

use super::{fixture, parse};
use crate::{
    Contents, Value,
    hugging_face::{SpecialTokens, tokenizer_metadata},
};
use serde_json::{Value as Json, json};

const VOCABULARIES: [&str; 6] = ["gpt-2", "smollm", "llama-bpe", "qwen2", "default", "spm"];

fn vocabulary(name: &str) -> Json {
    parse(&fixture(&format!("vocabulary-{name}.gguf"))).tokenizer().unwrap()
}

fn file(metadata: Vec<(String, Value<'_>)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Contents { metadata, tensors: Vec::new() }.write(&mut bytes, |_| Vec::new()).unwrap();
    bytes
}

#[test]
fn a_vocabulary_survives_its_tokenizer() {
    for name in VOCABULARIES {
        let bytes = fixture(&format!("vocabulary-{name}.gguf"));
        let original = parse(&bytes);
        let document = original.tokenizer().unwrap();
        let tokens = original.metadata.texts("tokenizer.ggml.tokens").unwrap().unwrap();
        let special = SpecialTokens { bos: Some(1), ends: vec![2], padding: None };
        let written = tokenizer_metadata(&document, tokens.len(), &special, None).unwrap();
        let bytes = file(written);
        let again = parse(&bytes);
        assert_eq!(again.tokenizer().unwrap(), document, "{name}");
        for (key, value) in original.metadata.entries().filter(|(key, _)| key.starts_with("tokenizer.ggml."))
        {
            // Scores are other numbers in the same order; padding was not given.
            if !["scores", "padding_token_id"].contains(&key.rsplit('.').next().unwrap()) {
                assert_eq!(again.metadata.get(key), Some(value), "{name} {key}");
            }
        }
    }
}

#[test]
fn special_tokens_and_unused_ones_are_told_apart() {
    let document = vocabulary("smollm");
    let added = document["added_tokens"].as_array().unwrap();
    let of = |token: &Json| (token["content"].as_str().unwrap().to_owned(), token["special"] == true);
    let expected =
        [("<|endoftext|>", true), ("<|im_start|>", true), ("<|im_end|>", true), ("<tool_call>", false)];
    assert_eq!(
        added.iter().map(of).collect::<Vec<_>>(),
        expected.map(|(text, special)| (text.to_owned(), special))
    );
    assert!(!document["model"]["vocab"].as_object().unwrap().keys().any(|token| token.starts_with("[PAD")));
    assert_eq!(document["post_processor"], Json::Null);
    let bytes = fixture("vocabulary-smollm.gguf");
    let config = parse(&bytes).tokenizer_config().unwrap();
    assert_eq!((&config["bos_token"], &config["eos_token"]), (&"<|im_start|>".into(), &"<|im_end|>".into()));
    assert!(parse(&bytes).chat_template().unwrap().unwrap().contains("<|im_end|>"));
}

#[test]
fn a_text_begins_with_the_first_token_where_it_should() {
    let first = |document: &Json| document["post_processor"]["single"][0]["SpecialToken"]["id"].clone();
    // Llama's vocabularies, unless the metadata say otherwise.
    assert_eq!(first(&vocabulary("spm")), "<s>");
    assert_eq!(first(&vocabulary("llama-bpe")), "<|im_start|>");
    assert_eq!(first(&vocabulary("qwen2")), Json::Null);
    let document = vocabulary("qwen2");
    let mut metadata =
        tokenizer_metadata(&document, 700, &SpecialTokens { bos: Some(1), ..Default::default() }, None)
            .unwrap();
    metadata.retain(|(key, _)| key != "tokenizer.ggml.add_bos_token");
    metadata.push(("tokenizer.ggml.add_bos_token".into(), Value::Bool(true)));
    let bytes = file(metadata);
    let document = parse(&bytes).tokenizer().unwrap();
    assert_eq!(first(&document), "<|im_start|>");
    // What it adds is written as the token that begins a text, whatever else says which that is.
    let written =
        tokenizer_metadata(&document, 700, &SpecialTokens { bos: Some(0), ..Default::default() }, None)
            .unwrap();
    assert!(written.contains(&("tokenizer.ggml.bos_token_id".into(), Value::U32(1))));
    assert!(written.contains(&("tokenizer.ggml.add_bos_token".into(), Value::Bool(true))));
}

#[test]
fn tokens_that_end_a_text_have_keys_of_their_own() {
    let document = vocabulary("smollm");
    let special = SpecialTokens { bos: Some(1), ends: vec![2, 0, 7, 8], padding: Some(2) };
    let mut metadata = tokenizer_metadata(&document, 700, &special, Some("{{ bos_token }}")).unwrap();
    metadata.push(("general.architecture".into(), "llama".into()));
    let bytes = file(metadata);
    let file = parse(&bytes);
    assert_eq!(file.generation_config().unwrap()["eos_token_id"], json!([2, 0, 7]));
    assert_eq!(file.chat_template().unwrap(), Some("{{ bos_token }}"));
}

#[test]
fn merges_of_sentence_piece_follow_its_scores() {
    let document = vocabulary("spm");
    let model = &document["model"];
    assert_eq!((&model["byte_fallback"], &model["unk_token"]), (&true.into(), &"<unk>".into()));
    let vocabulary = model["vocab"].as_object().unwrap();
    for merge in model["merges"].as_array().unwrap() {
        let merged = format!("{}{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
        assert!(vocabulary.contains_key(&merged), "{merged}");
    }
    // The pieces of SentencePiece's are numbered in the order in which they are merged.
    let first = model["merges"][0].as_array().unwrap();
    let merged = format!("{}{}", first[0].as_str().unwrap(), first[1].as_str().unwrap());
    assert_eq!(vocabulary[&merged], 3 + 256, "{merged}");
}

#[test]
fn what_is_no_vocabulary_is_refused() {
    let document = vocabulary("gpt-2");
    let metadata = || tokenizer_metadata(&document, 700, &SpecialTokens::default(), None).unwrap();
    for (key, value, message) in [
        ("tokenizer.ggml.model", Value::Text("t5".into()), "`tokenizer.ggml.model` is `t5`"),
        ("tokenizer.ggml.pre", Value::Text("tekken".into()), "`tokenizer.ggml.pre` is `tekken`"),
        ("tokenizer.ggml.merges", Value::U32(1), "not a list of texts"),
        ("tokenizer.ggml.token_type", Value::Array(crate::Array::I32(vec![1])), "differ in length"),
        (
            "tokenizer.ggml.tokens",
            Value::Array(crate::Array::Text(vec![])),
            "`tokenizer.ggml.tokens` is missing",
        ),
        (
            "tokenizer.ggml.merges",
            Value::Array(crate::Array::Text(vec!["ab".into()])),
            "merge 0, `ab`, is no pair",
        ),
    ] {
        let mut metadata = metadata();
        metadata.retain(|(own, _)| own != key);
        metadata.push((key.into(), value));
        let bytes = file(metadata);
        let error = parse(&bytes).tokenizer().unwrap_err().to_string();
        assert!(error.starts_with("tokenizer `model.gguf`: ") && error.contains(message), "{error}");
    }
    let mut twice = metadata();
    for (key, value) in &mut twice {
        if let ("tokenizer.ggml.tokens", Value::Array(crate::Array::Text(texts))) = (key.as_str(), value) {
            texts[9] = texts[8].clone();
        }
    }
    let bytes = file(twice);
    assert!(parse(&bytes).tokenizer().unwrap_err().to_string().contains("is there twice"));
}

#[test]
fn what_gguf_has_no_tokenizer_for_is_not_written() {
    let document = vocabulary("gpt-2");
    let changed = |pointer: &str, value: Json| {
        let mut changed = document.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    for (document, message) in [
        (changed("/model/type", "WordLevel".into()), "its model is \"WordLevel\""),
        (changed("/pre_tokenizer", json!({ "type": "Whitespace" })), "it splits texts into words in a way"),
        (changed("/normalizer", json!({ "type": "NFKC" })), "it splits texts into words in a way"),
        (
            changed("/model/vocab", json!({ "a": 5000 })),
            "its token `a` has the id 5000, but the model has 700",
        ),
        (changed("/model/merges", json!([["a"]])), "merge 0 is no pair"),
    ] {
        let error = tokenizer_metadata(&document, 700, &SpecialTokens::default(), None).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    // Single bytes: words make no difference.
    let mut bytes = changed("/pre_tokenizer/use_regex", false.into());
    bytes["model"]["merges"] = json!([]);
    assert!(tokenizer_metadata(&bytes, 700, &SpecialTokens::default(), None).is_ok());
}
