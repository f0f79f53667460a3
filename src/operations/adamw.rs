//! Settings of AdamW (arXiv:1711.05101).

/// Settings of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSpec {
    pub learning_rate: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// Number of updates so far, this one included.
    pub updates: usize,
    /// Whether to change nothing if the scale is not finite.
    pub skip_non_finite: bool,
}

impl AdamWSpec {
    /// Factors that weights, first moment and second moment are multiplied by.
    pub fn factors(self) -> (f32, f32, f32) {
        let unbiased = |beta: f32| 1.0 - f64::from(beta).powi(self.updates as i32);
        let decay = 1.0 - self.learning_rate * self.weight_decay;
        let rate = (f64::from(self.learning_rate) / unbiased(self.beta1)) as f32;
        (decay, rate, (1.0 / unbiased(self.beta2)) as f32)
    }
}
