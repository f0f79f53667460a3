//! Statistics of a corpus, text by text.
//!
//! BLEU, chrF and error rates of a corpus depend on the sums of statistics of its texts only. A mean over
//! texts has the statistics value and 1. The bootstrap adds the statistics of the texts that it draws.

use crate::error::{Error, Result};

/// Checks that each text has at least one reference.
///
/// # Errors
/// [`Error::Empty`], [`Error::UnequalLengths`] or [`Error::NoReferences`].
pub fn check(hypotheses: &[String], references: &[Vec<String>]) -> Result<()> {
    if hypotheses.is_empty() {
        return Err(Error::Empty { what: "texts" });
    }
    if hypotheses.len() != references.len() {
        return Err(Error::UnequalLengths {
            left: "texts",
            left_len: hypotheses.len(),
            right: "lists of references",
            right_len: references.len(),
        });
    }
    match references.iter().position(Vec::is_empty) {
        Some(index) => Err(Error::NoReferences { index }),
        None => Ok(()),
    }
}

/// Applies a function to each text and its references.
///
/// # Errors
/// Those of [`check`] and of the function.
pub fn map<T>(
    hypotheses: &[String],
    references: &[Vec<String>],
    of_text: impl Fn(&str, &[String]) -> Result<T>,
) -> Result<Vec<T>> {
    check(hypotheses, references)?;
    hypotheses.iter().zip(references).map(|(text, references)| of_text(text, references)).collect()
}

/// Sum of the statistics of some texts, which are given by their indices.
///
/// An index that does not exist adds nothing.
pub fn sum(statistics: &[Vec<f64>], indices: impl IntoIterator<Item = usize>) -> Vec<f64> {
    let mut sums = vec![0.0; statistics.first().map_or(0, Vec::len)];
    for row in indices.into_iter().filter_map(|index| statistics.get(index)) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// Sum of the statistics of all texts.
pub fn total(statistics: &[Vec<f64>]) -> Vec<f64> {
    sum(statistics, 0..statistics.len())
}

/// Mean of values; 0 if there are none.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Number of references of each text as sacrebleu's signature shows it. It is `var` if it varies.
pub(crate) fn reference_count(references: &[Vec<String>]) -> String {
    let count = references.first().map_or(0, Vec::len);
    if references.iter().all(|of_text| of_text.len() == count) { count.to_string() } else { "var".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(of: &[&str]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_corpus_without_texts_or_references_is_refused() {
        assert_eq!(check(&[], &[]), Err(Error::Empty { what: "texts" }));
        assert!(matches!(check(&texts(&["a"]), &[]), Err(Error::UnequalLengths { right_len: 0, .. })));
        let references = [texts(&["a"]), Vec::new()];
        assert_eq!(check(&texts(&["a", "b"]), &references), Err(Error::NoReferences { index: 1 }));
        assert_eq!(reference_count(&references), "var");
        assert_eq!(reference_count(&references[..1]), "1");
    }

    #[test]
    fn sums_are_over_the_drawn_texts() {
        let statistics = [vec![1.0, 2.0], vec![10.0, 20.0]];
        assert_eq!(sum(&statistics, [1, 1, 0, 9]), [21.0, 42.0]);
        assert_eq!(total(&statistics), [11.0, 22.0]);
        assert!(total(&[]).is_empty());
    }
}
