//! A language model of characters: n-grams up to five with Witten-Bell interpolation (Witten & Bell 1991; as
//! in Chen & Goodman 1998, section 2.4). Text that it finds improbable is gibberish, in another language, or
//! far from the texts that it was trained on. It sees only letters and where words begin.

pub use super::gibberish::NgramFilter;
use super::{
    super::{Error, Result},
    file,
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, path::Path};

/// Settings of the n-grams that are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NgramConfig {
    /// Maximum length of an n-gram in characters, at most 5. Four distinguishes prose on any subject from
    /// gibberish best: with five, text on subjects that a small training text lacks scores too badly; with
    /// three, random letters score too well.
    pub order: usize,
    /// N-grams of more than two characters that occur less often are left out.
    pub min_count: u32,
    /// Counts capitals as small letters.
    pub lowercase: bool,
}

impl Default for NgramConfig {
    fn default() -> Self {
        Self { order: 4, min_count: 2, lowercase: true }
    }
}

const MAX_ORDER: usize = 5;
const CHARACTER_BITS: u32 = 21;

/// Assumed number of different characters; one that was never seen has a probability of 1 / this.
const ALPHABET: f64 = 65536.0;

/// A character beyond ASCII is foreign to a model if its probability is below 2 to the power of minus this: a
/// few names in Greek letters do not make a model of Greek.
const FOREIGN_BITS: f32 = 14.0;

/// Counts of the n-grams in training texts.
#[derive(Debug)]
pub struct NgramCounts {
    config: NgramConfig,
    nodes: Vec<Node>,
    index: HashMap<u64, u32>,
}

/// An n-gram. The root, at index 0, has no characters.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    key: u64,
    length: u32,
    count: u32,
    /// Number of characters that followed it.
    followed: u32,
    /// Number of different characters that followed it.
    followers: u32,
    /// Index of the n-gram without its last character.
    context: u32,
    /// Index of the n-gram without its first character.
    suffix: u32,
}

impl NgramCounts {
    pub fn new(config: &NgramConfig) -> Result<Self> {
        if !(1..=MAX_ORDER).contains(&config.order) {
            return Err(Error::invalid_value("ngram.order", config.order, "must be between 1 and 5"));
        }
        Ok(Self { config: config.clone(), nodes: vec![Node::default()], index: HashMap::new() })
    }

    /// Counts the n-grams of a text. Once there are 2^32 different n-grams, no more are counted.
    pub fn add(&mut self, text: &str) {
        let mut history = 0u128;
        // The n-grams of 0, 1, ... characters that end with the character before.
        let mut before = [0u32; MAX_ORDER];
        let mut known = 1;
        for character in characters(text, self.config.lowercase) {
            history = (history << CHARACTER_BITS) | u128::from(u32::from(character));
            let mut ending = [0u32; MAX_ORDER + 1];
            let lengths = known.min(self.config.order);
            for length in 1..=lengths {
                let context = before[length - 1];
                let suffix = ending[length - 1];
                let key = key(history, length);
                let next = self.nodes.len() as u32;
                if next == u32::MAX {
                    return;
                }
                let node = *self.index.entry(key).or_insert(next);
                if node == next {
                    self.nodes.push(Node { key, length: length as u32, context, suffix, ..Node::default() });
                    self.nodes[context as usize].followers += 1;
                }
                let followed = &mut self.nodes[context as usize].followed;
                *followed = followed.saturating_add(1);
                let count = &mut self.nodes[node as usize].count;
                *count = count.saturating_add(1);
                ending[length] = node;
            }
            before.copy_from_slice(&ending[..MAX_ORDER]);
            known = (lengths + 1).min(self.config.order);
        }
    }

    /// Builds the model from the counts.
    pub fn build(&self) -> Result<NgramModel> {
        if self.nodes.len() == 1 {
            return Err(Error::invalid_value("ngram.text", "", "there is no text to train from"));
        }
        // A node comes after its suffix, so that probabilities are known when they are needed.
        let mut probabilities = vec![1.0 / ALPHABET; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate().skip(1) {
            let context = &self.nodes[node.context as usize];
            let followers = f64::from(context.followers);
            let seen = f64::from(node.count) + followers * probabilities[node.suffix as usize];
            probabilities[at] = seen / (f64::from(context.followed) + followers);
        }
        let is_kept = |node: &&(&Node, f64)| node.0.length <= 2 || node.0.count >= self.config.min_count;
        let all: Vec<(&Node, f64)> = self.nodes.iter().zip(probabilities).collect();
        let mut entries: Vec<Entry> = all
            .iter()
            .skip(1)
            .filter(is_kept)
            .map(|(node, probability)| Entry {
                key: node.key,
                bits: -probability.log2() as f32,
                backoff_bits: node.backoff_bits(),
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.key);
        let header = Header {
            format: FORMAT.into(),
            order: self.config.order,
            lowercase: self.config.lowercase,
            unseen_bits: ALPHABET.log2() as f32 + self.nodes[0].backoff_bits(),
            ngrams: entries.len(),
        };
        Ok(NgramModel::new(header, entries))
    }
}

impl Node {
    /// Bits that are added when a shorter n-gram stands in for one that begins with this n-gram and was not
    /// seen.
    fn backoff_bits(&self) -> f32 {
        if self.followers == 0 {
            return 0.0;
        }
        let (followed, followers) = (f64::from(self.followed), f64::from(self.followers));
        -(followers / (followed + followers)).log2() as f32
    }
}

const FORMAT: &str = "kiln character model 2";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    format: String,
    order: usize,
    lowercase: bool,
    /// Bits of a character that was in no text.
    unseen_bits: f32,
    ngrams: usize,
}

/// Entry of an n-gram in the hash table.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Entry {
    /// Hash of the n-gram; 0 in an empty slot.
    key: u64,
    /// Bits of the n-gram's last character, given those before it.
    bits: f32,
    /// Bits to add if this n-gram is the context of a character that was not seen after it.
    backoff_bits: f32,
}

/// A trained model, which computes the bits per character of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct NgramModel {
    header: Header,
    /// Hash table with open addressing, at most half full.
    table: Vec<Entry>,
}

impl NgramModel {
    fn new(header: Header, entries: Vec<Entry>) -> Self {
        let mut table = vec![Entry::default(); (2 * entries.len()).next_power_of_two().max(2)];
        for entry in entries {
            let mut slot = entry.key as usize & (table.len() - 1);
            while table[slot].key != 0 && table[slot].key != entry.key {
                slot = (slot + 1) & (table.len() - 1);
            }
            table[slot] = entry;
        }
        Self { header, table }
    }

    #[inline]
    fn find(&self, key: u64) -> Option<&Entry> {
        let mut slot = key as usize & (self.table.len() - 1);
        loop {
            let entry = &self.table[slot];
            if entry.key == key {
                return Some(entry);
            }
            if entry.key == 0 {
                return None;
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
    }

    /// Computes the cross-entropy of a text in bits per character; everything between two words counts as one
    /// blank. The perplexity per character is 2 to this power. Foreign characters do not count: those beyond
    /// ASCII that the training text did not have, or hardly ever.
    ///
    /// `None` if there are no characters, or if most are foreign: what a model of English says of Chinese
    /// does not show whether it is gibberish.
    pub fn bits_per_character(&self, text: &str) -> Option<f64> {
        let mut history = 0u128;
        let mut known = 1;
        // Characters that count, blanks among them, and foreign ones.
        let (mut count, mut blanks, mut foreign) = (0u64, 0u64, 0u64);
        let mut total = 0f64;
        for character in characters(text, self.header.lowercase) {
            let before = history;
            history = (history << CHARACTER_BITS) | u128::from(u32::from(character));
            let lengths = known;
            known = (known + 1).min(self.header.order);
            if !character.is_ascii() && self.is_foreign(history) {
                foreign += 1;
                continue;
            }
            let mut backoff = 0f32;
            let mut length = lengths;
            let bits = loop {
                if length == 0 {
                    break self.header.unseen_bits;
                }
                if let Some(entry) = self.find(key(history, length)) {
                    break entry.bits;
                }
                // The last context is the empty one, which `unseen_bits` include.
                if length > 1
                    && let Some(context) = self.find(key(before, length - 1))
                {
                    backoff += context.backoff_bits;
                }
                length -= 1;
            };
            total += f64::from(bits + backoff);
            count += 1;
            blanks += u64::from(character == ' ');
        }
        (count > 0 && foreign <= count - blanks).then(|| total / count as f64)
    }

    /// Returns whether the last character is missing, or nearly, in texts like those of the training.
    fn is_foreign(&self, history: u128) -> bool {
        self.find(key(history, 1)).is_none_or(|entry| entry.bits > FOREIGN_BITS)
    }

    /// Serializes the model.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut entries: Vec<&Entry> = self.table.iter().filter(|entry| entry.key != 0).collect();
        entries.sort_unstable_by_key(|entry| entry.key);
        let numbers = entries.into_iter().flat_map(|entry| {
            let bits = [entry.bits.to_bits(), entry.backoff_bits.to_bits()];
            [entry.key as u32, (entry.key >> 32) as u32, bits[0], bits[1]]
        });
        file::to_bytes(&self.header, numbers)
    }

    /// Reads the output of [`to_bytes`](Self::to_bytes); `path` is for messages.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let (header, numbers): (Header, _) = file::from_bytes(bytes, path)?;
        let (entries, rest) = numbers.as_chunks::<4>();
        let is_known = header.format == FORMAT && (1..=MAX_ORDER).contains(&header.order);
        if !is_known || !rest.is_empty() || entries.len() != header.ngrams {
            return Err(file::invalid(path, "is not a character model of this version, or cut short"));
        }
        let entry = |&[low, high, bits, backoff]: &[u32; 4]| Entry {
            key: u64::from(low) | (u64::from(high) << 32),
            bits: f32::from_bits(bits),
            backoff_bits: f32::from_bits(backoff),
        };
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        let is_finite = |entry: &Entry| entry.bits.is_finite() && entry.backoff_bits.is_finite();
        if !header.unseen_bits.is_finite() || !entries.iter().all(is_finite) {
            return Err(file::invalid(path, "has probabilities that are not finite"));
        }
        Ok(Self::new(header, entries))
    }
}

/// Characters of a text as the model sees them: letters, with one blank for everything before a word. Digits
/// and signs say little about whether a text is language, and much about its subject.
fn characters(text: &str, lowercase: bool) -> impl Iterator<Item = char> {
    let mut is_inside = false;
    text.chars().flat_map(move |character| {
        let letter = match character {
            'a'..='z' => character,
            'A'..='Z' if lowercase => character.to_ascii_lowercase(),
            'A'..='Z' => character,
            _ if character.is_ascii() || !character.is_alphabetic() => {
                is_inside = false;
                return [None, None].into_iter().flatten();
            }
            // Where lower case is two characters, the first.
            _ if lowercase => character.to_lowercase().next().unwrap_or(character),
            _ => character,
        };
        let blank = (!std::mem::replace(&mut is_inside, true)).then_some(' ');
        [blank, Some(letter)].into_iter().flatten()
    })
}

/// Hashes the last `length` characters; the hash is never 0.
#[inline]
fn key(history: u128, length: usize) -> u64 {
    let kept = history & ((1 << (CHARACTER_BITS * length as u32)) - 1);
    let low = (kept as u64) ^ 0x9e37_79b9_7f4a_7c15 ^ length as u64;
    let high = (kept >> 64) as u64 ^ 0xd6e8_feb8_6659_fd93;
    let product = u128::from(low.wrapping_mul(0xbf58_476d_1ce4_e5b9)) * u128::from(high | 1);
    let mixed =
        (product as u64) ^ ((product >> 64) as u64).wrapping_mul(0x94d0_49bb_1331_11eb) ^ low.rotate_left(32);
    (mixed ^ (mixed >> 29)) | (1 << 63)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const TEXT: &str = "The quick brown fox jumps over the lazy dog, and the dog does not mind. ";

    pub fn counted(text: &str, config: &NgramConfig) -> NgramModel {
        let mut counts = NgramCounts::new(config).unwrap();
        counts.add(text);
        counts.build().unwrap()
    }

    #[test]
    fn probabilities_are_those_of_witten_and_bell() {
        // " ab ab": blank 2, a 2, b 2; each follows the one before always.
        let model = counted("ab ab", &NgramConfig { order: 2, min_count: 1, lowercase: true });
        let unigram = |count: f64| (count + 3.0 / ALPHABET) / 9.0;
        let bigram = |count: f64, followed: f64, unigram: f64| (count + unigram) / (followed + 1.0);
        let pair =
            |text: &str| model.find(key(text.chars().fold(0, |h, c| (h << 21) | c as u128), 2)).unwrap().bits;
        assert!((f64::from(pair("ab")) + bigram(2.0, 2.0, unigram(2.0)).log2()).abs() < 1e-6);
        assert!((f64::from(pair("b ")) + bigram(1.0, 1.0, unigram(2.0)).log2()).abs() < 1e-6);
        // Backs off from `a` with 2 followed and 1 follower: 1/3 of the unigram.
        let bits = |probability: f64| -probability.log2();
        let expected = bits(unigram(2.0)) + bits(bigram(2.0, 2.0, unigram(2.0))) + bits(unigram(2.0) / 3.0);
        assert!((model.bits_per_character("aa").unwrap() - expected / 3.0).abs() < 1e-6);
        // Never seen: 3 of 9 parts for the alphabet, after a blank with 1/3.
        let expected = bits(unigram(2.0)) + bits(1.0 / 3.0 / ALPHABET / 3.0);
        assert!((model.bits_per_character("z").unwrap() - expected / 2.0).abs() < 1e-5);
    }

    #[test]
    fn survives_a_file() {
        let model = counted(TEXT, &NgramConfig { min_count: 1, ..NgramConfig::default() });
        let bytes = model.to_bytes().unwrap();
        let path = Path::new("model");
        let read = NgramModel::from_bytes(&bytes, path).unwrap();
        assert_eq!(read.to_bytes().unwrap(), bytes);
        assert_eq!(read.bits_per_character("any text"), model.bits_per_character("any text"));
        let mut broken = bytes.clone();
        let last = broken.len() - 4;
        broken[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(NgramModel::from_bytes(&broken, path).is_err());
        for cut in [0, 9, bytes.len() - 16, bytes.len() - 4, bytes.len() - 1] {
            assert!(NgramModel::from_bytes(&bytes[..cut], path).is_err());
        }
        assert!(NgramCounts::new(&NgramConfig { order: 6, ..NgramConfig::default() }).is_err());
        assert!(NgramCounts::new(&NgramConfig::default()).unwrap().build().is_err());
    }
}
