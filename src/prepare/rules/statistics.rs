//! Statistics of a document by name, for reports and for users' own conditions.

use super::super::text::{Text, characters::DECIMAL};
use super::{
    curator::{self, Counts},
    fineweb::{ended, full_lines, short},
    gopher_quality::{LineCounts, WordCounts, ellipses, hashes},
    gopher_repetition::{Grams, lines, paragraphs},
    ratio,
};

/// A named statistic of a document.
pub struct Statistic {
    pub name: &'static str,
    /// Description for help texts.
    pub meaning: &'static str,
    of: fn(&Text) -> f64,
}

impl Statistic {
    pub fn of(&self, document: &Text) -> f64 {
        (self.of)(document)
    }
}

/// Finds the statistic of this name.
pub fn statistic(name: &str) -> Option<&'static Statistic> {
    STATISTICS.iter().find(|statistic| statistic.name == name)
}

macro_rules! statistics {
    ($($name:ident: $meaning:literal = $of:expr;)*) => {
        &[$(Statistic { name: stringify!($name), meaning: $meaning, of: $of }),*]
    };
}

/// All statistics. Shares are between 0 and 1, and 0 for an empty document.
pub const STATISTICS: &[Statistic] = statistics! {
    characters: "characters" = |document| document.characters() as f64;
    bytes: "bytes of UTF-8" = |document| document.text().len() as f64;
    words: "words and punctuation marks" = |document| document.words().count() as f64;
    plain_words: "words that are not only symbols" = |document| WordCounts::of(document).plain as f64;
    lines: "lines" = |document| LineCounts::of(document.text()).all as f64;
    paragraphs: "pieces with blank lines between" = |document| paragraphs(document.text()).0 as f64;
    sentences: "sentences" = |document| document.sentences() as f64;
    mean_word_length: "characters of the mean word that is not only symbols" = |document| {
        let counts = WordCounts::of(document);
        ratio(counts.plain_characters, counts.plain)
    };
    mean_line_length: "characters of the mean line" = |document| {
        ratio(document.characters(), LineCounts::of(document.text()).all)
    };
    hash_ratio: "`#` for each word" = |document| ratio(hashes(document.text()), document.words().count());
    ellipsis_ratio: "ellipses for each word" = |document| {
        ratio(ellipses(document.text()), document.words().count())
    };
    symbol_ratio: "`#` and ellipses for each word" = |document| {
        ratio(hashes(document.text()) + ellipses(document.text()), document.words().count())
    };
    bullet_line_ratio: "share of lines that begin with a bullet" = |document| {
        let counts = LineCounts::of(document.text());
        ratio(counts.bullets, counts.all)
    };
    ellipsis_line_ratio: "share of lines that end in an ellipsis" = |document| {
        let counts = LineCounts::of(document.text());
        ratio(counts.ellipses, counts.all)
    };
    letter_word_ratio: "share of words with a letter" = |document| {
        let counts = WordCounts::of(document);
        ratio(counts.letters, counts.all)
    };
    end_mark_ratio: "share of lines that are not blank and end in a mark" = |document| {
        let lines: Vec<&str> = full_lines(document.text()).collect();
        ratio(ended(document, &lines), lines.len())
    };
    short_line_ratio: "share of lines that are not blank of at most 30 characters" = |document| {
        let lines: Vec<&str> = full_lines(document.text()).collect();
        ratio(short(&lines, document.family().scale(30)), lines.len())
    };
    line_feed_ratio: "line feeds for each word" = |document| {
        let line_feeds = memchr::memchr_iter(b'\n', document.text().as_bytes()).count();
        ratio(line_feeds, document.words().count())
    };
    digit_ratio: "share of digits" = |document| share(document, |counts| counts.digits);
    white_space_ratio: "share of blanks, tabs and line feeds" = |document| share(document, |counts| counts.space);
    bracket_ratio: "share of brackets" = |document| share(document, |counts| counts.brackets);
    non_alphanumeric_ratio: "share of characters that are no letter, digit, line feed or `?!,.`" = |document| {
        share(document, |counts| counts.other)
    };
    url_ratio: "share of characters in addresses" = |document| {
        ratio(curator::urls(document.text()), document.characters())
    };
    boilerplate_ratio: "share of paragraphs with a phrase such as `privacy policy`" = |document| {
        curator::boilerplate(document.text())
    };
    digit_words_ratio: "share of words that begin with a digit" = |document| {
        let digit = |first: char| document.classes().is(first, DECIMAL);
        let numbers = document.words().filter(|word| word.of(document.text()).starts_with(digit));
        ratio(numbers.count(), document.words().count())
    };
    duplicate_line_ratio: "share of lines that came before" = |document| {
        let (all, repeated, _) = lines(document.text());
        ratio(repeated, all)
    };
    duplicate_line_character_ratio: "share of characters in lines that came before" = |document| {
        ratio(lines(document.text()).2, document.characters())
    };
    duplicate_paragraph_ratio: "share of paragraphs that came before" = |document| {
        let (all, repeated, _) = paragraphs(document.text());
        ratio(repeated, all)
    };
    duplicate_paragraph_character_ratio: "share of characters in paragraphs that came before" = |document| {
        ratio(paragraphs(document.text()).2, document.characters())
    };
    top_2_gram_ratio: "share of characters in the most frequent two words" = |document| top(document, 2);
    top_3_gram_ratio: "share of characters in the most frequent three words" = |document| top(document, 3);
    top_4_gram_ratio: "share of characters in the most frequent four words" = |document| top(document, 4);
    duplicate_5_gram_ratio: "share of characters in five words that came before" = |document| repeated(document, 5);
    duplicate_6_gram_ratio: "share of characters in six words that came before" = |document| repeated(document, 6);
    duplicate_7_gram_ratio: "share of characters in seven words that came before" = |document| {
        repeated(document, 7)
    };
    duplicate_8_gram_ratio: "share of characters in eight words that came before" = |document| {
        repeated(document, 8)
    };
    duplicate_9_gram_ratio: "share of characters in nine words that came before" = |document| repeated(document, 9);
    duplicate_10_gram_ratio: "share of characters in ten words that came before" = |document| {
        repeated(document, 10)
    };
};

fn share(document: &Text, part: impl Fn(&Counts) -> usize) -> f64 {
    let counts = Counts::of(document);
    ratio(part(&counts), counts.all)
}

fn top(document: &Text, count: usize) -> f64 {
    ratio(Grams::new(document).top(count), document.characters())
}

fn repeated(document: &Text, count: usize) -> f64 {
    ratio(Grams::new(document).duplicates(count), document.characters())
}

#[cfg(test)]
mod tests {
    use super::super::super::text::words::Words;
    use super::*;

    #[test]
    fn numbers_have_names() {
        let words = Words::default();
        let document = Text::new("One two.\n- three four...\n\n# 5 six!", "en", &words);
        let value = |name| statistic(name).unwrap().of(&document);
        assert_eq!((value("characters"), value("lines"), value("paragraphs")), (34.0, 4.0, 2.0));
        assert_eq!((value("words"), value("plain_words")), (11.0, 6.0));
        assert_eq!(value("symbol_ratio"), 2.0 / 11.0);
        assert_eq!(value("mean_word_length"), 19.0 / 6.0);
        assert!(statistic("mistyped").is_none());
    }

    #[test]
    fn empty_documents_have_numbers() {
        let words = Words::default();
        for statistic in STATISTICS {
            assert!(statistic.of(&Text::new("", "", &words)).is_finite(), "{}", statistic.name);
        }
    }
}
