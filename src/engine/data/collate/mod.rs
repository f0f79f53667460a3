//! Collation: each objective has a rule by which rows of tokens become inputs and targets.

mod masked;
mod spans;

use super::{Example, HostBatch, IGNORE_INDEX, Labels, TokenSplit, Width, packing};
use crate::{
    config::{Architecture, Config, Layout, ObjectiveKind},
    error::{Error, Result, hint},
    tokenizer::{END_OF_TEXT, MASK, Tokenizer, sentinel},
};
use masked::Masking;
use rand_chacha::ChaCha8Rng;
use spans::SpanCorruption;
use std::ops::Range;

/// Rule by which rows of a split become examples with inputs and targets.
#[derive(Debug, Clone)]
pub enum Collator {
    /// Predict the next token from those before it.
    Causal {
        /// Whether the tokens up to the delimiter before a completion attend to each other (prefix
        /// attention).
        prefix: bool,
    },
    /// Predict masked tokens.
    Masked(Masking),
    /// Predict spans that are cut out of the row.
    Spans(SpanCorruption),
    /// Predict a target text from a source text.
    Pairs { start: i32, end: Option<i32> },
    /// Predict the class of a text, or a number.
    Texts,
    /// Predict the class of each token.
    Tokens,
}

/// Texts of the special tokens that the objective of a configuration needs.
pub fn special_tokens(config: &Config) -> Vec<String> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match config.objective_kind() {
        _ if config.model.architecture == Architecture::Decoder => Vec::new(),
        ObjectiveKind::Seq2seq => names(&[END_OF_TEXT]),
        ObjectiveKind::SpanCorruption => {
            let objective = &config.objective;
            let block_size = config.model.block_size;
            let spans =
                SpanCorruption::spans(objective.mask_fraction, objective.mean_span_length, block_size);
            let sentinels = (0..spans).map(sentinel);
            names(&[END_OF_TEXT]).into_iter().chain(sentinels).collect()
        }
        // Those of an encoder.
        _ if config.layout() == Layout::Documents => names(&[MASK, CLS_TOKEN, SEP_TOKEN]),
        _ => names(&[MASK]),
    }
}

/// Texts of BERT's tokens at the beginning and the end of a text.
pub const CLS_TOKEN: &str = "[CLS]";
pub const SEP_TOKEN: &str = "[SEP]";

impl Collator {
    /// Makes the collator of a validated configuration.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer lacks a token that the objective needs.
    pub fn of(config: &Config, tokenizer: &Tokenizer) -> Result<Self> {
        let (model, objective) = (&config.model, &config.objective);
        let lacks = |what: &str| Error::Tokenizer {
            origin: "of this run".into(),
            message: format!("has no {what}"),
            hint: Some(hint![
                "take one that has, or let kiln make one (",
                hint::set("tokenizer.kind", "bpe"),
                ")"
            ]),
        };
        let token = |token: u32| token as i32;
        let (start, end) = (model.decoder_start_token as i32, tokenizer.end_of_text().map(token));
        Ok(match config.objective_kind() {
            ObjectiveKind::CausalLm
            | ObjectiveKind::Sft
            | ObjectiveKind::Dpo
            | ObjectiveKind::Orpo
            | ObjectiveKind::Simpo
            | ObjectiveKind::Kto
            | ObjectiveKind::Ppo
            | ObjectiveKind::Grpo
            | ObjectiveKind::Rloo
            | ObjectiveKind::Distill => Self::Causal { prefix: model.attention.prefix },
            ObjectiveKind::TokenClassification => Self::Tokens,
            ObjectiveKind::SequenceClassification | ObjectiveKind::Regression | ObjectiveKind::Reward => {
                Self::Texts
            }
            ObjectiveKind::MaskedLm => {
                let mask_token = tokenizer.mask_token().ok_or_else(|| lacks("`[MASK]` to hide tokens by"))?;
                let ends = [CLS_TOKEN, SEP_TOKEN, "[PAD]", "<pad>"].iter();
                let ends = ends.filter_map(|name| tokenizer.token_id(name)).chain(tokenizer.end_of_text());
                Self::Masked(Masking {
                    fraction: objective.mask_fraction,
                    whole_words: objective.whole_words.then(|| tokenizer.clone()),
                    mask_token: token(mask_token),
                    vocab_size: tokenizer.vocab_size(),
                    special: ends.map(token).collect(),
                })
            }
            ObjectiveKind::Seq2seq => {
                let end = Some(end.ok_or_else(|| lacks("token that ends a text"))?);
                Self::Pairs { start, end }
            }
            ObjectiveKind::SpanCorruption => {
                let sentinels: Vec<i32> = tokenizer.sentinels().into_iter().map(token).collect();
                if sentinels.is_empty() {
                    return Err(lacks("`<extra_id_0>` to cut stretches out by"));
                }
                Self::Spans(SpanCorruption {
                    fraction: objective.mask_fraction,
                    mean_length: objective.mean_span_length,
                    sentinels,
                    start,
                    end,
                })
            }
        })
    }

    /// Whether each row is one document from its beginning, even if it is longer than a block.
    pub fn takes_documents(&self) -> bool {
        matches!(self, Self::Pairs { .. } | Self::Texts | Self::Tokens)
    }

    /// Number of documents of a split that are longer than a block, so that their rows are truncated. Dialogues were
    /// truncated when they became rows.
    pub fn cut_documents(&self, split: &TokenSplit, block_size: usize) -> usize {
        if let Labels::Dialogues(labels) = split.labels() {
            return labels.truncated;
        }
        let needed = |document| self.block_for(split, document);
        match self.takes_documents() {
            true => (0..split.document_count()).filter(|&document| needed(document) > block_size).count(),
            false => 0,
        }
    }

    /// Length of the longest row, at least `block_size`, if rows are documents; otherwise `block_size`.
    pub fn longest_row(&self, split: &TokenSplit, block_size: usize) -> usize {
        let documents = 0..if self.takes_documents() { split.document_count() } else { 0 };
        documents.map(|document| self.block_for(split, document)).fold(block_size, usize::max)
    }

    /// Length of the row that a document needs.
    fn block_for(&self, split: &TokenSplit, document: usize) -> usize {
        let length = split.document(document).len();
        match (self, split.labels()) {
            (Self::Pairs { .. }, Labels::TargetTexts(begins)) => {
                let source = begins[document].min(length);
                // Each of the two ends with a token of its own.
                source.max(length - source) + 1
            }
            (Self::Pairs { .. }, _) => length + 1,
            _ => length,
        }
    }

    /// Minimum number of tokens in a usable document.
    pub fn least_tokens(&self) -> usize {
        if self.takes_documents() || matches!(self, Self::Masked(_)) { 1 } else { 2 }
    }

    /// Whether the row at the beginning of a document has a target. The rows of dialogues were checked when
    /// they were made; prompts need none.
    pub fn has_target(&self, split: &TokenSplit, document: usize, block_size: usize) -> bool {
        if split.is_dialogues() {
            return true;
        }
        let range = split.document(document);
        let (length, first) = (range.len(), range.start..range.start + range.len().min(block_size));
        let has_one = || match (self, split.labels()) {
            (Self::Causal { .. }, Labels::Completions(delimiters)) => {
                delimiters[document].is_some_and(|delimiter| delimiter + 1 < length.min(block_size + 1))
            }
            (Self::Tokens, Labels::TokenClasses(classes)) => {
                classes[first].iter().any(|&class| class != IGNORE_INDEX)
            }
            // Mostly the first token tells.
            (Self::Masked(masking), _) => {
                first.into_iter().any(|at| masking.has_target(&split.read(at..at + 1)))
            }
            _ => true,
        };
        length >= self.least_tokens() && has_one()
    }

    /// Whether a labelled document is longer than a row, so that it is truncated.
    pub fn is_cut(&self, split: &TokenSplit, document: usize, block_size: usize) -> bool {
        let length = split.document(document).len();
        match (self, split.labels()) {
            (Self::Causal { .. }, Labels::Completions(_)) => length > block_size + 1,
            (Self::Pairs { .. }, Labels::TargetTexts(begins)) => {
                // One position of either text is for its end.
                let middle = begins[document].min(length);
                middle.max(length - middle) > block_size.saturating_sub(1).max(1)
            }
            (Self::Texts | Self::Tokens, _) => length > block_size,
            _ => false,
        }
    }

    /// Collates the token ranges of a split into a batch of `count` rows. Each range has at most one block
    /// and one token; further rows have no targets. `random` makes the random generator of a row by its index
    /// in the batch.
    pub fn batch(
        &self,
        split: &TokenSplit,
        ranges: &[Range<usize>],
        count: usize,
        block_size: usize,
        mut random: impl FnMut(usize) -> ChaCha8Rng,
    ) -> HostBatch {
        let row = |(number, range): (usize, &Range<usize>)| {
            let tokens = split.read(range.clone());
            self.row(split, range.start, tokens, block_size, &mut random(number))
        };
        let rows = ranges.iter().enumerate().map(row).collect();
        let width = match self {
            Self::Causal { .. } if !split.is_dialogues() => Width::Fixed,
            Self::Texts => Width::LongestWithOneTarget,
            _ => Width::Longest,
        };
        let rows_per_example = split.rows_per_example();
        HostBatch { rows_per_example, ..HostBatch::of(rows, count, width, block_size) }
    }

    /// Collates rows of several documents, given by their token ranges, like [`batch`](Self::batch). The documents
    /// of a row have one block together.
    pub(super) fn packed_batch(
        &self,
        split: &TokenSplit,
        rows: &[Vec<Range<usize>>],
        block_size: usize,
        mut random: impl FnMut(usize) -> ChaCha8Rng,
    ) -> HostBatch {
        let row = |(number, documents): (usize, &Vec<Range<usize>>)| {
            let mut random = random(number);
            let examples = documents.iter().map(|range| {
                self.row(split, range.start, split.read(range.clone()), block_size, &mut random)
            });
            packing::joined(examples)
        };
        let examples = rows.iter().enumerate().map(row).collect();
        HostBatch::of(examples, rows.len(), Width::Fixed, block_size)
    }

    fn row(
        &self,
        split: &TokenSplit,
        start: usize,
        mut tokens: Vec<i32>,
        block_size: usize,
        random: &mut ChaCha8Rng,
    ) -> Example {
        match self {
            Self::Causal { prefix } => {
                let without_loss = match split.labels() {
                    Labels::Dialogues(labels) => {
                        return labels.example(split.document_at(start), start, tokens);
                    }
                    Labels::Completions(delimiters) => {
                        let document = split.document_at(start);
                        let before = start - split.document(document).start;
                        delimiters[document].map_or(usize::MAX, |delimiter| delimiter.saturating_sub(before))
                    }
                    _ => 0,
                };
                causal(without_loss, *prefix, tokens)
            }
            Self::Masked(masking) => {
                tokens.truncate(block_size);
                masking.row(tokens, random)
            }
            Self::Spans(corruption) => {
                // One position is for the end.
                tokens.truncate(block_size.saturating_sub(1).max(1));
                corruption.row(&tokens, random)
            }
            Self::Pairs { start: first, end } => {
                let document = split.document_at(start);
                let whole = split.read(split.document(document));
                let middle = match split.labels() {
                    Labels::TargetTexts(begins) => begins[document].min(whole.len()),
                    _ => whole.len(),
                };
                let (source, target) = whole.split_at(middle);
                let longest = block_size.saturating_sub(1).max(1);
                let cut = |part: &[i32]| part[..part.len().min(longest)].to_vec();
                let mut row = Example { inputs: cut(source), targets: cut(target), ..Example::default() };
                spans::finish(&mut row, *first, *end);
                row
            }
            Self::Texts => {
                tokens.truncate(block_size);
                let document = split.document_at(start);
                let (target, value) = match split.labels() {
                    Labels::Classes(classes) => (classes[document], None),
                    Labels::Values(values) => (0, Some(values[document])),
                    Labels::Dialogues(labels) => (0, labels.value(document)),
                    _ => (IGNORE_INDEX, None),
                };
                Example { inputs: tokens, targets: vec![target], value, ..Example::default() }
            }
            Self::Tokens => {
                tokens.truncate(block_size);
                let targets = match split.labels() {
                    Labels::TokenClasses(classes) => classes[start..start + tokens.len()].to_vec(),
                    _ => vec![IGNORE_INDEX; tokens.len()],
                };
                Example { inputs: tokens, targets, ..Example::default() }
            }
        }
    }
}

/// Makes an example of next-token prediction: all tokens but the last are inputs, all but the first are
/// targets. The first `without_loss` targets, up to the delimiter before a completion, do not count in the
/// loss.
fn causal(without_loss: usize, prefix: bool, tokens: Vec<i32>) -> Example {
    let mut targets = tokens.get(1..).unwrap_or_default().to_vec();
    let mut inputs = tokens;
    inputs.truncate(targets.len());
    let ignored = without_loss.min(targets.len());
    targets[..ignored].fill(IGNORE_INDEX);
    // The delimiter itself is an input too.
    let prefix = if prefix && ignored > 0 { ignored + 1 } else { 0 };
    Example { inputs, targets, prefix, ..Example::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::data::Tokens;

    #[test]
    fn what_precedes_an_answer_has_no_loss_and_sees_itself() {
        let row = causal(2, true, vec![1, 2, 9, 3, 4]);
        assert_eq!(row.inputs, [1, 2, 9, 3]);
        assert_eq!(row.targets, [IGNORE_INDEX, IGNORE_INDEX, 3, 4]);
        assert_eq!(row.prefix, 3);
        let plain = causal(0, true, vec![1, 2, 3]);
        assert_eq!((plain.targets, plain.prefix), (vec![2, 3], 0));
        assert_eq!(causal(0, false, vec![1]), Example::default());
        assert_eq!(causal(usize::MAX, false, vec![1, 2]).targets, [IGNORE_INDEX]);
    }

    #[test]
    fn only_what_follows_the_first_mark_of_a_document_is_a_target() {
        const MARK: u32 = 9;
        // The delimiter in the middle, first, twice, last, nowhere, and after the first block.
        let documents: [&[u16]; 6] =
            [&[1, 2, 9, 3, 4], &[9, 1, 2], &[1, 9, 2, 9, 3], &[1, 2, 9], &[1, 2, 3], &[1, 2, 3, 4, 5, 9, 6]];
        let mut starts = vec![0];
        starts.extend(documents.iter().scan(0, |end, document| {
            *end += document.len();
            Some(*end)
        }));
        starts.pop();
        let split = TokenSplit::from_tokens("train", Tokens::U16(documents.concat()), starts);
        let split = split.with_completions_after(MARK);
        let rows = Collator::Causal { prefix: false };
        let (block_size, n) = (4, IGNORE_INDEX);
        let has_target: Vec<bool> = (0..6).map(|index| rows.has_target(&split, index, block_size)).collect();
        assert_eq!(has_target, [true, true, true, false, false, false]);
        let targets = |document: usize, from: usize| {
            let range = split.document(document);
            let start = range.start + from;
            let range = start..range.end.min(start + block_size + 1);
            let random = |_| crate::data::random::rng(0, 0, "rows");
            rows.batch(&split, &[range], 1, block_size, random).targets
        };
        assert_eq!(targets(0, 0), [n, n, 3, 4]);
        assert_eq!(targets(1, 0), [1, 2, n, n]);
        assert_eq!(targets(2, 0), [n, 2, 9, 3]);
        for document in 3..6 {
            assert_eq!(targets(document, 0), [n; 4]);
        }
        // Windows of an evaluation: one that begins behind the delimiter is a completion as a whole.
        assert_eq!(targets(2, 2), [9, 3, n, n]);
        assert_eq!(targets(5, 4), [n, 6, n, n]);
        assert!(!rows.is_cut(&split, 0, block_size) && rows.is_cut(&split, 5, block_size));
    }

    #[test]
    fn classes_that_are_cut_off_leave_no_target() {
        let tokens = Tokens::U16(vec![1, 2, 3, 4, 5, 6]);
        let classes = vec![IGNORE_INDEX, IGNORE_INDEX, 1, IGNORE_INDEX, 0, IGNORE_INDEX];
        let split = TokenSplit::from_tokens("train", tokens, vec![0, 3]);
        let split = split.with_labels(Labels::TokenClasses(classes.into()));
        let has = |block_size| [0, 1].map(|index| Collator::Tokens.has_target(&split, index, block_size));
        assert_eq!((has(3), has(2)), ([true, true], [false, true]));
        assert!(Collator::Tokens.is_cut(&split, 0, 2) && !Collator::Tokens.is_cut(&split, 0, 3));
    }
}
