//! Exact match and F1 of answers to questions, as SQuAD's evaluation scripts compute them.
//!
//! Rajpurkar et al., "SQuAD: 100,000+ questions for machine comprehension of text", 2016; "Know what you don't
//! know: unanswerable questions for SQuAD", 2018. The scripts are `evaluate-v1.1.py` and `evaluate-v2.0.py`.

use crate::{
    error::{Error, Result},
    ngrams,
    text::words,
};
use regex::Regex;
use serde::Serialize;
use std::sync::LazyLock;

/// Scores of one answer, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AnswerScore {
    /// 1 if the normalized texts are equal, else 0.
    pub exact: f64,
    /// F1 of the words by SQuAD's first script, which gives 0 to two empty texts.
    pub f1: f64,
    /// F1 of the words by SQuAD's second script, which gives 1 to two empty texts.
    pub f1_squad2: f64,
}

/// Scores of a prediction. Each is the highest over all references.
///
/// # Errors
/// [`Error::NoReferences`].
pub fn answer(prediction: &str, references: &[String]) -> Result<AnswerScore> {
    let prediction = normalize(prediction);
    let of_references = references.iter().map(|reference| of_pair(&prediction, &normalize(reference)));
    of_references
        .reduce(|a, b| AnswerScore {
            exact: a.exact.max(b.exact),
            f1: a.f1.max(b.f1),
            f1_squad2: a.f1_squad2.max(b.f1_squad2),
        })
        .ok_or(Error::NoReferences { index: 0 })
}

/// Text in lower case without ASCII punctuation and without the words `a`, `an` and `the`, with single spaces
/// between words.
pub fn normalize(text: &str) -> String {
    /// Letters and digits as Python's `\w` defines them. Combining marks are not among them.
    static WORD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").expect("the pattern is valid"));
    let mut text = text.to_lowercase();
    text.retain(|c| !c.is_ascii_punctuation());
    let text = WORD.replace_all(&text, |found: &regex::Captures<'_>| match &found[0] {
        "a" | "an" | "the" => " ".to_owned(),
        word => word.to_owned(),
    });
    words(&text).collect::<Vec<_>>().join(" ")
}

fn of_pair(prediction: &str, reference: &str) -> AnswerScore {
    let exact = if prediction == reference { 1.0 } else { 0.0 };
    let (a, b): (Vec<&str>, Vec<&str>) = (words(prediction).collect(), words(reference).collect());
    let same = ngrams::overlap(&ngrams::count(&a, 1), &ngrams::count(&b, 1)) as f64;
    let f1 = if same > 0.0 { 2.0 * same / (a.len() + b.len()) as f64 } else { 0.0 };
    AnswerScore { exact, f1, f1_squad2: if a.is_empty() || b.is_empty() { exact } else { f1 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(prediction: &str, references: &[&str]) -> [f64; 3] {
        let references: Vec<String> = references.iter().map(ToString::to_string).collect();
        let found = answer(prediction, &references).unwrap();
        [found.exact, found.f1, found.f1_squad2]
    }

    /// `normalize_answer(text)` of `evaluate-v1.1.py`.
    #[test]
    fn texts_are_normalized_as_in_squad() {
        for (text, expected) in [
            ("The Eiffel Tower!", "eiffel tower"),
            ("in 1,990", "in 1990"),
            ("an anthem a_b", "anthem ab"),
            ("北京。", "北京。"),
            ("“the”  A\u{a0}x", "“ ” x"),
            // A combining mark is not a part of a word for Python.
            ("a\u{301} b", "\u{301} b"),
        ] {
            assert_eq!(normalize(text), expected);
        }
    }

    #[test]
    fn f1_is_of_words() {
        assert_eq!(score("New York City", &["NYC", "New York"]), [0.0, 0.8, 0.8]);
        assert_eq!(score("yes yes no", &["yes no no"]), [0.0, 2.0 / 3.0, 2.0 / 3.0]);
    }

    #[test]
    fn the_scripts_differ_for_empty_texts() {
        assert_eq!(score("the", &[""]), [1.0, 0.0, 1.0]);
        assert_eq!(score("", &["x"]), [0.0, 0.0, 0.0]);
        assert!(answer("x", &[]).is_err());
    }
}
