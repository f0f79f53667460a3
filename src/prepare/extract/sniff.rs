//! Finds the format of a file by its name or, if the name does not say, by its first bytes.

use super::{super::clean::wide::Wide, Format};
use crate::data::signature::Signature;

/// Number of bytes at the beginning that are examined.
pub(super) const START: usize = 1024;

/// Returns the reason why a file is not text, if it is not. If the name tells the format (`is_named`), it is
/// trusted unless the bytes are the signature of another kind of file.
pub(super) fn foreign(start: &[u8], is_named: bool) -> Option<String> {
    if let Some(signature) = Signature::of(start) {
        return Some(format!("the file is {}, not text", signature.name));
    }
    // No text has zeros but UTF-16 and UTF-32.
    (!is_named && start.contains(&0) && Wide::of(start).is_none())
        .then(|| "the file is binary, not text: it has bytes of zero".into())
}

pub(super) fn by_extension(name: &str) -> Option<Format> {
    Some(match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
        "txt" | "text" | "md" | "markdown" | "rst" => Format::Text,
        "jsonl" | "ndjson" => Format::Jsonl,
        "json" => Format::Json,
        "csv" => Format::Csv,
        "tsv" => Format::Tsv,
        "html" | "htm" | "xhtml" => Format::Html,
        "warc" | "wet" => Format::Warc,
        _ => return None,
    })
}

pub(super) fn by_start(start: &[u8]) -> Format {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    if begins(start, "WARC/") {
        Format::Warc
    } else if is_page(start) {
        Format::Html
    } else if is_json(start) {
        Format::Json
    } else {
        Format::Text
    }
}

fn begins(start: &[u8], text: &str) -> bool {
    start.get(..text.len()).is_some_and(|part| part.eq_ignore_ascii_case(text.as_bytes()))
}

/// Returns whether the bytes begin an HTML page: with an element that only pages have, perhaps after comments
/// and an XML declaration. Other elements, such as `<p>` or `<h1>`, also begin Markdown.
fn is_page(mut start: &[u8]) -> bool {
    loop {
        let end = match start {
            _ if start.starts_with(b"<!--") => "-->",
            _ if start.starts_with(b"<?xml") => "?>",
            _ => break,
        };
        let Some(at) = memchr::memmem::find(start, end.as_bytes()) else { return false };
        start = start[at + end.len()..].trim_ascii_start();
    }
    ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| {
        begins(start, tag) && start.get(tag.len()).is_none_or(|&byte| !byte.is_ascii_alphanumeric())
    })
}

/// Returns whether the bytes begin JSON: an object with its first key, whatever follows, or an array that is
/// valid as far as it is seen.
fn is_json(start: &[u8]) -> bool {
    let mut values = serde_json::Deserializer::from_slice(start).into_iter::<serde::de::IgnoredAny>();
    let is_whole = match values.next() {
        Some(Ok(_)) => {
            let rest = start[values.byte_offset()..].trim_ascii_start();
            rest.is_empty() || matches!(rest[0], b'{' | b'[')
        }
        Some(Err(error)) => error.is_eof(),
        None => false,
    };
    match start {
        [b'{', rest @ ..] => is_whole || has_key(rest.trim_ascii_start()),
        [b'[', rest @ ..] => {
            let rest = rest.trim_ascii_start();
            is_whole || rest.strip_prefix(b"{").is_some_and(|rest| has_key(rest.trim_ascii_start()))
        }
        _ => false,
    }
}

/// Returns whether the bytes begin with a key in quotes and its colon.
fn has_key(start: &[u8]) -> bool {
    let Some(rest) = start.strip_prefix(b"\"") else { return false };
    let mut is_escaped = false;
    let end = rest.iter().position(|&byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.is_some_and(|end| rest[end + 1..].trim_ascii_start().starts_with(b":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_that_of_the_first_bytes_where_the_name_says_nothing() {
        assert_eq!(by_start(b"WARC/1.0\r\n"), Format::Warc);
        assert_eq!(by_extension("a.MD"), Some(Format::Text));
        assert_eq!((by_extension("a.bin"), by_extension("b.txt!a")), (None, None));
        for page in [
            "  <!DOCTYPE html>",
            "\u{feff}<html lang=de>",
            "<!-- saved -->\n<!doctype HTML>",
            "<?xml version='1.0'?><html>",
            "<body>",
        ] {
            assert_eq!(by_start(page.as_bytes()), Format::Html, "{page}");
        }
    }

    #[test]
    fn json_is_known_however_it_is_spaced() {
        for json in [
            "{\"text\":1}",
            "{ \"text\" : \"one\" }\n",
            "\u{feff}{\t\"text\": \"one\"}",
            "\n\r\n  {\"text\": \"one\"}",
            "{\n  \"text\": \"one\"\n}\n",
            "{\"a \\\" b\" : 1",
            "{\"text\": \"un\nfinished\"}",
            "{\"text\": 1}{\"text\": 2}",
            "{}\n{}",
            "[ {\"text\":1}",
            "[\n\t{\n\"text\" :",
            "[]",
            "[\"one\", \"two\"]",
            "[[1, 2],",
            "[",
        ] {
            assert_eq!(by_start(json.as_bytes()), Format::Json, "{json}");
        }
        let long = format!("{{ \"text\" : \"{}", "x".repeat(START));
        assert_eq!(by_start(&long.as_bytes()[..START]), Format::Json);
    }

    #[test]
    fn text_with_brackets_stays_text() {
        for text in [
            "",
            "{% raw %}",
            "{ a, b } are the members",
            "{\"quoted\"} and more",
            "{} is an empty set",
            "[1] A footnote",
            "[\"Title\"](link)",
            "[x] done",
            "<p align=center>Markdown",
            "<!-- a comment of Markdown -->\n# Title",
            "<!-- one without an end",
            "<header>",
            "\"one\"\n\"two\"",
        ] {
            assert_eq!(by_start(text.as_bytes()), Format::Text, "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        assert_eq!(foreign(b"%PDF-1.7\n", true).as_deref(), Some("the file is a PDF, not text"));
        assert!(foreign(b"a\0\0\0b\x01\x02", false).is_some());
        assert_eq!(foreign(b"a\0\0\0b\x01\x02", true), None);
        assert_eq!(foreign(b"\xff\xfea\0b\0", false), None);
        assert_eq!(foreign(b"a\0 \0t\0e\0x\0t\0", false), None);
    }
}
