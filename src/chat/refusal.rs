//! Reasons why an example is not trained on. Each is an error or, if the user wants, a skip that is counted
//! under its name.

use crate::error::{Error, Hint, hint};

/// Reason why an example cannot be trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A field is missing or of the wrong type.
    Malformed,
    /// A message is of a role that the template does not know.
    UnknownRole,
    /// The template refuses the conversation or fails for it.
    Template,
    /// The template renders earlier messages differently once others follow.
    RewrittenHistory,
    /// No token would be trained.
    NoTarget,
    /// The answer lies beyond the longest row, or what makes two answers differ.
    CutAway,
    /// Both answers of a pair are the same.
    EqualAnswers,
    /// The row is too long, and rows are not to be truncated.
    TooLong,
    /// The text has a character that the tokenizer does not know.
    UnknownText,
}

impl Reason {
    /// Description of the examples that have it, after their number: "3 without an answer to train on".
    pub fn described(self) -> &'static str {
        match self {
            Self::Malformed => "with a field that is missing or of the wrong type",
            Self::UnknownRole => "with a role that is unknown",
            Self::Template => "that the chat template refuses",
            Self::RewrittenHistory => "whose history the chat template rewrites",
            Self::NoTarget => "without an answer to train on",
            Self::CutAway => "whose answer is cut away whole",
            Self::EqualAnswers => "whose chosen and rejected answers are equal",
            Self::TooLong => "that are too long",
            Self::UnknownText => "with characters that the tokenizer does not know",
        }
    }
}

/// An example that cannot be trained on.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub reason: Reason,
    /// Description of the defect, as the continuation of the example's place.
    pub message: String,
    pub hint: Option<Hint>,
}

pub type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), hint: None }
    }

    pub fn with_hint(self, hint: impl Into<Hint>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// A record with a field that is missing or of the wrong type.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Reason::Malformed, message)
    }

    /// The refusal as an error about the record that begins in this line of a file.
    pub fn into_error(self, path: &std::path::Path, line: usize) -> Error {
        let skip =
            || hint!["mend it, or leave such examples out with ", hint::set("chat.on_bad_row", "skip")];
        let hint = Some(self.hint.unwrap_or_else(skip));
        Error::InvalidDialogue { path: path.into(), line, message: self.message, hint }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let reason = match error {
            Error::Tokenizer { .. } => Reason::UnknownText,
            _ => Reason::Template,
        };
        Self { reason, message: error.to_string(), hint: error.hint() }
    }
}
