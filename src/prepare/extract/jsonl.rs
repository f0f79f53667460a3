//! JSON lines: one object a line, with its text in the field [`ExtractConfig::text_field`].

use super::{
    BadRecord, Document, ExtractConfig, Metadata, Records, floats,
    source::{Piece, Source},
};
use serde_json::Value;

pub(super) struct JsonlReader {
    source: Source,
    fields: Fields,
    /// Index of the next record.
    index: u64,
    ended: bool,
}

/// Names of the fields that hold a record's text, identifier and address; other fields are metadata.
pub(super) struct Fields {
    text: String,
    id: String,
    url: String,
}

impl Fields {
    pub(super) fn new(config: &ExtractConfig) -> Self {
        let ExtractConfig { text_field, id_field, url_field, .. } = config;
        Self { text: text_field.clone(), id: id_field.clone(), url: url_field.clone() }
    }

    /// Makes a document from a record's fields; the error says why the record is bad.
    pub(super) fn document(&self, mut record: Metadata, file: &str, index: u64) -> Result<Document, String> {
        let text = match record.remove(&self.text) {
            Some(Value::String(text)) => text,
            Some(_) => return Err(format!("field `{}` is not text", self.text)),
            None => return Err(format!("there is no field `{}`", self.text)),
        };
        if text.trim().is_empty() {
            return Err(format!("field `{}` is empty", self.text));
        }
        let id = match record.remove(&self.id) {
            Some(Value::String(id)) if !id.is_empty() => id,
            // Several records would have the same rounded one.
            Some(Value::Number(id)) if !is_rounded(&id) => id.to_string(),
            _ => format!("{file}#{index}"),
        };
        let url = match record.remove(&self.url) {
            Some(Value::String(url)) if !url.is_empty() => Some(url),
            _ => None,
        };
        Ok(Document { id, text, url, source: file.into(), metadata: record })
    }

    /// Makes a document from a record's JSON; the error says why it is bad and calls the record `what`.
    pub(super) fn parse(&self, json: &[u8], what: &str, file: &str, index: u64) -> Result<Document, String> {
        let record =
            serde_json::from_slice::<Value>(json).map_err(|error| match std::str::from_utf8(json) {
                Err(utf8) => format!("the {what} is not valid UTF-8 at its byte {}", utf8.valid_up_to()),
                // The line in the message is that within the record.
                Ok(_) => format!(
                    "the {what} is not JSON: {}",
                    error.to_string().replace(" at line 1 column", " at column")
                ),
            })?;
        let Value::Object(mut record) = record else {
            return Err(format!("the {what} is not a JSON object"));
        };
        floats::correct_fields(&mut record, std::str::from_utf8(json).unwrap_or_default());
        self.document(record, file, index)
    }
}

/// Returns whether a number is an integer that its 64 bits may not hold exactly.
fn is_rounded(number: &serde_json::Number) -> bool {
    let exact = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    number.is_f64() && number.as_f64().is_some_and(|number| number.abs() >= exact)
}

impl JsonlReader {
    pub(super) fn new(source: Source, config: &ExtractConfig) -> Self {
        Self { source, fields: Fields::new(config), index: 0, ended: false }
    }
}

impl Records for JsonlReader {}

impl Iterator for JsonlReader {
    type Item = Result<Document, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let start = self.source.offset();
            let mut line = Vec::new();
            let record = match self.source.read_until(b'\n', &mut line) {
                Err(bad_record) => Err(bad_record),
                Ok(Piece::TooLong) => {
                    let reason = format!("a line of more than {} bytes", self.source.limit());
                    Err(self.source.bad_record(start, reason))
                }
                Ok(piece) => {
                    self.ended = piece == Piece::End;
                    let line =
                        if start == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
                    if line.trim_ascii().is_empty() {
                        continue;
                    }
                    self.fields
                        .parse(line.trim_ascii_end(), "line", self.source.name(), self.index)
                        .map_err(|reason| self.source.bad_record(start, reason))
                }
            };
            self.index += 1;
            return Some(record);
        }
        if self.index == 0 {
            self.index = 1;
            return Some(Err(self.source.nothing()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn fields_are_named_and_the_others_are_metadata() {
        let config = ExtractConfig { text_field: "body".into(), ..Default::default() };
        let line = br#"{"body": "one", "id": 7, "url": "http://a.b", "score": 0.5}"#;
        let (documents, bad_records) = read_all("a.jsonl", line, &config);
        assert!(bad_records.is_empty());
        let [document] = &documents[..] else { panic!("{documents:?}") };
        assert_eq!((document.id.as_str(), document.text.as_str()), ("7", "one"));
        assert_eq!(document.url.as_deref(), Some("http://a.b"));
        let lines = br#"{"body": "a", "id": 18446744073709551615}
{"body": "b", "id": 18446744073709551616}"#;
        let (documents, _) = read_all("a.jsonl", lines, &config);
        let ids: Vec<_> = documents.iter().map(|document| document.id.as_str()).collect();
        assert_eq!(ids, ["18446744073709551615", "a.jsonl#1"]);
        assert_eq!(document.metadata["score"], 0.5);
        assert_eq!(document.metadata.len(), 1);
    }

    #[test]
    fn a_bad_line_is_a_bad_record_with_its_offset() {
        let lines: [&[u8]; 8] = [
            b"\xef\xbb\xbf{\"text\": \"one\"}\r\n",
            b"\n",
            b"{\"text\": \"un",
            b"\n[1]\n",
            b"{\"content\": \"no text\"}\n{\"text\": 5}\n",
            b"{\"text\": \"\xff\xfe\"}\n",
            b"{\"text\": \" \"}\n",
            b"{\"text\": \"two\"}",
        ];
        let (documents, bad_records) = read_all("a.jsonl", &lines.concat(), &ExtractConfig::default());
        assert_eq!(texts(&documents), ["one", "two"]);
        let bad_records: Vec<_> =
            bad_records.iter().map(|bad_record| (bad_record.offset, bad_record.reason.as_str())).collect();
        assert_eq!(
            bad_records,
            [
                (21, "the line is not JSON: EOF while parsing a string at column 12"),
                (34, "the line is not a JSON object"),
                (38, "there is no field `text`"),
                (61, "field `text` is not text"),
                (73, "the line is not valid UTF-8 at its byte 10"),
                (88, "field `text` is empty"),
            ]
        );
    }

    #[test]
    fn a_line_over_the_limit_is_skipped() {
        let config = ExtractConfig { record_limit: 20, ..Default::default() };
        let long = format!("{{\"text\": \"{}\"}}\n", "x".repeat(200_000));
        let bytes = format!("{{\"text\": \"one\"}}\n{long}{{\"text\": \"two\"}}\n{long}");
        let (documents, bad_records) = read_all("a.jsonl", bytes.as_bytes(), &config);
        assert_eq!(texts(&documents), ["one", "two"]);
        assert_eq!(bad_records.len(), 2);
        assert_eq!(
            (bad_records[0].offset, bad_records[0].reason.as_str()),
            (16, "a line of more than 20 bytes")
        );
    }

    #[test]
    fn deep_nesting_is_a_bad_record() {
        let bytes = format!("{{\"text\": {}\n{{\"text\": \"two\"}}", "[".repeat(1_000_000));
        let (documents, bad_records) = read_all("a.jsonl", bytes.as_bytes(), &ExtractConfig::default());
        assert_eq!((documents.len(), bad_records.len()), (1, 1));
    }

    #[test]
    fn a_disk_that_fails_ends_the_file_with_one_bad_record() {
        struct Failing(usize);
        impl std::io::Read for Failing {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                self.0 += 1;
                if self.0 > 1 {
                    return Err(std::io::Error::other("medium error"));
                }
                let line = b"{\"text\": \"one\"}\n{\"te";
                into[..line.len()].copy_from_slice(line);
                Ok(line.len())
            }
        }
        let records: Vec<_> =
            super::super::open("a.jsonl", Box::new(Failing(0)), &ExtractConfig::default()).take(9).collect();
        assert!(matches!(&records[..], [Ok(_), Err(_)]), "{records:?}");
    }
}
