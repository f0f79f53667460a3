//! A document as the rules see it: its characters, lines, words and sentences. Each is computed when it is
//! first needed and shared by all rules.

mod affixes;
pub mod characters;
mod chunks;
mod exceptions;
pub mod language;
mod segments;
pub mod sentences;
pub mod tokens;
mod url;
pub mod words;

use characters::Classes;
use language::Family;
use std::cell::OnceCell;
use tokens::Token;
use words::Words;

/// A document that rules are applied to.
pub struct Text<'a> {
    text: &'a str,
    family: Family,
    words: &'a Words,
    tokens: OnceCell<Vec<Token>>,
    characters: OnceCell<usize>,
}

impl<'a> Text<'a> {
    /// Wraps a text. `language` is an ISO 639 code such as `en`, `eng` or `zh-TW`, or empty if it is not
    /// known. `words` is the worker's cache of the words of earlier documents.
    pub fn new(text: &'a str, language: &str, words: &'a Words) -> Self {
        Self::of_family(text, Family::of(language, text), words)
    }

    /// Wraps another text in the language of this one, such as the text that a rule rewrote.
    pub fn rewritten<'b>(&self, text: &'b str) -> Text<'b>
    where
        'a: 'b,
    {
        Text::of_family(text, self.family, self.words)
    }

    fn of_family(text: &'a str, family: Family, words: &'a Words) -> Self {
        Self { text, family, words, tokens: OnceCell::new(), characters: OnceCell::new() }
    }

    pub fn text(&self) -> &'a str {
        self.text
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// Number of characters (code points).
    pub fn characters(&self) -> usize {
        *self.characters.get_or_init(|| characters::count(self.text))
    }

    /// Tokens: words, punctuation marks and those runs of white space that end sentences.
    pub fn tokens(&self) -> &[Token] {
        self.tokens.get_or_init(|| self.words.tokens(self.family, self.text))
    }

    /// Tokens that are words or punctuation marks.
    pub fn words(&self) -> impl Iterator<Item = &Token> {
        self.tokens().iter().filter(|token| !token.is_space())
    }

    /// Number of sentences; an empty text has one.
    pub fn sentences(&self) -> usize {
        sentences::count(self.tokens())
    }

    /// Number of sentences in a piece of this text, counted as if it stood alone.
    pub fn sentences_in(&self, piece: &str) -> usize {
        sentences::count(&self.words.tokens(self.family, piece))
    }

    /// Number of words in a piece of this text, at most `enough`. Words are what white space separates or, in
    /// scripts without spaces, what the segmenter finds.
    pub fn plain_words_in(&self, piece: &str, enough: usize) -> usize {
        if self.family.has_spaces() {
            characters::split_space(piece).take(enough).count()
        } else {
            let tokens = self.words.tokens(self.family, piece);
            tokens.iter().filter(|token| !token.is_space() && !token.is_symbols()).take(enough).count()
        }
    }

    pub fn classes(&self) -> &'static Classes {
        Classes::get()
    }
}
