//! Gives documents to the `tokenizers` crate, and takes them back. The crate copies vocabulary and merges several times
//! while it reads or writes a model. Those of a BPE, which most tokenizers are, are handed to it as they are, and are
//! written only for a codec that looks at them.

use super::json;
use serde_json::{Map, Value, json};
use tokenizers::{
    AddedToken, ModelWrapper, Tokenizer,
    models::bpe::{BPE, BpeBuilder, Vocab},
};

/// Settings of a BPE beside its vocabulary and merges.
const TEXTS: [&str; 3] = ["unk_token", "continuing_subword_prefix", "end_of_word_suffix"];
const FLAGS: [&str; 3] = ["fuse_unk", "byte_fallback", "ignore_merges"];

/// Makes the tokenizer of a document whose merges were checked.
///
/// # Errors
/// The message of the crate.
pub(super) fn read(mut document: Value) -> Result<Tokenizer, String> {
    let parts = take_bpe(&mut document);
    let mut tokenizer: Tokenizer = serde_json::from_value(document).map_err(|error| error.to_string())?;
    if let Some((model, added)) = parts {
        tokenizer.with_model(bpe(model).map_err(|error| error.to_string())?);
        // As the crate does behind the rest.
        tokenizer.add_tokens(added).map_err(|error| error.to_string())?;
    }
    Ok(tokenizer)
}

/// Takes the model and the added tokens out of a document, and leaves an empty model there; `None` if the model is no
/// BPE with merges in pairs, or has a part of another type than it should, which the crate then refuses.
fn take_bpe(document: &mut Value) -> Option<(Map<String, Value>, Vec<AddedToken>)> {
    if !is_bpe(&document["model"]) {
        return None;
    }
    let tokens =
        document.get("added_tokens").map_or(Some(&[][..]), |tokens| tokens.as_array().map(Vec::as_slice))?;
    let added = tokens.iter().map(|token| {
        json::id(&token["id"])?;
        serde_json::from_value::<AddedToken>(token.clone()).ok()
    });
    let added = added.collect::<Option<Vec<AddedToken>>>()?;
    let empty = json!({ "type": "BPE", "vocab": {}, "merges": [] });
    let Value::Object(model) = std::mem::replace(&mut document["model"], empty) else { return None };
    document["added_tokens"] = json!([]);
    Some((model, added))
}

/// Whether a model is a BPE whose parts have the types that [`bpe`] takes.
fn is_bpe(model: &Value) -> bool {
    let is_pair = |merge: &Value| match merge {
        Value::Array(pair) => matches!(&pair[..], [Value::String(_), Value::String(_)]),
        _ => false,
    };
    model["type"] == "BPE"
        && model["dropout"].is_null()
        && TEXTS.iter().all(|key| model[*key].is_null() || model[*key].is_string())
        && FLAGS.iter().all(|key| model[*key].is_null() || model[*key].is_boolean())
        && model["vocab"].as_object().is_some_and(|tokens| tokens.values().all(|id| json::id(id).is_some()))
        && model["merges"].as_array().is_some_and(|merges| merges.iter().all(is_pair))
}

/// Makes a BPE of its parts.
///
/// # Errors
/// Those of the crate.
fn bpe(mut model: Map<String, Value>) -> tokenizers::Result<BPE> {
    let tokens = match model.remove("vocab") {
        Some(Value::Object(tokens)) => tokens,
        _ => Map::new(),
    };
    let merges = match model.remove("merges") {
        Some(Value::Array(merges)) => merges,
        _ => Vec::new(),
    };
    let vocabulary: Vocab =
        tokens.into_iter().filter_map(|(token, id)| Some((token, json::id(&id)?))).collect();
    let mut builder =
        BpeBuilder::new().vocab_and_merges(vocabulary, merges.into_iter().filter_map(pair).collect());
    let [unknown, prefix, suffix] = TEXTS.map(|key| match model.remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    });
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown);
    }
    if let Some(prefix) = prefix {
        builder = builder.continuing_subword_prefix(prefix);
    }
    if let Some(suffix) = suffix {
        builder = builder.end_of_word_suffix(suffix);
    }
    let [fuses, falls_back, ignores] =
        FLAGS.map(|key| model.get(key).and_then(Value::as_bool).unwrap_or(false));
    builder.fuse_unk(fuses).byte_fallback(falls_back).ignore_merges(ignores).build()
}

/// The two tokens of a merge.
fn pair(merge: Value) -> Option<(String, String)> {
    let Value::Array(pair) = merge else { return None };
    match <[Value; 2]>::try_from(pair) {
        Ok([Value::String(left), Value::String(right)]) => Some((left, right)),
        _ => None,
    }
}

/// The canonical document of a tokenizer, as the crate writes it, without its version and lengths. A BPE is there with
/// its vocabulary and merges only if it is one of bytes, which there may be a codec of our own for.
pub(super) fn document(tokenizer: &Tokenizer) -> serde_json::Result<Value> {
    let pre_tokenizer = serde_json::to_value(tokenizer.get_pre_tokenizer())?;
    let model = match tokenizer.get_model() {
        ModelWrapper::BPE(bpe) if pre_tokenizer["type"] != "ByteLevel" => {
            let prefix = &bpe.continuing_subword_prefix;
            json!({ "type": "BPE", "continuing_subword_prefix": prefix })
        }
        model => serde_json::to_value(model)?,
    };
    let parts = [
        ("added_tokens", serde_json::to_value(tokenizer.get_added_vocabulary())?),
        ("normalizer", serde_json::to_value(tokenizer.get_normalizer())?),
        ("pre_tokenizer", pre_tokenizer),
        ("post_processor", serde_json::to_value(tokenizer.get_post_processor())?),
        ("decoder", serde_json::to_value(tokenizer.get_decoder())?),
        ("model", model),
    ];
    Ok(parts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Value {
        let added = |id: u32, content: &str, special: bool| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": true, "rstrip": false,
                "normalized": !special, "special": special,
            })
        };
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            // One of the vocabulary, and two new ones.
            "added_tokens": [added(0, "<unk>", true), added(5, "<new>", true), added(6, "ba", false)],
            "normalizer": { "type": "Lowercase" },
            "pre_tokenizer": { "type": "Whitespace" },
            "post_processor": null,
            "decoder": { "type": "BPEDecoder", "suffix": "</w>" },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": false, "ignore_merges": true,
                "vocab": { "<unk>": 0, "a": 1, "b": 2, "ab": 3, "aba b": 4, "a b": 7, " b": 8 },
                "merges": [["a", "b"], ["a", " b"], ["ab", "a b"], ["a", "b"]],
            },
        })
    }

    fn assert_like_the_crate(document: &Value) {
        let text = document.to_string();
        let own = read(document.clone()).unwrap();
        let crates = Tokenizer::from_bytes(text.as_bytes()).unwrap();
        assert_eq!(own.to_string(false).unwrap(), crates.to_string(false).unwrap());
        for text in ["ab b a<new>ab", "xyab ba", ""] {
            let ids = |tokenizer: &Tokenizer| tokenizer.encode(text, true).unwrap().get_ids().to_vec();
            assert_eq!(ids(&own), ids(&crates), "{text}");
        }
    }

    #[test]
    fn tokenizers_are_those_that_the_crate_reads() {
        let bpe = example();
        assert_like_the_crate(&bpe);
        assert!(take_bpe(&mut bpe.clone()).is_some());
        // As older versions wrote them.
        let mut lines = bpe.clone();
        lines["model"]["merges"] = json!(["a b"]);
        assert!(take_bpe(&mut lines.clone()).is_none());
        assert_like_the_crate(&lines);
        let mut short = bpe.clone();
        short["model"] = json!({ "type": "BPE", "vocab": { "a": 0, "b": 1 }, "merges": [] });
        short.as_object_mut().unwrap().remove("added_tokens");
        assert_like_the_crate(&short);
        let mut words = bpe;
        words["model"] =
            json!({ "type": "WordLevel", "vocab": { "ab": 0, "<unk>": 1 }, "unk_token": "<unk>" });
        assert_like_the_crate(&words);
    }

    #[test]
    fn what_the_crate_refuses_is_refused() {
        let refused = |change: fn(&mut Value)| {
            let mut document = example();
            change(&mut document);
            let crates = serde_json::from_value::<Tokenizer>(document.clone()).unwrap_err().to_string();
            assert_eq!(read(document).unwrap_err(), crates);
        };
        refused(|document| document["model"]["vocab"]["a"] = "one".into());
        refused(|document| document["model"]["fuse_unk"] = 1.into());
        refused(|document| document["model"]["merges"][0] = json!(["a", "zz"]));
        refused(|document| document["added_tokens"][0] = json!({ "id": 0, "content": "<unk>" }));
        refused(|document| document["added_tokens"] = Value::Null);
        refused(|document| document["version"] = "2.0".into());
    }

    #[test]
    fn a_document_has_the_parts_that_codecs_read() {
        let tokenizer = read(json!({
            "model": { "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": [["a", "b"]] },
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        }));
        let tokenizer = tokenizer.unwrap();
        let own = document(&tokenizer).unwrap();
        let whole = serde_json::to_value(&*tokenizer).unwrap();
        for (part, value) in own.as_object().unwrap() {
            assert_eq!(value, &whole[part], "{part}");
        }
        // Of another BPE neither vocabulary nor merges are read.
        let mut other = example();
        other["model"]["merges"] = json!([["a", "b"]]);
        other["model"]["vocab"] = json!({ "<unk>": 0, "a": 1, "b": 2, "ab": 3 });
        let other = document(&read(other).unwrap()).unwrap();
        assert_eq!(other["model"], json!({ "type": "BPE", "continuing_subword_prefix": null }));
        assert_eq!(other["added_tokens"][1]["content"], "<new>");
    }
}
