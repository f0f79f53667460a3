//! The transformer: layers, the decoder made of them, and the mapping of its parameters to the
//! file formats of Hugging Face families.

pub mod decoder;
pub mod families;
mod init;
pub mod layers;
pub mod parameters;
pub mod size;

pub use decoder::{Decoder, DecoderInput};
pub use layers::kv_cache::KvCache;
