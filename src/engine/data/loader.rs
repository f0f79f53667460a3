//! Selects and collates the rows of every training step from a split.

use super::{Collator, Cursor, HostBatch, TokenSplit, packing::Packing, permutation::Permutation, random};
use crate::{
    config::{Config, Layout, Order},
    error::{Error, Result, hint},
    tokenizer::Tokenizer,
};
use std::{ops::Range, sync::Arc};

/// Rule by which rows are taken from a split and collated.
#[derive(Debug, Clone)]
pub struct RowLayout {
    pub kind: Layout,
    /// Maximum number of tokens in a row.
    pub block_size: usize,
    pub collator: Collator,
    /// Whether training rows hold several documents each.
    pub packing: bool,
}

impl RowLayout {
    /// Makes the layout of a validated configuration.
    ///
    /// # Errors
    /// Those of [`Collator::of`].
    pub fn of(config: &Config, tokenizer: &Tokenizer) -> Result<Self> {
        let block_size = config.model.block_size;
        Ok(Self {
            kind: config.layout(),
            block_size,
            collator: Collator::of(config, tokenizer)?,
            packing: config.data.packing,
        })
    }

    /// Layout of rows in which each token is predicted from those before it.
    pub fn causal(kind: Layout, block_size: usize) -> Self {
        Self { kind, block_size, collator: Collator::Causal { prefix: false }, packing: false }
    }
}

/// Reads rows of a split. It has no state: any row of any step can be read at any time.
pub struct Loader {
    split: Arc<TokenSplit>,
    layout: RowLayout,
    order: Order,
    rows_per_step: usize,
    seed: u64,
    fingerprint: String,
    /// Number of different samples: start positions, blocks, documents, or rows of packed documents.
    samples: u64,
    /// Indices of the documents that have a target; `None` if all have one.
    documents: Option<Vec<usize>>,
    /// Documents of each row, if rows are packed.
    packing: Option<Packing>,
}

impl Loader {
    /// Makes a loader. `rows_per_step` is the number of rows in an optimizer step, over all micro-batches and
    /// devices.
    ///
    /// # Errors
    /// [`Error::CorpusTooShort`] if the split has no full block; [`Error::InvalidValue`] if rows are
    /// documents and none of them has a target, or if all rows would be the beginning of one long document.
    pub fn new(
        split: Arc<TokenSplit>,
        layout: RowLayout,
        order: Order,
        rows_per_step: usize,
        seed: u64,
    ) -> Result<Self> {
        let RowLayout { kind, block_size, ref collator, packing: packs } = layout;
        check_split(&split, &layout)?;
        let (mut documents, mut packing) = (None, None);
        let mut fingerprint = split.fingerprint();
        let samples = match (kind, order) {
            (Layout::Stream, Order::Random) => split.len() - block_size,
            (Layout::Stream, Order::Shuffled) => (split.len() - 1) / block_size,
            (Layout::Documents, _) => {
                let all = 0..split.document_count();
                let is_long = |index: &usize| split.document(*index).len() >= collator.least_tokens();
                let long = all.clone().filter(is_long).count();
                let usable: Vec<usize> =
                    all.filter(|&index| collator.has_target(&split, index, block_size)).collect();
                // Every row of dialogues can be used.
                let count = usable.len() / split.rows_per_example();
                // The tokens do not say which documents are left out for want of a target.
                if usable.len() < long {
                    fingerprint = format!("{fingerprint}-{count}");
                }
                if count == 1
                    && !collator.takes_documents()
                    && split.document(usable[0]).len() > block_size + 1
                {
                    return Err(one_long_document(&split));
                }
                if packs {
                    // The last token of a document is a target only.
                    let length = |index| (split.document(index).len() - 1).clamp(1, block_size);
                    let lengths = usable.into_iter().map(|index| (index, length(index)));
                    let packed = packing.insert(Packing::best_fit(lengths.collect(), block_size, seed));
                    packed.rows()
                } else {
                    documents = (usable.len() < split.document_count()).then_some(usable);
                    count
                }
            }
        };
        let samples = samples as u64;
        Ok(Self { split, layout, order, rows_per_step, seed, fingerprint, samples, documents, packing })
    }

    /// Reads some examples of a step, counted from 0: rows, or pairs of rows. They do not depend on how they are
    /// grouped: `rows(s, 0..4)` is `rows(s, 0..2)` followed by `rows(s, 2..4)`.
    pub fn rows(&self, step: u64, rows: Range<usize>) -> HostBatch {
        let first = rows.start;
        let samples = self.samples(step, rows);
        let random = |index: usize| {
            let mut random = random::rng(self.seed, step, "hidden");
            random.set_stream((first + index) as u64);
            random
        };
        let RowLayout { block_size, ref collator, .. } = self.layout;
        if self.packing.is_some() {
            let rows: Vec<_> = samples.iter().map(|&(sample, _)| self.documents_of(sample)).collect();
            return collator.packed_batch(&self.split, &rows, block_size, random);
        }
        let rows_of = |&(sample, offset): &(usize, usize)| {
            let rows = self.split.rows_per_example();
            (sample * rows..(sample + 1) * rows).map(move |row| self.tokens_of(row, offset))
        };
        let ranges: Vec<_> = samples.iter().flat_map(rows_of).collect();
        collator.batch(&self.split, &ranges, ranges.len(), block_size, random)
    }

    /// Notes for the user on the rows.
    pub fn notes(&self) -> Vec<String> {
        let packing = self.packing.as_ref();
        packing.map(|packing| packing.describe(self.layout.block_size)).into_iter().collect()
    }

    /// Lists the positions in the split at which the rows of a step begin, for messages.
    pub fn describe(&self, step: u64) -> String {
        const SHOWN: usize = 8;
        let samples = self.samples(step, 0..self.rows_per_step.min(SHOWN)).into_iter();
        let start = |(sample, offset)| match &self.packing {
            Some(packing) => self.split.document(packing.row(sample)[0]).start,
            None => self.tokens_of(sample * self.split.rows_per_example(), offset).start,
        };
        let starts: Vec<String> = samples.map(start).map(|start| start.to_string()).collect();
        let more = if self.rows_per_step > SHOWN { ", …" } else { "" };
        format!("rows at tokens {}{more} of the {} split", starts.join(", "), self.split.name())
    }

    /// Samples that some rows of a step have, and the position of the first block in their epoch.
    fn samples(&self, step: u64, rows: Range<usize>) -> Vec<(usize, usize)> {
        let mut epoch: Option<Epoch> = None;
        let mut random = random::rng(self.seed, step, "rows");
        let sample_of = |row: usize| {
            let (sample, offset) = match self.order {
                Order::Random => {
                    random.set_stream(row as u64);
                    random.set_word_pos(0);
                    (random::below(&mut random, self.samples), 0)
                }
                Order::Shuffled => {
                    let position = step * self.rows_per_step as u64 + row as u64;
                    let number = position / self.samples;
                    let current = match epoch.take() {
                        Some(current) if current.number == number => current,
                        _ => self.begin_epoch(number),
                    };
                    let sample = current.permutation.at(position % self.samples);
                    (sample, epoch.insert(current).offset)
                }
            };
            (sample as usize, offset)
        };
        rows.map(sample_of).collect()
    }

    /// Number of passes over the split before `step`, including fractions.
    pub fn epoch(&self, step: u64) -> f64 {
        let rows = step as f64 * self.rows_per_step as f64;
        match (self.layout.kind, self.order) {
            // Targets read over targets there are.
            (Layout::Stream, Order::Random) => {
                rows * self.layout.block_size as f64 / (self.split.len() - 1) as f64
            }
            _ => rows / self.samples as f64,
        }
    }

    /// Data position for a checkpoint before `step`.
    pub fn cursor(&self, step: u64) -> Cursor {
        Cursor {
            seed: self.seed,
            step,
            epoch: self.epoch(step),
            order: self.order,
            layout: self.layout.kind,
            packing: self.packing.is_some(),
            block_size: self.layout.block_size,
            rows_per_step: self.rows_per_step,
            fingerprint: self.fingerprint.clone(),
        }
    }

    /// Token range of a row: its inputs and its last target. Of pairs, each row is a sample.
    fn tokens_of(&self, sample: usize, offset: usize) -> Range<usize> {
        let (start, end) = match (self.layout.kind, self.order) {
            (Layout::Stream, Order::Random) => (sample, self.split.len()),
            (Layout::Stream, Order::Shuffled) => (offset + sample * self.layout.block_size, self.split.len()),
            (Layout::Documents, _) => {
                let index = self.documents.as_ref().map_or(sample, |documents| documents[sample]);
                let document = self.split.document(index);
                (document.start, document.end)
            }
        };
        start..end.min(start + self.layout.block_size + 1)
    }

    /// Token ranges of the documents in a packed row: the inputs of each and its last target.
    fn documents_of(&self, row: usize) -> Vec<Range<usize>> {
        let documents = self.packing.as_ref().map_or(&[][..], |packing| packing.row(row));
        let tokens = |&index: &usize| {
            let Range { start, end } = self.split.document(index);
            start..end.min(start + self.layout.block_size + 1)
        };
        documents.iter().map(tokens).collect()
    }

    /// Starts an epoch. If the split is not a whole number of blocks, the first block begins at a random
    /// offset.
    fn begin_epoch(&self, number: u64) -> Epoch {
        let offset = match self.layout.kind {
            Layout::Stream => {
                let left_over = self.split.len() as u64 - 1 - self.samples * self.layout.block_size as u64;
                random::below(&mut random::rng(self.seed, number, "offset"), left_over + 1)
            }
            Layout::Documents => 0,
        };
        let permutation = Permutation::new(self.seed, number, self.samples);
        Epoch { number, permutation, offset: offset as usize }
    }
}

/// One pass in shuffled order.
struct Epoch {
    number: u64,
    permutation: Permutation,
    /// Position of the first block.
    offset: usize,
}

/// Refuses a split that has no row.
///
/// # Errors
/// [`Error::CorpusTooShort`] and [`Error::InvalidValue`].
pub(super) fn check_split(split: &TokenSplit, layout: &RowLayout) -> Result<()> {
    let RowLayout { kind, block_size, ref collator, .. } = *layout;
    let any = |is: &dyn Fn(usize) -> bool| (0..split.document_count()).any(is);
    match kind {
        Layout::Stream if split.len() <= block_size => {
            Err(Error::CorpusTooShort { split: split.name(), tokens: split.len(), needed: block_size + 1 })
        }
        Layout::Documents if !any(&|index| collator.has_target(split, index, block_size)) => {
            let tokens = match any(&|index| split.document(index).len() >= collator.least_tokens()) {
                true => "a target within `model.block_size`",
                false if collator.least_tokens() == 1 => "a token",
                false => "two tokens",
            };
            Err(Error::InvalidValue {
                key: "data.layout".into(),
                value: "documents".into(),
                message: format!("no document of the {} split has {tokens}", split.name()),
                hint: Some(hint!["give more text, or ", hint::set("data.layout", "stream")]),
            })
        }
        _ => Ok(()),
    }
}

fn one_long_document(split: &TokenSplit) -> Error {
    Error::InvalidValue {
        key: "data.layout".into(),
        value: "documents".into(),
        message: format!(
            "the {} split is one document, of which every row would be the same beginning",
            split.name()
        ),
        hint: Some(hint![
            "separate documents with `<|endoftext|>`, one JSONL record each or one file each, or ",
            hint::set("data.layout", "stream")
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{IGNORE_INDEX, Tokens},
        *,
    };
    use crate::kernels::attention::PADDING;
    use std::collections::BTreeMap;

    fn split(length: usize, documents: Vec<usize>) -> Arc<TokenSplit> {
        // Every token is its own position.
        let tokens = Tokens::U32((0..length as u32).collect());
        Arc::new(TokenSplit::from_tokens("train", tokens, documents))
    }

    fn loader(split: Arc<TokenSplit>, layout: Layout, order: Order, rows: usize, seed: u64) -> Loader {
        Loader::new(split, RowLayout::causal(layout, 4), order, rows, seed).unwrap()
    }

    /// The first input of every row.
    fn starts(batch: &HostBatch) -> Vec<i32> {
        batch.inputs.iter().step_by(batch.time).copied().collect()
    }

    #[test]
    fn random_rows_are_crops_of_the_stream() {
        let loader = loader(split(14, vec![]), Layout::Stream, Order::Random, 64, 1);
        let mut ranges = BTreeMap::new();
        for step in 0..50 {
            let batch = loader.rows(step, 0..64);
            assert_eq!((batch.rows, batch.time, batch.target_tokens), (64, 4, 256));
            for (inputs, targets) in batch.inputs.chunks(4).zip(batch.targets.chunks(4)) {
                let start = inputs[0];
                assert_eq!(inputs, [start, start + 1, start + 2, start + 3]);
                assert_eq!(targets, [start + 1, start + 2, start + 3, start + 4]);
                *ranges.entry(start).or_insert(0) += 1;
            }
        }
        // nanoGPT's torch.randint(len(data) - block_size): 0..=9, each about 320 times.
        assert_eq!(ranges.keys().copied().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(ranges.values().all(|count| (250..390).contains(count)), "{ranges:?}");
    }

    #[test]
    fn packed_rows_hold_every_document_once_an_epoch_in_any_grouping() {
        let split = split(60, vec![0, 3, 7, 8, 20, 24, 26, 31, 45, 50]);
        let layout = RowLayout { packing: true, ..RowLayout::causal(Layout::Documents, 8) };
        let loader = Loader::new(split.clone(), layout, Order::Shuffled, 3, 5).unwrap();
        assert!(
            loader.notes()[0].starts_with("9 documents are packed into 6 rows of 8 tokens"),
            "{:?}",
            loader.notes()
        );
        let batches: Vec<HostBatch> = (0..2).map(|step| loader.rows(step, 0..3)).collect();
        let parts = [0..1, 1..3].map(|rows| loader.rows(0, rows));
        assert_eq!(parts.map(|part| part.inputs).concat(), batches[0].inputs);
        let mut firsts = Vec::new();
        for batch in &batches {
            let positions = batch.positions().unwrap();
            for at in (0..batch.inputs.len()).filter(|at| batch.documents[*at] != PADDING) {
                // Every token is its own position; a document's first token is nobody's target.
                assert_eq!(batch.targets[at], batch.inputs[at] + 1);
                assert_eq!(
                    split.document_at(batch.targets[at] as usize),
                    split.document_at(batch.inputs[at] as usize)
                );
                if positions[at] == 0 {
                    firsts.push(batch.inputs[at]);
                }
            }
        }
        firsts.sort_unstable();
        // The document of one token has no target.
        assert_eq!(firsts, [0, 3, 8, 20, 24, 26, 31, 45, 50]);
        assert_eq!((loader.epoch(2), loader.cursor(2).packing), (1.0, true));
    }

    #[test]
    fn rows_do_not_depend_on_their_grouping() {
        for (layout, order) in [
            (Layout::Stream, Order::Random),
            (Layout::Stream, Order::Shuffled),
            (Layout::Documents, Order::Random),
            (Layout::Documents, Order::Shuffled),
        ] {
            let loader = loader(split(103, vec![0, 3, 10, 50, 51, 80]), layout, order, 12, 5);
            for step in [0, 3, 1000] {
                let whole = loader.rows(step, 0..12);
                let mut inputs = Vec::new();
                let mut targets = Vec::new();
                for rows in [0..1, 1..6, 6..12] {
                    let part = loader.rows(step, rows);
                    inputs.extend(part.inputs);
                    targets.extend(part.targets);
                }
                assert_eq!((inputs, targets), (whole.inputs, whole.targets), "{layout:?} {order:?}");
            }
        }
    }

    #[test]
    fn seeds_and_steps_give_other_rows() {
        let rows = |seed, step| {
            starts(&loader(split(10_000, vec![]), Layout::Stream, Order::Random, 8, seed).rows(step, 0..8))
        };
        assert_eq!(rows(1, 0), rows(1, 0));
        assert_ne!(rows(1, 0), rows(2, 0));
        assert_ne!(rows(1, 0), rows(1, 1));
    }

    #[test]
    fn shuffled_blocks_come_once_per_epoch() {
        // (50 - 1) / 4 = 12 blocks; 5 rows a step do not divide them.
        let loader = loader(split(50, vec![]), Layout::Stream, Order::Shuffled, 5, 3);
        let all: Vec<i32> = (0..60).flat_map(|step| starts(&loader.rows(step, 0..5))).collect();
        let mut orders = Vec::new();
        for epoch in all.chunks(12) {
            let offset = *epoch.iter().min().unwrap();
            assert!((0..=1).contains(&offset));
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..12).map(|block| offset + 4 * block).collect::<Vec<_>>());
            orders.push(epoch.to_vec());
        }
        assert_ne!(orders[0], orders[1]);
        assert!((loader.epoch(12) - 5.0).abs() < 1e-12);
    }

    #[test]
    fn documents_are_cut_and_padded() {
        // Lengths 3, 1, 6 and 2: the second has no target.
        let split = split(12, vec![0, 3, 4, 10]);
        let loader = loader(split, Layout::Documents, Order::Shuffled, 3, 9);
        let mut rows = BTreeMap::new();
        let batch = loader.rows(0, 0..3);
        for (inputs, targets) in batch.inputs.chunks(4).zip(batch.targets.chunks(4)) {
            rows.insert(inputs[0], (inputs.to_vec(), targets.to_vec()));
        }
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[&0], (vec![0, 1, 0, 0], vec![1, 2, IGNORE_INDEX, IGNORE_INDEX]));
        assert_eq!(rows[&4], (vec![4, 5, 6, 7], vec![5, 6, 7, 8]));
        assert_eq!(rows[&10], (vec![10, 0, 0, 0], vec![11, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX]));
        assert_eq!(batch.target_tokens, 2 + 4 + 1);
        assert!((loader.epoch(2) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn too_little_text_is_refused() {
        let build = |split, layout| {
            Loader::new(split, RowLayout::causal(layout, 4), Order::Random, 1, 0)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert!(build(split(5, vec![]), Layout::Stream).is_ok());
        let error = build(split(4, vec![]), Layout::Stream).unwrap_err();
        assert!(error.starts_with("the train split has 4 tokens, but one block needs 5"));
        assert!(build(split(3, vec![0, 1, 2]), Layout::Documents).unwrap_err().contains("has two tokens"));
        assert!(build(split(5, vec![]), Layout::Documents).is_ok());
        assert!(build(split(6, vec![]), Layout::Documents).unwrap_err().contains("one document"));
    }
}
