//! Documents that are packed into a row: their tokens, and the blocks of queries that attention works on.

use crate::attention::PADDING;
use std::ops::Range;

/// Documents of the tokens of all rows.
pub struct Documents {
    /// Range of the tokens of each token's document, `[B * T]`, counted within the row; empty for padding.
    ranges: Vec<Range<usize>>,
    time: usize,
}

impl Documents {
    /// Finds the documents by their numbers, `[B, T]`.
    pub fn of(numbers: &[i32], time: usize) -> Self {
        let mut ranges = Vec::with_capacity(numbers.len());
        for row in numbers.chunks(time.max(1)) {
            let mut start = 0;
            for document in row.chunk_by(|a, b| a == b) {
                let end = start + document.len();
                let range = if document[0] == PADDING { start..start } else { start..end };
                ranges.extend(std::iter::repeat_n(range, document.len()));
                start = end;
            }
        }
        Self { ranges, time }
    }

    /// Range of the tokens of a token's document.
    pub fn range(&self, batch: usize, token: usize) -> &Range<usize> {
        &self.ranges[batch * self.time + token]
    }

    /// End of the block of queries that begins with `first` and has at most `longest` queries. It ends with the
    /// document of `first` if that began before it, so that only documents that begin in a block share its
    /// scores. Padding has one block, however long it is.
    pub fn block_end(&self, batch: usize, first: usize, longest: usize) -> usize {
        let is_padding = |token: &usize| self.range(batch, *token).is_empty();
        let next = |end: usize, of_padding: bool| {
            (first..end).find(|token| is_padding(token) != of_padding).unwrap_or(end)
        };
        if is_padding(&first) {
            return next(self.time, true);
        }
        let (own, end) = (self.range(batch, first), (first + longest).min(self.time));
        next(if own.start < first { end.min(own.end) } else { end }, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_not_continued_together_with_the_next() {
        let p = PADDING;
        let documents = Documents::of(&[0, 0, 0, 0, 0, 1, 1, 2, p, p, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1], 10);
        assert_eq!(
            (documents.range(0, 3), documents.range(0, 6), documents.range(1, 0)),
            (&(0..5), &(5..7), &(0..1))
        );
        assert!(documents.range(0, 8).is_empty() && documents.range(0, 9).is_empty());
        let blocks = |batch| {
            let (mut ends, mut first) = (Vec::new(), 0);
            while first < 10 {
                first = documents.block_end(batch, first, 3);
                ends.push(first);
            }
            ends
        };
        assert_eq!((blocks(0), blocks(1)), (vec![3, 5, 8, 10], vec![3, 6, 9, 10]));
    }
}
