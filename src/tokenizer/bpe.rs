//! A byte-level BPE encoder that gives the tokens of Hugging Face's for GPT-2's pre-tokenizer, several
//! times faster: words are cut by hand-written code ([`Words`]) and their tokens remembered, so that
//! the merges run once per distinct word (BENCHMARKS.md).

use super::{alphabet, words::Words};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, PoisonError},
};

/// Longer words (in bytes) are handed back to Hugging Face's model, whose merges take n·log n time.
const LONGEST_WORD: usize = 64;

/// Words remembered before the memory starts anew; about 8 MB.
const MOST_WORDS: usize = 1 << 17;

/// Encodes text without added tokens.
pub(super) struct BpeEncoder {
    bytes: [u32; 256],
    /// Rank and result of merging two tokens.
    merges: HashMap<(u32, u32), (u32, u32), BuildHasherDefault<MixHasher>>,
    /// What earlier calls learned: as many caches as there once were calls at the same time, less those in use.
    caches: Mutex<Vec<WordCache>>,
}

impl BpeEncoder {
    /// `merges` in order of rank. `None` if a byte or the result of a merge is not in the vocabulary.
    pub(super) fn new<'a>(
        vocabulary: &HashMap<&str, u32>,
        merges: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<Self> {
        let mut bytes = [0; 256];
        for (id, character) in bytes.iter_mut().zip(alphabet::CHARACTERS) {
            *id = *vocabulary.get(character.encode_utf8(&mut [0; 4]) as &str)?;
        }
        let merges = merges
            .zip(0..)
            .map(|((left, right), rank)| {
                let merged = *vocabulary.get(format!("{left}{right}").as_str())?;
                Some(((*vocabulary.get(left)?, *vocabulary.get(right)?), (rank, merged)))
            })
            .collect::<Option<_>>()?;
        Some(Self { bytes, merges, caches: Mutex::default() })
    }

    /// Appends the tokens of `text`. `long_word` encodes a word that is too long for the merges here.
    pub(super) fn encode<E>(
        &self,
        text: &str,
        tokens: &mut Vec<u32>,
        long_word: impl Fn(&str, &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let caches = || self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cache = caches().pop().unwrap_or_default();
        let result = self.encode_with(&mut cache, text, tokens, long_word);
        caches().push(cache);
        result
    }

    fn encode_with<E>(
        &self,
        cache: &mut WordCache,
        text: &str,
        tokens: &mut Vec<u32>,
        long_word: impl Fn(&str, &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut symbols = Vec::new();
        for word in Words::new(text) {
            if word.len() > LONGEST_WORD {
                long_word(word, tokens)?;
            } else if let Some(known) = cache.get(word) {
                tokens.extend_from_slice(known);
            } else {
                self.merge(word.as_bytes(), &mut symbols);
                let start = tokens.len();
                tokens.extend(symbols.iter().map(|symbol| symbol.id));
                cache.insert(word, &tokens[start..]);
            }
        }
        Ok(())
    }

    /// Merges the neighbours of lowest rank, leftmost first, until none can be merged.
    fn merge(&self, word: &[u8], symbols: &mut Vec<Symbol>) {
        symbols.clear();
        symbols
            .extend(word.iter().map(|&byte| Symbol { id: self.bytes[usize::from(byte)], merge: NO_MERGE }));
        for at in 0..symbols.len() {
            self.rank(symbols, at);
        }
        while let Some(at) = (0..symbols.len()).min_by_key(|&at| symbols[at].merge.0)
            && symbols[at].merge != NO_MERGE
        {
            symbols[at].id = symbols[at].merge.1;
            symbols.remove(at + 1);
            self.rank(symbols, at);
            if at > 0 {
                self.rank(symbols, at - 1);
            }
        }
    }

    /// Looks up what the symbol at `at` and its right neighbour merge to.
    fn rank(&self, symbols: &mut [Symbol], at: usize) {
        let pair = symbols.get(at + 1).map(|right| (symbols[at].id, right.id));
        symbols[at].merge = pair.and_then(|pair| self.merges.get(&pair)).copied().unwrap_or(NO_MERGE);
    }
}

/// A token of a word that is being merged.
struct Symbol {
    id: u32,
    /// Rank and result of merging it with its right neighbour.
    merge: (u32, u32),
}

const NO_MERGE: (u32, u32) = (u32::MAX, u32::MAX);

/// The tokens of words met before.
#[derive(Default)]
struct WordCache {
    /// Where in `tokens` those of a word lie: first and number.
    words: HashMap<Box<str>, (u32, u32), BuildHasherDefault<MixHasher>>,
    tokens: Vec<u32>,
}

impl WordCache {
    fn get(&self, word: &str) -> Option<&[u32]> {
        let &(start, length) = self.words.get(word)?;
        Some(&self.tokens[start as usize..][..length as usize])
    }

    fn insert(&mut self, word: &str, tokens: &[u32]) {
        if self.words.len() >= MOST_WORDS {
            self.words.clear();
            self.tokens.clear();
        }
        self.words.insert(word.into(), (self.tokens.len() as u32, tokens.len() as u32));
        self.tokens.extend_from_slice(tokens);
    }
}

/// Hashes eight bytes at a time by multiplication. Keys are words and tokens of the user's own text,
/// so it need not withstand an attacker.
#[derive(Default)]
struct MixHasher(u64);

impl MixHasher {
    fn mix(&mut self, value: u64) {
        let mixed = self.0.rotate_left(23) ^ value ^ 0xF39C_C060_5CED_C835;
        let product = u128::from(mixed) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for MixHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..part.len()].copy_from_slice(part);
            self.mix(u64::from_le_bytes(padded));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
