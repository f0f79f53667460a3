//! Removes lines that are no text: menus, counters, headings in capitals, invitations to read on. This
//! follows the line-wise corrections of RefinedWeb (Penedo et al., 2023, <https://arxiv.org/abs/2306.01116>,
//! appendix G.2); the phrases are Kiln's own, and lines with a phrase are removed rather than edited.

use super::super::text::{
    Text,
    characters::{DECIMAL, LETTER, split_space, strip},
};
use super::{Verdict, above, phrases::matcher, ratio};
use aho_corasick::AhoCorasick;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lines {
    /// Minimum words of a line; 2 removes words that stand alone.
    pub min_words: usize,
    /// Minimum characters of a line.
    pub min_characters: usize,
    /// Removes lines that are too short only at the top and the bottom, up to the first that is long enough.
    pub short_at_ends_only: bool,
    /// Maximum share of capitals among the letters of a line.
    pub max_capitals: f64,
    /// Removes lines of digits and punctuation.
    pub remove_numbers: bool,
    /// Removes lines that are counters, such as `3 likes`.
    pub remove_counters: bool,
    /// Maximum words of a line that is removed because it has a phrase of a menu or banner; 0 removes none.
    pub boilerplate_words: usize,
    /// Phrases to search for in addition to the built-in ones.
    pub phrases: Vec<String>,
    /// Maximum share of the words that may be in removed lines; documents with more are dropped.
    pub max_removed: f64,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            min_words: 2,
            min_characters: 0,
            short_at_ends_only: false,
            max_capitals: 0.6,
            remove_numbers: true,
            remove_counters: true,
            boilerplate_words: 10,
            phrases: Vec::new(),
            max_removed: 0.05,
        }
    }
}

const PHRASES: [&str; 32] = [
    "accept all cookies",
    "add to cart",
    "all rights reserved",
    "back to top",
    "click here",
    "continue reading",
    "cookie policy",
    "create an account",
    "enable javascript",
    "follow us on",
    "forgot password",
    "forgot your password",
    "items in cart",
    "jump to navigation",
    "leave a comment",
    "leave a reply",
    "load more",
    "log in",
    "post a comment",
    "privacy policy",
    "read more",
    "share on facebook",
    "share on twitter",
    "share this",
    "sign in",
    "sign up",
    "sign-in",
    "skip to content",
    "skip to main content",
    "subscribe to our",
    "terms of use",
    "uses cookies",
];

/// Words for the things that counters count.
const COUNTED: [&str; 12] = [
    "likes",
    "like",
    "comments",
    "comment",
    "shares",
    "share",
    "views",
    "view",
    "replies",
    "reply",
    "votes",
    "followers",
];

/// Kind of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Blank,
    Short,
    Junk,
}

impl Lines {
    pub fn check(&self, document: &Text) -> Verdict {
        let text = document.text();
        let own = (!self.phrases.is_empty()).then(|| matcher(&self.phrases));
        let lines: Vec<&str> = text.split('\n').collect();
        let kinds: Vec<Kind> = lines.iter().map(|line| self.kind(document, line, own.as_ref())).collect();
        let is_text = |kind: &Kind| *kind == Kind::Text;
        let first = kinds.iter().position(is_text).unwrap_or(kinds.len());
        let last = kinds.iter().rposition(is_text).unwrap_or(0);
        let removed = |at: usize| match kinds[at] {
            Kind::Text | Kind::Blank => false,
            Kind::Short => !self.short_at_ends_only || at < first || at > last,
            Kind::Junk => true,
        };
        if !(0..lines.len()).any(removed) {
            return Verdict::Keep;
        }
        if self.max_removed != 0.0 {
            let words = |line| document.plain_words_in(line, usize::MAX);
            let all = lines.iter().map(|line| words(line)).sum();
            let gone = (0..lines.len()).filter(|&at| removed(at)).map(|at| words(lines[at])).sum();
            if above(ratio(gone, all), self.max_removed) {
                return Verdict::Drop { reason: "removed_lines" };
            }
        }
        let mut kept = String::with_capacity(text.len());
        for (at, line) in lines.iter().enumerate().filter(|&(at, _)| !removed(at)) {
            if at > 0 && !kept.is_empty() {
                kept.push('\n');
            }
            kept.push_str(line);
        }
        Verdict::Rewrite(kept)
    }

    fn kind(&self, document: &Text, line: &str, own: Option<&AhoCorasick>) -> Kind {
        static MATCHER: LazyLock<AhoCorasick> = LazyLock::new(|| matcher(&PHRASES));
        let line = strip(line);
        if line.is_empty() {
            return Kind::Blank;
        }
        let counts = Letters::of(document, line);
        let words = |enough| document.plain_words_in(line, enough);
        let numbers = self.remove_numbers && counts.digits > 0 && counts.letters == 0;
        let capitals = above(ratio(counts.capitals, counts.cased), self.max_capitals);
        if numbers || capitals || self.remove_counters && is_counter(line) {
            return Kind::Junk;
        }
        let phrase = || MATCHER.is_match(line) || own.is_some_and(|own| own.is_match(line));
        if self.boilerplate_words != 0
            && phrase()
            && words(self.boilerplate_words + 1) <= self.boilerplate_words
        {
            return Kind::Junk;
        }
        let short = words(self.min_words) < self.min_words
            || counts.all < document.family().scale(self.min_characters);
        if short { Kind::Short } else { Kind::Text }
    }
}

/// Numbers of a line's characters by kind.
#[derive(Default)]
struct Letters {
    all: usize,
    letters: usize,
    digits: usize,
    /// Letters of scripts with capitals.
    cased: usize,
    capitals: usize,
}

impl Letters {
    fn of(document: &Text, line: &str) -> Self {
        let mut counts = Self::default();
        for character in line.chars() {
            let class = document.classes().of(character);
            counts.all += 1;
            counts.letters += usize::from(class & LETTER != 0);
            counts.digits += usize::from(class & DECIMAL != 0);
            counts.capitals += usize::from(character.is_uppercase());
            counts.cased += usize::from(character.is_uppercase() || character.is_lowercase());
        }
        counts
    }
}

/// Returns whether a line is a counter such as `1,024 views` and nothing else.
fn is_counter(line: &str) -> bool {
    let mut words = split_space(line);
    let (Some(number), Some(counted), None) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    number.starts_with(|first: char| first.is_ascii_digit())
        && COUNTED.iter().any(|known| known.eq_ignore_ascii_case(counted))
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::super::tests::verdict;
    use super::*;

    #[test]
    fn lines_that_are_no_text_go() {
        let rules = Lines { max_removed: 0.0, ..Default::default() };
        let text = "Home\nFirst line of a text.\n\nCLICK FOR OFFERS NOW\n12.05.2020\n3 likes\nRead more\nLast line of it.";
        let kept = Verdict::Rewrite("First line of a text.\n\nLast line of it.".into());
        assert_eq!(verdict(&Profile::Lines(rules), text), kept);
        let dropped = Verdict::Drop { reason: "removed_lines" };
        assert_eq!(verdict(&Profile::Lines(Default::default()), text), dropped);
    }

    #[test]
    fn short_lines_may_go_at_the_ends_only() {
        let rules = Lines { max_removed: 0.0, short_at_ends_only: true, min_words: 3, ..Default::default() };
        let text = "Menu\n\nFirst line of a text.\nHeading two\nLast line of it.\nFooter";
        let kept = "\nFirst line of a text.\nHeading two\nLast line of it.";
        assert_eq!(verdict(&Profile::Lines(rules), text), Verdict::Rewrite(kept.trim_start().into()));
    }
}
