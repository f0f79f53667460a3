//! Text in memory, consisting of concatenated documents.

use super::records::{self, Fields, Shape, with_unix_line_breaks};
use crate::{error::Result, tokenizer::END_OF_TEXT};
use std::path::Path;

/// Non-empty documents, in the order of their sources.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    text: String,
    /// End of each document in `text`, in bytes.
    ends: Vec<usize>,
    /// Label of each document; empty without labels.
    labels: Vec<Label>,
}

/// Label of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Label {
    Class(String),
    /// Words that together are the document, and the class of each.
    Words(Vec<(String, String)>),
    Value(f32),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelKind {
    Class,
    Words,
    Value,
    Text,
}

impl Corpus {
    /// Adds the text of a file: one document, or several separated by `<|endoftext|>`. Line breaks next to
    /// the separator belong to it.
    pub(super) fn push_text(&mut self, text: &str) {
        let text = with_unix_line_breaks(text);
        if !text.contains(END_OF_TEXT) {
            return self.push_document(&text);
        }
        for part in text.split(END_OF_TEXT) {
            let part = part.trim_matches('\n');
            if !part.trim().is_empty() {
                self.push_document(part);
            }
        }
    }

    /// Adds the text of a file: its records, or, if it is plain text and no labels are needed, its documents,
    /// like [`push_text`](Self::push_text).
    pub(super) fn push_file(&mut self, path: &Path, text: &str, shape: Shape, fields: &Fields) -> Result<()> {
        if shape == Shape::Text && fields.label.is_none() {
            self.push_text(text);
            return Ok(());
        }
        records::read(path, text, shape, fields, |text, label| {
            self.push_document(text);
            self.labels.extend(label);
        })
    }

    /// Adds one document, unless it is empty.
    pub(super) fn push_document(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.push_str(text);
            self.ends.push(self.text.len());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn is_one_document(&self) -> bool {
        self.ends.len() == 1
    }

    /// Splits the documents into two parts, the second with about `val_fraction` of the characters. A single
    /// document is cut at a character, exactly like in nanoGPT. Several documents are never cut, and each
    /// part gets at least one.
    pub(super) fn split(&self, val_fraction: f64) -> (Vec<&str>, Vec<&str>) {
        let mut documents = self.documents();
        if val_fraction <= 0.0 {
            return (documents, Vec::new());
        }
        if let [document] = documents[..] {
            let characters = document.chars().count();
            let cut = document.char_indices().nth(train_share(characters, val_fraction));
            let (train, val) = document.split_at(cut.map_or(document.len(), |(byte, _)| byte));
            return (vec![train], vec![val]);
        }
        let mut characters = 0;
        let ends = documents.iter().map(|document| {
            characters += document.chars().count();
            characters
        });
        let val = documents.split_off(documents_in_train(&ends.collect::<Vec<_>>(), val_fraction));
        (documents, val)
    }

    /// Labels of the documents; empty without labels.
    pub(super) fn labels(&self) -> &[Label] {
        &self.labels
    }

    pub(super) fn documents(&self) -> Vec<&str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end]).collect()
    }
}

/// Number of `length` characters or tokens that belong to the training part (nanoGPT's `int(n * 0.9)`).
pub(super) fn train_share(length: usize, val_fraction: f64) -> usize {
    (length as f64 * (1.0 - val_fraction)) as usize
}

/// Number of documents that belong to the training part, given the end of each of at least two. It is the
/// boundary nearest to the share, but leaves at least one document in each part.
pub(super) fn documents_in_train(ends: &[usize], val_fraction: f64) -> usize {
    let target = train_share(ends.last().copied().unwrap_or(0), val_fraction);
    let below = ends.partition_point(|&end| end <= target);
    let distance = |count: usize| match count.checked_sub(1) {
        Some(last) => ends.get(last).map_or(usize::MAX, |end| end.abs_diff(target)),
        None => target,
    };
    let nearest = if distance(below + 1) < distance(below) { below + 1 } else { below };
    nearest.clamp(1, ends.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_text(text: &str) -> Corpus {
        let mut corpus = Corpus::default();
        corpus.push_text(text);
        corpus
    }

    #[test]
    fn marks_separate_documents() {
        let corpus = of_text("one\r\ntwo\n<|endoftext|>\n\n three\n<|endoftext|>\n<|endoftext|>");
        assert_eq!(corpus.documents(), ["one\ntwo", " three"]);
        assert_eq!(of_text("\none\n").documents(), ["\none\n"]);
        assert!(of_text("").is_empty());
        assert!(of_text("<|endoftext|>\n").is_empty());
    }

    #[test]
    fn records_are_documents() {
        let mut corpus = Corpus::default();
        let path = Path::new("a.jsonl");
        corpus
            .push_file(
                path,
                "{\"text\": \"a\\r\\nb\", \"n\": 1}\r\n\n{\"text\":\"\"}\n{\"text\":\"c\"}",
                Shape::Lines,
                &Fields { text: "text", label: None },
            )
            .unwrap();
        assert_eq!(corpus.documents(), ["a\nb", "c"]);
        let mut message = |line: &str| {
            let text = format!("{{\"body\":\"x\"}}\n{line}\n");
            let fields = Fields { text: "body", label: None };
            corpus.push_file(path, &text, Shape::Lines, &fields).unwrap_err().to_string()
        };
        assert!(message("{").starts_with("`a.jsonl` line 2: is not JSON"));
        assert_eq!(message("[1]"), "`a.jsonl` line 2: is not a JSON object");
        assert_eq!(message("{}"), "`a.jsonl` line 2: has no field `body`");
        assert_eq!(message("{\"body\":3}"), "`a.jsonl` line 2: has a field `body` that is not a string");
    }

    #[test]
    fn one_document_is_cut_at_a_character() {
        let corpus = of_text("äöüßàéîôñç");
        assert_eq!(corpus.split(0.1), (vec!["äöüßàéîôñ"], vec!["ç"]));
        assert_eq!(corpus.split(0.25), (vec!["äöüßàéî"], vec!["ôñç"]));
        assert_eq!(corpus.split(0.0), (vec!["äöüßàéîôñç"], vec![]));
        assert_eq!(train_share(1_115_394, 0.1), 1_003_854);
    }

    #[test]
    fn several_documents_are_not_cut() {
        let corpus = of_text("aaaa<|endoftext|>bbbb<|endoftext|>cccc<|endoftext|>dd");
        assert_eq!(corpus.split(0.1), (vec!["aaaa", "bbbb", "cccc"], vec!["dd"]));
        assert_eq!(corpus.split(0.4), (vec!["aaaa", "bbbb"], vec!["cccc", "dd"]));
        assert_eq!(corpus.split(0.99).0, ["aaaa"]);
        assert_eq!(of_text("a<|endoftext|>bbbbbbbbb").split(0.01), (vec!["a"], vec!["bbbbbbbbb"]));
        assert_eq!(corpus.split(0.0).0.len(), 4);
    }
}
