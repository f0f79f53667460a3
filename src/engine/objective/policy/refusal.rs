//! Reasons why a sampled answer is not trained on. Each ends the run or, if the user wants, leaves the answer out.

use crate::{
    config::Config,
    error::{Error, hint},
    objective::rollout::{Prompt, excerpt, no_room, rewards::Scores},
};

/// Reason why an answer is not trained on: the key of the configuration that it concerns, and what is wrong.
pub(super) struct Refusal {
    key: &'static str,
    value: String,
    pub message: String,
}

impl Refusal {
    /// Refuses a prompt that leaves no room for an answer.
    pub fn of_long_prompt(prompt: &Prompt, config: &Config) -> Self {
        Self {
            key: "rollout.max_new_tokens",
            value: config.rollout.max_new_tokens.to_string(),
            message: no_room(prompt, config),
        }
    }

    /// Refuses the answers of a rollout in which all of them are empty.
    pub fn of_empty_rollout() -> Self {
        let message = "the rollout is empty: every answer has ended at once".into();
        Self { key: "rollout", value: "no text".into(), message }
    }

    /// Refuses an answer by its reward or by its divergence from the reference; `None` if it is good.
    pub fn of_answer(scores: &Scores, divergence: Option<f32>, row: usize, config: &Config) -> Option<Self> {
        let score = scores.total.get(row).copied().unwrap_or(f32::NAN);
        let rollout = &config.rollout;
        if !score.is_finite() {
            let message = scores.failure.clone().unwrap_or_else(|| "an answer has no finite reward".into());
            return Some(Self { key: "rollout.rewards", value: score.to_string(), message });
        }
        if let Some(bound) = rollout.max_reward.filter(|&bound| f64::from(score.abs()) > bound) {
            let message = format!("an answer has a reward of {score}");
            return Some(Self { key: "rollout.max_reward", value: bound.to_string(), message });
        }
        let divergence = divergence?;
        let is_beyond = rollout.max_kl.is_some_and(|bound| f64::from(divergence) > bound);
        (is_beyond || !divergence.is_finite()).then(|| Self {
            key: "rollout.max_kl",
            value: rollout.max_kl.map_or_else(|| "none".into(), |bound| bound.to_string()),
            message: format!("an answer diverges from the reference by {divergence} nats"),
        })
    }

    /// The refusal as the error that ends the run, with the prompt and the answer.
    pub fn to_error(&self, text: Option<(&str, &str)>) -> Error {
        let of = text.map_or_else(String::new, |(prompt, answer)| {
            format!(" (prompt `{}`, answer `{}`)", excerpt(prompt), excerpt(answer))
        });
        Error::Rollout {
            step: None,
            key: self.key.into(),
            value: self.value.clone(),
            message: format!("{}{of}", self.message),
            hint: Some(hint![
                "leave such answers out with ",
                hint::set("rollout.on_bad_answer", "skip"),
                ", or lower ",
                hint::key("train.learning_rate"),
                " if they come up only after some steps",
                hint::command_line(hint!["; ", hint::command("--resume"), " goes on from the last step"])
            ]),
        }
    }
}
