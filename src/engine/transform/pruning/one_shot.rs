//! Pruning of a model's weights at once.

use super::{
    calibration::{CalibrationRun, walk},
    matrices, refused, sizes, transposed,
};
use crate::{
    config::{ModelConfig, PruningScope},
    error::{Error, Result, hint},
    model::parameters::{HostTensor, NamedData},
};
use kiln_prune::{Pattern, SparseGpt, magnitude, wanda};
use std::collections::BTreeSet;

/// Ways to choose the weights that become zero.
#[derive(Clone, Copy)]
pub enum Method<'a> {
    /// Those of the smallest magnitude.
    Magnitude(PruningScope),
    /// Those of the smallest magnitude times the norm of their input, of each output alike (arXiv:2306.11695).
    Wanda(CalibrationRun<'a>),
    /// Those whose loss makes the smallest error, which the weights that are left make up for (arXiv:2301.00774).
    SparseGpt(CalibrationRun<'a>),
}

/// Prunes the matrices in a model's blocks. `weights` are all weights of the model of `config`, which a calibrated
/// method also runs: block by block, so that each sees the text behind the pruned blocks before it. `progress` is
/// told of each finished block.
///
/// # Errors
/// [`Error::InvalidValue`] for weights or inputs that are not finite, for a share that leaves nothing, and for a
/// calibrated method and a model that is no decoder of dense layers; [`Error::DeviceFailed`].
pub async fn prune(
    weights: &mut NamedData,
    config: &ModelConfig,
    method: Method<'_>,
    pattern: Pattern,
    progress: &mut dyn FnMut(usize),
) -> Result<()> {
    let (run, compensates) = match method {
        Method::Magnitude(scope) => return by_magnitude(weights, &matrices(config), pattern, scope),
        Method::Wanda(run) => (run, false),
        Method::SparseGpt(run) => (run, true),
    };
    if config.has_experts() {
        return Err(Error::InvalidValue {
            key: "model.moe.n_experts".into(),
            value: config.moe.n_experts.to_string(),
            message: "the text that each expert sees is not measured".into(),
            hint: Some(hint!["prune experts by the magnitude of their weights"]),
        });
    }
    walk(run, |layer, products, tokens| {
        let mut changed = NamedData::new();
        for (part, products) in products {
            let name = format!("blocks.{layer}.{part}.weight");
            let Some(tensor) = weights.get_mut(&name) else { continue };
            let [_, outputs] = sizes(tensor);
            let own = transposed(&tensor.values, outputs); // [out, in]
            let width = products.shape[0];
            let pruned = if compensates {
                let products: Vec<f64> = products.values.iter().map(|&value| value.into()).collect();
                SparseGpt::new(pattern).prune(&own, &products, tokens).map(|pruned| pruned.weights)
            } else {
                let norms: Vec<f32> =
                    products.values.iter().step_by(width + 1).map(|square| square.sqrt()).collect();
                wanda::mask(&own, &norms, pattern).map(|mask| masked(own, &mask))
            };
            let pruned = pruned.map_err(|error| refused(&name, &error))?;
            tensor.values = transposed(&pruned, width);
            changed.insert(format!("{part}.weight"), tensor.clone());
        }
        progress(layer);
        Ok(changed)
    })
    .await
}

/// Prunes the named tensors by magnitude. Those of the experts are pruned one by one.
///
/// # Errors
/// [`Error::InvalidValue`] for weights that are not finite, and for a share that leaves nothing.
pub(super) fn by_magnitude(
    weights: &mut NamedData,
    names: &BTreeSet<String>,
    pattern: Pattern,
    scope: PruningScope,
) -> Result<()> {
    let mut tensors: Vec<_> = weights.iter_mut().filter(|(name, _)| names.contains(*name)).collect();
    if let (PruningScope::Global, Pattern::Share(share)) = (scope, pattern) {
        let slices: Vec<&[f32]> = tensors.iter().map(|(_, tensor)| &tensor.values[..]).collect();
        let masks = magnitude::global(&slices, share).map_err(|error| refused("the matrices", &error))?;
        for ((_, tensor), mask) in tensors.into_iter().zip(masks) {
            tensor.values = masked(std::mem::take(&mut tensor.values), &mask);
        }
        return Ok(());
    }
    for (name, tensor) in &mut tensors {
        prune_alone(tensor, pattern).map_err(|error| refused(name, &error))?;
    }
    Ok(())
}

/// Prunes each matrix of a tensor by magnitude.
fn prune_alone(tensor: &mut HostTensor, pattern: Pattern) -> kiln_prune::Result<()> {
    let [rows, columns] = sizes(tensor);
    for matrix in tensor.values.chunks_exact_mut((rows * columns).max(1)) {
        // Of four neighbours along the input, which are a column here.
        let own = transposed(matrix, columns);
        let mask = magnitude::mask(&own, rows, pattern)?;
        matrix.copy_from_slice(&transposed(&masked(own, &mask), rows));
    }
    Ok(())
}

fn masked(mut weights: Vec<f32>, mask: &[bool]) -> Vec<f32> {
    weights.iter_mut().zip(mask).filter(|(_, kept)| !**kept).for_each(|(weight, _)| *weight = 0.0);
    weights
}

/// Share of the weights that are zero, over the matrices in a model's blocks.
pub fn sparsity(weights: &NamedData, config: &ModelConfig) -> f64 {
    let names = matrices(config);
    let values =
        || weights.iter().filter(|(name, _)| names.contains(*name)).flat_map(|(_, tensor)| &tensor.values);
    values().filter(|value| **value == 0.0).count() as f64 / values().count().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], seed: f32) -> HostTensor {
        let count = shape.iter().product::<usize>();
        HostTensor::new(shape, (0..count).map(|i| ((i as f32 + seed) * 1.7).sin()).collect())
    }

    #[test]
    fn two_of_four_are_along_the_input() {
        let mut weights =
            NamedData::from([("a".into(), tensor(&[8, 3], 1.0)), ("b".into(), tensor(&[2, 4, 5], 2.0))]);
        let names = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        by_magnitude(&mut weights, &names, Pattern::TwoOfFour, PruningScope::Layer).unwrap();
        for (name, columns) in [("a", 3), ("b", 5)] {
            for four in weights[name].values.chunks_exact(4 * columns) {
                for column in 0..columns {
                    let kept = four.iter().skip(column).step_by(columns).filter(|value| **value != 0.0);
                    assert_eq!(kept.count(), 2, "{name}");
                }
            }
        }
    }

    #[test]
    fn a_share_is_of_each_matrix_or_of_all() {
        let config = ModelConfig { n_layer: 1, n_embd: 8, n_head: 2, vocab_size: 11, ..Default::default() };
        let names = matrices(&config);
        let small = |name: &str| if name.contains("qkv") { 1e-6 } else { 1.0 };
        let dense = || -> NamedData {
            let scaled = |name: &String| {
                let mut one = tensor(&[8, 8], name.len() as f32);
                one.values.iter_mut().for_each(|value| *value *= small(name));
                (name.clone(), one)
            };
            names.iter().map(scaled).chain([("embedding".to_owned(), tensor(&[11, 8], 3.0))]).collect()
        };
        let zeros = |tensor: &HostTensor| tensor.values.iter().filter(|value| **value == 0.0).count();
        let pruned = |scope| {
            let mut weights = dense();
            by_magnitude(&mut weights, &names, Pattern::Share(0.25), scope).unwrap();
            assert_eq!(sparsity(&weights, &config), 0.25);
            assert_eq!(zeros(&weights["embedding"]), 0);
            weights
                .iter()
                .filter(|(name, _)| names.contains(*name))
                .map(|(_, tensor)| zeros(tensor))
                .collect::<Vec<_>>()
        };
        assert_eq!(pruned(PruningScope::Layer), [16; 4]);
        // The small ones go first, but not all of a matrix.
        let mut weights = dense();
        let error =
            by_magnitude(&mut weights, &names, Pattern::Share(0.25), PruningScope::Global).unwrap_err();
        assert!(error.to_string().contains("nothing would be left"), "{error}");
        by_magnitude(&mut weights, &names, Pattern::Share(0.2), PruningScope::Global).unwrap();
        assert_eq!(zeros(&weights["blocks.0.attention.qkv.weight"]), 51);
    }

    #[test]
    fn a_matrix_that_is_not_finite_is_named() {
        let mut weights = NamedData::from([("a".into(), HostTensor::new([1, 2], vec![1.0, f32::NAN]))]);
        let names = BTreeSet::from(["a".to_owned()]);
        let error = by_magnitude(&mut weights, &names, Pattern::Share(0.5), PruningScope::Layer).unwrap_err();
        assert!(error.to_string().contains("`NaN` for `a`"), "{error}");
    }
}
