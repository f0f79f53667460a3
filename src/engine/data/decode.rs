//! Decodes the bytes of a file to text. Bytes that are not UTF-8 are refused with advice for their format; if
//! a text is only damaged, the damage is reported.

use super::signature::{Signature, Way};
use crate::error::{Error, Hint, HintPart, Result, hint};
use std::{borrow::Cow, path::Path};

/// Number of bytes at the beginning of a file by which it is recognised as text or not.
pub(super) const START: u64 = 8192;

/// A text is regarded as damaged if at most one place in this many bytes is not UTF-8, otherwise as one in
/// another encoding.
const DAMAGE: usize = 1000;

/// Reason why a file is not read as text, and advice for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotText {
    /// Continuation of a message after the file's name, such as "is a PDF".
    pub message: String,
    pub hint: Hint,
    /// Whether the file is likely to contain text.
    pub has_text: bool,
}

impl NotText {
    /// Inspects a whole file or its beginning; `None` if it may be text.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let text = |message: &str, hint: Hint| Some(Self { message: message.into(), hint, has_text: true });
        let convert = |from: &str| {
            let iconv = hint::command(format!("iconv -f {from} -t UTF-8 FILE > NEW.txt"));
            hint!["convert it (", iconv, ")", or_make_shards()]
        };
        if let Some(signature) = Signature::of(bytes) {
            return Some(Self::by_signature(signature));
        }
        match bytes {
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => text("is UTF-32", convert("UTF-32")),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => text("is UTF-16", convert("UTF-16")),
            _ => {
                let at = bytes.iter().position(|&byte| byte == 0)?;
                match utf_16_without_mark(bytes) {
                    Some(encoding) => {
                        let message = format!("is {encoding} without a byte order mark");
                        text(&message, convert(encoding))
                    }
                    None => Some(Self {
                        message: format!("has a byte of zero at {at}, which no text has"),
                        hint: hint![
                            "name files of text; if this is one, take them out (",
                            hint::command("tr -d '\\000' < FILE > NEW.txt"),
                            ")"
                        ],
                        has_text: false,
                    }),
                }
            }
        }
    }

    fn by_signature(Signature { name, way }: Signature) -> Self {
        let of_file = |command: &str| hint::command(format!("{command} FILE"));
        let hint = match way {
            Way::Unpack(command) => {
                hint!["unpack it (", of_file(command), ") and name what comes out", or_make_shards()]
            }
            Way::UnpackOnly(command) => {
                hint!["unpack it (", of_file(command), ") and name what comes out"]
            }
            Way::Prepare => {
                hint!["write its column of text to a `.jsonl` file", or_make_shards()]
            }
            Way::Export => "export its text to a `.txt` or `.jsonl` file".into(),
            Way::None => "name files of text".into(),
        };
        Self { message: format!("is {name}"), hint, has_text: way != Way::None }
    }

    pub fn into_error(self, path: &Path) -> Error {
        Error::NotText { path: path.into(), message: self.message, hint: self.hint }
    }
}

/// Advice to make token shards instead, which only the command line can do.
fn or_make_shards() -> HintPart {
    hint::command_line(hint![", or make token shards of it with ", hint::command("kiln data run")])
}

/// Decodes the bytes of a file, without a byte order mark. Also returns the number of places that were
/// replaced because they are not UTF-8, which is always 0 unless `lossy`.
///
/// # Errors
/// [`Error::NotText`] for a file that is not UTF-8 text, [`Error::InvalidUtf8`] for one that is damaged.
pub(super) fn decode<'a>(path: &Path, bytes: &'a [u8], lossy: bool) -> Result<(Cow<'a, str>, usize)> {
    if let Some(refused) = NotText::of(bytes) {
        return Err(refused.into_error(path));
    }
    let mark = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let bytes = &bytes[mark..];
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok((text.into(), 0)),
        Err(error) => error,
    };
    let places = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
    if lossy {
        return Ok((String::from_utf8_lossy(bytes), places));
    }
    let offset = mark + error.valid_up_to();
    if places <= 3.max(bytes.len() / DAMAGE) {
        return Err(Error::InvalidUtf8 { path: path.into(), offset });
    }
    Err(Error::NotText {
        path: path.into(),
        message: format!("is not UTF-8: {places} places are invalid, the first at byte {offset}"),
        hint: hint![
            "convert it from the encoding that it has (",
            hint::command("iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW.txt"),
            ")",
            or_make_shards(),
            hint::command_line(", which finds the encoding")
        ],
    })
}

/// Recognises UTF-16 without a byte order mark. In Latin text every other byte is zero, in other texts those
/// of spaces and line breaks, either all at even or all at odd positions.
fn utf_16_without_mark(bytes: &[u8]) -> Option<&'static str> {
    let start = &bytes[..bytes.len().min(1024)];
    let zeros = |first: usize| start.iter().skip(first).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd, half) = (zeros(0), zeros(1), start.len() / 2);
    match () {
        () if odd * 10 > half * 4 && even * 10 < half || odd >= 8 && even == 0 => Some("UTF-16LE"),
        () if even * 10 > half * 4 && odd * 10 < half || even >= 8 && odd == 0 => Some("UTF-16BE"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8], lossy: bool) -> (String, String) {
        let error = decode(Path::new("f"), bytes, lossy).unwrap_err();
        (error.to_string(), error.hint().unwrap().to_string())
    }

    #[test]
    fn text_loses_its_mark() {
        let text = |bytes: &'static [u8]| decode(Path::new("f"), bytes, false).unwrap();
        assert_eq!(text(b"\xef\xbb\xbfabc"), ("abc".into(), 0));
        assert_eq!(text("äöü".as_bytes()), ("äöü".into(), 0));
        assert_eq!(text(b""), ("".into(), 0));
    }

    #[test]
    fn utf_16_is_refused_with_what_converts_it() {
        let utf_16 = |text: &str, mark: &[u8]| {
            [mark, &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()].concat()
        };
        for lossy in [false, true] {
            let (message, hint) = refused(&utf_16("the heron", b"\xff\xfe"), lossy);
            assert_eq!(message, "`f` is UTF-16");
            assert!(hint.contains("iconv -f UTF-16 ") && hint.contains("kiln data run"), "{hint}");
            let (message, hint) = refused(&utf_16("the heron", b""), lossy);
            assert_eq!(message, "`f` is UTF-16LE without a byte order mark");
            assert!(hint.contains("iconv -f UTF-16LE "), "{hint}");
            let big: Vec<u8> = "the heron".encode_utf16().flat_map(u16::to_be_bytes).collect();
            assert!(refused(&big, lossy).1.contains("iconv -f UTF-16BE "));
            let russian = utf_16(&"цапля стояла в воде ".repeat(4), b"");
            assert!(refused(&russian, lossy).1.contains("iconv -f UTF-16LE "));
        }
        assert!(refused(b"\xff\xfe\0\0a\0\0\0", false).1.contains("UTF-32"));
    }

    #[test]
    fn what_is_no_text_is_refused_however_lossy() {
        for (bytes, name, way) in [
            (&b"\x1f\x8b\x08\x00"[..], "compressed by gzip", "gunzip"),
            (b"\x28\xb5\x2f\xfd\x24", "compressed by zstd", "kiln data run"),
            (b"PK\x03\x04", "a zip archive", "unzip"),
            (b"PAR1\x15\x04", "a Parquet file", "kiln data run"),
            (b"%PDF-1.4", "a PDF", "export"),
            (b"abc\0defgh", "a byte of zero at 3", "tr -d"),
        ] {
            for lossy in [false, true] {
                let (message, hint) = refused(bytes, lossy);
                assert!(message.contains(name) && hint.contains(way), "{message}\n{hint}");
                assert!(!hint.contains("lossy"), "{hint}");
            }
        }
    }

    #[test]
    fn another_encoding_is_told_from_damage() {
        let latin: Vec<u8> = "Füße für süße Bären. ".repeat(20).chars().map(|c| c as u8).collect();
        let (message, hint) = refused(&latin, false);
        assert_eq!(message, "`f` is not UTF-8: 120 places are invalid, the first at byte 1");
        assert!(hint.contains("iconv") && !hint.contains("lossy"), "{hint}");
        assert_eq!(decode(Path::new("f"), &latin, true).unwrap().1, 120);
        let damaged = b"ab\xffc";
        assert!(refused(damaged, false).1.contains("data.lossy"));
        assert_eq!(decode(Path::new("f"), damaged, true).unwrap(), ("ab\u{fffd}c".into(), 1));
    }
}
