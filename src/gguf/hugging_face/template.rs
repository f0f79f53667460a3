//! Tokens that a tokenizer puts around a text.

use serde_json::{Value, json};

/// Makes the `post_processor` of a `tokenizer.json`; null if it adds nothing. Tokens are given by text and
/// id.
pub(super) fn post_processor(first: Option<(&str, u32)>, last: Option<(&str, u32)>) -> Value {
    if first.is_none() && last.is_none() {
        return Value::Null;
    }
    let special =
        |(text, _): (&str, u32), kind: u8| json!({ "SpecialToken": { "id": text, "type_id": kind } });
    let around = |sequence: &str, kind: u8| {
        let text = json!({ "Sequence": { "id": sequence, "type_id": kind } });
        let first = first.map(|token| special(token, kind));
        let last = last.map(|token| special(token, kind));
        first.into_iter().chain([text]).chain(last).collect::<Vec<_>>()
    };
    let tokens = first
        .into_iter()
        .chain(last)
        .map(|(text, id)| (text.to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] })));
    let pair = [around("A", 0), around("B", 1)].concat();
    json!({
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": pair,
        "special_tokens": tokens.collect::<serde_json::Map<_, _>>(),
    })
}

/// Texts of the tokens that the `post_processor` of a `tokenizer.json` puts before and after a text.
///
/// # Errors
/// A message if it puts several tokens on one side.
pub(super) fn around<'a>(post_processor: &'a Value) -> Result<[Option<&'a str>; 2], String> {
    let mut pending = vec![post_processor];
    while let Some(part) = pending.pop() {
        pending.extend(part["processors"].as_array().into_iter().flatten());
        if part["type"] != "TemplateProcessing" {
            continue;
        }
        let Some(pieces) = part["single"].as_array() else { continue };
        let middle = pieces.iter().position(|piece| piece.get("Sequence").is_some()).unwrap_or(0);
        let (before, after) = pieces.split_at(middle);
        if before.len() > 1 || after.len() > 2 {
            return Err("it puts several tokens before or after a text, which GGUF cannot express".into());
        }
        let text = |piece: &'a Value| piece["SpecialToken"]["id"].as_str();
        return Ok([before.first().and_then(text), after.get(1).and_then(text)]);
    }
    Ok([None, None])
}
