//! chrF and chrF++ of texts and corpora, as sacrebleu computes them.
//!
//! Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015; "chrF++: words helping
//! character n-grams", 2017. Rules: `sacrebleu/metrics/chrf.py` of sacrebleu 2.6.0.

use crate::{
    bleu::SACREBLEU_VERSION,
    bootstrap::BootstrapConfig,
    corpus,
    error::{Error, Result},
    ngrams::{self, Counts, MAX_ORDER},
    text::{is_space, words},
};
use serde::{Deserialize, Serialize};

/// Settings of chrF.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChrfConfig {
    /// Longest n-grams of characters.
    pub char_order: usize,
    /// Longest n-grams of words; 2 gives chrF++.
    pub word_order: usize,
    /// Weight of recall relative to precision.
    pub beta: f64,
    /// Whether upper and lower case are the same.
    pub lowercase: bool,
    /// Whether n-grams of characters contain white space.
    pub whitespace: bool,
    /// Whether the score is the mean of the F-scores of all orders, with a tiny value for those without
    /// n-grams. Otherwise these orders are left out, and precision and recall are averaged first.
    pub eps_smoothing: bool,
}

impl Default for ChrfConfig {
    fn default() -> Self {
        Self {
            char_order: 6,
            word_order: 0,
            beta: 2.0,
            lowercase: false,
            whitespace: false,
            eps_smoothing: false,
        }
    }
}

impl ChrfConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::InvalidValue`].
    pub fn build(self) -> Result<Chrf> {
        for (key, order) in [("char_order", self.char_order), ("word_order", self.word_order)] {
            if order > MAX_ORDER {
                return Err(Error::invalid(key, order, "must be at most 100"));
            }
        }
        if self.char_order + self.word_order == 0 {
            return Err(Error::invalid("char_order", 0, "must be at least 1 if `word_order` is 0"));
        }
        // With larger values, the square of beta exceeds the range of its weight in the F-score.
        if !(0.0..=1e6).contains(&self.beta) {
            return Err(Error::invalid("beta", self.beta, "must be from 0 to 1000000"));
        }
        Ok(Chrf(self))
    }
}

/// chrF with checked settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Chrf(ChrfConfig);

impl Chrf {
    /// Name of the metric as sacrebleu prints it, such as `chrF2++`.
    pub fn name(&self) -> String {
        format!("chrF{}{}", self.0.beta, "+".repeat(self.0.word_order))
    }

    /// chrF of one text, from 0 to 100. Of several references, the one with the highest score counts.
    ///
    /// # Errors
    /// [`Error::NoReferences`].
    pub fn sentence(&self, hypothesis: &str, references: &[String]) -> Result<f64> {
        Ok(self.score(&self.statistics(hypothesis, references)?))
    }

    /// chrF of a corpus, from 0 to 100, given the references of each text.
    ///
    /// # Errors
    /// Those of [`corpus::check`].
    pub fn corpus(&self, hypotheses: &[String], references: &[Vec<String>]) -> Result<f64> {
        let of_texts = corpus::map(hypotheses, references, |text, of_text| self.statistics(text, of_text))?;
        Ok(self.score(&corpus::total(&of_texts)))
    }

    /// Statistics of one text: for each order, the number of n-grams of the hypothesis, of the reference and
    /// of both. The orders of characters precede those of words. A corpus has the sums of those of its texts.
    ///
    /// # Errors
    /// [`Error::NoReferences`].
    pub fn statistics(&self, hypothesis: &str, references: &[String]) -> Result<Vec<f64>> {
        let hypothesis = Parts::new(hypothesis, &self.0);
        let hypothesis = hypothesis.ngrams(&self.0);
        let mut best: Option<(f64, Vec<f64>)> = None;
        for reference in references {
            let reference = Parts::new(reference, &self.0);
            let statistics = hypothesis.compare(&reference.ngrams(&self.0));
            let score = self.score(&statistics);
            if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
                best = Some((score, statistics));
            }
        }
        best.map(|(_, statistics)| statistics).ok_or(Error::NoReferences { index: 0 })
    }

    /// chrF of the sums of statistics, from 0 to 100.
    pub fn score(&self, sums: &[f64]) -> f64 {
        const EPSILON: f64 = 1e-16;
        let factor = self.0.beta * self.0.beta;
        let share = |matches: f64, of: f64| if of > 0.0 { matches / of } else { EPSILON };
        let (mut total, mut precision, mut recall, mut effective) = (0.0, 0.0, 0.0, 0.0);
        for order in sums.as_chunks::<3>().0 {
            let [of_hypothesis, of_reference, matches] = *order;
            let (p, r) = (share(matches, of_hypothesis), share(matches, of_reference));
            let denominator = factor * p + r;
            total += if denominator > 0.0 { (1.0 + factor) * p * r / denominator } else { EPSILON };
            if of_hypothesis > 0.0 && of_reference > 0.0 {
                precision += p;
                recall += r;
                effective += 1.0;
            }
        }
        if self.0.eps_smoothing {
            return 100.0 * total / (self.0.char_order + self.0.word_order) as f64;
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / effective, recall / effective);
        100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
    }

    /// Line that says how a score was made, as sacrebleu writes it. A bootstrap is named if it is given.
    pub fn signature(&self, references: &[Vec<String>], bootstrap: Option<&BootstrapConfig>) -> String {
        let yes = |is: bool| if is { "yes" } else { "no" };
        format!(
            "nrefs:{}{}|case:{}|eff:{}|nc:{}|nw:{}|space:{}|version:{SACREBLEU_VERSION}",
            corpus::reference_count(references),
            bootstrap.map(BootstrapConfig::signature).unwrap_or_default(),
            if self.0.lowercase { "lc" } else { "mixed" },
            yes(!self.0.eps_smoothing),
            self.0.char_order,
            self.0.word_order,
            yes(self.0.whitespace),
        )
    }
}

/// Characters and words of a text.
struct Parts {
    characters: Vec<char>,
    words: Vec<String>,
}

impl Parts {
    fn new(text: &str, config: &ChrfConfig) -> Self {
        let lowercase = config.lowercase.then(|| text.to_lowercase());
        let text = lowercase.as_deref().unwrap_or(text);
        Self {
            characters: text.chars().filter(|&c| config.whitespace || !is_space(c)).collect(),
            words: if config.word_order > 0 { separate_punctuation(text) } else { Vec::new() },
        }
    }

    fn ngrams(&self, config: &ChrfConfig) -> NgramsByOrder<'_> {
        NgramsByOrder {
            characters: (1..=config.char_order).map(|order| ngrams::count(&self.characters, order)).collect(),
            words: (1..=config.word_order).map(|order| ngrams::count(&self.words, order)).collect(),
        }
    }
}

/// N-grams of a text, by order.
struct NgramsByOrder<'a> {
    characters: Vec<Counts<'a, char>>,
    words: Vec<Counts<'a, String>>,
}

impl NgramsByOrder<'_> {
    fn compare(&self, reference: &Self) -> Vec<f64> {
        let characters = self.characters.iter().zip(&reference.characters).map(|(a, b)| compare(a, b));
        let words = self.words.iter().zip(&reference.words).map(|(a, b)| compare(a, b));
        characters.chain(words).flatten().collect()
    }
}

fn compare<T: Eq + std::hash::Hash>(hypothesis: &Counts<'_, T>, reference: &Counts<'_, T>) -> [f64; 3] {
    let sum = |counts: &Counts<'_, T>| counts.values().sum::<u64>() as f64;
    // The n-grams of a hypothesis do not count where the reference has none.
    let of_hypothesis = if reference.is_empty() { 0.0 } else { sum(hypothesis) };
    [of_hypothesis, sum(reference), ngrams::overlap(hypothesis, reference) as f64]
}

/// Words of a text. One ASCII punctuation character is separated from the end of each word, or from its start
/// if there is none at the end.
fn separate_punctuation(text: &str) -> Vec<String> {
    let mut separated = Vec::new();
    for word in words(text) {
        let characters: Vec<char> = word.chars().collect();
        let cut = match characters.as_slice() {
            [_, .., last] if last.is_ascii_punctuation() => word.len() - 1,
            [first, _, ..] if first.is_ascii_punctuation() => 1,
            _ => 0,
        };
        let (start, end) = word.split_at(cut);
        separated.extend([start, end].into_iter().filter(|part| !part.is_empty()).map(str::to_owned));
    }
    separated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(config: ChrfConfig, hypothesis: &str, references: &[&str]) -> f64 {
        let references: Vec<String> = references.iter().map(ToString::to_string).collect();
        config.build().unwrap().sentence(hypothesis, &references).unwrap()
    }

    /// The numbers are `CHRF(**settings).sentence_score("the cat sat on the mat", ["a cat was sitting on the
    /// mat"]).score`.
    #[test]
    fn scores_are_those_of_sacrebleu() {
        let default = ChrfConfig::default;
        for (config, expected) in [
            (default(), 37.2254256632152),
            (ChrfConfig { word_order: 2, ..default() }, 39.59933598244184),
            (ChrfConfig { char_order: 4, beta: 1.0, ..default() }, 48.97221790404104),
            (ChrfConfig { whitespace: true, ..default() }, 47.63270282691433),
            (ChrfConfig { eps_smoothing: true, ..default() }, 37.2213110390355),
        ] {
            let found = sentence(config.clone(), "the cat sat on the mat", &["a cat was sitting on the mat"]);
            assert!((found - expected).abs() < 1e-9, "{config:?}: {found}");
        }
    }

    /// `CHRF(word_order=2)._remove_punctuation('(hi) "a b. , é!')`.
    #[test]
    fn one_punctuation_character_of_a_word_is_separated() {
        let found = separate_punctuation("(hi) \"a b. , é! ...");
        assert_eq!(found, ["(hi", ")", "\"", "a", "b", ".", ",", "é", "!", "..", "."]);
    }

    #[test]
    fn the_best_reference_counts() {
        assert!((sentence(ChrfConfig::default(), "abc", &["xyz", "abc"]) - 100.0).abs() < 1e-9);
        assert_eq!(sentence(ChrfConfig::default(), "", &[""]), 0.0);
        let chrf = ChrfConfig::default().build().unwrap();
        assert_eq!(chrf.sentence("a", &[]), Err(Error::NoReferences { index: 0 }));
        assert_eq!(chrf.score(&[]), 0.0);
    }

    #[test]
    fn settings_are_checked() {
        assert!(ChrfConfig { char_order: 0, ..ChrfConfig::default() }.build().is_err());
        assert!(ChrfConfig { beta: -1.0, ..ChrfConfig::default() }.build().is_err());
        assert!(ChrfConfig { word_order: 101, ..ChrfConfig::default() }.build().is_err());
    }

    /// `str(chrf.get_signature())` and `chrf.sentence_score(...).name`.
    #[test]
    fn signatures_are_those_of_sacrebleu() {
        let chrf = ChrfConfig { word_order: 2, ..ChrfConfig::default() }.build().unwrap();
        assert_eq!(chrf.name(), "chrF2++");
        assert_eq!(
            chrf.signature(&[vec!["a".into()]], None),
            "nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.6.0"
        );
    }
}
