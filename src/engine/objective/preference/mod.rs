//! Objectives that learn from preferred and rejected answers to the same prompt: DPO and its variants
//! ([`dpo`]), ORPO ([`orpo`]) and SimPO ([`simpo`]); and from single answers that are desirable or not
//! ([`kto`]).
//!
//! The losses of pairs differ in how they compare scores: the answers' log-probabilities, or their ratios to
//! the reference's, summed or averaged over the answer's tokens.

mod dpo;
mod kto;
mod orpo;
mod pairs;
mod simpo;

pub use kto::Kto;

use super::{
    Average, Batch, Loss, Objective, Preparation, Reference, Start, StepTotals, router::AuxiliaryLosses,
};
use crate::{
    config::{Config, ObjectiveKind, PreferenceConfig, PreferenceLoss},
    model::Model,
};
use burn::tensor::Tensor;
use pairs::Pairs;

/// An objective over pairs of answers, of which the first is preferred.
pub struct Preference {
    loss: PairLoss,
    /// Factor of the scores.
    beta: f64,
    /// Whether scores are divided by the number of the answer's tokens.
    average: bool,
    likelihood: Likelihood,
    router: AuxiliaryLosses,
    /// Reference policy; `None` if the answers' log-probabilities are compared as they are.
    reference: Option<Reference>,
}

/// Loss of a pair, from the scores of both answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum PairLoss {
    Dpo { loss: PreferenceLoss, smoothing: f64 },
    Simpo { gamma: f64 },
    Orpo,
}

/// Cross entropy of the preferred answers that is added to the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Likelihood {
    weight: f64,
    /// Whether it is of the prompt too.
    of_prompt: bool,
}

impl Preference {
    /// Makes the objective of a configuration, with its reference if it needs one.
    pub fn new(config: &Config, reference: Option<Reference>) -> Self {
        let PreferenceConfig { loss, label_smoothing, average, sft_weight, nll_of_prompt, .. } =
            config.preference;
        let beta = config.preference_beta();
        let sft = Likelihood { weight: sft_weight, of_prompt: false };
        let (loss, average, likelihood) = match config.objective_kind() {
            ObjectiveKind::Orpo => {
                (PairLoss::Orpo, true, Likelihood { weight: 1.0, of_prompt: nll_of_prompt })
            }
            ObjectiveKind::Simpo => {
                (PairLoss::Simpo { gamma: config.preference.gamma_beta_ratio * beta }, true, sft)
            }
            _ => (PairLoss::Dpo { loss, smoothing: label_smoothing }, average, sft),
        };
        let router = AuxiliaryLosses::new(&config.model);
        Self { loss, beta, average, likelihood, router, reference }
    }

    /// Losses of the pairs of a batch, `[P, 1]`, without added terms, and the rewards of their answers, `[P, 2]`.
    pub(crate) fn losses_and_rewards(&self, model: &Model, batch: &Batch) -> (Tensor<2>, Tensor<2>) {
        let scores = self.scores(&Pairs::of(model, batch, false), batch);
        (self.losses(&scores), scores.inner().mul_scalar(self.beta))
    }

    /// Scores of both answers, `[P, 2]`.
    fn scores(&self, pairs: &Pairs, batch: &Batch) -> Tensor<2> {
        let sums = pairs.sums.clone();
        let scores = match &self.reference {
            None => sums,
            Some(reference) => {
                let reference = reference.log_probabilities(batch).reshape(sums.dims());
                let is_autodiff = sums.is_autodiff();
                sums - if is_autodiff { Tensor::from_inner(reference) } else { reference }
            }
        };
        if self.average { scores / pairs.counts.clone() } else { scores }
    }

    /// Losses of the pairs, `[P, 1]`.
    fn losses(&self, scores: &Tensor<2>) -> Tensor<2> {
        let chosen = scores.clone().narrow(1, 0, 1);
        let rejected = scores.clone().narrow(1, 1, 1);
        match self.loss {
            PairLoss::Dpo { loss, smoothing } => dpo::losses(chosen - rejected, self.beta, loss, smoothing),
            PairLoss::Simpo { gamma } => simpo::losses(chosen - rejected, self.beta, gamma),
            PairLoss::Orpo => orpo::losses(chosen, rejected, self.beta),
        }
    }
}

impl Objective for Preference {
    fn loss(&self, model: &Model, batch: &Batch, step: StepTotals) -> Loss {
        let pairs = Pairs::of(model, batch, self.likelihood.of_prompt);
        let scores = self.scores(&pairs, batch);
        let mean = |values: Tensor<2>| -> Tensor<1> {
            (values * pairs.weights.clone()).sum().div_scalar(step.examples.max(1) as f64)
        };
        let preference = mean(self.losses(&scores));
        let nll = pairs.negative_log_likelihood(step);
        let total = match self.likelihood.weight {
            0.0 => preference,
            weight => preference + nll.clone().mul_scalar(weight),
        };
        let rewards = scores.inner().mul_scalar(self.beta);
        let sums = pairs.sums.clone().inner();
        let weights = pairs.weights.clone().inner();
        let mean = |values: Tensor<2>| -> Tensor<1> {
            (values * weights.clone()).sum().div_scalar(step.examples.max(1) as f64)
        };
        let column = |values: &Tensor<2>, index| values.clone().narrow(1, index, 1);
        let margins = column(&rewards, 0) - column(&rewards, 1);
        let loss = Loss::new(total)
            .with_metric("rewards/chosen", mean(column(&rewards, 0)), Average::Sum)
            .with_metric("rewards/rejected", mean(column(&rewards, 1)), Average::Sum)
            .with_metric("rewards/margin", mean(margins.clone()), Average::Sum)
            .with_metric("rewards/accuracy", mean(margins.greater_elem(0.0).float()), Average::Sum)
            .with_metric("log_probability/chosen", mean(column(&sums, 0)), Average::Sum)
            .with_metric("log_probability/rejected", mean(column(&sums, 1)), Average::Sum)
            .with_metric("nll", nll, Average::Sum);
        self.router.add(loss, &pairs.routings, batch, step)
    }

    fn prepare<'a>(&'a mut self, start: Start<'a>) -> Preparation<'a> {
        Box::pin(async move {
            match &mut self.reference {
                Some(reference) => reference.prepare(&start, false).await,
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
