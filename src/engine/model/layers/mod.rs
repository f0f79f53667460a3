//! The layers that a transformer consists of.

pub mod adapter;
pub mod attention;
pub mod block;
pub mod embeddings;
pub mod kv_cache;
pub mod linear;
pub(crate) mod mask;
pub mod mlp;
pub mod moe;
pub mod norm;
pub mod output;
pub mod position;
mod recompute;
pub mod stack;
