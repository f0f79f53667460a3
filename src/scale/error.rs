//! The one error type of this crate. A message names the offending value in backticks and has no full stop;
//! [`Error::hint`] says what to add or to correct.

use crate::runs::Place;
use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can be wrong with runs, budgets and plans.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A file of runs has no record.
    NoRuns { path: String },

    /// A record is not a run; `column` is the name of the offending column or key.
    Record { place: Place, column: Option<String>, message: String },

    /// Two runs have the same parameters, tokens and loss.
    DuplicateRuns { first: Place, second: Place },

    /// Two runs have different tokenizers, given by their numbers of tokens.
    MixedTokenizers { places: [Place; 2], vocabularies: [u64; 2] },

    /// There are not enough runs for what is to be found.
    TooFewRuns { purpose: &'static str, found: usize, needed: usize },

    /// The runs have not enough different values of a quantity, so that its exponent cannot be known.
    TooFewValues { quantity: Quantity, found: usize, needed: usize },

    /// In all runs the tokens follow from the parameters: D is proportional to N^`power`.
    Confounded { power: f64 },

    /// The loss does not fall when the quantity grows, so that there is no power law in it.
    NoDecrease { quantity: Quantity, exponent: f64 },

    /// The fitted law says that a quantity has next to no effect on the losses of the runs.
    NoEffect { quantity: Quantity },

    /// The number that a fit leads to is too large or too small for `f64`.
    OutOfRange { what: &'static str },

    /// Runs have losses that the fitted law cannot reach at any size.
    BelowFloor { floor: f64, runs: Vec<Place> },

    /// Fewer than two groups of equal compute have a minimum; `refused` says why for each group.
    TooFewMinima { found: usize, refused: Vec<String> },

    /// Too many resamples of the bootstrap could not be fitted.
    TooFewResamples { found: usize, wanted: usize },

    /// A setting or an argument is out of range.
    InvalidValue { key: &'static str, value: String, message: String },
}

/// Quantity that a loss depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// N.
    Parameters,
    /// D.
    Tokens,
    /// C = 6·N·D, in FLOPs.
    Compute,
}

impl Quantity {
    pub const ALL: [Self; 3] = [Self::Parameters, Self::Tokens, Self::Compute];

    /// Letter of the quantity in formulas.
    pub fn letter(self) -> char {
        match self {
            Self::Parameters => 'N',
            Self::Tokens => 'D',
            Self::Compute => 'C',
        }
    }

    /// Name of the exponent of the quantity in L(N, D), or in Kaplan's L(C).
    fn exponent(self) -> &'static str {
        match self {
            Self::Parameters => "alpha",
            Self::Tokens => "beta",
            Self::Compute => "alpha_C",
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parameters => "parameters",
            Self::Tokens => "tokens",
            Self::Compute => "compute",
        })
    }
}

impl Error {
    pub(crate) fn record(
        place: Place,
        column: impl Into<Option<String>>,
        message: impl Into<String>,
    ) -> Self {
        Self::Record { place, column: column.into(), message: message.into() }
    }

    /// Refuses a value unless it is finite and positive.
    pub(crate) fn check_positive(key: &'static str, value: f64) -> Result<()> {
        if value.is_finite() && value > 0.0 {
            return Ok(());
        }
        let message = "it must be a finite number above 0".into();
        Err(Self::InvalidValue { key, value: value.to_string(), message })
    }

    /// Advice on how to solve the problem, as one sentence without a full stop.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoRuns { .. } | Self::Record { column: None, .. } => {
                "a run is a row of a CSV file or a JSON object with `n` (or `parameters`), `d` (or `tokens`) and `loss`"
                    .into()
            }
            Self::Record { .. } => "correct the value, or remove the run".into(),
            Self::DuplicateRuns { .. } => {
                "remove one of them: it would count twice (a repetition with another seed has another loss)".into()
            }
            Self::MixedTokenizers { .. } => {
                "fit their bits per byte, which do not depend on the tokenizer, or one tokenizer at a time".into()
            }
            Self::TooFewRuns { found, needed, .. } => {
                let missing = needed.saturating_sub(*found);
                format!("add {missing} or more runs with other sizes and other numbers of tokens")
            }
            Self::TooFewValues { quantity, found, needed } => {
                let (missing, letter) = (needed.saturating_sub(*found), quantity.letter());
                format!("add runs with {missing} or more other values of {letter}, best spread over a factor of 10")
            }
            Self::Confounded { .. } => {
                "add runs of the same size with a quarter and with four times the tokens".into()
            }
            Self::NoDecrease { quantity, .. } | Self::NoEffect { quantity } => format!(
                "add runs over a wider range of {}, and check that all losses are of the same data and tokenizer",
                quantity.letter()
            ),
            Self::OutOfRange { .. } => "add runs over a wider range of sizes and tokens".into(),
            Self::BelowFloor { .. } => {
                "check that all losses are of the same data and tokenizer, or add larger runs, which lower the floor"
                    .into()
            }
            Self::TooFewMinima { .. } => {
                "add runs of the same compute C = 6·N·D that are smaller and larger than the best one".into()
            }
            Self::TooFewResamples { .. } => {
                "add runs: with so few, leaving some out changes what can be known".into()
            }
            Self::InvalidValue { .. } => return None,
        })
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRuns { path } => write!(f, "`{path}` holds no runs"),
            Self::Record { place, column: Some(column), message } => {
                write!(f, "{place}, column `{column}`: {message}")
            }
            Self::Record { place, column: None, message } => write!(f, "{place}: {message}"),
            Self::DuplicateRuns { first, second } => {
                write!(f, "{second} has the same parameters, tokens and loss as {first}")
            }
            Self::MixedTokenizers { places: [first, second], vocabularies: [size, other] } => write!(
                f,
                "{first} has a tokenizer of {size} tokens and {second} one of {other}, so that their losses per token \
                 cannot be compared"
            ),
            Self::TooFewRuns { purpose, found, needed } => {
                write!(f, "{purpose} needs at least {needed} runs, but there are {found}")
            }
            Self::TooFewValues { quantity, found: 1, .. } => {
                let exponent = quantity.exponent();
                write!(
                    f,
                    "all runs have the same {quantity}, so that the exponent `{exponent}` cannot be known"
                )
            }
            Self::TooFewValues { quantity, found, needed } => write!(
                f,
                "the runs have {found} different values of {} ({quantity}), but the exponent `{}` needs {needed}",
                quantity.letter(),
                quantity.exponent(),
            ),
            Self::Confounded { power } => write!(
                f,
                "in all runs D is proportional to N^{power:.2}, so that `alpha` and `beta` cannot be told apart"
            ),
            Self::NoDecrease { quantity, exponent } => write!(
                f,
                "the loss does not fall as the {quantity} grow: the fitted exponent `{}` is {exponent:.3}",
                quantity.exponent()
            ),
            Self::NoEffect { quantity } => write!(
                f,
                "the {quantity} of the runs have no effect on their loss, so that the exponent `{}` cannot be known",
                quantity.exponent()
            ),
            Self::OutOfRange { what } => write!(f, "{what} is too large or too small to be computed"),
            Self::BelowFloor { floor, runs } => {
                let runs: Vec<String> = runs.iter().map(Place::to_string).collect();
                write!(f, "losses are not above the fitted floor E = {floor:.4}: {}", runs.join(", "))
            }
            Self::TooFewMinima { found, refused } => {
                write!(
                    f,
                    "the power laws need two groups of equal compute with a minimum, but there are {found}"
                )?;
                refused.iter().try_for_each(|reason| write!(f, "; {reason}"))
            }
            Self::TooFewResamples { found, wanted } => {
                write!(f, "only {found} of {wanted} resamples of the runs could be fitted")
            }
            Self::InvalidValue { key, value, message } => {
                write!(f, "invalid value `{value}` for `{key}`: {message}")
            }
        }
    }
}
