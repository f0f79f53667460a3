//! Configuration of dialogue data: the chat template, what is trained, and what becomes of rows that are too
//! long or cannot be trained on.

use super::{Config, ObjectiveKind, SampleKind};
use crate::error::{Error, Result, hint};
use kiln_base::section;
use kiln_chat::{Format, LossOn, Truncation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

section! {
    /// Dialogues: how they become text, and what of it is trained.
    #["chat"]
    pub struct ChatConfig {
        /// Chat template: `chatml`, `llama2`, `llama3`, `zephyr`, `alpaca`, `plain`, or a file in Jinja; absent: that of
        /// the model, or `chatml` with a tokenizer that kiln makes.
        template: Option<String> = None;
        /// Text of a dialogue that is trained: the assistant's `answers`, its `last-answer`, or `all`.
        loss_on: LossOn = LossOn::Answers;
        /// Weight of each role's text in the loss, such as `{ assistant = 1.0, user = 0.1 }`; empty: as `loss_on` says.
        role_weights: BTreeMap<String, f64> = BTreeMap::new();
        /// Rows that are longer than the context lose their end (`right`) or their beginning (`left`), or are bad rows
        /// (`error`).
        truncate: Truncation = Truncation::Right;
        /// At a row that cannot be trained on, `error` ends the run before it begins, and `skip` leaves the row out; both
        /// count them.
        on_bad_row: OnBadRow = OnBadRow::Error;
        /// Date (`YYYY-MM-DD`) for templates that write one. It is fixed, so that a run resumes with the same tokens.
        date: String = "2026-01-01".into();
    }
}

/// Action at an example that cannot be trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadRow {
    /// Refuse the data.
    Error,
    /// Leave the example out, and count it.
    Skip,
}

impl ChatConfig {
    /// The date for templates, in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if it is no date.
    pub fn seconds(&self) -> Result<i64> {
        kiln_chat::seconds_of_date(&self.date)
            .ok_or_else(|| Error::invalid_value("chat.date", &self.date, "expected a date like `2026-01-31`"))
    }

    /// Checks what the ranges of single keys do not.
    pub(super) fn check(&self) -> Result<()> {
        self.seconds()?;
        let weights = &self.role_weights;
        let shown = || format!("{weights:?}");
        if let Some((role, weight)) = weights.iter().find(|(_, weight)| !weight.is_finite() || **weight < 0.0)
        {
            let message =
                format!("the weight of `{role}` is {weight}, but weights are finite and not below 0");
            return Err(Error::invalid_value("chat.role_weights", shown(), message));
        }
        if weights.is_empty() {
            return Ok(());
        }
        if weights.values().all(|weight| *weight == 0.0) {
            let message = "no role has a weight above 0, so nothing would be trained";
            return Err(Error::invalid_value("chat.role_weights", shown(), message));
        }
        if self.loss_on != LossOn::Answers {
            return Err(Error::InvalidValue {
                key: "chat.loss_on".into(),
                value: serde_json::to_value(self.loss_on).map_or_else(|_| String::new(), |v| v.to_string()),
                message: "with `chat.role_weights` the weights say what is trained".into(),
                hint: Some(hint!["leave one of them out"]),
            });
        }
        Ok(())
    }
}

impl Config {
    /// The configuration for data whose template is known: the tokenizer of a checkpoint has the one that the run
    /// began with, wherever that was from. `saved` is the configuration of the checkpoint.
    pub fn with_template_of(&self, saved: &Self) -> Self {
        let mut config = self.clone();
        config.chat.template =
            self.chat.template.clone().filter(|own| Some(own) != saved.chat.template.as_ref());
        config
    }

    /// Samples that the objective takes from dialogues; `None` if it learns from text.
    pub fn sample_kind(&self) -> Option<SampleKind> {
        match self.objective_kind() {
            ObjectiveKind::Sft => Some(SampleKind::Conversations),
            ObjectiveKind::Reward => Some(SampleKind::Rewards),
            ObjectiveKind::Dpo | ObjectiveKind::Orpo | ObjectiveKind::Simpo => Some(SampleKind::Pairs),
            ObjectiveKind::Kto => Some(SampleKind::Labelled),
            ObjectiveKind::Ppo | ObjectiveKind::Grpo | ObjectiveKind::Rloo => Some(SampleKind::Prompts),
            // Every step is on answers of the student.
            ObjectiveKind::Distill if self.distill.lambda >= 1.0 => Some(SampleKind::Prompts),
            ObjectiveKind::CausalLm | ObjectiveKind::Distill => {
                let is_dialogue = self.data.format.is_some_and(|format| format != Format::Text);
                is_dialogue.then_some(SampleKind::Conversations)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> Config {
        let mut config = Config::default();
        config.apply(&overrides.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()).unwrap();
        config
    }

    #[test]
    fn weights_of_roles_survive_toml() {
        let config = config(&["chat.role_weights={ assistant = 1.0, user = 0.25 }", "data.format=sharegpt"]);
        assert_eq!(config.chat.role_weights["user"], 0.25);
        config.validate().unwrap();
        assert_eq!(Config::from_toml(&config.to_toml().unwrap(), "here").unwrap(), config);
        assert_eq!(Config::from_toml(&config.to_annotated_toml().unwrap(), "here").unwrap(), config);
        assert_eq!(config.data.format, Some(Format::Sharegpt));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refusal = |overrides: &[&str]| config(overrides).validate().unwrap_err().to_string();
        assert!(refusal(&["chat.role_weights={ user = -1.0 }"]).contains("the weight of `user` is -1"));
        assert!(refusal(&["chat.role_weights={ user = 0.0 }"]).contains("nothing would be trained"));
        let both = ["chat.role_weights={ user = 1.0 }", "chat.loss_on=last-answer"];
        assert!(refusal(&both).contains("`chat.loss_on`"));
        assert!(refusal(&["chat.date=yesterday"]).contains("a date like `2026-01-31`"));
    }

    #[test]
    fn objectives_ask_for_their_samples() {
        assert_eq!(config(&[]).sample_kind(), None);
        assert_eq!(config(&["data.format=messages"]).sample_kind(), Some(SampleKind::Conversations));
        assert_eq!(config(&["data.format=text"]).sample_kind(), None);
        assert_eq!(config(&["objective.kind=sft"]).sample_kind(), Some(SampleKind::Conversations));
        let own_answers = config(&["objective.kind=distill", "distill.lambda=1"]);
        assert_eq!(own_answers.sample_kind(), Some(SampleKind::Prompts));
    }
}
