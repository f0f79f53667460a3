//! Gopher's repetition rules (Rae et al., 2021, <https://arxiv.org/abs/2112.11446>, table A1), as
//! `GopherRepetitionFilter` of datatrove 0.10.1 has them.

use super::super::text::{
    Text,
    characters::{split_line_feeds, strip},
    tokens::{Joined, Token, extend},
};
use super::{Verdict, above, duplicates, ratio};
use serde::{Deserialize, Serialize};

/// Maximum shares of repeated text; 0 switches a check off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GopherRepetition {
    /// Maximum share of repeated paragraphs.
    pub max_duplicate_paragraphs: f64,
    /// Maximum share of characters in repeated paragraphs.
    pub max_duplicate_paragraph_characters: f64,
    /// Maximum share of repeated lines.
    pub max_duplicate_lines: f64,
    /// Maximum share of characters in repeated lines.
    pub max_duplicate_line_characters: f64,
    /// Maximum share of characters in the most frequent 2-gram of words.
    pub max_top_2_gram: f64,
    pub max_top_3_gram: f64,
    pub max_top_4_gram: f64,
    /// Maximum share of characters in 5-grams of words that occurred before.
    pub max_duplicate_5_grams: f64,
    pub max_duplicate_6_grams: f64,
    pub max_duplicate_7_grams: f64,
    pub max_duplicate_8_grams: f64,
    pub max_duplicate_9_grams: f64,
    pub max_duplicate_10_grams: f64,
}

impl Default for GopherRepetition {
    fn default() -> Self {
        Self {
            max_duplicate_paragraphs: 0.3,
            max_duplicate_paragraph_characters: 0.2,
            max_duplicate_lines: 0.3,
            max_duplicate_line_characters: 0.2,
            max_top_2_gram: 0.2,
            max_top_3_gram: 0.18,
            max_top_4_gram: 0.16,
            max_duplicate_5_grams: 0.15,
            max_duplicate_6_grams: 0.14,
            max_duplicate_7_grams: 0.13,
            max_duplicate_8_grams: 0.12,
            max_duplicate_9_grams: 0.11,
            max_duplicate_10_grams: 0.10,
        }
    }
}

impl GopherRepetition {
    pub fn check(&self, document: &Text) -> Verdict {
        match self.reason(document) {
            Some(reason) => Verdict::Drop { reason },
            None => Verdict::Keep,
        }
    }

    fn reason(&self, document: &Text) -> Option<&'static str> {
        if document.text().is_empty() {
            return Some("empty");
        }
        let whole = document.characters();
        let (all, repeated, characters) = paragraphs(document.text());
        if above(ratio(repeated, all), self.max_duplicate_paragraphs) {
            return Some("dup_para_frac");
        }
        if above(ratio(characters, whole), self.max_duplicate_paragraph_characters) {
            return Some("dup_para_char_frac");
        }
        let (all, repeated, characters) = lines(document.text());
        if above(ratio(repeated, all), self.max_duplicate_lines) {
            return Some("dup_line_frac");
        }
        if above(ratio(characters, whole), self.max_duplicate_line_characters) {
            return Some("dup_line_char_frac");
        }
        let tops = [
            (2, self.max_top_2_gram, "top_2_gram"),
            (3, self.max_top_3_gram, "top_3_gram"),
            (4, self.max_top_4_gram, "top_4_gram"),
        ];
        let runs = [
            (5, self.max_duplicate_5_grams, "duplicated_5_n_grams"),
            (6, self.max_duplicate_6_grams, "duplicated_6_n_grams"),
            (7, self.max_duplicate_7_grams, "duplicated_7_n_grams"),
            (8, self.max_duplicate_8_grams, "duplicated_8_n_grams"),
            (9, self.max_duplicate_9_grams, "duplicated_9_n_grams"),
            (10, self.max_duplicate_10_grams, "duplicated_10_n_grams"),
        ];
        if tops.iter().chain(&runs).all(|(_, maximum, _)| *maximum == 0.0) {
            return None;
        }
        let mut grams = Grams::new(document);
        for (count, maximum, reason) in tops {
            if maximum != 0.0 && ratio(grams.top(count), whole) > maximum {
                return Some(reason);
            }
        }
        for (count, maximum, reason) in runs {
            if maximum != 0.0 && ratio(grams.duplicates(count), whole) > maximum {
                return Some(reason);
            }
        }
        None
    }
}

/// Counts paragraphs, repeated paragraphs, and the characters of the repeated ones.
pub(super) fn paragraphs(text: &str) -> (usize, usize, usize) {
    repeated(|| split_line_feeds(strip(text), 2))
}

/// Counts lines, repeated lines, and the characters of the repeated ones.
pub(super) fn lines(text: &str) -> (usize, usize, usize) {
    repeated(|| split_line_feeds(text, 1))
}

fn repeated<'a, I: Iterator<Item = &'a str>>(pieces: impl Fn() -> I) -> (usize, usize, usize) {
    let all = pieces().count();
    // A piece alone repeats nothing, and is most of the text to hash.
    if all == 1 {
        return (1, 0, 0);
    }
    let (count, characters) = duplicates(pieces());
    (all, count, characters)
}

/// N-grams of a document's words, represented by hashes. With 61 bits, a document of 100,000 words has two
/// different n-grams with the same hash once in 10^7 times.
pub(super) struct Grams {
    words: Vec<Token>,
    joined: Joined,
    /// Characters of the first `i` words, for each `i` from 0.
    characters: Vec<usize>,
    /// Characters between two words of an n-gram: 1 if the language uses spaces, otherwise 0.
    between: usize,
    /// Hash of the n-gram that begins at each word, and its length `n`; [`top`](Self::top) computes them.
    runs: (Vec<u64>, usize),
    /// Hash table with open addressing; 0 is empty.
    keys: Vec<u64>,
    /// Index into `counts` for each slot of `keys`.
    places: Vec<u32>,
    /// Number of occurrences of an n-gram, and the index of its first word.
    counts: Vec<(u32, u32)>,
}

impl Grams {
    pub(super) fn new(document: &Text) -> Self {
        let words: Vec<Token> = document.words().copied().collect();
        let joined = Joined::new(words.iter());
        let mut all = 0;
        let sums = words.iter().map(|word| {
            all += word.characters as usize;
            all
        });
        let characters = std::iter::once(0).chain(sums).collect();
        // At most half full, so that a search is short.
        let slots = (2 * words.len()).next_power_of_two().max(16);
        let runs = (words.iter().map(|word| word.hash).collect(), 1);
        let between = usize::from(document.family().has_spaces());
        let (keys, places) = (vec![0; slots], vec![0; slots]);
        Self { words, joined, characters, between, runs, keys, places, counts: Vec::new() }
    }

    fn length(&self, first: usize, count: usize) -> usize {
        self.characters[first + count] - self.characters[first]
    }

    /// Counts the characters in all occurrences of the most frequent n-gram of `count` words; of several, the
    /// one that comes first. The blanks between its words count.
    pub(super) fn top(&mut self, count: usize) -> usize {
        let Some(last) = self.words.len().checked_sub(count) else { return 0 };
        if self.runs.1 > count {
            self.runs = (self.words.iter().map(|word| word.hash).collect(), 1);
        }
        while self.runs.1 < count {
            let (runs, done) = &mut self.runs;
            for (run, next) in runs.iter_mut().zip(&self.words[*done..]) {
                *run = extend(*run, next.hash);
            }
            *done += 1;
        }
        self.keys.fill(0);
        self.counts.clear();
        for first in 0..=last {
            let key = self.runs.0[first] + 1;
            let slot = slot(&self.keys, key);
            if self.keys[slot] == 0 {
                self.keys[slot] = key;
                self.places[slot] = self.counts.len() as u32;
                self.counts.push((1, first as u32));
            } else {
                self.counts[self.places[slot] as usize].0 += 1;
            }
        }
        let mut best = (0, 0);
        for &(times, first) in &self.counts {
            if times > best.0 {
                best = (times, first);
            }
        }
        (self.length(best.1 as usize, count) + self.between * (count - 1)) * best.0 as usize
    }

    /// Counts the characters in n-grams of `count` words that occurred before; counted n-grams do not
    /// overlap. An n-gram is its words joined, wherever they end.
    pub(super) fn duplicates(&mut self, count: usize) -> usize {
        self.keys.fill(0);
        let (mut first, mut characters) = (0, 0);
        while first + count <= self.words.len() {
            let key = self.joined.of(first, count) + 1;
            let slot = slot(&self.keys, key);
            if self.keys[slot] == key {
                characters += self.length(first, count);
                first += count;
            } else {
                self.keys[slot] = key;
                first += 1;
            }
        }
        characters
    }
}

/// Finds the slot that holds a key or, if there is none, the empty slot for it.
#[inline]
fn slot(keys: &[u64], key: u64) -> usize {
    let mask = keys.len() - 1;
    let mut slot = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask;
    while keys[slot] != 0 && keys[slot] != key {
        slot = (slot + 1) & mask;
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::super::super::text::words::Words;
    use super::super::Profile;
    use super::super::tests::verdict;
    use super::*;

    fn reason(text: &str) -> Option<&'static str> {
        match verdict(&Profile::GopherRepetition(Default::default()), text) {
            Verdict::Drop { reason } => Some(reason),
            _ => None,
        }
    }

    /// Makes a text of `count` different words.
    fn unique(from: usize, count: usize) -> String {
        (from..from + count).map(|number| format!("w{number}")).collect::<Vec<_>>().join(" ")
    }

    /// Expected reasons, made by datatrove 0.10.1:
    /// `GopherRepetitionFilter().filter(Document(text=text, id=""))`.
    #[test]
    fn documents_are_dropped_for_datatroves_reasons() {
        assert_eq!(reason(""), Some("empty"));
        assert_eq!(reason(&unique(0, 200)), None);
        assert_eq!(reason("hello world"), Some("top_2_gram"));
        let paragraphs = ["same paragraph here"; 3].join("\n\n") + "\n\nand another one";
        assert_eq!(reason(&paragraphs), Some("dup_para_frac"));
        assert_eq!(
            reason(&format!("same line\nsame line\nsame line\n{}", unique(0, 5))),
            Some("dup_line_frac")
        );
        assert_eq!(reason(&format!("{}{}", unique(0, 30), " foo bar".repeat(10))), Some("top_2_gram"));
        let twice = unique(0, 40);
        assert_eq!(reason(&format!("{twice} x {} y {twice}", unique(100, 20))), Some("duplicated_5_n_grams"));
    }

    #[test]
    fn runs_are_counted_as_datatrove_counts_them() {
        let words = Words::default();
        let document = Text::new("a b c a b c a b x", "en", &words);
        let mut grams = Grams::new(&document);
        // `a b` three times, three characters each.
        assert_eq!((grams.top(2), grams.top(3), grams.top(2)), (9, 10, 9));
        // `a b c` at 3, then `a b x` is new.
        assert_eq!((grams.duplicates(3), grams.duplicates(8)), (3, 0));
        // `ab c` and `a bc` are one run of two.
        assert_eq!(Grams::new(&Text::new("ab c a bc", "en", &words)).duplicates(2), 3);
        assert_eq!(Grams::new(&Text::new("a", "en", &words)).top(2), 0);
    }
}
