//! Kiln trains transformer language models with one engine on every machine. The modules below
//! stand in the order in which data flows: a configuration picks text and a tokenizer, the model
//! turns tokens into logits, the objective into a loss, the loop into a trained checkpoint.
//!
//! `examples/train.rs` is the shortest program that trains with this library.

pub mod error; // The one error type, with the hint of what to do.
pub mod platform; // The clock, storage and memory, on a desktop and in a browser.
pub mod device; // Devices by name, and which backend runs on them.
pub mod config; // The configuration tree, presets, overrides and validation.
pub mod tokenizer; // Text to token ids and back.
pub mod data; // Files to batches; `data::prepare` makes shards of raw files.
pub mod kernels; // Fused operations, forward and backward, on the CPU and on GPUs.
pub mod model; // Layers, the three architectures, Hugging Face families.
pub mod transform; // Changes to a model from outside, between building and training.
pub mod objective; // The loss of a batch.
pub mod optim; // Optimizers, schedules, clipping, weight averaging.
pub mod train; // The loop: one step, and what is due between steps.
pub mod checkpoint; // Folders that transformers loads and that training resumes from.
pub mod generate; // Generation of text, sampled or by beam search.
pub mod predict; // Classes, numbers and filled masks of an encoder.
pub mod eval; // The loss over a split, F1, error rates, comparison with PyTorch.
#[cfg(feature = "cli")]
pub mod cli; // The commands of the binary, one file each.
#[cfg(feature = "cli")]
pub mod memory; // The allocator of the binary.

#[cfg(test)]
mod typescript;

// The page's types, which `typescript` compiles into this crate's tests, call it by its name.
#[cfg(test)]
extern crate self as kiln;

pub use error::{Error, Result};
