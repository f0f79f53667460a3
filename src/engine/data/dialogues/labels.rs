//! Labels of rows that are made of dialogues: the weight of each token, and the numbers of the rows.

use crate::data::{Example, IGNORE_INDEX};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Labels of dialogues.
#[derive(Debug, Clone, PartialEq)]
pub struct DialogueLabels {
    /// Weight of each token as a target; 0 where it is none.
    pub weights: Arc<[f32]>,
    /// Number of each row: 1 for a desirable answer and 0 for another, the margin of a pair in its preferred
    /// row, or a score. Empty if the data has none.
    pub values: Arc<[f32]>,
    /// Number of adjacent rows of an example: 2 of a pair, whose preferred row comes first, otherwise 1.
    pub rows_per_example: usize,
    /// Record of each example that is a prompt; otherwise empty.
    pub records: Arc<[Value]>,
    /// Number of rows that were longer than the context, and have lost a part.
    pub truncated: usize,
}

impl DialogueLabels {
    /// Number of a row; `None` if the data has none.
    pub fn value(&self, row: usize) -> Option<f32> {
        self.values.get(row).copied()
    }

    /// Makes an example of next-token prediction of the tokens of a row, the first of which is at `start` in
    /// the split. Each target has the weight of its token. Without any target the row is a prompt, whose last
    /// token is an input too.
    pub(in crate::data) fn example(&self, row: usize, start: usize, mut tokens: Vec<i32>) -> Example {
        let weights = &self.weights[start..start + tokens.len()];
        let (value, record) = (self.value(row), self.record_of(row));
        if weights.iter().all(|weight| *weight == 0.0) {
            let targets = vec![IGNORE_INDEX; tokens.len()];
            return Example { inputs: tokens, targets, value, record, ..Example::default() };
        }
        let shifted = tokens.iter().zip(weights).skip(1);
        let targets = shifted.map(|(token, weight)| if *weight == 0.0 { IGNORE_INDEX } else { *token });
        let targets: Vec<i32> = targets.collect();
        tokens.truncate(targets.len());
        let weights = weights.get(1..).unwrap_or_default().to_vec();
        Example { inputs: tokens, targets, weights, value, record, ..Example::default() }
    }

    /// Number of the record that a row is from.
    pub(in crate::data) fn record_of(&self, row: usize) -> Option<usize> {
        let example = row / self.rows_per_example.max(1);
        (example < self.records.len()).then_some(example)
    }

    /// Adds the labels to a fingerprint.
    pub(in crate::data) fn hash(&self, hash: &mut Sha256) {
        hash.update((self.rows_per_example as u64).to_le_bytes());
        self.weights.iter().chain(self.values.iter()).for_each(|number| hash.update(number.to_le_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(weights: &[f32]) -> DialogueLabels {
        DialogueLabels {
            weights: weights.into(),
            values: [0.5].into(),
            rows_per_example: 1,
            records: Arc::new([]),
            truncated: 0,
        }
    }

    #[test]
    fn targets_have_the_weights_of_their_tokens() {
        let row = labels(&[0.0, 9.0, 0.0, 1.0, 0.25]).example(0, 1, vec![5, 6, 7, 8]);
        assert_eq!(row.inputs, [5, 6, 7]);
        assert_eq!(row.targets, [IGNORE_INDEX, 7, 8]);
        assert_eq!((row.weights, row.value, row.record), (vec![0.0, 1.0, 0.25], Some(0.5), None));
    }

    #[test]
    fn a_prompt_is_an_input_to_its_end() {
        let row = labels(&[0.0; 3]).example(1, 0, vec![5, 6, 7]);
        assert_eq!((row.inputs, row.targets), (vec![5, 6, 7], vec![IGNORE_INDEX; 3]));
        assert_eq!(row.value, None);
    }
}
