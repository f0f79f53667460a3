//! Rules that NeMo Curator has beyond Gopher's and C4's (NVIDIA-NeMo/Curator, `heuristic_filter.py`, 2025):
//! `NonAlphaNumericFilter`, `NumbersFilter`, `UrlsFilter`, `WhiteSpaceFilter`, `ParenthesesFilter`,
//! `BoilerPlateStringFilter`, `PunctuationFilter`. The reasons are the names of those filters' scores. In
//! languages other than English, letters and end marks of all scripts are accepted.

use super::super::text::{
    Text,
    characters::{DECIMAL, LETTER, MARK, TERMINAL, strip},
};
use super::{
    Verdict, above, ends_sentence,
    fineweb::full_lines,
    phrases::{Mentions, matcher},
    ratio,
};
use aho_corasick::AhoCorasick;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Maximum shares that a document may have; 0 switches a check off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Curator {
    /// Maximum share of characters other than letters, digits, line feeds and `?!,.`; blanks count.
    pub max_non_alphanumeric: f64,
    /// Maximum share of digits.
    pub max_numbers: f64,
    /// Maximum share of characters in web addresses.
    pub max_urls: f64,
    /// Maximum share of blanks, tabs and line feeds.
    pub max_white_space: f64,
    /// Maximum share of brackets of any kind.
    pub max_parentheses: f64,
    /// Maximum share of paragraphs with a phrase such as `privacy policy`; `lorem ipsum` anywhere makes the
    /// share 1.
    pub max_boilerplate: f64,
    /// Maximum share of lines without an end mark.
    pub max_unended_lines: f64,
}

impl Default for Curator {
    fn default() -> Self {
        Self {
            max_non_alphanumeric: 0.25,
            max_numbers: 0.15,
            max_urls: 0.2,
            max_white_space: 0.25,
            max_parentheses: 0.1,
            max_boilerplate: 0.4,
            max_unended_lines: 0.85,
        }
    }
}

impl Curator {
    pub fn check(&self, document: &Text) -> Verdict {
        match self.reason(document) {
            Some(reason) => Verdict::Drop { reason },
            None => Verdict::Keep,
        }
    }

    fn reason(&self, document: &Text) -> Option<&'static str> {
        let counts = Counts::of(document);
        let boilerplate = || boilerplate(document.text());
        let unended = || unended(document);
        // What takes longer comes last; it does not change what is kept.
        None.or_else(|| counts.above(counts.other, self.max_non_alphanumeric).then_some("alpha_numeric"))
            .or_else(|| counts.above(counts.digits, self.max_numbers).then_some("numbers_ratio"))
            .or_else(|| counts.above(counts.space, self.max_white_space).then_some("white_space"))
            .or_else(|| counts.above(counts.brackets, self.max_parentheses).then_some("parentheses_ratio"))
            .or_else(|| counts.above(urls(document.text()), self.max_urls).then_some("urls_ratio"))
            .or_else(|| above(boilerplate(), self.max_boilerplate).then_some("boilerplate_string_ratio"))
            .or_else(|| above(unended(), self.max_unended_lines).then_some("punctuation"))
    }
}

/// Numbers of a document's characters by kind.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub all: usize,
    pub other: usize,
    pub digits: usize,
    pub space: usize,
    pub brackets: usize,
}

impl Counts {
    pub(super) fn of(document: &Text) -> Self {
        let english = document.family().is_english();
        let classes = document.classes();
        let mut counts = Self::default();
        for character in document.text().chars() {
            let class = classes.of(character);
            let plain = matches!(character, 'a'..='z' | 'A'..='Z' | '0'..='9' | '\n' | '?' | '!' | ',' | '.')
                || !english && class & (LETTER | MARK | DECIMAL | TERMINAL) != 0;
            counts.all += 1;
            counts.other += usize::from(!plain);
            counts.digits += usize::from(class & DECIMAL != 0);
            counts.space += usize::from(matches!(character, '\t' | '\n' | '\r' | '\u{8}' | ' '));
            counts.brackets +=
                usize::from(matches!(character, '{' | '}' | '⟨' | '⟩' | '[' | ']' | '(' | ')'));
        }
        counts
    }

    /// Returns whether a share is above a maximum that is set; in an empty document every share is.
    fn above(&self, part: usize, maximum: f64) -> bool {
        if self.all == 0 { maximum != 0.0 } else { above(ratio(part, self.all), maximum) }
    }
}

/// Counts the characters of web addresses: `https?://` and the characters that may follow it, all of them
/// ASCII.
pub(super) fn urls(text: &str) -> usize {
    let mut characters = 0;
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest.as_bytes(), b"http") {
        rest = &rest[at..];
        let scheme = if rest.starts_with("https://") { 8 } else { 7 };
        let is_url = scheme == 8 || rest.starts_with("http://");
        let address = |byte: &u8| matches!(byte, b'!' | b'$'..=b'_' | b'a'..=b'z');
        let length = if is_url { rest.bytes().skip(scheme).take_while(address).count() } else { 0 };
        characters += if length > 0 { scheme + length } else { 0 };
        rest = &rest[if length > 0 { scheme + length } else { 4 }..];
    }
    characters
}

/// Beginnings of the paragraphs about cookies that Curator lists in full, and its shorter phrases that C4
/// lacks.
const PHRASES: [&str; 6] = [
    "privacy overview",
    "privacy & cookies policy",
    "privacy and cookies policy",
    "necessary cookies are absolutely essential for the website",
    "any cookies that may not be particularly necessary for the website",
    "if you continue to browse this site without changing your cookie settings",
];

/// Share of paragraphs with a phrase of [`PHRASES`] or of C4's policies; 1 if one has `lorem ipsum`.
pub(super) fn boilerplate(text: &str) -> f64 {
    static MATCHER: LazyLock<AhoCorasick> = LazyLock::new(|| matcher(&PHRASES));
    let (mut all, mut found) = (0, 0);
    for paragraph in text.split("\n\n") {
        let mentions = Mentions::of(paragraph);
        if mentions.lorem_ipsum {
            return 1.0;
        }
        all += 1;
        found += usize::from(mentions.policy || MATCHER.is_match(paragraph));
    }
    ratio(found, all)
}

/// Share of lines without an end mark.
pub(super) fn unended(document: &Text) -> f64 {
    if !document.family().has_end_marks() {
        return 0.0;
    }
    let (mut all, mut found) = (0, 0);
    for line in full_lines(document.text()) {
        all += 1;
        found += usize::from(!ends_sentence(strip(line), document.family()));
    }
    ratio(found, all)
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::super::tests::verdict;
    use super::*;

    #[test]
    fn documents_are_dropped_by_their_shares() {
        let check = |text: &str| verdict(&Profile::Curator(Default::default()), text);
        let good = "This is a line of quite ordinary text, as people write it.";
        assert_eq!(check(good), Verdict::Keep);
        for (text, reason) in [
            (String::new(), "alpha_numeric"),
            ("~~~~ ---- ====".to_owned(), "alpha_numeric"),
            ("123456 words 7".to_owned(), "numbers_ratio"),
            (format!("{good}{}", "\n".repeat(40)), "white_space"),
            ("a(b)cdefg(h)".to_owned(), "alpha_numeric"),
            ("abcdefg(h)ijk(l)mn.".to_owned(), "parentheses_ratio"),
            (format!("{good} http://example.org/index.html?a.b.c,d.e"), "urls_ratio"),
            (format!("See our Terms of Use.\n\n{good}"), "boilerplate_string_ratio"),
            (good.replace('.', ""), "punctuation"),
        ] {
            assert_eq!(check(&text), Verdict::Drop { reason }, "{text}");
        }
    }

    #[test]
    fn addresses_are_measured() {
        assert_eq!(urls("see http://a.b/c and https://x, http or http://"), 12 + 10);
        assert_eq!(urls("http://a http://b\""), 8 + 8);
    }
}
