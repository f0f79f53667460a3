//! Optimization of a policy by rewards of its own answers: PPO (arXiv:1707.06347), GRPO (arXiv:2402.03300) and
//! RLOO (arXiv:2402.14740). The objective draws a rollout, takes several steps on it, and draws the next one.

mod draw;
mod evaluate;
mod figures;
mod identity;
mod refusal;
mod state;
#[cfg(test)]
mod tests;
mod update;

pub use update::{PolicyUpdate, UpdateTerms};

use super::{
    Average, Batch, Frozen, Loss, Objective, OwnBatches, Pending, Reference, Start, StepTotals,
    reinforcement::{Averaging, Companion, KlController, PolicyLoss, PolicyTerms, ValueLoss, ValueModel},
    rollout::{Rollout, StepBatches, rewards::Rewards},
    router::AuxiliaryLosses,
};
use crate::{
    config::{
        Config, GrpoConfig, Normalization, ObjectiveKind, PolicyLossKind, PpoConfig, RatioLevel, ValueKind,
    },
    error::{Error, Result, hint},
    model::{Model, parameters::NamedData},
    objective::Metrics,
    tokenizer::Tokenizer,
};
use burn::tensor::{Tensor, TensorData};

/// The objective of PPO, GRPO and RLOO.
pub struct PolicyOptimization {
    kind: ObjectiveKind,
    rewards: Rewards,
    /// The reference; `None` if the divergence from it has no weight.
    reference: Option<Frozen>,
    /// The value model; `None` without one, and while it is updated.
    companion: Option<Companion>,
    controller: KlController,
    update: PolicyUpdate,
    router: AuxiliaryLosses,
    steps: StepBatches,
    /// The rollout that is trained on.
    rollout: Option<Rollout>,
    /// Number of rollouts drawn so far, skipped ones included.
    drawn: u64,
    /// Number of answers left out so far.
    left_out: u64,
}

/// Largest weight of a log-probability in CISPO, unless the configuration says otherwise.
const CISPO_MAX_RATIO: f64 = 5.0;

/// Largest increase of a ratio that DAPO rewards, unless the configuration says otherwise.
const DAPO_EPSILON_HIGH: f64 = 0.28;

impl PolicyOptimization {
    /// Makes the objective of a validated configuration for `model`, the policy. Opens reward models, the
    /// reference and the value model.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if one of them does not suit the policy, or a reference is needed and none is
    /// named, and errors of opening them.
    pub fn open(config: &Config, model: &Model, tokenizer: &Tokenizer) -> Result<Self> {
        let kind = config.objective_kind();
        let rewards = Rewards::open(config, model, tokenizer)?;
        let companion = match kind {
            ObjectiveKind::Ppo => Some(Companion { value: value_model(config, model, &rewards)? }),
            _ => None,
        };
        let averaging = Averaging {
            normalization: match kind {
                ObjectiveKind::Ppo => Normalization::Dapo,
                ObjectiveKind::Rloo => Normalization::Grpo,
                _ => config.grpo.normalization,
            },
            max_length: config.rollout.max_new_tokens,
            micro_batch: config.train.batch_size,
        };
        let PpoConfig { value_clip, value_coefficient, entropy_coefficient, kl_target, kl_horizon, .. } =
            config.ppo;
        Ok(Self {
            kind,
            rewards,
            reference: Reference::open(config, model, tokenizer)?.and_then(Reference::into_model),
            companion,
            controller: KlController {
                coefficient: config.kl_coefficient() as f32,
                target: kl_target.filter(|_| kind == ObjectiveKind::Ppo),
                horizon: kl_horizon,
            },
            update: PolicyUpdate {
                policy: policy_loss(config),
                value: ValueLoss { clip: value_clip },
                value_coefficient,
                entropy_coefficient: if kind == ObjectiveKind::Ppo { entropy_coefficient } else { 0.0 },
                temperature: config.rollout.temperature,
            },
            router: AuxiliaryLosses::new(&config.model),
            steps: StepBatches {
                minibatches: config.rollout.minibatches,
                averaging,
                seed: config.train.seed,
            },
            rollout: None,
            drawn: 0,
            left_out: 0,
        })
    }

    /// Loss of a batch that is no part of a rollout, which is 0. It serves to compile the kernels of a step.
    fn without_answers(&self, model: &Model, batch: &Batch) -> Loss {
        Loss::new(batch.log_probabilities(model).sum().mul_scalar(0.0))
    }
}

impl Objective for PolicyOptimization {
    fn loss(&self, model: &Model, batch: &Batch, step: StepTotals) -> Loss {
        let Some(terms) = self.update.terms(model, self.companion.as_ref(), batch) else {
            return self.without_answers(model, batch);
        };
        let UpdateTerms { total, policy, value, routings } = terms;
        let PolicyTerms { loss, clipped_low, clipped_high, approx_kl, ratio, .. } = policy;
        let mut loss = Loss::new(total)
            .with_metric("policy_loss", loss, Average::Sum)
            .with_metric("clip_fraction", clipped_low + clipped_high, Average::OverTargets)
            .with_metric("approx_kl", approx_kl, Average::OverTargets)
            .with_metric("ratio", ratio, Average::OverTargets);
        loss = self.router.add(loss, &routings, batch, step);
        if let Some(value) = value {
            loss = loss.with_metric("value_loss", value.loss, Average::Sum).with_metric(
                "value_clip_fraction",
                value.clipped,
                Average::Sum,
            );
        }
        let device = batch.targets.weights.device().inner();
        for (name, values) in self.rollout.iter().flat_map(|rollout| &rollout.figures) {
            let values = TensorData::new(values.clone(), [values.len()]);
            loss = loss.with_metric(name, Tensor::<1>::from_data(values, &device), Average::OverRows);
        }
        loss
    }

    fn batches<'a>(&'a mut self, run: Start<'a>) -> Pending<'a, Option<OwnBatches>> {
        Box::pin(async move {
            let (step, steps) = (run.steps_done, run.config.steps_per_rollout());
            let is_due =
                |rollout: &Rollout| !(rollout.first_step..rollout.first_step + steps).contains(&step);
            let mut samples = Vec::new();
            if self.rollout.as_ref().is_none_or(is_due) {
                samples = self.next_rollout(&run).await?;
            }
            let rollout = self.rollout.as_ref();
            let of_step = |rollout: &Rollout| self.steps.of(rollout, step - rollout.first_step);
            Ok(Some(OwnBatches { batches: rollout.map(of_step).unwrap_or_default(), samples }))
        })
    }

    fn evaluate<'a>(&'a self, run: Start<'a>, model: &'a Model) -> Pending<'a, Option<(f64, Metrics)>> {
        Box::pin(async move { self.evaluate_answers(&run, model).await.map(Some) })
    }

    fn companion(&self) -> Option<&Companion> {
        self.companion.as_ref()
    }

    fn companion_slot(&mut self) -> Option<&mut Option<Companion>> {
        self.companion.is_some().then_some(&mut self.companion)
    }

    fn state(&self) -> NamedData {
        self.to_tensors()
    }

    fn restore(&mut self, state: NamedData) -> Result<(), String> {
        self.read_tensors(state)
    }
}

/// Settings of the policy's loss.
fn policy_loss(config: &Config) -> PolicyLoss {
    if config.objective_kind() == ObjectiveKind::Ppo {
        return PolicyLoss {
            kind: PolicyLossKind::Clip,
            ratio: RatioLevel::Token,
            clip_low: config.ppo.clip,
            clip_high: config.ppo.clip,
            max_ratio: f64::INFINITY,
            // It is in the rewards.
            kl_coefficient: 0.0,
            corrected_kl: false,
        };
    }
    let GrpoConfig { normalization, loss, epsilon, epsilon_high, max_ratio, .. } = config.grpo;
    if config.objective_kind() == ObjectiveKind::Rloo {
        return PolicyLoss {
            kind: PolicyLossKind::Clip,
            ratio: config.grpo.ratio.unwrap_or(RatioLevel::Product),
            clip_low: 1.0,
            clip_high: f64::from(f32::MAX),
            max_ratio: f64::INFINITY,
            kl_coefficient: 0.0,
            corrected_kl: false,
        };
    }
    let usual_high = if normalization == Normalization::Dapo { DAPO_EPSILON_HIGH } else { epsilon };
    let max_ratio = match loss {
        PolicyLossKind::Cispo => max_ratio.unwrap_or(CISPO_MAX_RATIO),
        PolicyLossKind::Clip => max_ratio.unwrap_or(f64::INFINITY),
    };
    let clip_high = match loss {
        PolicyLossKind::Cispo => (max_ratio - 1.0).max(0.0),
        PolicyLossKind::Clip => epsilon_high.unwrap_or(usual_high),
    };
    PolicyLoss {
        kind: loss,
        ratio: config.grpo.ratio.unwrap_or(RatioLevel::Token),
        clip_low: epsilon,
        clip_high,
        max_ratio,
        kl_coefficient: config.grpo.kl_coefficient,
        corrected_kl: config.grpo.corrected_kl,
    }
}

/// Makes the value model: from the first reward model, or from the policy with a head of zeros, or only a head.
fn value_model(config: &Config, model: &Model, rewards: &Rewards) -> Result<ValueModel> {
    let Model::Decoder(policy) = model else {
        return Err(Error::InvalidValue {
            key: "objective.kind".into(),
            value: config.objective_kind().name().into(),
            message: "only a decoder without an encoder answers a prompt".into(),
            hint: Some(hint!["add ", hint::set("model.architecture", "decoder")]),
        });
    };
    let zeros = || {
        let embedding = policy.embeddings.embedding.val();
        let embedding = if embedding.is_autodiff() { embedding.inner() } else { embedding };
        Tensor::<2>::zeros([1, config.model.n_embd], &embedding.device())
    };
    Ok(match (config.ppo.value, rewards.model()) {
        (ValueKind::Shared, _) => ValueModel::new(None, zeros()),
        (ValueKind::Own, None) => ValueModel::new(Some(policy.clone()), zeros()),
        (ValueKind::Own, Some(reward)) => {
            let (decoder, head) = reward.value_parts()?;
            let mut body = decoder.clone();
            body.stack.recompute = config.train.recompute;
            ValueModel::new(Some(body), head)
        }
    })
}
