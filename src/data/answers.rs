//! Documents with what belongs to them, as tokens: classes, numbers, other texts.

use super::{
    Answers, IGNORE_INDEX, TokenSplit, Tokens,
    collate::{CLS_TOKEN, SEP_TOKEN},
    corpus::{Answer, AnswerKind},
};
use crate::{
    config::{Architecture, Config, Head, Layout},
    error::{Error, Result, hint},
    tokenizer::Tokenizer,
};
use std::collections::BTreeSet;

/// The field that holds what belongs to a document, and what it is, if the objective needs it.
///
/// # Errors
/// [`Error::InvalidValue`] if the configuration does not name the field.
pub(super) fn wanted(config: &Config) -> Result<Option<(&str, AnswerKind)>> {
    let kind = match config.model.head {
        Head::LanguageModel => {
            return Ok(config.data.target_field.as_deref().map(|field| (field, AnswerKind::Text)));
        }
        Head::SequenceClassification => AnswerKind::Class,
        Head::TokenClassification => AnswerKind::Words,
        Head::Regression => AnswerKind::Value,
    };
    match config.data.label_field.as_deref() {
        None => Err(Error::InvalidValue {
            key: "data.label_field".into(),
            value: String::new(),
            message: "a classifier learns from records that say what each text is".into(),
            hint: Some(hint![
                "name the field of the JSONL records, for example ",
                hint::set("data.label_field", "label")
            ]),
        }),
        Some(field) => Ok(Some((field, kind))),
    }
}

/// Some documents, and what belongs to each; nothing where only the documents count.
pub(super) struct Part<'a> {
    pub documents: Vec<&'a str>,
    pub answers: Vec<&'a Answer>,
}

impl<'a> Part<'a> {
    /// Every text in it.
    pub fn texts(&self) -> impl Iterator<Item = &'a str> {
        let other = self.answers.iter().filter_map(|answer| match answer {
            Answer::Text(text) => Some(text.as_str()),
            _ => None,
        });
        self.documents.iter().copied().chain(other)
    }

    pub fn bytes(&self) -> u64 {
        self.documents.iter().map(|document| document.len() as u64).sum()
    }
}

/// The classes that occur, in order of their names.
pub(super) fn classes(parts: [&Part; 2]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for answer in parts.iter().flat_map(|part| &part.answers) {
        match answer {
            Answer::Class(name) => drop(found.insert(name.clone())),
            Answer::Words(words) => found.extend(words.iter().map(|(_, class)| class.clone())),
            Answer::Value(_) | Answer::Text(_) => {}
        }
    }
    found.into_iter().collect()
}

/// Turns documents into tokens.
pub(super) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// What stands before and behind each document.
    first: Option<u32>,
    last: Option<u32>,
    labels: &'a [String],
}

impl<'a> Encoder<'a> {
    /// Documents of an encoder stand between its marks, if the tokenizer has both; those of others end
    /// with the end-of-text token where `separates`.
    pub fn new(config: &Config, tokenizer: &'a Tokenizer, separates: bool, labels: &'a [String]) -> Self {
        let marks = tokenizer.token_id(CLS_TOKEN).zip(tokenizer.token_id(SEP_TOKEN));
        let (first, last) = match config.model.architecture {
            Architecture::Encoder if config.layout() == Layout::Documents => marks.unzip(),
            // Collation puts ends where they belong.
            Architecture::EncoderDecoder if config.data.target_field.is_some() => (None, None),
            _ => (None, tokenizer.end_of_text().filter(|_| separates)),
        };
        Self { tokenizer, first, last, labels }
    }

    /// A split of documents and of what belongs to them. `name` is for messages.
    pub fn encode(&self, name: &'static str, part: &Part) -> Result<TokenSplit> {
        let mut tokens = Tokens::for_vocabulary(self.tokenizer.vocab_size());
        let mut starts = Vec::with_capacity(part.documents.len());
        let (mut classes, mut token_classes) = (Vec::new(), Vec::new());
        let (mut values, mut begins) = (Vec::new(), Vec::new());
        for (index, document) in part.documents.iter().enumerate() {
            let start = tokens.len();
            let answer = part.answers.get(index).copied();
            tokens.extend(self.first.as_slice());
            match answer {
                Some(Answer::Words(words)) => {
                    token_classes.resize(tokens.len(), IGNORE_INDEX);
                    for (number, (word, class)) in words.iter().enumerate() {
                        // The class is that of the first token of its word.
                        let (word, spaces) = self.tokenizer.encode_word(word, number == 0)?;
                        let first = tokens.len() + spaces;
                        tokens.extend(&word);
                        token_classes.resize(tokens.len(), IGNORE_INDEX);
                        if let Some(slot) = token_classes.get_mut(first) {
                            *slot = self.class(class)?;
                        }
                    }
                }
                _ => self.tokenizer.encode_each(document, |piece| tokens.extend(piece))?,
            }
            match answer {
                None | Some(Answer::Words(_)) => {}
                Some(Answer::Class(name)) => classes.push(self.class(name)?),
                Some(Answer::Value(value)) => values.push(*value),
                Some(Answer::Text(text)) => {
                    begins.push(tokens.len() - start);
                    self.tokenizer.encode_each(text, |piece| tokens.extend(piece))?;
                }
            }
            tokens.extend(self.last.as_slice());
            if tokens.len() > start {
                starts.push(start);
            } else {
                // A text without a single token: what belongs to it goes too.
                classes.truncate(starts.len());
                values.truncate(starts.len());
                begins.truncate(starts.len());
            }
        }
        let answers = match part.answers.first() {
            None => Answers::None,
            Some(Answer::Class(_)) => Answers::Classes(classes.into()),
            Some(Answer::Value(_)) => Answers::Values(values.into()),
            Some(Answer::Text(_)) => Answers::Targets(begins.into()),
            Some(Answer::Words(_)) => {
                token_classes.resize(tokens.len(), IGNORE_INDEX);
                Answers::TokenClasses(token_classes.into())
            }
        };
        Ok(TokenSplit::from_tokens(name, tokens, starts).with_answers(answers))
    }

    fn class(&self, name: &str) -> Result<i32> {
        let found = self.labels.iter().position(|label| label == name);
        found.map(|class| class as i32).ok_or_else(|| Error::InvalidValue {
            key: "model.labels".into(),
            value: self.labels.join(", "),
            message: format!("the data has a class `{name}`, which is none of them"),
            hint: Some("list all of them, or none to take those of the data".into()),
        })
    }
}
