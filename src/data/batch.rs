//! Rows of token ids in main memory, ready to be sent to a device.

use super::TokenSplit;
use std::ops::Range;

/// The target of a position that has no loss.
pub const IGNORE_INDEX: i32 = -100;

/// A micro-batch: `rows` rows of `time` tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBatch {
    /// `[rows * time]`, row by row. Padding is token 0.
    pub inputs: Vec<i32>,
    /// `[rows * time]`: the token after each input, or [`IGNORE_INDEX`].
    pub targets: Vec<i32>,
    pub rows: usize,
    pub time: usize,
    /// Number of targets that are not [`IGNORE_INDEX`].
    pub target_tokens: usize,
}

impl HostBatch {
    /// A batch of given `inputs` and `targets`, each `[rows * time]`.
    pub fn new(inputs: Vec<i32>, targets: Vec<i32>, rows: usize, time: usize) -> Self {
        let target_tokens = targets.iter().filter(|&&target| target != IGNORE_INDEX).count();
        Self { inputs, targets, rows, time, target_tokens }
    }

    /// How many rows have a target.
    pub fn rows_with_targets(&self) -> usize {
        let rows = self.targets.chunks_exact(self.time.max(1));
        rows.filter(|row| row.iter().any(|&target| target != IGNORE_INDEX)).count()
    }

    /// Rows without a single target.
    pub(super) fn padding(rows: usize, time: usize) -> Self {
        let size = rows * time;
        Self { inputs: vec![0; size], targets: vec![IGNORE_INDEX; size], rows, time, target_tokens: 0 }
    }

    /// Puts tokens of a split, at least two and at most `time` + 1, at the beginning of a row: all
    /// but the last are inputs, all but the first are targets. If the split says which token an answer
    /// follows, those up to the first one of it have no loss.
    pub(super) fn set_row(&mut self, row: usize, split: &TokenSplit, tokens: Range<usize>) {
        let length = tokens.len() - 1;
        let start = row * self.time;
        split.copy(tokens.start..tokens.end - 1, &mut self.inputs[start..][..length]);
        split.copy(tokens.start + 1..tokens.end, &mut self.targets[start..][..length]);
        let question = split.answer_token().and_then(|token| {
            let targets = &self.targets[start..][..length];
            targets.iter().position(|&target| target as u32 == token)
        });
        let ignored = question.map_or(0, |last| last + 1);
        self.targets[start..][..ignored].fill(IGNORE_INDEX);
        self.target_tokens += length - ignored;
    }
}
