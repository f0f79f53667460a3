//! Packing: several documents in each row, so that hardly any of it is padding. Attention keeps them apart.

use super::{Example, random};
use std::{cmp::Reverse, collections::BTreeMap};

/// Division of documents into rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packing {
    /// Indices of the documents, row by row.
    documents: Vec<usize>,
    /// End of each row in `documents`.
    ends: Vec<usize>,
    /// Number of tokens in all rows.
    tokens: usize,
}

impl Packing {
    /// Packs documents, given by their indices and their numbers of tokens, into rows of `block_size` tokens, by
    /// best fit: the longest documents first, each into the fullest row that has room for it. The rows are a
    /// function of the documents and the seed, which decides among documents of the same length.
    pub fn best_fit(mut documents: Vec<(usize, usize)>, block_size: usize, seed: u64) -> Self {
        let tokens = documents.iter().map(|(_, length)| length).sum();
        random::shuffle(&mut documents, &mut random::rng(seed, 0, "packing"));
        documents.sort_by_key(|(_, length)| Reverse(*length));
        // Rows that have room, by how much.
        let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut rows: Vec<Vec<usize>> = Vec::new();
        for (index, length) in documents {
            let fullest = open.range_mut(length..).next().map(|(room, rows)| (*room, rows.pop()));
            let (room, row) = match fullest {
                Some((room, Some(row))) => {
                    if open.get(&room).is_some_and(Vec::is_empty) {
                        open.remove(&room);
                    }
                    (room, row)
                }
                _ => {
                    rows.push(Vec::new());
                    (block_size, rows.len() - 1)
                }
            };
            rows[row].push(index);
            let left = room.saturating_sub(length);
            if left > 0 {
                open.entry(left).or_default().push(row);
            }
        }
        let ends = rows.iter().scan(0, |end, row| {
            *end += row.len();
            Some(*end)
        });
        Self { ends: ends.collect(), documents: rows.concat(), tokens }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// Indices of the documents in a row.
    ///
    /// # Panics
    /// If `row` is not below [`rows`](Self::rows).
    pub fn row(&self, row: usize) -> &[usize] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.documents[start..self.ends[row]]
    }

    /// Describes the rows for the user.
    pub fn describe(&self, block_size: usize) -> String {
        let places = (self.rows() * block_size).max(1);
        format!(
            "{} documents are packed into {} rows of {block_size} tokens, {:.1} % of which are padding",
            self.documents.len(),
            self.rows(),
            100.0 * (places - self.tokens.min(places)) as f64 / places as f64
        )
    }
}

/// Joins the examples of several documents into that of a row.
pub(super) fn joined(examples: impl IntoIterator<Item = Example>) -> Example {
    let mut row = Example::default();
    for (number, example) in examples.into_iter().enumerate() {
        let (before, added) = (row.targets.len(), example.targets.len());
        if !example.weights.is_empty() || !row.weights.is_empty() {
            row.weights.resize(before, 1.0);
            row.weights.extend(example.weights);
            row.weights.resize(before + added, 1.0);
        }
        row.documents.extend(std::iter::repeat_n(number as i32, example.inputs.len()));
        row.inputs.extend(example.inputs);
        row.targets.extend(example.targets);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(lengths: &[usize], block_size: usize, seed: u64) -> Packing {
        Packing::best_fit(lengths.iter().copied().enumerate().collect(), block_size, seed)
    }

    fn filled(packing: &Packing, lengths: &[usize]) -> Vec<usize> {
        let length = |index: &usize| lengths[*index];
        (0..packing.rows()).map(|row| packing.row(row).iter().map(length).sum()).collect()
    }

    #[test]
    fn every_document_is_in_one_row_and_none_is_too_long() {
        let lengths: Vec<usize> = (0..500).map(|i| 1 + i * i % 61).collect();
        let packing = packed(&lengths, 64, 3);
        let mut all: Vec<usize> = (0..packing.rows()).flat_map(|row| packing.row(row).to_vec()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..500).collect::<Vec<_>>());
        let filled = filled(&packing, &lengths);
        assert!(filled.iter().all(|tokens| (1..=64).contains(tokens)));
        // Hardly more rows than the tokens need.
        let needed = lengths.iter().sum::<usize>().div_ceil(64);
        assert!(100 * packing.rows() <= 102 * needed, "{} instead of {needed}", packing.rows());
    }

    #[test]
    fn documents_go_where_they_fit_best() {
        let lengths = [6, 5, 3, 2, 4];
        assert_eq!(filled(&packed(&lengths, 10, 1), &lengths), [10, 10]);
        let packing = packed(&lengths, 10, 1);
        assert_eq!((packing.row(0), packing.row(1)), (&[0, 4][..], &[1, 2, 3][..]));
        assert_eq!(
            packing.describe(10),
            "5 documents are packed into 2 rows of 10 tokens, 0.0 % of which are padding"
        );
    }

    #[test]
    fn rows_are_a_function_of_documents_and_seed() {
        let lengths: Vec<usize> = (0..200).map(|i| 1 + i % 7).collect();
        assert_eq!(packed(&lengths, 16, 5), packed(&lengths, 16, 5));
        assert_ne!(packed(&lengths, 16, 5), packed(&lengths, 16, 6));
        assert_eq!(packed(&[], 16, 5).rows(), 0);
    }

    #[test]
    fn examples_are_joined_with_their_weights() {
        let example = |inputs: Vec<i32>, weights: Vec<f32>| Example {
            targets: inputs.iter().map(|token| token + 1).collect(),
            inputs,
            weights,
            ..Example::default()
        };
        let row =
            joined([example(vec![1, 2], vec![]), example(vec![5], vec![0.5]), example(vec![7], vec![])]);
        assert_eq!((row.inputs, row.targets), (vec![1, 2, 5, 7], vec![2, 3, 6, 8]));
        assert_eq!((row.weights, row.documents), (vec![1.0, 1.0, 0.5, 1.0], vec![0, 0, 1, 2]));
    }
}
