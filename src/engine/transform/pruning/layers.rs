//! Removal of whole layers: the result is a smaller model.

use super::check_decoder;
use crate::{
    config::ModelConfig,
    error::{Error, Result, hint},
    model::{Model, parameters::NamedData},
};

/// Chooses layers that a decoder does best without, one after another: each time the one without which the loss is the
/// smallest. Returns the numbers of the layers that stay. Layers of another kind than those that move into their places
/// cannot go.
///
/// # Errors
/// [`Error::InvalidValue`] for a model that is no decoder, if no layer would be left or none may go, and those of
/// `loss`.
pub fn drop_layers(
    model: &Model,
    config: &ModelConfig,
    count: usize,
    mut loss: impl FnMut(&Model) -> Result<f64>,
) -> Result<Vec<usize>> {
    check_decoder(config)?;
    let refused = |message: &str| Error::InvalidValue {
        key: "layers".into(),
        value: count.to_string(),
        message: message.into(),
        hint: Some(hint!["remove fewer"]),
    };
    let mut kept: Vec<usize> = (0..config.n_layer).collect();
    if count >= config.n_layer {
        return Err(refused(&format!("the model has {}, and some must be left", config.n_layer)));
    }
    for _ in 0..count {
        let mut best: Option<(f64, Vec<usize>)> = None;
        for gone in 0..kept.len() {
            let candidate: Vec<usize> = [&kept[..gone], &kept[gone + 1..]].concat();
            if !fits(config, &candidate) {
                continue;
            }
            let loss = loss(&of_layers(model, &candidate))?;
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, candidate));
            }
        }
        let message = "without any layer that could go the others would have another window";
        kept = best.ok_or_else(|| refused(message))?.1;
    }
    Ok(kept)
}

/// Whether layers are, in their new places, of the kind that they were.
pub(super) fn fits(config: &ModelConfig, kept: &[usize]) -> bool {
    let is_first_as_it_was = !config.skip_first_norm || kept.first() == Some(&0);
    is_first_as_it_was
        && kept.iter().enumerate().all(|(new, &old)| config.is_sliding(new) == config.is_sliding(old))
}

/// The decoder with the given blocks alone.
fn of_layers(model: &Model, kept: &[usize]) -> Model {
    let mut model = model.clone();
    if let Model::Decoder(decoder) = &mut model {
        decoder.stack.blocks = kept.iter().map(|&layer| decoder.stack.blocks[layer].clone()).collect();
    }
    model
}

/// Keeps the given layers of a decoder's weights. Returns the smaller model's configuration.
pub fn remove_layers(weights: &mut NamedData, config: &ModelConfig, kept: &[usize]) -> ModelConfig {
    let renamed = |name: String| {
        let Some((number, rest)) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else {
            return Some(name);
        };
        let old: usize = number.parse().ok()?;
        let new = kept.iter().position(|&layer| layer == old)?;
        Some(format!("blocks.{new}.{rest}"))
    };
    let all = std::mem::take(weights).into_iter();
    *weights = all.filter_map(|(name, tensor)| Some((renamed(name)?, tensor))).collect();
    ModelConfig { n_layer: kept.len(), ..config.clone() }
}
