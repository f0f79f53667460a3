//! Reads documents from files: plain text, Markdown, JSON and JSON lines, CSV, HTML, WARC and WET, each also
//! within gzip or zstd, and all of them within tar and zip.
//!
//! [`open`] takes a name and a stream and returns an iterator of `Result<Document, BadRecord>`. A bad record
//! costs one record, or everything after it that cannot be found, and reading continues where that is
//! possible. No input makes a reader panic, or hold more than a few [`ExtractConfig::record_limit`] and a
//! zstd window in memory.

mod archive;
pub(super) mod codings;
pub mod compressed;
mod csv;
mod floats;
pub mod html;
mod http;
mod json;
mod jsonl;
mod sniff;
mod source;
mod tape;
mod tar;
mod text;
mod warc;
mod zip;
mod zstandard;

use self::source::Source;
use super::clean::wide::{Wide, WideReader};
use serde::{Deserialize, Serialize};
use std::{fmt, io::Read};

/// Fields of a record other than its text.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// A text, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The record's own identifier, or `FILE#N` with N counted from 0.
    pub id: String,
    pub text: String,
    pub url: Option<String>,
    /// Name of the file that it is from.
    pub source: String,
    pub metadata: Metadata,
}

/// A record, or part of a file, that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file}` at byte {offset}: {reason}")]
pub struct BadRecord {
    pub file: String,
    /// Position of the record in the decompressed stream, in bytes; for UTF-16 and UTF-32, in the stream
    /// converted to UTF-8. If [`BadRecord::reason`] is about a gzip member or a zstd frame, its position in
    /// the compressed file.
    pub offset: u64,
    pub reason: String,
}

/// Format of a file after decompression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Text,
    /// An array of records, or records that may extend over several lines.
    Json,
    /// One record a line.
    Jsonl,
    Csv,
    Tsv,
    Html,
    /// WARC or WET.
    Warc,
}

/// Separator between the documents of a text file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Separator {
    /// No separator: a file is one document.
    #[default]
    None,
    /// One or more blank lines.
    BlankLine,
    /// These characters, for example `<|endoftext|>`.
    Mark(String),
}

/// Settings of how files are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractConfig {
    /// Format of the files; by default, the extension of the name or the first bytes decide.
    pub format: Option<Format>,
    /// Separator between the documents of text files.
    pub separator: Separator,
    /// Field or column with the text in JSON and CSV. Fields other than this and the next two become
    /// metadata.
    pub text_field: String,
    /// Field or column with the identifier.
    pub id_field: String,
    /// Field or column with the address of the page.
    pub url_field: String,
    /// Maximum bytes of a record, decompressed; a longer one is a bad record and never in memory as a whole.
    pub record_limit: usize,
    /// Maximum bytes of memory that the window of a zstd frame may need; a frame that needs more is a bad
    /// record. A reader has one window at a time, and only as much of it as the frame fills.
    pub zstd_window: u64,
}

impl Default for ExtractConfig {
    fn default() -> Self {
        Self {
            format: None,
            separator: Separator::None,
            text_field: "text".into(),
            id_field: "id".into(),
            url_field: "url".into(),
            record_limit: 64 << 20,
            zstd_window: 2 << 30,
        }
    }
}

/// Reader of one format.
trait Records: Iterator<Item = Result<Document, BadRecord>> + Send {
    /// Number of skipped records, of kinds without text (requests, images, error pages).
    fn skipped(&self) -> u64 {
        0
    }
}

impl Records for std::iter::Empty<Result<Document, BadRecord>> {}

impl Records for std::iter::Once<Result<Document, BadRecord>> {}

/// Iterator over the documents and bad records of one file, which counts them.
pub struct Documents {
    records: Box<dyn Records>,
    documents: u64,
    bad_records: u64,
}

impl Documents {
    /// Number of documents returned so far.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Number of bad records returned so far.
    pub fn bad_records(&self) -> u64 {
        self.bad_records
    }

    /// Number of documents and bad records returned so far.
    pub fn records(&self) -> u64 {
        self.documents + self.bad_records
    }

    /// Number of records skipped so far, of kinds without text such as requests and images of a WARC file.
    /// They do not count as [`Documents::records`].
    pub fn skipped(&self) -> u64 {
        self.records.skipped()
    }
}

impl Iterator for Documents {
    type Item = Result<Document, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next();
        match &record {
            Some(Ok(_)) => self.documents += 1,
            Some(Err(_)) => self.bad_records += 1,
            None => {}
        }
        record
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { documents, bad_records, .. } = self;
        formatter
            .debug_struct("Documents")
            .field("documents", documents)
            .field("bad_records", bad_records)
            .finish()
    }
}

/// Reads the documents of a file called `name` from its bytes, compressed or not.
pub fn open(name: &str, reader: Box<dyn Read + Send>, config: &ExtractConfig) -> Documents {
    let records = records(name, reader, config, false).unwrap_or_else(|| Box::new(std::iter::empty()));
    Documents { records, documents: 0, bad_records: 0 }
}

/// Opens the records of a file, or of a member `within` an archive; `None` for a member without text.
fn records(
    name: &str,
    reader: Box<dyn Read + Send>,
    config: &ExtractConfig,
    within: bool,
) -> Option<Box<dyn Records>> {
    let limit = config.record_limit.max(1);
    let (reader, inner_name) = compressed::decompress(name, reader, config.zstd_window);
    let mut source = Source::new(name, reader, limit);
    // A bad record here is kept by the source and met again by whoever reads first.
    if let Some(kind) = archive::Kind::of(&inner_name, source.peek(archive::START)) {
        return Some(archive::open(kind, source, config, within));
    }
    let by_name = config.format.or_else(|| sniff::by_extension(&inner_name));
    let start = source.peek(sniff::START);
    if config.format.is_none()
        && let Some(reason) = sniff::foreign(start, by_name.is_some())
    {
        // Whoever names a file means it; an archive has whatever lay beside.
        let is_beside = within && by_name.is_none();
        return (!is_beside).then(|| Box::new(std::iter::once(Err(source.bad_record(0, reason)))) as _);
    }
    let wide = Wide::of(start);
    let format = by_name.unwrap_or_else(|| match wide {
        Some((wide, mark)) => sniff::by_start(wide.decode(&start[mark..]).0.as_bytes()),
        None => sniff::by_start(start),
    });
    let has_lines = match format {
        Format::Json | Format::Jsonl | Format::Csv | Format::Tsv => true,
        Format::Text => config.separator != Separator::None,
        // Read whole, and decoded then.
        Format::Html | Format::Warc => false,
    };
    if let Some((wide, mark)) = wide.filter(|_| has_lines) {
        source.consume(mark);
        source = Source::new(name, Box::new(WideReader::new(source, wide)), limit);
    }
    Some(match format {
        Format::Text => Box::new(text::TextReader::new(source, config)),
        Format::Json => json::open(source, config),
        Format::Jsonl => Box::new(jsonl::JsonlReader::new(source, config)),
        Format::Csv => Box::new(csv::CsvReader::new(source, b',', config)),
        Format::Tsv => Box::new(csv::CsvReader::new(source, b'\t', config)),
        Format::Html => Box::new(html::HtmlReader::new(source)),
        Format::Warc => Box::new(warc::WarcReader::new(source)),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Cursor;

    /// Reads a file to its end and returns its documents and bad records.
    pub fn read_all(name: &str, bytes: &[u8], config: &ExtractConfig) -> (Vec<Document>, Vec<BadRecord>) {
        let mut reader = open(name, Box::new(Cursor::new(bytes.to_vec())), config);
        let (mut documents, mut bad_records) = (Vec::new(), Vec::new());
        for record in reader.by_ref() {
            match record {
                Ok(document) => documents.push(document),
                Err(bad_record) => bad_records.push(bad_record),
            }
        }
        assert_eq!(reader.records(), (documents.len() + bad_records.len()) as u64);
        assert!(reader.next().is_none(), "a reader that has ended goes on");
        (documents, bad_records)
    }

    pub fn texts(documents: &[Document]) -> Vec<&str> {
        documents.iter().map(|document| document.text.as_str()).collect()
    }

    #[test]
    fn a_file_of_no_bytes_is_a_bad_record_in_every_format() {
        for name in [
            "a.txt",
            "a.json",
            "a.jsonl",
            "a.csv",
            "a.tsv",
            "a.html",
            "a.warc",
            "a.jsonl.gz",
            "a.txt.zst",
            "a",
        ] {
            let (documents, bad_records) = read_all(name, b"", &ExtractConfig::default());
            assert!(documents.is_empty());
            assert_eq!(
                bad_records,
                [BadRecord { file: name.into(), offset: 0, reason: "the file is empty".into() }]
            );
        }
    }

    /// Makes pseudorandom bytes, the same in every run.
    pub fn noise(length: usize, mut seed: u64) -> Vec<u8> {
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 32) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn a_line_without_end_costs_one_bad_record_and_the_others_are_read() {
        for (name, head, tail, documents) in [
            ("a.txt", "", "", 0),
            ("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"", "\"}\n{\"text\": \"two\"}", 2),
            ("a.json", "[{\"text\": \"one\"}, {\"text\": \"", "\"}, {\"text\": \"two\"}]", 2),
            ("a.csv", "text\none\n", "\ntwo\n", 2),
            ("a.html", "<p>", "</p>", 0),
        ] {
            // `examples/long_line.rs` measures what is held of a gigabyte.
            let middle = std::io::repeat(b'x').take(32 << 20);
            let stream = Cursor::new(head.to_string()).chain(middle).chain(Cursor::new(tail.to_string()));
            let config = ExtractConfig { record_limit: 1 << 20, ..Default::default() };
            let mut reader = open(name, Box::new(stream), &config);
            assert!(reader.by_ref().count() < 4);
            assert_eq!((reader.documents(), reader.bad_records()), (documents, 1), "{name}");
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic_or_go_on_for_ever() {
        let seeds: [&[u8]; 11] = [
            b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n",
            b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n",
            b"[{\"text\": \"one\"},\n {\"text\": [\"two\"]}]",
            b"id,text\n1,\"a \"\"quoted\"\" one\"\n2,two\n",
            b"<!doctype html><html><body><article><p>One</p><ul><li>two</li></ul></article>",
            "caf\u{e9} \u{65e5}\u{672c}\n\ntext".as_bytes(),
            &super::compressed::tests::gzip(b"{\"text\": \"one\"}\n"),
            &super::compressed::tests::zstandard(b"{\"text\": \"one\"}\n"),
            &super::tar::tests::archive(&[super::tar::tests::member("a.jsonl", b"{\"text\": \"one\"}")]),
            b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0\x01\0\0\0ahiPK\x05\x06",
            b"",
        ];
        for name in
            ["a.txt", "a.jsonl", "a.json", "a.csv", "a.html", "a.warc", "a.gz", "a.zst", "a.tar", "a.zip"]
        {
            for (index, seed) in seeds.iter().enumerate() {
                for round in 0..60 {
                    let random = noise(64, 1 + round * 31 + index as u64);
                    let mut bytes = seed.to_vec();
                    for pair in random.chunks_exact(2).take(round as usize % 8) {
                        let length = bytes.len();
                        if length > 0 {
                            bytes[(usize::from(pair[0]) * 7) % length] = pair[1];
                        }
                    }
                    if round % 3 == 0 {
                        bytes.truncate(usize::from(random[40]) * 4);
                    }
                    let config = ExtractConfig {
                        record_limit: 40 + 1000 * (round as usize % 2),
                        ..Default::default()
                    };
                    let mut reader = open(name, Box::new(Cursor::new(bytes)), &config);
                    assert!(reader.by_ref().take(10_000).count() < 10_000);
                }
            }
        }
    }
}
