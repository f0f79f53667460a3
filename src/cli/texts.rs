//! Texts from the command line, a file or the standard input.

use crate::{
    error::{Error, Result},
    platform::storage,
};
use serde_json::Value;
use std::path::Path;

/// Those that are given, then those of a file: one a line, of a `.jsonl` file the field `text` of each line.
///
/// # Errors
/// [`Error::InvalidValue`] if there is none, and those of reading.
pub(super) fn texts(given: &[String], file: Option<&Path>) -> Result<Vec<String>> {
    let mut texts = given.to_vec();
    if let Some(path) = file {
        let bytes = if path == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)
                .map_err(|e| Error::io("read", path, e))?;
            bytes
        } else {
            storage::read(path)?
        };
        let text = String::from_utf8(bytes).map_err(|error| Error::InvalidUtf8 {
            path: path.into(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        let is_jsonl = path.extension().is_some_and(|own| own.eq_ignore_ascii_case("jsonl"));
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            texts.push(if is_jsonl { field(line, path, index + 1)? } else { line.to_owned() });
        }
    }
    match texts.len() {
        0 => Err(Error::InvalidValue {
            key: "TEXT".into(),
            value: String::new(),
            message: "there is no text".into(),
            hint: Some("give it behind the model, or a file of texts".into()),
        }),
        _ => Ok(texts),
    }
}

fn field(line: &str, path: &Path, number: usize) -> Result<String> {
    let record: Option<Value> = serde_json::from_str(line).ok();
    let text = record.as_ref().and_then(|record| record.get("text")).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| Error::InvalidRecord {
        path: path.into(),
        line: number,
        message: "is not a JSON object with a field `text` that is a string".into(),
    })
}
