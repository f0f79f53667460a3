//! Filters profanity and toxicity by a list of words: it measures the share of a document's words that are
//! listed.

use super::super::{Error, Result, SplitWords};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, ops::Range, path::PathBuf};
use unicode_normalization::UnicodeNormalization;

/// Settings of the list, and of how many listed words a document may have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WordListConfig {
    /// File of words and phrases, one a line; if empty, a short list of English profanity is used.
    pub file: PathBuf,
    /// Maximum share of listed words among a document's words.
    pub max_share: f64,
    /// Maximum number of listed words; 0 for no limit.
    pub max_count: usize,
}

impl Default for WordListConfig {
    fn default() -> Self {
        Self { file: PathBuf::new(), max_share: 0.01, max_count: 0 }
    }
}

/// A short list of English profanity, used when no file is given. It has words that are hardly ever used in
/// another sense, and no names of groups of people, for which only a classifier can tell how they are used.
pub const ENGLISH: &[&str] = &[
    "arsehole",
    "asshole",
    "assholes",
    "bastards",
    "bitch",
    "bitches",
    "blowjob",
    "bollocks",
    "bullshit",
    "clusterfuck",
    "cocksucker",
    "cum",
    "cumshot",
    "cunt",
    "cunts",
    "dickhead",
    "dipshit",
    "douchebag",
    "fuck",
    "fucked",
    "fucker",
    "fuckers",
    "fuckin",
    "fucking",
    "fucks",
    "gangbang",
    "goddamn",
    "handjob",
    "hentai",
    "horseshit",
    "jackass",
    "jizz",
    "milf",
    "motherfucker",
    "motherfuckers",
    "motherfucking",
    "piss off",
    "porn",
    "porno",
    "pussy",
    "shit",
    "shithead",
    "shits",
    "shitty",
    "slut",
    "sluts",
    "son of a bitch",
    "twat",
    "wank",
    "wanker",
    "whore",
    "whores",
];

/// A list of words and phrases that ignores case. They are found as whole words; those in scripts without
/// blanks between words are found wherever their characters occur, as it is uncertain where words end.
#[derive(Debug, Clone)]
pub struct WordList {
    config: WordListConfig,
    /// Phrases by their first word: the remaining words of each phrase, longest first.
    phrases: HashMap<String, Vec<Vec<String>>>,
    /// Phrases in scripts without blanks, by their first character, longest first.
    unspaced: HashMap<char, Vec<String>>,
}

/// Numbers of words, and of listed words, in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listed {
    pub words: usize,
    /// Words that are listed or are part of a listed phrase.
    pub listed: usize,
}

impl Listed {
    pub fn share(&self) -> f64 {
        if self.words == 0 { 0.0 } else { self.listed as f64 / self.words as f64 }
    }
}

impl WordList {
    /// Makes a list of words and phrases, which are split into words as documents are.
    pub fn new<'a>(
        config: &WordListConfig,
        list: impl IntoIterator<Item = &'a str>,
        words: &mut SplitWords,
    ) -> Result<Self> {
        if !(0.0..=1.0).contains(&config.max_share) {
            return Err(Error::invalid_value(
                "word_list.max_share",
                config.max_share,
                "must be between 0 and 1",
            ));
        }
        let mut phrases: HashMap<String, Vec<Vec<String>>> = HashMap::new();
        let mut unspaced: HashMap<char, Vec<String>> = HashMap::new();
        for phrase in list {
            let phrase = folded(phrase.trim());
            if let Some(first) = phrase.chars().next().filter(|_| phrase.contains(is_unspaced)) {
                let others = unspaced.entry(first).or_default();
                others.push(phrase);
                others.sort_by_key(|phrase| std::cmp::Reverse(phrase.len()));
                continue;
            }
            let mut cut =
                words(&phrase).into_iter().map(|range| phrase.get(range).unwrap_or_default().to_string());
            if let Some(first) = cut.next() {
                let rest = cut.collect();
                let others = phrases.entry(first).or_default();
                others.push(rest);
                others.sort_by_key(|rest| std::cmp::Reverse(rest.len()));
            }
        }
        Ok(Self { config: config.clone(), phrases, unspaced })
    }

    /// Parses a user's file: a word or phrase a line, without blank lines and lines that begin with `#`.
    pub fn parse(config: &WordListConfig, file: &str, words: &mut SplitWords) -> Result<Self> {
        let lines = file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self::new(config, lines, words)
    }

    /// Counts the listed words of a text. If phrases overlap, the first counts, or the longest that begins
    /// there.
    pub fn count(&self, text: &str, words: &mut SplitWords) -> Listed {
        let text = folded(text);
        let ranges = words(&text);
        let words: Vec<&str> =
            ranges.iter().map(|range| text.get(range.clone()).unwrap_or_default()).collect();
        let mut is_listed = vec![false; words.len()];
        let mut at = 0;
        while at < words.len() {
            let rest = &words[at + 1..];
            let is_here = |phrase: &&Vec<String>| {
                phrase.len() <= rest.len() && phrase.iter().zip(rest).all(|(a, b)| a == b)
            };
            let length = self
                .phrases
                .get(words[at])
                .and_then(|phrases| phrases.iter().find(is_here))
                .map_or(0, |phrase| phrase.len() + 1);
            is_listed[at..at + length].fill(true);
            at += length.max(1);
        }
        for found in self.find_unspaced(&text) {
            let first = ranges.partition_point(|range| range.end <= found.start);
            let inside = ranges[first..].iter().take_while(|range| range.start < found.end).count();
            is_listed[first..first + inside].fill(true);
        }
        Listed { words: words.len(), listed: is_listed.into_iter().filter(|is_listed| *is_listed).count() }
    }

    /// Byte ranges of phrases in scripts without blanks.
    fn find_unspaced(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if self.unspaced.is_empty() || text.is_ascii() {
            return found;
        }
        let mut end = 0;
        for (at, character) in text.char_indices() {
            if at < end {
                continue;
            }
            let entries = self.unspaced.get(&character);
            let is_here = |entry: &&String| text[at..].starts_with(entry.as_str());
            if let Some(entry) = entries.and_then(|entries| entries.iter().find(is_here)) {
                end = at + entry.len();
                found.push(at..end);
            }
        }
        found
    }

    pub fn keeps(&self, listed: &Listed) -> bool {
        let is_few = self.config.max_count == 0 || listed.listed <= self.config.max_count;
        is_few && listed.share() <= self.config.max_share
    }
}

/// Normalizes case, and the encoding of letters with marks.
fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // By way of capitals, `ß` is `ss` and both forms of `σ` are one.
    text.nfc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfc().collect()
}

/// Returns whether a character is of a script without blanks: Han, kana, Thai, Lao, Tibetan, Burmese or
/// Khmer.
fn is_unspaced(character: char) -> bool {
    matches!(
        u32::from(character),
        0x0E00..=0x0FFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x2E80..=0x2FDF | 0x3005..=0x3007
            | 0x3040..=0x30FF | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
            | 0xFF66..=0xFF9F | 0x20000..=0x3FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::blank_separated;
    use super::*;

    #[test]
    fn counts_words_and_phrases_once() {
        let config = WordListConfig { max_share: 0.3, max_count: 4, ..Default::default() };
        let list =
            WordList::parse(&config, "# mine\nDamn\n\nson of\nson of a gun\n", &mut blank_separated).unwrap();
        let count = |text| list.count(text, &mut blank_separated);
        assert_eq!(count("DAMN the son of a gun"), Listed { words: 6, listed: 5 });
        assert_eq!(count("my son of a kind, son of"), Listed { words: 7, listed: 4 });
        // No part of a word, and no other letters for its own.
        assert_eq!(count("goddamn damnation damn-all d4mn son"), Listed { words: 5, listed: 0 });
        assert_eq!(count(""), Listed::default());
        assert!(list.keeps(&Listed { words: 10, listed: 3 }));
        assert!(!list.keeps(&Listed { words: 9, listed: 3 }));
        assert!(!list.keeps(&Listed { words: 100, listed: 5 }));
    }

    #[test]
    fn case_and_forms_do_not_count() {
        let list = ["Scheiße", "ΛΌΓΟΣ", "mot caf\u{e9}", "Дурак"];
        let list = WordList::new(&WordListConfig::default(), list, &mut blank_separated).unwrap();
        for text in ["SCHEISSE", "scheiße", "λόγος", "Mot CAFE\u{301}", "ДУРАК", "дурак"] {
            let words = text.split(' ').count();
            assert_eq!(list.count(text, &mut blank_separated), Listed { words, listed: words }, "{text}");
        }
        assert_eq!(list.count("дураки scheißen", &mut blank_separated).listed, 0);
    }

    #[test]
    fn scripts_without_blanks_are_matched_anywhere() {
        let list = ["混蛋", "大混蛋", "くそ", "ควาย", "A级片", "바보"];
        let list = WordList::new(&WordListConfig::default(), list, &mut blank_separated).unwrap();
        // Every character a word, as one may cut.
        let mut characters =
            |text: &str| text.char_indices().map(|(at, c)| at..at + c.len_utf8()).collect::<Vec<_>>();
        assert_eq!(list.count("他是大混蛋啊", &mut characters), Listed { words: 6, listed: 3 });
        assert_eq!(list.count("混蛋混 蛋混蛋", &mut characters), Listed { words: 7, listed: 4 });
        // One match in what is cut as one word, in others, or in none.
        assert_eq!(list.count("这くそだ bad a级片", &mut blank_separated), Listed { words: 3, listed: 2 });
        assert_eq!(list.count("ไอ้ควายนี่", &mut blank_separated).listed, 1);
        assert_eq!(list.count("混蛋", &mut |_| vec![]), Listed::default());
        // Korean has blanks.
        assert_eq!(list.count("바보 바보상자", &mut blank_separated), Listed { words: 2, listed: 1 });
    }

    #[test]
    fn the_built_in_list_is_ready() {
        let list =
            WordList::new(&WordListConfig::default(), ENGLISH.iter().copied(), &mut blank_separated).unwrap();
        assert_eq!(list.count("Oh shit said Scunthorpe", &mut blank_separated).listed, 1);
        assert!(ENGLISH.is_sorted());
        let bad = WordListConfig { max_share: -1.0, ..WordListConfig::default() };
        assert!(WordList::new(&bad, [], &mut blank_separated).is_err());
    }
}
