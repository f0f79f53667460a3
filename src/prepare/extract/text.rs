//! Reads plain text and Markdown: one document a file, or several with a separator between them.

use super::{
    super::clean::{encoding, panics},
    BadRecord, Document, ExtractConfig, Metadata, Records, Separator,
    source::{Piece, Source},
};

pub(super) struct TextReader {
    source: Source,
    separator: Separator,
    /// Index of the next document.
    index: u64,
    /// Bad record that is reported after the document that ended with it.
    waiting: Option<BadRecord>,
    ended: bool,
}

impl TextReader {
    pub(super) fn new(source: Source, config: &ExtractConfig) -> Self {
        // An empty mark would be everywhere.
        let separator = match &config.separator {
            Separator::Mark(mark) if mark.is_empty() => Separator::None,
            other => other.clone(),
        };
        Self { source, separator, index: 0, waiting: None, ended: false }
    }

    /// Reads bytes up to the next separator, which is not included, or to the end; `None` if they exceed the
    /// limit.
    fn read_chunk(&mut self, bytes: &mut Vec<u8>) -> Result<Option<()>, BadRecord> {
        let mark = match &self.separator {
            Separator::Mark(mark) => mark.as_bytes(),
            Separator::None | Separator::BlankLine => b"\n",
        };
        let last = mark[mark.len() - 1];
        let limit = self.source.limit();
        let mut too_long = false;
        // While a document is too long, the end of it is enough to find the mark.
        let mut tail: Vec<u8> = Vec::new();
        loop {
            let before = if too_long { 0 } else { bytes.len() };
            let into = if too_long { &mut tail } else { &mut *bytes };
            let piece = match self.source.read_until(last, into) {
                Ok(piece) => piece,
                Err(bad_record) => {
                    if too_long {
                        *bytes = Vec::new();
                    }
                    return Err(bad_record);
                }
            };
            let found = match &self.separator {
                Separator::None => false,
                Separator::BlankLine => {
                    piece == Piece::Whole
                        && into.get(before..).is_some_and(|line| line.trim_ascii().is_empty())
                }
                Separator::Mark(_) => into.ends_with(mark),
            };
            if piece == Piece::TooLong {
                if !too_long {
                    tail = std::mem::take(bytes);
                }
                too_long = true;
            } else if found && !too_long {
                let cut =
                    if self.separator == Separator::BlankLine { before } else { bytes.len() - mark.len() };
                bytes.truncate(cut);
            } else if !too_long && bytes.len() > limit {
                too_long = true;
                *bytes = Vec::new();
            }
            self.ended = piece == Piece::End || self.source.at_end();
            if found || self.ended {
                return Ok((!too_long).then_some(()));
            }
            let start = tail.len().saturating_sub(mark.len());
            tail.drain(..start);
            if self.separator == Separator::BlankLine {
                tail.clear();
            }
        }
    }
}

impl Records for TextReader {}

impl Iterator for TextReader {
    type Item = Result<Document, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(bad_record) = self.waiting.take() {
            self.index += 1;
            return Some(Err(bad_record));
        }
        while !self.ended {
            let start = self.source.offset();
            let mut bytes = Vec::new();
            match self.read_chunk(&mut bytes) {
                Ok(Some(())) => {}
                Ok(None) => {
                    self.index += 1;
                    let reason = format!("a document of more than {} bytes", self.source.limit());
                    return Some(Err(self.source.bad_record(start, reason)));
                }
                Err(bad_record) => self.waiting = Some(bad_record),
            }
            let name = self.source.name();
            let decoded = match panics::catch(|| encoding::decode(&bytes, &encoding::Hints::default())) {
                Ok(decoded) => decoded,
                Err(reason) => {
                    self.index += 1;
                    return Some(Err(self.source.bad_record(start, reason)));
                }
            };
            if !decoded.text.trim().is_empty() {
                let mut metadata = Metadata::new();
                if decoded.encoding != "UTF-8" {
                    metadata.insert("encoding".into(), decoded.encoding.into());
                }
                if decoded.replaced {
                    metadata.insert("replaced_bytes".into(), true.into());
                }
                let id = format!("{name}#{}", self.index);
                self.index += 1;
                let source = name.to_string();
                return Some(Ok(Document { id, text: decoded.text, url: None, source, metadata }));
            }
            if let Some(bad_record) = self.waiting.take() {
                self.index += 1;
                return Some(Err(bad_record));
            }
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

    fn split(separator: Separator, bytes: &[u8], limit: usize) -> (Vec<String>, Vec<(u64, String)>) {
        let config = ExtractConfig { separator, record_limit: limit, ..Default::default() };
        let (documents, bad_records) = read_all("a.txt", bytes, &config);
        let texts = documents.into_iter().map(|document| document.text).collect();
        (texts, bad_records.into_iter().map(|bad_record| (bad_record.offset, bad_record.reason)).collect())
    }

    #[test]
    fn a_file_is_one_document_or_several() {
        let text = b"one\r\ntwo\r\n\r\n \nthree<|endoftext|>four\n";
        assert_eq!(split(Separator::None, text, 100).0, [std::str::from_utf8(text).unwrap()]);
        assert_eq!(split(Separator::BlankLine, text, 100).0, ["one\r\ntwo\r\n", "three<|endoftext|>four\n"]);
        let mark = Separator::Mark("<|endoftext|>".into());
        assert_eq!(split(mark.clone(), text, 100).0, ["one\r\ntwo\r\n\r\n \nthree", "four\n"]);
        assert_eq!(split(mark, b"<|endoftext|>a>b<|endoftext|><|endoftext|>", 100).0, ["a>b"]);
        assert_eq!(split(Separator::Mark(String::new()), b"ab", 100).0, ["ab"]);
    }

    #[test]
    fn identifiers_count_documents() {
        let config = ExtractConfig { separator: Separator::BlankLine, ..Default::default() };
        let (documents, _) = read_all("a.md", b"one\n\n\ntwo", &config);
        let ids: Vec<_> = documents.iter().map(|document| document.id.as_str()).collect();
        assert_eq!(ids, ["a.md#0", "a.md#1"]);
    }

    #[test]
    fn a_document_over_the_limit_is_a_bad_record_and_the_next_is_read() {
        let mark = || Separator::Mark("<|e|>".into());
        let long = "x>y ".repeat(50);
        let (texts, bad_records) = split(mark(), format!("one<|e|>{long}<|e|>two").as_bytes(), 20);
        assert_eq!(texts, ["one", "two"]);
        assert_eq!(bad_records, [(8, "a document of more than 20 bytes".into())]);
        // The mark is the first place where its last character occurs.
        let (texts, bad_records) =
            split(mark(), format!("one<|e|>{}<|e|>two", "x".repeat(200_000)).as_bytes(), 2000);
        assert_eq!((texts, bad_records.len()), (vec!["one".into(), "two".into()], 1));
        let (texts, bad_records) =
            split(Separator::BlankLine, format!("one\n\n{long}\nmore\n\ntwo").as_bytes(), 20);
        assert_eq!(texts, ["one\n", "two"]);
        assert_eq!(bad_records.len(), 1);
        let (texts, bad_records) = split(Separator::None, "a\n".repeat(50).as_bytes(), 20);
        assert!(texts.is_empty());
        assert_eq!(bad_records.len(), 1);
    }

    #[test]
    fn text_that_is_not_utf_8_is_decoded() {
        let french = b"Le caf\xe9 est tr\xe8s bon, et la for\xeat est \xe0 c\xf4t\xe9 de l'\xe9glise.";
        let (documents, bad_records) = read_all("a.txt", french, &ExtractConfig::default());
        assert!(bad_records.is_empty());
        assert_eq!(documents[0].text, "Le café est très bon, et la forêt est à côté de l'église.");
        assert_eq!(documents[0].metadata["encoding"], "windows-1252");
        assert_eq!(split(Separator::None, b"  \n\t\n", 100).1, [(0, "there is no text in the file".into())]);
    }
}
