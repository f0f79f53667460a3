//! Codings of HTTP, which `Transfer-Encoding` and `Content-Encoding` name: chunks, gzip, deflate, Brotli and
//! zstd.
//!
//! Crawlers often decode a payload and keep its header. As in warcio, a payload that is not in the coding
//! that the header names is then taken as it is, but only if it looks like text: a payload that is still
//! compressed is never text.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use std::io::{self, Read};

/// Number of bytes in which signs of a payload that is not text are searched.
const START: usize = 4096;

/// Bytes of Brotli that are decompressed at a time.
const STEP: usize = 1 << 16;

/// Result of decoding a payload.
#[derive(Debug, Default)]
pub(in super::super) struct Unpacked {
    pub bytes: Vec<u8>,
    /// Error that stopped decoding before the payload's end.
    pub error: Option<io::Error>,
    /// Number of bytes after the end of the coded data.
    rest: usize,
    /// True if the payload begins with a signature of the coding.
    marked: bool,
}

impl Unpacked {
    /// Returns whether no error was found. Some short texts can be read as if they were compressed.
    fn is_whole(&self, payload: &[u8]) -> bool {
        self.error.is_none() && (!is_text(payload) || (self.rest == 0 && !self.bytes.is_empty()))
    }

    /// Returns whether this is the beginning of a truncated page, which still counts as a page.
    fn is_beginning(&self) -> bool {
        let cut = self.error.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        (cut || self.marked) && !self.bytes.is_empty() && is_text(&self.bytes)
    }
}

/// Decodes a payload; `None` if it is not coded.
///
/// # Errors
/// A message if the coding is unknown, the payload is not in it, or the result exceeds the limit in bytes.
pub(super) fn decode(coding: &str, payload: &[u8], limit: usize) -> Result<Option<Vec<u8>>, String> {
    if payload.is_empty() || names_nothing(coding) {
        return Ok(None);
    }
    let unpacked = match coding {
        "chunked" | "aws-chunked" => return Ok(unchunk(payload)),
        "gzip" | "x-gzip" if payload.starts_with(&[0x1f, 0x8b]) => {
            unpack(flate2::bufread::MultiGzDecoder::new(payload), true, limit)?
        }
        "zstd" if packing(payload) == Some("zstd") => {
            let decoder = zstd::stream::read::Decoder::with_buffer(payload);
            unpack(decoder.map_err(|error| error.to_string())?, true, limit)?
        }
        "gzip" | "x-gzip" | "zstd" => {
            Unpacked { error: Some(broken("no magic number")), ..Default::default() }
        }
        "deflate" => deflate(payload, limit)?,
        "br" => brotli(payload, limit)?,
        _ => return Err(format!("the coding `{coding}` of HTTP is not supported")),
    };
    if unpacked.is_whole(payload) {
        return Ok(Some(unpacked.bytes));
    }
    if is_text(payload) {
        return Ok(None);
    }
    if unpacked.is_beginning() {
        return Ok(Some(unpacked.bytes));
    }
    let why = unpacked.error.map_or(String::new(), |error| format!(": {error}"));
    Err(format!("the payload is not of the coding `{coding}` that its header names{why}"))
}

/// Returns whether a header's value names no coding, as misconfigured servers send.
fn names_nothing(coding: &str) -> bool {
    matches!(coding, "" | "identity" | "none" | "binary" | "7bit" | "8bit")
        || encoding_rs::Encoding::for_label(coding.as_bytes()).is_some()
}

/// Names the compression whose signature the bytes begin with; no text begins with one.
pub(super) fn packing(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x1f, 0x8b, 8, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some("zstd"),
        _ => None,
    }
}

/// Returns whether bytes may be text in some encoding. No text has control characters other than white space
/// and escape, except UTF-16 with its byte order mark.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(START)];
    matches!(start, [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
        || start.iter().all(|byte| !matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f))
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads a decoder to its end. If it fails, its output up to then is kept.
fn unpack(decoder: impl Read, marked: bool, limit: usize) -> Result<Unpacked, String> {
    let mut bytes = Vec::new();
    let error = decoder.take(limit as u64 + 1).read_to_end(&mut bytes).err();
    if bytes.len() > limit {
        return Err(format!("a payload of more than {limit} bytes"));
    }
    Ok(Unpacked { bytes, error, rest: 0, marked })
}

/// Decodes the coding called deflate: zlib as in RFC 9110, or without zlib's header as some servers send it
/// and all browsers accept it.
fn deflate(payload: &[u8], limit: usize) -> Result<Unpacked, String> {
    let zlib = matches!(payload, [method, flags, ..]
        if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31));
    if zlib {
        let unpacked = unpack(flate2::bufread::ZlibDecoder::new(payload), true, limit)?;
        if unpacked.error.is_none() || !unpacked.bytes.is_empty() {
            return Ok(unpacked);
        }
    }
    let mut left = payload;
    let unpacked = unpack(flate2::bufread::DeflateDecoder::new(&mut left), false, limit)?;
    Ok(Unpacked { rest: left.len(), ..unpacked })
}

/// Decodes Brotli.
///
/// # Errors
/// A message if the result exceeds the limit in bytes.
pub(in super::super) fn brotli(payload: &[u8], limit: usize) -> Result<Unpacked, String> {
    // Windows of more than 16 MB are not part of RFC 7932.
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut unpacked = Unpacked::default();
    let (mut left, mut at, mut total) = (payload.len(), 0, 0);
    let mut step = vec![0; STEP];
    loop {
        let (mut free, mut written) = (STEP, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            payload,
            &mut free,
            &mut written,
            &mut step,
            &mut total,
            &mut state,
        );
        unpacked.bytes.extend_from_slice(&step[..written]);
        if unpacked.bytes.len() > limit {
            return Err(format!("a payload of more than {limit} bytes"));
        }
        unpacked.error = match result {
            BrotliResult::NeedsMoreOutput => continue,
            BrotliResult::ResultSuccess => None,
            BrotliResult::NeedsMoreInput => {
                Some(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete Brotli stream"))
            }
            BrotliResult::ResultFailure => Some(broken("corrupt Brotli stream")),
        };
        unpacked.rest = left;
        return Ok(unpacked);
    }
}

/// Joins the chunks of a payload; `None` if it is not chunked. A truncated payload keeps what there is.
fn unchunk(mut payload: &[u8]) -> Option<Vec<u8>> {
    let mut joined = Vec::new();
    loop {
        let Some(length) = memchr::memchr(b'\n', payload) else {
            return (!joined.is_empty()).then_some(joined);
        };
        let size = std::str::from_utf8(&payload[..length]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        payload = &payload[length + 1..];
        if size == 0 {
            return Some(joined);
        }
        joined.extend_from_slice(&payload[..size.min(payload.len())]);
        let rest = payload.get(size..).unwrap_or_default();
        payload = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        compressed::tests::{gzip, zstandard},
        tests::noise,
    };
    use super::*;
    use std::io::Write;

    const TEXT: &[u8] = b"the heron stood in the water";

    /// Output of `zlib.compress(TEXT)`; without its first two and last four bytes it is raw deflate.
    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// `TEXT`, compressed by pyarrow (`pyarrow.compress(TEXT, codec="brotli")`).
    const BROTLI: &[u8] = &[
        27, 27, 0, 0, 4, 156, 99, 169, 174, 135, 11, 166, 11, 191, 53, 8, 82, 117, 169, 93, 11, 235, 178,
        124, 147, 225, 139, 74, 1,
    ];

    fn read(coding: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
        decode(coding, payload, 1000).map(|bytes| bytes.unwrap_or_else(|| payload.to_vec()))
    }

    #[test]
    fn every_coding_is_taken_off() {
        let raw = &zlib(TEXT)[2..];
        for (coding, payload) in [
            ("gzip", gzip(TEXT)),
            ("x-gzip", [gzip(b"the heron "), gzip(b"stood in the water")].concat()),
            ("deflate", zlib(TEXT)),
            ("deflate", raw[..raw.len() - 4].to_vec()),
            ("br", BROTLI.to_vec()),
            ("zstd", zstandard(TEXT)),
            ("zstd", [zstandard(b"the heron "), zstandard(b"stood in the water")].concat()),
            ("chunked", b"a\r\nthe heron \r\n12;x=1\r\nstood in the water\r\n0\r\n\r\n".to_vec()),
            ("identity", TEXT.to_vec()),
            ("utf-8", TEXT.to_vec()),
        ] {
            assert_eq!(read(coding, &payload).as_deref(), Ok(TEXT), "{coding}");
        }
    }

    #[test]
    fn text_that_was_unpacked_before_is_taken_as_it_is() {
        let html = b"<!doctype html><p>\xe4\xf6\xfc</p>";
        for coding in ["gzip", "deflate", "br", "zstd", "chunked"] {
            for payload in [TEXT, html, b"{", b"x", b"\xff\xfe<\0p\0>\0", b"Hello", b"3"] {
                assert_eq!(read(coding, payload).as_deref(), Ok(payload), "{coding}");
            }
        }
    }

    #[test]
    fn what_cannot_be_unpacked_is_a_bad_record() {
        for coding in ["gzip", "deflate", "br", "zstd"] {
            for payload in [&noise(500, 3)[..], &noise(20, 5), b"\0\x01\x02"] {
                assert!(read(coding, payload).is_err_and(|reason| reason.contains(coding)), "{coding}");
            }
        }
        for coding in ["compress", "x-compress", "exi", "pack200-gzip", "dcz", "base64"] {
            let reason = format!("the coding `{coding}` of HTTP is not supported");
            assert_eq!(read(coding, TEXT), Err(reason));
        }
    }

    #[test]
    fn a_payload_that_is_cut_keeps_what_there_is_and_a_large_one_is_a_bad_record() {
        let text = "the heron stood in the water, and it looked at the fish that swam by. ".repeat(9);
        let zlib = zlib(text.as_bytes());
        for (coding, payload) in
            [("gzip", gzip(text.as_bytes())), ("deflate", zlib.clone()), ("deflate", zlib[2..].to_vec())]
        {
            let cut = read(coding, &payload[..payload.len() - 12]).unwrap();
            assert!(!cut.is_empty() && text.as_bytes().starts_with(&cut), "{coding}");
            let large = decode(coding, &payload, 50);
            assert!(large.is_err_and(|reason| reason.contains("more than 50 bytes")), "{coding}");
        }
        assert!(decode("br", BROTLI, 5).is_err_and(|reason| reason.contains("more than 5 bytes")));
        assert!(decode("zstd", &zstandard(TEXT), 5).is_err_and(|reason| reason.contains("more than")));
    }

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n").as_deref(), Some(&b"abcde"[..]));
        assert_eq!(unchunk(b"fffff\r\nabc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(unchunk(b"<html>\nabc"), None);
    }
}
