//! The mathematics of reinforcement learning: what becomes of the scores and probabilities of sampled answers
//! before the first update (numbers in main memory), and the losses (tensors on a device).
//!
//! Lists of numbers are `[answers * width]`, answer by answer, with one number for each token of an answer
//! and 0 beyond its end.

mod advantages;
mod answers;
mod group;
mod kl;
mod log_probabilities;
mod normalization;
mod policy_loss;
mod targets;
mod value_loss;
mod value_model;
mod whiten;

pub use advantages::generalized_advantages;
pub use answers::AnswerTensors;
pub use group::{group_advantages, group_deviation, leave_one_out};
pub use kl::{KlController, sampled_kl};
pub use log_probabilities::{entropy, log_probabilities};
pub use normalization::{Averaging, row_weights};
pub use policy_loss::{PolicyLoss, PolicyTerms};
pub use targets::{Sampled, Targets, TargetsConfig, answer_mask};
pub use value_loss::{ValueLoss, ValueTerms};
pub use value_model::{Companion, ValueModel};
pub use whiten::{Mean, whiten};
