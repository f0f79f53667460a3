//! Sampled answers in a batch, for reinforcement learning.

/// Numbers of the tokens of sampled answers, one answer a row. Lists are `[rows * width]`, row by row,
/// and 0 beyond the end of an answer. Lists that an objective does not use are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Largest number of tokens of an answer.
    pub width: usize,
    /// Index, counted through all rows of the batch, of the input whose output predicts the token. One place
    /// beyond the end it is the answer's last token, and further on it stays there.
    pub positions: Vec<i32>,
    /// Log-probabilities of the policy that sampled the answers.
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
