//! From a score to a decision, the same for a document in whatever order documents come.

use super::super::random::unit;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Which documents of a score stay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Selection {
    /// Keeps texts of at least this score.
    Threshold(f64),
    /// Keeps texts for which a draw from the Pareto distribution (as numpy has it, from 0 on) is above 1 - score: all
    /// good ones and some bad ones (GPT-3, arXiv:2005.14165, appendix A, where alpha is 9; a smaller one keeps
    /// more). The draw depends on the document's id and the seed alone.
    Pareto { alpha: f64, seed: u64 },
}

impl Default for Selection {
    fn default() -> Self {
        Self::Pareto { alpha: 3.0, seed: 1 }
    }
}

impl Selection {
    /// Whether a document with a score between 0 and 1 stays.
    pub fn keeps(&self, score: f64, id: &str) -> bool {
        match *self {
            Self::Threshold(least) => score >= least,
            Self::Pareto { alpha, seed } => {
                let uniform = unit(xxh3_64_with_seed(id.as_bytes(), seed));
                (1.0 - uniform).powf(-1.0 / alpha) - 1.0 > 1.0 - score
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pareto_keeps_the_share_that_the_distribution_says() {
        let selection = Selection::default();
        for score in [0.0, 0.3, 0.7, 0.95] {
            let kept = (0..20_000).filter(|id| selection.keeps(score, &format!("document {id}"))).count();
            // The probability that a draw is above x is (1 + x)^-alpha.
            let expected = (2.0f64 - score).powi(-3);
            assert!((kept as f64 / 20_000.0 - expected).abs() < 0.015, "{score}: {kept}");
        }
        assert!((0..100).all(|id| selection.keeps(1.0 + 1e-9, &id.to_string())));
        let threshold = Selection::Threshold(0.5);
        assert!(threshold.keeps(0.5, "") && !threshold.keeps(0.49, "") && !threshold.keeps(f64::NAN, ""));
    }
}
