//! The text within a WARC record: of an HTTP answer, without its header, its chunks and its compression, or
//! of what was stored without HTTP.

use super::{super::clean::encoding, Metadata, html};
use std::io::Read;

/// Most bytes of the header of a record, or of an HTTP answer.
pub(super) const HEADER: usize = 1 << 16;

/// Names in lower case and values, in order.
#[derive(Debug, Default)]
pub(super) struct Headers(Vec<(String, String)>);

impl Headers {
    pub(super) fn add(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        match line.split_once(':') {
            // A line that begins with white space goes on with the value before.
            _ if line.starts_with([' ', '\t']) => {
                if let Some((_, value)) = self.0.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            }
            Some((name, value)) => self.0.push((name.trim().to_ascii_lowercase(), value.trim().to_string())),
            None => {}
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The text of a record's body; `None` if it is of a kind without.
pub(super) fn page(
    kind: &str,
    headers: &Headers,
    body: &[u8],
    limit: usize,
) -> Result<Option<html::Page>, String> {
    let declared = headers.get("content-type").unwrap_or_default();
    if kind == "conversion" {
        let decoded = encoding::decode(body, &encoding::Hints { content_type: Some(declared), html: false });
        return plain(decoded).map(Some);
    }
    if kind == "resource" || !declared.to_ascii_lowercase().starts_with("application/http") {
        return content(declared, body);
    }
    let (status, http, payload) = split_http(body).ok_or("the HTTP answer has no header")?;
    if !(200..300).contains(&status) {
        return Ok(None);
    }
    let kind = http.get("content-type").unwrap_or_default();
    if !is_html(kind, b"")
        && !kind.is_empty()
        && !kind.trim_start().to_ascii_lowercase().starts_with("text/plain")
    {
        return Ok(None);
    }
    let chunked =
        http.get("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
    // Crawlers often take the chunks off and keep the header.
    let joined = if chunked { unchunk(payload) } else { None };
    let payload = joined.as_deref().unwrap_or(payload);
    let inflated = inflate(http.get("content-encoding").unwrap_or_default(), payload, limit)?;
    content(kind, inflated.as_deref().unwrap_or(payload))
}

fn is_html(content_type: &str, body: &[u8]) -> bool {
    let kind = content_type.trim_start().to_ascii_lowercase();
    kind.starts_with("text/html")
        || kind.starts_with("application/xhtml")
        || (kind.is_empty() && body.trim_ascii_start().starts_with(b"<"))
}

fn content(content_type: &str, body: &[u8]) -> Result<Option<html::Page>, String> {
    if is_html(content_type, body) {
        return html::extract(body, Some(content_type)).map(Some);
    }
    let kind = content_type.trim_start().to_ascii_lowercase();
    if !kind.starts_with("text/plain") && !kind.is_empty() {
        return Ok(None);
    }
    let hints = encoding::Hints { content_type: Some(content_type), html: false };
    plain(encoding::decode(body, &hints)).map(Some)
}

fn plain(decoded: encoding::Decoded) -> Result<html::Page, String> {
    if decoded.text.trim().is_empty() {
        return Err("the record has no text".into());
    }
    Ok(html::Page { text: decoded.text, metadata: Metadata::new() })
}

/// Status, headers and payload of an HTTP answer.
fn split_http(body: &[u8]) -> Option<(u16, Headers, &[u8])> {
    let mut headers = Headers::default();
    let mut status = None;
    let mut at = 0;
    while at < HEADER {
        let rest = body.get(at..)?;
        let Some(length) = memchr::memchr(b'\n', rest) else { break };
        let line = rest[..length].trim_ascii_end();
        at += length + 1;
        match status {
            None => {
                let line = std::str::from_utf8(line).ok()?;
                let mut parts = line.split_ascii_whitespace();
                parts.next().filter(|version| version.starts_with("HTTP/"))?;
                status = Some(parts.next()?.parse().ok()?);
            }
            Some(status) if line.is_empty() => return Some((status, headers, &body[at..])),
            Some(_) => headers.add(line),
        }
    }
    None
}

/// Joins the chunks of a payload; `None` if it is not made of such. One that is cut keeps what there is.
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

/// Takes off what `Content-Encoding` names; `None` where the payload is as it should be.
fn inflate(coding: &str, payload: &[u8], limit: usize) -> Result<Option<Vec<u8>>, String> {
    let most = limit as u64 + 1;
    let mut bytes = Vec::new();
    let outcome = match coding.trim().to_ascii_lowercase().as_str() {
        // Crawlers often decode and keep the header.
        "gzip" | "x-gzip" if payload.starts_with(&[0x1f, 0x8b]) => {
            flate2::read::MultiGzDecoder::new(payload).take(most).read_to_end(&mut bytes)
        }
        "deflate" if payload.starts_with(&[0x78]) => {
            flate2::read::ZlibDecoder::new(payload).take(most).read_to_end(&mut bytes)
        }
        "br" | "zstd" if std::str::from_utf8(payload).is_err() => {
            return Err(format!("content encoding `{coding}` is not supported"));
        }
        _ => return Ok(None),
    };
    if bytes.len() > limit {
        return Err(format!("a payload of more than {limit} bytes"));
    }
    match outcome {
        // A page that is cut is still a page.
        Err(error) if bytes.is_empty() => Err(format!("the payload is broken: {error}")),
        _ => Ok(Some(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_unpacked() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n").as_deref(), Some(&b"abcde"[..]));
        assert_eq!(unchunk(b"fffff\r\nabc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(unchunk(b"<html>\nabc"), None);
        let packed = super::super::compressed::tests::gzip(b"abc");
        assert_eq!(inflate("gzip", &packed, 3), Ok(Some(b"abc".to_vec())));
        assert!(inflate("gzip", &packed, 2).is_err_and(|reason| reason.contains("more than 2 bytes")));
        assert_eq!(inflate("gzip", b"not packed", 3), Ok(None));
    }
}
