//! Adapters: low-rank changes of a model's matrices (LoRA, arXiv:2106.09685; with norms of their own DoRA,
//! arXiv:2402.09353), which are trained while the model itself stays as it is. Their files are PEFT's.
//!
//! An [`AdapterLayout`] says which matrices an adapter changes, and puts it into a model. The functions here switch the
//! changes off, merge them into the weights, and take them out again.

mod attach;
mod host;
mod layout;
mod peft;
mod sites;
mod targets;
#[cfg(test)]
mod tests;

pub use host::{Change, HostAdapter};
pub use layout::AdapterLayout;
pub use peft::PeftConfig;

use super::freeze;
use crate::{
    config::ModelConfig,
    error::Result,
    model::{
        Encoder, Model,
        encoder::Head,
        layers::{
            adapter::{Adapter, Saved},
            embeddings::Embeddings,
        },
        parameters::{self, FlatTensor, GradientState, NamedData},
    },
};
use burn::{module::Param, tensor::Tensor};
use sites::Site;

/// Whether a parameter belongs to an adapter.
pub fn is_adapter(name: &str) -> bool {
    name.split('.').any(|part| part == "adapter" || part.ends_with("_adapter"))
}

/// Name of the parameter that a trained copy stands in for; `None` if the parameter is not a copy.
fn layer_of_copy(name: &str) -> Option<String> {
    match name.strip_suffix("_adapter.saved.weight") {
        Some(table) => Some(table.into()),
        None => name.contains(".adapter.saved.").then(|| name.replace(".adapter.saved.", ".")),
    }
}

/// Freezes every parameter of a model that does not belong to its adapter.
pub fn freeze_base(model: Model, layout: &AdapterLayout) -> Model {
    freeze::freeze_all_but(model, |name| layout.owns(name))
}

/// The model without its adapters. It shares the weights of the base with the model, and serves as its reference.
pub fn without(model: &Model) -> Model {
    let mut bare = unmerge(model);
    sites::each(&mut bare, &mut |_: &str, site: Site<'_>| match site {
        Site::Linear(linear) => linear.adapter = None,
        Site::Embedding(embeddings) => embeddings.embedding_adapter = None,
        Site::Experts(_, adapter) => *adapter = None,
    });
    bare
}

/// The model with the low-rank changes merged into its weights, so that it computes as fast as one without adapters.
/// [`unmerge`] restores it exactly. An embedding stays as it is if a tied output projection does not have its changes.
pub fn merge(model: &Model) -> Model {
    let keeps_table = tied(model).is_some();
    let mut merged = model.clone();
    sites::each(&mut merged, &mut |_: &str, site: Site<'_>| match site {
        Site::Linear(linear) => {
            if let Some(adapter) = &mut linear.adapter {
                merge_into(&mut linear.weight, adapter);
            }
        }
        Site::Embedding(Embeddings { embedding, embedding_adapter: Some(adapter), .. })
            if !keeps_table || adapter.changes_tied_output =>
        {
            merge_into(embedding, adapter);
        }
        Site::Embedding(_) => {}
        Site::Experts(stack, adapter) => {
            if let Some(adapter) = adapter.as_mut().filter(|adapter| adapter.unmerged.is_none()) {
                let own = stack.val();
                let changed = adapter.effective(own.clone());
                adapter.unmerged = Some(own.inner());
                replace(stack, changed);
            }
        }
    });
    merged
}

/// Takes back what [`merge`] did.
pub fn unmerge(model: &Model) -> Model {
    let mut unmerged = model.clone();
    sites::each(&mut unmerged, &mut |_: &str, site: Site<'_>| match site {
        Site::Linear(linear) => {
            if let Some(own) = linear.adapter.as_mut().and_then(|adapter| adapter.unmerged.take()) {
                replace(&mut linear.weight, own);
            }
        }
        Site::Embedding(Embeddings { embedding, embedding_adapter, .. }) => {
            if let Some(own) = embedding_adapter.as_mut().and_then(|adapter| adapter.unmerged.take()) {
                replace(embedding, own);
            }
        }
        Site::Experts(stack, adapter) => {
            if let Some(own) = adapter.as_mut().and_then(|adapter| adapter.unmerged.take()) {
                replace(stack, own);
            }
        }
    });
    unmerged
}

/// The model with all changes merged into its weights for good, so that it has no adapters. An embedding keeps its
/// adapter if a tied output projection does not have its changes.
pub fn fold(model: &Model) -> Model {
    let is_tied = tied(model).is_some();
    let mut folded = merge(model);
    sites::each(&mut folded, &mut |_: &str, site: Site<'_>| match site {
        Site::Linear(linear) => {
            if let Some(Saved { weight, bias }) = linear.adapter.take().and_then(|adapter| adapter.saved) {
                (linear.weight, linear.bias) = (weight, bias);
            }
        }
        Site::Embedding(embeddings) => {
            let is_split = |adapter: &Adapter| is_tied && !adapter.changes_tied_output;
            if !embeddings.embedding_adapter.as_ref().is_some_and(is_split)
                && let Some(saved) = embeddings.embedding_adapter.take().and_then(|adapter| adapter.saved)
            {
                embeddings.embedding = saved.weight;
            }
        }
        Site::Experts(_, adapter) => *adapter = None,
    });
    folded
}

/// The weights of a model with its adapters in them, by parameter name, and the configuration of the model that has
/// them. If only the input has the changes of a tied embedding, the output projection gets weights of its own.
///
/// # Errors
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub async fn merged_weights(model: &Model, config: &ModelConfig) -> Result<(NamedData, ModelConfig)> {
    let folded = fold(model);
    let mut config = config.clone();
    let mut weights = parameters::parameters(&folded);
    weights.retain(|name, _| !is_adapter(name));
    if let Some((Embeddings { embedding, embedding_adapter: Some(adapter), .. }, output)) = tied(&folded) {
        let (table, changed) = (embedding.val().inner(), adapter.effective(embedding.val()).inner());
        config.tie_embeddings = false;
        weights.insert("embedding".into(), FlatTensor::from_tensor(changed));
        weights.insert(output.into(), FlatTensor::from_tensor(table.transpose()));
    }
    Ok((parameters::read(weights).await?, config))
}

/// The token embeddings that the output projection is tied to, and the name that it has if it is not.
fn tied(model: &Model) -> Option<(&Embeddings, &'static str)> {
    match model {
        Model::Decoder(decoder) if decoder.projection.head.is_none() => {
            Some((&decoder.embeddings, "head.weight"))
        }
        Model::EncoderDecoder(both) if both.projection.head.is_none() => {
            Some((&both.embeddings, "head.weight"))
        }
        Model::Encoder(Encoder { embeddings, head: Head::LanguageModel(head), .. })
            if head.output.is_none() =>
        {
            Some((embeddings, "head.output.weight"))
        }
        _ => None,
    }
}

/// Merges the low-rank changes of a matrix into it.
fn merge_into(weight: &mut Param<Tensor<2>>, adapter: &mut Adapter) {
    if adapter.unmerged.is_some() || adapter.saved.is_some() || adapter.parts.is_empty() {
        return;
    }
    let own = weight.val();
    let changed = adapter.effective(own.clone());
    adapter.unmerged = Some(own.inner());
    replace(weight, changed);
}

/// Gives a parameter other numbers, and keeps whether it is trained.
fn replace<const D: usize>(parameter: &mut Param<Tensor<D>>, numbers: Tensor<D>) {
    let numbers = numbers.inner();
    *parameter = parameter.clone().map(|old| GradientState::of(&old).of_new(numbers));
}
