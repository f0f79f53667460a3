//! Settings of linear layers.

use crate::Precision;

/// Settings of the product of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearSpec {
    /// Whether the weight is `[O, I]` instead of `[I, O]`.
    pub transposed: bool,
    pub precision: Precision,
}
