//! Finds near duplicates by MinHash: signatures and the keys of their bands, bit for bit those of datatrove
//! 0.10.1 if words are split as datatrove splits them (Broder 1997; Lee et al. 2021, arXiv:2107.06499).

use super::{
    super::{Error, Result, SplitWords},
    normalize::Normalization,
    permutations::Permutations,
};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use xxhash_rust::{xxh3::xxh3_128_with_seed, xxh64::xxh64};

/// Settings of MinHash: shingles, and the similarity of duplicates. The defaults are datatrove's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinHashConfig {
    pub shingle: Shingle,
    /// Number of bands; documents whose hashes agree in a whole band are a pair.
    pub bands: usize,
    /// Number of hashes in a band.
    pub rows: usize,
    pub seed: u32,
    pub normalization: Normalization,
    /// Minimum Jaccard similarity of a pair, measured on the texts; 0 accepts every pair with a common band.
    pub verify: f64,
    /// Names of the sources whose documents are compared; empty means all.
    pub sources: Vec<String>,
}

/// Pieces of a text that are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shingle {
    /// N-grams of this number of words.
    Words(usize),
    /// N-grams of this number of characters.
    Characters(usize),
}

impl Default for MinHashConfig {
    fn default() -> Self {
        Self {
            shingle: Shingle::Words(5),
            bands: 14,
            rows: 8,
            seed: 1,
            normalization: Normalization::default(),
            verify: 0.0,
            sources: Vec::new(),
        }
    }
}

impl MinHashConfig {
    pub fn build(&self) -> Result<MinHash> {
        if let Shingle::Words(0) | Shingle::Characters(0) = self.shingle {
            return Err(Error::invalid_value("minhash.shingle", 0, "must be at least 1"));
        }
        for (key, value) in [("minhash.bands", self.bands), ("minhash.rows", self.rows)] {
            if !(1..=4096).contains(&value) {
                return Err(Error::invalid_value(key, value, "must be between 1 and 4096"));
            }
        }
        Ok(MinHash {
            permutations: Permutations::new(self.seed, self.bands * self.rows),
            config: self.clone(),
        })
    }

    /// Jaccard similarity at which about half of all pairs are found: (1 / bands)^(1 / rows).
    pub fn threshold(&self) -> f64 {
        (1.0 / self.bands as f64).powf(1.0 / self.rows as f64)
    }

    /// Share of the pairs with this Jaccard similarity that are found.
    pub fn found_share(&self, similarity: f64) -> f64 {
        1.0 - (1.0 - similarity.powf(self.rows as f64)).powf(self.bands as f64)
    }
}

/// Function that computes the signatures of texts.
#[derive(Debug, Clone)]
pub struct MinHash {
    config: MinHashConfig,
    permutations: Permutations,
}

impl MinHash {
    /// Hashes of a text's shingles, with repeats; empty if the text is too short for one. `words` splits the
    /// normalized text; it is not called for shingles of characters.
    pub fn shingles(&self, text: &str, words: &mut SplitWords) -> Vec<u64> {
        let text = self.config.normalization.apply(text);
        match self.config.shingle {
            Shingle::Words(size) => {
                let (joined, ends) = join(&text, &words(&text));
                // Word i begins one blank after word i - 1.
                let start = |i: usize| if i == 0 { 0 } else { ends[i - 1] + 1 };
                let hash = |(i, &end): (usize, &usize)| xxh64(&joined[start(i)..end], 0);
                ends.iter().skip(size - 1).enumerate().map(hash).collect()
            }
            Shingle::Characters(size) => {
                let starts = || text.char_indices().map(|(start, _)| start);
                let ends = starts().chain([text.len()]).skip(size);
                let hash = |(start, end): (usize, usize)| xxh64(&text.as_bytes()[start..end], 0);
                starts().zip(ends).map(hash).collect()
            }
        }
    }

    /// Computes the signature of a text, `bands` × `rows` hashes; `None` if the text is too short for a
    /// shingle, so that it has no near duplicates.
    pub fn signature(&self, text: &str, words: &mut SplitWords) -> Option<Vec<u64>> {
        self.signature_of(&self.shingles(text, words))
    }

    /// Computes the signature of hashed shingles.
    pub fn signature_of(&self, shingles: &[u64]) -> Option<Vec<u64>> {
        (!shingles.is_empty()).then(|| self.permutations.minima(shingles))
    }

    /// Keys of a signature, one for each band. Equal keys mean equal hashes in the same band, except for a
    /// collision in 128 bits.
    pub fn band_keys<'a>(&self, signature: &'a [u64]) -> impl Iterator<Item = u128> + use<'a> {
        signature.chunks_exact(self.config.rows).enumerate().map(|(band, rows)| {
            let bytes: Vec<u8> = rows.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            xxh3_128_with_seed(&bytes, band as u64)
        })
    }
}

/// Joins words with one blank between them, and returns the position where each ends.
fn join(text: &str, words: &[Range<usize>]) -> (Vec<u8>, Vec<usize>) {
    let mut joined = Vec::with_capacity(text.len() + words.len());
    let ends = words
        .iter()
        .map(|word| {
            if !joined.is_empty() {
                joined.push(b' ');
            }
            joined.extend_from_slice(text.as_bytes().get(word.clone()).unwrap_or_default());
            joined.len()
        })
        .collect();
    (joined, ends)
}

/// Share of equal hashes in two signatures, an estimate of the Jaccard similarity.
pub fn estimated_similarity(a: &[u64], b: &[u64]) -> f64 {
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    if a.is_empty() { 0.0 } else { equal as f64 / a.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::super::blank_separated;
    use super::*;

    const FOX: &str = "the quick brown fox jumps over the lazy dog and runs far away into the dark green woods \
                       near the river bank";

    fn minhash() -> MinHash {
        MinHashConfig::default().build().unwrap()
    }

    #[test]
    fn signatures_are_datatroves() {
        // minhash.py beside the notes on datatrove prints these.
        let shingles = minhash().shingles(FOX, &mut blank_separated);
        assert_eq!(shingles.len(), 18);
        assert_eq!(shingles[0], 7_797_000_677_988_824_208);
        assert_eq!(shingles[17], 4_300_827_098_910_693_423);
        let signature = minhash().signature(FOX, &mut blank_separated).unwrap();
        assert_eq!(
            signature[..8],
            [
                85_330_943_174_081_874,
                98_156_839_313_063_208,
                240_972_588_131_204_263,
                34_440_879_854_629_237,
                203_742_293_174_673_157,
                117_899_488_208_280_896,
                313_878_876_066_771_356,
                10_780_627_625_530_002,
            ]
        );
        assert_eq!(signature.len(), 112);
        let loud = minhash().signature(&(FOX.to_uppercase() + "!!"), &mut blank_separated).unwrap();
        assert_eq!(signature, loud);
    }

    #[test]
    fn short_texts_have_no_signature() {
        assert_eq!(minhash().signature("one two three four", &mut blank_separated), None);
        assert_eq!(minhash().signature("", &mut blank_separated), None);
        assert!(minhash().signature("one two three four five", &mut blank_separated).is_some());
    }

    #[test]
    fn shingles_of_characters_count_characters() {
        let config = MinHashConfig { shingle: Shingle::Characters(3), ..MinHashConfig::default() };
        let own = config.build().unwrap();
        let hashes = own.shingles("Ж1б в", &mut |_| vec![]);
        assert_eq!(hashes, ["ж0б", "0б ", "б в"].map(|shingle| xxh64(shingle.as_bytes(), 0)));
        assert!(own.shingles("аб", &mut |_| vec![]).is_empty());
    }

    #[test]
    fn bands_have_keys_of_their_own() {
        let own = minhash();
        let mut signature = own.signature(FOX, &mut blank_separated).unwrap();
        let keys: Vec<_> = own.band_keys(&signature).collect();
        assert_eq!(keys.len(), 14);
        signature[9] ^= 1;
        let other: Vec<_> = own.band_keys(&signature).collect();
        assert_eq!((0..14).filter(|&band| keys[band] != other[band]).collect::<Vec<_>>(), [1]);
        assert_eq!(own.band_keys(&[5; 112]).collect::<std::collections::HashSet<_>>().len(), 14);
    }

    #[test]
    fn settings_are_checked() {
        assert!((MinHashConfig::default().threshold() - 0.719).abs() < 1e-3);
        assert!(MinHashConfig { bands: 0, ..Default::default() }.build().is_err());
        assert!(MinHashConfig { shingle: Shingle::Words(0), ..Default::default() }.build().is_err());
        let config: MinHashConfig =
            serde_json::from_str(r#"{"shingle": {"characters": 24}, "bands": 20}"#).unwrap();
        assert_eq!((config.shingle, config.bands, config.rows), (Shingle::Characters(24), 20, 8));
        assert!(serde_json::from_str::<MinHashConfig>(r#"{"band": 20}"#).is_err());
    }
}
