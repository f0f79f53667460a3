//! Batches of token ids in main memory, ready to be copied to a device.

use super::Answers;
use crate::kernels::attention::PADDING;

/// Target of a position that does not count in the loss.
pub const IGNORE_INDEX: i32 = -100;

/// Padded lengths are rounded up to a multiple of this, so that a device compiles kernels for few shapes.
const WIDTH_STEP: usize = 8;

/// A micro-batch of `rows` rows with `time` tokens each.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch {
    /// Input tokens, `[rows * time]`, row by row. Padding is token 0.
    pub inputs: Vec<i32>,
    /// Targets, row by row, the same number in each: a token or class for each input or for each decoder
    /// input, or one class per row; [`IGNORE_INDEX`] where there is none.
    pub targets: Vec<i32>,
    /// Weight of each target in losses and metrics; 0 where there is no target.
    pub weights: Vec<f32>,
    pub rows: usize,
    pub time: usize,
    /// Number of adjacent rows that form an example: 1, or 2 for a pair, whose preferred row comes first.
    pub rows_per_example: usize,
    /// Number of targets that are not [`IGNORE_INDEX`].
    pub target_tokens: usize,
    /// Number of input tokens, without padding.
    pub tokens: usize,
    /// Number of tokens in each row, without padding. Empty if padding needs no mask, because it follows the
    /// tokens of a causal model.
    pub lengths: Vec<usize>,
    /// Length of each row's prefix, whose tokens attend to each other in both directions; empty without
    /// prefix attention.
    pub prefixes: Vec<usize>,
    /// Number of the document of each token within its row, `[rows * time]`, ascending from 0, and [`PADDING`] for
    /// padding. Empty if each row is one document.
    pub documents: Vec<i32>,
    /// Number of the branch of each token within its row, `[rows * time]`, ascending from 0, and [`PADDING`] for
    /// padding. Tokens of branch 0, the trunk, precede those of each other branch, which do not see each other. Empty
    /// if no texts of a row begin alike.
    pub branches: Vec<i32>,
    /// Input tokens of the decoder in an encoder-decoder model, row by row; empty for other models.
    pub decoder_inputs: Vec<i32>,
    /// Number of each row where the data has one: the target of a regression, the margin of a pair in its
    /// preferred row, or 1 for a desirable answer and 0 for another.
    pub values: Vec<f32>,
    /// Sampled answers in the rows, whose tokens are the targets; `None` for rows of a split.
    pub answers: Option<Answers>,
    /// Number of the record of each row, by which its split knows it; empty if the split keeps no records.
    pub records: Vec<usize>,
}

/// One training example: inputs of a model and its targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Example {
    pub inputs: Vec<i32>,
    /// Targets: one for each input, one for each decoder input, or a single one.
    pub targets: Vec<i32>,
    /// Weight of each target; empty if all have weight 1.
    pub weights: Vec<f32>,
    /// Number of each token's document in a packed row; otherwise empty.
    pub documents: Vec<i32>,
    pub decoder_inputs: Vec<i32>,
    pub value: Option<f32>,
    /// Number of the record that the example is from, if the split keeps records.
    pub record: Option<usize>,
    /// Length of the prefix, whose tokens attend to each other in both directions.
    pub prefix: usize,
}

/// Padded length of the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// The block size, for causal models, whose tokens never attend to the padding after them.
    Fixed,
    /// Length of the longest row, rounded up, for bidirectional models.
    Longest,
    /// Length of the longest row, rounded up, with one target per row.
    LongestWithOneTarget,
}

impl HostBatch {
    /// Makes a batch of `inputs` and `targets`, each `[rows * time]`.
    pub fn new(inputs: Vec<i32>, targets: Vec<i32>, rows: usize, time: usize) -> Self {
        let target_tokens = targets.iter().filter(|&&target| target != IGNORE_INDEX).count();
        Self {
            tokens: inputs.len(),
            inputs,
            weights: targets.iter().map(|&target| f32::from(target != IGNORE_INDEX)).collect(),
            targets,
            rows,
            time,
            rows_per_example: 1,
            target_tokens,
            lengths: Vec::new(),
            prefixes: Vec::new(),
            documents: Vec::new(),
            branches: Vec::new(),
            decoder_inputs: Vec::new(),
            values: Vec::new(),
            answers: None,
            records: Vec::new(),
        }
    }

    /// Makes a batch of `count` rows of up to `block_size` tokens. Rows beyond the given examples have no
    /// targets.
    pub fn of(mut rows: Vec<Example>, count: usize, width: Width, block_size: usize) -> Self {
        let longest = |length: fn(&Example) -> usize| rows.iter().map(length).max().unwrap_or(0);
        let rounded = |length: usize| length.max(1).next_multiple_of(WIDTH_STEP).min(block_size);
        let decoder_length = longest(|row| row.decoder_inputs.len());
        let time = match width {
            Width::Fixed => block_size,
            _ => rounded(longest(|row| row.inputs.len())),
        };
        let (decoder_time, target_time) = match (decoder_length, width) {
            (0, Width::LongestWithOneTarget) => (0, 1),
            (0, _) => (0, time),
            (decoder_length, _) => (rounded(decoder_length), rounded(decoder_length)),
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
        if rows.iter().any(|row| !row.documents.is_empty()) {
            batch.documents = fill(time, PADDING, |row| &row.documents);
        }
        if width != Width::Fixed {
            batch.lengths = rows.iter().map(|row| row.inputs.len()).collect();
        }
        if rows.iter().any(|row| row.prefix > 0) {
            batch.prefixes = rows.iter().map(|row| row.prefix).collect();
        }
        batch.records = rows.iter().map_while(|row| row.record).collect();
        if rows.iter().any(|row| row.value.is_some()) {
            batch.values = rows.iter().map(|row| row.value.unwrap_or(0.0)).collect();
        }
        batch
    }

    /// Padding mask of the inputs, `[rows * time]`, true for padding; `None` if there is no padding.
    pub fn padding(&self) -> Option<Vec<bool>> {
        let mask = self.flags(&self.lengths, |position, length| position >= length)?;
        mask.contains(&true).then_some(mask)
    }

    /// Prefix mask of the inputs, `[rows * time]`, true inside a row's prefix; `None` without prefix
    /// attention.
    pub fn prefix(&self) -> Option<Vec<bool>> {
        self.flags(&self.prefixes, |position, length| position < length)
    }

    fn flags(&self, lengths: &[usize], flag: impl Fn(usize, usize) -> bool) -> Option<Vec<bool>> {
        let row = |&length: &usize| (0..self.time).map(move |position| (position, length));
        let flags =
            || lengths.iter().flat_map(row).map(|(position, length)| flag(position, length)).collect();
        (!lengths.is_empty()).then(flags)
    }

    /// Position of each token in its document, or in its branch after the trunk, `[rows * time]`; `None` if each row is
    /// one document.
    pub fn positions(&self) -> Option<Vec<i32>> {
        if !self.branches.is_empty() {
            return Some(self.branches.chunks(self.time.max(1)).flat_map(branch_positions).collect());
        }
        let rows = self.documents.chunks(self.time.max(1));
        let documents = rows.flat_map(|row| row.chunk_by(|a, b| a == b));
        let positions = || documents.flat_map(|document| 0..document.len() as i32).collect();
        (!self.documents.is_empty()).then(positions)
    }

    /// Number of tokens of each token's document, `[rows * time]`; 0 for padding. Where padding is not marked, a
    /// row ends with its last target.
    pub fn document_lengths(&self) -> Vec<usize> {
        let mut lengths = Vec::with_capacity(self.inputs.len());
        if !self.documents.is_empty() {
            for row in self.documents.chunks(self.time.max(1)) {
                for document in row.chunk_by(|a, b| a == b) {
                    let length = if document[0] == PADDING { 0 } else { document.len() };
                    lengths.extend(std::iter::repeat_n(length, document.len()));
                }
            }
            return lengths;
        }
        let width = self.targets.len() / self.rows.max(1);
        for row in 0..self.rows {
            let targets = &self.targets[row * width..(row + 1) * width];
            let last_target = || targets.iter().rposition(|&target| target != IGNORE_INDEX);
            let length = self.lengths.get(row).copied().or_else(|| last_target().map(|last| last + 1));
            let length = length.unwrap_or(0).min(self.time);
            lengths.extend(std::iter::repeat_n(length, length));
            lengths.extend(std::iter::repeat_n(0, self.time - length));
        }
        lengths
    }

    /// Sum of the weights of all targets: the number of targets if none is weighted.
    pub fn target_weight(&self) -> f64 {
        self.weights.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// Number of rows that have a target.
    pub fn rows_with_targets(&self) -> usize {
        let rows = self.targets.chunks_exact((self.targets.len() / self.rows.max(1)).max(1));
        rows.filter(|row| row.iter().any(|&target| target != IGNORE_INDEX)).count()
    }
}

/// Positions of the tokens of a row, given their branches.
fn branch_positions(row: &[i32]) -> Vec<i32> {
    let trunk = row.iter().take_while(|&&branch| branch == 0).count();
    let mut positions = Vec::with_capacity(row.len());
    for branch in row.chunk_by(|a, b| a == b) {
        match branch[0] {
            // There may be more padding than positions.
            PADDING => positions.extend(std::iter::repeat_n(0, branch.len())),
            number => {
                let first = if number == 0 { 0 } else { trunk };
                positions.extend((first..first + branch.len()).map(|position| position as i32));
            }
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_go_on_from_the_trunk() {
        let mut batch = HostBatch::new(vec![1; 16], vec![IGNORE_INDEX; 4], 2, 8);
        let p = PADDING;
        batch.branches = vec![0, 0, 0, 3, 3, 5, p, p, 0, 1, 1, 1, 4, 4, 4, p];
        assert_eq!(batch.positions().unwrap(), [0, 1, 2, 3, 4, 3, 0, 0, 0, 1, 2, 3, 1, 2, 3, 0]);
    }

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
    fn packed_rows_number_their_documents_and_restart_positions() {
        let row = |inputs: Vec<i32>, documents: Vec<i32>| Example {
            targets: inputs.clone(),
            inputs,
            documents,
            ..Example::default()
        };
        let rows = vec![row(vec![1, 2, 3, 4], vec![0, 0, 0, 1]), row(vec![5], vec![0])];
        let batch = HostBatch::of(rows, 3, Width::Fixed, 5);
        let p = PADDING;
        assert_eq!(batch.documents, [0, 0, 0, 1, p, 0, p, p, p, p, p, p, p, p, p]);
        assert_eq!(batch.positions().unwrap(), [0, 1, 2, 0, 0, 0, 0, 1, 2, 3, 0, 1, 2, 3, 4]);
        assert_eq!(batch.document_lengths(), [3, 3, 3, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let padded = HostBatch::of(vec![row(vec![1, 2], vec![])], 2, Width::Fixed, 3);
        assert_eq!((padded.positions(), padded.document_lengths()), (None, vec![2, 2, 0, 0, 0, 0]));
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
