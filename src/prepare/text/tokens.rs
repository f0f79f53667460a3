//! Words as the rules count them: their position, the kinds of their characters, and a hash that can be
//! combined with the hashes of the words beside them.

use super::characters::{Classes, LETTER, PUNCTUATION, SENTENCE_END, SYMBOL};
use std::sync::LazyLock;

const SPACE_KIND: u16 = 1;
const SYMBOLS_KIND: u16 = 1 << 1;
const LETTER_KIND: u16 = 1 << 2;
const END_KIND: u16 = 1 << 3;
const PUNCTUATION_KIND: u16 = 1 << 4;

/// A word, a punctuation mark or a run of white space of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Start in the text, in bytes.
    pub start: usize,
    /// Length in bytes.
    pub bytes: u32,
    /// Length in characters; 0 for white space.
    pub characters: u32,
    /// Hash of its bytes, of the kind that [`Joined`] combines.
    pub hash: u64,
    kind: u16,
    /// Number of the token among those that make up spaCy's exceptions, or 0.
    pub(super) sequence: u16,
}

impl Token {
    /// Makes the token of a word or punctuation mark; its start is 0.
    pub(super) fn word(word: &str, sequence: u16) -> Self {
        let classes = Classes::get();
        let (mut characters, mut all, mut any) = (0, u32::MAX, 0);
        for character in word.chars() {
            let class = classes.of(character);
            characters += 1;
            all &= class;
            any |= class;
        }
        let mut kind = 0;
        kind |= if all & SYMBOL != 0 { SYMBOLS_KIND } else { 0 };
        kind |= if any & LETTER != 0 { LETTER_KIND } else { 0 };
        kind |= if characters == 1 && all & SENTENCE_END != 0 { END_KIND } else { 0 };
        kind |= if all & PUNCTUATION != 0 { PUNCTUATION_KIND } else { 0 };
        Self { start: 0, bytes: word.len() as u32, characters, hash: hash(word), kind, sequence }
    }

    /// Makes the token of a run of white space.
    pub(super) fn space(start: usize, end: usize) -> Self {
        let bytes = (end - start) as u32;
        Self { start, bytes, characters: 0, hash: 0, kind: SPACE_KIND, sequence: 0 }
    }

    /// Returns the token with another start.
    pub(super) fn at(self, start: usize) -> Self {
        Self { start, ..self }
    }

    pub fn end(&self) -> usize {
        self.start + self.bytes as usize
    }

    pub fn of<'a>(&self, text: &'a str) -> &'a str {
        &text[self.start..self.end()]
    }

    pub fn is_space(&self) -> bool {
        self.kind & SPACE_KIND != 0
    }

    /// Returns whether it consists of punctuation marks and control characters only.
    pub fn is_symbols(&self) -> bool {
        self.kind & SYMBOLS_KIND != 0
    }

    pub fn has_letter(&self) -> bool {
        self.kind & LETTER_KIND != 0
    }

    /// Returns whether it is a mark that ends a sentence.
    pub fn is_end(&self) -> bool {
        self.kind & END_KIND != 0
    }

    /// Returns whether all its characters are of the Unicode categories that begin with P.
    pub fn is_punctuation(&self) -> bool {
        self.kind & PUNCTUATION_KIND != 0
    }
}

/// Prime modulus of the hashes; arithmetic modulo a Mersenne prime needs no division.
const PRIME: u64 = (1 << 61) - 1;
/// Base of the polynomial of a word's bytes, an arbitrary number below [`PRIME`].
const BASE: u64 = 0x0DE4_5A1C_93B7_66F1;
/// Base of the polynomial of a run's words, another arbitrary number.
const RUN_BASE: u64 = 0x1A7C_33E9_05D2_48BB;

/// Powers of [`BASE`] for the usual lengths of words and runs.
static POWERS: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let mut power = 1;
    (0..4096)
        .map(|_| {
            let this = power;
            power = multiply(power, BASE);
            this
        })
        .collect()
});

#[inline]
fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    reduce((product as u64 & PRIME) + (product >> 61) as u64)
}

#[inline]
fn reduce(sum: u64) -> u64 {
    if sum >= PRIME { sum - PRIME } else { sum }
}

fn power(powers: &[u64], mut exponent: usize) -> u64 {
    if let Some(power) = powers.get(exponent) {
        return *power;
    }
    let (mut result, mut square) = (1, BASE);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply(result, square);
        }
        square = multiply(square, square);
        exponent >>= 1;
    }
    result
}

/// Hashes a word as the polynomial of its bytes at [`BASE`] (Karp and Rabin, 1987), so that the hash of two
/// joined words follows from their hashes.
fn hash(word: &str) -> u64 {
    word.bytes().fold(0, |hash, byte| reduce(multiply(hash, BASE) + u64::from(byte) + 1))
}

/// Returns the hash of a run of words extended by one, from both hashes. Unlike the hashes of [`Joined`], it
/// depends on where words end.
#[inline]
pub fn extend(run: u64, next: u64) -> u64 {
    reduce(multiply(run, RUN_BASE) + next)
}

/// Hashes of the joined words of a text, from which the hash of any run of words follows with one
/// multiplication. Runs with the same bytes have the same hash, wherever their words end.
pub struct Joined {
    /// Hash of the first `i` words, for each `i` from 0.
    hashes: Vec<u64>,
    /// Length in bytes of the first `i` words, for each `i` from 0.
    ends: Vec<usize>,
    powers: &'static [u64],
}

impl Joined {
    pub fn new<'a>(words: impl Iterator<Item = &'a Token>) -> Self {
        let powers: &[u64] = &POWERS;
        let (mut hashes, mut ends) = (vec![0], vec![0]);
        let (mut all, mut end) = (0, 0);
        for word in words {
            all = reduce(multiply(all, power(powers, word.bytes as usize)) + word.hash);
            end += word.bytes as usize;
            hashes.push(all);
            ends.push(end);
        }
        Self { hashes, ends, powers }
    }

    /// Returns the hash of the `count` words from `first` on.
    #[inline]
    pub fn of(&self, first: usize, count: usize) -> u64 {
        let bytes = self.ends[first + count] - self.ends[first];
        let before = multiply(self.hashes[first], power(self.powers, bytes));
        reduce(self.hashes[first + count] + PRIME - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_hashes_do_not_depend_on_the_cuts() {
        let long = "x".repeat(5000);
        let words = ["a", "bc", &long, "def", "a", "b", "c"].map(|word| Token::word(word, 0));
        let joined = Joined::new(words.iter());
        assert_eq!(joined.of(0, 2), joined.of(4, 3));
        assert_eq!(joined.of(1, 3), hash(&format!("bc{long}def")));
        assert_ne!(joined.of(0, 1), joined.of(5, 1));
        assert_ne!(hash("\0"), hash("\0\0"));
    }

    #[test]
    fn words_know_what_they_are_made_of() {
        let word = |text| Token::word(text, 0);
        assert!(word("...").is_symbols() && word("...").is_punctuation() && !word("...").is_end());
        assert!(word("?").is_end() && !word("$").is_punctuation() && word("$").is_symbols());
        assert!(word("é1").has_letter() && !word("1").has_letter() && !word("1").is_symbols());
        assert_eq!(word("né").characters, 2);
    }
}
