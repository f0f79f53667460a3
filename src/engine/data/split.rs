//! The tokens of a split, in memory or mapped from shards, and the positions at which its documents begin.

mod insert;

use super::DialogueLabels;
use crate::platform::storage::Mapped;
use sha2::{Digest, Sha256};
use std::{fmt, ops::Range, sync::Arc};

/// Tokens in memory, with two bytes each if the vocabulary allows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    U16(Vec<u16>),
    U32(Vec<u32>),
}

impl Tokens {
    /// An empty list for tokens of a vocabulary of this size.
    pub fn for_vocabulary(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 { Self::U16(Vec::new()) } else { Self::U32(Vec::new()) }
    }

    /// Appends tokens, which must be below the vocabulary size.
    pub fn extend(&mut self, tokens: &[u32]) {
        match self {
            Self::U16(own) => own.extend(tokens.iter().map(|&token| token as u16)),
            Self::U32(own) => own.extend_from_slice(tokens),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::U16(own) => own.len(),
            Self::U32(own) => own.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Storage of tokens.
pub(super) enum Store {
    Memory(Tokens),
    /// Mapped little-endian integers; the file contains a whole number of tokens.
    MappedU16(Mapped),
    MappedU32(Mapped),
}

impl Store {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Memory(tokens) => tokens.len(),
            Self::MappedU16(bytes) => bytes.len() / 2,
            Self::MappedU32(bytes) => bytes.len() / 4,
        }
    }

    fn copy(&self, range: Range<usize>, into: &mut [i32]) {
        match self {
            Self::Memory(Tokens::U16(tokens)) => fill(into, tokens[range].iter().map(|&t| i32::from(t))),
            Self::Memory(Tokens::U32(tokens)) => fill(into, tokens[range].iter().map(|&t| t as i32)),
            Self::MappedU16(bytes) => {
                let (tokens, _) = bytes[2 * range.start..2 * range.end].as_chunks();
                fill(into, tokens.iter().map(|&t| i32::from(u16::from_le_bytes(t))));
            }
            Self::MappedU32(bytes) => {
                let (tokens, _) = bytes[4 * range.start..4 * range.end].as_chunks();
                fill(into, tokens.iter().map(|&t| u32::from_le_bytes(t) as i32));
            }
        }
    }
}

fn fill(into: &mut [i32], tokens: impl Iterator<Item = i32>) {
    for (slot, token) in into.iter_mut().zip(tokens) {
        *slot = token;
    }
}

/// A contiguous piece of a store.
#[derive(Clone)]
struct Part {
    store: Arc<Store>,
    /// Range of tokens in the store.
    range: Range<usize>,
    /// Position of the first of these tokens in the split.
    start: usize,
}

impl Labels {
    /// Whether the labels are texts, for which an exact match is computed.
    pub fn are_texts(&self) -> bool {
        matches!(self, Self::Completions(_) | Self::TargetTexts(_))
    }
}

/// Concatenated tokens of one split. Clones share them.
#[derive(Clone)]
pub struct TokenSplit {
    name: &'static str,
    parts: Vec<Part>,
    len: usize,
    documents: Arc<[usize]>,
    labels: Labels,
    /// Ranges of the canaries, ascending.
    inserted: Arc<[Range<usize>]>,
}

/// Labels of the documents in a split.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// No labels: the targets are the documents' own tokens.
    None,
    /// Completions after a delimiter. For each document, the position of the first delimiter in it, if there
    /// is one.
    Completions(Arc<[Option<usize>]>),
    /// Target texts, which follow their source in the document. For each document, the position at which the
    /// target begins.
    TargetTexts(Arc<[usize]>),
    /// Class of each document.
    Classes(Arc<[i32]>),
    /// Class of each token, or [`IGNORE_INDEX`](super::IGNORE_INDEX).
    TokenClasses(Arc<[i32]>),
    /// Target number of each document.
    Values(Arc<[f32]>),
    /// Weights of the tokens of dialogues. Each document is a row.
    Dialogues(DialogueLabels),
}

impl TokenSplit {
    /// Makes a split of tokens in memory. `documents` contains the positions at which documents begin,
    /// ascending from 0; if it is empty, there is one document. `name` is used in messages: `train` or
    /// `validation`.
    pub fn from_tokens(name: &'static str, tokens: Tokens, documents: Vec<usize>) -> Self {
        let mut split = Self::empty(name);
        split.push(Store::Memory(tokens), documents);
        split
    }

    /// Makes a split without tokens.
    pub fn empty(name: &'static str) -> Self {
        Self {
            name,
            parts: Vec::new(),
            len: 0,
            documents: Arc::new([]),
            labels: Labels::None,
            inserted: Arc::new([]),
        }
    }

    /// Sets the documents' labels.
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Sets the labels to the completions after the first `token` in each document.
    pub fn with_completions_after(self, token: u32) -> Self {
        let delimiter = |index| self.read(self.document(index)).iter().position(|&own| own as u32 == token);
        let delimiters = (0..self.document_count()).map(delimiter).collect();
        self.with_labels(Labels::Completions(delimiters))
    }

    /// Whether documents are rows that are made of dialogues.
    pub fn is_dialogues(&self) -> bool {
        matches!(self.labels, Labels::Dialogues(_))
    }

    /// Number of adjacent documents of an example: 2 of a pair of answers, otherwise 1.
    pub fn rows_per_example(&self) -> usize {
        match &self.labels {
            Labels::Dialogues(labels) => labels.rows_per_example.max(1),
            _ => 1,
        }
    }

    /// Record of an example, by its number in a batch; null if the split keeps no records.
    pub fn record(&self, index: usize) -> &serde_json::Value {
        match &self.labels {
            Labels::Dialogues(labels) => labels.records.get(index).unwrap_or(&serde_json::Value::Null),
            _ => &serde_json::Value::Null,
        }
    }

    /// Appends a store. `documents` contains the positions in it at which documents begin; if it is empty,
    /// there is one document.
    pub(super) fn push(&mut self, store: Store, documents: Vec<usize>) {
        let len = store.len();
        if len > 0 {
            let part = Part { store: Arc::new(store), range: 0..len, start: 0 };
            let documents = if documents.is_empty() { vec![0] } else { documents };
            self.append(&Self {
                parts: vec![part],
                len,
                documents: documents.into(),
                ..Self::empty(self.name)
            });
        }
    }

    /// Appends another split, which shares its memory.
    pub(super) fn append(&mut self, other: &Self) {
        let added = other.documents.iter().map(|start| start + self.len);
        self.documents = self.documents.iter().copied().chain(added).collect();
        let moved = other.parts.iter().map(|part| Part { start: part.start + self.len, ..part.clone() });
        self.parts.extend(moved);
        self.len += other.len;
    }

    /// Makes a split of a range of this one, which shares its memory.
    pub(super) fn slice(&self, name: &'static str, range: Range<usize>) -> Self {
        let mut slice = Self::empty(name);
        slice.share(self, range.clone());
        let inside =
            self.documents.iter().filter(|start| range.contains(start)).map(|start| start - range.start);
        // A stretch that begins inside a document begins with the rest of it.
        let is_cut = slice.len > 0 && self.documents.binary_search(&range.start).is_err();
        slice.documents = is_cut.then_some(0).into_iter().chain(inside).collect();
        slice
    }

    /// Token ranges of the canaries, ascending; none without canaries.
    pub fn inserted(&self) -> &[Range<usize>] {
        &self.inserted
    }

    /// Name of the split: `train` or `validation`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn document_count(&self) -> usize {
        self.documents.len()
    }

    /// Token range of a document.
    ///
    /// # Panics
    /// If `index` is not below [`document_count`](Self::document_count).
    pub fn document(&self, index: usize) -> Range<usize> {
        self.documents[index]..self.documents.get(index + 1).copied().unwrap_or(self.len)
    }

    /// Index of the document that contains a position.
    ///
    /// # Panics
    /// If there are no documents.
    pub fn document_at(&self, position: usize) -> usize {
        self.documents.partition_point(|&start| start <= position) - 1
    }

    /// Reads the tokens in `range`.
    ///
    /// # Panics
    /// If `range` extends beyond the split.
    pub fn read(&self, range: Range<usize>) -> Vec<i32> {
        let mut tokens = vec![0; range.len()];
        self.copy(range, &mut tokens);
        tokens
    }

    /// Copies the tokens in `range` to `into`, which must have the same length.
    ///
    /// # Panics
    /// If `range` extends beyond the split.
    pub fn copy(&self, range: Range<usize>, into: &mut [i32]) {
        assert!(range.end <= self.len, "tokens {range:?} of {}", self.len);
        let mut index = self.parts.partition_point(|part| part.start + part.range.len() <= range.start);
        let mut done = 0;
        while done < range.len() {
            let part = &self.parts[index];
            let first = part.range.start + range.start + done - part.start;
            let count = (part.range.end - first).min(range.len() - done);
            part.store.copy(first..first + count, &mut into[done..done + count]);
            done += count;
            index += 1;
        }
    }

    /// Calls `visit` with all tokens in order, some at a time.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&[i32])) {
        const AT_ONCE: usize = 1 << 16;
        let mut buffer = vec![0; AT_ONCE.min(self.len)];
        for start in (0..self.len).step_by(AT_ONCE) {
            let count = AT_ONCE.min(self.len - start);
            self.copy(start..start + count, &mut buffer[..count]);
            visit(&buffer[..count]);
        }
    }

    /// Fingerprint of the split: 16 hexadecimal digits that depend on the number of tokens and documents, on
    /// labels, and on the tokens. Uses all tokens up to 4 million, otherwise 1024 evenly spaced windows of
    /// 4096, so that hundreds of gigabytes are opened in the same time.
    pub fn fingerprint(&self) -> String {
        const WINDOW: usize = 4096;
        const WINDOWS: usize = 1024;
        let mut hash = Sha256::new();
        hash.update((self.len as u64).to_le_bytes());
        hash.update((self.document_count() as u64).to_le_bytes());
        match &self.labels {
            Labels::None | Labels::Completions(_) => {}
            Labels::TargetTexts(begins) => {
                begins.iter().for_each(|begin| hash.update((*begin as u64).to_le_bytes()))
            }
            Labels::Classes(classes) | Labels::TokenClasses(classes) => {
                classes.iter().for_each(|class| hash.update(class.to_le_bytes()));
            }
            Labels::Values(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
            Labels::Dialogues(labels) => labels.hash(&mut hash),
        }
        let mut update = |tokens: &[i32]| {
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            hash.update(bytes);
        };
        if self.len <= WINDOW * WINDOWS {
            self.for_each(update);
        } else {
            let mut window = [0; WINDOW];
            for index in 0..WINDOWS as u64 {
                let start = index * (self.len - WINDOW) as u64 / (WINDOWS as u64 - 1);
                self.copy(start as usize..start as usize + WINDOW, &mut window);
                update(&window);
            }
            // The windows may pass over the canaries.
            for range in self.inserted.iter() {
                let start = range.start as u64;
                update(&[start as i32, (start >> 32) as i32]);
                update(&self.read(range.clone()));
            }
        }
        hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for TokenSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSplit")
            .field("name", &self.name)
            .field("len", &self.len)
            .field("documents", &self.documents.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(split: &TokenSplit, range: Range<usize>) -> Vec<i32> {
        let mut tokens = vec![0; range.len()];
        split.copy(range, &mut tokens);
        tokens
    }

    fn in_parts() -> TokenSplit {
        let mut split = TokenSplit::empty("train");
        split.push(Store::Memory(Tokens::U16(vec![0, 1, 2, 3])), vec![0, 2]);
        split.push(Store::Memory(Tokens::U32(Vec::new())), vec![]);
        split.push(Store::Memory(Tokens::U32(vec![4, 5, 70_000])), vec![]);
        split
    }

    #[test]
    fn parts_read_as_one() {
        let split = in_parts();
        assert_eq!((split.len(), split.document_count()), (7, 3));
        assert_eq!(read(&split, 0..7), [0, 1, 2, 3, 4, 5, 70_000]);
        assert_eq!(read(&split, 3..5), [3, 4]);
        assert_eq!(read(&split, 7..7), [0; 0]);
        assert_eq!([0, 1, 2].map(|i| split.document(i)), [0..2, 2..4, 4..7]);
        let mut seen = Vec::new();
        split.for_each(|tokens| seen.extend_from_slice(tokens));
        assert_eq!(seen, read(&split, 0..7));
    }

    #[test]
    fn slices_keep_documents() {
        let split = in_parts();
        let slice = split.slice("validation", 3..6);
        assert_eq!((slice.name(), read(&slice, 0..3)), ("validation", vec![3, 4, 5]));
        assert_eq!((slice.document(0), slice.document(1)), (0..1, 1..3));
        let slice = split.slice("train", 2..7).slice("train", 2..5);
        assert_eq!(read(&slice, 0..3), [4, 5, 70_000]);
        assert_eq!(slice.document_count(), 1);
        assert_eq!(split.slice("validation", 7..7).document_count(), 0);
    }

    #[test]
    fn fingerprints_see_tokens_and_not_their_storage() {
        let split = |tokens| TokenSplit::from_tokens("train", tokens, vec![]).fingerprint();
        assert_eq!(split(Tokens::U16(vec![1, 2, 3])), split(Tokens::U32(vec![1, 2, 3])));
        assert_ne!(split(Tokens::U16(vec![1, 2, 3])), split(Tokens::U16(vec![1, 2, 4])));
        let mut long = vec![0; 5_000_000];
        let before = split(Tokens::U16(long.clone()));
        long[4_999_999] = 1;
        assert_ne!(split(Tokens::U16(long)), before);
    }
}
