//! A byte-level BPE encoder that gives the same tokens as Hugging Face's for GPT-2's pre-tokenizer, several
//! times faster: hand-written code splits text into words ([`Words`]) and the tokens of each word are cached,
//! so that the merges run once per distinct word (BENCHMARKS.md).

use super::{alphabet, words::Words};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, PoisonError},
};

/// Longest word in bytes that is merged here. Longer ones are left to Hugging Face's model, whose merges take
/// n·log n time.
const LONGEST_WORD: usize = 64;

/// Number of cached words at which the cache is cleared; about 8 MB.
const MOST_WORDS: usize = 1 << 17;

/// Encodes text without added tokens.
pub(super) struct BpeEncoder {
    bytes: [u32; 256],
    /// Rank and result of each merge, by the [`pair`] of tokens.
    merges: HashMap<u64, (u32, u32), BuildHasherDefault<MixHasher>>,
    /// Caches of earlier calls that are not in use now. Calls that run at the same time have a cache each.
    caches: Mutex<Vec<WordCache>>,
}

impl BpeEncoder {
    /// Makes an encoder of `merges` in order of rank. Returns `None` if a byte, a part or the result of a
    /// merge is not in the vocabulary.
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
                Some((pair(*vocabulary.get(left)?, *vocabulary.get(right)?), (rank, merged)))
            })
            .collect::<Option<_>>()?;
        Some(Self { bytes, merges, caches: Mutex::default() })
    }

    /// Appends the tokens of `text`. `long_word` encodes words that are longer than [`LONGEST_WORD`].
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
                match known {
                    [token] => tokens.push(*token),
                    known => tokens.extend_from_slice(known),
                }
            } else {
                self.merge(word.as_bytes(), &mut symbols);
                let start = tokens.len();
                tokens.extend(symbols.iter().map(|symbol| symbol.id));
                cache.insert(word, &tokens[start..]);
            }
        }
        Ok(())
    }

    /// Merges the pair of neighbours with the lowest rank, leftmost first, until no pair can be merged.
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

    /// Looks up the merge of the symbol at `at` with its right neighbour.
    fn rank(&self, symbols: &mut [Symbol], at: usize) {
        let pair = symbols.get(at + 1).map(|right| pair(symbols[at].id, right.id));
        symbols[at].merge = pair.and_then(|pair| self.merges.get(&pair)).copied().unwrap_or(NO_MERGE);
    }
}

/// Packs two tokens into one key.
fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Token of a word that is being merged.
struct Symbol {
    id: u32,
    /// Rank and result of the merge with its right neighbour.
    merge: (u32, u32),
}

const NO_MERGE: (u32, u32) = (u32::MAX, u32::MAX);

/// Cache of the tokens of words seen before.
#[derive(Default)]
struct WordCache {
    /// Words of up to 15 bytes, by their [`short`] key. A lookup does not touch the words themselves, which
    /// are scattered in memory.
    short: HashMap<(u64, u64), Place, BuildHasherDefault<MixHasher>>,
    long: HashMap<Box<str>, Place, BuildHasherDefault<MixHasher>>,
    tokens: Vec<u32>,
}

/// Tokens of a cached word. If there is only one, `first` is the token itself, otherwise its index in
/// `tokens`.
struct Place {
    first: u32,
    count: u32,
}

impl WordCache {
    fn get(&self, word: &str) -> Option<&[u32]> {
        let place = match short(word.as_bytes()) {
            Some(key) => self.short.get(&key)?,
            None => self.long.get(word)?,
        };
        Some(match place.count {
            1 => std::slice::from_ref(&place.first),
            count => &self.tokens[place.first as usize..][..count as usize],
        })
    }

    fn insert(&mut self, word: &str, tokens: &[u32]) {
        if self.short.len() + self.long.len() >= MOST_WORDS {
            self.short.clear();
            self.long.clear();
            self.tokens.clear();
        }
        let place = match tokens {
            [token] => Place { first: *token, count: 1 },
            _ => {
                let first = self.tokens.len() as u32;
                self.tokens.extend_from_slice(tokens);
                Place { first, count: tokens.len() as u32 }
            }
        };
        match short(word.as_bytes()) {
            Some(key) => self.short.insert(key, place),
            None => self.long.insert(word.into(), place),
        };
    }
}

/// Key of a word of up to 15 bytes: the bytes padded with zeros, and their number. `None` for a longer word.
fn short(word: &[u8]) -> Option<(u64, u64)> {
    let length = word.len();
    // What is read from the end of the word is shifted by what was read from its start.
    let (low, high) = if length > 15 {
        return None;
    } else if let (Some(start), Some(end)) = (word.first_chunk(), word.last_chunk()) {
        let high = u64::from_le_bytes(*end).checked_shr(8 * (16 - length as u32));
        (u64::from_le_bytes(*start), high.unwrap_or(0))
    } else if let (Some(start), Some(end)) = (word.first_chunk(), word.last_chunk()) {
        let rest = u64::from(u32::from_le_bytes(*end)) >> (8 * (8 - length));
        (u64::from(u32::from_le_bytes(*start)) | rest << 32, 0)
    } else {
        (word.iter().rev().fold(0, |low, &byte| low << 8 | u64::from(byte)), 0)
    };
    Some((low, high | (length as u64) << 56))
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

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn short_words_are_padded_bytes_and_their_number() {
        let letters = b"abcdefghijklmnop";
        for length in 0..16 {
            let mut padded = [0; 16];
            padded[..length].copy_from_slice(&letters[..length]);
            padded[15] = length as u8;
            let halves = padded.as_chunks::<8>().0;
            let key = (u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1]));
            assert_eq!(short(&letters[..length]), Some(key), "{length}");
        }
        assert_eq!(short(letters), None);
    }
}
