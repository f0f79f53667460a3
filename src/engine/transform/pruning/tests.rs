//! Models without heads, neurons and layers compute what the whole ones do.

use super::{
    Calibration, CalibrationRun, Units, drop_layers, layers::fits, matrices, remove_layers, remove_units,
    sizes, transposed,
};
use crate::{
    config::{Activation, Architecture, AttentionConfig, ModelConfig, MoeConfig, Position},
    data::{TokenSplit, Tokens},
    kernels::Mode,
    model::{
        Model,
        parameters::{self, NamedData},
    },
};
use burn::tensor::{Device, Int, Tensor};

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 11,
        block_size: 8,
        n_layer: 3,
        n_head: 4,
        n_kv_head: Some(2),
        n_embd: 16,
        n_inner: Some(12),
        activation: Activation::Swiglu,
        position: Position::Rotary,
        bias: true,
        init_std: 0.3,
        ..Default::default()
    }
}

fn device() -> Device {
    crate::device::Choice::cpu().open().unwrap()
}

fn logits(model: &Model) -> Vec<f32> {
    let tokens = Tensor::<2, Int>::from_ints([[1, 2, 3, 4, 5]], &device());
    model.forward(tokens.into()).0.into_data().try_into_vec_as::<f32>().unwrap()
}

fn read(model: &Model) -> NamedData {
    pollster::block_on(parameters::read(parameters::parameters(model))).unwrap()
}

fn load(config: &ModelConfig, weights: NamedData) -> Model {
    parameters::load(Model::uninitialized(config, Mode::Fused, &device()), weights).unwrap()
}

/// Sets the elements of a tensor that `is_chosen` names by row and column to zero.
fn zero(weights: &mut NamedData, name: &str, is_chosen: impl Fn(usize, usize) -> bool) {
    let tensor = weights.get_mut(name).unwrap();
    let [_, width] = sizes(tensor);
    for (at, value) in tensor.values.iter_mut().enumerate() {
        *value = if is_chosen(at / width, at % width) { 0.0 } else { *value };
    }
}

#[test]
fn a_model_without_units_that_did_nothing_computes_the_same() {
    let config = config();
    let model = Model::init(&config, Mode::Fused, 7, &device());
    let mut weights = read(&model);
    for layer in 0..3 {
        // The second group of heads, which are 4 wide, and neurons 2 and 5 reach no output.
        zero(&mut weights, &format!("blocks.{layer}.attention.output.weight"), |row, _| row >= 8);
        zero(&mut weights, &format!("blocks.{layer}.mlp.down.weight"), |row, _| row == 2 || row == 5);
    }
    let expected = logits(&load(&config, weights.clone()));
    let units = Units { heads: 2, neurons: 2 };
    let tokens = (0..60).map(|i| (i * i + 3) % 11).collect();
    let text = TokenSplit::from_tokens("train", Tokens::U32(tokens), vec![]);
    let text = Calibration::of(&text, 8, 3).unwrap();
    for calibration in [None, Some(&text)] {
        let mut weights = weights.clone();
        let dense = load(&config, weights.clone());
        let device = device();
        let run =
            calibration.map(|calibration| CalibrationRun { model: &dense, calibration, device: &device });
        let removed = remove_units(&mut weights, &config, units, run);
        let smaller = pollster::block_on(removed).unwrap();
        assert_eq!((smaller.n_head, smaller.kv_heads(), smaller.head_size()), (2, 1, 4));
        assert_eq!(smaller.inner_size(), 10);
        let found = logits(&load(&smaller, weights));
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }
}

#[test]
fn a_layer_that_does_nothing_goes_first() {
    let config = config();
    let mut weights = read(&Model::init(&config, Mode::Fused, 7, &device()));
    for part in ["attention.output", "mlp.down"] {
        zero(&mut weights, &format!("blocks.1.{part}.weight"), |_, _| true);
        zero(&mut weights, &format!("blocks.1.{part}.bias"), |_, _| true);
    }
    let model = load(&config, weights.clone());
    let expected = logits(&model);
    let distance = |model: &Model| {
        let pairs = logits(model).into_iter().zip(&expected);
        Ok(pairs.map(|(a, b)| f64::from(a - b).abs()).sum::<f64>())
    };
    let kept = drop_layers(&model, &config, 1, distance).unwrap();
    assert_eq!(kept, [0, 2]);
    let smaller = remove_layers(&mut weights, &config, &kept);
    assert_eq!(smaller.n_layer, 2);
    let found = logits(&load(&smaller, weights));
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
}

#[test]
fn impossible_removals_are_refused() {
    let config = config();
    let moe = MoeConfig { n_experts: 4, ..Default::default() };
    for (units, config, part) in [
        (Units { heads: 4, neurons: 0 }, config.clone(), "each layer has 4"),
        (Units { heads: 1, neurons: 0 }, config.clone(), "2 heads share"),
        (
            Units { heads: 2, neurons: 0 },
            ModelConfig { position: Position::Alibi, ..config.clone() },
            "distances",
        ),
        (Units { heads: 0, neurons: 12 }, config.clone(), "each layer has 12"),
        (Units { heads: 0, neurons: 2 }, ModelConfig { moe, ..config.clone() }, "experts"),
        (
            Units { heads: 2, neurons: 0 },
            ModelConfig { architecture: Architecture::Encoder, ..config.clone() },
            "decoders only",
        ),
    ] {
        let error = units.check(&config).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let model = Model::init(&config, Mode::Fused, 7, &device());
    let error = drop_layers(&model, &config, 3, |_| Ok(0.0)).unwrap_err();
    assert!(error.to_string().contains("`3` for `layers`: the model has 3"), "{error}");
    // Every second layer has a window.
    let windows = AttentionConfig {
        sliding_window: Some(4),
        full_attention_every: Some(2),
        full_attention_offset: 1,
        ..Default::default()
    };
    let windows = ModelConfig { attention: windows, ..config };
    let kept = drop_layers(&model, &windows, 1, |_| Ok(0.0)).unwrap();
    assert_eq!(kept, [0, 1]);
    assert!(fits(&windows, &[2, 1]) && !fits(&windows, &[0, 2]));
}

#[test]
fn matrices_of_blocks_are_pruned_and_routers_are_not() {
    let config = ModelConfig { n_layer: 2, vocab_size: 11, ..Default::default() };
    let names = matrices(&config);
    assert_eq!(names.len(), 8);
    assert!(names.contains("blocks.1.attention.qkv.weight") && !names.contains("embedding"), "{names:?}");
    let moe = MoeConfig { n_experts: 4, shared_expert_inner: Some(8), ..Default::default() };
    let config = ModelConfig { n_layer: 1, activation: Activation::Swiglu, moe, ..config };
    let names = matrices(&config);
    assert!(
        names.contains("blocks.0.mlp.up") && names.contains("blocks.0.mlp.shared.up.weight"),
        "{names:?}"
    );
    assert!(!names.iter().any(|name| name.contains("router") || name.contains("gate")), "{names:?}");
}

#[test]
fn a_matrix_is_transposed() {
    assert_eq!(transposed(&[1, 2, 3, 4, 5, 6], 3), [1, 4, 2, 5, 3, 6]);
    assert_eq!(transposed(&[] as &[f32], 3), [0.0; 0]);
}
