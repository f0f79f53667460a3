//! Rewards of sampled answers: a sum of rules, reward models and commands, each with a weight.

mod model;
mod rules;

pub use model::RewardModel;
pub use rules::Rule;

use crate::{
    config::{Config, OnBadAnswer, RewardKind, RewardTerm},
    error::{Error, Result, hint},
    model::Model,
    tokenizer::Tokenizer,
};
use burn::tensor::Device;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// An answer as rewards see it. A command reads it as a JSON object.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct AnswerText<'a> {
    pub prompt: &'a str,
    /// Text of the answer, without what ended it.
    pub answer: &'a str,
    /// The reference answer, if the data has one.
    pub reference: Option<&'a str>,
    /// Whether the model ended the answer itself.
    pub ended: bool,
    /// Number of the answer's tokens.
    pub tokens: usize,
    /// Record that the prompt is from; null for a text.
    pub record: &'a Value,
    /// Tokens of prompt and answer.
    #[serde(skip)]
    pub all_tokens: &'a [u32],
}

/// Runs a command of `rollout.rewards` on answers, and returns a number for each. The engine starts no processes: the
/// program around it supplies this function.
pub type ScoreCommand = Box<dyn Fn(&str, &[AnswerText<'_>]) -> Result<Vec<f32>>>;

/// All rewards of a run.
pub struct Rewards {
    terms: Vec<Term>,
    missing_end_penalty: f32,
    /// Whether answers whose command fails have no reward, so that they are skipped.
    skips_failures: bool,
}

struct Term {
    kind: RewardKind,
    weight: f32,
    scorer: Scorer,
}

enum Scorer {
    Rule(Rule),
    Model(Box<RewardModel>),
    Command(String),
}

/// Rewards of a rollout's answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Sum of the weighted rewards of each answer.
    pub total: Vec<f32>,
    /// Mean reward of each term before its weight, over the finite ones, by the name of its metric.
    pub terms: BTreeMap<&'static str, Vec<f32>>,
    /// Reason why a command has failed, if that is skipped.
    pub failure: Option<String>,
}

impl Rewards {
    /// Makes the rewards of a validated configuration. Reward models are opened, on the device of `policy`.
    ///
    /// # Errors
    /// Those of [`RewardModel::open`].
    pub fn open(config: &Config, policy: &Model, tokenizer: &Tokenizer) -> Result<Self> {
        let rollout = &config.rollout;
        let usual = [RewardTerm::default()];
        let terms = if rollout.rewards.is_empty() { &usual[..] } else { &rollout.rewards };
        let terms = terms.iter().map(|term| {
            let scorer = match (&term.path, &term.command) {
                (Some(path), _) => {
                    Scorer::Model(Box::new(RewardModel::open(path, config, policy, tokenizer)?))
                }
                (_, Some(command)) => Scorer::Command(command.clone()),
                _ => Scorer::Rule(Rule::new(term)?),
            };
            Ok(Term { kind: term.kind, weight: term.weight as f32, scorer })
        });
        Ok(Self {
            terms: terms.collect::<Result<_>>()?,
            missing_end_penalty: rollout.missing_end_penalty as f32,
            skips_failures: rollout.on_bad_answer == OnBadAnswer::Skip,
        })
    }

    /// The first reward model, which a value model begins from.
    pub fn model(&self) -> Option<&RewardModel> {
        self.terms.iter().find_map(|term| match &term.scorer {
            Scorer::Model(model) => Some(&**model),
            _ => None,
        })
    }

    /// Scores answers.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a rule without a reference answer to compare with and for a command that
    /// nobody can run here, errors of the command, and [`Error::DeviceFailed`].
    pub async fn score(
        &self,
        answers: &[AnswerText<'_>],
        at_once: usize,
        device: &Device,
        command: Option<&ScoreCommand>,
    ) -> Result<Scores> {
        let penalty = |answer: &AnswerText<'_>| if answer.ended { 0.0 } else { -self.missing_end_penalty };
        let mut scores = Scores { total: answers.iter().map(penalty).collect(), ..Scores::default() };
        for term in &self.terms {
            let own: Vec<f32> = match &term.scorer {
                Scorer::Rule(rule) => {
                    answers.iter().map(|answer| rule.score(answer)).collect::<Result<_>>()?
                }
                Scorer::Model(model) => model.score(answers, at_once, device).await?,
                Scorer::Command(text) => {
                    match command.ok_or_else(|| no_commands(text))?(text.as_str(), answers) {
                        Err(error) if self.skips_failures => {
                            scores.failure = Some(error.to_string());
                            vec![f32::NAN; answers.len()]
                        }
                        scored => scored?,
                    }
                }
            };
            let finite = || own.iter().filter(|score| score.is_finite());
            let mean = finite().map(|&score| f64::from(score)).sum::<f64>() / finite().count().max(1) as f64;
            scores.terms.entry(term.kind.metric()).or_default().push(mean as f32);
            for (total, score) in scores.total.iter_mut().zip(own) {
                *total += term.weight * score;
            }
        }
        Ok(scores)
    }
}

fn no_commands(command: &str) -> Error {
    Error::InvalidValue {
        key: "rollout.rewards".into(),
        value: command.into(),
        message: "no command can be run here".into(),
        hint: Some(hint!["train with ", hint::command("kiln train"), ", or take another reward"]),
    }
}

#[cfg(test)]
pub(in crate::objective) mod tests {
    use super::*;

    /// An answer to compare with a reference.
    pub fn answer<'a>(answer: &'a str, reference: Option<&'a str>, ended: bool) -> AnswerText<'a> {
        let tokens = answer.chars().count();
        AnswerText { prompt: "p", answer, reference, ended, tokens, record: &Value::Null, all_tokens: &[0] }
    }

    fn rewards(table: &str) -> Rewards {
        let mut config = Config::default();
        config
            .apply(&[format!("rollout.rewards=[{table}]"), "rollout.missing_end_penalty=0.5".into()])
            .unwrap();
        let device = crate::device::Choice::cpu().open().unwrap();
        let tokenizer = Tokenizer::train(&config.tokenizer, &[], ["ab"]).unwrap();
        config.model.vocab_size = 2;
        let model = Model::init(&config.model, crate::kernels::Mode::Fused, 1, &device);
        Rewards::open(&config, &model, &tokenizer).unwrap()
    }

    fn score(
        rewards: &Rewards,
        answers: &[AnswerText<'_>],
        command: Option<&ScoreCommand>,
    ) -> Result<Scores> {
        let device = crate::device::Choice::cpu().open().unwrap();
        pollster::block_on(rewards.score(answers, 4, &device, command))
    }

    #[test]
    fn rewards_are_added_by_their_weights() {
        let rewards =
            rewards("{kind='exact', weight=2.0}, {kind='length', weight=0.5, tokens=4}, {kind='exact'}");
        let answers = [answer("abab", Some("abab"), true), answer("ab", Some("abab"), false)];
        let scores = score(&rewards, &answers, None).unwrap();
        assert_eq!(scores.total, [3.0, -0.75]);
        assert_eq!(scores.terms["reward/exact"], [0.5, 0.5]);
        assert_eq!(scores.terms["reward/length"], [-0.25]);
    }

    #[test]
    fn without_a_reward_answers_are_compared_with_the_reference() {
        let rewards = rewards("");
        let scores =
            score(&rewards, &[answer(" 42\n", Some("42"), true), answer("4", Some("42"), true)], None);
        assert_eq!(scores.unwrap().total, [1.0, 0.0]);
        let error = score(&rewards, &[answer("42", None, true)], None).unwrap_err();
        assert!(error.to_string().contains("no reference answer"), "{error}");
        assert!(error.hint().unwrap().to_string().contains("rollout.answer_field"));
    }

    #[test]
    fn commands_need_somebody_who_runs_them() {
        let rewards = rewards("{kind='command', command='score'}");
        let answers = [answer("ab", None, true), answer("a", None, true)];
        let error = score(&rewards, &answers, None).unwrap_err().to_string();
        assert!(error.contains("`score` for `rollout.rewards`: no command can be run"), "{error}");
        let run: ScoreCommand = Box::new(|command, answers| {
            assert_eq!(command, "score");
            let json = serde_json::to_value(answers[1]).unwrap();
            let expected = serde_json::json!({
                "prompt": "p", "answer": "a", "reference": null, "ended": true, "tokens": 1, "record": null,
            });
            assert_eq!(json, expected);
            Ok(vec![0.25; answers.len()])
        });
        assert_eq!(score(&rewards, &answers, Some(&run)).unwrap().total, [0.25, 0.25]);
    }
}
