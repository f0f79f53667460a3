//! The `tokenizer.json` documents of the tokenizers that Kiln makes, and the checks that a document
//! from elsewhere must pass before it is handed to the `tokenizers` crate.

use super::{alphabet, charsmap};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Pattern that splits a text into its characters, line breaks included, in Rust's and in Python's engine.
pub(super) const ANY_CHARACTER: &str = r"[\s\S]";

/// Entry of `added_tokens` for a special token, which is recognised in text as `text` and stands for no text.
pub(super) fn special_token(text: &str, id: u32) -> Value {
    json!({
        "id": id,
        "content": text,
        "single_word": false,
        "lstrip": false,
        "rstrip": false,
        "normalized": false,
        "special": true,
    })
}

/// Special tokens with consecutive ids from `first` on.
fn special_tokens(texts: &[String], first: u32) -> Value {
    texts.iter().zip(first..).map(|(text, id)| special_token(text, id)).collect()
}

/// Document of a character tokenizer: special tokens, then one token per character, in order of id.
pub(super) fn characters(special: &[String], characters: &[char]) -> Value {
    let tokens = special.iter().cloned().chain(characters.iter().map(char::to_string));
    let vocabulary: Value = tokens.zip(0u32..).map(|(token, id)| (token, Value::from(id))).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special_tokens(special, 0),
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

/// Document of a byte tokenizer: 256 tokens whose ids are the bytes that they stand for, then special tokens.
pub(super) fn bytes(special: &[String]) -> Value {
    let vocabulary: Value =
        alphabet::CHARACTERS.iter().zip(0u32..).map(|(c, id)| (c.to_string(), Value::from(id))).collect();
    byte_level(vocabulary, json!([]), special_tokens(special, 256), false)
}

/// Document of a BPE with GPT-2's pre-tokenizer. The vocabulary includes the texts of the `special` tokens,
/// with ids from `first` on.
pub(super) fn gpt2(vocabulary: Value, merges: Value, special: &[String], first: u32) -> Value {
    byte_level(vocabulary, merges, special_tokens(special, first), true)
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

/// Reads a token id; `None` if the value is not an unsigned 32-bit integer.
pub(super) fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// Refuses a document without a model.
pub(super) fn check_model(document: &Value) -> Result<(), String> {
    match document.get("model") {
        Some(Value::Object(_)) => Ok(()),
        Some(_) => Err("has a `model` that is no object".into()),
        None => Err("has no `model`".into()),
    }
}

/// Refuses parts on which the `tokenizers` crate panics, in Rust and in Python: a `Strip` that removes
/// characters from the ends of tokens, which may be shorter, words of length zero, and a damaged
/// `precompiled_charsmap`.
pub(super) fn check_parts(document: &Value) -> Result<(), String> {
    let check = |part: &Value| {
        let count = |key: &str| part[key].as_u64();
        if part["type"] == "Strip" && count("stop").is_some_and(|stop| stop > 0) {
            return Err(
                "has a `decoder` that takes characters from the ends of tokens (`Strip` with a `stop` \
                        above 0), which fails for short tokens"
                    .to_owned(),
            );
        }
        if part["type"] == "FixedLength" && count("length") == Some(0) {
            return Err("has a `pre_tokenizer` that makes words of no length (`FixedLength`)".into());
        }
        match &part["precompiled_charsmap"] {
            Value::String(table) => charsmap::check(table),
            _ if part["type"] == "Precompiled" => {
                Err("has a `normalizer` without its table (`Precompiled` without a `precompiled_charsmap`)"
                    .into())
            }
            _ => Ok(()),
        }
    };
    for (part, list) in
        [("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("decoder", "decoders")]
    {
        let mut pending = vec![&document[part]];
        while let Some(part) = pending.pop() {
            check(part)?;
            pending.extend(part[list].as_array().into_iter().flatten());
        }
    }
    Ok(())
}

/// Refuses merges on which the `tokenizers` crate would panic, namely those whose result is longer than any
/// token.
pub(super) fn check_merges(document: &Value) -> Result<(), String> {
    let model = &document["model"];
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
