//! Updates of the weights from gradients: schedules, accumulation, loss scaling, clipping, optimizers, averaging.

pub mod clip;
pub mod ema;
pub mod loss_scale;
mod offload;
mod optimizer;
mod rule;
pub mod schedule;
mod state;
#[cfg(test)]
mod tests;

pub use loss_scale::{LossScale, LossScaleState};
pub use optimizer::{Optimizer, Update};
pub use state::{HostState, Moments, OptimizerState, ParameterState, state_tensors};
