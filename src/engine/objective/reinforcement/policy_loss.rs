//! The loss of a policy on sampled answers: the clipped ratio of PPO and GRPO, per token or per answer (GSPO),
//! and CISPO, with the divergence from a reference added.

use super::AnswerTensors;
use crate::config::{PolicyLossKind, RatioLevel};
use burn::tensor::Tensor;

/// Settings of the loss of a policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyLoss {
    pub kind: PolicyLossKind,
    pub ratio: RatioLevel,
    /// Largest decrease of a ratio that is rewarded.
    pub clip_low: f64,
    /// Largest increase of a ratio that is rewarded.
    pub clip_high: f64,
    /// Largest ratio of an answer with a negative advantage; with [`PolicyLossKind::Cispo`] the largest weight.
    /// Infinite for none.
    pub max_ratio: f64,
    /// Share of the divergence from the reference in the loss.
    pub kl_coefficient: f64,
    /// Whether the divergence of a token is multiplied by its ratio.
    pub corrected_kl: bool,
}

/// Loss of a policy on one micro-batch, and figures about it, each `[1]`. Figures are means over tokens.
#[derive(Debug)]
pub struct PolicyTerms {
    /// Share of the step's loss.
    pub loss: Tensor<1>,
    /// Share of tokens whose ratio is below its bound, at a negative advantage.
    pub clipped_low: Tensor<1>,
    /// Share of tokens whose ratio is above its bound, at a positive advantage.
    pub clipped_high: Tensor<1>,
    /// Half the squared change of log-probabilities since the answers were sampled.
    pub approx_kl: Tensor<1>,
    /// The change of log-probabilities by the estimator k3.
    pub approx_kl_k3: Tensor<1>,
    /// Mean ratio of new and old probabilities.
    pub ratio: Tensor<1>,
    /// Divergence from the reference by the estimator k3.
    pub reference_kl: Tensor<1>,
}

impl PolicyLoss {
    /// Computes the loss of the answers' log-probabilities, `[R, A]`, under the present policy.
    pub fn of(&self, log_probabilities: Tensor<2>, answers: &AnswerTensors) -> PolicyTerms {
        let (mask, advantages) = (answers.mask.clone(), answers.advantages.clone());
        let shape = answers.dims();
        let old = answers.old_log_probabilities.clone();
        let old = old.unwrap_or_else(|| log_probabilities.clone().detach());
        let change = (log_probabilities.clone() - old) * mask.clone(); // [R, A]
        let log_ratio = match self.ratio {
            RatioLevel::Token => change.clone(),
            RatioLevel::Sequence => {
                let tokens = mask.clone().sum_dim(1).clamp_min(1.0); // [R, 1]
                (change.clone().sum_dim(1) / tokens).expand(shape)
            }
            RatioLevel::Product => change.clone().sum_dim(1).expand(shape),
        };
        let ratio = log_ratio.exp(); // [R, A]
        let mut losses = match self.kind {
            PolicyLossKind::Cispo => {
                let weight = self.at_most(ratio.clone()).detach();
                (weight * advantages.clone() * log_probabilities.clone()).neg()
            }
            PolicyLossKind::Clip => {
                let bounded = ratio.clone().clamp(1.0 - self.clip_low, 1.0 + self.clip_high);
                let free = self.at_most(ratio.clone());
                (free * advantages.clone()).min_pair(bounded * advantages.clone()).neg()
            }
        };
        let below = (answers.reference_log_probabilities.clone() - log_probabilities) * mask; // [R, A]
        let kl = (below.clone().exp() - below).sub_scalar(1.0);
        if self.kl_coefficient != 0.0 {
            let kl = kl.clone().mul_scalar(self.kl_coefficient);
            losses = losses + if self.corrected_kl { kl * ratio.clone() } else { kl };
        }
        let is_low =
            ratio.clone().lower_elem(1.0 - self.clip_low).bool_and(advantages.clone().lower_elem(0.0));
        let is_high = ratio.clone().greater_elem(1.0 + self.clip_high).bool_and(advantages.greater_elem(0.0));
        let token_ratio = change.clone().exp();
        PolicyTerms {
            loss: (losses * answers.weights.clone()).sum(),
            clipped_low: answers.mean(is_low.float()),
            clipped_high: answers.mean(is_high.float()),
            approx_kl: answers.mean(change.clone().square()).mul_scalar(0.5),
            approx_kl_k3: answers.mean((token_ratio - change).sub_scalar(1.0)),
            ratio: answers.mean(ratio),
            reference_kl: answers.mean(kl),
        }
    }

    /// Bounds ratios by the largest one, beyond which no gradient flows.
    fn at_most(&self, ratio: Tensor<2>) -> Tensor<2> {
        if self.max_ratio.is_finite() { ratio.clamp_max(self.max_ratio) } else { ratio }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Answers;

    const CLIP: PolicyLoss = PolicyLoss {
        kind: PolicyLossKind::Clip,
        ratio: RatioLevel::Token,
        clip_low: 0.2,
        clip_high: 0.2,
        max_ratio: f64::INFINITY,
        kl_coefficient: 0.0,
        corrected_kl: false,
    };

    /// Loss, clip fractions and gradients of two answers of two tokens and one, whose ratios are given.
    fn loss(spec: PolicyLoss, ratios: [f32; 3], advantages: [f32; 3]) -> (f32, [f32; 2], Vec<f32>) {
        let device = crate::device::Choice::cpu().open().unwrap().autodiff();
        let padded = |[a, b, c]: [f32; 3]| vec![a, b, c, 0.0];
        let answers = Answers {
            width: 2,
            positions: vec![0, 1, 2, 2],
            old_log_probabilities: vec![-1.0, -1.0, -1.0, 0.0],
            reference_log_probabilities: vec![-1.0, -1.0, -1.0, 0.0],
            advantages: padded(advantages),
            weights: padded([1.0; 3]),
            ..Answers::default()
        };
        let answers = AnswerTensors::new(&answers, &padded([1.0; 3]), &device);
        let now = ratios.map(|ratio| ratio.ln() - 1.0);
        // Whatever is computed beyond the end of an answer must not matter.
        let log_p = Tensor::<2>::from_data([[now[0], now[1]], [now[2], 55.0]], &device).require_grad();
        let terms = spec.of(log_p.clone(), &answers);
        let gradients = log_p.grad(&terms.loss.backward()).unwrap();
        let number = |tensor: Tensor<1>| tensor.into_scalar::<f32>();
        (
            number(terms.loss),
            [number(terms.clipped_low), number(terms.clipped_high)],
            gradients.into_data().try_into_vec_as::<f32>().unwrap(),
        )
    }

    fn close(found: &[f32], expected: &[f32]) {
        let same =
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(same, "{found:?} {expected:?}");
    }

    #[test]
    fn a_ratio_beyond_its_bound_is_followed_back_only() {
        let (value, clipped, gradients) = loss(CLIP, [1.5, 0.5, 1.5], [1.0, 1.0, -1.0]);
        close(&[value], &[-1.2 - 0.5 + 1.5]);
        close(&clipped, &[0.0, 1.0 / 3.0]);
        close(&gradients, &[0.0, -0.5, 1.5, 0.0]);
        let (value, clipped, gradients) = loss(CLIP, [0.5, 1.0, 1.0], [-1.0, 1.0, 1.0]);
        close(&[value], &[0.8 - 1.0 - 1.0]);
        close(&clipped, &[1.0 / 3.0, 0.0]);
        close(&gradients, &[0.0, -1.0, -1.0, 0.0]);
    }

    #[test]
    fn without_old_probabilities_every_ratio_is_1_and_gradients_flow() {
        let device = crate::device::Choice::cpu().open().unwrap().autodiff();
        let weights = vec![1.0, 1.0, 1.0, 0.0];
        let answers = Answers {
            width: 2,
            positions: vec![0, 1, 2, 2],
            advantages: vec![1.0, -2.0, 0.5, 0.0],
            weights: weights.clone(),
            ..Answers::default()
        };
        let answers = AnswerTensors::new(&answers, &weights, &device);
        let log_p = Tensor::<2>::from_data([[-1.0, -2.0], [-0.5, 55.0]], &device).require_grad();
        let terms = CLIP.of(log_p.clone(), &answers);
        let gradients = log_p.grad(&terms.loss.backward()).unwrap();
        close(&gradients.into_data().try_into_vec_as::<f32>().unwrap(), &[-1.0, 2.0, -0.5, 0.0]);
        close(&[terms.ratio.into_scalar::<f32>()], &[1.0]);
    }

    #[test]
    fn an_answer_has_one_ratio_where_sequences_are_compared() {
        let gspo = PolicyLoss { ratio: RatioLevel::Sequence, ..CLIP };
        let (value, ..) = loss(gspo, [1.21, 1.0, 1.0], [1.0, 1.0, 0.0]);
        close(&[value], &[-2.2]);
        let product = PolicyLoss { ratio: RatioLevel::Product, clip_high: 1e6, ..CLIP };
        let (value, _, gradients) = loss(product, [1.5, 2.0, 1.0], [1.0, 1.0, 0.0]);
        close(&[value], &[-6.0]);
        close(&gradients, &[-6.0, -6.0, 0.0, 0.0]);
    }

    #[test]
    fn cispo_weights_and_a_two_sided_bound_clips_what_is_bad() {
        let cispo = PolicyLoss { kind: PolicyLossKind::Cispo, max_ratio: 1.2, ..CLIP };
        let (_, _, gradients) = loss(cispo, [1.5, 0.5, 1.0], [1.0, 1.0, -1.0]);
        close(&gradients, &[-1.2, -0.5, 1.0, 0.0]);
        let two_sided = PolicyLoss { max_ratio: 1.3, ..CLIP };
        let (value, _, gradients) = loss(two_sided, [1.5, 1.1, 1.0], [-1.0, -1.0, 0.0]);
        close(&[value], &[1.3 + 1.1]);
        close(&gradients, &[0.0, 1.1, 0.0, 0.0]);
    }
}
