//! PPO on fixed rollouts: rewards, advantages and returns of every token, the losses of policy and value, their
//! figures and gradients. The reference is `ppo/NAME` in a folder of fixtures; the policy is `models/NAME`, the
//! body of the value model and the reference policy are `models/NAME-ref`.

use super::{
    Case,
    files::{Files, LEARNING_RATE},
    fixture::{
        FixtureModel, adamw_losses, largest_difference, loss_and_gradients, number, relative, to_host,
    },
};
use crate::{
    config::{KlEstimator, Normalization, PolicyLossKind, RatioLevel, ScorePosition},
    error::Result,
    model::{
        Model,
        parameters::{HostTensor, NamedData},
    },
    objective::{
        Batch, PolicyUpdate,
        reinforcement::{
            AnswerTensors, Averaging, Companion, PolicyLoss, Sampled, Targets, TargetsConfig, ValueLoss,
            ValueModel, entropy,
        },
        rollout::{Answer, Rollout, Shape, StepBatches, answer_log_probabilities},
    },
};
use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use serde::Deserialize;
use std::path::Path;

/// Case whose gradients the fixture has as a whole.
const WHOLE: &str = "plain";

/// Compares everything in `ppo` with Kiln.
///
/// # Errors
/// [`Error::Checkpoint`](crate::error::Error::Checkpoint) if a file is missing or broken, and those of loading a
/// model.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for files in Files::of_subject(folder, "ppo", device)? {
        let other = files.second_model(folder)?;
        let (answers, shape) = answers(&files, "query_responses", "response_mask")?;
        let policy = Policy { files, other, answers, shape };
        cases.push(policy.log_probabilities()?);
        for variant in policy.files.fixture.cases() {
            cases.extend(policy.case(&variant)?);
        }
    }
    Ok(cases)
}

/// Reads prompts and answers of tokens `[rows, context + width]`, where 0 is padding, and of the answers' mask,
/// `[rows, width]`. Prompts are padded on the left, answers on the right.
pub(super) fn answers(files: &Files, tokens: &str, mask: &str) -> Result<(Vec<Answer>, Shape)> {
    let Files { fixture, model, .. } = files;
    let ids = fixture.tokens(tokens, model.checkpoint.model.vocab_size)?;
    let real = fixture.integers(mask)?;
    let (&[rows, whole], &[of_mask, width]) = (&ids.shape[..], &real.shape[..]) else {
        return Err(fixture.error(format!("`{tokens}` or `{mask}` is no matrix")));
    };
    if rows != of_mask || width == 0 || width >= whole {
        return Err(fixture.error(format!("`{tokens}` and `{mask}` do not go together")));
    }
    let to_tokens = |ids: &[i64]| ids.iter().map(|&id| id as u32).collect::<Vec<_>>();
    let row = |(ids, real): (&[i64], &[i64])| {
        let (prompt, answer) = ids.split_at(whole - width);
        let first = prompt.iter().position(|&id| id != 0).unwrap_or(prompt.len().saturating_sub(1));
        let length = real.iter().take_while(|&&real| real != 0).count();
        Answer {
            prompt: to_tokens(&prompt[first..]),
            tokens: to_tokens(&answer[..length]),
            is_left_out: false,
        }
    };
    let answers: Vec<Answer> = ids.values.chunks(whole).zip(real.values.chunks(width)).map(row).collect();
    let block_size = model.checkpoint.model.block_size;
    let shape = Shape { width, ..Shape::of(&answers, block_size, false) };
    match shape.time <= block_size {
        true => Ok((answers, shape)),
        false => Err(fixture.error(format!("`{tokens}` has rows that are longer than the model's context"))),
    }
}

/// Settings and numbers of a case.
#[derive(Debug, Clone, Deserialize)]
struct Expected {
    end: ScorePosition,
    kl: KlEstimator,
    whiten_rewards: bool,
    kl_coef: f64,
    gamma: f64,
    lam: f64,
    clip: f64,
    value_clip: f64,
    value_coef: f64,
    entropy_coef: f64,
    temperature: f64,
    shared: bool,
    loss: f64,
    policy_loss: f64,
    value_loss: f64,
    entropy: f64,
    approx_kl: f64,
    approx_kl_k3: f64,
    clip_fraction: f64,
    value_clip_fraction: f64,
    ratio: f64,
}

/// Policy and value model, which are differentiated and updated together.
#[derive(Module, Debug)]
struct PolicyAndValue {
    policy: Model,
    companion: Companion,
}

/// A policy with the numbers, its reference and its answers.
struct Policy {
    files: Files,
    /// The reference policy, which is also the body of the value model.
    other: FixtureModel,
    answers: Vec<Answer>,
    shape: Shape,
}

impl Policy {
    /// Compares the log-probabilities of the reference policy.
    fn log_probabilities(&self) -> Result<Case> {
        let mut case = self.files.case("log-probabilities");
        let model = &self.other;
        let found = answer_log_probabilities(&self.answers, self.shape, &model.model, 1.0, &model.device);
        let found = pollster::block_on(found)?;
        let reference = self.files.fixture.floats("reference_logprobs")?;
        case.add("reference", largest_difference(&found, &reference.values), self.files.tolerances.logits);
        Ok(case)
    }

    /// Compares the targets, the losses, the gradients and the AdamW losses of a case, each a case of its own.
    fn case(&self, variant: &str) -> Result<[Case; 2]> {
        let expected: Expected = self.files.fixture.get(variant)?;
        let (targets, of_targets) = self.targets(variant, &expected)?;
        let mut case = self.files.case(variant);
        let bounds = self.files.tolerances;

        let rollout = self.rollout(targets)?;
        let averaging = Averaging {
            normalization: Normalization::Dapo,
            max_length: self.shape.width,
            micro_batch: self.answers.len(),
        };
        let hosts = StepBatches { minibatches: 1, averaging, seed: 0 }.of(&rollout, 0);
        let batches: Vec<Batch> =
            hosts.iter().map(|host| Batch::new(host, &self.files.model.device)).collect();
        let [batch] = &batches[..] else { return Err(self.files.fixture.error("there are no answers")) };
        let update = update(&expected);
        let module = self.module(expected.shared)?;

        let Some(terms) = update.terms(&module.policy, Some(&module.companion), batch) else {
            return Err(self.files.fixture.error("there are no answers"));
        };
        let mut compare =
            |what: &str, own: f64, reference: f64| case.add(what, relative(own, reference), bounds.loss);
        compare("loss", number(terms.total)?, expected.loss);
        compare("policy loss", number(terms.policy.loss)?, expected.policy_loss);
        compare("approx_kl", number(terms.policy.approx_kl)?, expected.approx_kl);
        compare("approx_kl_k3", number(terms.policy.approx_kl_k3)?, expected.approx_kl_k3);
        compare("ratio", number(terms.policy.ratio)?, expected.ratio);
        let clipped = number(terms.policy.clipped_low)? + number(terms.policy.clipped_high)?;
        compare("clip fraction", clipped, expected.clip_fraction);
        if let Some(value) = terms.value {
            compare("value loss", number(value.loss)?, expected.value_loss);
            compare("value clip fraction", number(value.clipped)?, expected.value_clip_fraction);
        }
        compare("entropy", self.entropy(&module.policy, batch, expected.temperature)?, expected.entropy);

        let loss = |module: &PolicyAndValue| {
            let terms = update.terms(&module.policy, Some(&module.companion), batch);
            terms.map_or_else(|| Tensor::zeros([1], &self.files.model.device), |terms| terms.total)
        };
        let (_, gradients) = loss_and_gradients(&module, loss(&module))?;
        let whole = (variant == WHOLE).then_some("grad.");
        let gradients = self.stored(gradients)?;
        self.files.fixture.compare_gradients(&mut case, &gradients, variant, whole, bounds.gradient)?;
        let found = adamw_losses(&module, LEARNING_RATE, self.files.fixture.adamw_steps(variant)?, loss)?;
        self.files.fixture.compare_adamw(&mut case, &found, variant, bounds.adamw)?;
        Ok([of_targets, case])
    }

    /// Computes the targets of a case, and compares them.
    fn targets(&self, variant: &str, expected: &Expected) -> Result<(Targets, Case)> {
        let lengths: Vec<usize> = self.answers.iter().map(Answer::trained).collect();
        let floats = |name: &str| self.files.fixture.floats(name).map(|tensor| tensor.values.as_slice());
        let config = TargetsConfig {
            score_position: expected.end,
            kl: expected.kl,
            kl_coefficient: expected.kl_coef as f32,
            whiten_rewards: expected.whiten_rewards,
            gamma: expected.gamma,
            lambda: expected.lam,
        };
        let count = lengths.len() * self.shape.width;
        let sampled = Sampled {
            width: self.shape.width,
            lengths: &lengths,
            scores: floats("scores")?,
            old_log_probabilities: floats("old_logprobs")?,
            reference_log_probabilities: floats("reference_logprobs")?,
            values: floats("values")?,
        };
        let lists = [sampled.old_log_probabilities, sampled.reference_log_probabilities, sampled.values];
        if sampled.scores.len() != lengths.len() || lists.iter().any(|list| list.len() != count) {
            return Err(self
                .files
                .fixture
                .error("scores, log-probabilities and values are not one for each answer or token"));
        }
        let targets = config.targets(sampled);
        let mut case = self.files.case(&format!("{variant} targets"));
        let lists = [
            ("kl", &targets.kl),
            ("rewards", &targets.rewards),
            ("raw_advantages", &targets.raw_advantages),
            ("advantages", &targets.advantages),
            ("returns", &targets.returns),
        ];
        for (name, own) in lists {
            let reference = floats(&format!("{variant}.{name}"))?;
            case.add(name, largest_difference(own, reference), self.files.tolerances.logits);
        }
        let name = format!("{variant}.value_mask");
        let mask = match self.files.fixture.find_floats(&name) {
            Some(mask) => mask.values.clone(),
            None => self.files.fixture.integers(&name)?.values.iter().map(|&value| value as f32).collect(),
        };
        case.check("value_mask", targets.value_mask == mask);
        Ok((targets, case))
    }

    fn rollout(&self, targets: Targets) -> Result<Rollout> {
        let floats = |name: &str| self.files.fixture.floats(name).map(|tensor| tensor.values.clone());
        Ok(Rollout {
            answers: self.answers.clone(),
            shape: self.shape,
            old_log_probabilities: floats("old_logprobs")?,
            reference_log_probabilities: floats("reference_logprobs")?,
            values: floats("values")?,
            advantages: targets.advantages,
            returns: targets.returns,
            value_mask: targets.value_mask,
            ..Rollout::default()
        })
    }

    /// Policy and value model: a head on the policy's states, or a model of its own.
    fn module(&self, shared: bool) -> Result<PolicyAndValue> {
        let head = self.files.fixture.floats("value_head.weight")?;
        let device = self.files.model.device.clone().inner();
        let width = head.values.len();
        let head = Tensor::<2>::from_data(TensorData::new(head.values.clone(), [1, width]), &device);
        let body = match &self.other.model {
            Model::Decoder(decoder) if !shared => Some(decoder.clone()),
            _ => None,
        };
        let value = ValueModel::new(body, head);
        Ok(PolicyAndValue { policy: self.files.model.model.clone(), companion: Companion { value } })
    }

    /// Mean entropy over the tokens of answers.
    fn entropy(&self, policy: &Model, batch: &Batch, temperature: f64) -> Result<f64> {
        let Some(answers) = &batch.host.answers else { return Ok(f64::NAN) };
        let answers = AnswerTensors::new(answers, &batch.host.weights, &self.files.model.device);
        let output = policy.forward_unprojected(batch.input.clone()).0;
        let entropies = entropy(&output, &answers.positions, None, temperature).reshape(answers.dims());
        let mean = to_host(answers.mean(entropies))?;
        Ok(mean.values.first().map_or(f64::NAN, |&mean| f64::from(mean)))
    }

    /// Gradients by the names of the fixture: `policy.` and `value.` before those of Hugging Face, and
    /// `head.weight`.
    fn stored(&self, gradients: NamedData) -> Result<NamedData> {
        const BODY: &str = "companion.value.body.";
        let part = |prefix: &str| -> NamedData {
            let named = gradients.iter();
            named
                .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone())))
                .collect()
        };
        let prefixed = |prefix: &str, data: NamedData| -> NamedData {
            data.into_iter().map(|(name, gradient)| (format!("{prefix}{name}"), gradient)).collect()
        };
        let mut all = prefixed("policy.", self.files.model.stored(part("policy."))?);
        let body = part(BODY);
        if !body.is_empty() {
            all.extend(prefixed("value.", self.other.stored(body)?));
        }
        if let Some(head) = gradients.get("companion.value.head") {
            all.insert("head.weight".into(), HostTensor::new(head.shape.clone(), head.values.clone()));
        }
        Ok(all)
    }
}

fn update(expected: &Expected) -> PolicyUpdate {
    PolicyUpdate {
        policy: PolicyLoss {
            kind: PolicyLossKind::Clip,
            ratio: RatioLevel::Token,
            clip_low: expected.clip,
            clip_high: expected.clip,
            max_ratio: f64::INFINITY,
            kl_coefficient: 0.0,
            corrected_kl: false,
        },
        value: ValueLoss { clip: expected.value_clip },
        value_coefficient: expected.value_coef,
        entropy_coefficient: expected.entropy_coef,
        temperature: expected.temperature,
    }
}
