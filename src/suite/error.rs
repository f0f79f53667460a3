//! The error type. A message names the offending path, key or value in backticks and has no full stop;
//! [`Error::hint`] says what to do about it.

use kiln_base::error::nearest;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A key of a task file, and the line where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub path: Arc<Path>,
    pub line: usize,
    /// The key, with those that it is inside (`filter_list.name`).
    pub key: String,
}

/// A row of a data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOrigin {
    pub path: Arc<Path>,
    /// Number of the row, counted from 1.
    pub row: usize,
}

/// Everything that can go wrong between a task file and its results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or a folder could not be read.
    #[error(transparent)]
    File(#[from] kiln_base::Error),

    /// A task file is not YAML, or is not a map.
    #[error("`{}` line {line}: {message}", path.display())]
    InvalidYaml { path: PathBuf, line: usize, message: String, hint: Option<String> },

    /// A task file has a key that no task has.
    #[error("`{}` line {}: unknown key `{}`", origin.path.display(), origin.line, origin.key)]
    UnknownKey { origin: Origin, nearest: Option<&'static str> },

    /// A value is not in a fixed list of names (metric, filter, output type).
    #[error("`{}` line {}: unknown {what} `{name}` in `{}`", origin.path.display(), origin.line, origin.key)]
    UnknownName { origin: Origin, what: &'static str, name: String, hint: String },

    /// A key of a task file has a value that is not possible, alone or together with others.
    #[error("`{}` line {}: `{}` {message}", origin.path.display(), origin.line, origin.key)]
    InvalidKey { origin: Origin, message: String, hint: Option<String> },

    /// A data file cannot be read as rows.
    #[error("`{}`{}: {message}", path.display(), row.map_or_else(String::new, |row| format!(" row {row}")))]
    InvalidData { path: PathBuf, row: Option<usize>, message: String, hint: Option<String> },

    /// A key of a task file cannot be applied to a row.
    #[error(
        "`{}` line {}: `{}` fails for row {} of `{}`: {message}",
        origin.path.display(), origin.line, origin.key, row.row, row.path.display()
    )]
    InvalidRow { origin: Origin, row: RowOrigin, message: String, hint: Option<String> },

    /// A metric cannot score a generated text.
    #[error("a text cannot be scored: {0}")]
    Metric(kiln_score::Error),

    /// The model has failed, or has returned a wrong number of outputs.
    #[error("the model failed: {0}")]
    Model(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Advice on how to solve the problem, if there is any.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint().map(|hint| hint.to_string()),
            Self::UnknownKey { nearest: Some(key), .. } => Some(format!("did you mean `{key}`?")),
            Self::UnknownName { hint, .. } => Some(hint.clone()),
            Self::InvalidYaml { hint, .. }
            | Self::InvalidKey { hint, .. }
            | Self::InvalidData { hint, .. }
            | Self::InvalidRow { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}

impl Origin {
    /// Makes an [`Error::InvalidKey`] without a hint.
    pub fn invalid(&self, message: impl Into<String>) -> Error {
        Error::InvalidKey { origin: self.clone(), message: message.into(), hint: None }
    }

    /// Makes an [`Error::InvalidKey`] with a hint.
    pub fn invalid_with(&self, message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::InvalidKey { origin: self.clone(), message: message.into(), hint: Some(hint.into()) }
    }

    /// Makes an [`Error::InvalidRow`] without a hint.
    pub fn fails_for(&self, row: &RowOrigin, message: impl Into<String>) -> Error {
        Error::InvalidRow { origin: self.clone(), row: row.clone(), message: message.into(), hint: None }
    }

    /// Makes an [`Error::InvalidRow`] with a hint.
    pub fn fails_with(&self, row: &RowOrigin, message: impl Into<String>, hint: impl Into<String>) -> Error {
        let (message, hint) = (message.into(), Some(hint.into()));
        Error::InvalidRow { origin: self.clone(), row: row.clone(), message, hint }
    }

    /// Makes an [`Error::UnknownName`], whose hint is the most similar of the known names or, if none is
    /// similar, all of them.
    pub fn unknown(&self, what: &'static str, name: &str, known: &[&str]) -> Error {
        let hint = match nearest(name, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        Error::UnknownName { origin: self.clone(), what, name: name.into(), hint }
    }
}
