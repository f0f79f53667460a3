//! A reward of an answer, one table in `rollout.rewards`.

use crate::error::{Error, Hint, Result, hint};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A reward and its weight in the sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardTerm {
    pub kind: RewardKind,
    /// Factor that the reward is multiplied by.
    pub weight: f64,
    /// Run or checkpoint of a reward model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Regular expression. If it has a group, the text of the group must be the reference answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Wanted number of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// Shell command that reads a JSON object a line and writes a number a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// Kinds of rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardKind {
    /// Score of a reward model, at `path`.
    Model,
    /// 1 if the answer is the reference answer, otherwise 0.
    Exact,
    /// 1 if the answer matches `pattern`, otherwise 0.
    Regex,
    /// 1 if the last number of the answer is that of the reference answer, otherwise 0.
    Number,
    /// 0 for an answer of `tokens` tokens, and -1 for none or twice as many.
    Length,
    /// Number that `command` writes.
    Command,
}

impl RewardKind {
    /// Name of the kind in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Exact => "exact",
            Self::Regex => "regex",
            Self::Number => "number",
            Self::Length => "length",
            Self::Command => "command",
        }
    }

    /// Name of the metric with the mean reward of this kind.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Model => "reward/model",
            Self::Exact => "reward/exact",
            Self::Regex => "reward/regex",
            Self::Number => "reward/number",
            Self::Length => "reward/length",
            Self::Command => "reward/command",
        }
    }
}

impl Default for RewardTerm {
    fn default() -> Self {
        Self { kind: RewardKind::Exact, weight: 1.0, path: None, pattern: None, tokens: None, command: None }
    }
}

impl RewardTerm {
    /// Checks that the fields are those of the kind.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a field that is missing or of another kind, and for a weight that is 0 or
    /// not finite.
    pub(in crate::config) fn check(&self) -> Result<()> {
        let refused = |value: String, message: String, hint: Option<Hint>| {
            Err(Error::InvalidValue { key: "rollout.rewards".into(), value, message, hint })
        };
        let kind = self.kind.name();
        if !self.weight.is_finite() || self.weight == 0.0 {
            let message = "a weight is a finite number other than 0".into();
            let hint = hint!["leave the reward out of ", hint::key("rollout.rewards")];
            return refused(format!("weight = {}", self.weight), message, Some(hint));
        }
        let fields = [
            (RewardKind::Model, "path", self.path.is_some(), "\"runs/reward\""),
            (RewardKind::Regex, "pattern", self.pattern.is_some(), "'^[0-9]+$'"),
            (RewardKind::Length, "tokens", self.tokens.is_some_and(|tokens| tokens > 0), "32"),
            (RewardKind::Command, "command", self.command.is_some(), "\"python3 score.py\""),
        ];
        for (owner, field, is_given, example) in fields {
            if owner == self.kind && !is_given {
                let example = format!("for example `{{ kind = \"{kind}\", {field} = {example} }}`");
                return refused(kind.into(), format!("it needs `{field}`"), Some(example.into()));
            }
            if owner != self.kind && is_given {
                let message = format!("`{field}` belongs to rewards of the kind `{}`", owner.name());
                return refused(kind.into(), message, None);
            }
        }
        if let Some(pattern) = &self.pattern
            && let Err(error) = regex::Regex::new(pattern)
        {
            // The last line says what is wrong; those before it show the place.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            return refused(pattern.clone(), format!("no regular expression: {reason}"), None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn refusal(reward: &str) -> String {
        let mut config = Config::default();
        config.apply(&[format!("rollout.rewards=[{{{reward}}}]")]).unwrap();
        config.rollout.rewards[0].check().unwrap_err().to_string()
    }

    #[test]
    fn rewards_are_tables_with_defaults() {
        let text = "[[rollout.rewards]]\nkind = \"model\"\npath = \"runs/reward\"\n\n[[rollout.rewards]]\n\
                    kind = \"length\"\nweight = 0.1\ntokens = 20\n";
        let config = Config::from_toml(text, "here").unwrap();
        let [model, length] = &config.rollout.rewards[..] else { panic!("{config:?}") };
        assert_eq!((model.kind, model.weight, length.tokens), (RewardKind::Model, 1.0, Some(20)));
        config.rollout.rewards.iter().for_each(|reward| reward.check().unwrap());
        assert_eq!(Config::from_toml(&config.to_toml().unwrap(), "here").unwrap(), config);
        assert_eq!(Config::from_toml(&config.to_annotated_toml().unwrap(), "here").unwrap(), config);
    }

    #[test]
    fn bad_rewards_are_refused() {
        assert!(refusal("kind='model'").contains("`model` for `rollout.rewards`: it needs `path`"));
        assert!(refusal("kind='length', tokens=0").contains("it needs `tokens`"));
        assert!(refusal("kind='exact', pattern='a'").contains("belongs to rewards of the kind `regex`"));
        assert!(refusal("kind='exact', weight=0.0").contains("other than 0"));
        assert!(refusal("kind='regex', pattern='(a'").contains("no regular expression: unclosed group"));
    }
}
