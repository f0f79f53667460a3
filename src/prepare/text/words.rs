//! Words of a text as datatrove counts them for its rules: the tokens of spaCy's English tokenizer without
//! white space (`spacy.blank("en")` 3.8.18, MIT). Punctuation marks are words too. Other languages that use
//! spaces are split by the same rules without the English exceptions, the rest by [`segments`].
//!
//! Each piece of text between white space is split by itself, and most pieces have occurred before: a worker
//! keeps one [`Words`], which splits each piece once.

use super::{characters::Classes, chunks, exceptions::Exceptions, language::Family, segments, tokens::Token};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::RefCell;

/// Maximum number of pieces in the cache, which is cleared when it is full. They take about 8 MB.
const REMEMBERED: usize = 1 << 16;
/// Maximum bytes of a piece in the cache; longer pieces rarely occur again.
const LONGEST: usize = 48;

/// Splits texts into words and caches the words of earlier texts.
#[derive(Default)]
pub struct Words {
    english: RefCell<Cache>,
    spaced: RefCell<Cache>,
}

/// Cache of the tokens of pieces.
#[derive(Default)]
struct Cache {
    pieces: FxHashMap<Box<str>, (u32, u32)>,
    tokens: Vec<Token>,
    lengths: Vec<u32>,
}

/// Splits an English text into words.
pub fn words(text: &str) -> Vec<&str> {
    words_of("en", text)
}

/// Splits a text into words; `language` is as in [`Text::new`](super::Text::new).
pub fn words_of<'a>(language: &str, text: &'a str) -> Vec<&'a str> {
    let tokens = Words::default().tokens(Family::of(language, text), text);
    tokens.iter().filter(|token| !token.is_space()).map(|token| token.of(text)).collect()
}

impl Words {
    /// Splits a text into words, punctuation marks and the runs of white space that spaCy keeps.
    pub fn tokens(&self, family: Family, text: &str) -> Vec<Token> {
        match family {
            Family::English => {
                let exceptions = Exceptions::get();
                let mut cache = self.english.borrow_mut();
                let (tokens, starts) = cut(&mut cache, Some(exceptions), text);
                if starts.is_empty() { tokens } else { merge(exceptions, text, tokens, &starts) }
            }
            Family::Spaced => cut(&mut self.spaced.borrow_mut(), None, text).0,
            Family::Ideographic | Family::Unspaced | Family::Unmarked => segments::tokens(text),
        }
    }
}

/// Splits a text into tokens. The second list has the indices of the tokens that begin a sequence of an
/// exception.
fn cut(cache: &mut Cache, exceptions: Option<&Exceptions>, text: &str) -> (Vec<Token>, Vec<usize>) {
    let bytes = text.as_bytes();
    let mut tokens = Vec::with_capacity(text.len() / 4);
    let mut starts = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        loop {
            let length = space(bytes, at);
            if length == 0 {
                break;
            }
            at += length;
        }
        if at > start {
            // A blank behind a word belongs to the word.
            let own = start + usize::from(start > 0 && bytes[start] == b' ');
            if own < at {
                tokens.push(Token::space(own, at));
            }
        }
        let start = at;
        while at < bytes.len() && space(bytes, at) == 0 {
            at += 1;
        }
        if at == start {
            continue;
        }
        let first = tokens.len();
        cache.append(exceptions, &text[start..at], &mut tokens);
        let mut place = start;
        for (position, token) in tokens.iter_mut().enumerate().skip(first) {
            token.start = place;
            place += token.bytes as usize;
            if token.sequence != 0 && exceptions.is_some_and(|own| own.begins_sequence(token.sequence)) {
                starts.push(position);
            }
        }
    }
    (tokens, starts)
}

/// Kind of white space that a byte may begin.
const SPACES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            9..=13 | 0x1C..=0x20 => 1,
            0xC2 | 0xE1..=0xE3 => 2,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// Length in bytes of the white space at `at`, or 0.
#[inline]
fn space(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at).map(|&byte| SPACES[usize::from(byte)]) {
        None | Some(0) => 0,
        Some(1) => 1,
        Some(_) => wide_space(&bytes[at..]),
    }
}

fn wide_space(bytes: &[u8]) -> usize {
    match bytes {
        [0xC2, 0x85 | 0xA0, ..] => 2,
        [0xE1, 0x9A, 0x80, ..]
        | [0xE2, 0x80, 0x80..=0x8A | 0xA8 | 0xA9 | 0xAF, ..]
        | [0xE2, 0x81, 0x9F, ..]
        | [0xE3, 0x80, 0x80, ..] => 3,
        _ => 0,
    }
}

impl Cache {
    /// Appends the tokens of a piece, which has no white space.
    fn append(&mut self, exceptions: Option<&Exceptions>, piece: &str, tokens: &mut Vec<Token>) {
        if let Some(&(start, end)) = self.pieces.get(piece) {
            match &self.tokens[start as usize..end as usize] {
                [token] => tokens.push(*token),
                several => tokens.extend_from_slice(several),
            }
            return;
        }
        let first = tokens.len();
        self.lengths.clear();
        let plain = piece.bytes().all(|byte| byte.is_ascii_alphabetic());
        if plain && exceptions.is_none_or(|exceptions| exceptions.of(piece).is_none()) {
            self.lengths.push(piece.len() as u32);
        } else {
            chunks::split(Classes::get(), exceptions, piece, &mut self.lengths);
        }
        let mut at = 0;
        for &length in &self.lengths {
            let word = &piece[at..at + length as usize];
            at += length as usize;
            tokens.push(Token::word(word, exceptions.map_or(0, |exceptions| exceptions.sequence(word))));
        }
        if piece.len() <= LONGEST {
            if self.pieces.len() >= REMEMBERED {
                self.pieces.clear();
                self.tokens.clear();
            }
            let start = self.tokens.len() as u32;
            self.tokens.extend_from_slice(&tokens[first..]);
            self.pieces.insert(piece.into(), (start, self.tokens.len() as u32));
        }
    }
}

/// Merges the tokens of exceptions that the rules have split, as spaCy does. Candidates are windows of tokens
/// that equal the split form of an exception, the longest first, then the earliest. Each candidate marks its
/// tokens, whether it is merged or not; it is merged if neither its first nor its last token was marked.
fn merge(exceptions: &Exceptions, text: &str, tokens: Vec<Token>, starts: &[usize]) -> Vec<Token> {
    let mut windows = Vec::new();
    for &start in starts {
        let numbers = tokens[start..].iter().map(|token| token.sequence);
        exceptions.sequences(numbers, |count| windows.push((count, start)));
    }
    windows.sort_by_key(|&(count, start)| (std::cmp::Reverse(count), start));
    let mut marked = FxHashSet::default();
    let mut taken = Vec::new();
    for (count, start) in windows {
        if !marked.contains(&start) && !marked.contains(&(start + count - 1)) {
            let word = &text[tokens[start].start..tokens[start + count - 1].end()];
            // The words may stand apart, and then are no exception.
            if let Some(lengths) = exceptions.of(word) {
                let same = tokens[start..start + count].iter().map(|token| &token.bytes).eq(lengths);
                if !same {
                    taken.push((start, count, word, lengths));
                }
            }
        }
        marked.extend(start..start + count);
    }
    if taken.is_empty() {
        return tokens;
    }
    taken.sort_by_key(|&(start, ..)| start);
    let mut merged = Vec::with_capacity(tokens.len());
    let mut next = 0;
    for (start, count, word, lengths) in taken {
        merged.extend_from_slice(&tokens[next..start]);
        let mut at = 0;
        for &length in lengths {
            let part = &word[at..at + length as usize];
            let token = Token::word(part, exceptions.sequence(part));
            merged.push(token.at(tokens[start].start + at));
            at += length as usize;
        }
        next = start + count;
    }
    merged.extend_from_slice(&tokens[next..]);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_spacy() {
        for (text, expected) in [
            ("It costs $5.00, don't!", "It costs $ 5.00 , do n't !"),
            ("state-of-the-art", "state - of - the - art"),
            ("U.S. 10km 5kg.", "U.S. 10 km 5 kg ."),
            ("__init__ f(x)", "_ _ init _ _ f(x )"),
            ("$5-$10 5US$", "$ 5-$10 5 US$"),
            ("10°C.", "10 ° C ."),
            ("(e.g., this)", "( e.g. , this )"),
            ("co-op's it’s", "co - op 's it ’s"),
            ("snake_case #tag @me", "snake_case # tag @me"),
            ("hi:) foo/a. x: )", "hi :) foo / a. x : )"),
            ("a--b a----b 3--4 x=1 +5 +x 5+", "a -- b a----b 3 - -4 x=1 +5 + x 5 +"),
            ("Foo. AB. A. cannot dont DON'T", "Foo . AB . A. can not do nt DON'T"),
            ("see http://a.b.com/x,y. (x@y.org)", "see http://a.b.com/x,y . ( x@y.org )"),
            ("well...ok …so", "well ... ok … so"),
            ("\u{1c}a\u{a0}b\u{2028}c \n ", "a b c"),
            ("", ""),
        ] {
            assert_eq!(words(text).join(" "), expected, "{text:?}");
        }
    }

    #[test]
    fn remembered_words_are_the_same() {
        let own = Words::default();
        let text = "Don't stop: it's 10km to the U.S., isn't it? (e.g. x:)";
        let first = own.tokens(Family::English, text);
        assert_eq!(own.tokens(Family::English, text), first);
        assert_eq!(Words::default().tokens(Family::English, text), first);
        // More pieces than are remembered.
        let many: String = (0..REMEMBERED + 10).map(|number| format!("w{number} ")).collect();
        assert_eq!(own.tokens(Family::English, &many).len(), REMEMBERED + 10);
        assert_eq!(own.tokens(Family::English, text), first);
    }

    #[test]
    fn english_exceptions_are_english() {
        assert_eq!(words_of("de", "Ich bin im Haus, dont's").join(" "), "Ich bin im Haus , dont 's");
        assert_eq!(words_of("ru", "Привет, мир! Это тест.").join(" "), "Привет , мир ! Это тест .");
    }
}
