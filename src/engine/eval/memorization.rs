//! Measures what a decoder has learned by heart: the share of greedy continuations that are verbatim, which are
//! extractable (arXiv:2202.07646), overlaps of its texts with the training text, and the exposure of canaries.

pub use super::exposure::Exposure;

use crate::{
    config::{Layout, SampleConfig},
    data::{TokenSplit, random},
    error::Result,
    generate::Generator,
};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Figures of what a model has learned by heart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Memorization {
    /// Continuations of prompts from the training text; absent if it is too short for a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Extraction>,
    /// Continuations of prompts from the validation text, which the model has not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Extraction>,
    /// Overlaps of several kinds of texts with the training text.
    pub overlaps: Vec<OverlapReport>,
    pub canaries: Vec<Exposure>,
    pub seconds: f64,
}

/// Share of greedy continuations that are verbatim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Extraction {
    pub prompts: usize,
    /// Length of each prompt.
    pub prompt_tokens: usize,
    /// Length of each continuation.
    pub new_tokens: usize,
    /// Share of the prompts whose whole continuation is that of the text.
    pub verbatim: f64,
    /// Mean number of tokens that a continuation has in common with the text, from its beginning.
    pub mean_common_tokens: f64,
}

/// Longest verbatim overlaps of some texts with the training text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct OverlapReport {
    /// Kind of texts, such as `greedy text`.
    pub texts: String,
    /// Number of texts.
    pub count: usize,
    /// Mean over the texts of the longest overlap of each, in tokens.
    pub mean_tokens: f64,
    /// Length of the longest overlap of all.
    pub tokens: usize,
    pub characters: usize,
    /// The text of the longest overlap.
    pub text: String,
    /// Document of the training split that contains it, counted from 0.
    pub document: usize,
    /// Position of its first token in that document.
    pub offset: usize,
}

/// Lengths of a prompt and its continuation, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    pub prompt: usize,
    pub new: usize,
}

impl Lengths {
    /// The lengths for a model with this context: 50 tokens each, as in arXiv:2202.07646, or halves of a context
    /// that does not hold both.
    pub fn of_context(block_size: usize) -> Self {
        const USUAL: usize = 50;
        let new = USUAL.min(block_size / 2).max(1);
        Self { prompt: USUAL.min(block_size.saturating_sub(new)).max(1), new }
    }

    fn total(self) -> usize {
        self.prompt + self.new
    }
}

/// Continuations of prompts from a split.
#[derive(Debug, Clone, Default)]
pub struct Continuations {
    /// Generated tokens after each prompt.
    pub generated: Vec<Vec<u32>>,
    /// Tokens of the split after each prompt.
    pub expected: Vec<Vec<u32>>,
}

impl Continuations {
    /// Compares what was generated with the text; `None` without prompts.
    pub fn extraction(&self, lengths: Lengths) -> Option<Extraction> {
        let prompts = self.generated.len();
        let common = self.generated.iter().zip(&self.expected).map(|(generated, expected)| {
            generated.iter().zip(expected).take_while(|(generated, expected)| generated == expected).count()
        });
        let common: Vec<usize> = common.collect();
        let verbatim = common.iter().filter(|&&tokens| tokens == lengths.new).count();
        (prompts > 0).then(|| Extraction {
            prompts,
            prompt_tokens: lengths.prompt,
            new_tokens: lengths.new,
            verbatim: verbatim as f64 / prompts as f64,
            mean_common_tokens: common.iter().sum::<usize>() as f64 / prompts as f64,
        })
    }
}

/// Choice of prompts from a split.
#[derive(Debug, Clone, Copy)]
pub struct Prompts {
    /// Maximum number of prompts.
    pub count: usize,
    pub lengths: Lengths,
    /// Whether each prompt is the beginning of a document, if rows of training are documents.
    pub layout: Layout,
    pub seed: u64,
    /// Number of prompts that are continued together.
    pub rows: usize,
}

/// Continues prompts from a split greedily. A prompt is at a random position in each of as many equal parts of the
/// split, or begins a document. Prompts that touch a canary are left out. An interrupt ends it with the prompts
/// that are done.
///
/// # Errors
/// Those of [`Generator::continue_tokens`].
pub async fn continuations(
    generator: &Generator<'_>,
    split: &TokenSplit,
    prompts: Prompts,
    interrupted: &dyn Fn() -> bool,
) -> Result<Continuations> {
    let Prompts { lengths, rows, .. } = prompts;
    let sample = SampleConfig { temperature: 0.0, max_new_tokens: lengths.new, ..SampleConfig::default() };
    let read = |range: Range<usize>| -> Vec<u32> {
        split.read(range).into_iter().map(|token| token as u32).collect()
    };
    let mut all = Continuations::default();
    for starts in prompts.starts(split).chunks(rows.max(1)) {
        let prompts = starts.iter().map(|&start| read(start..start + lengths.prompt)).collect();
        let generated = generator.continue_tokens(prompts, &sample, interrupted).await?;
        if interrupted() {
            break;
        }
        all.generated.extend(generated);
        all.expected
            .extend(starts.iter().map(|&start| read(start + lengths.prompt..start + lengths.total())));
    }
    Ok(all)
}

impl Prompts {
    /// Positions of the prompts in a split.
    fn starts(self, split: &TokenSplit) -> Vec<usize> {
        let length = self.lengths.total();
        let touches_canary = |start: usize| {
            let next = split.inserted().partition_point(|range| range.end <= start);
            split.inserted().get(next).is_some_and(|range| range.start < start + length)
        };
        let documents: Option<Vec<usize>> = (self.layout == Layout::Documents).then(|| {
            let documents = (0..split.document_count()).map(|index| split.document(index));
            documents.filter(|range| range.len() >= length).map(|range| range.start).collect()
        });
        let positions = documents.as_ref().map_or((split.len() + 1).saturating_sub(length), Vec::len);
        let count = self.count.min(positions);
        let of_part = |part: usize| {
            let (first, end) = (part * positions / count, (part + 1) * positions / count);
            let mut random = random::rng(self.seed, part as u64, "memorization prompts");
            let position = first + random::below(&mut random, (end - first) as u64) as usize;
            documents.as_ref().map_or(position, |documents| documents[position])
        };
        (0..count).map(of_part).filter(|&start| !touches_canary(start)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Tokens;

    #[test]
    fn lengths_fit_the_context() {
        assert_eq!(Lengths::of_context(1024), Lengths { prompt: 50, new: 50 });
        assert_eq!(Lengths::of_context(64), Lengths { prompt: 32, new: 32 });
        assert_eq!(Lengths::of_context(81), Lengths { prompt: 41, new: 40 });
        assert_eq!(Lengths::of_context(1), Lengths { prompt: 1, new: 1 });
    }

    #[test]
    fn prompts_are_spread_over_the_split() {
        let split = TokenSplit::from_tokens("train", Tokens::U16(vec![0; 1000]), vec![0, 10, 995]);
        let starts = |length: usize, layout, seed| {
            let lengths = Lengths { prompt: length - 5, new: 5 };
            Prompts { count: 10, lengths, layout, seed, rows: 1 }.starts(&split)
        };
        let (stream, all) = (Layout::Stream, starts);
        let starts = all(20, stream, 1);
        assert_eq!(starts.len(), 10);
        // 981 positions in 10 parts.
        let is_in_part =
            |(part, &start): (usize, &usize)| (981 * part / 10..981 * (part + 1) / 10).contains(&start);
        assert!(starts.iter().enumerate().all(is_in_part), "{starts:?}");
        assert_eq!(starts, all(20, stream, 1));
        assert_ne!(starts, all(20, stream, 2));
        assert_eq!(all(999, stream, 1), [0, 1]);
        assert!(all(1001, stream, 1).is_empty());
        assert_eq!(all(500, Layout::Documents, 1), [10]);
        assert_eq!(all(10, Layout::Documents, 1), [0, 10]);
    }

    #[test]
    fn verbatim_continuations_are_counted() {
        let lengths = Lengths { prompt: 1, new: 2 };
        let found = Continuations {
            generated: vec![vec![1, 2], vec![1, 3], vec![4, 2], vec![1, 2]],
            expected: vec![vec![1, 2]; 4],
        };
        let extraction = found.extraction(lengths).unwrap();
        assert_eq!((extraction.verbatim, extraction.mean_common_tokens), (0.5, 1.25));
        assert!(Continuations::default().extraction(lengths).is_none());
    }
}
