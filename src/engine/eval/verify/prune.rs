//! Compares pruning with PyTorch's: masks by magnitude, of a matrix and of two together, 2:4, Wanda and SparseGPT, and
//! the weights that SparseGPT leaves.

use super::{
    Case,
    fixture::{Fixture, largest_difference},
};
use crate::{error::Result, model::parameters::HostTensor};
use burn::tensor::Device;
use kiln_prune::{Pattern, SparseGpt, magnitude, sparsegpt, wanda};
use std::path::Path;

/// Largest difference of a score or weight, relative to the largest of them.
const BOUND: f64 = 1e-5;

pub(super) fn verify(folder: &Path, _: &Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for name in Fixture::names(folder, "prune")? {
        cases.extend(Pruning::open(Fixture::open(folder, "prune", &name)?)?.cases()?);
    }
    Ok(cases)
}

/// One file: two matrices, `[out, in]`, and inputs of the first, `[tokens, in]`.
struct Pruning {
    fixture: Fixture,
    weight: HostTensor,
    other: HostTensor,
    inputs: HostTensor,
    /// Number of inputs of `weight`.
    width: usize,
    share: f64,
}

impl Pruning {
    fn open(fixture: Fixture) -> Result<Self> {
        let matrix = |name: &str| -> Result<(HostTensor, usize)> {
            let tensor = fixture.floats(name)?.clone();
            let width = match tensor.shape[..] {
                [rows, width] if rows > 0 && width > 0 => width,
                _ => return Err(fixture.error(format!("`{name}` is no matrix"))),
            };
            Ok((tensor, width))
        };
        let ((weight, width), (other, _), (inputs, input_width)) =
            (matrix("weight")?, matrix("other")?, matrix("x")?);
        if width != input_width {
            return Err(fixture.error("`weight` and `x` differ in width"));
        }
        let share = fixture.get("share")?;
        Ok(Self { weight, other, inputs, width, share, fixture })
    }

    fn cases(&self) -> Result<Vec<Case>> {
        let share = Pattern::Share(self.share);
        let (weight, other) = (&self.weight.values[..], &self.other.values[..]);
        let mut cases = Vec::new();

        let mask = magnitude::mask(weight, self.width, share);
        cases.push(self.masks("magnitude", [("magnitude.mask", self.pruned(mask)?)])?);
        let mut both = self.pruned(magnitude::global(&[weight, other], self.share))?.into_iter();
        let [first, second] = [both.next().unwrap_or_default(), both.next().unwrap_or_default()];
        cases.push(self.masks("global", [("global.weight.mask", first), ("global.other.mask", second)])?);
        let first = self.pruned(magnitude::mask(weight, self.width, Pattern::TwoOfFour))?;
        let second = self.pruned(magnitude::mask(other, self.other.shape[1], Pattern::TwoOfFour))?;
        cases.push(self.masks("2of4", [("2of4.weight.mask", first), ("2of4.other.mask", second)])?);

        let norms = self.norms();
        let scores = self.pruned(wanda::scores(weight, &norms))?;
        let mask = self.pruned(wanda::mask(weight, &norms, share))?;
        let mut case = self.masks("wanda", [("wanda.mask", mask)])?;
        case.add("scores", self.difference(&scores, "wanda.score")?, BOUND);
        cases.push(case);
        let mask = self.pruned(wanda::mask(weight, &norms, Pattern::TwoOfFour))?;
        cases.push(self.masks("wanda-2of4", [("wanda-2of4.mask", mask)])?);

        cases.push(self.sparsegpt("sparsegpt", share)?);
        cases.push(self.sparsegpt("sparsegpt-2of4", Pattern::TwoOfFour)?);
        Ok(cases)
    }

    /// Compares masks with the tensors of their names, of which 1 is a weight that is kept.
    fn masks<const N: usize>(&self, case: &str, masks: [(&str, Vec<bool>); N]) -> Result<Case> {
        let mut case = Case::new(case);
        for (name, mask) in masks {
            let expected = self.fixture.floats(name)?.values.iter().map(|value| *value != 0.0);
            case.check(format!("`{name}` is equal"), expected.eq(mask.iter().copied()));
            if let Some(kept) = self.fixture.find::<usize>(&format!("kept/{name}"))? {
                case.check(
                    format!("`{name}` keeps as many"),
                    mask.iter().filter(|kept| **kept).count() == kept,
                );
            }
        }
        Ok(case)
    }

    fn sparsegpt(&self, name: &str, pattern: Pattern) -> Result<Case> {
        let settings = SparseGpt {
            pattern,
            block: self.fixture.get("sparsegpt_block")?,
            damping: self.fixture.get("damp")?,
        };
        let products = sparsegpt::products(&self.inputs.values, self.width);
        let pruned = settings.prune(&self.weight.values, &products, self.inputs.shape[0]);
        let pruned = self.pruned(pruned)?;
        let mut case = self.masks(name, [(format!("{name}.mask").as_str(), pruned.mask)])?;
        case.add("weights", self.difference(&pruned.weights, &format!("{name}.weight"))?, BOUND);
        Ok(case)
    }

    /// 2-norm of each input.
    fn norms(&self) -> Vec<f32> {
        let square = |value: &f32| f64::from(*value).powi(2);
        let of =
            |input: usize| self.inputs.values.iter().skip(input).step_by(self.width).map(square).sum::<f64>();
        (0..self.width).map(|input| of(input).sqrt() as f32).collect()
    }

    /// Largest difference from a tensor, relative to the largest number in it.
    fn difference(&self, own: &[f32], name: &str) -> Result<f64> {
        let expected = &self.fixture.floats(name)?.values;
        let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        Ok(largest_difference(own, expected) / f64::from(largest))
    }

    fn pruned<T>(&self, result: kiln_prune::Result<T>) -> Result<T> {
        result.map_err(|refusal| self.fixture.error(refusal.to_string()))
    }
}
