//! The places of a model that adapters change, by the names of their parameters.

use crate::model::{
    Model,
    encoder::Head,
    layers::{
        adapter::StackAdapter,
        attention::{Attention, CrossAttention},
        block::{Block, FeedForward},
        embeddings::Embeddings,
        linear::Linear,
        mlp::Mlp,
        output::Output,
        stack::Stack,
    },
};
use burn::{module::Param, tensor::Tensor};

/// A place that adapters change.
pub(super) enum Site<'a> {
    Linear(&'a mut Linear),
    Embedding(&'a mut Embeddings),
    /// Matrices of all experts of a layer, `[X, I, O]`, and the changes of them.
    Experts(&'a mut Param<Tensor<3>>, &'a mut Option<StackAdapter>),
}

/// Calls `visit` with every place that adapters can change, and the name of its parameter.
pub(super) fn each(model: &mut Model, visit: &mut impl FnMut(&str, Site<'_>)) {
    match model {
        Model::Decoder(decoder) => {
            visit("embedding", Site::Embedding(&mut decoder.embeddings));
            of_stack("", &mut decoder.stack, visit);
            of_output(&mut decoder.projection, visit);
        }
        Model::Encoder(encoder) => {
            visit("embedding", Site::Embedding(&mut encoder.embeddings));
            of_stack("", &mut encoder.stack, visit);
            let (transform, output) = match &mut encoder.head {
                Head::LanguageModel(head) => (Some(&mut head.transform), head.output.as_mut()),
                Head::Classifier(head) => (head.transform.as_mut(), Some(&mut head.output)),
            };
            if let Some(transform) = transform {
                visit("head.transform.dense.weight", Site::Linear(&mut transform.dense));
            }
            if let Some(output) = output {
                visit("head.output.weight", Site::Linear(output));
            }
        }
        Model::EncoderDecoder(both) => {
            visit("embedding", Site::Embedding(&mut both.embeddings));
            of_stack("encoder.", &mut both.encoder, visit);
            of_stack("decoder.", &mut both.decoder, visit);
            of_output(&mut both.projection, visit);
        }
    }
}

fn of_output(output: &mut Output, visit: &mut impl FnMut(&str, Site<'_>)) {
    if let Some(head) = &mut output.head {
        visit("head.weight", Site::Linear(head));
    }
}

fn of_stack(prefix: &str, stack: &mut Stack, visit: &mut impl FnMut(&str, Site<'_>)) {
    for (number, Block { attention, cross, mlp, .. }) in stack.blocks.iter_mut().enumerate() {
        let mut linear = |name: &str, layer: &mut Linear| {
            visit(&format!("{prefix}blocks.{number}.{name}.weight"), Site::Linear(layer))
        };
        let Attention { qkv, output, .. } = attention;
        linear("attention.qkv", qkv);
        linear("attention.output", output);
        if let Some(CrossAttention { query, key_value, output, .. }) = cross {
            linear("cross.query", query);
            linear("cross.key_value", key_value);
            linear("cross.output", output);
        }
        match mlp {
            FeedForward::Dense(Mlp { up, down, .. }) => {
                linear("mlp.up", up);
                linear("mlp.down", down);
            }
            FeedForward::Experts(moe) => {
                linear("mlp.router", &mut moe.router);
                if let Some(Mlp { up, down, .. }) = &mut moe.shared {
                    linear("mlp.shared.up", up);
                    linear("mlp.shared.down", down);
                }
                if let Some(gate) = &mut moe.shared_gate {
                    linear("mlp.shared_gate", gate);
                }
                let name = |part: &str| format!("{prefix}blocks.{number}.mlp.{part}");
                visit(&name("up"), Site::Experts(&mut moe.up, &mut moe.up_adapter));
                visit(&name("down"), Site::Experts(&mut moe.down, &mut moe.down_adapter));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Activation, Architecture, Head as HeadKind, ModelConfig, MoeConfig, Position},
        model::families::Family,
    };
    use std::collections::BTreeSet;

    /// Every matrix that a family names has a place, in every architecture.
    #[test]
    fn every_matrix_has_a_place() {
        let base = ModelConfig { vocab_size: 13, n_layer: 2, n_embd: 8, n_head: 2, ..Default::default() };
        let encoder = ModelConfig { architecture: Architecture::Encoder, ..base.clone() };
        for config in [
            ModelConfig { tie_embeddings: false, ..base.clone() },
            ModelConfig {
                activation: Activation::Swiglu,
                moe: MoeConfig { n_experts: 3, shared_expert_inner: Some(4), ..Default::default() },
                ..base.clone()
            },
            ModelConfig {
                architecture: Architecture::EncoderDecoder,
                position: Position::Relative,
                tie_embeddings: false,
                ..base.clone()
            },
            ModelConfig { tie_embeddings: false, ..encoder.clone() },
            ModelConfig {
                head: HeadKind::SequenceClassification,
                labels: vec!["a".into(), "b".into()],
                ..encoder
            },
        ] {
            let mut places = BTreeSet::new();
            each(&mut Model::meta(&config), &mut |name: &str, _: Site<'_>| {
                places.insert(name.to_owned());
            });
            let named: BTreeSet<String> =
                Family::KILN.matrices(&config).into_iter().map(|matrix| matrix.parameter).collect();
            assert_eq!(places, named, "{config:?}");
        }
    }
}
