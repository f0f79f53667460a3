//! The loss of a value model on sampled answers: the squared error of returns, clipped as the policy's ratio
//! is (arXiv:1707.06347).

use super::AnswerTensors;
use burn::tensor::Tensor;

/// Settings of the loss of a value model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueLoss {
    /// Largest change of a value that the loss follows.
    pub clip: f64,
}

/// Loss of a value model on one micro-batch, and the share of clipped values, each `[1]`.
#[derive(Debug)]
pub struct ValueTerms {
    /// Share of the step's value loss: half the larger of the clipped and the unclipped squared error.
    pub loss: Tensor<1>,
    /// Share of the step's values whose clipped error is the larger one.
    pub clipped: Tensor<1>,
}

impl ValueLoss {
    /// Computes the loss of the present values before each token, `[R, A]`.
    pub fn of(&self, values: Tensor<2>, answers: &AnswerTensors) -> ValueTerms {
        let (old, returns) = (answers.values.clone(), answers.returns.clone());
        let bounded = old.clone() + (values.clone() - old).clamp(-self.clip, self.clip);
        let free = (values - returns.clone()).square();
        let bounded = (bounded - returns).square();
        let is_clipped = bounded.clone().greater(free.clone()).float();
        let weights = answers.value_weights.clone();
        ValueTerms {
            loss: (free.max_pair(bounded) * weights.clone()).sum().mul_scalar(0.5),
            clipped: (is_clipped * weights).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Answers;

    #[test]
    fn the_larger_error_counts_and_padding_does_not() {
        let device = crate::device::Choice::cpu().open().unwrap().autodiff();
        let answers = Answers {
            width: 3,
            positions: vec![0, 1, 1],
            values: vec![0.0, 0.0, 7.0],
            returns: vec![1.0, 1.0, 9.0],
            value_weights: vec![0.5, 0.5, 0.0],
            ..Answers::default()
        };
        let answers = AnswerTensors::new(&answers, &[1.0, 1.0, 0.0], &device);
        let values = Tensor::<2>::from_data([[0.9, -0.5, 100.0]], &device).require_grad();
        let terms = ValueLoss { clip: 0.2 }.of(values.clone(), &answers);
        let gradients =
            values.grad(&terms.loss.backward()).unwrap().into_data().try_into_vec_as::<f32>().unwrap();
        // The first value has moved further than it may, so that its error at the bound, 0.8, counts.
        assert!((terms.loss.into_scalar::<f32>() - 0.25 * (0.64 + 2.25)).abs() < 1e-6);
        assert_eq!(terms.clipped.into_scalar::<f32>(), 0.5);
        assert!(
            gradients[0] == 0.0 && (gradients[1] + 0.75).abs() < 1e-6 && gradients[2] == 0.0,
            "{gradients:?}"
        );
    }
}
