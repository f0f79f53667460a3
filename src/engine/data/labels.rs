//! Tokenizes documents and their labels: classes, numbers, target texts.

use super::{
    IGNORE_INDEX, Labels, TokenSplit, Tokens,
    collate::{CLS_TOKEN, SEP_TOKEN},
    corpus::{Label, LabelKind},
};
use crate::{
    config::{Architecture, Config, Head, Layout, ObjectiveKind},
    error::{Error, Result, hint},
    tokenizer::Tokenizer,
};
use std::collections::BTreeSet;

/// Field that contains the label, and the kind of label; `None` if the objective needs no labels.
///
/// # Errors
/// [`Error::InvalidValue`] if the configuration does not name the field.
pub(super) fn wanted(config: &Config) -> Result<Option<(&str, LabelKind)>> {
    let kind = match config.model.head {
        Head::LanguageModel => {
            return Ok(config.data.target_field.as_deref().map(|field| (field, LabelKind::Text)));
        }
        Head::SequenceClassification => LabelKind::Class,
        Head::TokenClassification => LabelKind::Words,
        // A reward model learns from pairs.
        Head::Regression if config.objective_kind() == ObjectiveKind::Reward => return Ok(None),
        Head::Regression => LabelKind::Value,
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

/// Documents and their labels; `labels` is empty if the data has none.
pub(super) struct Part<'a> {
    pub documents: Vec<&'a str>,
    pub labels: Vec<&'a Label>,
}

impl<'a> Part<'a> {
    /// All texts: the documents and the target texts.
    pub fn texts(&self) -> impl Iterator<Item = &'a str> {
        let other = self.labels.iter().filter_map(|label| match label {
            Label::Text(text) => Some(text.as_str()),
            _ => None,
        });
        self.documents.iter().copied().chain(other)
    }

    pub fn bytes(&self) -> u64 {
        self.documents.iter().map(|document| document.len() as u64).sum()
    }
}

/// Classes that occur, sorted by name.
pub(super) fn classes(parts: [&Part; 2]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for label in parts.iter().flat_map(|part| &part.labels) {
        match label {
            Label::Class(name) => drop(found.insert(name.clone())),
            Label::Words(words) => found.extend(words.iter().map(|(_, class)| class.clone())),
            Label::Value(_) | Label::Text(_) => {}
        }
    }
    found.into_iter().collect()
}

/// Tokenizes documents.
pub(super) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens before and after each document.
    first: Option<u32>,
    last: Option<u32>,
    labels: &'a [String],
}

impl<'a> Encoder<'a> {
    /// Makes an encoder. Documents of an encoder model are put between `[CLS]` and `[SEP]`, if the tokenizer
    /// has both; others end with the end-of-text token if `separates`.
    pub fn new(config: &Config, tokenizer: &'a Tokenizer, separates: bool, labels: &'a [String]) -> Self {
        let ends = tokenizer.token_id(CLS_TOKEN).zip(tokenizer.token_id(SEP_TOKEN));
        let (first, last) = match config.model.architecture {
            Architecture::Encoder if config.layout() == Layout::Documents => ends.unzip(),
            // Collation puts ends where they belong.
            Architecture::EncoderDecoder if config.data.target_field.is_some() => (None, None),
            _ => (None, tokenizer.end_of_text().filter(|_| separates)),
        };
        Self { tokenizer, first, last, labels }
    }

    /// Tokenizes documents with their labels into a split. `name` is used in messages.
    pub fn encode(&self, name: &'static str, part: &Part) -> Result<TokenSplit> {
        let mut tokens = Tokens::for_vocabulary(self.tokenizer.vocab_size());
        let mut starts = Vec::with_capacity(part.documents.len());
        let (mut classes, mut token_classes) = (Vec::new(), Vec::new());
        let (mut values, mut begins) = (Vec::new(), Vec::new());
        for (index, document) in part.documents.iter().enumerate() {
            let start = tokens.len();
            let label = part.labels.get(index).copied();
            tokens.extend(self.first.as_slice());
            match label {
                Some(Label::Words(words)) => {
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
            match label {
                None | Some(Label::Words(_)) => {}
                Some(Label::Class(name)) => classes.push(self.class(name)?),
                Some(Label::Value(value)) => values.push(*value),
                Some(Label::Text(text)) => {
                    begins.push(tokens.len() - start);
                    self.tokenizer.encode_each(text, |piece| tokens.extend(piece))?;
                }
            }
            tokens.extend(self.last.as_slice());
            if tokens.len() > start {
                starts.push(start);
            } else {
                // A document without a single token is dropped with its label.
                classes.truncate(starts.len());
                values.truncate(starts.len());
                begins.truncate(starts.len());
            }
        }
        let labels = match part.labels.first() {
            None => Labels::None,
            Some(Label::Class(_)) => Labels::Classes(classes.into()),
            Some(Label::Value(_)) => Labels::Values(values.into()),
            Some(Label::Text(_)) => Labels::TargetTexts(begins.into()),
            Some(Label::Words(_)) => {
                token_classes.resize(tokens.len(), IGNORE_INDEX);
                Labels::TokenClasses(token_classes.into())
            }
        };
        Ok(TokenSplit::from_tokens(name, tokens, starts).with_labels(labels))
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
