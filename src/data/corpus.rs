//! Text in memory, as documents end to end.

use crate::{
    error::{Error, Result},
    tokenizer::END_OF_TEXT,
};
use serde_json::{Map, Value};
use std::{borrow::Cow, path::Path};

/// Documents, none of them empty, in the order of their sources.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    text: String,
    /// Where in `text` each document ends.
    ends: Vec<usize>,
    /// What belongs to each document; empty where nothing does.
    answers: Vec<Answer>,
}

/// What belongs to a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Class(String),
    /// Words, which together are the document, and the class of each.
    Words(Vec<(String, String)>),
    Value(f32),
    Text(String),
}

/// Which fields of a JSONL record are read, and as what.
pub(super) struct Fields<'a> {
    pub text: &'a str,
    pub answer: Option<(&'a str, AnswerKind)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerKind {
    Class,
    Words,
    Value,
    Text,
}

impl Corpus {
    /// Adds the text of a file: one document, or several with `<|endoftext|>` between them. Line
    /// breaks beside that mark belong to it.
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

    /// Adds the records of a JSONL file: one JSON object a line whose text is a document. Blank lines and
    /// empty texts are passed over.
    pub(super) fn push_jsonl(&mut self, path: &Path, text: &str, fields: &Fields) -> Result<()> {
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let refused =
                |message: String| Error::InvalidRecord { path: path.into(), line: index + 1, message };
            let record: Value =
                serde_json::from_str(line).map_err(|error| refused(format!("is not JSON: {error}")))?;
            let Value::Object(record) = record else {
                return Err(refused("is not a JSON object".into()));
            };
            let (text, answer) = fields.read(&record).map_err(refused)?;
            if !text.is_empty() {
                self.push_document(&with_unix_line_breaks(&text));
                self.answers.extend(answer);
            }
        }
        Ok(())
    }

    /// Adds one document; nothing if it is empty.
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

    /// The documents, in two parts of which the second has about `val_fraction` of the characters.
    /// One document is cut at a character, exactly as nanoGPT does; several are never cut, and each
    /// part has at least one.
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

    /// What belongs to the documents; empty where nothing does.
    pub(super) fn answers(&self) -> &[Answer] {
        &self.answers
    }

    pub(super) fn documents(&self) -> Vec<&str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end]).collect()
    }
}

impl Fields<'_> {
    /// The text of a record and what belongs to it.
    fn read(&self, record: &Map<String, Value>) -> Result<(String, Option<Answer>), String> {
        let value = |field: &str| record.get(field).ok_or_else(|| format!("has no field `{field}`"));
        let text_of = |field: &str| match value(field)? {
            Value::String(text) => Ok(text.clone()),
            _ => Err(format!("has a field `{field}` that is not a string")),
        };
        let name_of = |value: &Value| match value {
            Value::String(name) => Some(name.clone()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            _ => None,
        };
        let names_of = |field: &str| {
            let names = value(field)?.as_array().and_then(|list| list.iter().map(name_of).collect());
            names.ok_or_else(|| format!("has a field `{field}` that is not a list of names"))
        };
        let Some((field, kind)) = self.answer else {
            return Ok((text_of(self.text)?, None));
        };
        let answer = match kind {
            AnswerKind::Class => {
                let name = name_of(value(field)?);
                Answer::Class(name.ok_or_else(|| format!("has a field `{field}` that is not a name"))?)
            }
            AnswerKind::Value => {
                let number = value(field)?.as_f64().filter(|number| (*number as f32).is_finite());
                let number = number.ok_or_else(|| format!("has a field `{field}` that is not a number"))?;
                Answer::Value(number as f32)
            }
            AnswerKind::Text => Answer::Text(with_unix_line_breaks(&text_of(field)?).into_owned()),
            AnswerKind::Words => {
                let (words, classes): (Vec<String>, Vec<String>) = (names_of(self.text)?, names_of(field)?);
                if words.len() != classes.len() {
                    let (words, classes) = (words.len(), classes.len());
                    return Err(format!("has {words} words in `{}`, but {classes} in `{field}`", self.text));
                }
                let text = words.join(" ");
                return Ok((text, Some(Answer::Words(words.into_iter().zip(classes).collect()))));
            }
        };
        Ok((text_of(self.text)?, Some(answer)))
    }
}

/// How many of `length` characters or tokens are trained on (nanoGPT's `int(n * 0.9)`).
pub(super) fn train_share(length: usize, val_fraction: f64) -> usize {
    (length as f64 * (1.0 - val_fraction)) as usize
}

/// How many of at least two documents are trained on: those up to the boundary nearest to the share,
/// but at least one, and not all. `ends`: where each document ends.
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

fn with_unix_line_breaks(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") { text.replace("\r\n", "\n").into() } else { text.into() }
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
            .push_jsonl(
                path,
                "{\"text\": \"a\\r\\nb\", \"n\": 1}\r\n\n{\"text\":\"\"}\n{\"text\":\"c\"}",
                &Fields { text: "text", answer: None },
            )
            .unwrap();
        assert_eq!(corpus.documents(), ["a\nb", "c"]);
        let mut message = |line: &str| {
            let text = format!("{{\"body\":\"x\"}}\n{line}\n");
            corpus.push_jsonl(path, &text, &Fields { text: "body", answer: None }).unwrap_err().to_string()
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

    #[test]
    fn records_may_have_answers() {
        let read = |line: &str, answer| {
            let mut corpus = Corpus::default();
            let fields = Fields { text: "t", answer: Some(("a", answer)) };
            corpus.push_jsonl(Path::new("a.jsonl"), line, &fields).map(|()| corpus.answers.remove(0))
        };
        let class = |name: &str| Answer::Class(name.into());
        assert_eq!(read(r#"{"t":"x","a":"spam"}"#, AnswerKind::Class).unwrap(), class("spam"));
        assert_eq!(read(r#"{"t":"x","a":1}"#, AnswerKind::Class).unwrap(), class("1"));
        assert_eq!(read(r#"{"t":"x","a":-0.5}"#, AnswerKind::Value).unwrap(), Answer::Value(-0.5));
        assert_eq!(read(r#"{"t":"x","a":"y"}"#, AnswerKind::Text).unwrap(), Answer::Text("y".into()));
        let words = read(r#"{"t":["x","y"],"a":["A","B"]}"#, AnswerKind::Words).unwrap();
        assert_eq!(words, Answer::Words(vec![("x".into(), "A".into()), ("y".into(), "B".into())]));
        for (line, kind, message) in [
            (r#"{"t":"x"}"#, AnswerKind::Class, "has no field `a`"),
            (r#"{"t":"x","a":[]}"#, AnswerKind::Class, "has a field `a` that is not a name"),
            (r#"{"t":"x","a":"y"}"#, AnswerKind::Value, "has a field `a` that is not a number"),
            (r#"{"t":"x","a":1e300}"#, AnswerKind::Value, "has a field `a` that is not a number"),
            (r#"{"t":["x"],"a":[]}"#, AnswerKind::Words, "has 1 words in `t`, but 0 in `a`"),
        ] {
            let error = read(line, kind).unwrap_err().to_string();
            assert_eq!(error, format!("`a.jsonl` line 1: {message}"));
        }
    }
}
