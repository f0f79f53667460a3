//! The engine: configuration, data, models, objectives, the loop, checkpoints, generation, evaluation.

pub mod config; // The configuration tree, presets, overrides and validation.
pub mod data; // Files to batches.
pub mod model; // Layers, the three architectures, Hugging Face families.
pub mod transform; // Changes to a model from outside, between building and training.
pub mod objective; // The loss of a batch.
pub mod optim; // Optimizers, schedules, clipping, weight averaging.
pub mod train; // The loop: one step, and what is due between steps.
pub mod checkpoint; // Folders that transformers loads and that training resumes from.
pub mod generate; // Generation of text, sampled or by beam search.
pub mod predict; // Classes, numbers and filled masks of an encoder.
pub mod eval; // The loss over a split, F1, error rates, comparison with PyTorch.

#[cfg(all(test, feature = "typescript"))]
mod typescript;

// The page's types, which `typescript` compiles into this crate's tests, call it by the facade's name.
#[cfg(all(test, feature = "typescript"))]
extern crate self as kiln;

pub use kiln_base::{Error, Result, error, platform, section};
pub use kiln_kernels::{self as kernels, device};
pub use kiln_tokenizer as tokenizer;
