//! Gopher's quality rules (Rae et al., 2021, <https://arxiv.org/abs/2112.11446>, table A1), as
//! `GopherQualityFilter` of datatrove 0.10.1 has them. Punctuation marks count as words, except for the
//! limits on the number and the mean length of words.

use super::super::text::{
    Text,
    characters::{lines, strip_end, strip_start},
    tokens::Token,
};
use super::{Verdict, above, below, ratio};
use memchr::memmem;
use serde::{Deserialize, Serialize};

const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GopherQuality {
    /// Minimum words, not counting those of symbols alone.
    pub min_words: usize,
    /// Maximum words, not counting those of symbols alone.
    pub max_words: usize,
    /// Minimum mean length of these words, in characters; not checked where words are written without spaces.
    pub min_mean_word_length: f64,
    /// Maximum mean length of these words, in characters.
    pub max_mean_word_length: f64,
    /// Maximum ratio of `#` to words, and of ellipses to words.
    pub max_symbols: f64,
    /// Maximum share of lines that begin with a bullet.
    pub max_bullet_lines: f64,
    /// Maximum share of lines that end in an ellipsis.
    pub max_ellipsis_lines: f64,
    /// Minimum share of words with a letter.
    pub min_letter_words: f64,
    /// Minimum number of different stop words.
    pub min_stop_words: usize,
    /// Stop words for all languages with spaces; by default the eight of the paper, for English only.
    pub stop_words: Option<Vec<String>>,
}

impl Default for GopherQuality {
    fn default() -> Self {
        Self {
            min_words: 50,
            max_words: 100_000,
            min_mean_word_length: 3.0,
            max_mean_word_length: 10.0,
            max_symbols: 0.1,
            max_bullet_lines: 0.9,
            max_ellipsis_lines: 0.3,
            min_letter_words: 0.8,
            min_stop_words: 2,
            stop_words: None,
        }
    }
}

impl GopherQuality {
    pub fn check(&self, document: &Text) -> Verdict {
        match self.reason(document) {
            Some(reason) => Verdict::Drop { reason },
            None => Verdict::Keep,
        }
    }

    fn reason(&self, document: &Text) -> Option<&'static str> {
        let counts = WordCounts::of(document);
        if counts.plain < self.min_words {
            return Some("gopher_short_doc");
        }
        if self.max_words != 0 && counts.plain > self.max_words {
            return Some("gopher_long_doc");
        }
        // A word of Chinese is one or two characters.
        if document.family().has_spaces() {
            let mean = ratio(counts.plain_characters, counts.plain);
            if below(mean, self.min_mean_word_length) {
                return Some("gopher_below_avg_threshold");
            }
            if above(mean, self.max_mean_word_length) {
                return Some("gopher_above_avg_threshold");
            }
        }
        if self.max_symbols != 0.0 {
            if above(ratio(hashes(document.text()), counts.all), self.max_symbols) {
                return Some("gopher_too_many_hashes");
            }
            if above(ratio(ellipses(document.text()), counts.all), self.max_symbols) {
                return Some("gopher_too_many_ellipsis");
            }
        }
        let lines = LineCounts::of(document.text());
        if above(ratio(lines.bullets, lines.all), self.max_bullet_lines) {
            return Some("gopher_too_many_bullets");
        }
        if above(ratio(lines.ellipses, lines.all), self.max_ellipsis_lines) {
            return Some("gopher_too_many_end_ellipsis");
        }
        if below(ratio(counts.letters, counts.all), self.min_letter_words) {
            return Some("gopher_below_alpha_threshold");
        }
        (!self.has_stop_words(document)).then_some("gopher_enough_stop_words")
    }

    fn has_stop_words(&self, document: &Text) -> bool {
        match &self.stop_words {
            Some(own) if document.family().has_spaces() => distinct(document, own, self.min_stop_words),
            None if document.family().is_english() => distinct(document, &STOP_WORDS, self.min_stop_words),
            _ => true,
        }
    }
}

/// Returns whether at least `enough` different words of `wanted` occur.
fn distinct<W: AsRef<str>>(document: &Text, wanted: &[W], enough: usize) -> bool {
    let mut missing: Vec<&str> = wanted.iter().map(W::as_ref).collect();
    missing.sort_unstable();
    missing.dedup();
    let mut found = 0;
    for token in document.words() {
        if found >= enough {
            break;
        }
        let equal = |word: &&str| word.len() == token.bytes as usize && *word == token.of(document.text());
        if let Some(position) = missing.iter().position(equal) {
            missing.swap_remove(position);
            found += 1;
        }
    }
    found >= enough
}

/// Numbers of a document's words by kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WordCounts {
    /// All words, punctuation marks included.
    pub all: usize,
    /// Words with a letter.
    pub letters: usize,
    /// Words that are not symbols alone.
    pub plain: usize,
    pub plain_characters: usize,
}

impl WordCounts {
    pub(super) fn of(document: &Text) -> Self {
        let mut counts = Self::default();
        for word in document.words() {
            counts.add(word);
        }
        counts
    }

    fn add(&mut self, word: &Token) {
        let plain = usize::from(!word.is_symbols());
        self.all += 1;
        self.letters += usize::from(word.has_letter());
        self.plain += plain;
        self.plain_characters += plain * word.characters as usize;
    }
}

/// Numbers of a document's lines by how they begin and end.
pub(super) struct LineCounts {
    pub all: usize,
    pub bullets: usize,
    pub ellipses: usize,
}

impl LineCounts {
    pub(super) fn of(text: &str) -> Self {
        let mut counts = Self { all: 0, bullets: 0, ellipses: 0 };
        for line in lines(text) {
            let end = strip_end(line);
            counts.all += 1;
            counts.bullets += usize::from(strip_start(line).starts_with(['•', '-']));
            counts.ellipses += usize::from(end.ends_with("...") || end.ends_with('…'));
        }
        counts
    }
}

pub(super) fn hashes(text: &str) -> usize {
    memchr::memchr_iter(b'#', text.as_bytes()).count()
}

pub(super) fn ellipses(text: &str) -> usize {
    memmem::find_iter(text.as_bytes(), "...").count() + memmem::find_iter(text.as_bytes(), "…").count()
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::super::tests::verdict;
    use super::*;

    fn reason(text: &str) -> Option<&'static str> {
        match verdict(&Profile::GopherQuality(Default::default()), text) {
            Verdict::Drop { reason } => Some(reason),
            _ => None,
        }
    }

    /// Expected reasons, made by datatrove 0.10.1:
    /// `GopherQualityFilter().filter(Document(text=text, id=""))`.
    #[test]
    fn documents_are_dropped_for_datatroves_reasons() {
        let good = "have some of these words and those ".repeat(8);
        assert_eq!(reason(&good), None);
        assert_eq!(reason("too short"), Some("gopher_short_doc"));
        assert_eq!(reason(&"the quick and ".repeat(40_000)), Some("gopher_long_doc"));
        assert_eq!(reason(&"a of ".repeat(40)), Some("gopher_below_avg_threshold"));
        assert_eq!(reason(&"incomprehensibilities ".repeat(60)), Some("gopher_above_avg_threshold"));
        assert_eq!(reason(&format!("{good}{}", "# ".repeat(20))), Some("gopher_too_many_hashes"));
        assert_eq!(reason(&format!("{good}{}", "x... ".repeat(12))), Some("gopher_too_many_ellipsis"));
        assert_eq!(reason(&format!("- {good}")), Some("gopher_too_many_bullets"));
        assert_eq!(reason(&format!("{good}...")), Some("gopher_too_many_end_ellipsis"));
        assert_eq!(
            reason(&good.replace("some", "12").replace("these", "345")),
            Some("gopher_below_alpha_threshold")
        );
        assert_eq!(reason(&"only some other words here ".repeat(12)), Some("gopher_enough_stop_words"));
        assert_eq!(reason(&"Have Some OF these words here ".repeat(12)), Some("gopher_enough_stop_words"));
    }

    #[test]
    fn zero_switches_checks_off() {
        let off = GopherQuality {
            min_words: 0,
            max_words: 0,
            min_mean_word_length: 0.0,
            max_mean_word_length: 0.0,
            max_symbols: 0.0,
            max_bullet_lines: 0.0,
            max_ellipsis_lines: 0.0,
            min_letter_words: 0.0,
            min_stop_words: 0,
            stop_words: None,
        };
        for text in ["", "# # ...", "- - -...", "1 2 3"] {
            assert_eq!(verdict(&Profile::GopherQuality(off.clone()), text), Verdict::Keep);
        }
    }
}
