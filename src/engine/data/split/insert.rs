//! Insertion of tokens between those of a split, which stay where they are.

use super::{Part, Store, TokenSplit, Tokens};
use std::{ops::Range, sync::Arc};

impl TokenSplit {
    /// Inserts pieces of tokens, given by ascending positions, as parts between those of this split. Each
    /// piece is a document of its own if `are_documents`; it must then be at the beginning of a document or at
    /// the end of the split.
    pub(in crate::data) fn with_inserted(&self, pieces: Vec<(usize, Tokens)>, are_documents: bool) -> Self {
        let mut split = Self::empty(self.name).with_labels(self.labels.clone());
        let (mut documents, mut inserted) = (Vec::new(), Vec::new());
        let (mut read, mut next_document) = (0, 0);
        let mut copy_up_to = |split: &mut Self, documents: &mut Vec<usize>, end: usize| {
            while let Some(&start) = self.documents.get(next_document).filter(|&&start| start < end) {
                documents.push(start - read + split.len);
                next_document += 1;
            }
            split.share(self, read..end);
            read = end;
        };
        for (position, tokens) in pieces {
            copy_up_to(&mut split, &mut documents, position);
            let range = split.len..split.len + tokens.len();
            if are_documents || range.start == 0 {
                documents.push(range.start);
            }
            split.parts.push(Part {
                range: 0..tokens.len(),
                start: range.start,
                store: Arc::new(Store::Memory(tokens)),
            });
            split.len = range.end;
            inserted.push(range);
        }
        copy_up_to(&mut split, &mut documents, self.len);
        if !are_documents {
            documents.truncate(1);
        }
        split.documents = documents.into();
        split.inserted = inserted.into();
        split
    }

    /// Appends the parts of `range` of another split, without its documents.
    pub(super) fn share(&mut self, other: &Self, range: Range<usize>) {
        for part in &other.parts {
            let start = range.start.clamp(part.start, part.start + part.range.len());
            let end = range.end.clamp(start, part.start + part.range.len());
            if start < end {
                let offset = part.range.start;
                self.parts.push(Part {
                    store: part.store.clone(),
                    range: start - part.start + offset..end - part.start + offset,
                    start: self.len,
                });
                self.len += end - start;
            }
        }
    }
}
