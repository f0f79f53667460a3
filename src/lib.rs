//! Kiln trains transformer language models with one engine on every machine. This crate is the binary and a
//! facade of the crates under `src/`, whose modules stand here in the order in which data flows.
//!
//! `examples/train.rs` is the shortest program that trains with this library.

pub use kiln_base::{Error, Result, error, hint, platform};
pub use kiln_chat as chat;
pub use kiln_engine::{
    checkpoint, config, data, eval, generate, model, objective, optim, predict, train, transform,
};
pub use kiln_kernels::{self as kernels, device};
#[cfg(feature = "data")]
pub use kiln_prepare as prepare;
pub use kiln_tokenizer as tokenizer;

#[cfg(feature = "cli")]
pub mod cli; // The commands of the binary, one file each.
#[cfg(feature = "cli")]
pub mod memory; // The allocator of the binary.
