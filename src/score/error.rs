//! Errors of the metrics.

use std::{fmt, path::PathBuf};

/// Reason for which a metric cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// There is nothing to score.
    Empty { what: &'static str },
    /// Two lists that belong together have different lengths.
    UnequalLengths { left: &'static str, left_len: usize, right: &'static str, right_len: usize },
    /// The text at `index`, counted from 0, has no reference.
    NoReferences { index: usize },
    /// A setting or an input has a value that is not allowed.
    InvalidValue { key: &'static str, value: String, message: &'static str },
    /// A fixture file cannot be read or has another layout.
    Fixture { path: PathBuf, message: String },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn invalid(key: &'static str, value: impl fmt::Display, message: &'static str) -> Self {
        Self::InvalidValue { key, value: value.to_string(), message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { what } => write!(f, "there are no {what} to score"),
            Self::UnequalLengths { left, left_len, right, right_len } => {
                write!(f, "there are {left_len} {left} but {right_len} {right}")
            }
            Self::NoReferences { index } => write!(f, "text {index} (counted from 0) has no reference"),
            Self::InvalidValue { key, value, message } => {
                write!(f, "invalid value `{value}` for `{key}`: {message}")
            }
            Self::Fixture { path, message } => write!(f, "cannot use `{}`: {message}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_value() {
        assert_eq!(Error::Empty { what: "texts" }.to_string(), "there are no texts to score");
        assert_eq!(
            Error::invalid("max_ngram_order", 0, "must be from 1 to 100").to_string(),
            "invalid value `0` for `max_ngram_order`: must be from 1 to 100"
        );
        let error =
            Error::UnequalLengths { left: "texts", left_len: 2, right: "lists of references", right_len: 3 };
        assert_eq!(error.to_string(), "there are 2 texts but 3 lists of references");
    }
}
