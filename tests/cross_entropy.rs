//! Cross entropy with label smoothing and z-loss, and its gradients, against PyTorch's formula
//! (`tests/fixtures/cross_entropy/make_cross_entropy.py`).

use crate::devices::others;
use burn::tensor::{Device, Tensor, TensorData};
use kiln::{
    device::{self, Choice},
    kernels::{
        Mode, Precision,
        cross_entropy::{CrossEntropySpec, Targets, cross_entropy},
    },
};
use serde::Deserialize;

const ROWS: usize = 6;
const WIDTH: usize = 5;
const VOCABULARY: usize = 11;

#[derive(Deserialize)]
struct Fixture {
    states: Vec<f32>,
    weight: Vec<f32>,
    tokens: Vec<i32>,
    kept: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    label_smoothing: f32,
    #[serde(default)]
    z_loss: f32,
    #[serde(default)]
    softcap: f32,
    #[serde(default = "one")]
    scale: f32,
    loss: f32,
    states_gradient: Vec<f32>,
    weight_gradient: Vec<f32>,
}

fn one() -> f32 {
    1.0
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Transposes `[rows, columns]` to `[columns, rows]`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect()
}

/// Compares loss and gradients with the fixture; `bound` is the largest allowed difference, as a share of the
/// largest number.
fn compare(name: &str, device: &Device, bound: f32) {
    let fixture: Fixture =
        serde_json::from_str(include_str!("fixtures/cross_entropy/cross_entropy.json")).unwrap();
    let (plain, device) = (device.clone(), device.clone().autodiff());
    for (case, mode, is_transposed) in fixture.cases.iter().flat_map(|case| {
        [(case, Mode::Fused, false), (case, Mode::Fused, true), (case, Mode::Reference, false)]
    }) {
        let spec = CrossEntropySpec {
            transposed: is_transposed,
            scale: case.scale,
            softcap: case.softcap,
            label_smoothing: case.label_smoothing,
            z_loss: case.z_loss,
            precision: Precision::F32,
        };
        let states = TensorData::new(fixture.states.clone(), [ROWS, WIDTH]);
        let states = Tensor::<2>::from_data(states, &device).require_grad();
        let weight = match is_transposed {
            true => TensorData::new(transposed(&fixture.weight, VOCABULARY), [VOCABULARY, WIDTH]),
            false => TensorData::new(fixture.weight.clone(), [WIDTH, VOCABULARY]),
        };
        let weight = Tensor::<2>::from_data(weight, &device).require_grad();
        let targets = Targets {
            tokens: Tensor::from_data(TensorData::new(fixture.tokens.clone(), [ROWS, 1]), &plain),
            weights: Tensor::from_data(TensorData::new(fixture.kept.clone(), [ROWS, 1]), &device),
        };
        let loss = cross_entropy(states.clone(), weight.clone(), &targets, spec, mode);
        let gradients = loss.backward();
        let weight_gradient = values(weight.grad(&gradients).unwrap());
        let weight_gradient = match is_transposed {
            true => transposed(&weight_gradient, WIDTH),
            false => weight_gradient,
        };
        for (part, found, expected) in [
            ("loss", values(loss.inner()), &vec![case.loss]),
            ("gradient of states", values(states.grad(&gradients).unwrap()), &case.states_gradient),
            ("gradient of weights", weight_gradient, &case.weight_gradient),
        ] {
            assert_eq!(found.len(), expected.len());
            let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
            for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
                let close = (found - expected).abs() <= bound * largest;
                let what = format!("{part} of `{}` on {name}, {mode:?}", case.name);
                assert!(close, "{what}, place {place}: {found} instead of {expected}");
            }
        }
    }
}

#[test]
fn label_smoothing_and_z_loss_are_pytorchs() {
    compare("cpu", &Choice::cpu().open().unwrap(), 1e-5);
}

#[test]
#[ignore = "needs a GPU adapter"]
fn label_smoothing_and_z_loss_are_pytorchs_on_other_devices() {
    for name in others() {
        compare(&name, &name.parse::<Choice>().unwrap().open().unwrap(), 1e-4);
    }
    device::settle();
}
