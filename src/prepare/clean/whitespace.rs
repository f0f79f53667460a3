//! Tidies white space: one kind of line break, one kind of space, no spaces at the ends of lines, few blank
//! lines.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Settings of changes to white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WhitespaceConfig {
    pub enabled: bool,
    /// Runs of spaces and tabs within a line become one space.
    pub collapse_spaces: bool,
    /// Spaces at the beginning of a line are kept, as code and poems need them.
    pub keep_indent: bool,
    /// Maximum number of consecutive blank lines.
    pub blank_lines: usize,
}

impl Default for WhitespaceConfig {
    fn default() -> Self {
        Self { enabled: true, collapse_spaces: true, keep_indent: true, blank_lines: 1 }
    }
}

/// Tidies the white space of a text. Its beginning and end lose all of theirs, except the indent of the first
/// line.
pub fn tidy<'a>(text: &'a str, config: &WhitespaceConfig) -> Cow<'a, str> {
    if !config.enabled {
        return Cow::Borrowed(text);
    }
    let mut tidied = String::with_capacity(text.len());
    let mut blank = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (line, breaks);
        (line, breaks, rest) = next_line(rest);
        let start = tidied.len();
        if !tidied.is_empty() {
            let count = 1 + blank.min(config.blank_lines);
            tidied.extend(std::iter::repeat_n('\n', count));
        }
        let before = tidied.len();
        push_line(&mut tidied, line, config);
        if tidied.len() == before {
            tidied.truncate(start);
            blank += breaks;
        } else {
            blank = breaks - 1;
        }
    }
    if tidied == text { Cow::Borrowed(text) } else { Cow::Owned(tidied) }
}

/// Returns the first line, the number of line breaks that its end counts for, and the text after it.
fn next_line(text: &str) -> (&str, usize, &str) {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = memchr::memchr3(b'\n', b'\r', 0xe2, &bytes[from..]).map(|at| from + at) {
        let (length, breaks) = match &bytes[at..] {
            [b'\r', b'\n', ..] => (2, 1),
            [b'\n' | b'\r', ..] => (1, 1),
            [0xe2, 0x80, 0xa8, ..] => (3, 1),
            // A paragraph separator is worth a blank line.
            [0xe2, 0x80, 0xa9, ..] => (3, 2),
            _ => (0, 0),
        };
        if length > 0 {
            return (&text[..at], breaks, &text[at + length..]);
        }
        from = at + 1;
    }
    (text, 1, "")
}

/// Appends a line without the spaces at its end.
fn push_line(tidied: &mut String, line: &str, config: &WhitespaceConfig) {
    let line = line.trim_end();
    let content = line.trim_start();
    if config.keep_indent {
        tidied.extend(line[..line.len() - content.len()].chars().map(plain));
    }
    if content.is_ascii() && !has_run(content.as_bytes()) {
        tidied.push_str(content);
        return;
    }
    let mut spaces = 0;
    for character in content.chars() {
        if is_space(character) {
            spaces += 1;
            if spaces == 1 || !config.collapse_spaces {
                tidied.push(if config.collapse_spaces { ' ' } else { plain(character) });
            }
        } else {
            spaces = 0;
            tidied.push(character);
        }
    }
}

/// Returns whether ASCII bytes have white space other than single spaces between words.
fn has_run(bytes: &[u8]) -> bool {
    memchr::memchr3(b'\t', 0x0b, 0x0c, bytes).is_some() || memchr::memmem::find(bytes, b"  ").is_some()
}

fn is_space(character: char) -> bool {
    character == ' ' || (character.is_whitespace() && character != '\n')
}

/// Turns a character of white space into a plain space; a tab stays a tab.
fn plain(character: char) -> char {
    if character == '\t' { '\t' } else { ' ' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_spaces_are_of_one_kind() {
        let tidy = |text| tidy(text, &WhitespaceConfig::default()).into_owned();
        assert_eq!(
            tidy("\r\n\r\n  a \t b\u{a0}c  \r\n\r\n\r\n\r\nd\re\u{2028}f\u{2029}g\u{3000}\n \n"),
            "  a b c\n\nd\ne\nf\n\ng"
        );
        assert_eq!(tidy("if x:\n\ty = 1  # two"), "if x:\n\ty = 1 # two");
        assert_eq!(tidy("日本\u{3000}語 “a”"), "日本 語 “a”");
        assert_eq!(tidy(" \n\t\n"), "");
    }

    #[test]
    fn each_step_has_its_switch() {
        let config = WhitespaceConfig {
            collapse_spaces: false,
            keep_indent: false,
            blank_lines: 0,
            ..Default::default()
        };
        assert_eq!(tidy("  a  b\n\n\nc", &config), "a  b\nc");
        assert_eq!(tidy(" a ", &WhitespaceConfig { enabled: false, ..config }), " a ");
        assert!(matches!(tidy("a b\n\nc", &config), Cow::Owned(_)));
        assert!(matches!(tidy("a b\n\nc", &WhitespaceConfig::default()), Cow::Borrowed(_)));
    }
}
