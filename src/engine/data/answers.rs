//! Sampled answers in a batch, for reinforcement learning and on-policy distillation.

/// Numbers of the tokens of sampled answers, one answer a row. Lists are `[rows * width]`, row by row,
/// and 0 beyond the end of an answer. Lists that an objective does not use are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Largest number of tokens of an answer.
    pub width: usize,
    /// Index, counted through all rows of the batch, of the input whose output predicts the token. One place
    /// beyond the end it is the answer's last token, and further on it stays there.
    pub positions: Vec<i32>,
    /// Log-probabilities of the policy that sampled the answers; empty if it is the one that is trained.
    pub old_log_probabilities: Vec<f32>,
    /// Log-probabilities of the reference.
    pub reference_log_probabilities: Vec<f32>,
    pub advantages: Vec<f32>,
    /// Weight of each token in the loss of the step; the weights of a mean add up to 1.
    pub weights: Vec<f32>,
    /// Values before the first update.
    pub values: Vec<f32>,
    /// Returns, which the value model learns.
    pub returns: Vec<f32>,
    /// Weight of each value in the value loss of the step.
    pub value_weights: Vec<f32>,
}

impl Answers {
    /// Number of input tokens of each row, of `time` tokens with padding, up to the one whose output predicts the
    /// answer's last token. `weights` are those of the targets; a row without any has 0.
    pub fn input_lengths(&self, weights: &[f32], time: usize) -> Vec<usize> {
        let width = self.width.max(1);
        let rows = self.positions.chunks(width).zip(weights.chunks(width)).enumerate();
        let length = |(row, (positions, weights)): (usize, (&[i32], &[f32]))| {
            let last = weights.iter().rposition(|&weight| weight != 0.0)?;
            let position = usize::try_from(*positions.get(last)?).ok()?;
            Some((position + 1).saturating_sub(row * time))
        };
        rows.map(|row| length(row).unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reaches_to_the_input_that_predicts_its_last_token() {
        // A prompt of three tokens with two of an answer, one of one with three, and one without an answer.
        let positions = vec![2, 3, 4, 8, 9, 10, 16, 17, 17];
        let weights = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        let answers = Answers { width: 3, positions, ..Answers::default() };
        assert_eq!(answers.input_lengths(&weights, 8), [4, 3, 0]);
    }
}
