//! Fixed windows over a split, for losses that are comparable between steps and between runs.

use super::{HostBatch, Labels, RowLayout, TokenSplit, random};
use crate::config::Layout;
use std::{ops::Range, sync::Arc};

/// Makes batches of non-overlapping windows of `block_size` tokens that contain every target of the split
/// exactly once. With [`Layout::Stream`] the targets are all tokens but the first, with [`Layout::Documents`]
/// all but the first of each document; if only completions count, they are those of the completions that
/// begin within the first block of their document. If rows are documents, whatever their length, each
/// document with a target has one window. A window at the end is padded. The masked tokens of a window are
/// always the same.
///
/// `limit` is the maximum number of batches, whose windows are spaced evenly over the split; 0 means all. All
/// batches have the same number of rows, since a device compiles its kernels for each shape; unused rows in
/// the last one have no targets.
pub fn evaluation_batches(
    split: Arc<TokenSplit>,
    layout: RowLayout,
    rows_per_batch: usize,
    limit: usize,
) -> EvaluationBatches {
    let documents = match layout.kind {
        Layout::Stream => std::iter::once(0..split.len()).collect(),
        Layout::Documents => {
            // As in training.
            let needs_target =
                layout.collator.takes_documents() || matches!(split.labels(), Labels::Completions(_));
            let document = |index| match split.document(index) {
                range if needs_target && !layout.collator.has_target(&split, index, layout.block_size) => {
                    range.end..range.end
                }
                range => range,
            };
            (0..split.document_count()).map(document).collect::<Vec<_>>()
        }
    };
    let mut windows = 0;
    let starts = documents
        .into_iter()
        .map(|document| {
            let first = windows;
            windows += match layout.collator.takes_documents() || split.is_dialogues() {
                true => usize::from(!document.is_empty()),
                false => (document.len() + 1)
                    .saturating_sub(layout.collator.least_tokens())
                    .div_ceil(layout.block_size),
            };
            (first, document)
        })
        .collect();
    // Both rows of a pair are one window.
    let windows = windows / split.rows_per_example();
    let chosen = if limit == 0 { windows } else { windows.min(limit.saturating_mul(rows_per_batch)) };
    EvaluationBatches { split, layout, rows: rows_per_batch.min(chosen), starts, windows, chosen, done: 0 }
}

/// Iterator that [`evaluation_batches`] returns.
#[derive(Clone)]
pub struct EvaluationBatches {
    split: Arc<TokenSplit>,
    layout: RowLayout,
    /// Number of windows in a batch.
    rows: usize,
    /// For each document, the number of windows before it and its token range, which is empty if the document
    /// is left out.
    starts: Vec<(usize, Range<usize>)>,
    windows: usize,
    /// Number of windows that are used.
    chosen: usize,
    done: usize,
}

impl EvaluationBatches {
    /// Range of a window's inputs and its last target.
    fn tokens_of(&self, window: usize) -> Range<usize> {
        // A document without a window has the same number before it as the next; the last one counts.
        let index = self.starts.partition_point(|(first, _)| *first <= window) - 1;
        let (first, document) = &self.starts[index];
        let block_size = self.layout.block_size;
        let start = document.start + (window - first) * block_size;
        start..document.end.min(start + block_size + 1)
    }
}

impl Iterator for EvaluationBatches {
    type Item = HostBatch;

    fn next(&mut self) -> Option<HostBatch> {
        if self.done == self.chosen {
            return None;
        }
        let count = self.rows.min(self.chosen - self.done);
        let window = |row: usize| {
            let spread = (self.done + row) as u128 * self.windows as u128 / self.chosen as u128;
            spread as usize
        };
        let rows = self.split.rows_per_example();
        let rows_of = |window: usize| (window * rows..(window + 1) * rows).map(|row| self.tokens_of(row));
        let ranges: Vec<_> = (0..count).flat_map(|row| rows_of(window(row))).collect();
        let random = |row: usize| random::rng(0, window(row) as u64, "evaluation");
        let batch = self.layout.collator.batch(
            &self.split,
            &ranges,
            self.rows * rows,
            self.layout.block_size,
            random,
        );
        self.done += count;
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.chosen - self.done).div_ceil(self.rows.max(1));
        (left, Some(left))
    }
}

impl ExactSizeIterator for EvaluationBatches {}

#[cfg(test)]
mod tests {
    use super::{
        super::{IGNORE_INDEX, Tokens},
        *,
    };

    fn split(length: u32, documents: Vec<usize>) -> Arc<TokenSplit> {
        Arc::new(TokenSplit::from_tokens("validation", Tokens::U32((0..length).collect()), documents))
    }

    fn targets(batches: impl Iterator<Item = HostBatch>) -> Vec<i32> {
        let mut all = Vec::new();
        for batch in batches {
            let own: Vec<i32> = batch.targets.iter().copied().filter(|&t| t != IGNORE_INDEX).collect();
            assert_eq!(own.len(), batch.target_tokens);
            for (input, target) in batch.inputs.iter().zip(&batch.targets) {
                assert!(*target == IGNORE_INDEX || *target == input + 1);
            }
            all.extend(own);
        }
        all
    }

    #[test]
    fn every_target_comes_once() {
        for length in [2, 5, 8, 9, 10, 33, 100] {
            let batches =
                evaluation_batches(split(length, vec![]), RowLayout::causal(Layout::Stream, 4), 3, 0);
            assert_eq!(batches.len(), (length as usize - 1).div_ceil(4).div_ceil(3));
            assert_eq!(targets(batches), (1..length as i32).collect::<Vec<_>>(), "{length}");
        }
        assert_eq!(
            evaluation_batches(split(1, vec![]), RowLayout::causal(Layout::Stream, 4), 3, 0).count(),
            0
        );
        assert_eq!(
            evaluation_batches(split(0, vec![]), RowLayout::causal(Layout::Stream, 4), 3, 0).count(),
            0
        );
    }

    #[test]
    fn documents_do_not_predict_their_first_token() {
        let split = split(20, vec![0, 1, 2, 12, 13]);
        let batches = evaluation_batches(split, RowLayout::causal(Layout::Documents, 4), 2, 0);
        assert_eq!(targets(batches), (3..12).chain(14..20).collect::<Vec<_>>());
    }

    #[test]
    fn batches_have_one_shape() {
        let shapes: Vec<_> =
            evaluation_batches(split(30, vec![]), RowLayout::causal(Layout::Stream, 4), 3, 0)
                .map(|batch| (batch.rows, batch.inputs.len(), batch.target_tokens))
                .collect();
        assert_eq!(shapes, [(3, 12, 12), (3, 12, 12), (3, 12, 5)]);
        let only =
            evaluation_batches(split(9, vec![]), RowLayout::causal(Layout::Stream, 4), 64, 0).next().unwrap();
        assert_eq!(only.rows, 2);
    }

    #[test]
    fn a_limit_takes_windows_from_everywhere() {
        let read = || -> Vec<i32> {
            evaluation_batches(split(401, vec![]), RowLayout::causal(Layout::Stream, 4), 5, 2)
                .flat_map(|batch| batch.inputs.into_iter().step_by(4))
                .collect()
        };
        assert_eq!(read(), (0..10).map(|i| 40 * i).collect::<Vec<_>>());
        assert_eq!(read(), read());
        let all = evaluation_batches(split(41, vec![]), RowLayout::causal(Layout::Stream, 4), 5, 99);
        assert_eq!(targets(all), (1..41).collect::<Vec<_>>());
    }

    #[test]
    fn documents_without_an_answer_have_no_window() {
        // The token 9 is the delimiter: in the first document, not in the second, after a block in the third.
        let tokens = vec![1, 9, 2, 3, 4, 5, 6, 1, 2, 3, 1, 2, 3, 4, 5, 9, 6];
        let split = TokenSplit::from_tokens("validation", Tokens::U32(tokens), vec![0, 7, 10]);
        let split = Arc::new(split.with_completions_after(9));
        let batches: Vec<_> =
            evaluation_batches(split, RowLayout::causal(Layout::Documents, 4), 8, 0).collect();
        let n = IGNORE_INDEX;
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].targets, [n, 2, 3, 4, 5, 6, n, n]);
    }
}
