//! The factor of the loss, and a weight that is trained under it, after steps that overflow and steps that do not
//! (`precision/scaler.json`).

use super::Case;
use crate::{
    config::{LossScaleConfig, LossScaling, OptimizerKind, TrainConfig},
    error::{Error, Result},
    kernels::Mode,
    model::parameters::{self, NamedData},
    optim::{LossScale, Optimizer, Update},
    platform::storage,
};
use burn::{
    module::{Module, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use serde::Deserialize;
use std::path::Path;

/// Learning rate of the weight.
const LEARNING_RATE: f64 = 0.125;

#[derive(Deserialize)]
struct Schedules {
    cases: Vec<Schedule>,
}

/// Settings, by PyTorch's names, and the numbers after each step.
#[derive(Deserialize)]
struct Schedule {
    init_scale: f64,
    growth_factor: f64,
    backoff_factor: f64,
    growth_interval: u64,
    /// 1 for a step that overflows.
    overflow: Vec<u8>,
    scale_after: Vec<f32>,
    steps_since_growth_or_overflow: Vec<u64>,
    weight_after: Vec<f32>,
}

#[derive(Module, Debug)]
struct Weight {
    weight: Param<Tensor<1>>,
}

/// Compares every schedule; there is none in a folder without the file.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let path = folder.join("precision").join("scaler.json");
    if !storage::exists(&path) {
        return Ok(Vec::new());
    }
    let text = storage::read_to_string(&path)?;
    let failed =
        |error: serde_json::Error| Error::Checkpoint { path, message: error.to_string(), hint: None };
    let schedules: Schedules = serde_json::from_str(&text).map_err(failed)?;
    let numbered = schedules.cases.iter().enumerate();
    numbered.map(|(number, schedule)| compare(number + 1, schedule, device)).collect()
}

fn compare(number: usize, schedule: &Schedule, device: &Device) -> Result<Case> {
    let config = LossScaleConfig {
        scaling: LossScaling::On,
        initial: schedule.init_scale,
        growth: schedule.growth_factor,
        backoff: schedule.backoff_factor,
        interval: schedule.growth_interval,
        ..Default::default()
    };
    let sgd =
        TrainConfig { optimizer: OptimizerKind::Sgd, momentum: 0.0, weight_decay: 0.0, ..Default::default() };
    let mut optimizer = Optimizer::uniform(&sgd, Mode::Fused);
    let mut loss_scale = LossScale::new(&config, device);
    let mut model =
        Weight { weight: Param::from_data(TensorData::from([1.0f32]), &device.clone().autodiff()) };
    let (mut scales, mut steps, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for overflow in &schedule.overflow {
        let scale = loss_scale.scale();
        // The gradient of the weight is that of the loss.
        let gradient = if *overflow == 1 { scale.full_like(f32::INFINITY) } else { scale.clone() };
        let factor = gradient.clone().mul_scalar(0.0).add_scalar(1.0) / scale;
        let is_finite = factor.clone().is_finite();
        let mut gradients = GradientsParams::new();
        gradients.register(model.weight.id, gradient);
        let update = Update { learning_rate: LEARNING_RATE, scale: factor, skip_non_finite: true };
        model = optimizer.step(model, gradients, update);
        loss_scale.update(&is_finite);
        let state = pollster::block_on(loss_scale.read())?;
        let read: NamedData = pollster::block_on(parameters::read(parameters::parameters(&model)))?;
        scales.push(state.scale);
        steps.push(state.steps);
        weights.extend(read.into_values().flat_map(|host| host.values));
    }
    let mut case = Case::new(format!("schedule {number} of the loss scale"));
    case.check("the scale after each step is equal", scales == schedule.scale_after);
    case.check("the steps that count are equal", steps == schedule.steps_since_growth_or_overflow);
    case.check("the weight after each step is equal", weights == schedule.weight_after);
    Ok(case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_adjusted_as_pytorch_adjusts_it() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/post");
        let cases = verify(&folder, &crate::device::Choice::cpu().open().unwrap()).unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            assert_eq!(case.failures().count(), 0, "{case:?}");
        }
    }
}
