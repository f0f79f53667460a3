//! Kiln trains transformer language models with one engine on every machine. The modules below
//! stand in the order in which data flows: a configuration picks text and a tokenizer, the model
//! turns tokens into logits, the objective into a loss, the loop into a trained checkpoint.
//!
//! `examples/train.rs` is the shortest program that trains with this library.

pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod generate;
pub mod kernels;
#[cfg(feature = "cli")]
pub mod memory;
pub mod model;
pub mod objective;
pub mod optim;
pub mod platform;
pub mod predict;
pub mod tokenizer;
pub mod train;
pub mod transform;
#[cfg(test)]
mod typescript;

// The page's types, which `typescript` compiles into this crate's tests, call it by its name.
#[cfg(test)]
extern crate self as kiln;

pub use error::{Error, Result};
