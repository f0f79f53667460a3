//! Finds held-out texts in a corpus: n-grams of words that a document has in common with them (GPT-3,
//! arXiv:2005.14165, appendix C, with 13 words).

use super::{
    super::{Error, Result, SplitWords},
    normalize::Normalization,
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, ops::Range, path::PathBuf};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Settings of what counts as overlap, and of how much of it is allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContaminationConfig {
    /// Files with the held-out texts.
    pub against: Vec<PathBuf>,
    /// Number of words in an n-gram.
    pub words: usize,
    /// Maximum share of a document's n-grams that may occur in held-out texts.
    pub max_share: f64,
    /// Maximum number of consecutive words that may occur there; 0 for no limit.
    pub max_words: usize,
    pub normalization: Normalization,
}

impl Default for ContaminationConfig {
    fn default() -> Self {
        // Numbers count: `2 + 3` and `4 + 5` are different questions.
        let normalization = Normalization { numbers: false, ..Normalization::default() };
        Self { against: Vec::new(), words: 13, max_share: 0.0, max_words: 0, normalization }
    }
}

/// The n-grams of held-out texts, as hashes of 64 bits.
#[derive(Debug, Clone)]
pub struct HeldOut {
    config: ContaminationConfig,
    /// Number of the first set with each n-gram, by the n-gram's hash.
    sets: HashMap<u64, u32>,
}

/// Overlap of a document with held-out texts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Overlap {
    /// Number of n-grams in the document.
    pub ngrams: usize,
    /// Number of those that held-out texts contain too.
    pub found: usize,
    /// Number of words in the longest run of such n-grams.
    pub longest_words: usize,
    /// Set of the first n-gram of the longest run.
    pub set: Option<u32>,
    pub is_contaminated: bool,
}

impl Overlap {
    /// Share of the document's n-grams that were found.
    pub fn share(&self) -> f64 {
        if self.ngrams == 0 { 0.0 } else { self.found as f64 / self.ngrams as f64 }
    }
}

impl HeldOut {
    pub fn new(config: &ContaminationConfig) -> Result<Self> {
        if config.words == 0 {
            return Err(Error::invalid_value("contamination.words", 0, "must be at least 1"));
        }
        if !(0.0..=1.0).contains(&config.max_share) {
            let message = "must be between 0 and 1";
            return Err(Error::invalid_value("contamination.max_share", config.max_share, message));
        }
        Ok(Self { config: config.clone(), sets: HashMap::new() })
    }

    /// Adds a text to a set and returns its number of n-grams. With 0, the text is too short to be found
    /// anywhere.
    pub fn add(&mut self, text: &str, set: u32, words: &mut SplitWords) -> usize {
        let hashes = self.hashes(text, words);
        hashes.iter().for_each(|&hash| _ = self.sets.entry(hash).or_insert(set));
        hashes.len()
    }

    /// Number of different n-grams.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Measures the overlap of a document.
    pub fn overlap(&self, text: &str, words: &mut SplitWords) -> Overlap {
        let hashes = self.hashes(text, words);
        let mut overlap = Overlap { ngrams: hashes.len(), ..Overlap::default() };
        let mut run = 0;
        let mut run_set = None;
        for hash in hashes {
            let Some(&set) = self.sets.get(&hash) else {
                run = 0;
                continue;
            };
            if run == 0 {
                run_set = Some(set);
            }
            run += 1;
            overlap.found += 1;
            if run + self.config.words - 1 > overlap.longest_words {
                overlap.longest_words = run + self.config.words - 1;
                overlap.set = run_set;
            }
        }
        let is_long = self.config.max_words > 0 && overlap.longest_words > self.config.max_words;
        overlap.is_contaminated = is_long || overlap.share() > self.config.max_share;
        overlap
    }

    fn hashes(&self, text: &str, words: &mut SplitWords) -> Vec<u64> {
        let text = self.config.normalization.apply(text);
        let word = |range: &Range<usize>| text.as_bytes().get(range.clone()).unwrap_or_default();
        let words: Vec<u64> = words(&text).iter().map(|range| xxh3_64_with_seed(word(range), 0)).collect();
        let mut bytes = Vec::with_capacity(8 * self.config.words);
        let ngram = |words: &[u64]| {
            bytes.clear();
            words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
            xxh3_64_with_seed(&bytes, 0)
        };
        words.windows(self.config.words).map(ngram).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::blank_separated;
    use super::*;

    const QUESTION: &str =
        "If a train leaves at 9 and travels for 3 hours, when does it arrive at the station?";

    #[test]
    fn finds_a_question_inside_a_document() {
        let mut held_out = HeldOut::new(&ContaminationConfig::default()).unwrap();
        // 18 words.
        assert_eq!(held_out.add(QUESTION, 4, &mut blank_separated), 6);
        assert_eq!(held_out.add("too short", 5, &mut blank_separated), 0);
        assert_eq!(held_out.len(), 6);
        let before = "Some words that were not there before. ".repeat(3);
        let document = format!("{before}{} And more after it.", QUESTION.to_uppercase());
        let overlap = held_out.overlap(&document, &mut blank_separated);
        assert_eq!((overlap.found, overlap.longest_words, overlap.set), (6, 18, Some(4)));
        assert!(overlap.is_contaminated && overlap.share() > 0.1 && overlap.share() < 0.2);
        let other = document.replace('9', "8");
        assert_eq!(held_out.overlap(&other, &mut blank_separated).found, 0);
        assert!(!held_out.overlap("", &mut blank_separated).is_contaminated);
    }

    #[test]
    fn limits_decide() {
        let config = ContaminationConfig { words: 2, max_share: 0.5, max_words: 3, ..Default::default() };
        let mut held_out = HeldOut::new(&config).unwrap();
        held_out.add("a b c d e f", 0, &mut blank_separated);
        let is_contaminated = |text| held_out.overlap(text, &mut blank_separated).is_contaminated;
        assert!(!is_contaminated("a b x y"));
        assert!(is_contaminated("a b c y"));
        assert!(is_contaminated("a b c d w x y z u v w x y z"));
        assert!(HeldOut::new(&ContaminationConfig { words: 0, ..config.clone() }).is_err());
        assert!(HeldOut::new(&ContaminationConfig { max_share: f64::NAN, ..config }).is_err());
    }
}
