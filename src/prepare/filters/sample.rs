//! Decides from a score whether a document is kept; the decision does not depend on the order of documents.

use super::super::random::unit;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Rule by which a document is kept for its score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Selection {
    /// Keeps documents with at least this score.
    Threshold(f64),
    /// Keeps documents for which a draw from the Pareto distribution (numpy's, which begins at 0) is above
    /// `1 - score`: all good ones and some bad ones (GPT-3, arXiv:2005.14165, appendix A, where alpha is 9; a
    /// smaller alpha keeps more). The draw depends on the document's id and the seed alone.
    Pareto { alpha: f64, seed: u64 },
}

impl Default for Selection {
    fn default() -> Self {
        Self::Pareto { alpha: 3.0, seed: 1 }
    }
}

impl Selection {
    /// Returns whether a document with a score between 0 and 1 is kept.
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
