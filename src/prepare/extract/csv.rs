//! CSV and TSV whose first line has the column names; quoted fields may contain line breaks.

use super::{BadRecord, Document, ExtractConfig, Metadata, Records, jsonl::Fields, source::Source};
use csv_core::ReadRecordResult;

/// Maximum columns of a record; each takes a few bytes even if it is empty.
const COLUMNS: usize = 1 << 16;

pub(super) struct CsvReader {
    source: Source,
    parser: csv_core::Reader,
    fields: Fields,
    text_field: String,
    header: Option<Vec<String>>,
    /// Bytes of the record's fields, one after the other.
    bytes: Vec<u8>,
    /// End of each field in `bytes`.
    ends: Vec<usize>,
    index: u64,
    ended: bool,
}

impl CsvReader {
    pub(super) fn new(source: Source, delimiter: u8, config: &ExtractConfig) -> Self {
        let parser = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        let (bytes, ends) = (vec![0; 1 << 12], vec![0; 64]);
        let (fields, text_field) = (Fields::new(config), config.text_field.clone());
        Self { source, parser, fields, text_field, header: None, bytes, ends, index: 0, ended: false }
    }

    /// Reads the fields of the next record; `None` at the end of the file. A record over the limit is read to
    /// its end without being kept.
    fn read_record(&mut self) -> Result<Option<Vec<Vec<u8>>>, BadRecord> {
        let start = self.source.offset();
        let limit = self.source.limit();
        let (mut length, mut count, mut too_long) = (0, 0, false);
        if start == 0 && self.source.peek(3) == b"\xef\xbb\xbf" {
            self.source.consume(3);
        }
        loop {
            let input = match self.source.fill() {
                Ok(input) => input,
                Err(bad_record) => {
                    self.parser.reset();
                    return Err(bad_record);
                }
            };
            let (result, read, written, ended) =
                self.parser.read_record(input, &mut self.bytes[length..], &mut self.ends[count..]);
            self.source.consume(read);
            length += written;
            count += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.bytes.len() > limit => (length, too_long) = (0, true),
                ReadRecordResult::OutputFull => {
                    let larger = (self.bytes.len() * 2).min(limit + 1);
                    self.bytes.resize(larger.max(self.bytes.len() + 1), 0);
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() >= COLUMNS => {
                    (count, too_long) = (0, true)
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record if too_long || length > limit => {
                    // What a long record needed is given back.
                    self.bytes = vec![0; 1 << 12];
                    let reason = format!("a record of more than {limit} bytes or {COLUMNS} columns");
                    return Err(self.source.bad_record(start, reason));
                }
                ReadRecordResult::Record => break,
                ReadRecordResult::End => {
                    self.ended = true;
                    return Ok(None);
                }
            }
        }
        let mut begin = 0;
        let record = self.ends[..count].iter().map(|&end| {
            let field = self.bytes.get(begin..end).unwrap_or_default().to_vec();
            begin = end;
            field
        });
        Ok(Some(record.collect()))
    }

    fn document(&self, record: Vec<Vec<u8>>, header: &[String]) -> Result<Document, String> {
        if record.len() != header.len() {
            return Err(format!("{} fields under {} column names", record.len(), header.len()));
        }
        let mut fields = Metadata::new();
        for (name, value) in header.iter().zip(record) {
            let value =
                String::from_utf8(value).map_err(|_| format!("column `{name}` is not valid UTF-8"))?;
            fields.insert(name.clone(), value.into());
        }
        self.fields.document(fields, self.source.name(), self.index)
    }

    /// Reads the column names. A file without the text column is one bad record, not one for each of its
    /// records.
    fn read_header(&mut self) -> Result<(), BadRecord> {
        self.ended = true;
        let Some(record) = self.read_record()? else {
            return Err(self.source.bad_record(0, "the file is empty"));
        };
        let header: Vec<String> =
            record.iter().map(|name| String::from_utf8_lossy(name).trim().to_string()).collect();
        if !header.contains(&self.text_field) {
            return Err(self.source.bad_record(0, format!("there is no column `{}`", self.text_field)));
        }
        self.ended = false;
        self.header = Some(header);
        Ok(())
    }
}

impl Records for CsvReader {}

impl Iterator for CsvReader {
    type Item = Result<Document, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.header.is_none()
            && let Err(bad_record) = self.read_header()
        {
            return Some(Err(bad_record));
        }
        let header = self.header.take().unwrap_or_default();
        let start = self.source.offset();
        let record = match self.read_record() {
            Ok(Some(record)) => {
                Some(self.document(record, &header).map_err(|reason| self.source.bad_record(start, reason)))
            }
            Ok(None) => None,
            Err(bad_record) => Some(Err(bad_record)),
        };
        self.header = Some(header);
        self.index += 1;
        record
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn fields_may_hold_quotes_and_line_breaks() {
        let bytes = b"\xef\xbb\xbfid,text,score\r\n1,\"a \"\"b\"\",\r\nc\",0.5\r\n\r\n2,plain,\r\n";
        let (documents, bad_records) = read_all("a.csv", bytes, &ExtractConfig::default());
        assert!(bad_records.is_empty(), "{bad_records:?}");
        assert_eq!(texts(&documents), ["a \"b\",\r\nc", "plain"]);
        assert_eq!((documents[0].id.as_str(), &documents[0].metadata["score"]), ("1", &"0.5".into()));
        let (documents, _) = read_all("a.tsv", b"text\turl\none\thttp://a.b", &ExtractConfig::default());
        assert_eq!(documents[0].url.as_deref(), Some("http://a.b"));
    }

    #[test]
    fn a_file_without_the_column_is_one_bad_record() {
        let (documents, bad_records) =
            read_all("a.csv", b"id,body\n1,one\n2,two\n", &ExtractConfig::default());
        assert!(documents.is_empty());
        assert_eq!(bad_records.len(), 1);
        assert_eq!(bad_records[0].reason, "there is no column `text`");
    }

    #[test]
    fn a_bad_record_has_its_offset() {
        let bytes = b"id,text\n1,one\n2\n3,\xff\xfe\n4,\n5,five\n";
        let (documents, bad_records) = read_all("a.csv", bytes, &ExtractConfig::default());
        assert_eq!(texts(&documents), ["one", "five"]);
        let bad_records: Vec<_> =
            bad_records.iter().map(|bad_record| (bad_record.offset, bad_record.reason.as_str())).collect();
        assert_eq!(
            bad_records,
            [
                (14, "1 fields under 2 column names"),
                (16, "column `text` is not valid UTF-8"),
                (21, "field `text` is empty"),
            ]
        );
    }

    #[test]
    fn a_record_over_the_limit_is_skipped() {
        let config = ExtractConfig { record_limit: 5000, ..Default::default() };
        let long = "x".repeat(100_000);
        let (documents, bad_records) =
            read_all("a.csv", format!("text\none\n{long}\ntwo\n\"{long}").as_bytes(), &config);
        assert_eq!(texts(&documents), ["one", "two"]);
        assert_eq!(bad_records.len(), 2, "{bad_records:?}");
        assert_eq!(bad_records[0].offset, 9);
    }
}
