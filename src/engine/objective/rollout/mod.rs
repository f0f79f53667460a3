//! Rollouts: a policy answers prompts, the answers are scored, and what the updates need of them is measured
//! before the first one. [`PolicyOptimization`](super::PolicyOptimization) draws a rollout and trains on it
//! for several steps.
//!
//! Prompts and random numbers follow from the seed and the number of the rollout, so that a run that goes on
//! in the middle of a rollout's steps reads the rollout from its checkpoint, and draws the next one as the
//! uninterrupted run would.

mod answer;
mod measure;
mod minibatch;
mod prompt;
pub mod rewards;
mod sampling;
mod state;

pub use answer::{Answer, Shape, answer_batch};
pub use measure::{Measured, Models, answer_log_probabilities, measure};
pub use minibatch::StepBatches;
pub use prompt::{Prompt, prompts};
pub use sampling::{answer_rows, no_room, sample_answers};
pub use state::{to_whole_numbers, whole_numbers};

use std::collections::BTreeMap;

/// Sampled answers, and what is known of their tokens. Lists of numbers are `[answers * width]`, and 0 beyond
/// the end of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rollout {
    /// Number of rollouts that were drawn before.
    pub number: u64,
    /// Number of the first step on it, counted from 0.
    pub first_step: u64,
    pub answers: Vec<Answer>,
    pub shape: Shape,
    /// Log-probabilities of the policy that has sampled; empty if they are those of the only step.
    pub old_log_probabilities: Vec<f32>,
    /// Log-probabilities of the reference; empty without one.
    pub reference_log_probabilities: Vec<f32>,
    pub advantages: Vec<f32>,
    /// Values before each token; empty without a value model, and so are the following two.
    pub values: Vec<f32>,
    pub returns: Vec<f32>,
    /// 1 where a value counts.
    pub value_mask: Vec<f32>,
    /// Figures about the rollout, by the names of their metrics.
    pub figures: Figures,
}

/// Figures about a rollout by the names of their metrics, all of which are in [`FIGURES`].
pub type Figures = BTreeMap<&'static str, Vec<f32>>;

/// Names of all figures.
pub const FIGURES: [&str; 15] = [
    "answer_length",
    "ended",
    "entropy",
    "explained_variance",
    "kl",
    "kl_coefficient",
    "left_out",
    "reward",
    "reward/command",
    "reward/exact",
    "reward/length",
    "reward/model",
    "reward/number",
    "reward/regex",
    "reward_deviation",
];

impl Rollout {
    /// Number of tokens of each answer; 0 for an answer that is left out.
    pub fn lengths(&self) -> Vec<usize> {
        self.answers.iter().map(Answer::trained).collect()
    }
}

/// Longest text in an error, in characters.
const LONGEST_EXCERPT: usize = 60;

/// Beginning of a text for a message, on one line.
pub(in crate::objective) fn excerpt(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_EXCERPT).collect();
    if text.chars().count() > LONGEST_EXCERPT { format!("{line}…") } else { line }
}
