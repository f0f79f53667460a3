//! The parts of a `tokenizer.json` that are changed before the `tokenizers` crate gets the document, with
//! their original values, which are saved again.
//!
//! - Patterns are rewritten for the regular-expression engine used here ([`oniguruma`]).
//! - Version lines among the merges, which `merges.txt` begins with, are left out.
//! - `dropout` of a BPE is off: a text always has the same tokens, so that a run can be resumed and its data
//!   compared. Python's `tokenizers` leaves out random merges, new ones for each text.
//! - `truncation` and `padding` are off: the loader truncates and pads, and a tokenizer that did it too would
//!   lose text.

use super::oniguruma;
use serde::Serialize;
use serde_json::Value;
use tokenizers::{PaddingParams, Tokenizer, TruncationParams, utils::SysRegex};

/// Original values of the changed parts.
#[derive(Default)]
pub(super) struct Original {
    /// Patterns, in the order of the saved file.
    patterns: Vec<String>,
    dropout: Option<Value>,
    truncation: Option<TruncationParams>,
    padding: Option<PaddingParams>,
}

impl Original {
    /// Changes a document for the crate.
    ///
    /// # Errors
    /// The pattern that cannot be rewritten, its place, and the reason.
    pub(super) fn take(document: &mut Value) -> Result<Self, String> {
        let mut original = Self::default();
        skip_version_lines(document);
        visit_patterns(document, &mut |place, pattern| {
            let translated = translate(pattern).map_err(|reason| format!("`{place}` {reason}"))?;
            original.patterns.push(std::mem::replace(pattern, translated));
            Ok(())
        })?;
        check_empty_replacements(document)?;
        // Other values are left for the crate to refuse.
        if let Some(dropout) = document.pointer_mut("/model/dropout")
            && dropout.as_f64().is_some_and(|dropout| (0.0..=1.0).contains(&dropout))
        {
            original.dropout = Some(dropout.take());
        }
        Ok(original)
    }

    /// Turns off the truncation and padding of the crate.
    pub(super) fn take_lengths(&mut self, tokenizer: &mut Tokenizer) -> tokenizers::Result<()> {
        self.truncation = tokenizer.get_truncation().cloned();
        self.padding = tokenizer.get_padding().cloned();
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        Ok(())
    }

    /// Puts the original patterns into a document that the crate has made.
    pub(super) fn restore_patterns(&self, document: &mut Value) -> Result<(), String> {
        let mut patterns = self.patterns.iter();
        visit_patterns(document, &mut |_, pattern| {
            if let Some(original) = patterns.next() {
                pattern.clone_from(original);
            }
            Ok(())
        })
    }

    /// Puts the original values into a document that the crate has pretty-printed, one value a line.
    pub(super) fn restore(&self, text: &str) -> serde_json::Result<String> {
        let mut patterns = self.patterns.iter();
        let mut restored = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            // No text of a token can look like one of these: a line break in it would be escaped, and a key is
            // not followed by such a value.
            let value = if line.trim_start().starts_with(r#""Regex": ""#) {
                patterns.next().map(|pattern| json(pattern, 0))
            } else if line.starts_with(r#"    "dropout": null"#) {
                self.dropout.as_ref().map(|value| json(value, 0))
            } else if line.starts_with(r#"  "truncation": null"#) {
                self.truncation.as_ref().map(|value| json(value, 1))
            } else if line.starts_with(r#"  "padding": null"#) {
                self.padding.as_ref().map(|value| json(value, 1))
            } else {
                None
            };
            match (value, line.split_once(": ")) {
                (Some(value), Some((key, old))) => {
                    let comma = if old.trim_end().ends_with(',') { "," } else { "" };
                    restored += &format!("{key}: {}{comma}\n", value?);
                }
                _ => restored += line,
            }
        }
        Ok(restored)
    }
}

/// Formats a value as the crate does at a nesting depth.
fn json(value: &impl Serialize, depth: usize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(value)?.replace('\n', &format!("\n{}", "  ".repeat(depth))))
}

/// Removes lines such as `#version: 0.2` from the merges.
fn skip_version_lines(document: &mut Value) {
    let Some(merges) = document.pointer_mut("/model/merges").and_then(Value::as_array_mut) else { return };
    merges.retain(|merge| match merge {
        Value::String(line) => !line.starts_with("#version"),
        Value::Array(pair) => pair.first().is_none_or(|first| first != "#version:"),
        _ => true,
    });
}

/// Rewrites a pattern for the regular-expression engine used here.
fn translate(pattern: &str) -> Result<String, String> {
    let translated = oniguruma::translate(pattern)
        .map_err(|reason| format!("has the pattern `{pattern}`, which cannot be used: {reason}"))?;
    match SysRegex::new(&translated) {
        Ok(_) => Ok(translated),
        Err(error) => {
            let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            Err(format!("has the pattern `{pattern}`, which the regular-expression engine refuses: {error}"))
        }
    }
}

/// Refuses a `Replace` that matches empty text and is not the last normalizer. The `tokenizers` crate gives
/// the next normalizer wrong offsets and panics, in Rust and in Python.
fn check_empty_replacements(document: &Value) -> Result<(), String> {
    /// Contains ends of lines, words and numbers.
    const SAMPLE: &str = "\na1 B.\n\n é東_";
    let mut normalizers = Vec::new();
    let mut pending = vec![&document["normalizer"]];
    while let Some(normalizer) = pending.pop() {
        normalizers.push(normalizer);
        // The last one is taken first, so that they come in order.
        pending.extend(normalizer["normalizers"].as_array().into_iter().flatten().rev());
    }
    for normalizer in normalizers.split_last().map_or(&[][..], |(_, others)| others) {
        let finds_empty = |pattern: &str| {
            SysRegex::new(pattern)
                .is_ok_and(|pattern| pattern.find_iter(SAMPLE).any(|(start, end)| start == end))
        };
        let pattern = &normalizer["pattern"];
        if pattern["String"] == "" || pattern["Regex"].as_str().is_some_and(finds_empty) {
            return Err("has a `normalizer` that replaces empty text before another one, which fails".into());
        }
    }
    Ok(())
}

/// Calls `visit` with the place and the text of each regular expression, in the order in which they are
/// saved.
fn visit_patterns(
    document: &mut Value,
    visit: &mut impl FnMut(&str, &mut String) -> Result<(), String>,
) -> Result<(), String> {
    for part in ["normalizer", "pre_tokenizer", "decoder"] {
        if let Some(value) = document.get_mut(part) {
            visit_part(value, part, visit)?;
        }
    }
    Ok(())
}

fn visit_part(
    part: &mut Value,
    place: &str,
    visit: &mut impl FnMut(&str, &mut String) -> Result<(), String>,
) -> Result<(), String> {
    if let Some(Value::String(pattern)) = part.pointer_mut("/pattern/Regex") {
        visit(&format!("{place}.pattern"), pattern)?;
    }
    for list in ["normalizers", "pretokenizers", "decoders"] {
        for (index, part) in
            part.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().enumerate()
        {
            visit_part(part, &format!("{place}.{list}[{index}]"), visit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;
    use serde_json::json;

    fn document() -> Value {
        let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        json!({
            "version": "1.0",
            "truncation": {
                "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0,
            },
            "padding": {
                "strategy": { "Fixed": 8 }, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "[PAD]",
            },
            "added_tokens": [],
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Replace", "pattern": { "Regex": "q{2,1}" }, "content": "x" },
                { "type": "Replace", "pattern": { "String": "q" }, "content": "k" },
            ] },
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [split("(?m)a.|b|\\w+"), split("\\w+")] },
            "post_processor": null,
            "decoder": { "type": "Replace", "pattern": { "Regex": "a$" }, "content": "b" },
            "model": {
                "type": "BPE", "dropout": 0.25, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": { "a": 0, "b": 1, "ab": 2, "x": 3, "Regex": 4 },
                "merges": [["a", "b"]],
            },
        })
    }

    #[test]
    fn a_file_is_saved_as_it_was() {
        let document = document();
        let tokenizer = Tokenizer::from_bytes(document.to_string().as_bytes(), "test").unwrap();
        let saved = tokenizer.to_json().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&saved).unwrap(), document);
        let again = Tokenizer::from_bytes(saved.as_bytes(), "test").unwrap();
        assert_eq!(again.to_json().unwrap(), saved);
        // The order of keys and the indentation are those of the crate.
        let mut plain = document.clone();
        for pointer in ["/truncation", "/padding", "/model/dropout"] {
            *plain.pointer_mut(pointer).unwrap() = Value::Null;
        }
        plain["normalizer"] = Value::Null;
        plain["pre_tokenizer"] = Value::Null;
        plain["decoder"] = Value::Null;
        let crate_text = |document: &Value| {
            let tokenizer: tokenizers::Tokenizer = serde_json::from_value(document.clone()).unwrap();
            tokenizer.to_string(true).unwrap()
        };
        for pointer in ["/truncation", "/padding", "/model/dropout"] {
            *plain.pointer_mut(pointer).unwrap() = document.pointer(pointer).unwrap().clone();
            let tokenizer = Tokenizer::from_bytes(plain.to_string().as_bytes(), "test").unwrap();
            assert_eq!(tokenizer.to_json().unwrap(), crate_text(&plain), "{pointer}");
        }
    }

    #[test]
    fn texts_are_neither_cut_nor_padded_nor_drawn() {
        let tokenizer = Tokenizer::from_bytes(document().to_string().as_bytes(), "test").unwrap();
        for _ in 0..20 {
            assert_eq!(tokenizer.encode("xabxabab").unwrap(), [3, 2, 3, 2, 2]);
        }
    }

    #[test]
    fn version_lines_are_no_merges() {
        for merges in [json!(["#version: 0.2", "a b"]), json!([["#version:", "0.2"], ["a", "b"]])] {
            let mut document = document();
            document["model"]["merges"] = merges;
            let tokenizer = Tokenizer::from_bytes(document.to_string().as_bytes(), "test").unwrap();
            assert_eq!(tokenizer.encode("ab").unwrap(), [2]);
            let saved: Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
            assert_eq!(saved["model"]["merges"], json!([["a", "b"]]));
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_named_with_its_place() {
        for (pattern, reason) in [
            ("(?~a)", "absent operators"),
            ("a(", "a group has no end"),
            (r"(?:\w{1000}){1000}", "the regular-expression engine refuses"),
        ] {
            let mut document = document();
            document["pre_tokenizer"]["pretokenizers"][1]["pattern"]["Regex"] = pattern.into();
            let error = Tokenizer::from_bytes(document.to_string().as_bytes(), "`t.json`").unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("tokenizer `t.json`: `pre_tokenizer.pretokenizers[1].pattern`"),
                "{text}"
            );
            assert!(text.contains(&format!("`{pattern}`")) && text.contains(reason), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn empty_text_is_replaced_last_or_not_at_all() {
        let replace = |pattern: Value| json!({ "type": "Replace", "pattern": pattern, "content": "x" });
        let lowercase = json!({ "type": "Lowercase" });
        let read = |normalizers: Value| {
            let mut document = document();
            document["normalizer"] = json!({ "type": "Sequence", "normalizers": normalizers });
            Tokenizer::from_bytes(document.to_string().as_bytes(), "test")
        };
        for pattern in [json!({ "String": "" }), json!({ "Regex": "q*" }), json!({ "Regex": "\\b" })] {
            assert!(read(json!([replace(pattern.clone()), lowercase])).is_err(), "{pattern}");
            assert!(read(json!([lowercase, replace(pattern)])).unwrap().encode("ab ab").is_ok());
        }
        assert!(read(json!([replace(json!({ "Regex": "q+" })), lowercase])).is_ok());
    }

    #[test]
    fn dropout_that_is_none_is_refused() {
        for dropout in [json!(1.5), json!(-0.1), json!("a")] {
            let mut document = document();
            document["model"]["dropout"] = dropout;
            assert!(Tokenizer::from_bytes(document.to_string().as_bytes(), "test").is_err());
        }
    }
}
