//! Finds exact duplicates: documents, paragraphs and lines whose normalized texts have the same digest.

use super::normalize::{Normalization, is_white_space};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// Unit of text that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Document,
    /// Lines up to a blank one.
    Paragraph,
    Line,
}

/// Settings of the unit that is compared, and of which texts are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExactConfig {
    pub level: Level,
    pub normalization: Normalization,
    /// Minimum characters of a paragraph or line, after normalization; shorter ones are kept however often
    /// they occur.
    pub minimum_characters: usize,
}

impl Default for ExactConfig {
    fn default() -> Self {
        Self { level: Level::Document, normalization: Normalization::WHITE_SPACE, minimum_characters: 1 }
    }
}

/// Computes the XXH3 digest of the normalized text, 128 bits. Among 10⁹ texts, two different ones have the
/// same digest with a probability of 10⁻²¹. It does not resist deliberate collisions.
pub fn digest(text: &str, normalization: &Normalization) -> u128 {
    xxh3_128(normalization.apply(text).as_bytes())
}

/// Digests of the pieces of a text; `None` for pieces that are too short to count.
pub fn digests<'a>(text: &'a str, config: &'a ExactConfig) -> impl Iterator<Item = Option<u128>> + 'a {
    let least = config.minimum_characters.max(1);
    pieces(text, config.level).map(move |piece| {
        let normalized = config.normalization.apply(piece);
        let is_long = normalized.chars().take(least).count() == least;
        is_long.then(|| xxh3_128(normalized.as_bytes()))
    })
}

/// Splits a text into pieces, each with the white space after it; joined, they are the text.
pub fn pieces(text: &str, level: Level) -> impl Iterator<Item = &str> {
    let mut lines = text.split_inclusive('\n').peekable();
    let mut at = 0;
    std::iter::from_fn(move || {
        let is_blank = |line: &&str| line.chars().all(is_white_space);
        let start = at;
        let first = lines.next()?;
        at += first.len();
        match level {
            Level::Line => {}
            Level::Document => {
                at = text.len();
                lines.by_ref().for_each(drop);
            }
            Level::Paragraph => {
                // Blank lines belong to the paragraph before them.
                while !is_blank(&first)
                    && let Some(line) = lines.next_if(|line| !is_blank(line))
                {
                    at += line.len();
                }
                while let Some(line) = lines.next_if(is_blank) {
                    at += line.len();
                }
            }
        }
        Some(&text[start..at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_ignore_what_is_normalized() {
        let plain = Normalization::WHITE_SPACE;
        assert_eq!(digest("a  b\n", &plain), digest("a b", &plain));
        assert_ne!(digest("A b", &plain), digest("a b", &plain));
        assert_eq!(digest("A, b!", &Normalization::default()), digest("a b", &Normalization::default()));
    }

    #[test]
    fn pieces_are_the_text() {
        let text = "\n\na\nb\n \n\nc\n\n";
        assert_eq!(pieces(text, Level::Line).collect::<Vec<_>>().len(), 8);
        let paragraphs: Vec<_> = pieces(text, Level::Paragraph).collect();
        assert_eq!(paragraphs, ["\n\n", "a\nb\n \n\n", "c\n\n"]);
        assert_eq!(pieces(text, Level::Document).collect::<Vec<_>>(), [text]);
        for level in [Level::Document, Level::Paragraph, Level::Line] {
            assert_eq!(pieces(text, level).collect::<String>(), text);
            assert_eq!(pieces("", level).count(), 0);
        }
    }

    #[test]
    fn short_pieces_do_not_count() {
        let config = ExactConfig { level: Level::Line, minimum_characters: 3, ..Default::default() };
        let found: Vec<_> = digests("menu\n\nok\nmenu \ntext", &config).collect();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, true, true]);
        assert_eq!(found[0], found[3]);
    }
}
