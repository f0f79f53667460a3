//! Extracts the text within a WARC record: of an HTTP response, without its header, chunks and compression,
//! or of a payload that was stored without HTTP.

use super::{super::clean::encoding, Metadata, codings, html};
use std::borrow::Cow;

/// Maximum bytes of the header of a record or of an HTTP response.
pub(super) const HEADER: usize = 1 << 16;

/// Header fields in order: names in lower case, and values.
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

    /// Values of all header lines with this name, in order and in lower case, without parameters.
    fn list(&self, name: &str) -> Vec<String> {
        let lines = self.0.iter().filter(|(key, _)| key == name);
        let values = lines.flat_map(|(_, value)| value.split(','));
        let bare =
            |value: &str| value.split(';').next().unwrap_or_default().trim().trim_matches('"').to_string();
        values.map(|value| bare(value).to_ascii_lowercase()).collect()
    }
}

/// Extracts the text of a record's body; `None` if the record is of a kind without text.
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
    let (status, http, payload) = split_http(body).ok_or("the HTTP response has no header")?;
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
    content(kind, &unpack(&http, payload, limit)?)
}

/// Decodes the codings that the headers name, the last one first.
fn unpack<'a>(http: &Headers, payload: &'a [u8], limit: usize) -> Result<Cow<'a, [u8]>, String> {
    let mut body = Cow::Borrowed(payload);
    for header in ["transfer-encoding", "content-encoding"] {
        for coding in http.list(header).iter().rev() {
            if let Some(unpacked) = codings::decode(coding, &body, limit)? {
                body = Cow::Owned(unpacked);
            }
        }
    }
    Ok(body)
}

fn is_html(content_type: &str, body: &[u8]) -> bool {
    let kind = content_type.trim_start().to_ascii_lowercase();
    kind.starts_with("text/html")
        || kind.starts_with("application/xhtml")
        || (kind.is_empty() && body.trim_ascii_start().starts_with(b"<"))
}

fn content(content_type: &str, body: &[u8]) -> Result<Option<html::Page>, String> {
    let is_html = is_html(content_type, body);
    let kind = content_type.trim_start().to_ascii_lowercase();
    if !is_html && !kind.starts_with("text/plain") && !kind.is_empty() {
        return Ok(None);
    }
    if let Some(packing) = codings::packing(body) {
        return Err(format!("the payload is packed with {packing}, which no `Content-Encoding` names"));
    }
    if is_html {
        return html::extract(body, Some(content_type)).map(Some);
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

/// Splits an HTTP response into status, headers and payload.
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

#[cfg(test)]
mod tests {
    use super::super::compressed::tests::{gzip, zstandard};
    use super::*;

    fn read(lines: &[&str], payload: &[u8]) -> Result<Vec<u8>, String> {
        let mut headers = Headers::default();
        lines.iter().for_each(|line| headers.add(line.as_bytes()));
        unpack(&headers, payload, 1000).map(Cow::into_owned)
    }

    #[test]
    fn chains_of_codings_are_taken_off_from_the_last() {
        let packed = gzip(&zstandard(b"abc"));
        let chunked = [format!("{:x}\r\n", packed.len()).as_bytes(), &packed, b"\r\n0\r\n\r\n"].concat();
        for (lines, payload) in [
            (&["Content-Encoding: zstd, gzip"][..], &packed),
            (&["content-encoding:ZSTD", "Content-Length: 5", "CONTENT-ENCODING:\tX-Gzip"], &packed),
            (&["Content-Encoding: identity, zstd,, gzip;q=1"], &packed),
            (&["Content-Encoding: zstd", "Transfer-Encoding: gzip, chunked"], &chunked),
            (&["Transfer-Encoding: chunked", "Content-Encoding: zstd, gzip"], &chunked),
            (&["Content-Encoding: gzip, zstd, gzip", "Transfer-Encoding: chunked"], &packed),
        ] {
            assert_eq!(read(lines, payload).as_deref(), Ok(&b"abc"[..]), "{lines:?}");
        }
        let wrong = read(&["Content-Encoding: gzip, zstd"], &packed);
        assert!(wrong.is_err_and(|reason| reason.contains("`zstd`")));
        assert_eq!(read(&[], &packed).as_deref(), Ok(&packed[..]));
        assert!(content("text/html", &packed).is_err_and(|reason| reason.contains("packed with gzip")));
        assert!(content("text/plain", &zstandard(b"abc")).is_err());
    }
}
