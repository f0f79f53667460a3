//! Span corruption (T5, arXiv:1910.10683): spans of a row are replaced by sentinels, and the decoder
//! generates each sentinel with the span that it replaces.

use crate::data::{Example, random::below};
use rand_chacha::ChaCha8Rng;

/// Settings of span corruption.
#[derive(Debug, Clone)]
pub struct SpanCorruption {
    /// Share of the tokens of a row that are cut out.
    pub fraction: f64,
    /// Mean length of a span, in tokens.
    pub mean_length: f64,
    /// Sentinel tokens, in the order in which they are used.
    pub sentinels: Vec<i32>,
    /// First input token of the decoder.
    pub start: i32,
    /// Token that ends both texts, if there is one.
    pub end: Option<i32>,
}

impl SpanCorruption {
    /// Number of spans in a row of `tokens` tokens.
    pub fn spans(fraction: f64, mean_length: f64, tokens: usize) -> usize {
        let cut_out = (tokens as f64 * fraction).round().max(1.0);
        ((cut_out / mean_length).round() as usize).max(1)
    }

    /// Cuts spans out of a row like T5's `random_spans_noise_mask`: the row begins with kept tokens, and the
    /// spans and the tokens between them have random lengths.
    pub(super) fn row(&self, tokens: &[i32], random: &mut ChaCha8Rng) -> Example {
        let cut_out =
            ((tokens.len() as f64 * self.fraction).round() as usize).clamp(1, tokens.len().max(2) - 1);
        let kept = tokens.len().saturating_sub(cut_out);
        let spans = Self::spans(self.fraction, self.mean_length, tokens.len());
        let spans = spans.min(cut_out).min(kept.max(1)).min(self.sentinels.len());
        let mut row = Example::default();
        let mut rest = tokens;
        let lengths = lengths(kept, spans, random).into_iter().zip(self::lengths(cut_out, spans, random));
        for ((kept, cut_out), sentinel) in lengths.zip(&self.sentinels) {
            let (stays, after) = rest.split_at(kept.min(rest.len()));
            let (removed, after) = after.split_at(cut_out.min(after.len()));
            row.inputs.extend(stays.iter().chain([sentinel]));
            row.targets.extend([sentinel].into_iter().chain(removed));
            rest = after;
        }
        row.inputs.extend(rest);
        finish(&mut row, self.start, self.end);
        row
    }
}

/// Adds the end tokens and derives the decoder inputs, which are the targets shifted right.
pub(super) fn finish(row: &mut Example, start: i32, end: Option<i32>) {
    row.inputs.extend(end);
    row.targets.extend(end);
    let decoder_length = row.targets.len().saturating_sub(1);
    row.decoder_inputs =
        std::iter::once(start).chain(row.targets[..decoder_length].iter().copied()).collect();
}

/// Draws `count` numbers of at least 1 that add up to `total`, uniformly from all such lists.
fn lengths(total: usize, count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    // Where each but the first begins: different positions from 1 to total - 1, in order.
    let mut begins: Vec<usize> = Vec::with_capacity(count + 1);
    let mut needed = count.saturating_sub(1);
    for position in 1..total {
        let left = (total - position) as u64;
        if needed > 0 && below(random, left) < needed as u64 {
            begins.push(position);
            needed -= 1;
        }
    }
    begins.push(total);
    let mut before = 0;
    begins.into_iter().map(|begin| begin - std::mem::replace(&mut before, begin)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::rng;

    #[test]
    fn what_is_cut_out_is_written_behind_its_mark() {
        let corruption = SpanCorruption {
            fraction: 0.15,
            mean_length: 3.0,
            sentinels: (900..1000).collect(),
            start: 7,
            end: Some(8),
        };
        let tokens: Vec<i32> = (100..200).collect();
        for step in 0..100 {
            let row = corruption.row(&tokens, &mut rng(1, step, "spans"));
            assert_eq!((row.inputs.last(), row.targets.last()), (Some(&8), Some(&8)));
            assert_eq!(row.decoder_inputs[0], 7);
            assert_eq!(row.decoder_inputs[1..], row.targets[..row.targets.len() - 1]);
            // 15 tokens in 5 stretches: put back, the text is whole.
            assert_eq!((row.inputs.len(), row.targets.len()), (85 + 5 + 1, 15 + 5 + 1));
            let mut whole = Vec::new();
            for token in &row.inputs[..row.inputs.len() - 1] {
                if *token < 900 {
                    whole.push(*token);
                    continue;
                }
                let begin = row.targets.iter().position(|other| other == token).unwrap() + 1;
                whole.extend(row.targets[begin..].iter().take_while(|token| (100..900).contains(*token)));
            }
            assert_eq!(whole, tokens);
        }
    }

    #[test]
    fn short_rows_and_few_marks_do_no_harm() {
        let mut corruption =
            SpanCorruption { fraction: 0.5, mean_length: 1.0, sentinels: vec![900], start: 0, end: None };
        for length in 0..6 {
            let tokens: Vec<i32> = (1..=length).collect();
            let row = corruption.row(&tokens, &mut rng(1, length as u64, "spans"));
            assert_eq!(row.targets.first(), Some(&900), "{length}");
        }
        corruption.sentinels.clear();
        assert!(corruption.row(&[1, 2, 3], &mut rng(1, 0, "spans")).targets.is_empty());
    }

    #[test]
    fn lengths_add_up() {
        for (total, count) in [(10, 3), (5, 5), (1, 1), (7, 1)] {
            let found = lengths(total, count, &mut rng(1, 0, "spans"));
            assert_eq!((found.len(), found.iter().sum::<usize>()), (count, total));
            assert!(found.iter().all(|length| *length > 0));
        }
    }
}
