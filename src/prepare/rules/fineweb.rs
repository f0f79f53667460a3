//! FineWeb's own rules (Penedo et al., 2024, <https://arxiv.org/abs/2406.17557>), as
//! `FineWebQualityFilter` of datatrove 0.10.1 has them.

use super::super::text::{
    Text,
    characters::{TERMINAL, count, strip},
};
use super::{Verdict, above, below, duplicates, ratio};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fineweb {
    /// Minimum share of lines with an end mark; not checked for Thai and Lao, which have none.
    pub min_end_marks: f64,
    /// Keeps documents in which no line has an end mark.
    pub keep_without_end_marks: bool,
    /// Maximum share of short lines.
    pub max_short_lines: f64,
    /// Maximum characters of a short line; a third of it for Chinese and Japanese.
    pub short_line: usize,
    /// Maximum share of characters in repeated lines. Later versions of FineWeb have 0.1.
    pub max_duplicate_characters: f64,
    /// Maximum ratio of line feeds to words.
    pub max_line_feeds: f64,
}

impl Default for Fineweb {
    fn default() -> Self {
        Self {
            min_end_marks: 0.12,
            keep_without_end_marks: false,
            max_short_lines: 0.67,
            short_line: 30,
            max_duplicate_characters: 0.01,
            max_line_feeds: 0.3,
        }
    }
}

impl Fineweb {
    pub fn check(&self, document: &Text) -> Verdict {
        match self.reason(document) {
            Some(reason) => Verdict::Drop { reason },
            None => Verdict::Keep,
        }
    }

    fn reason(&self, document: &Text) -> Option<&'static str> {
        let text = document.text();
        let lines: Vec<&str> = full_lines(text).collect();
        if lines.is_empty() {
            return Some("empty");
        }
        let share = ratio(ended(document, &lines), lines.len());
        let excused = share == 0.0 && self.keep_without_end_marks;
        if document.family().has_end_marks() && below(share, self.min_end_marks) && !excused {
            return Some("line_punct_ratio");
        }
        let limit = document.family().scale(self.short_line);
        if above(ratio(short(&lines, limit), lines.len()), self.max_short_lines) {
            return Some("short_line_ratio");
        }
        let line_feeds = memchr::memchr_iter(b'\n', text.as_bytes()).count();
        if self.max_duplicate_characters != 0.0 {
            let (_, repeated) = duplicates(lines.iter().copied());
            if ratio(repeated, document.characters() - line_feeds) > self.max_duplicate_characters {
                return Some("char_dup_ratio");
            }
        }
        let many =
            self.max_line_feeds != 0.0 && ratio(line_feeds, document.words().count()) > self.max_line_feeds;
        many.then_some("list_ratio")
    }
}

/// Lines that are not blank, including the blanks at their ends.
pub(super) fn full_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').filter(|line| !strip(line).is_empty())
}

/// Counts the lines whose last character is an end mark.
pub(super) fn ended(document: &Text, lines: &[&str]) -> usize {
    let ends =
        |line: &&&str| line.chars().next_back().is_some_and(|last| document.classes().is(last, TERMINAL));
    lines.iter().filter(ends).count()
}

/// Counts the lines with at most `limit` characters.
pub(super) fn short(lines: &[&str], limit: usize) -> usize {
    // A character takes at most four bytes.
    lines.iter().filter(|line| line.len() <= 4 * limit && count(line) <= limit).count()
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::super::tests::verdict;
    use super::*;

    /// Expected reasons, made by datatrove 0.10.1:
    /// `FineWebQualityFilter().filter(Document(text=text, id=""))`.
    #[test]
    fn documents_are_dropped_for_datatroves_reasons() {
        let check = |text: &str| verdict(&Profile::Fineweb(Default::default()), text);
        let line = "A line that is long enough to count as one.";
        let other = "And another one that is long enough as well!";
        assert_eq!(check(&format!("{line}\n{other}")), Verdict::Keep);
        for (text, reason) in [
            (" \n\u{1f}\n".to_owned(), "empty"),
            (format!("{line} \n{other}\r\n"), "line_punct_ratio"),
            (format!("{line}\nshort.\nshort too.\nand so on."), "short_line_ratio"),
            (format!("{line}\n{other}\n{line}"), "char_dup_ratio"),
            (format!("{line}\n\n\n\n\n\n\n\n{other}"), "list_ratio"),
        ] {
            assert_eq!(check(&text), Verdict::Drop { reason }, "{text}");
        }
    }
}
