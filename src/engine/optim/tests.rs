//! Compares optimizers, clipping and averaging with numbers made with PyTorch
//! (`tests/fixtures/optim/make_optim.py`).

use super::{Optimizer, Update, clip, ema::Ema, state_tensors};
use crate::{
    config::{OptimizerKind, TrainConfig},
    device::Choice,
    kernels::Mode,
    model::parameters::{FlatTensor, ParameterRole, parameters},
};
use burn::{
    module::{Module, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use safetensors::SafeTensors;
use std::collections::BTreeMap;

const STEPS: usize = 10;

/// Factors of the learning rate, the same as in the script.
const SCHEDULE: [f64; STEPS] = [1.0, 1.0, 0.5, 0.5, 2.0, 1.0, 0.1, 1.0, 1.0, 1.0];

/// Global gradient norm to which the script clips.
const LIMIT: f64 = 60.0;

const KINDS: [OptimizerKind; 7] = [
    OptimizerKind::Adamw,
    OptimizerKind::Adamw8Bit,
    OptimizerKind::Adam,
    OptimizerKind::Adafactor,
    OptimizerKind::Sgd,
    OptimizerKind::Lion,
    OptimizerKind::Muon,
];

/// A parameter of each kind that optimizers distinguish: matrices inside blocks, and outside of them a
/// matrix, a tensor with three axes and a vector, which is not decayed.
#[derive(Module, Debug)]
struct Small {
    blocks: Vec<Block>,
    cube: Param<Tensor<3>>,
    matrix: Param<Tensor<2>>,
    vector: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
struct Block {
    wide: Param<Tensor<2>>,
    tall: Param<Tensor<2>>,
}

/// Names of the parameters, each with the script's names of its start and gradients, and of its results. The
/// matrix outside of blocks is the script's vector in another shape, so that it decays.
const NAMES: [(&str, &str, &str); 5] = [
    ("blocks.0.wide", "w", "w"),
    ("blocks.0.tall", "u", "u"),
    ("cube", "v", "v"),
    ("matrix", "b", "b"),
    ("vector", "b", "vector"),
];

/// An optimizer that knows which of the two matrices is an embedding.
fn optimizer(config: &TrainConfig, mode: Mode) -> Optimizer {
    Optimizer::new(config, mode).with_roles([("matrix".to_owned(), ParameterRole::Embedding)].into())
}

/// Tensors that the script wrote.
struct Numbers(SafeTensors<'static>);

impl Numbers {
    fn load() -> Self {
        let bytes = include_bytes!("../../../tests/fixtures/optim/optim.safetensors");
        Self(SafeTensors::deserialize(bytes).unwrap())
    }

    fn all(&self, name: &str) -> Vec<f32> {
        let bytes = self.0.tensor(name).unwrap().data();
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    }

    /// Part `step` of a tensor that consists of ten equal parts.
    fn at(&self, name: &str, step: usize) -> Vec<f32> {
        let all = self.all(name);
        let count = all.len() / STEPS;
        all[step * count..(step + 1) * count].to_vec()
    }

    fn model(&self, device: &Device) -> Small {
        let device = &device.clone().autodiff();
        let [w, u, v, b] = ["w0", "u0", "v0", "b0"].map(|name| self.all(name));
        let block = Block {
            wide: Param::from_data(TensorData::new(w, [12, 24]), device),
            tall: Param::from_data(TensorData::new(u, [14, 5]), device),
        };
        Small {
            blocks: vec![block],
            cube: Param::from_data(TensorData::new(v, [4, 6, 3]), device),
            matrix: Param::from_data(TensorData::new(b.clone(), [1, 7]), device),
            vector: Param::from_data(TensorData::new(b, [7]), device),
        }
    }

    /// Gradients of a step, times `factor`; without that of the matrix unless `has_matrix`.
    fn gradients(&self, model: &Small, step: usize, factor: f32, has_matrix: bool) -> GradientsParams {
        let device = &cpu();
        let of = |name: &str| -> Vec<f32> {
            self.at(&format!("grad.{name}"), step).into_iter().map(|value| value * factor).collect()
        };
        let Small { blocks, cube, matrix, vector } = model;
        let mut gradients = GradientsParams::new();
        let wide = TensorData::new(of("w"), [12, 24]);
        gradients.register(blocks[0].wide.id, Tensor::<2>::from_data(wide, device));
        let tall = TensorData::new(of("u"), [14, 5]);
        gradients.register(blocks[0].tall.id, Tensor::<2>::from_data(tall, device));
        gradients.register(cube.id, Tensor::<3>::from_data(TensorData::new(of("v"), [4, 6, 3]), device));
        if has_matrix {
            let matrix_gradient = TensorData::new(of("b"), [1, 7]);
            gradients.register(matrix.id, Tensor::<2>::from_data(matrix_gradient, device));
        }
        gradients.register(vector.id, Tensor::<1>::from_data(TensorData::new(of("b"), [7]), device));
        gradients
    }
}

fn cpu() -> Device {
    Choice::cpu().open().unwrap()
}

fn values(tensor: &FlatTensor) -> Vec<f32> {
    tensor.values.clone().into_data().try_to_vec().unwrap()
}

/// Bit patterns of all elements, by name.
fn bits(tensors: &BTreeMap<String, FlatTensor>) -> BTreeMap<String, Vec<u32>> {
    let bits = |tensor: &FlatTensor| values(tensor).into_iter().map(f32::to_bits).collect();
    tensors.iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}

fn update(learning_rate: f64, scale: f32, skip_non_finite: bool) -> Update {
    Update { learning_rate, scale: Tensor::from_floats([scale], &cpu()), skip_non_finite }
}

/// Largest difference from the script's numbers for `case` after `step`. For numbers over 1 it is relative.
fn difference(
    model: &Small,
    numbers: &Numbers,
    case: &str,
    step: usize,
    names: &[(&str, &str, &str)],
) -> f32 {
    let found = parameters(model);
    let of_name = |(name, _, result): &(&str, &str, &str)| {
        let (found, expected) = (values(&found[*name]), numbers.at(&format!("{case}.{result}"), step));
        assert_eq!(found.len(), expected.len(), "{case}: {name}");
        let apart = |(found, expected): (&f32, &f32)| (found - expected).abs() / expected.abs().max(1.0);
        let worst = found.iter().zip(&expected).map(apart);
        worst.fold(0.0, |most: f32, one| if one.is_finite() { most.max(one) } else { f32::INFINITY })
    };
    names.iter().map(of_name).fold(0.0, f32::max)
}

/// Settings of each case in the script.
fn cases() -> Vec<(&'static str, TrainConfig)> {
    let adam = |optimizer, beta1, beta2, epsilon, weight_decay| TrainConfig {
        optimizer,
        learning_rate: 0.05,
        beta1,
        beta2,
        epsilon,
        weight_decay,
        ..Default::default()
    };
    let sgd = |momentum| TrainConfig {
        optimizer: OptimizerKind::Sgd,
        learning_rate: 0.1,
        momentum,
        weight_decay: 0.01,
        ..Default::default()
    };
    let lion = TrainConfig {
        optimizer: OptimizerKind::Lion,
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        weight_decay: 0.1,
        ..Default::default()
    };
    let muon = TrainConfig {
        optimizer: OptimizerKind::Muon,
        learning_rate: 0.02,
        momentum: 0.95,
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        ..Default::default()
    };
    vec![
        ("adam", adam(OptimizerKind::Adam, 0.9, 0.999, 1e-8, 0.01)),
        ("adamw", adam(OptimizerKind::Adamw, 0.9, 0.95, 1e-8, 0.1)),
        ("adamw-eps", adam(OptimizerKind::Adamw, 0.8, 0.9, 1e-2, 0.0)),
        ("sgd", sgd(0.0)),
        ("momentum", sgd(0.9)),
        ("lion", lion),
        ("muon", muon),
        ("sgd-clipped", sgd(0.9)),
        ("adamw-clipped", adam(OptimizerKind::Adamw, 0.9, 0.95, 1e-2, 0.1)),
    ]
}

/// Verifies that the optimizers follow PyTorch's formulas: Adam and SGD add the decay to the gradient, AdamW,
/// Lion and Muon take it off the weights first; SGD's momentum is neither dampened nor Nesterov's. Muon is
/// `torch.optim.Muon` with Nesterov's momentum and `adjust_lr_fn="match_rms_adamw"`, with two differences:
/// momentum is `m = b m + g` instead of `b m + (1 - b) g`, which only scales what is then made orthogonal,
/// and that is done in float32 instead of bfloat16. Unlike the fixtures' `muon-rms-f32` it has Nesterov's
/// momentum, so the script makes that variant.
#[test]
fn ten_steps_of_every_optimizer_equal_pytorchs() {
    let numbers = Numbers::load();
    for (case, config) in cases() {
        for mode in [Mode::Fused, Mode::Reference] {
            let clips = case.ends_with("-clipped");
            let mut model = numbers.model(&cpu());
            let mut optimizer = optimizer(&config, mode);
            let mut worst = 0f32;
            for (step, share) in SCHEDULE.iter().enumerate() {
                // The script's norm has the vector's gradient once.
                let gradients = numbers.gradients(&model, step, 1.0, !clips);
                let mut update = update(share * config.learning_rate, 1.0, step % 2 == 0);
                if clips {
                    let norm = clip::global_norm(&model, &gradients, &cpu(), mode);
                    update.scale = clip::clip_factor(norm, LIMIT);
                }
                model = optimizer.step(model, gradients, update);
                let names: Vec<_> =
                    NAMES.into_iter().filter(|(name, ..)| !(clips && *name == "matrix")).collect();
                worst = worst.max(difference(&model, &numbers, case, step, &names));
                if case == "muon" {
                    let in_blocks = difference(&model, &numbers, "muon-bf16", step, &NAMES[..2]);
                    assert!(in_blocks < 2e-2, "PyTorch's own Muon, step {step}: {in_blocks}");
                }
            }
            eprintln!("{case} {mode:?}: differs by at most {worst:.1e}");
            assert!(worst < 1e-5, "{case} {mode:?}: {worst}");
        }
    }
}

#[test]
fn the_global_norm_is_pytorchs() {
    let numbers = Numbers::load();
    let model = numbers.model(&cpu());
    let expected = numbers.all("clip.norms");
    let is_clipped = expected.iter().filter(|&&norm| f64::from(norm) > LIMIT).count();
    assert_eq!(is_clipped, 7, "the test needs norms above the limit and below it");
    for (step, expected) in expected.into_iter().enumerate() {
        let gradients = numbers.gradients(&model, step, 1.0, false);
        for mode in [Mode::Fused, Mode::Reference] {
            let norm = clip::global_norm(&model, &gradients, &cpu(), mode);
            let factor: f32 = clip::clip_factor(norm.clone(), LIMIT).into_scalar();
            let norm: f32 = norm.into_scalar();
            assert!((norm / expected - 1.0).abs() < 1e-6, "step {step}: {norm} instead of {expected}");
            let factor_expected = (LIMIT as f32 / (expected + 1e-6)).min(1.0);
            assert!((factor - factor_expected).abs() < 1e-6, "step {step}: {factor}");
        }
    }
}

#[test]
fn a_skipped_step_leaves_weights_and_moments_as_they_were() {
    let numbers = Numbers::load();
    for (kind, mode) in KINDS.into_iter().flat_map(|kind| [(kind, Mode::Fused), (kind, Mode::Reference)]) {
        let config = TrainConfig { optimizer: kind, ..Default::default() };
        let mut model = numbers.model(&cpu());
        let mut optimizer = optimizer(&config, mode);
        for step in 0..4 {
            let of = |optimizer: &Optimizer| bits(&state_tensors(&optimizer.state));
            let (weights, moments) = (bits(&parameters(&model)), of(&optimizer));
            for (gradient, scale) in [(1.0, f32::NAN), (f32::INFINITY, f32::INFINITY), (f32::NAN, f32::NAN)] {
                let gradients = numbers.gradients(&model, step, gradient, true);
                model = optimizer.step(model, gradients, update(0.05, scale, true));
                assert_eq!(bits(&parameters(&model)), weights, "{kind:?} {mode:?}, step {step}");
                match step {
                    // Moments begin with the first step, and are still 0.
                    0 => {
                        assert!(of(&optimizer).values().flatten().all(|&bits| bits == 0), "{kind:?} {mode:?}")
                    }
                    _ => assert_eq!(of(&optimizer), moments, "{kind:?} {mode:?}, step {step}"),
                }
            }
            let gradients = numbers.gradients(&model, step, 1.0, true);
            model = optimizer.step(model, gradients, update(0.05, 1.0, true));
            let (new, new_moments) = (bits(&parameters(&model)), of(&optimizer));
            for (name, ..) in NAMES {
                assert!(new[name] != weights[name], "{kind:?}: `{name}` is not trained");
            }
            for name in NAMES.map(|(name, ..)| format!("{name}.moment")) {
                let mut own = new_moments.iter().filter(|(tensor, _)| tensor.starts_with(&name));
                assert!(
                    own.any(|(tensor, new)| moments.get(tensor) != Some(new)),
                    "{kind:?}: `{name}` does not move"
                );
            }
        }
        // Where steps are not skipped, what is not finite gets through.
        let gradients = numbers.gradients(&model, 5, 1.0, true);
        optimizer.step(model, gradients, update(0.05, f32::NAN, false));
        let spoiled = state_tensors(&optimizer.state);
        assert!(spoiled.values().flat_map(values).all(f32::is_nan), "{kind:?} {mode:?}");
    }
}

#[test]
fn the_average_is_that_of_its_formula() {
    let numbers = Numbers::load();
    for decay in [0.9, 0.999] {
        let mut model = numbers.model(&cpu());
        let config = TrainConfig { learning_rate: 0.05, ..Default::default() };
        let mut optimizer = optimizer(&config, Mode::Fused);
        let mut ema = Ema::new(decay, &model);
        let begun = parameters(&model);
        let mut expected: BTreeMap<String, Vec<f32>> =
            begun.iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect();
        assert_eq!(bits(&ema.weights), bits(&begun));
        for step in 0..STEPS {
            let gradients = numbers.gradients(&model, step, 1.0, true);
            model = optimizer.step(model, gradients, update(0.05, 1.0, false));
            let keep_if = (step % 2 == 1).then(|| Tensor::<1>::from_floats([1.0], &cpu()).is_finite());
            ema.update(&model, keep_if.as_ref());
            for (name, new) in parameters(&model) {
                let (old, keep, take) =
                    (expected.get_mut(&name).unwrap(), decay as f32, (1.0 - decay) as f32);
                for (old, new) in old.iter_mut().zip(values(&new)) {
                    *old = keep * *old + take * new;
                }
                assert_eq!(values(&ema.weights[&name]), expected[&name], "`{name}`, step {step}");
            }
        }
        // A skipped step does not move it, whatever the weights are.
        let before = bits(&ema.weights);
        let gradients = numbers.gradients(&model, 0, f32::NAN, true);
        model = optimizer.step(model, gradients, update(0.05, f32::NAN, false));
        let skipped = Tensor::<1>::from_floats([f32::NAN], &cpu()).is_finite();
        ema.update(&model, Some(&skipped));
        assert_eq!(bits(&ema.weights), before);
    }
}
