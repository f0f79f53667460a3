//! Normalizes texts before they are compared, so that differences in form do not count. The default switches
//! give the same as `simplify_text` of datatrove 0.10.1 (`utils/text.py`). The steps, in order: lower case,
//! numbers, names of days and months, punctuation, white space, diacritics.

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::LazyLock};
use unicode_normalization::UnicodeNormalization;

/// Differences to ignore. The defaults are datatrove's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Normalization {
    pub lowercase: bool,
    /// A number becomes `0`.
    pub numbers: bool,
    /// English names of days, in lower case, become `WEEKDAY`.
    pub weekdays: bool,
    /// English names of months, in lower case, become `MONTH`.
    pub months: bool,
    /// Punctuation becomes blanks.
    pub punctuation: bool,
    /// A run of white space becomes one blank.
    pub white_space: bool,
    /// Letters lose their marks; composed characters are decomposed.
    pub diacritics: bool,
}

impl Default for Normalization {
    fn default() -> Self {
        Self {
            lowercase: true,
            numbers: true,
            weekdays: false,
            months: false,
            punctuation: true,
            white_space: true,
            diacritics: true,
        }
    }
}

impl Normalization {
    /// Ignores differences in white space only.
    pub const WHITE_SPACE: Self = Self {
        lowercase: false,
        numbers: false,
        weekdays: false,
        months: false,
        punctuation: false,
        white_space: true,
        diacritics: false,
    };

    /// Normalizes a text and removes white space at its ends.
    pub fn apply(&self, text: &str) -> String {
        let mut text = if self.lowercase { lowercase(text) } else { Cow::Borrowed(text) };
        // The names have no digits, so that it does not matter whether they or the numbers come first.
        if self.weekdays {
            text = replace_names(&text, &WEEKDAYS, "WEEKDAY").into();
        }
        if self.months {
            text = replace_names(&text, &MONTHS, "MONTH").into();
        }
        let text = self.map_characters(&text);
        let mut text = if self.diacritics && !text.is_ascii() { without_marks(&text) } else { text };
        text.truncate(text.trim_end_matches(is_white_space).len());
        let blank = text.len() - text.trim_start_matches(is_white_space).len();
        text.drain(..blank);
        text
    }

    /// Normalizes numbers, punctuation and white space in one pass.
    fn map_characters(&self, text: &str) -> String {
        let bytes = text.as_bytes();
        let mut out = Vec::with_capacity(text.len());
        // White space that has been read and not yet written; none is written at the ends.
        let mut pending = false;
        let mut at = 0;
        while at < bytes.len() {
            let (mut class, mut length) = class_at(text, at);
            if class == Class::Digit {
                if self.numbers {
                    length = number(text, at);
                } else {
                    // One digit is also in datatrove's list of punctuation.
                    let is_both = char_at(text, at).is_some_and(is_punctuation);
                    class = if is_both { Class::Punctuation } else { Class::Other };
                }
            }
            if class == Class::Punctuation && !self.punctuation {
                // Control characters may be white space too.
                class = match char_at(text, at) {
                    Some(c) if is_white_space(c) => Class::Space,
                    _ => Class::Other,
                };
            }
            match class {
                Class::Punctuation | Class::Space if self.white_space => pending = true,
                Class::Punctuation => out.push(b' '),
                _ => {
                    if pending && !out.is_empty() {
                        out.push(b' ');
                    }
                    pending = false;
                    if class == Class::Digit {
                        out.push(b'0');
                    } else {
                        out.extend_from_slice(&bytes[at..at + length]);
                    }
                }
            }
            at += length;
        }
        // Whole characters were copied, so that nothing is lost here.
        String::from_utf8(out).unwrap_or_default()
    }
}

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn replace_names(text: &str, names: &[&str], by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match names.iter().find(|name| rest.starts_with(**name)) {
            Some(name) => {
                out.push_str(by);
                rest = &rest[name.len()..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

fn lowercase(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.to_ascii_lowercase().into();
    }
    // Only this letter depends on its neighbours.
    if text.contains('Σ') {
        return text.to_lowercase().into();
    }
    let mut out = String::with_capacity(text.len());
    for run in text.as_bytes().chunk_by(|a, b| a.is_ascii() == b.is_ascii()) {
        match str::from_utf8(run) {
            Ok(run) if run.is_ascii() => {
                let start = out.len();
                out.push_str(run);
                out[start..].make_ascii_lowercase();
            }
            Ok(run) => out.extend(run.chars().flat_map(char::to_lowercase)),
            // A cut between ASCII and not lies between characters.
            Err(_) => {}
        }
    }
    out.into()
}

/// Decomposes characters canonically and removes non-spacing marks. ASCII characters take no marks from their
/// neighbours, so that every run of other characters can be handled by itself.
fn without_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for run in text.as_bytes().chunk_by(|a, b| a.is_ascii() == b.is_ascii()) {
        match str::from_utf8(run) {
            Ok(run) if run.is_ascii() => out.push_str(run),
            Ok(run) => out.extend(run.nfd().filter(|&c| !in_ranges(&MARKS, c))),
            Err(_) => {}
        }
    }
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Other,
    Space,
    Digit,
    Punctuation,
}

/// Class and length in bytes of the character at `at`, which is within the text.
#[inline]
fn class_at(text: &str, at: usize) -> (Class, usize) {
    let byte = text.as_bytes()[at];
    if byte.is_ascii() {
        return (ASCII[usize::from(byte)], 1);
    }
    let Some(character) = char_at(text, at) else { return (Class::Other, 1) };
    let class = if in_ranges(&DIGITS, character) {
        Class::Digit
    } else if is_punctuation(character) {
        Class::Punctuation
    } else if is_white_space(character) {
        Class::Space
    } else {
        Class::Other
    };
    (class, character.len_utf8())
}

fn char_at(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next()
}

/// Length in bytes of the number at `start`: digits, and at most one separator with digits after it.
fn number(text: &str, start: usize) -> usize {
    let digits = |mut at: usize| {
        while at < text.len()
            && let (Class::Digit, length) = class_at(text, at)
        {
            at += length;
        }
        at
    };
    let end = digits(start);
    match char_at(text, end) {
        Some(c) if matches!(c, '.' | ',' | '،' | '٫' | '⎖' | '⎗' | '⎘') => {
            let after = end + c.len_utf8();
            let last = digits(after);
            if last > after { last - start } else { end - start }
        }
        _ => end - start,
    }
}

const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'\t' | b'\n' | b' ' => Class::Space,
            b'0'..=b'9' => Class::Digit,
            byte if byte.is_ascii_punctuation() || byte.is_ascii_control() => Class::Punctuation,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
};

/// Returns whether a character beyond ASCII is in datatrove's `PUNCTUATION`.
fn is_punctuation(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9F}' | '«' | '´' | '»' | '–' | '—' | '’' | '“'..='„' | '…' | '∶' | '━' | '►'
            | '、' | '。' | '〈'..='》' | '「' | '」' | '【' | '】' | '！' | '％' | '（' | '）' | '，' | '．'
            | '１' | '：' | '；' | '？' | '～'
    )
}

/// Returns whether a character is white space in Python, which has four separators more than Rust.
pub(super) fn is_white_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1C}'..='\u{1F}')
}

static DIGITS: LazyLock<Vec<(char, char)>> = LazyLock::new(|| ranges(r"\p{Nd}"));
static MARKS: LazyLock<Vec<(char, char)>> = LazyLock::new(|| ranges(r"\p{Mn}"));

/// Ranges of the characters in a class of the regular-expression engine, in ascending order.
fn ranges(class: &str) -> Vec<(char, char)> {
    use regex_syntax::hir::{Class, HirKind};
    // The patterns are fixed and valid; an engine that refused them would leave the class empty.
    match regex_syntax::parse(class).map(|hir| hir.into_kind()) {
        Ok(HirKind::Class(Class::Unicode(class))) => {
            class.ranges().iter().map(|range| (range.start(), range.end())).collect()
        }
        _ => Vec::new(),
    }
}

fn in_ranges(ranges: &[(char, char)], character: char) -> bool {
    let after = ranges.partition_point(|range| range.0 <= character);
    after > 0 && character <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simplifies_as_datatrove_does() {
        // datatrove.utils.text.simplify_text of each.
        for (text, simple) in [
            ("Don't STOP 1,234.5 at 10pm — café №5 “hi” x_y", "don t stop 0 0 at 0pm cafe №0 hi x y"),
            ("", ""),
            ("  \n\t ", ""),
            ("a\u{1f}b\u{85}c\u{2028}d\u{a0}", "a b c d"),
            ("ΟΔΟΣ Straße İ", "οδος straße i"),
            ("x１２ １", "x0 0"),
            ("3.14. 2,7,1 ٣٫٤ x.5", "0 0 0 0 x 0"),
            ("e\u{301} \u{301} é", "e  e"),
        ] {
            assert_eq!(Normalization::default().apply(text), simple, "{text:?}");
        }
    }

    #[test]
    fn switches_are_independent() {
        let off = Normalization { white_space: false, ..Normalization::WHITE_SPACE };
        let text = " A  b,\u{1f}\tÉ 12.5 \n";
        assert_eq!(off.apply(text), "A  b,\u{1f}\tÉ 12.5");
        assert_eq!(Normalization::WHITE_SPACE.apply(text), "A b, É 12.5");
        assert_eq!(Normalization { numbers: true, ..off }.apply(text), "A  b,\u{1f}\tÉ 0");
        assert_eq!(Normalization { punctuation: true, ..off }.apply(text), "A  b  \tÉ 12 5");
        let names = Normalization { weekdays: true, months: true, ..Normalization::default() };
        assert_eq!(names.apply("Monday, 3 May; maybe"), "WEEKDAY 0 MONTH MONTHbe");
    }
}
