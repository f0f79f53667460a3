//! Pruning of matrices: which weights of a linear layer may be zero, and which of its heads and neurons may go.
//!
//! A matrix is a slice of rows, `[out, in]` as PyTorch stores it. A mask has one `bool` for each weight, true for those
//! that are kept. Of equal scores the first is pruned first, so that every result is deterministic.
//!
//! | by | takes | function |
//! | --- | --- | --- |
//! | magnitude, of each matrix | weights | [`magnitude::mask`] |
//! | magnitude, over several matrices | weights | [`magnitude::global`] |
//! | Wanda (arXiv:2306.11695) | weights, norms of the inputs | [`wanda::mask`] |
//! | SparseGPT (arXiv:2301.00774) | weights, products of the inputs | [`sparsegpt::SparseGpt::prune`] |
//! | effect of heads and neurons | weights, products of their outputs | [`structure::effects`] |
//!
//! A [`Pattern`] says where zeros may be: anywhere, or two of every four neighbours, which GPUs compute faster.

pub mod error; // What cannot be pruned.
pub mod select; // The smallest of some scores.
pub mod pattern; // Shares, and two of every four.
pub mod magnitude; // Masks by absolute value.
pub mod wanda; // Masks by weights and the norms of their inputs.
pub mod factor; // Triangular factors of a matrix.
pub mod sparsegpt; // Masks and new weights, by second-order errors.
pub mod structure; // Heads and neurons: their effect, and matrices without them.
pub mod schedule; // Shares that grow during training.

#[cfg(test)]
mod fixture;

pub use error::{Error, Result};
pub use pattern::Pattern;
pub use sparsegpt::{Pruned, SparseGpt};
