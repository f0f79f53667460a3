//! WARC and WET files (ISO 28500): responses and resources become the main text of their pages, conversions
//! are taken as they are. Requests, metadata, revisits, pages that are not HTML or text and responses other
//! than 2xx are skipped and counted.
//!
//! The `warc` crate is not used: it gives no offsets and ends at the first incomplete record.

use super::{
    super::clean::panics,
    BadRecord, Document, Records,
    http::{HEADER, Headers, page},
    source::{Piece, Source},
};

pub(super) struct WarcReader {
    source: Source,
    index: u64,
    skipped: u64,
    waiting: Option<BadRecord>,
}

/// Outcome of reading a record.
enum Outcome {
    Document(Document),
    Skipped,
}

impl WarcReader {
    pub(super) fn new(source: Source) -> Self {
        Self { source, index: 0, skipped: 0, waiting: None }
    }

    /// Finds the next version line. Anything before it other than blank lines is a bad record.
    fn find_record(&mut self) -> Result<Option<u64>, BadRecord> {
        let mut lost: Option<u64> = None;
        loop {
            let start = self.source.offset();
            if self.source.peek(5) == b"WARC/" {
                if let Some(at) = lost {
                    return Err(self.source.bad_record(at, "no WARC record where one should begin"));
                }
                return Ok(Some(start));
            }
            let mut line = Vec::new();
            let piece = self.source.read_until(b'\n', &mut line)?;
            if piece == Piece::TooLong || !line.trim_ascii().is_empty() {
                lost = lost.or(Some(start));
            }
            if piece == Piece::End || self.source.at_end() {
                return match lost {
                    Some(at) => Err(self.source.bad_record(at, "no WARC record where one should begin")),
                    None => Ok(None),
                };
            }
        }
    }

    fn read_headers(&mut self, start: u64) -> Result<Headers, BadRecord> {
        let mut headers = Headers::default();
        let mut length = 0;
        loop {
            let mut line = Vec::new();
            let piece = self.source.read_until(b'\n', &mut line)?;
            length += line.len();
            if piece == Piece::TooLong || length > HEADER {
                return Err(self
                    .source
                    .bad_record(start, format!("a record header of more than {HEADER} bytes")));
            }
            let text = line.trim_ascii_end();
            if text.is_empty() && piece == Piece::Whole {
                return Ok(headers);
            }
            if piece == Piece::End {
                return Err(self.source.bad_record(start, "the record is truncated in its header"));
            }
            // The first is the version.
            if length > line.len() {
                headers.add(text);
            }
        }
    }

    /// Reads a body of `length` bytes and the line breaks after it.
    fn read_body(&mut self, start: u64, length: u64) -> Result<Vec<u8>, BadRecord> {
        let mut body = Vec::new();
        let count = usize::try_from(length).ok().filter(|&count| count <= self.source.limit());
        let Some(count) = count else {
            self.source.skip(length)?;
            let reason = format!("a record of {length} bytes, more than {}", self.source.limit());
            return Err(self.source.bad_record(start, reason));
        };
        self.source.read_up_to(count, &mut body)?;
        let next = self.source.peek(2);
        let whole = body.len() == count && (next.is_empty() || matches!(next, b"\r\n" | [b'\n', ..]));
        if whole {
            return Ok(body);
        }
        // Too short, or as long as it says but into the next record: go on with that, if it is within.
        let missing = count - body.len();
        let next = memchr::memmem::find_iter(&body, b"\nWARC/1.").next();
        if let Some(at) = next {
            self.source.unread(&body[at + 1..]);
        }
        let reason = if missing > 0 {
            format!("the record is truncated: {missing} of {count} bytes are missing")
        } else {
            format!("the record does not end after the {count} bytes that it names")
        };
        Err(self.source.bad_record(start, reason))
    }

    fn read_record(&mut self, start: u64) -> Result<Outcome, BadRecord> {
        let headers = self.read_headers(start)?;
        let Some(length) = headers.get("content-length").and_then(|length| length.parse::<u64>().ok()) else {
            return Err(self.source.bad_record(start, "the record has no valid `Content-Length`"));
        };
        let kind = headers.get("warc-type").unwrap_or_default().to_ascii_lowercase();
        if !matches!(kind.as_str(), "response" | "conversion" | "resource") {
            // Read rather than passed over where it is small, to notice that it is truncated.
            return if length <= self.source.limit() as u64 {
                self.read_body(start, length).map(|_| Outcome::Skipped)
            } else {
                self.source.skip(length).map(|_| Outcome::Skipped)
            };
        }
        let body = self.read_body(start, length)?;
        let limit = self.source.limit();
        let page = match panics::catch(|| page(&kind, &headers, &body, limit)) {
            Ok(Ok(Some(page))) => page,
            Ok(Ok(None)) => return Ok(Outcome::Skipped),
            Ok(Err(reason)) | Err(reason) => return Err(self.source.bad_record(start, reason)),
        };
        let mut metadata = page.metadata;
        if let Some(date) = headers.get("warc-date") {
            metadata.insert("date".into(), date.into());
        }
        let name = self.source.name();
        let id = headers.get("warc-record-id").map(|id| id.trim_matches(['<', '>']).to_string());
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("{name}#{}", self.index));
        let url = headers.get("warc-target-uri").map(|url| url.trim_matches(['<', '>']).to_string());
        Ok(Outcome::Document(Document { id, text: page.text, url, source: name.into(), metadata }))
    }
}

impl Records for WarcReader {
    fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl Iterator for WarcReader {
    type Item = Result<Document, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(bad_record) = self.waiting.take() {
                self.index += 1;
                return Some(Err(bad_record));
            }
            let start = match self.find_record() {
                Ok(Some(start)) => start,
                Ok(None) if self.index + self.skipped == 0 => {
                    self.index = 1;
                    return Some(Err(self.source.nothing()));
                }
                Ok(None) => return None,
                Err(bad_record) => {
                    self.waiting = Some(bad_record);
                    continue;
                }
            };
            match self.read_record(start) {
                Ok(Outcome::Skipped) => self.skipped += 1,
                Ok(Outcome::Document(document)) => {
                    self.index += 1;
                    return Some(Ok(document));
                }
                Err(bad_record) => self.waiting = Some(bad_record),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExtractConfig, open};
    use super::super::{compressed::tests::gzip, tests::*};
    use super::*;

    fn record(kind: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head = format!(
            "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{length}>\r\n\
             WARC-Target-URI: http://example.org/{length}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n\
             Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body, b"\r\n\r\n"].concat()
    }

    fn wet(text: &str) -> Vec<u8> {
        record("conversion", "text/plain", text.as_bytes())
    }

    fn response(head: &str, body: &[u8]) -> Vec<u8> {
        let body = [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat();
        record("response", "application/http; msgtype=response", &body)
    }

    fn read(name: &str, bytes: &[u8]) -> (Vec<Document>, Vec<BadRecord>) {
        read_all(name, bytes, &ExtractConfig::default())
    }

    #[test]
    fn conversions_and_responses_are_read_and_others_skipped() {
        let sentence =
            "Dies ist ein l\u{e4}ngerer Absatz \u{fc}ber \u{d6}fen, der als Text erkannt wird. ".repeat(4);
        let page = format!("<html><body><article><p>{sentence}</p></article></body></html>");
        let latin: Vec<u8> = page.chars().map(|character| character as u8).collect();
        let bytes = [
            record("warcinfo", "application/warc-fields", b"software: none"),
            record("request", "application/http", b"GET / HTTP/1.1"),
            wet("plain text"),
            response("200 OK\r\nContent-Type: text/html; charset=ISO-8859-1", &latin),
            response("404 Not Found\r\nContent-Type: text/html", page.as_bytes()),
            response("200 OK\r\nContent-Type: image/png", b"\x89PNG"),
            response(
                "200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Encoding: gzip",
                &gzip(page.as_bytes()),
            ),
        ];
        let mut reader =
            open("a.warc", Box::new(std::io::Cursor::new(bytes.concat())), &ExtractConfig::default());
        let documents: Vec<_> = reader.by_ref().map(|record| record.unwrap()).collect();
        assert_eq!(texts(&documents), ["plain text", sentence.trim(), sentence.trim()]);
        assert_eq!(
            (documents[0].id.as_str(), documents[0].url.as_deref()),
            ("urn:uuid:10", Some("http://example.org/10"))
        );
        assert_eq!(documents[0].metadata["date"], "2026-01-01T00:00:00Z");
        assert_eq!(reader.skipped(), 4);
        // One member a record, as crawls have it.
        let members: Vec<u8> = bytes.iter().flat_map(|record| gzip(record)).collect();
        assert_eq!(texts(&read("a.warc.gz", &members).0), texts(&documents));
    }

    #[test]
    fn chunks_are_joined() {
        let bytes = response(
            "200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked",
            b"5\r\nhello\r\n0\r\n\r\n",
        );
        assert_eq!(texts(&read("a.warc", &bytes).0), ["hello"]);
    }

    #[test]
    fn a_truncated_record_is_a_bad_record_and_the_next_is_read() {
        let (one, two, three) = (wet("one"), wet("two, which is longer"), wet("three"));
        // At the end of the file: in the body, and in the header.
        for cut in [30, two.len() - 10] {
            let (documents, bad_records) = read("a.wet", &[&one[..], &two[..cut]].concat());
            assert_eq!(texts(&documents), ["one"]);
            assert_eq!(bad_records.len(), 1, "{bad_records:?}");
            assert_eq!(bad_records[0].offset, one.len() as u64);
            assert!(bad_records[0].reason.contains("truncated"), "{bad_records:?}");
        }
        // In the middle, with another record behind: its first bytes are within the body as announced.
        let cut = &two[..two.len() - 6];
        let (documents, bad_records) = read("a.wet", &[&one[..], cut, b"\r\n", &three].concat());
        assert_eq!(texts(&documents), ["one", "three"]);
        assert_eq!(
            bad_records.iter().map(|bad_record| bad_record.offset).collect::<Vec<_>>(),
            [one.len() as u64]
        );
    }

    #[test]
    fn a_truncated_member_costs_its_record_only() {
        let (one, two, three) = (gzip(&wet("one")), gzip(&wet(&"two ".repeat(100))), gzip(&wet("three")));
        let (documents, bad_records) = read("a.wet.gz", &[&one[..], &two[..two.len() / 2], &three].concat());
        assert_eq!(texts(&documents), ["one", "three"]);
        assert_eq!(bad_records[0].offset, one.len() as u64, "{bad_records:?}");
        assert!(bad_records[0].reason.contains("gzip member"), "{bad_records:?}");
    }

    #[test]
    fn a_record_with_a_bad_header_is_a_bad_record() {
        let bad = b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: many\r\n\r\nbody\r\n\r\n";
        let (documents, bad_records) = read("a.wet", &[&wet("one")[..], bad, &wet("two")].concat());
        assert_eq!(texts(&documents), ["one", "two"]);
        // The header, and then a body that nothing says the length of.
        assert_eq!(bad_records.len(), 2, "{bad_records:?}");
        assert_eq!(bad_records[0].reason, "the record has no valid `Content-Length`");
        let (documents, bad_records) = read("a.wet", &[b"garbage\n\n", &wet("two")[..]].concat());
        assert_eq!((texts(&documents), bad_records[0].offset), (vec!["two"], 0));
        let (documents, bad_records) = read("a.warc", &record("response", "application/http", b"no http"));
        assert_eq!((documents.len(), bad_records.len()), (0, 1));
    }

    #[test]
    fn a_record_over_the_limit_is_skipped() {
        let config = ExtractConfig { record_limit: 400, ..Default::default() };
        let bytes = [wet("one"), wet(&"long ".repeat(1000)), wet("two")].concat();
        let (documents, bad_records) = read_all("a.wet", &bytes, &config);
        assert_eq!(texts(&documents), ["one", "two"]);
        assert_eq!(bad_records[0].reason, "a record of 5000 bytes, more than 400");
    }
}
