//! Compares pruning with the numbers that `make_prune.py` made with PyTorch.

use crate::{Pattern, SparseGpt, magnitude, sparsegpt, wanda};
use safetensors::SafeTensors;
use serde_json::Value;

/// Contents of a file of fixtures.
macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/post/prune/", $name))
    };
}

struct Fixture {
    bytes: &'static [u8],
    json: Value,
}

impl Fixture {
    fn open() -> Self {
        Self { bytes: file!("prune.safetensors"), json: serde_json::from_slice(file!("prune.json")).unwrap() }
    }

    /// Values of a tensor, and the width of its rows.
    fn floats(&self, name: &str) -> (Vec<f32>, usize) {
        let tensors = SafeTensors::deserialize(self.bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        let values =
            tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (values, *tensor.shape().last().unwrap())
    }

    fn mask(&self, name: &str) -> Vec<bool> {
        self.floats(name).0.into_iter().map(|value| value == 1.0).collect()
    }
}

#[test]
fn masks_are_those_of_pytorch() {
    let fixture = Fixture::open();
    let share = fixture.json["share"].as_f64().unwrap();
    let ((weight, width), (other, other_width), (x, _)) =
        (fixture.floats("weight"), fixture.floats("other"), fixture.floats("x"));
    assert_eq!(
        magnitude::mask(&weight, width, Pattern::Share(share)).unwrap(),
        fixture.mask("magnitude.mask")
    );
    let global = magnitude::global(&[&weight, &other], share).unwrap();
    assert_eq!(global, [fixture.mask("global.weight.mask"), fixture.mask("global.other.mask")]);
    let two = |values: &[f32], width| magnitude::mask(values, width, Pattern::TwoOfFour).unwrap();
    assert_eq!(two(&weight, width), fixture.mask("2of4.weight.mask"));
    assert_eq!(two(&other, other_width), fixture.mask("2of4.other.mask"));

    let norm =
        |input: usize| x.iter().skip(input).step_by(width).map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let norms: Vec<f32> = (0..width).map(|input| norm(input) as f32).collect();
    assert_eq!(wanda::mask(&weight, &norms, Pattern::Share(share)).unwrap(), fixture.mask("wanda.mask"));
    assert_eq!(wanda::mask(&weight, &norms, Pattern::TwoOfFour).unwrap(), fixture.mask("wanda-2of4.mask"));
    let scores = wanda::scores(&weight, &norms).unwrap();
    let worst =
        scores.iter().zip(fixture.floats("wanda.score").0).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
    assert!(worst.fold(0.0, f32::max) < 1e-5);
}

#[test]
fn sparsegpt_is_that_of_its_authors() {
    let fixture = Fixture::open();
    let share = fixture.json["share"].as_f64().unwrap();
    let block = usize::try_from(fixture.json["sparsegpt_block"].as_u64().unwrap()).unwrap();
    let ((weight, width), (x, _)) = (fixture.floats("weight"), fixture.floats("x"));
    let products = sparsegpt::products(&x, width);
    for (name, pattern) in [("sparsegpt", Pattern::Share(share)), ("sparsegpt-2of4", Pattern::TwoOfFour)] {
        let settings = SparseGpt { pattern, block, damping: fixture.json["damp"].as_f64().unwrap() };
        let pruned = settings.prune(&weight, &products, x.len() / width).unwrap();
        assert_eq!(pruned.mask, fixture.mask(&format!("{name}.mask")), "{name}");
        let (expected, _) = fixture.floats(&format!("{name}.weight"));
        let worst = pruned.weights.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{name}: {worst}");
    }
}
