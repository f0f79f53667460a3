//! Settings of LayerNorm (arXiv:1607.06450) and RMSNorm (arXiv:1910.07467).

/// Kind and settings of a normalization.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSpec {
    /// Whether to subtract the mean first: true for LayerNorm, false for RMSNorm.
    pub centered: bool,
    /// Number added to the variance, or the mean square, before the square root.
    pub epsilon: f32,
    /// Number added to the weight.
    pub offset: f32,
}
