//! Updates of the weights from gradients: schedules, clipping, optimizers, averaging.

pub mod clip;
pub mod ema;
mod optimizer;
pub mod schedule;
#[cfg(test)]
mod tests;

pub use optimizer::{Optimizer, OptimizerState, ParameterState, Update, state_tensors};
