//! Sampled answers on a device.

use crate::data::Answers;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Numbers of the tokens of sampled answers on a device, `[R, A]` for R rows and A places. Numbers are 0 beyond the
/// end of an answer, and those that an objective does not use are 0 everywhere.
#[derive(Debug, Clone)]
pub struct AnswerTensors {
    /// Index of the input whose output predicts each token, counted through all rows of the batch, `[R A]`.
    pub positions: Tensor<1, Int>,
    /// 1 for tokens of answers, otherwise 0.
    pub mask: Tensor<2>,
    /// `None` if they are those of the step itself.
    pub old_log_probabilities: Option<Tensor<2>>,
    pub reference_log_probabilities: Tensor<2>,
    pub advantages: Tensor<2>,
    /// Weight of each token in the loss of the step.
    pub weights: Tensor<2>,
    pub values: Tensor<2>,
    pub returns: Tensor<2>,
    /// Weight of each value in the value loss of the step.
    pub value_weights: Tensor<2>,
}

impl AnswerTensors {
    /// Copies answers to a device. `weights`, one for each place, are 0 beyond the end of an answer.
    pub fn new(answers: &Answers, weights: &[f32], device: &Device) -> Self {
        let count = answers.positions.len();
        let width = answers.width.max(1);
        let matrix = |values: &[f32]| -> Tensor<2> {
            let mut values = values.to_vec();
            values.resize(count, 0.0);
            Tensor::from_data(TensorData::new(values, [count / width, width]), device)
        };
        let mask: Vec<f32> = weights.iter().map(|&weight| f32::from(weight > 0.0)).collect();
        Self {
            positions: Tensor::from_data(TensorData::new(answers.positions.clone(), [count]), device),
            mask: matrix(&mask),
            old_log_probabilities: (!answers.old_log_probabilities.is_empty())
                .then(|| matrix(&answers.old_log_probabilities)),
            reference_log_probabilities: matrix(&answers.reference_log_probabilities),
            advantages: matrix(&answers.advantages),
            weights: matrix(&answers.weights),
            values: matrix(&answers.values),
            returns: matrix(&answers.returns),
            value_weights: matrix(&answers.value_weights),
        }
    }

    /// Mean of numbers `[R, A]` over the tokens of answers, `[1]`; 0 if there are none.
    pub fn mean(&self, numbers: Tensor<2>) -> Tensor<1> {
        (numbers * self.mask.clone()).sum() / self.mask.clone().sum().clamp_min(1.0)
    }

    /// Number of rows and of places.
    pub fn dims(&self) -> [usize; 2] {
        self.mask.dims()
    }
}
