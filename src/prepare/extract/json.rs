//! JSON other than one record a line: an array of records, or records that extend over several lines. The end
//! of a record is found by its brackets, so that neither the file nor a long record is in memory as a whole.

use super::{
    BadRecord, Document, ExtractConfig, Records,
    jsonl::{Fields, JsonlReader},
    source::Source,
};

/// Number of bytes in which the end of the first line is searched.
const START: usize = 1 << 16;

/// Opens the reader for the shape that the first bytes have.
pub(super) fn open(mut source: Source, config: &ExtractConfig) -> Box<dyn Records> {
    let start = source.peek(START);
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let shape = match start.first() {
        Some(b'[') => Shape::Array,
        Some(b'{') if goes_on(start) => Shape::Values,
        _ => return Box::new(JsonlReader::new(source, config)),
    };
    let fields = Fields::new(config);
    Box::new(JsonReader { source, fields, shape, position: Position::Outside, index: 0, waiting: None })
}

/// Returns whether a value that begins on the first line ends on a later one.
fn goes_on(start: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', start) else { return false };
    let mut scanner = Scanner::default();
    scanner.scan(&start[..end]) == (end, false) && scanner.depth > 0 && !scanner.in_string
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Array,
    Values,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// The next byte is before a value or an array.
    Outside,
    /// The next byte is within an array, before a record or the array's end.
    Inside,
    Ended,
}

struct JsonReader {
    source: Source,
    fields: Fields,
    shape: Shape,
    position: Position,
    /// Index of the next record.
    index: u64,
    /// Bad record that is reported after the record before it.
    waiting: Option<BadRecord>,
}

/// Finds the end of a record. In an array or object, it is before the comma or bracket that follows the
/// record; otherwise after the record's own last bracket.
#[derive(Debug, Default)]
struct Scanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Last byte that is not white space; 0 at the start.
    before: u8,
    /// True if the record is in no array, so that its own last bracket ends it.
    alone: bool,
}

impl Scanner {
    /// Returns how many of the bytes belong to the record, and whether it ends with them.
    fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.in_string {
                if !self.escaped {
                    // Line breaks are written `\n` in strings: a bare one means that the quote is missing.
                    let rest = &bytes[at..];
                    let Some(next) = memchr::memchr3(b'"', b'\\', b'\n', rest) else { break };
                    at += next;
                    self.escaped = rest[next] == b'\\';
                    self.in_string = self.escaped;
                } else {
                    self.escaped = false;
                }
                at += 1;
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                // Nowhere else does JSON have one: the record before lacks its end.
                b'{' if !matches!(self.before, 0 | b':' | b',' | b'[') => return (at, true),
                b'{' | b'[' => self.depth += 1,
                b',' | b'}' | b']' if self.depth == 0 && !self.alone => return (at, true),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 && self.alone {
                        return (at + 1, true);
                    }
                }
                // What is not within brackets ends with its line.
                b'\n' if self.depth == 0 && self.alone => return (at + 1, true),
                _ => {}
            }
            if !byte.is_ascii_whitespace() {
                self.before = byte;
            }
            at += 1;
        }
        (bytes.len(), false)
    }
}

impl JsonReader {
    /// Skips white space and returns the byte after it, without consuming that byte.
    fn next_byte(&mut self) -> Result<Option<u8>, BadRecord> {
        loop {
            let bytes = self.source.fill()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let count = bytes.len() - bytes.trim_ascii_start().len();
            let next = bytes.get(count).copied();
            self.source.consume(count);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Reads the bytes of a record; `None` if they exceed the limit. The flag is true if the stream ended
    /// before the record did.
    fn read_bytes(&mut self) -> Result<(Option<Vec<u8>>, bool), BadRecord> {
        let mut scanner = Scanner { alone: self.shape == Shape::Values, ..Scanner::default() };
        let limit = self.source.limit();
        let mut record = Some(Vec::new());
        loop {
            let bytes = self.source.fill()?;
            let cut = bytes.is_empty();
            let (count, ended) = scanner.scan(bytes);
            record = record.filter(|record| record.len() + count <= limit);
            if let Some(record) = &mut record {
                record.extend_from_slice(&bytes[..count]);
            }
            self.source.consume(count);
            if ended || cut {
                return Ok((record, cut));
            }
        }
    }

    fn read_record(&mut self) -> Result<Document, BadRecord> {
        let start = self.source.offset();
        let (record, cut) = self.read_bytes()?;
        if cut {
            self.position = Position::Ended;
        } else if self.shape == Shape::Array && self.source.peek(1) == b"," {
            self.source.consume(1);
        }
        let limit = self.source.limit();
        let Some(record) = record else {
            return Err(self.source.bad_record(start, format!("a record of more than {limit} bytes")));
        };
        let found = self.fields.parse(record.trim_ascii_end(), "record", self.source.name(), self.index);
        let found = found.map_err(|reason| self.source.bad_record(start, reason));
        if cut && self.shape == Shape::Array && found.is_ok() {
            self.waiting = Some(self.truncated());
        }
        found
    }

    fn truncated(&self) -> BadRecord {
        self.source.bad_record(self.source.offset(), "the file ends before its array does")
    }

    fn step(&mut self) -> Result<Option<Document>, BadRecord> {
        if self.source.offset() == 0 && self.source.peek(3) == b"\xef\xbb\xbf" {
            self.source.consume(3);
        }
        loop {
            let next = self.next_byte()?;
            match (self.position, self.shape, next) {
                (Position::Ended, ..) | (Position::Outside, _, None) => {
                    self.position = Position::Ended;
                    return Ok(None);
                }
                (Position::Inside, _, None) => {
                    self.position = Position::Ended;
                    return Err(self.truncated());
                }
                (Position::Outside, Shape::Array, Some(b'[')) => {
                    self.source.consume(1);
                    self.position = Position::Inside;
                }
                (Position::Outside, Shape::Array, Some(_)) => {
                    self.position = Position::Ended;
                    return Err(self
                        .source
                        .bad_record(self.source.offset(), "there is more behind the array"));
                }
                (Position::Inside, _, Some(b']')) => {
                    self.source.consume(1);
                    self.position = Position::Outside;
                }
                // A bracket that closes nothing is no record's end either.
                (Position::Inside, _, Some(b'}')) => {
                    let bad_record =
                        self.source.bad_record(self.source.offset(), "a bracket that closes nothing");
                    self.source.consume(1);
                    return Err(bad_record);
                }
                (_, _, Some(_)) => return self.read_record().map(Some),
            }
        }
    }
}

impl Records for JsonReader {}

impl Iterator for JsonReader {
    type Item = Result<Document, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(bad_record) = self.waiting.take() {
            self.index += 1;
            return Some(Err(bad_record));
        }
        if self.position == Position::Ended {
            return None;
        }
        let before = self.source.bad_records();
        let record = match self.step() {
            Ok(Some(document)) => Ok(document),
            Ok(None) if self.index > 0 => return None,
            Ok(None) => Err(self.source.bad_record(0, "there is no text in the file")),
            Err(bad_record) => Err(bad_record),
        };
        // Behind bytes that are missing, nothing says within what the next ones are.
        if self.source.bad_records() > before {
            self.position = Position::Ended;
        }
        self.index += 1;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    fn read(text: &str, limit: usize) -> (Vec<String>, Vec<(u64, String)>) {
        let config = ExtractConfig { record_limit: limit, ..Default::default() };
        let (documents, bad_records) = read_all("a.json", text.as_bytes(), &config);
        let texts = documents.into_iter().map(|document| document.text).collect();
        (texts, bad_records.into_iter().map(|bad_record| (bad_record.offset, bad_record.reason)).collect())
    }

    #[test]
    fn an_array_is_read_record_by_record() {
        let wanted = ["one, \"[{", "two", "three\n}"];
        let records = [
            r#"{"text": "one, \"[{", "tags": ["a", {"b": "}"}]}"#,
            "{\n\t\"text\": \"two\",\n\t\"more\": {}\n}",
            "{\"text\": \"three\\n}\"}",
        ];
        for text in [
            format!("[{}]", records.join(",")),
            format!("\u{feff} [\n  {}\n]\n", records.join(",\n  ")),
            format!("[{},\n]", records.join("\n,\n")),
            format!("[{}]\n[{}]", records[..2].join(","), records[2]),
        ] {
            let (texts, bad_records) = read(&text, 1000);
            assert_eq!((texts, bad_records), (wanted.map(String::from).to_vec(), vec![]), "{text}");
        }
        assert_eq!(read("[ ]", 100).1, [(0, "there is no text in the file".into())]);
        let (documents, _) = read_all("a", b"[\n{\"text\": \"one\"}]", &ExtractConfig::default());
        assert_eq!((documents[0].id.as_str(), documents[0].text.as_str()), ("a#0", "one"));
    }

    #[test]
    fn records_spread_over_lines_are_one_each() {
        let pretty = "{\n  \"text\": \"one\",\n  \"tags\": [\n    1\n  ]\n}\n";
        assert_eq!(read(pretty, 1000), (vec!["one".into()], vec![]));
        assert_eq!(read(&pretty.repeat(2), 1000).0, ["one", "one"]);
        // A record a line, with whatever is wrong with it.
        let lines = "{\"text\": \"one\"}\nno JSON\n{\"text\": \"two\"}\n";
        let (texts, bad_records) = read(lines, 1000);
        assert_eq!((texts.len(), bad_records.len(), bad_records[0].0), (2, 1, 16));
        let (texts, bad_records) = read("{\"text\": \"un\n{\"text\": \"two\"}\n", 1000);
        assert_eq!((texts.len(), bad_records.len()), (1, 1));
        let (texts, bad_records) =
            read("{\"text\": \"one\"\n{\"text\": \"two\"}\n{\"text\": \"three\"}", 1000);
        assert_eq!((texts.len(), bad_records.len()), (2, 1), "{texts:?} {bad_records:?}");
    }

    #[test]
    fn a_broken_record_is_a_bad_record_with_its_offset() {
        let text = "[{\"text\": \"one\"},\n {\"text\": \"un},\n {\"text\": 5}, 7, , {\"text\": \"two\"}}, \
                    {\"text\": \"three\"}";
        let (texts, bad_records) = read(text, 1000);
        assert_eq!(texts, ["one", "two", "three"], "{bad_records:?}");
        let offsets: Vec<_> = bad_records.iter().map(|bad_record| bad_record.0).collect();
        assert_eq!(offsets.last(), Some(&(text.len() as u64)), "{bad_records:?}");
        assert!(bad_records.last().is_some_and(|bad_record| bad_record.1.contains("ends before its array")));
        assert!(
            bad_records.iter().any(|(_, reason)| reason == "the record is not a JSON object"),
            "{bad_records:?}"
        );
        let (texts, bad_records) = read("[{\"text\": \"one\"}, {\"text\": \"tw", 1000);
        assert_eq!((texts.len(), bad_records.len(), bad_records[0].0), (1, 1, 18), "{bad_records:?}");
        let (texts, bad_records) = read("[{\"text\": \"one\"}] rest", 1000);
        assert_eq!((texts.len(), bad_records), (1, vec![(18, "there is more behind the array".into())]));
    }

    #[test]
    fn a_record_over_the_limit_is_passed_over() {
        let long = format!("{{\"text\": \"{}\", \"more\": [1, {{}}]}}", "x\\\" ".repeat(100_000));
        let (texts, bad_records) =
            read(&format!("[{{\"text\": \"one\"}}, {long},\n {{\"text\": \"two\"}}]"), 100);
        assert_eq!(texts, ["one", "two"]);
        assert_eq!(bad_records, [(18, "a record of more than 100 bytes".into())]);
    }

    #[test]
    fn a_truncated_member_ends_the_array() {
        let records: Vec<_> = (0..5000).map(|index| format!("{{\"text\": \"number {index}\"}}")).collect();
        let bytes = super::super::compressed::tests::gzip(format!("[{}]", records.join(",\n")).as_bytes());
        let (documents, bad_records) =
            read_all("a.json.gz", &bytes[..bytes.len() / 2], &ExtractConfig::default());
        assert!(documents.len() > 1000 && documents.len() < 5000);
        assert_eq!(bad_records.len(), 1, "{bad_records:?}");
    }
}
