//! Operations as numbers in slices, without tensors: the settings of each, and the loops that compute it on a CPU
//! (feature `cpu`). The loops are compiled in one piece, so that they are inlined whole.

pub mod activation;
pub mod adafactor;
pub mod adamw;
pub mod adamw_8bit;
pub mod attention;
#[cfg(feature = "cpu")]
pub mod cpu;
pub mod cross_entropy;
pub mod dropout;
pub mod linear;
pub mod norm;
mod precision;
pub mod rope;

pub use precision::Precision;
