//! Properties of single rows and examples of a batch, which objectives ask for beside its tensors.

use super::HostBatch;
use sha2::{Digest, Sha256};
use std::ops::Range;

impl HostBatch {
    /// Number of tokens of a row, without padding. Where padding has no mask, it follows the last target.
    pub fn row_length(&self, row: usize) -> usize {
        let last_target = || self.row_weights(row).iter().rposition(|&weight| weight != 0.0);
        self.lengths.get(row).copied().unwrap_or_else(|| last_target().map_or(0, |last| last + 1))
    }

    /// Number of targets of a row.
    pub fn row_targets(&self, row: usize) -> usize {
        self.row_weights(row).iter().filter(|&&weight| weight != 0.0).count()
    }

    /// Weights of a row's targets.
    fn row_weights(&self, row: usize) -> &[f32] {
        self.weights.get(self.targets_of(row)).unwrap_or_default()
    }

    /// Range of a row's targets in the list of all targets.
    fn targets_of(&self, row: usize) -> Range<usize> {
        let width = self.targets.len() / self.rows.max(1);
        row * width..(row + 1) * width
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.rows / self.rows_per_example.max(1)
    }

    /// Whether each row of an example has a target. Examples without one only fill a batch.
    pub fn is_example(&self, example: usize) -> bool {
        let rows = self.rows_per_example.max(1);
        (example * rows..(example + 1) * rows).all(|row| self.row_targets(row) > 0)
    }

    /// Fingerprint of the tokens and targets of a row, which does not depend on its padding.
    pub fn row_key(&self, row: usize) -> u64 {
        let (start, length) = (row * self.time, self.row_length(row));
        let mut hash = Sha256::new();
        hash.update((length as u64).to_le_bytes());
        for token in self.inputs.get(start..start + length).unwrap_or_default() {
            hash.update(token.to_le_bytes());
        }
        let targets = self.targets_of(row);
        for (index, weight) in self.row_weights(row).iter().enumerate().filter(|(_, weight)| **weight != 0.0)
        {
            hash.update((index as u64).to_le_bytes());
            hash.update(self.targets[targets.start + index].to_le_bytes());
            hash.update(weight.to_le_bytes());
        }
        let digest = hash.finalize();
        digest[..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Prompt and completion of a row: the tokens up to the first target, and those from it on. The completion is
    /// empty if the row has no target.
    pub fn prompt_and_completion(&self, row: usize) -> (&[i32], &[i32]) {
        let (start, targets) = (row * self.time, self.targets_of(row));
        let length = self.row_length(row);
        match self.row_weights(row).iter().position(|&weight| weight != 0.0) {
            Some(first) => {
                let prompt = &self.inputs[start..start + first + 1];
                (prompt, &self.targets[targets.start + first..targets.start + length])
            }
            None => (self.inputs.get(start..start + length).unwrap_or_default(), &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IGNORE_INDEX;

    /// Two rows: a prompt of two tokens and a completion of two, and no token at all.
    fn batch(time: usize, first: [i32; 4]) -> HostBatch {
        let n = IGNORE_INDEX;
        let mut inputs = vec![0; 2 * time];
        inputs[..3].copy_from_slice(&first[..3]);
        let mut targets = vec![n; 2 * time];
        targets[..3].copy_from_slice(&[n, first[2], first[3]]);
        HostBatch::new(inputs, targets, 2, time)
    }

    #[test]
    fn rows_are_known_by_their_tokens_and_not_by_their_padding() {
        let row = batch(4, [5, 6, 7, 8]);
        assert_eq!(row.row_key(0), batch(9, [5, 6, 7, 8]).row_key(0));
        assert_ne!(row.row_key(0), batch(4, [5, 6, 7, 9]).row_key(0));
        assert_ne!(row.row_key(0), batch(4, [4, 6, 7, 8]).row_key(0));
        assert_ne!(row.row_key(0), row.row_key(1));
        // Which tokens are targets counts too.
        let mut whole = row.clone();
        (whole.targets[0], whole.weights[0]) = (6, 1.0);
        assert_ne!(row.row_key(0), whole.row_key(0));
    }

    #[test]
    fn prompts_end_where_targets_begin() {
        let row = batch(6, [5, 6, 7, 0]);
        assert_eq!(row.prompt_and_completion(0), (&[5, 6][..], &[7, 0][..]));
        assert_eq!((row.row_length(0), row.row_targets(0)), (3, 2));
        assert_eq!(row.prompt_and_completion(1), (&[][..], &[][..]));
        assert_eq!((row.examples(), row.is_example(0), row.is_example(1)), (2, true, false));
    }

    #[test]
    fn a_pair_needs_a_target_in_both_rows() {
        let mut pair = batch(4, [5, 6, 7, 8]);
        pair.rows_per_example = 2;
        assert_eq!((pair.examples(), pair.is_example(0)), (1, false));
        (pair.targets[4], pair.weights[4]) = (3, 1.0);
        assert!(pair.is_example(0));
    }
}
