//! Finds clusters of duplicates from pairs. The first document of a cluster represents it, so that the result
//! does not depend on the order of the pairs.

use super::super::{Error, Result};

/// Union-find over documents, by number. It takes four bytes a document.
#[derive(Debug, Clone)]
pub struct Clusters {
    /// For each document, a smaller number of the same cluster, or its own.
    parents: Vec<u32>,
}

/// A cluster of at least two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cluster {
    /// Smallest number in the cluster; this document is kept.
    pub representative: u32,
    pub size: u32,
}

impl Clusters {
    /// Puts every document into a cluster of its own.
    pub fn new(documents: u32) -> Self {
        Self { parents: (0..documents).collect() }
    }

    /// Joins the clusters of two documents; returns whether they were different.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if there is no such document.
    pub fn join(&mut self, a: u32, b: u32) -> Result<bool> {
        for document in [a, b] {
            if document as usize >= self.parents.len() {
                return Err(Error::invalid_value("document", document, "is beyond the last document"));
            }
        }
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b) as usize] = a.min(b);
        Ok(a != b)
    }

    /// First document of the cluster that a document is in.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn representative(&mut self, document: u32) -> u32 {
        self.root(document)
    }

    /// Returns whether a document represents its cluster or is alone.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn is_kept(&self, document: u32) -> bool {
        self.parents[document as usize] == document
    }

    /// Clusters of at least two documents, in the order of their first.
    pub fn clusters(&mut self) -> Vec<Cluster> {
        let mut sizes = vec![0u32; self.parents.len()];
        for document in 0..self.parents.len() as u32 {
            sizes[self.root(document) as usize] += 1;
        }
        let clusters = sizes.into_iter().zip(0..).filter(|(size, _)| *size > 1);
        clusters.map(|(size, representative)| Cluster { representative, size }).collect()
    }

    fn root(&mut self, mut document: u32) -> u32 {
        loop {
            let parent = self.parents[document as usize];
            if parent == document {
                return document;
            }
            // Halves the path for those who come after.
            let above = self.parents[parent as usize];
            self.parents[document as usize] = above;
            document = above;
        }
    }
}

/// Pairs documents that have a common key, given keys in ascending order (which may come from a file larger
/// than memory). Each document is paired with the first of its key, so that m documents make m - 1 pairs. If
/// the documents of a key ascend, so do those of a pair. Keys out of order lose pairs.
pub fn pairs(sorted: impl IntoIterator<Item = (u128, u32)>) -> impl Iterator<Item = (u32, u32)> {
    let mut first: Option<(u128, u32)> = None;
    sorted.into_iter().filter_map(move |(key, document)| match first {
        Some((of, first)) if of == key => (first != document).then_some((first, document)),
        _ => {
            first = Some((key, document));
            None
        }
    })
}

/// Computes the Jaccard similarity: the number of shingles in both texts over the number in either. Repeats
/// count once.
pub fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let set = |shingles: &[u64]| {
        let mut set = shingles.to_vec();
        set.sort_unstable();
        set.dedup();
        set
    };
    let (a, b) = (set(a), set(b));
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        common += usize::from(a[i] == b[j]);
        let (step_a, step_b) = (a[i] <= b[j], b[j] <= a[i]);
        i += usize::from(step_a);
        j += usize::from(step_b);
    }
    let all = a.len() + b.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::{
        super::blank_separated,
        minhash::{MinHash, MinHashConfig},
    };
    use super::*;

    #[test]
    fn clusters_do_not_depend_on_the_order_of_pairs() {
        let pairs = [(7, 3), (3, 9), (1, 2), (9, 8), (5, 5)];
        let mut orders = vec![pairs.to_vec(), pairs.iter().rev().copied().collect()];
        orders.push(pairs.iter().map(|&(a, b)| (b, a)).collect());
        for order in orders {
            let mut clusters = Clusters::new(10);
            order.iter().for_each(|&(a, b)| assert_eq!(clusters.join(a, b).unwrap(), a != b));
            let kept: Vec<u32> = (0..10).filter(|&document| clusters.is_kept(document)).collect();
            assert_eq!(kept, [0, 1, 3, 4, 5, 6]);
            let found = clusters.clusters();
            assert_eq!(
                found.iter().map(|c| (c.representative, c.size)).collect::<Vec<_>>(),
                [(1, 2), (3, 4)]
            );
            assert_eq!(clusters.representative(8), 3);
        }
        assert!(Clusters::new(3).join(0, 3).is_err());
    }

    #[test]
    fn keys_make_pairs_with_their_first_document() {
        let sorted = [(1, 4), (2, 0), (2, 0), (2, 5), (2, 9), (3, 9), (3, 10)];
        assert_eq!(pairs(sorted).collect::<Vec<_>>(), [(0, 5), (0, 9), (9, 10)]);
    }

    #[test]
    fn similarity_is_of_sets() {
        assert_eq!(jaccard(&[1, 2, 2, 3], &[3, 2, 9]), 0.5);
        assert_eq!(jaccard(&[], &[]), 0.0);
    }

    /// Random numbers for tests (SplitMix64).
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Makes texts of random words, an edited copy of each, and the true similarity of the two.
    fn edited(minhash: &MinHash, documents: usize, edits: usize) -> (Vec<Vec<u64>>, Vec<f64>) {
        // Letters, as numbers would all become the same.
        let word =
            |number: u64| number.to_string().bytes().map(|digit| char::from(digit + 49)).collect::<String>();
        let mut state = 7;
        let mut shingles = Vec::new();
        let mut similarities = Vec::new();
        for _ in 0..documents {
            let mut words: Vec<String> = (0..400).map(|_| word(random(&mut state) % 5000)).collect();
            let original = minhash.shingles(&words.join(" "), &mut blank_separated);
            for _ in 0..edits {
                let at = random(&mut state) as usize % words.len();
                words[at] = word(10_000 + random(&mut state) % 5000);
            }
            let copy = minhash.shingles(&words.join(" "), &mut blank_separated);
            similarities.push(jaccard(&original, &copy));
            shingles.extend([original, copy]);
        }
        (shingles, similarities)
    }

    #[test]
    fn near_texts_are_found_as_often_as_the_bands_say() {
        let config = MinHashConfig::default();
        let minhash = config.build().unwrap();
        for edits in [4, 10, 16, 24, 60] {
            let (shingles, similarities) = edited(&minhash, 300, edits);
            let mut keys = Vec::new();
            for (document, shingles) in shingles.iter().enumerate() {
                let signature = minhash.signature_of(shingles).unwrap();
                keys.extend(minhash.band_keys(&signature).map(|key| (key, document as u32)));
            }
            keys.sort_unstable();
            let mut clusters = Clusters::new(600);
            for (a, b) in pairs(keys.iter().copied()) {
                // No pair of texts that have nothing to do with each other.
                assert_eq!(a / 2, b / 2);
                clusters.join(a, b).unwrap();
            }
            let found = clusters.clusters().len() as f64 / 300.0;
            let expected = similarities.iter().map(|&s| config.found_share(s)).sum::<f64>() / 300.0;
            let mean = similarities.iter().sum::<f64>() / 300.0;
            println!("{edits} edits: mean Jaccard {mean:.3}, found {found:.3}, expected {expected:.3}");
            // Four standard deviations of 300 draws, and a little for hashes that are not universal.
            let allowed = 4.0 * (expected * (1.0 - expected) / 300.0).sqrt() + 0.01;
            assert!((found - expected).abs() <= allowed);
        }
    }
}
