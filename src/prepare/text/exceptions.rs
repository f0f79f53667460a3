//! spaCy's exceptions for English (3.8.18, MIT): words that are split their own way (`don't`, `cannot`) or
//! not at all (`e.g.`, `:-)`). They come from `exceptions.txt`. A line has a `*` if the rules would split the
//! word, then its tokens, separated by tabs.

use super::{characters::Classes, chunks};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::LazyLock;

const TABLE: &str = include_str!("exceptions.txt");

pub(super) struct Exceptions {
    /// Lengths in bytes of the tokens of each word.
    words: FxHashMap<&'static str, Vec<u32>>,
    longest: usize,
    /// Numbers, from 1, of the tokens that sequences are made of.
    tokens: FxHashMap<&'static str, u16>,
    /// Flag for each number: true if the token begins a sequence.
    first: Vec<bool>,
    /// Trie of the sequences, which are the words that the rules would split: node and token to node. Node 0
    /// is the root.
    tree: FxHashMap<(u16, u16), u16>,
    /// Nodes at which a sequence ends.
    ends: FxHashSet<u16>,
}

impl Exceptions {
    pub(super) fn get() -> &'static Self {
        static EXCEPTIONS: LazyLock<Exceptions> = LazyLock::new(Exceptions::parse);
        &EXCEPTIONS
    }

    /// Lengths in bytes of a word's tokens, if it is an exception.
    pub(super) fn of(&self, word: &str) -> Option<&[u32]> {
        // Long words are looked at many times while their ends are cut.
        if word.len() > self.longest { None } else { self.words.get(word).map(Vec::as_slice) }
    }

    /// Number of a token in sequences, or 0 if it is in none.
    pub(super) fn sequence(&self, token: &str) -> u16 {
        if token.len() > self.longest { 0 } else { self.tokens.get(token).copied().unwrap_or(0) }
    }

    pub(super) fn begins_sequence(&self, token: u16) -> bool {
        self.first[usize::from(token)]
    }

    /// Calls `found` with the length of each sequence that the tokens begin with.
    pub(super) fn sequences(&self, tokens: impl Iterator<Item = u16>, mut found: impl FnMut(usize)) {
        let mut node = 0;
        for (count, token) in tokens.enumerate() {
            let Some(next) = self.tree.get(&(node, token)) else { return };
            node = *next;
            if self.ends.contains(&node) {
                found(count + 1);
            }
        }
    }

    fn parse() -> Self {
        let classes = Classes::get();
        let mut words = FxHashMap::default();
        let mut own = Self {
            words: FxHashMap::default(),
            longest: 0,
            tokens: FxHashMap::default(),
            first: vec![false],
            tree: FxHashMap::default(),
            ends: FxHashSet::default(),
        };
        // The words lie in the table cut by tabs, so they are put together once and kept for good.
        let joined: &'static str = Box::leak(TABLE.replace('\t', "").into_boxed_str());
        for (line, word) in TABLE.lines().zip(joined.lines()) {
            let Some((mark, tokens)) = line.split_once('\t') else { continue };
            let word = &word[mark.len()..];
            own.longest = own.longest.max(word.len());
            words.insert(word, tokens.split('\t').map(|token| token.len() as u32).collect());
            if mark == "*" {
                own.add_sequence(classes, word);
            }
        }
        own.words = words;
        own
    }

    fn add_sequence(&mut self, classes: &Classes, word: &'static str) {
        let mut lengths = Vec::new();
        chunks::split(classes, None, word, &mut lengths);
        let (mut node, mut at) = (0, 0);
        for (position, length) in lengths.into_iter().enumerate() {
            let token = &word[at..at + length as usize];
            at += length as usize;
            let next = self.tokens.len() as u16 + 1;
            let token = *self.tokens.entry(token).or_insert(next);
            self.first.resize(self.tokens.len() + 1, false);
            self.first[usize::from(token)] |= position == 0;
            // A tree has as many nodes below its root as edges.
            let new = self.tree.len() as u16 + 1;
            node = *self.tree.entry((node, token)).or_insert(new);
        }
        self.ends.insert(node);
    }
}
