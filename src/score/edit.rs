//! Error rates by edit distance: of characters, words and phonemes.
//!
//! Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966. A rate is the
//! number of items to replace, insert or delete, divided by the number of items in the reference, so that it
//! can exceed 1. The rate of a corpus divides the sums over its texts, as jiwer does.

use crate::{
    error::{Error, Result},
    text::{is_space, words},
};
use kiln_base::edit_distance::edit_distance;
use serde::{Deserialize, Serialize};

/// Items of a text that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Characters. White space at the start and the end does not count.
    Characters,
    /// Words, which white space separates.
    Words,
    /// Phonemes, which white space separates.
    Phonemes,
}

/// Number of edits and of items in the reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EditCounts {
    /// Least number of items to replace, insert or delete.
    pub edits: u64,
    /// Number of items in the reference.
    pub length: u64,
}

impl EditCounts {
    /// Compares a text with its reference.
    pub fn new(hypothesis: &str, reference: &str, unit: Unit) -> Self {
        fn compare<T: PartialEq>(a: &[T], b: &[T]) -> EditCounts {
            EditCounts { edits: edit_distance(a, b) as u64, length: b.len() as u64 }
        }
        match unit {
            Unit::Characters => {
                let characters = |text: &str| text.trim_matches(is_space).chars().collect::<Vec<_>>();
                compare(&characters(hypothesis), &characters(reference))
            }
            Unit::Words | Unit::Phonemes => {
                let items = |text| words(text).collect::<Vec<&str>>();
                compare(&items(hypothesis), &items(reference))
            }
        }
    }

    /// Error rate; `None` if the reference has no items.
    pub fn rate(self) -> Option<f64> {
        (self.length > 0).then(|| self.edits as f64 / self.length as f64)
    }
}

/// Counts of each text and of the corpus.
///
/// # Errors
/// [`Error::Empty`] or [`Error::UnequalLengths`].
pub fn corpus(
    hypotheses: &[String],
    references: &[String],
    unit: Unit,
) -> Result<(Vec<EditCounts>, EditCounts)> {
    if hypotheses.len() != references.len() {
        return Err(Error::UnequalLengths {
            left: "texts",
            left_len: hypotheses.len(),
            right: "references",
            right_len: references.len(),
        });
    }
    if hypotheses.is_empty() {
        return Err(Error::Empty { what: "texts" });
    }
    let of_texts: Vec<EditCounts> =
        hypotheses.iter().zip(references).map(|(a, b)| EditCounts::new(a, b, unit)).collect();
    let sum = of_texts.iter().fold(EditCounts::default(), |sum, counts| EditCounts {
        edits: sum.edits + counts.edits,
        length: sum.length + counts.length,
    });
    Ok((of_texts, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `jiwer.wer("the cat sat", "a cat sat down")` and `jiwer.cer("ab c", " abc ")`.
    #[test]
    fn rates_are_those_of_jiwer() {
        assert_eq!(EditCounts::new("a cat sat down", "the cat sat", Unit::Words).rate(), Some(2.0 / 3.0));
        assert_eq!(EditCounts::new(" abc ", "ab c", Unit::Characters).rate(), Some(0.25));
        assert_eq!(EditCounts::new("HH AH0 L OW1", "HH EH0  L OW1", Unit::Phonemes).rate(), Some(0.25));
    }

    #[test]
    fn a_corpus_has_the_sums_of_its_texts() {
        let texts = |of: &[&str]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (of_texts, sum) = corpus(&texts(&["a", "x y"]), &texts(&["", "x y z"]), Unit::Words).unwrap();
        assert_eq!(of_texts[0].rate(), None);
        assert_eq!(sum, EditCounts { edits: 2, length: 3 });
        assert!(corpus(&[], &[], Unit::Words).is_err());
        assert!(corpus(&[], &texts(&["a"]), Unit::Words).is_err());
    }
}
