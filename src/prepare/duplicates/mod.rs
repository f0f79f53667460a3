//! Duplicates: exact ones, near ones (MinHash), those by meaning (SemDeDup), and those of held-out texts.

pub mod clusters;
pub mod contamination;
pub mod exact;
mod kmeans;
pub mod minhash;
pub mod normalize;
mod permutations;
pub mod semantic;
