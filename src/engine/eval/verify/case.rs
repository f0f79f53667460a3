//! Results of a comparison with reference numbers.

use crate::device::short_name;
use burn::tensor::Device;
use serde::Serialize;

/// One comparison with a reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    pub name: String,
    pub differences: Vec<Difference>,
}

/// A difference from the reference and the largest that passes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub what: String,
    pub found: f64,
    pub bound: f64,
}

impl Case {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), differences: Vec::new() }
    }

    /// Adds a difference and the largest that passes.
    pub fn add(&mut self, what: impl Into<String>, found: f64, bound: f64) {
        self.differences.push(Difference { what: what.into(), found, bound });
    }

    /// Adds a condition: a difference of 0 if it holds, otherwise of 1.
    pub fn check(&mut self, what: impl Into<String>, holds: bool) {
        self.add(what, if holds { 0.0 } else { 1.0 }, 0.0);
    }

    /// Differences that are over their bound.
    pub fn failures(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|difference| !difference.passes())
    }

    /// The difference that is the largest share of its bound.
    pub fn worst(&self) -> Option<&Difference> {
        self.differences.iter().max_by(|a, b| a.share().total_cmp(&b.share()))
    }
}

impl Difference {
    /// Whether the difference is within its bound; NaN never is.
    pub fn passes(&self) -> bool {
        self.found <= self.bound
    }

    /// Share of the bound that the difference takes; infinite for a NaN.
    fn share(&self) -> f64 {
        match self.passes() {
            true => self.found / self.bound.max(f64::MIN_POSITIVE),
            false if self.found.is_nan() => f64::INFINITY,
            false => (self.found / self.bound.max(f64::MIN_POSITIVE)).max(1.0),
        }
    }
}

/// Largest differences that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerances {
    /// Absolute, of logits, log-probabilities and other outputs of a model.
    pub logits: f64,
    pub loss: f64,
    /// Relative to the norm of the gradient.
    pub gradient: f64,
    /// Relative, of the losses before each step of AdamW.
    pub adamw: f64,
}

impl Tolerances {
    /// Tolerances for devices that compute in f32, like PyTorch on a CPU.
    pub fn strict() -> Self {
        Self { logits: 1e-4, loss: 1e-5, gradient: 1e-3, adamw: 1e-3 }
    }

    /// Tolerances for the fixtures of post-training: those of their README on the CPU, 1e-3 elsewhere.
    pub fn of_device(device: &Device) -> Self {
        match short_name(device) {
            "cpu" => Self { logits: 1e-4, loss: 1e-5, gradient: 1e-4, adamw: 1e-4 },
            _ => Self::uniform(1e-3),
        }
    }

    /// Uses one tolerance for all numbers.
    pub fn uniform(bound: f64) -> Self {
        Self { logits: bound, loss: bound, gradient: bound, adamw: bound }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_never_passes_and_is_the_worst() {
        let mut case = Case::new("one");
        case.add("loss", 2e-5, 1e-5);
        case.add("logits", 1e-6, 1e-4);
        assert_eq!(case.worst().unwrap().what, "loss");
        case.add("gradient", f64::NAN, 1e-4);
        case.check("order", true);
        case.check("count", false);
        assert_eq!(
            case.failures().map(|failure| failure.what.as_str()).collect::<Vec<_>>(),
            ["loss", "gradient", "count"]
        );
        assert_eq!(case.worst().unwrap().what, "gradient");
    }
}
