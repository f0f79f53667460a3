//! Settings of the cross entropy of an output projection.

use crate::Precision;

/// Settings of a cross entropy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropySpec {
    /// Whether the weight is `[V, E]` instead of `[E, V]`.
    pub transposed: bool,
    /// Factor that the loss is multiplied by.
    pub scale: f32,
    /// Soft cap of the logits; 0 disables it.
    pub softcap: f32,
    /// Share of the probability that is spread evenly over the vocabulary (arXiv:1512.00567).
    pub label_smoothing: f32,
    /// Weight of the squared log-partition function, `log(sum(exp(logits)))²` (arXiv:2204.02311).
    pub z_loss: f32,
    /// Precision of the product that gives the logits.
    pub precision: Precision,
}

impl CrossEntropySpec {
    /// Precision of the products with the logits' gradients. These are computed in the forward pass, before the loss
    /// is scaled, and are so small that f16 would lose them.
    pub fn gradient_precision(&self) -> Precision {
        match self.precision {
            Precision::F16 => Precision::F32,
            precision => precision,
        }
    }
}
