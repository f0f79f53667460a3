//! Sampled answers as rows of a batch.

use crate::data::{Answers, HostBatch, IGNORE_INDEX};

/// A sampled answer after its prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Tokens of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// Sampled tokens; none if the prompt is too long to be answered.
    pub tokens: Vec<u32>,
    /// Whether the answer is left out of the updates.
    pub is_left_out: bool,
}

/// Sizes that all batches of a rollout share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Number of tokens of the longest answer.
    pub width: usize,
    /// Number of tokens of a row, padding included.
    pub time: usize,
    /// Whether the tokens of a prompt attend to each other in both directions.
    pub has_prefixes: bool,
}

/// Lengths of rows are rounded up to a multiple of this, so that a device compiles kernels for few shapes.
const TIME_STEP: usize = 8;

impl Answer {
    /// Number of tokens that are trained on.
    pub fn trained(&self) -> usize {
        if self.is_left_out { 0 } else { self.tokens.len() }
    }

    /// Number of tokens of prompt and answer.
    fn whole(&self) -> usize {
        self.prompt.len() + self.tokens.len()
    }
}

impl Shape {
    /// Sizes that fit all answers.
    pub fn of(answers: &[Answer], block_size: usize, has_prefixes: bool) -> Self {
        let width = answers.iter().map(|answer| answer.tokens.len()).max().unwrap_or(0).max(1);
        let longest = answers.iter().map(Answer::whole).max().unwrap_or(0).max(1);
        let time = longest.next_multiple_of(TIME_STEP).min(block_size).max(longest);
        Self { width, time, has_prefixes }
    }
}

/// Makes a batch whose rows are prompts with their answers, padded on the right, and whose targets are the
/// tokens of the answers.
pub fn answer_batch(answers: &[&Answer], shape: Shape) -> HostBatch {
    let Shape { width, time, has_prefixes } = shape;
    let mut inputs = vec![0; answers.len() * time];
    let mut targets = vec![IGNORE_INDEX; answers.len() * width];
    let mut positions = Vec::with_capacity(answers.len() * width);
    for (row, answer) in answers.iter().enumerate() {
        let tokens = answer.prompt.iter().chain(&answer.tokens);
        for (slot, &token) in inputs[row * time..(row + 1) * time].iter_mut().zip(tokens) {
            *slot = token as i32;
        }
        let trained = answer.tokens.iter().take(answer.trained());
        for (slot, &token) in targets[row * width..(row + 1) * width].iter_mut().zip(trained) {
            *slot = token as i32;
        }
        let (first, last) = (answer.prompt.len().saturating_sub(1), answer.whole().saturating_sub(1));
        positions.extend((0..width).map(|place| (row * time + (first + place).min(last)) as i32));
    }
    let mut batch = HostBatch::new(inputs, targets, answers.len(), time);
    batch.tokens = answers.iter().map(|answer| answer.whole()).sum();
    if has_prefixes {
        batch.prefixes = answers.iter().map(|answer| answer.prompt.len()).collect();
    }
    batch.answers = Some(Answers { width, positions, ..Answers::default() });
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_sampled_tokens_and_padding_is_none() {
        let answer = |prompt: &[u32], tokens: &[u32], is_left_out| Answer {
            prompt: prompt.to_vec(),
            tokens: tokens.to_vec(),
            is_left_out,
        };
        let answers =
            [answer(&[5, 6, 7], &[8, 9], false), answer(&[5], &[0, 1, 2], false), answer(&[5], &[3], true)];
        let shape = Shape::of(&answers, 64, false);
        assert_eq!((shape.width, shape.time), (3, 8));
        assert_eq!(Shape::of(&answers, 5, false).time, 5);
        let batch = answer_batch(&answers.iter().collect::<Vec<_>>(), shape);
        let n = IGNORE_INDEX;
        assert_eq!(batch.inputs[..8], [5, 6, 7, 8, 9, 0, 0, 0]);
        // A token with the number of padding is a token all the same (trl#1623).
        assert_eq!(batch.targets, [8, 9, n, 0, 1, 2, n, n, n]);
        assert_eq!(batch.weights, [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!((batch.tokens, batch.target_tokens), (11, 5));
        // The outputs at the prompt's last token and at the answer's tokens but the last predict the answer.
        let found = batch.answers.unwrap();
        assert_eq!(found.positions, [2, 3, 4, 8, 9, 10, 16, 17, 17]);
    }
}
