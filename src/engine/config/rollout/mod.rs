//! Configuration of reinforcement learning: how answers are sampled, which on-policy distillation does too, how they
//! are scored, and what PPO, GRPO and RLOO make of the scores.

mod grpo;
mod ppo;
mod reward;

pub use grpo::{AdvantageScale, GrpoConfig, Normalization, PolicyLossKind, RatioLevel};
pub use ppo::{KlEstimator, PpoConfig, ScorePosition, ValueKind};
pub use reward::{RewardKind, RewardTerm};

use super::{Config, ObjectiveKind, Range};
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// Answers that the model samples in reinforcement learning and on-policy distillation, and their rewards.
    #["rollout"]
    pub struct RolloutConfig {
        /// Most tokens of an answer.
        max_new_tokens: usize = 64, Range::SIZE;
        /// Divides the logits when answers are sampled and when their probabilities are computed.
        temperature: f64 = 1.0, Range::Positive;
        /// Texts that end an answer, such as a line break; they are trained, but the rewards do not see them.
        stop: Vec<String> = Vec::new();
        /// Rewards of an answer, which are added: tables such as `{ kind = "exact", weight = 1.0 }` with the kind
        /// `model`, `exact`, `regex`, `number`, `length` or `command`; empty: `exact`.
        rewards: Vec<RewardTerm> = Vec::new();
        /// Field of a record that holds the reference answer; absent: the answer in the text or its targets.
        answer_field: Option<String> = None;
        /// Optimizer steps in an epoch over the answers of a rollout.
        minibatches: usize = 1, Range::SIZE;
        /// Epochs over the answers of a rollout; absent: 4 for `ppo`, 1 for `grpo` and `rloo`.
        epochs: Option<usize> = None, Range::SIZE;
        /// Answers that are generated together.
        generation_batch: usize = 64, Range::SIZE;
        /// Reward that an answer loses if it is cut off at `max_new_tokens`.
        missing_end_penalty: f64 = 0.0, Range::FromZero;
        /// Largest absolute reward of an answer that is not refused; absent: any.
        max_reward: Option<f64> = None, Range::Positive;
        /// Largest divergence of an answer from the reference, in nats, that is not refused; absent: any.
        max_kl: Option<f64> = None, Range::Positive;
        /// `stop` the run at an answer that is refused or has no finite reward and at a prompt that leaves no room for
        /// one, or `skip` them.
        on_bad_answer: OnBadAnswer = OnBadAnswer::Stop;
        /// Answers of each rollout that are recorded as samples, with their rewards.
        samples: usize = 1;
    }
}

/// Action at an answer that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadAnswer {
    /// End the run with an error, after a checkpoint of the last step.
    Stop,
    /// Leave the answer out of the rollout, and count it.
    Skip,
}

impl Config {
    /// Number of answers to each prompt.
    pub fn answers_per_prompt(&self) -> usize {
        match self.objective_kind() {
            ObjectiveKind::Grpo | ObjectiveKind::Rloo => self.grpo.group_size,
            _ => 1,
        }
    }

    /// Number of answers in a rollout.
    pub fn answers_per_rollout(&self) -> usize {
        let step = self.train.batch_size.saturating_mul(self.train.gradient_accumulation_steps);
        step.saturating_mul(self.rollout.minibatches)
    }

    /// Number of prompts in a rollout.
    pub fn prompts_per_rollout(&self) -> usize {
        self.answers_per_rollout() / self.answers_per_prompt()
    }

    /// Number of epochs over the answers of a rollout.
    pub fn rollout_epochs(&self) -> usize {
        let usual = if self.objective_kind() == ObjectiveKind::Ppo { 4 } else { 1 };
        self.rollout.epochs.unwrap_or(usual)
    }

    /// Number of optimizer steps that are taken on a rollout.
    pub fn steps_per_rollout(&self) -> u64 {
        self.rollout.minibatches as u64 * self.rollout_epochs() as u64
    }

    /// Share of the divergence from the reference in the rewards or in the loss; there is no reference if it is 0.
    pub fn kl_coefficient(&self) -> f64 {
        match self.objective_kind() {
            ObjectiveKind::Ppo => self.ppo.kl_coefficient,
            _ => self.grpo.kl_coefficient,
        }
    }

    /// Number of rows that a step reads from the training split, divided by the rows that it trains on. It
    /// is below 1 if several answers are sampled for a prompt, or several epochs are trained on them.
    pub fn prompts_per_row(&self) -> f64 {
        match self.objective_kind().samples_answers() {
            true => 1.0 / (self.answers_per_prompt() * self.rollout_epochs()) as f64,
            false => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_has_the_answers_of_its_steps() {
        let mut config = Config::default();
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(config.prompts_per_row(), 1.0);
        config
            .apply(&set(&[
                "objective.kind=grpo",
                "train.batch_size=8",
                "train.gradient_accumulation_steps=2",
                "rollout.minibatches=3",
                "grpo.group_size=4",
            ]))
            .unwrap();
        assert_eq!((config.answers_per_rollout(), config.prompts_per_rollout()), (48, 12));
        assert_eq!((config.steps_per_rollout(), config.prompts_per_row()), (3, 0.25));
        config.apply(&set(&["objective.kind=ppo"])).unwrap();
        assert_eq!((config.prompts_per_rollout(), config.steps_per_rollout()), (48, 12));
        config.apply(&set(&["rollout.epochs=2"])).unwrap();
        assert_eq!((config.steps_per_rollout(), config.prompts_per_row()), (6, 0.5));
    }
}
