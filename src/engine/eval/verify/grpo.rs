//! GRPO and its relatives on fixed rollouts: advantages, losses with their figures, gradients. The reference is
//! `grpo/NAME` in a folder of fixtures; the policy is `models/NAME`, the reference policy `models/NAME-ref`.

use super::{
    Case,
    files::Files,
    fixture::{FixtureModel, largest_difference, number, relative},
    ppo::answers,
};
use crate::{
    config::{AdvantageScale, Normalization, PolicyLossKind, RatioLevel},
    error::Result,
    model::Model,
    objective::{
        Batch, PolicyUpdate,
        reinforcement::{Averaging, PolicyLoss, ValueLoss, answer_mask, group_advantages, leave_one_out},
        rollout::{Answer, Rollout, Shape, StepBatches, answer_log_probabilities},
    },
};
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use std::path::Path;

/// Case whose gradients the fixture has as a whole.
const WHOLE: &str = "dapo-kl-batch";

/// Compares everything in `grpo` with Kiln.
///
/// # Errors
/// [`Error::Checkpoint`](crate::error::Error::Checkpoint) if a file is missing or broken, and those of loading a
/// model.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for files in Files::of_subject(folder, "grpo", device)? {
        let reference = files.second_model(folder)?;
        let (answers, shape) = answers(&files, "input_ids", "completion_mask")?;
        let policy = Policy { files, reference, answers, shape };
        cases.push(policy.log_probabilities()?);
        for variant in policy.files.fixture.cases() {
            cases.push(policy.case(&variant)?);
        }
    }
    Ok(cases)
}

/// Settings and numbers of a case.
#[derive(Debug, Clone, Deserialize)]
struct Expected {
    norm: String,
    scale: String,
    level: String,
    objective: PolicyLossKind,
    clip_low: f64,
    clip_high: f64,
    beta: f64,
    max_length: usize,
    group: usize,
    #[serde(default)]
    reward_beta: f32,
    #[serde(default)]
    corrected_kl: bool,
    delta: Option<f64>,
    loss: f64,
    kl: f64,
    clipped_low: f64,
    clipped_high: f64,
}

/// A policy with the numbers, its reference and its answers.
struct Policy {
    files: Files,
    reference: FixtureModel,
    answers: Vec<Answer>,
    shape: Shape,
}

impl Policy {
    /// Compares the log-probabilities of the policy and of the reference policy.
    fn log_probabilities(&self) -> Result<Case> {
        let mut case = self.files.case("log-probabilities");
        for (name, model) in [("policy_logps", &self.files.model), ("reference_logps", &self.reference)] {
            let found = answer_log_probabilities(&self.answers, self.shape, &model.model, 1.0, &model.device);
            let found = pollster::block_on(found)?;
            let reference = self.files.fixture.floats(name)?;
            case.add(name, largest_difference(&found, &reference.values), self.files.tolerances.logits);
        }
        Ok(case)
    }

    /// Compares the advantages, the loss, its gradients and the AdamW losses of a case.
    fn case(&self, variant: &str) -> Result<Case> {
        let expected: Expected = self.files.fixture.get(variant)?;
        let mut case = self.files.case(variant);
        let bounds = self.files.tolerances;
        let advantages = self.advantages(&expected)?;
        let reference = self.files.fixture.floats(&format!("advantages.{}", expected.scale))?;
        case.add("advantages", largest_difference(&advantages, &reference.values), bounds.logits);

        let rollout = self.rollout(&advantages)?;
        let normalization = match expected.norm.as_str() {
            "grpo" | "rloo" => Normalization::Grpo,
            "bnpo" => Normalization::Bnpo,
            "dr_grpo" => Normalization::DrGrpo,
            "dapo" => Normalization::Dapo,
            other => return Err(self.files.fixture.error(format!("`{variant}/norm` is `{other}`"))),
        };
        let averaging =
            Averaging { normalization, max_length: expected.max_length, micro_batch: self.answers.len() };
        let hosts = StepBatches { minibatches: 1, averaging, seed: 0 }.of(&rollout, 0);
        let batches: Vec<Batch> =
            hosts.iter().map(|host| Batch::new(host, &self.files.model.device)).collect();
        let [batch] = &batches[..] else { return Err(self.files.fixture.error("there are no answers")) };
        let update = self.update(variant, &expected)?;
        let Some(terms) = update.terms(&self.files.model.model, None, batch) else {
            return Err(self.files.fixture.error("there are no answers"));
        };
        let mut compare =
            |what: &str, own: f64, reference: f64| case.add(what, relative(own, reference), bounds.loss);
        compare("kl", number(terms.policy.reference_kl)?, expected.kl);
        compare("clipped_low", number(terms.policy.clipped_low)?, expected.clipped_low);
        compare("clipped_high", number(terms.policy.clipped_high)?, expected.clipped_high);

        let loss = |model: &Model| {
            let terms = update.terms(model, None, batch);
            terms.map_or_else(|| Tensor::zeros([1], &self.files.model.device), |terms| terms.total)
        };
        self.files.compare_training(&mut case, variant, expected.loss, WHOLE, loss)?;
        Ok(case)
    }

    /// Advantage of each answer.
    fn advantages(&self, expected: &Expected) -> Result<Vec<f32>> {
        let rewards = &self.files.fixture.floats("rewards")?.values;
        let scores: Vec<Option<f32>> = rewards.iter().copied().map(Some).collect();
        if scores.len() != self.answers.len() {
            return Err(self.files.fixture.error("`rewards` is not one number for each answer"));
        }
        let scale = match expected.scale.as_str() {
            "group" => AdvantageScale::Group,
            "batch" => AdvantageScale::Batch,
            "none" => AdvantageScale::Unscaled,
            _ => {
                let (old, reference) = (self.list("old_logps")?, self.list("reference_logps")?);
                let width = self.shape.width;
                let rows = scores.iter().zip(old.chunks(width).zip(reference.chunks(width)));
                let less = rows.map(|(score, (old, reference))| {
                    let divergence: f32 =
                        old.iter().zip(reference).map(|(old, reference)| old - reference).sum();
                    score.map(|score| score - expected.reward_beta * divergence)
                });
                return Ok(leave_one_out(&less.collect::<Vec<_>>(), expected.group));
            }
        };
        Ok(group_advantages(&scores, expected.group, scale))
    }

    fn rollout(&self, advantages: &[f32]) -> Result<Rollout> {
        let lengths: Vec<usize> = self.answers.iter().map(Answer::trained).collect();
        let of_tokens =
            advantages.iter().flat_map(|&advantage| std::iter::repeat_n(advantage, self.shape.width));
        let mask = answer_mask(&lengths, self.shape.width);
        Ok(Rollout {
            answers: self.answers.clone(),
            shape: self.shape,
            old_log_probabilities: self.list("old_logps")?,
            reference_log_probabilities: self.list("reference_logps")?,
            advantages: of_tokens.zip(mask).map(|(advantage, mask)| advantage * mask).collect(),
            ..Rollout::default()
        })
    }

    /// A list with a number for each token of each answer.
    fn list(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.files.fixture.floats(name)?;
        match tensor.values.len() == self.answers.len() * self.shape.width {
            true => Ok(tensor.values.clone()),
            false => Err(self.files.fixture.error(format!("`{name}` is not one number for each token"))),
        }
    }

    fn update(&self, variant: &str, expected: &Expected) -> Result<PolicyUpdate> {
        let ratio = match expected.level.as_str() {
            "token" => RatioLevel::Token,
            "sequence" => RatioLevel::Sequence,
            "sum" => RatioLevel::Product,
            other => return Err(self.files.fixture.error(format!("`{variant}/level` is `{other}`"))),
        };
        let max_ratio = match expected.objective {
            PolicyLossKind::Cispo => expected.clip_high,
            PolicyLossKind::Clip => expected.delta.unwrap_or(f64::INFINITY),
        };
        Ok(PolicyUpdate {
            policy: PolicyLoss {
                kind: expected.objective,
                ratio,
                clip_low: expected.clip_low,
                clip_high: expected.clip_high,
                max_ratio,
                kl_coefficient: expected.beta,
                corrected_kl: expected.corrected_kl,
            },
            value: ValueLoss { clip: 0.2 },
            value_coefficient: 0.0,
            entropy_coefficient: 0.0,
            temperature: 1.0,
        })
    }
}
