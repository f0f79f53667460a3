//! GGUF, the file format of llama.cpp: one file with a model's configuration, tokenizer and tensors, which
//! may be quantized (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).
//!
//! ```no_run
//! # fn run(bytes: &[u8]) -> kiln_base::Result<()> {
//! let file = kiln_gguf::Gguf::parse(bytes, "model.gguf".as_ref())?;
//! let config = file.config()?; // as in Hugging Face's `config.json`
//! for tensor in file.model_tensors()? {
//!     println!("{} {:?}: {}", tensor.name, tensor.shape, tensor.read()[0]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A file is a slice of bytes, mapped into memory or downloaded, and is read where it lies: tensors are
//! converted to f32 when they are asked for. Nothing in a file is believed: each length is compared with the
//! bytes that are left before anything is allocated.

mod cursor; // Little-endian numbers and texts, with every length checked.
mod value; // Values of the metadata.
mod metadata; // Keys and values.
mod types; // Types of tensors and the sizes of their blocks.
mod read; // Header and tensors of a file.
mod dequantize; // Blocks to f32.
mod k_quants; // Blocks of 256 numbers to f32.
mod quantize; // f32 to blocks.
mod write; // A new file.
pub mod hugging_face; // Configuration, tensor names and tokenizer, from and to Hugging Face's.

pub use hugging_face::{Form, ModelTensor};
pub use metadata::Metadata;
pub use read::{Gguf, Tensor};
pub use types::TensorType;
pub use value::{Array, Value};
pub use write::{Contents, Layout};

/// Ending of the files' names.
pub const EXTENSION: &str = "gguf";

#[cfg(test)]
mod tests;
