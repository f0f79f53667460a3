//! ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum of a text, as rouge-score computes them.
//!
//! Lin, "ROUGE: a package for automatic evaluation of summaries", 2004. Rules: `rouge_score` 0.1.2. Only the
//! letters a to z and digits count, so that a Chinese text scores 0. The score of a corpus is the mean of
//! those of its texts.

use crate::{
    error::{Error, Result},
    lcs, ngrams, porter,
};
use serde::Serialize;
use std::collections::HashMap;

/// Precision, recall and their harmonic mean, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RougeScore {
    pub precision: f64,
    pub recall: f64,
    pub f_measure: f64,
}

impl RougeScore {
    fn new(hits: usize, of_hypothesis: usize, of_reference: usize) -> Self {
        let precision = hits as f64 / of_hypothesis.max(1) as f64;
        let recall = hits as f64 / of_reference.max(1) as f64;
        let sum = precision + recall;
        Self { precision, recall, f_measure: if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 } }
    }
}

/// ROUGE of one text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RougeScores {
    /// Words in common.
    pub rouge1: RougeScore,
    /// Pairs of words in common.
    pub rouge2: RougeScore,
    /// Longest common subsequence of the texts.
    pub rouge_l: RougeScore,
    /// Longest common subsequences of the lines of the texts.
    pub rouge_lsum: RougeScore,
}

impl RougeScores {
    /// Scores under the names of rouge-score.
    pub fn named(&self) -> [(&'static str, RougeScore); 4] {
        [
            ("rouge1", self.rouge1),
            ("rouge2", self.rouge2),
            ("rougeL", self.rouge_l),
            ("rougeLsum", self.rouge_lsum),
        ]
    }
}

/// ROUGE of one text. Of several references, the first with the highest F-measure counts, for each score
/// alone. With `stemmer`, words of more than three letters are replaced by their Porter stems.
///
/// # Errors
/// [`Error::NoReferences`].
pub fn rouge(hypothesis: &str, references: &[String], stemmer: bool) -> Result<RougeScores> {
    let mut of_references = references.iter().map(|reference| of_pair(hypothesis, reference, stemmer));
    let first = of_references.next().ok_or(Error::NoReferences { index: 0 })?;
    let best = |a: RougeScore, b: RougeScore| if b.f_measure > a.f_measure { b } else { a };
    Ok(of_references.fold(first, |a, b| RougeScores {
        rouge1: best(a.rouge1, b.rouge1),
        rouge2: best(a.rouge2, b.rouge2),
        rouge_l: best(a.rouge_l, b.rouge_l),
        rouge_lsum: best(a.rouge_lsum, b.rouge_lsum),
    }))
}

fn of_pair(hypothesis: &str, reference: &str, stemmer: bool) -> RougeScores {
    let lines = |text: &str| -> Vec<Vec<String>> {
        text.split('\n').filter(|line| !line.is_empty()).map(|line| tokens(line, stemmer)).collect()
    };
    let of_lines = summary(&lines(hypothesis), &lines(reference));
    let (hypothesis, reference) = (tokens(hypothesis, stemmer), tokens(reference, stemmer));
    let of_ngrams = |order: usize| {
        let hits = ngrams::overlap(&ngrams::count(&reference, order), &ngrams::count(&hypothesis, order));
        let number = |length: usize| (length + 1).saturating_sub(order);
        RougeScore::new(hits as usize, number(hypothesis.len()), number(reference.len()))
    };
    RougeScores {
        rouge1: of_ngrams(1),
        rouge2: of_ngrams(2),
        rouge_l: RougeScore::new(lcs::length(&reference, &hypothesis), hypothesis.len(), reference.len()),
        rouge_lsum: of_lines,
    }
}

/// ROUGE-Lsum of lines of tokens. The words of a line of the reference that are in a common subsequence with
/// any line of the hypothesis are hits, but no word is a hit more often than it occurs in either text.
fn summary(hypothesis: &[Vec<String>], reference: &[Vec<String>]) -> RougeScore {
    fn count(lines: &[Vec<String>]) -> HashMap<&str, usize> {
        let mut counts = HashMap::new();
        lines.iter().flatten().for_each(|token| *counts.entry(token.as_str()).or_default() += 1);
        counts
    }
    let (mut left_in_hypothesis, mut left_in_reference) = (count(hypothesis), count(reference));
    let mut hits = 0;
    for line in reference {
        let mut marks = vec![false; line.len()];
        hypothesis.iter().for_each(|other| lcs::mark(line, other, &mut marks));
        for (token, _) in line.iter().zip(marks).filter(|(_, is_marked)| *is_marked) {
            let of_hypothesis = left_in_hypothesis.entry(token).or_default();
            let of_reference = left_in_reference.entry(token).or_default();
            if *of_hypothesis > 0 && *of_reference > 0 {
                hits += 1;
                *of_hypothesis -= 1;
                *of_reference -= 1;
            }
        }
    }
    let length = |lines: &[Vec<String>]| lines.iter().map(Vec::len).sum();
    RougeScore::new(hits, length(hypothesis), length(reference))
}

/// Runs of the letters a to z and digits of a text in lower case.
fn tokens(text: &str, stemmer: bool) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|token| !token.is_empty())
        .map(|token| if stemmer && token.len() > 3 { porter::stem(token) } else { token.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(hypothesis: &str, references: &[&str], stemmer: bool) -> RougeScores {
        let references: Vec<String> = references.iter().map(ToString::to_string).collect();
        rouge(hypothesis, &references, stemmer).unwrap()
    }

    fn close(found: RougeScore, expected: [f64; 3]) {
        let found = [found.precision, found.recall, found.f_measure];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} {expected:?}");
    }

    /// The numbers are `RougeScorer([...]).score("a cat was sitting on the mat", "the cat sat on the mat")`.
    #[test]
    fn scores_are_those_of_rouge_score() {
        let found = score("the cat sat on the mat", &["a cat was sitting on the mat"], false);
        close(found.rouge1, [2.0 / 3.0, 4.0 / 7.0, 0.6153846153846153]);
        close(found.rouge2, [0.4, 1.0 / 3.0, 0.3636363636363636]);
        close(found.rouge_l, [2.0 / 3.0, 4.0 / 7.0, 0.6153846153846153]);
        assert_eq!(found.rouge_l, found.rouge_lsum);
    }

    /// `RougeScorer(["rougeL", "rougeLsum"]).score("second one\nfirst two", "first two\nsecond one")`.
    #[test]
    fn lines_may_change_places_in_lsum() {
        let found = score("first two\nsecond one", &["second one\nfirst two"], false);
        close(found.rouge_lsum, [1.0, 1.0, 1.0]);
        close(found.rouge_l, [0.5, 0.5, 0.5]);
    }

    /// `RougeScorer(["rouge1"], use_stemmer=True).score("run runner runs easy", "running runners ran easily")`.
    #[test]
    fn long_words_are_stemmed() {
        let (hypothesis, reference) = ("running runners ran easily", ["run runner runs easy"]);
        close(score(hypothesis, &reference, true).rouge1, [0.5, 0.5, 0.5]);
        close(score(hypothesis, &reference, false).rouge1, [0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_first_best_reference_counts() {
        close(score("a b", &["a", "a b c", "b a"], false).rouge1, [1.0, 1.0, 1.0]);
        close(score("a b", &["a", "b"], false).rouge1, [0.5, 1.0, 2.0 / 3.0]);
        assert!(rouge("a", &[], false).is_err());
    }

    #[test]
    fn texts_without_latin_letters_or_digits_score_0() {
        assert_eq!(score("北京", &["北京"], true), RougeScores::default());
        assert_eq!(score("", &[""], false), RougeScores::default());
        assert_eq!(score("a", &["\n\n"], false), RougeScores::default());
    }
}
