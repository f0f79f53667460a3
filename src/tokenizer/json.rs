//! The `tokenizer.json` documents of the tokenizers that Kiln makes, and the checks that a document
//! from elsewhere must pass before it is handed to the `tokenizers` crate.

use super::{END_OF_TEXT, alphabet};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Splits a text into its characters, line breaks included, in Rust's and in Python's engine.
pub(super) const ANY_CHARACTER: &str = r"[\s\S]";

/// One token per character; `characters` in order of id.
pub(super) fn characters(characters: &[char]) -> Value {
    let vocabulary: Value =
        characters.iter().zip(0u32..).map(|(c, id)| (c.to_string(), Value::from(id))).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": { "Regex": ANY_CHARACTER },
            "behavior": "Isolated",
            "invert": false,
        },
        "post_processor": null,
        "decoder": { "type": "Fuse" },
        // There is no such token: a character that is not in the vocabulary is an error.
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
    })
}

/// 256 tokens whose id is the byte they stand for.
pub(super) fn bytes() -> Value {
    let vocabulary: Value =
        alphabet::CHARACTERS.iter().zip(0u32..).map(|(c, id)| (c.to_string(), Value::from(id))).collect();
    byte_level(vocabulary, json!([]), json!([]), false)
}

/// A BPE with GPT-2's pre-tokenizer and its end-of-text token, which has the id `end_of_text`.
pub(super) fn gpt2(vocabulary: Value, merges: Value, end_of_text: u32) -> Value {
    let added = json!([{
        "id": end_of_text,
        "content": END_OF_TEXT,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": true,
    }]);
    byte_level(vocabulary, merges, added, true)
}

fn byte_level(vocabulary: Value, merges: Value, added_tokens: Value, cut_words: bool) -> Value {
    let byte_level = |use_regex| {
        json!({
            "type": "ByteLevel",
            "add_prefix_space": false,
            "trim_offsets": true,
            "use_regex": use_regex,
        })
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": null,
        "pre_tokenizer": byte_level(cut_words),
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    })
}

/// Refuses what the `tokenizers` crate would panic on: a merge whose result is longer than any token.
pub(super) fn check(document: &Value) -> Result<(), String> {
    let Some(model) = document.get("model") else {
        return Err("has no `model`".into());
    };
    let (Some(vocabulary), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) else {
        return Ok(());
    };
    let tokens: HashSet<&str> = vocabulary.keys().map(String::as_str).collect();
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("");
    for (rank, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(line) => line.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        let Some((left, right)) = pair else {
            return Err(format!("merge {rank} is not a pair of tokens"));
        };
        let merged = right.strip_prefix(prefix).map(|right| format!("{left}{right}"));
        if !merged.is_some_and(|merged| tokens.contains(merged.as_str())) {
            return Err(format!("merge {rank} (`{left}` and `{right}`) gives no token of the vocabulary"));
        }
    }
    Ok(())
}
