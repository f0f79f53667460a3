//! Configuration of PPO.

use crate::config::Range;
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// Proximal policy optimization with a value model (arXiv:1707.06347, arXiv:2203.02155).
    #["ppo"]
    pub struct PpoConfig {
        /// The value model is its `own`, made from the reward model or else from the policy, or a head on the states
        /// of the policy, `shared`.
        value: ValueKind = ValueKind::Own;
        /// Share of the value loss in the loss.
        value_coefficient: f64 = 0.1, Range::FromZero;
        /// Largest change of a token's probability, as a share of the old one, that is rewarded.
        clip: f64 = 0.2, Range::Positive;
        /// Largest change of a value that its loss follows.
        value_clip: f64 = 0.2, Range::Positive;
        /// Discount of later rewards.
        gamma: f64 = 1.0, Range::PositiveShare;
        /// Weight of later temporal differences in an advantage (GAE, arXiv:1506.02438).
        lambda: f64 = 0.95, Range::PositiveShare;
        /// Estimator of the divergence from the reference: `k1`, `k2` or `k3`.
        kl: KlEstimator = KlEstimator::K1;
        /// Share of the divergence from the reference that is subtracted from the reward of each token.
        kl_coefficient: f64 = 0.05, Range::FromZero;
        /// Divergence of an answer, in nats, that `kl_coefficient` is adapted to (arXiv:1909.08593); absent: it is fixed.
        kl_target: Option<f64> = None, Range::Positive;
        /// Number of answers over which `kl_coefficient` is adapted.
        kl_horizon: f64 = 10000.0, Range::Positive;
        /// Scale rewards to variance 1 before advantages are computed.
        whiten_rewards: bool = false;
        /// Share of the entropy of the answers' tokens that is subtracted from the loss.
        entropy_coefficient: f64 = 0.0, Range::FromZero;
        /// The score of an answer is added at its `last` token, or at the `next` position as in trl.
        score_position: ScorePosition = ScorePosition::Last;
    }
}

/// Kinds of value models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// A model of its own.
    Own,
    /// A head on the states of the policy.
    Shared,
}

/// Estimators of the divergence from log-ratios of sampled tokens (joschu.net/blog/kl-approx.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KlEstimator {
    /// The log-ratio: unbiased, but it may be negative.
    K1,
    /// Half the square of the log-ratio: never negative, but biased.
    K2,
    /// `exp(-r) - 1 + r` of the log-ratio `r`: unbiased and never negative.
    K3,
}

/// Position at which the score of an answer is added to the rewards of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScorePosition {
    /// The last token of the answer.
    Last,
    /// The position after the last token where there is room, at which the value counts as well (trl).
    Next,
}
