//! Chinchilla's law L(N, D) = E + A/N^α + B/D^β (arXiv:2203.15556, equation 2) and the sizes that minimize it
//! for a budget of compute.

use crate::runs::FLOPS_PER_PARAMETER_AND_TOKEN;
use serde::{Deserialize, Serialize};

/// L(N, D) = E + A/N^α + B/D^β.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// E, the floor: the loss of an infinite model after infinitely many tokens.
    #[serde(rename = "E")]
    pub e: f64,
    /// A, the factor of the part that more parameters reduce.
    #[serde(rename = "A")]
    pub a: f64,
    /// B, the factor of the part that more tokens reduce.
    #[serde(rename = "B")]
    pub b: f64,
    /// α, the exponent of the parameters.
    pub alpha: f64,
    /// β, the exponent of the tokens.
    pub beta: f64,
}

/// Compute-optimal sizes for a budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Optimum {
    /// N, the number of parameters.
    pub parameters: f64,
    /// D, the number of training tokens.
    pub tokens: f64,
}

impl Law {
    /// Loss of a model with `parameters` after `tokens`.
    pub fn loss(&self, parameters: f64, tokens: f64) -> f64 {
        self.e + self.a * parameters.powf(-self.alpha) + self.b * tokens.powf(-self.beta)
    }

    /// Exponent of compute in the optimal number of parameters, β/(α + β); that of the tokens is its
    /// complement to 1.
    pub fn parameters_exponent(&self) -> f64 {
        self.beta / (self.alpha + self.beta)
    }

    /// N and D with the lowest loss among those with C = 6·N·D (arXiv:2203.15556, equation 4):
    ///
    /// ```text
    /// N = G · (C/6)^(β/(α+β))      D = (C/6)^(α/(α+β)) / G      G = (αA / (βB))^(1/(α+β))
    /// ```
    ///
    /// `budget` is C in FLOPs.
    pub fn optimum(&self, budget: f64) -> Optimum {
        let product = (budget / FLOPS_PER_PARAMETER_AND_TOKEN).ln(); // ln(N·D)
        let balance = (self.alpha * self.a).ln() - (self.beta * self.b).ln();
        let log_parameters = (balance + self.beta * product) / (self.alpha + self.beta);
        Optimum { parameters: log_parameters.exp(), tokens: (product - log_parameters).exp() }
    }

    /// Whether all five numbers are finite and positive, so that loss falls with N and with D.
    pub fn is_valid(&self) -> bool {
        // A floor of 0 is the limit in which E cannot be told from nothing.
        let positive =
            [self.a, self.b, self.alpha, self.beta].iter().all(|value| value.is_finite() && *value > 0.0);
        positive && self.e.is_finite() && self.e >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// E, A, B, al, be = 1.69, 406.4, 410.7, 0.34, 0.28
    /// print(E + A / 70e9**al + B / 1.4e12**be)
    /// G = (al * A / (be * B)) ** (1 / (al + be))
    /// C = 5.76e23; n = G * (C / 6) ** (be / (al + be)); print(n, C / 6 / n)
    /// ```
    #[test]
    fn numbers_are_those_of_python() {
        let law = crate::synthetic::CHINCHILLA;
        assert!((law.loss(70e9, 1.4e12) - 1.936_645_470_558_717_3).abs() < 1e-12);
        let optimum = law.optimum(5.76e23);
        assert!((optimum.parameters / 32_189_859_151.368_168 - 1.0).abs() < 1e-10);
        assert!((optimum.tokens / 2_982_305_686_662.804 - 1.0).abs() < 1e-10);
    }

    #[test]
    fn the_optimum_is_a_minimum_on_its_budget() {
        let law = Law { e: 0.5, a: 30.0, b: 900.0, alpha: 0.2, beta: 0.45 };
        for budget in [1e12, 1e18, 1e24] {
            let best = law.optimum(budget);
            assert!((6.0 * best.parameters * best.tokens / budget - 1.0).abs() < 1e-12);
            let least = law.loss(best.parameters, best.tokens);
            for factor in [0.9, 0.99, 1.01, 1.1] {
                assert!(law.loss(best.parameters * factor, best.tokens / factor) > least);
            }
        }
    }
}
