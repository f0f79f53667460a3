//! Rows of token ids in main memory, ready to be sent to a device.

/// The target of a position that has no loss.
pub const IGNORE_INDEX: i32 = -100;

/// Rows that are no longer than others are padded to a multiple of this, so that a device sees few shapes.
const WIDTH_STEP: usize = 8;

/// A micro-batch: `rows` rows of `time` tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch {
    /// `[rows * time]`, row by row. Padding is token 0.
    pub inputs: Vec<i32>,
    /// Row by row, as many in each: a token or class for each input or for each token that a decoder
    /// beside an encoder reads, or a class of the row; [`IGNORE_INDEX`] where there is none.
    pub targets: Vec<i32>,
    /// Weight of each target in losses and metrics, as many as targets; 0 where there is none.
    pub weights: Vec<f32>,
    pub rows: usize,
    pub time: usize,
    /// Number of targets that are not [`IGNORE_INDEX`].
    pub target_tokens: usize,
    /// Number of tokens that are read, without padding.
    pub tokens: usize,
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

/// What a model reads of one text, and what it is to say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Example {
    pub inputs: Vec<i32>,
    /// As many as there are inputs, or decoder inputs, or one.
    pub targets: Vec<i32>,
    /// Weight of each target, as many as targets; empty where all count alike.
    pub weights: Vec<f32>,
    pub decoder_inputs: Vec<i32>,
    pub value: Option<f32>,
    /// Tokens at the beginning that see each other whole.
    pub prefix: usize,
}

/// How rows lie in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// All of a block; padding only follows, where each token sees those before it.
    Fixed,
    /// As the longest, rounded up; every token sees all.
    Longest,
    /// The same with one target a row.
    LongestWithOneTarget,
}

impl HostBatch {
    /// A batch of given `inputs` and `targets`, each `[rows * time]`.
    pub fn new(inputs: Vec<i32>, targets: Vec<i32>, rows: usize, time: usize) -> Self {
        let target_tokens = targets.iter().filter(|&&target| target != IGNORE_INDEX).count();
        Self {
            tokens: inputs.len(),
            inputs,
            weights: targets.iter().map(|&target| f32::from(target != IGNORE_INDEX)).collect(),
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

    /// A batch of `count` rows of up to `block_size` tokens, of which those beyond the given ones have no
    /// targets.
    pub fn of(mut rows: Vec<Example>, count: usize, width: Width, block_size: usize) -> Self {
        let longest = |length: fn(&Example) -> usize| rows.iter().map(length).max().unwrap_or(0);
        let rounded = |length: usize| length.max(1).next_multiple_of(WIDTH_STEP).min(block_size);
        let written = longest(|row| row.decoder_inputs.len());
        let time = match width {
            Width::Fixed => block_size,
            _ => rounded(longest(|row| row.inputs.len())),
        };
        let (decoder_time, target_time) = match (written, width) {
            (0, Width::LongestWithOneTarget) => (0, 1),
            (0, _) => (0, time),
            (written, _) => (rounded(written), rounded(written)),
        };
        let tokens = rows.iter().map(|row| row.inputs.len() + row.decoder_inputs.len()).sum();
        rows.resize_with(count, Example::default);
        let fill = |width: usize, filler: i32, part: fn(&Example) -> &Vec<i32>| -> Vec<i32> {
            let row = |row| {
                let part: &Vec<i32> = part(row);
                part.iter().copied().chain(std::iter::repeat(filler)).take(width)
            };
            rows.iter().flat_map(row).collect()
        };
        let inputs = fill(time, 0, |row| &row.inputs);
        let targets = fill(target_time, IGNORE_INDEX, |row| &row.targets);
        let mut batch = Self::new(inputs, targets, count, time);
        batch.tokens = tokens;
        for (row, weights) in rows.iter().zip(batch.weights.chunks_mut(target_time.max(1))) {
            weights.iter_mut().zip(&row.weights).for_each(|(weight, own)| *weight *= own);
        }
        batch.decoder_inputs = fill(decoder_time, 0, |row| &row.decoder_inputs);
        if width != Width::Fixed {
            batch.lengths = rows.iter().map(|row| row.inputs.len()).collect();
        }
        if rows.iter().any(|row| row.prefix > 0) {
            batch.prefixes = rows.iter().map(|row| row.prefix).collect();
        }
        if rows.iter().any(|row| row.value.is_some()) {
            batch.values = rows.iter().map(|row| row.value.unwrap_or(0.0)).collect();
        }
        batch
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

    /// Sum of the weights of all targets: their number where none is weighted.
    pub fn target_weight(&self) -> f64 {
        self.weights.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// How many rows have a target.
    pub fn rows_with_targets(&self) -> usize {
        let rows = self.targets.chunks_exact((self.targets.len() / self.rows.max(1)).max(1));
        rows.filter(|row| row.iter().any(|&target| target != IGNORE_INDEX)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_to_their_longest() {
        let row = |inputs: Vec<i32>| Example { targets: inputs.clone(), inputs, ..Example::default() };
        let batch = HostBatch::of(vec![row(vec![1, 2]), row(vec![3; 9])], 3, Width::Longest, 64);
        assert_eq!((batch.rows, batch.time, batch.target_tokens), (3, 16, 11));
        assert_eq!(batch.lengths, [2, 9, 0]);
        assert_eq!(batch.inputs[..3], [1, 2, 0]);
        assert_eq!(batch.targets[..3], [1, 2, IGNORE_INDEX]);
        assert_eq!(batch.padding().unwrap()[..3], [false, false, true]);
        let whole = HostBatch::of(vec![row(vec![1; 8])], 1, Width::Longest, 64);
        assert_eq!(whole.padding(), None);
        // But never beyond the context.
        let full = HostBatch::of(vec![row(vec![1; 9])], 1, Width::Longest, 10);
        assert_eq!((full.time, full.inputs.len()), (10, 10));
    }

    #[test]
    fn a_target_of_a_row_or_of_a_decoder_has_its_own_width() {
        let text =
            Example { inputs: vec![1, 2, 3], targets: vec![1], value: Some(0.5), ..Example::default() };
        let batch = HostBatch::of(vec![text.clone()], 2, Width::LongestWithOneTarget, 64);
        assert_eq!(
            (batch.targets.as_slice(), batch.values.as_slice()),
            (&[1, IGNORE_INDEX][..], &[0.5, 0.0][..])
        );
        let pair = Example { decoder_inputs: vec![0, 7], targets: vec![7, 8], ..text };
        let batch = HostBatch::of(vec![pair], 1, Width::Longest, 64);
        assert_eq!((batch.targets.len(), batch.decoder_inputs.len()), (8, 8));
        assert_eq!((batch.target_tokens, batch.rows_with_targets()), (2, 1));
    }
}
