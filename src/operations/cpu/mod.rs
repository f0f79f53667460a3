//! Loops of the operations on the CPU. They work on slices with vector instructions chosen at run time, in parallel
//! over rows and heads. In a browser the same code runs on one thread with WASM's vector instructions.

pub mod activation;
pub mod adafactor;
pub mod adamw_8bit;
pub mod attention;
pub mod cross_entropy;
pub mod documents;
pub mod dropout;
pub mod embedding;
mod few_rows;
pub mod gemm;
pub mod linear;
mod math;
pub mod norm;
pub mod optimizer;
mod parallel;
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), path = "no_parts.rs")]
mod parts;
pub mod rope;
pub mod rounding;
