//! The losses of a step on a rollout: of the policy, of its entropy, and of the value model.

use crate::{
    model::{Model, Routings},
    objective::{
        Batch,
        reinforcement::{
            AnswerTensors, Companion, PolicyLoss, PolicyTerms, ValueLoss, ValueTerms, entropy,
            log_probabilities,
        },
    },
};
use burn::tensor::Tensor;

/// Settings of the losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyUpdate {
    pub policy: PolicyLoss,
    pub value: ValueLoss,
    /// Share of the value loss in the loss.
    pub value_coefficient: f64,
    /// Share of the entropy that is subtracted from the loss.
    pub entropy_coefficient: f64,
    /// Divisor of the logits.
    pub temperature: f64,
}

/// Losses of a micro-batch.
pub struct UpdateTerms {
    /// Share of the step's loss, `[1]`.
    pub total: Tensor<1>,
    pub policy: PolicyTerms,
    /// Terms of the value model; `None` without one.
    pub value: Option<ValueTerms>,
    /// Routing of each layer of the policy.
    pub routings: Routings,
}

impl PolicyUpdate {
    /// Computes the losses of a micro-batch of sampled answers; `None` for one of other rows.
    pub fn terms(&self, model: &Model, companion: Option<&Companion>, batch: &Batch) -> Option<UpdateTerms> {
        let sampled = batch.host.answers.as_ref()?;
        let answers = AnswerTensors::new(sampled, &batch.host.weights, &batch.targets.weights.device());
        let (positions, places, shape) = (&answers.positions, batch.target_rows(), answers.dims());
        let (output, routings) = model.forward_unprojected(batch.input.clone());
        let log_p = log_probabilities(&output, positions, &batch.targets.tokens, places, self.temperature);
        let policy = self.policy.of(log_p.reshape(shape), &answers);
        let mut total = policy.loss.clone();
        // Padding has no weight.
        if self.entropy_coefficient > 0.0 {
            let entropy = entropy(&output, positions, places, self.temperature).reshape(shape);
            total = total - (entropy * answers.weights.clone()).sum().mul_scalar(self.entropy_coefficient);
        }
        let value = companion.map(|companion| {
            let values = companion.value.values(batch.input.clone(), &output, positions).reshape(shape);
            self.value.of(values, &answers)
        });
        if let Some(value) = &value {
            total = total + value.loss.clone().mul_scalar(self.value_coefficient);
        }
        Some(UpdateTerms { total, policy, value, routings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{ModelConfig, Normalization, PolicyLossKind, Position, RatioLevel},
        kernels::Mode,
        model::{Input, Side, parameters},
        objective::{
            reinforcement::Averaging,
            rollout::{Answer, Rollout, Shape, StepBatches},
        },
    };
    use burn::{optim::GradientsParams, tensor::activation::log_softmax};

    const UPDATE: PolicyUpdate = PolicyUpdate {
        policy: PolicyLoss {
            kind: PolicyLossKind::Clip,
            ratio: RatioLevel::Token,
            clip_low: 0.2,
            clip_high: 0.2,
            max_ratio: f64::INFINITY,
            kl_coefficient: 0.0,
            corrected_kl: false,
        },
        value: ValueLoss { clip: 0.2 },
        value_coefficient: 0.0,
        entropy_coefficient: 1.0,
        temperature: 1.0,
    };

    fn answers() -> Vec<Answer> {
        let answer = |prompt: &[u32], tokens: &[u32]| Answer {
            prompt: prompt.to_vec(),
            tokens: tokens.to_vec(),
            is_left_out: false,
        };
        vec![answer(&[1, 2], &[3]), answer(&[4], &[5, 6, 7])]
    }

    #[test]
    fn entropy_is_that_of_answers_whatever_the_padding_trl_6121() {
        let device = crate::device::Choice::cpu().open().unwrap().autodiff();
        let config = ModelConfig { vocab_size: 13, n_embd: 16, n_head: 2, n_layer: 1, ..Default::default() };
        let model = Model::init(&config, Mode::Fused, 3, &device);
        let loss = |shape: Shape| {
            let count = 2 * shape.width;
            let rollout = Rollout {
                answers: answers(),
                shape,
                old_log_probabilities: vec![-1.0; count],
                advantages: vec![0.0; count],
                ..Rollout::default()
            };
            let averaging = Averaging { normalization: Normalization::Dapo, max_length: 4, micro_batch: 2 };
            let hosts = StepBatches { minibatches: 1, averaging, seed: 1 }.of(&rollout, 0);
            let terms = UPDATE.terms(&model, None, &Batch::new(&hosts[0], &device)).unwrap();
            terms.total.into_scalar::<f32>()
        };
        let tight = Shape::of(&answers(), 64, false);
        let padded = Shape { width: 9, time: 40, ..tight };
        assert!((loss(tight) - loss(padded)).abs() < 1e-6);

        // The mean over the positions that predict a token of an answer.
        let rows: Vec<Vec<u32>> =
            answers().into_iter().map(|answer| [answer.prompt, answer.tokens].concat()).collect();
        let (logits, _) = model.forward(Input::padded(&rows, Side::Right, &device)); // [2 * 4, 13]
        let log_p = log_softmax(logits.inner(), 1).into_data().try_into_vec_as::<f32>().unwrap();
        let entropy = |position: usize| -> f32 {
            log_p[position * 13..(position + 1) * 13].iter().map(|log_p| -log_p.exp() * log_p).sum()
        };
        let expected: f32 = [1, 4, 5, 6].map(entropy).iter().sum::<f32>() / 4.0;
        assert!((loss(tight) + expected).abs() < 1e-5, "{} {expected}", loss(tight));
    }

    #[test]
    fn answers_that_share_a_row_are_trained_as_they_are_apart() {
        let device = crate::device::Choice::cpu().open().unwrap().autodiff();
        let prompts: [Vec<u32>; 2] =
            [(0..50).map(|i| i % 13).collect(), (0..40).map(|i| i * i % 13).collect()];
        let answer = |number: u32| Answer {
            prompt: prompts[number as usize % 2].clone(),
            tokens: (0..=number).map(|place| (place + number) % 13).collect(),
            is_left_out: number == 3,
        };
        let answers: Vec<Answer> = (0..8).map(answer).collect();
        for position in [Position::Learned, Position::Rotary] {
            let config = ModelConfig {
                vocab_size: 13,
                block_size: 96,
                n_embd: 16,
                n_head: 2,
                n_layer: 2,
                position,
                ..Default::default()
            };
            let model = Model::init(&config, Mode::Fused, 3, &device);
            let [apart, shared] = [false, true].map(|shares_prompts| {
                let shape = Shape { shares_prompts, ..Shape::of(&answers, 96, false) };
                let advantages = (0..8 * shape.width).map(|i| (i % 5) as f32 - 2.0).collect();
                let rollout = Rollout { answers: answers.clone(), shape, advantages, ..Rollout::default() };
                let averaging =
                    Averaging { normalization: Normalization::Dapo, max_length: 8, micro_batch: 8 };
                let hosts = StepBatches { minibatches: 1, averaging, seed: 1 }.of(&rollout, 0);
                assert_eq!(hosts[0].rows, if shares_prompts { 2 } else { 8 });
                let terms = UPDATE.terms(&model, None, &Batch::new(&hosts[0], &device)).unwrap();
                let gradients = GradientsParams::from_grads(terms.total.backward(), &model);
                let gradients = parameters::read(parameters::gradients(&model, &gradients));
                (terms.total.into_scalar::<f32>(), pollster::block_on(gradients).unwrap())
            });
            assert!((apart.0 - shared.0).abs() < 1e-5, "{} {}", apart.0, shared.0);
            assert_eq!(apart.1.len(), shared.1.len());
            for (name, gradient) in &apart.1 {
                let largest = gradient.values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                for (a, b) in gradient.values.iter().zip(&shared.1[name].values) {
                    assert!((a - b).abs() < 1e-5 + 1e-4 * largest, "{position:?} {name}: {a} {b}");
                }
            }
        }
    }
}
