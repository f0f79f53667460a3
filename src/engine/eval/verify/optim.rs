//! Optimizers on given gradients, step by step, by their kernels and without them.

use super::{
    Case,
    fixture::{Fixture, relative},
};
use crate::{
    config::{AdafactorConfig, MuonScale, Nesterov, OptimizerKind, TrainConfig},
    device::short_name,
    error::Result,
    kernels::{
        Mode,
        adamw_8bit::{SIGNED, UNSIGNED},
    },
    model::parameters::{self, HostTensor},
    optim::{Optimizer, OptimizerState, Update},
};
use burn::{
    module::{Module, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

/// Difference that PyTorch's Muon is accepted with, which makes the momentum orthogonal in bfloat16.
const OF_BFLOAT16: f64 = 2e-2;

/// Settings of a case, by PyTorch's names.
#[derive(Debug, Clone, Deserialize)]
struct Settings {
    kind: String,
    lr: f64,
    betas: Option<[f64; 2]>,
    eps: Option<Epsilon>,
    weight_decay: f64,
    momentum: Option<f64>,
    dampening: Option<f64>,
    nesterov: Option<bool>,
    adjust: Option<String>,
    beta2_decay: Option<f64>,
    d: Option<f64>,
    block: Option<usize>,
    decay_first: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Epsilon {
    One(f64),
    /// Those of Adafactor, the first of which is that of f32 if it is absent.
    Two(Option<f64>, f64),
}

impl Settings {
    /// The optimizer of a step as Kiln's keys describe it, and the learning rate.
    ///
    /// # Errors
    /// A message if Kiln does not have it.
    fn config(&self, learning_rate: f64) -> Result<(TrainConfig, f64), String> {
        let default = TrainConfig::default();
        let optimizer = match self.kind.as_str() {
            "adam" => OptimizerKind::Adam,
            "adamw" => OptimizerKind::Adamw,
            "adamw8bit" => OptimizerKind::Adamw8Bit,
            "sgd" => OptimizerKind::Sgd,
            "lion" => OptimizerKind::Lion,
            "muon" | "muon-formula" => OptimizerKind::Muon,
            "adafactor" => OptimizerKind::Adafactor,
            other => return Err(format!("there is no optimizer `{other}`")),
        };
        if let Some(block) = self.block.filter(|block| *block != crate::kernels::adamw_8bit::BLOCK) {
            return Err(format!("there are no moments of 8 bits in blocks of {block}"));
        }
        let muon_scale = match self.adjust.as_deref() {
            None | Some("match_rms_adamw") => MuonScale::MatchRmsAdamw,
            Some("original") => MuonScale::Original,
            Some(other) => return Err(format!("there is no scale `{other}` of Muon")),
        };
        let [beta1, beta2] = self.betas.unwrap_or([default.beta1, default.beta2]);
        let (epsilon, [epsilon1, epsilon2]) = match self.eps {
            None => (default.epsilon, [default.adafactor.epsilon1, default.adafactor.epsilon2]),
            Some(Epsilon::One(one)) => (one, [default.adafactor.epsilon1, default.adafactor.epsilon2]),
            Some(Epsilon::Two(first, second)) => {
                (default.epsilon, [first.unwrap_or(f64::from(f32::EPSILON)), second])
            }
        };
        // Decay after the update is decay before it with an update that is as much smaller.
        let decay = 1.0 - learning_rate * self.weight_decay;
        let shrink = if self.decay_first == Some(false) { decay } else { 1.0 };
        let config = TrainConfig {
            optimizer,
            beta1,
            beta2,
            epsilon,
            momentum: self.momentum.unwrap_or(default.momentum),
            dampening: self.dampening.unwrap_or_default(),
            nesterov: if self.nesterov == Some(true) { Nesterov::All } else { Nesterov::Never },
            muon_scale,
            weight_decay: self.weight_decay / shrink,
            adafactor: AdafactorConfig {
                decay_exponent: -self.beta2_decay.unwrap_or(-default.adafactor.decay_exponent),
                epsilon1,
                epsilon2,
                clip_threshold: self.d.unwrap_or(default.adafactor.clip_threshold),
            },
            ..default
        };
        Ok((config, learning_rate * shrink))
    }
}

/// Parameters of a case, by their number of axes.
#[derive(Module, Debug)]
struct Given {
    vectors: Vec<Param<Tensor<1>>>,
    matrices: Vec<Param<Tensor<2>>>,
    stacks: Vec<Param<Tensor<3>>>,
}

/// A parameter of a case.
struct Named<'a> {
    /// Name in the fixture.
    name: &'a str,
    /// Name in [`Given`].
    path: String,
    start: &'a HostTensor,
    gradients: &'a HostTensor,
    /// Its values after each step.
    after: &'a HostTensor,
}

/// Compares every optimizer of `optim`.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for name in Fixture::names(folder, "optim")? {
        let fixture = Fixture::open(folder, "optim", &name)?;
        let schedule: Vec<f64> = fixture.get("schedule")?;
        for (case, settings) in fixture.get::<BTreeMap<String, Settings>>("cases")? {
            cases.push(compare(&fixture, &case, &settings, &schedule, device)?);
        }
        let mut codes = Case::new("codes of 8 bits");
        for (tensor, own) in [("dynamic_map.signed", &SIGNED), ("dynamic_map.unsigned", &UNSIGNED)] {
            if let Some(reference) = fixture.find_floats(tensor) {
                codes.check(format!("`{tensor}` is equal"), own.numbers[..] == reference.values[..]);
            }
        }
        cases.extend((!codes.differences.is_empty()).then_some(codes));
    }
    Ok(cases)
}

fn compare(
    fixture: &Fixture,
    name: &str,
    settings: &Settings,
    schedule: &[f64],
    device: &Device,
) -> Result<Case> {
    let bound = match (settings.kind.as_str(), short_name(device)) {
        ("muon", _) => OF_BFLOAT16,
        (_, "cpu") => 1e-5,
        _ => 1e-3,
    };
    let named = parameters_of(fixture, name, schedule.len())?;
    let mut case = Case::new(name);
    for (mode, how) in [(Mode::Fused, ""), (Mode::Reference, " without kernels")] {
        let mut model = start(&named, device);
        let mut state = OptimizerState::new();
        let mut worst = vec![0f64; named.len()];
        for (step, factor) in schedule.iter().enumerate() {
            let described = settings.config(settings.lr * factor);
            let (config, learning_rate) = described.map_err(|message| fixture.error(message))?;
            // Anew, since the decay may differ from step to step.
            let mut optimizer = Optimizer::uniform(&config, mode);
            optimizer.state = state;
            let scale = Tensor::ones([1], device);
            let update = Update { learning_rate, scale, skip_non_finite: false };
            let gradients = gradients(&named, &model, step, device);
            model = optimizer.step(model, gradients, update);
            state = std::mem::take(&mut optimizer.state);
            let found = pollster::block_on(parameters::read(parameters::parameters(&model)))?;
            for (worst, named) in worst.iter_mut().zip(&named) {
                let expected = part(named.after, step);
                let own = found.get(&named.path).map_or(&[][..], |host| host.values.as_slice());
                let difference = largest_relative(own, expected);
                // `max` would drop NaN.
                if !worst.is_nan() && (difference.is_nan() || difference > *worst) {
                    *worst = difference;
                }
            }
        }
        for (named, worst) in named.iter().zip(worst) {
            case.add(format!("parameter `{}`{how}", named.name), worst, bound);
        }
    }
    Ok(case)
}

/// Largest difference of numbers, relative to those over 1; NaN if one is or the lengths differ.
fn largest_relative(own: &[f32], expected: &[f32]) -> f64 {
    if own.len() != expected.len() {
        return f64::NAN;
    }
    let differences =
        own.iter().zip(expected).map(|(own, expected)| relative((*own).into(), (*expected).into()));
    differences.fold(0.0, |worst: f64, d| if worst.is_nan() || d <= worst { worst } else { d })
}

/// Part of a tensor that has one part for each step.
fn part(all: &HostTensor, step: usize) -> &[f32] {
    let count = all.shape[1..].iter().product::<usize>();
    &all.values[step * count..(step + 1) * count]
}

/// The parameters that a case has results of.
fn parameters_of<'a>(fixture: &'a Fixture, case: &str, steps: usize) -> Result<Vec<Named<'a>>> {
    let mut all = Vec::new();
    let mut counts = [0; 3];
    for tensor in fixture.tensors() {
        let Some(name) = tensor.strip_suffix('0').filter(|name| !name.contains('.')) else { continue };
        let Some(after) = fixture.find_floats(&format!("{case}.{name}")) else { continue };
        let (start, gradients) = (fixture.floats(tensor)?, fixture.floats(&format!("grad.{name}"))?);
        for (what, per_step) in [(format!("grad.{name}"), gradients), (format!("{case}.{name}"), after)] {
            if per_step.shape.first() != Some(&steps) || per_step.shape[1..] != start.shape {
                let shape = &per_step.shape;
                return Err(fixture.error(format!("`{what}` has shape {shape:?}, not one of {steps} steps")));
            }
        }
        let rank = start.shape.len();
        let Some(count) = rank.checked_sub(1).and_then(|axis| counts.get_mut(axis)) else {
            return Err(fixture.error(format!("`{tensor}` has {rank} axes, not one to three")));
        };
        let path = format!("{}.{count}", ["vectors", "matrices", "stacks"][rank - 1]);
        *count += 1;
        all.push(Named { name, path, start, gradients, after });
    }
    match all.is_empty() {
        true => Err(fixture.error(format!("there is no parameter of case `{case}`"))),
        false => Ok(all),
    }
}

/// The module of all parameters before the first step.
fn start(named: &[Named<'_>], device: &Device) -> Given {
    let device = device.clone().autodiff();
    Given {
        vectors: of_rank(named, &device),
        matrices: of_rank(named, &device),
        stacks: of_rank(named, &device),
    }
}

fn of_rank<const D: usize>(named: &[Named<'_>], device: &Device) -> Vec<Param<Tensor<D>>> {
    let of_rank = named.iter().filter(|named| named.start.shape.len() == D);
    let data = of_rank.map(|named| TensorData::new(named.start.values.clone(), named.start.shape.clone()));
    data.map(|data| Param::from_data(data, device)).collect()
}

/// Gradients of one step.
fn gradients(named: &[Named<'_>], model: &Given, step: usize, device: &Device) -> GradientsParams {
    let mut gradients = GradientsParams::new();
    register(&mut gradients, named, &model.vectors, step, device);
    register(&mut gradients, named, &model.matrices, step, device);
    register(&mut gradients, named, &model.stacks, step, device);
    gradients
}

fn register<const D: usize>(
    gradients: &mut GradientsParams,
    named: &[Named<'_>],
    parameters: &[Param<Tensor<D>>],
    step: usize,
    device: &Device,
) {
    let of_rank = named.iter().filter(|named| named.start.shape.len() == D);
    for (named, parameter) in of_rank.zip(parameters) {
        let data = TensorData::new(part(named.gradients, step).to_vec(), named.start.shape.clone());
        gradients.register(parameter.id, Tensor::<D>::from_data(data, device));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_optimizer_is_that_of_the_fixtures() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/post");
        let cases = verify(&folder, &crate::device::Choice::cpu().open().unwrap()).unwrap();
        // 16 optimizers, and the codes.
        assert_eq!(cases.len(), 17);
        for case in cases {
            let failures: Vec<_> = case.failures().collect();
            assert!(failures.is_empty(), "{}: {failures:?}", case.name);
        }
    }
}
