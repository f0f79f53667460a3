//! Duplicates: exact, near (MinHash), of meaning (SemDeDup), and of held-out texts.

pub mod clusters;
pub mod contamination;
pub mod exact;
mod kmeans;
pub mod minhash;
pub mod normalize;
mod permutations;
pub mod semantic;
