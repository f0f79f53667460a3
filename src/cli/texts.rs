//! Reads texts from the command line, a file or standard input.

use crate::{
    error::{Error, Result},
    platform::storage,
};
use serde_json::Value;
use std::{io::Read, path::Path};

/// Byte-order mark of UTF-8.
const MARK: char = '\u{FEFF}';

/// Collects the texts of the command line, then those of a file: one a line or, in a `.jsonl` file, the field
/// `text` of each line. Lines of white space only are skipped. Lines may end as on Windows.
///
/// # Errors
/// [`Error::InvalidValue`] if there are no texts, and errors of reading.
pub(super) fn texts(given: &[String], file: Option<&Path>) -> Result<Vec<String>> {
    let mut texts = given.to_vec();
    if let Some(path) = file {
        let text =
            if path == Path::new("-") { standard_input()? } else { decode(storage::read(path)?, path)? };
        let is_jsonl = path.extension().is_some_and(|own| own.eq_ignore_ascii_case("jsonl"));
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            // The last line may end without its line feed.
            let line = line.strip_suffix('\r').unwrap_or(line);
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

/// Reads standard input as text, without a byte-order mark.
///
/// # Errors
/// [`Error::Io`], and [`Error::InvalidText`] if it is not UTF-8.
pub(super) fn standard_input() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(|e| Error::io("read", "standard input", e))?;
    decode(bytes, Path::new("standard input"))
}

/// Decodes UTF-8 and removes a byte-order mark.
fn decode(bytes: Vec<u8>, path: &Path) -> Result<String> {
    let refused = |message: String| Error::InvalidText { path: path.into(), message };
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(refused("is in UTF-16, by its byte-order mark".into()));
    }
    // UTF-16 of plain letters is valid UTF-8 with a zero byte beside each of them.
    if let Some(offset) = bytes.iter().position(|&byte| byte == 0) {
        return Err(refused(format!("has a zero byte at {offset}: it is in UTF-16, or no text")));
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|e| refused(format!("is not valid UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
    if text.starts_with(MARK) {
        text.drain(..MARK.len_utf8());
    }
    Ok(text)
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

/// Notes on standard error how many texts were too long for the context, if any; `cut` has the number of
/// tokens left out of each.
pub(super) fn note_cut(what: &str, cut: &[usize]) {
    let texts = cut.iter().filter(|&&tokens| tokens > 0).count();
    let tokens: usize = cut.iter().sum();
    match (texts, cut.len()) {
        (0, _) => {}
        (_, 1) => eprintln!("note: the context does not hold {what}: {tokens} tokens of it were not read"),
        (texts, all) => {
            let of_them = if texts == 1 { "one" } else { "some" };
            eprintln!(
                "note: the context does not hold {texts} of {all} texts whole: {tokens} tokens of {of_them} were not read"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        texts(&[], Some(&path))
    }

    #[test]
    fn marks_line_ends_and_blank_lines_are_no_text() {
        for bytes in [
            &b"\xEF\xBB\xBFone\r\n\r\n two \r\n \t\r\nthree"[..],
            b"one\n\n two \n \t\nthree\n",
            b"one\r\n two \r\nthree\r",
        ] {
            assert_eq!(read("x.txt", bytes).unwrap(), ["one", " two ", "three"]);
        }
        let records = b"\xEF\xBB\xBF{\"text\": \"a\\r\\n\"}\r\n\r\n{\"text\": \"\"}\r\n";
        assert_eq!(read("x.JSONL", records).unwrap(), ["a\r\n", ""]);
        // A mark within the text belongs to it.
        assert_eq!(read("x.txt", "a\u{FEFF}b".as_bytes()).unwrap(), ["a\u{FEFF}b"]);
        assert!(read("x.txt", b"\xEF\xBB\xBF\r\n").is_err());
    }

    #[test]
    fn other_encodings_are_refused_by_name() {
        let utf16 = |mark: &[u8], to_bytes: fn(u16) -> [u8; 2]| {
            let text = "the\r\nheron\r\n".encode_utf16().flat_map(to_bytes);
            [mark.to_vec(), text.collect()].concat()
        };
        for (bytes, part) in [
            (utf16(&[0xFF, 0xFE], u16::to_le_bytes), "is in UTF-16"),
            (utf16(&[0xFE, 0xFF], u16::to_be_bytes), "is in UTF-16"),
            (utf16(&[], u16::to_le_bytes), "zero byte at 1"),
            (utf16(&[], u16::to_be_bytes), "zero byte at 0"),
            (b"the h\xE9ron".to_vec(), "is not valid UTF-8 at byte 5"),
        ] {
            let error = read("x.txt", &bytes).unwrap_err();
            assert!(error.to_string().contains(part) && error.to_string().contains("x.txt"), "{error}");
            assert!(error.is_user_error() && error.hint().unwrap().to_string().contains("UTF-8"));
        }
    }
}
