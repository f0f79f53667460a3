//! Sampled answers as rows of a batch. Each follows its prompt; where that saves work, answers to the same prompt share
//! a row, and are branches after it.

use crate::{
    config::{Config, Position},
    data::{Answers, HostBatch, IGNORE_INDEX},
    kernels::attention::PADDING,
};
use std::collections::BTreeMap;

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
    /// Number of tokens of a row of one answer, padding included.
    pub time: usize,
    /// Whether the tokens of a prompt attend to each other in both directions.
    pub has_prefixes: bool,
    /// Whether answers to the same prompt may share a row.
    pub shares_prompts: bool,
}

/// Lengths of rows are rounded up to a multiple of this, so that a device compiles kernels for few shapes.
const TIME_STEP: usize = 8;

/// Lengths of rows that several answers share are rounded up to a multiple of this.
const SHARED_STEP: usize = 64;

/// Largest number of tokens of a row that several answers share. Attention computes scores between all of them.
const LONGEST_SHARED: usize = 1024;

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
        Self { width, time, has_prefixes, shares_prompts: false }
    }

    /// Lets answers to the same prompt share a row, if the configuration samples several and the model sees no
    /// difference: it knows positions by their numbers and not by the places of tokens in a row.
    pub fn sharing(self, config: &Config) -> Self {
        let attention = &config.model.attention;
        let has_numbers =
            matches!(config.model.position, Position::Learned | Position::Sinusoidal | Position::Rotary);
        let is_whole = attention.sliding_window.is_none() && attention.sparse_block.is_none();
        let shares_prompts = config.answers_per_prompt() > 1 && has_numbers && is_whole && !self.has_prefixes;
        Self { shares_prompts, ..self }
    }
}

/// Places of answers in the rows of a batch.
struct Rows {
    count: usize,
    /// Number of tokens of a row, padding included.
    time: usize,
    /// Row of each answer, and the position in it at which the answer's own tokens begin.
    places: Vec<(usize, usize)>,
    /// Whether answers to the same prompt share a row.
    are_shared: bool,
}

impl Rows {
    /// Places answers to the same prompt together where that saves at least a fifth of all tokens.
    fn of(answers: &[&Answer], shape: Shape) -> Self {
        let apart = Self {
            count: answers.len(),
            time: shape.time,
            places: answers.iter().enumerate().map(|(row, answer)| (row, answer.prompt.len())).collect(),
            are_shared: false,
        };
        if !shape.shares_prompts {
            return apart;
        }
        let shared = Self::shared(answers);
        if 5 * shared.count * shared.time <= 4 * apart.count * apart.time { shared } else { apart }
    }

    fn shared(answers: &[&Answer]) -> Self {
        let (mut lengths, mut places) = (Vec::<usize>::new(), Vec::with_capacity(answers.len()));
        // The newest row of each prompt.
        let mut rows: BTreeMap<&[u32], usize> = BTreeMap::new();
        for answer in answers {
            let has_room = |&row: &usize| lengths[row] + answer.tokens.len() <= LONGEST_SHARED;
            let row = rows.get(answer.prompt.as_slice()).copied().filter(has_room).unwrap_or(lengths.len());
            if row == lengths.len() {
                lengths.push(answer.prompt.len());
                rows.insert(&answer.prompt, row);
            }
            places.push((row, lengths[row]));
            lengths[row] += answer.tokens.len();
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let time = longest.next_multiple_of(SHARED_STEP);
        Self { count: lengths.len(), time, places, are_shared: true }
    }
}

/// Makes a batch whose rows are prompts with their answers, padded on the right, and whose targets are the
/// tokens of the answers, in their order.
pub fn answer_batch(answers: &[&Answer], shape: Shape) -> HostBatch {
    let width = shape.width;
    let Rows { count, time, places, are_shared } = Rows::of(answers, shape);
    let mut inputs = vec![0; count * time];
    let mut branches = vec![PADDING; if are_shared { count * time } else { 0 }];
    let mut targets = vec![IGNORE_INDEX; answers.len() * width];
    let mut positions = Vec::with_capacity(answers.len() * width);
    for (number, (answer, (row, start))) in answers.iter().zip(places).enumerate() {
        let (first, own) = (row * time, row * time + start);
        for (at, tokens) in [(first, &answer.prompt), (own, &answer.tokens)] {
            for (slot, &token) in inputs[at..first + time].iter_mut().zip(tokens) {
                *slot = token as i32;
            }
        }
        if are_shared {
            branches[first..first + answer.prompt.len()].fill(0);
            branches[own..own + answer.tokens.len()].fill(start as i32);
        }
        let trained = answer.tokens.iter().take(answer.trained());
        for (slot, &token) in targets[number * width..(number + 1) * width].iter_mut().zip(trained) {
            *slot = token as i32;
        }
        // The prompt's last token predicts the first of the answer.
        let before = first + answer.prompt.len().saturating_sub(1);
        let place = |place: usize| match place.min(answer.tokens.len()) {
            0 => before,
            place => own + place - 1,
        };
        positions.extend((0..width).map(|number| place(number) as i32));
    }
    let mut batch = HostBatch::new(inputs, targets, count, time);
    batch.tokens = answers.iter().map(|answer| answer.whole()).sum();
    batch.branches = branches;
    if shape.has_prefixes {
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

    #[test]
    fn answers_to_one_prompt_follow_it_side_by_side() {
        let answer = |prompt: &[u32], tokens: &[u32]| Answer {
            prompt: prompt.to_vec(),
            tokens: tokens.to_vec(),
            is_left_out: false,
        };
        let (long, short) = ([9; 60], [8; 50]);
        let answers =
            [answer(&long, &[1, 2]), answer(&short, &[3]), answer(&long, &[]), answer(&long, &[4, 5])];
        let shape = Shape { shares_prompts: true, ..Shape::of(&answers, 256, false) };
        let batch = answer_batch(&answers.iter().collect::<Vec<_>>(), shape);
        assert_eq!((batch.rows, batch.time, batch.tokens), (2, 64, 60 + 2 + 50 + 1 + 60 + 60 + 2));
        assert_eq!(batch.inputs[58..64], [9, 9, 1, 2, 4, 5]);
        assert_eq!(batch.inputs[64 + 49..64 + 52], [8, 3, 0]);
        assert_eq!(batch.branches[59..64], [0, 60, 60, 62, 62]);
        assert_eq!(batch.branches[64 + 49..64 + 52], [0, 50, PADDING]);
        assert_eq!(batch.positions().unwrap()[58..64], [58, 59, 60, 61, 60, 61]);
        let n = IGNORE_INDEX;
        assert_eq!(batch.targets, [1, 2, 3, n, n, n, 4, 5]);
        assert_eq!(batch.answers.unwrap().positions, [59, 60, 64 + 49, 64 + 50, 59, 59, 59, 62]);
        // Of short prompts there is nothing to share.
        let answers = [answer(&[1], &[2; 40]), answer(&[1], &[3; 40])];
        let shape = Shape { shares_prompts: true, ..Shape::of(&answers, 256, false) };
        let batch = answer_batch(&answers.iter().collect::<Vec<_>>(), shape);
        assert_eq!((batch.rows, batch.branches.len()), (2, 0));
    }
}
