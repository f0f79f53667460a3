//! The one error type of this crate. A message names the offending value in backticks and has no full stop.

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that cannot be pruned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The share of the weights to prune is not in [0, 1).
    #[error("a share of `{share}` cannot be pruned: it must be 0 or more, and below 1")]
    Share { share: f64 },

    /// Nothing would be left of the `count` weights, heads, neurons or layers.
    #[error("of {count} {what} nothing would be left")]
    NothingLeft { what: &'static str, count: usize },

    /// A weight or a statistic of the inputs is NaN or infinite.
    #[error("the {what} are not finite: one of them is `{value}`")]
    NotFinite { what: &'static str, value: f64 },

    /// The products of the inputs have no triangular factor, even with damping.
    #[error(
        "the products of the inputs are not positive definite at input `{input}`, with a damping of {damping}"
    )]
    NotPositive { input: usize, damping: f64 },
}

impl Error {
    /// Refuses numbers that are NaN or infinite.
    pub(crate) fn check_finite<T: Copy + Into<f64>>(what: &'static str, values: &[T]) -> Result<()> {
        match values.iter().map(|&value| value.into()).find(|value| !value.is_finite()) {
            None => Ok(()),
            Some(value) => Err(Self::NotFinite { what, value }),
        }
    }
}
