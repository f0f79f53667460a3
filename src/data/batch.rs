//! Rows of token ids in main memory, ready to be sent to a device.

use super::TokenSplit;
use std::ops::Range;

/// The target of a position that has no loss.
pub const IGNORE_INDEX: i32 = -100;

/// A micro-batch: `rows` rows of `time` tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch {
    /// `[rows * time]`, row by row. Padding is token 0.
    pub inputs: Vec<i32>,
    /// Row by row, as many in each: a token or class for each input or for each token that a decoder
    /// beside an encoder reads, or a class of the row; [`IGNORE_INDEX`] where there is none.
    pub targets: Vec<i32>,
    pub rows: usize,
    pub time: usize,
    /// Number of targets that are not [`IGNORE_INDEX`].
    pub target_tokens: usize,
    /// Tokens of each row that are no padding; empty where padding need not be hidden, because it only
    /// follows the tokens and is seen by none of them.
    pub lengths: Vec<usize>,
    /// Tokens at the beginning of each row that earlier ones see too; empty where nothing later is seen.
    pub prefixes: Vec<usize>,
    /// What a decoder beside an encoder reads, row by row; empty where there is none.
    pub decoder_inputs: Vec<i32>,
    /// The number that belongs to each row, for regression.
    pub values: Vec<f32>,
}

impl HostBatch {
    /// A batch of given `inputs` and `targets`, each `[rows * time]`.
    pub fn new(inputs: Vec<i32>, targets: Vec<i32>, rows: usize, time: usize) -> Self {
        let target_tokens = targets.iter().filter(|&&target| target != IGNORE_INDEX).count();
        Self {
            inputs,
            targets,
            rows,
            time,
            target_tokens,
            lengths: Vec::new(),
            prefixes: Vec::new(),
            decoder_inputs: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Which of the inputs are padding that is to be hidden; `None` where there is none.
    pub fn padding(&self) -> Option<Vec<bool>> {
        let hidden = self.flags(&self.lengths, |place, length| place >= length)?;
        hidden.contains(&true).then_some(hidden)
    }

    /// Which of the inputs are seen by earlier ones.
    pub fn prefix(&self) -> Option<Vec<bool>> {
        self.flags(&self.prefixes, |place, length| place < length)
    }

    fn flags(&self, lengths: &[usize], flag: impl Fn(usize, usize) -> bool) -> Option<Vec<bool>> {
        let row = |&length: &usize| (0..self.time).map(move |place| (place, length));
        let flags = || lengths.iter().flat_map(row).map(|(place, length)| flag(place, length)).collect();
        (!lengths.is_empty()).then(flags)
    }

    /// How many rows have a target.
    pub fn rows_with_targets(&self) -> usize {
        let rows = self.targets.chunks_exact((self.targets.len() / self.rows.max(1)).max(1));
        rows.filter(|row| row.iter().any(|&target| target != IGNORE_INDEX)).count()
    }

    /// Rows without a single target.
    pub(super) fn empty(rows: usize, time: usize) -> Self {
        let size = rows * time;
        Self::new(vec![0; size], vec![IGNORE_INDEX; size], rows, time)
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
