//! Configuration of GRPO, its relatives, and RLOO.

use crate::config::Range;
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// Policy optimization by comparison of several answers to a prompt: GRPO (arXiv:2402.03300) and RLOO.
    #["grpo"]
    pub struct GrpoConfig {
        /// Answers to each prompt, whose rewards are compared.
        group_size: usize = 8, Range::Whole(2, 4096);
        /// Mean over tokens and answers: `grpo`, `bnpo`, `dr-grpo` or `dapo`.
        normalization: Normalization = Normalization::Dapo;
        /// Advantages are divided by the standard deviation of the rewards of their `group` or of the `batch`, or are
        /// `unscaled`; absent: `unscaled` for `dr-grpo`, `group` for the others.
        scale: Option<AdvantageScale> = None;
        /// Probabilities are compared by `token`, by `sequence` as in GSPO, or by their `product`; absent: `product` for
        /// `rloo`, else `token`.
        ratio: Option<RatioLevel> = None;
        /// `clip` the ratio of probabilities, or weight the log-probability by it (`cispo`).
        loss: PolicyLossKind = PolicyLossKind::Clip;
        /// Largest decrease of a ratio that is rewarded; `rloo` has no bound.
        epsilon: f64 = 0.2, Range::Positive;
        /// Largest increase of a ratio that is rewarded; absent: 0.28 for `dapo`, `epsilon` for the others.
        epsilon_high: Option<f64> = None, Range::Positive;
        /// Largest ratio of an answer with a negative advantage (arXiv:2505.07291); with `cispo` the largest weight, 5 if
        /// absent; absent: any.
        max_ratio: Option<f64> = None, Range::Positive;
        /// Share of the divergence from the reference that is added to the loss, for `rloo` subtracted from the rewards.
        kl_coefficient: f64 = 0.0, Range::FromZero;
        /// Multiply the divergence of a token by the ratio of its probabilities (arXiv:2512.02556).
        corrected_kl: bool = false;
    }
}

/// Means over the losses of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// The mean over each answer's tokens, then over answers (GRPO, arXiv:2402.03300).
    Grpo,
    /// The mean over the tokens of a micro-batch (arXiv:2506.02864).
    Bnpo,
    /// The sum divided by the number of answers times the largest length (arXiv:2503.20783).
    DrGrpo,
    /// The mean over the tokens of the step (arXiv:2503.14476).
    Dapo,
}

/// Divisor of advantages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdvantageScale {
    /// The standard deviation of the rewards of a prompt's answers.
    Group,
    /// The standard deviation of all rewards.
    Batch,
    /// No divisor.
    Unscaled,
}

/// Level at which the probabilities of the new and the old policy are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RatioLevel {
    /// Each token has a ratio of its own.
    Token,
    /// All tokens of an answer have the geometric mean of their ratios (GSPO, arXiv:2507.18071).
    Sequence,
    /// All tokens of an answer have the product of their ratios, the ratio of the answer.
    Product,
}

/// Losses of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyLossKind {
    /// The clipped ratio times the advantage (PPO).
    Clip,
    /// The log-probability times the advantage and the bounded ratio, which is a constant (CISPO,
    /// arXiv:2506.13585).
    Cispo,
}
