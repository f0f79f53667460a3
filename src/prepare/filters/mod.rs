//! Filters that use a model, a list or patterns: quality, gibberish, listed words, personal data.

mod addresses;
pub mod classifier;
mod file;
pub mod gibberish;
pub mod ngram;
mod numbers;
mod phones;
pub mod pii;
pub mod sample;
pub mod words;
