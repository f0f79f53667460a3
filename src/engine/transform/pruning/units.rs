//! Removal of whole heads and neurons from every layer: the result is a smaller model.

use super::{
    calibration::{CalibrationRun, walk},
    check_decoder, refused, sizes, transposed,
};
use crate::{
    config::{ModelConfig, Position},
    error::{Error, Result, hint},
    model::parameters::{HostTensor, NamedData},
};
use kiln_prune::structure;

/// Heads and neurons that are removed from every layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Units {
    /// Number of query heads. Heads that share keys and values go together.
    pub heads: usize,
    /// Number of neurons of the MLP.
    pub neurons: usize,
}

impl Units {
    /// Whether nothing is removed.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Refuses units that a model does not have, or that it cannot do without.
    pub(super) fn check(self, config: &ModelConfig) -> Result<()> {
        check_decoder(config)?;
        let refused = |key: &str, value: usize, message: String, hint| {
            Err(Error::InvalidValue { key: key.into(), value: value.to_string(), message, hint: Some(hint) })
        };
        let together = config.n_head / config.kv_heads();
        if self.heads >= config.n_head {
            let message = format!("each layer has {}, and some must be left", config.n_head);
            return refused("heads", self.heads, message, hint!["remove fewer"]);
        }
        if !self.heads.is_multiple_of(together) {
            let message = format!("{together} heads share keys and values, and go together");
            return refused("heads", self.heads, message, hint![format!("name a multiple of {together}")]);
        }
        if self.heads > 0 && matches!(config.position, Position::Relative | Position::Alibi) {
            let message = "each head has distances of its own by its number".to_owned();
            return refused("heads", self.heads, message, hint!["remove neurons or layers"]);
        }
        if self.neurons >= config.inner_size() {
            let message = format!("each layer has {}, and some must be left", config.inner_size());
            return refused("neurons", self.neurons, message, hint!["remove fewer"]);
        }
        if self.neurons > 0 && config.has_experts() {
            let message = "the layers have experts, whose neurons stay".to_owned();
            return refused("neurons", self.neurons, message, hint!["remove heads or layers"]);
        }
        Ok(())
    }
}

/// Removes the heads and neurons of each layer that have the smallest effect on a text, or without one the smallest
/// weights. Returns the smaller model's configuration. `weights` are all weights of the model of `config`, and `run` is
/// that model.
///
/// # Errors
/// [`Error::InvalidValue`] for units that the model does not have, for a model that is no decoder, and for numbers that
/// are not finite; [`Error::DeviceFailed`].
pub async fn remove_units(
    weights: &mut NamedData,
    config: &ModelConfig,
    units: Units,
    run: Option<CalibrationRun<'_>>,
) -> Result<ModelConfig> {
    units.check(config)?;
    let layout = HeadLayout::of(config);
    let mut products = vec![None; config.n_layer];
    if let Some(run) = run {
        walk(run, |layer, found, _| {
            products[layer] = Some(found);
            Ok(NamedData::new())
        })
        .await?;
    }
    for (layer, products) in products.iter().enumerate() {
        let scores = |part: &str, size: usize, of: &NamedData| {
            let name = format!("blocks.{layer}.{part}.weight");
            let products = products.as_ref().and_then(|products| products.get(part));
            let scores =
                of.get(&name).map_or_else(|| Ok(Vec::new()), |tensor| unit_scores(tensor, size, products));
            scores.map_err(|error| refused(&name, &error))
        };
        if units.heads > 0 {
            let scores = scores("attention.output", layout.together * layout.size, weights)?;
            let kept = structure::kept(&scores, units.heads / layout.together, "heads");
            let kept = kept.map_err(|error| refused(&format!("blocks.{layer}.attention"), &error))?;
            layout.keep(weights, layer, &kept);
        }
        if units.neurons > 0 {
            let scores = scores("mlp.down", 1, weights)?;
            let kept = structure::kept(&scores, units.neurons, "neurons");
            let kept = kept.map_err(|error| refused(&format!("blocks.{layer}.mlp"), &error))?;
            keep_neurons(weights, config, layer, &kept);
        }
    }
    Ok(smaller(config, units))
}

/// Effects of the units of a layer, each `size` inputs of the matrix `[in, out]` that reads them.
fn unit_scores(
    tensor: &HostTensor,
    size: usize,
    products: Option<&HostTensor>,
) -> kiln_prune::Result<Vec<f64>> {
    let [inputs, outputs] = sizes(tensor);
    let weights = transposed(&tensor.values, outputs); // [out, in]
    match products {
        None => structure::norms(&weights, inputs, size),
        Some(products) => {
            let row = |at: usize| at / size * size..(at / size + 1) * size;
            let blocks = (0..inputs).flat_map(|at| &products.values[at * inputs..][row(at)]);
            let blocks: Vec<f64> = blocks.map(|&value| value.into()).collect(); // [units, size, size]
            structure::effects(&weights, inputs, size, &blocks)
        }
    }
}

/// Configuration without the units.
fn smaller(config: &ModelConfig, units: Units) -> ModelConfig {
    let mut smaller = config.clone();
    if units.heads > 0 {
        let together = config.n_head / config.kv_heads();
        smaller.n_head -= units.heads;
        smaller.n_kv_head = Some(smaller.n_head / together);
        smaller.head_dim = Some(config.head_size());
    }
    if units.neurons > 0 {
        smaller.n_inner = Some(config.inner_size() - units.neurons);
    }
    smaller
}

/// Columns of the matrices of attention.
struct HeadLayout {
    heads: usize,
    groups: usize,
    /// Width of a head.
    size: usize,
    /// Number of query heads that share keys and values.
    together: usize,
}

impl HeadLayout {
    fn of(config: &ModelConfig) -> Self {
        let (heads, groups) = (config.n_head, config.kv_heads());
        Self { heads, groups, size: config.head_size(), together: heads / groups }
    }

    /// Keeps the given groups of heads of a layer.
    fn keep(&self, weights: &mut NamedData, layer: usize, groups: &[usize]) {
        let places = |first: usize, width: usize| -> Vec<usize> {
            groups.iter().flat_map(|group| first + group * width..first + (group + 1) * width).collect()
        };
        let queries = places(0, self.together * self.size);
        let keys = places(self.heads * self.size, self.size);
        let values = places((self.heads + self.groups) * self.size, self.size);
        let name = |part: &str| format!("blocks.{layer}.attention.{part}");
        let together = [&queries[..], &keys, &values].concat();
        keep_columns(weights, &name("qkv.weight"), &together);
        keep_columns(weights, &name("qkv.bias"), &together);
        keep_rows(weights, &name("output.weight"), &queries);
    }
}

/// Keeps the given neurons of a layer.
fn keep_neurons(weights: &mut NamedData, config: &ModelConfig, layer: usize, neurons: &[usize]) {
    let mut columns = neurons.to_vec();
    if config.activation.is_gated() {
        // The gate's columns are first.
        columns.extend(neurons.iter().map(|neuron| neuron + config.inner_size()));
    }
    let name = |part: &str| format!("blocks.{layer}.mlp.{part}");
    keep_columns(weights, &name("up.weight"), &columns);
    keep_columns(weights, &name("up.bias"), &columns);
    keep_rows(weights, &name("down.weight"), neurons);
}

/// Keeps the given columns of a matrix, or elements of a vector, if there is one of this name.
fn keep_columns(weights: &mut NamedData, name: &str, places: &[usize]) {
    let Some(tensor) = weights.get_mut(name) else { return };
    let [_, width] = sizes(tensor);
    tensor.values = structure::columns(&tensor.values, width, places);
    if let Some(last) = tensor.shape.last_mut() {
        *last = places.len();
    }
}

/// Keeps the given rows of a matrix, if there is one of this name.
fn keep_rows(weights: &mut NamedData, name: &str, places: &[usize]) {
    let Some(tensor) = weights.get_mut(name) else { return };
    let [_, width] = sizes(tensor);
    tensor.values = structure::rows(&tensor.values, width, places);
    if let Some(first) = tensor.shape.first_mut() {
        *first = places.len();
    }
}
