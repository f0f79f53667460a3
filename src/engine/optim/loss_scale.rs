//! The factor that a loss is multiplied by before the backward pass in f16 (arXiv:1710.03740), so that small gradients
//! are not rounded to 0. It is adjusted as by PyTorch's `GradScaler`: an overflow lowers it, and many steps without one
//! raise it. All of this happens on the device, since a step does not wait for it.

use crate::{
    config::LossScaleConfig,
    error::Result,
    model::parameters::{self, FlatTensor},
};
use burn::tensor::{Bool, Device, Tensor};
use serde::{Deserialize, Serialize};

/// Factor of the loss, and how it is adjusted.
#[derive(Debug, Clone)]
pub struct LossScale {
    config: LossScaleConfig,
    /// The factor, `[1]`.
    scale: Tensor<1>,
    /// Number of steps since the factor grew or a step overflowed, `[1]`.
    steps: Tensor<1>,
}

/// The factor and the number of steps since it grew or a step overflowed, as a checkpoint has them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScaleState {
    pub scale: f32,
    pub steps: u64,
}

impl LossScale {
    /// Begins on `device`, which must not have autodiff.
    pub fn new(config: &LossScaleConfig, device: &Device) -> Self {
        let state = LossScaleState { scale: config.initial as f32, steps: 0 };
        Self::restore(config, state, device)
    }

    /// Goes on from the state of a checkpoint.
    pub fn restore(config: &LossScaleConfig, state: LossScaleState, device: &Device) -> Self {
        let number = |number: f32| Tensor::from_floats([number], device);
        Self { config: config.clone(), scale: number(state.scale), steps: number(state.steps as f32) }
    }

    /// The factor of the next step, `[1]`.
    pub fn scale(&self) -> Tensor<1> {
        self.scale.clone()
    }

    /// Adjusts the factor after a step, whose gradients were finite or not.
    pub fn update(&mut self, is_finite: &Tensor<1, Bool>) {
        let LossScaleConfig { growth, backoff, interval, .. } = self.config;
        let steps = self.steps.clone().add_scalar(1.0);
        let grows = steps.clone().greater_equal_scalar(interval as f32);
        let larger = self.scale.clone().mul_scalar(growth as f32);
        let may_grow = grows.clone().bool_and(larger.clone().is_finite());
        let kept = self.scale.clone().mask_where(may_grow, larger);
        let steps = steps.mask_fill(grows, 0.0);
        let smaller = self.scale.clone().mul_scalar(backoff as f32);
        self.scale = smaller.mask_where(is_finite.clone(), kept);
        self.steps = steps.zeros_like().mask_where(is_finite.clone(), steps);
    }

    /// Reads the state from the device.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn read(&self) -> Result<LossScaleState> {
        let both = Tensor::cat(vec![self.scale.clone(), self.steps.clone()], 0);
        let read = parameters::read([(String::new(), FlatTensor::from_tensor(both))].into()).await?;
        let numbers: Vec<f32> = read.into_values().flat_map(|host| host.values).collect();
        let number = |i: usize| numbers.get(i).copied().unwrap_or(f32::NAN);
        Ok(LossScaleState { scale: number(0), steps: number(1) as u64 })
    }
}

/// The loss, `[1]`, multiplied by the factor if there is one.
pub fn multiplied(loss: Tensor<1>, loss_scale: Option<&LossScale>) -> Tensor<1> {
    match loss_scale {
        Some(loss_scale) => loss * Tensor::from_inner(loss_scale.scale()),
        None => loss,
    }
}

/// A number without autodiff that is proportional to the gradients, `[1]`, divided by the factor if there is one.
pub fn divided(number: Tensor<1>, loss_scale: Option<&LossScale>) -> Tensor<1> {
    match loss_scale {
        Some(loss_scale) => number / loss_scale.scale(),
        None => number,
    }
}
