//! Names and shapes of all parameters, derived from the configuration alone. They serve to count parameters,
//! to write Kiln's own format, and to check files before a model is built. They are taken from a model
//! without data ([`Model::meta`]); since all layers but the first are alike, a model of two layers is enough.

use super::{Model, parameters};
use crate::config::{Architecture, ModelConfig};

/// Name and shape of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Path of fields, for example `blocks.0.attention.qkv.weight`.
    pub name: String,
    pub dims: Vec<usize>,
}

/// Lists every parameter of a model.
pub fn parameters(config: &ModelConfig) -> Vec<Shape> {
    let Layout { mut beside_blocks, stacks } = Layout::of(config);
    beside_blocks
        .extend(stacks.iter().flat_map(|stack| (0..stack.layers).flat_map(|layer| stack.block(layer))));
    beside_blocks
}

/// Parameters of a model, in which equal layers are listed once.
pub(super) struct Layout {
    /// Parameters outside of blocks: embeddings, final norms, heads.
    pub beside_blocks: Vec<Shape>,
    pub stacks: Vec<StackLayout>,
}

/// Parameters in the blocks of an encoder or a decoder.
pub(super) struct StackLayout {
    /// Prefix of names: `blocks.`, `encoder.blocks.` or `decoder.blocks.`.
    prefix: &'static str,
    pub layers: usize,
    /// Parameters of the first block, by their names within the block; `other` contains those of any other
    /// block.
    first: Vec<Shape>,
    other: Vec<Shape>,
}

impl Layout {
    pub fn of(config: &ModelConfig) -> Self {
        let few = ModelConfig {
            n_layer: config.n_layer.min(2),
            n_decoder_layer: config.n_decoder_layer.map(|layers| layers.min(2)),
            ..config.clone()
        };
        let mut stacks: Vec<_> =
            stacks(config).into_iter().map(|(prefix, layers)| StackLayout::new(prefix, layers)).collect();
        let mut beside_blocks = Vec::new();
        for (name, dims) in parameters::shapes(&Model::meta(&few)) {
            match stacks.iter_mut().find_map(|stack| stack.find(&name)) {
                Some((shapes, within)) => shapes.push(Shape { name: within.to_owned(), dims }),
                None => beside_blocks.push(Shape { name, dims }),
            }
        }
        Self { beside_blocks, stacks }
    }
}

/// Prefix of names and number of layers of each stack.
fn stacks(config: &ModelConfig) -> Vec<(&'static str, usize)> {
    match config.architecture {
        Architecture::Decoder | Architecture::Encoder => vec![("blocks.", config.n_layer)],
        Architecture::EncoderDecoder => {
            vec![("encoder.blocks.", config.n_layer), ("decoder.blocks.", config.decoder_layers())]
        }
    }
}

/// Number of layers of all stacks together.
pub(super) fn layers(config: &ModelConfig) -> u128 {
    stacks(config).iter().map(|(_, layers)| *layers as u128).sum()
}

impl StackLayout {
    fn new(prefix: &'static str, layers: usize) -> Self {
        Self { prefix, layers, first: Vec::new(), other: Vec::new() }
    }

    /// Finds the list that a block's parameter belongs to, and its name within the block; `None` if it is not
    /// in this stack.
    fn find<'a>(&mut self, name: &'a str) -> Option<(&mut Vec<Shape>, &'a str)> {
        let (layer, within) = name.strip_prefix(self.prefix)?.split_once('.')?;
        Some((if layer == "0" { &mut self.first } else { &mut self.other }, within))
    }

    /// Parameters of one layer, by their names within it.
    pub fn shapes(&self, layer: usize) -> &[Shape] {
        if layer == 0 { &self.first } else { &self.other }
    }

    fn block(&self, layer: usize) -> impl Iterator<Item = Shape> {
        let named = move |shape: &Shape| Shape {
            name: format!("{}{layer}.{}", self.prefix, shape.name),
            dims: shape.dims.clone(),
        };
        self.shapes(layer).iter().map(named)
    }
}

impl Shape {
    /// Number of elements, saturating.
    pub fn count(&self) -> u128 {
        self.dims.iter().fold(1, |product: u128, &size| product.saturating_mul(size as u128))
    }

    /// Whether it contains the stacked experts of a layer, of which a token uses only some.
    pub(super) fn is_of_experts(&self) -> bool {
        self.dims.len() == 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Activation, AttentionConfig, Head, MoeConfig, NormPosition, Pooling, Position},
        kernels::Mode,
    };
    use std::collections::BTreeMap;

    #[test]
    fn names_and_shapes_are_those_of_the_modules() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let small = ModelConfig { vocab_size: 11, n_embd: 8, n_head: 2, n_layer: 4, ..Default::default() };
        let moe = ModelConfig {
            activation: Activation::Swiglu,
            moe: MoeConfig { n_experts: 3, shared_expert_inner: Some(16), ..Default::default() },
            attention: AttentionConfig { qk_norm: true, ..Default::default() },
            norm_position: NormPosition::Both,
            ..small.clone()
        };
        let bert = ModelConfig {
            architecture: Architecture::Encoder,
            embedding_norm: true,
            token_types: 2,
            bias: true,
            norm_position: NormPosition::Post,
            ..small.clone()
        };
        let labels = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let of = |head, norm_position| ModelConfig {
            head,
            norm_position,
            labels: labels.clone(),
            pooling: Pooling::Mean,
            ..bert.clone()
        };
        let t5 = ModelConfig {
            architecture: Architecture::EncoderDecoder,
            position: Position::Relative,
            n_decoder_layer: Some(1),
            n_kv_head: Some(1),
            tie_embeddings: false,
            ..small.clone()
        };
        for config in [
            of(Head::SequenceClassification, NormPosition::Post),
            of(Head::SequenceClassification, NormPosition::Pre),
            of(Head::TokenClassification, NormPosition::Post),
            of(Head::TokenClassification, NormPosition::Pre),
            of(Head::Regression, NormPosition::Post),
            ModelConfig { tie_embeddings: false, ..bert.clone() },
            ModelConfig { skip_first_norm: true, norm_position: NormPosition::Pre, ..bert.clone() },
            bert,
            ModelConfig { tie_embeddings: true, bias: true, norm_position: NormPosition::Post, ..t5.clone() },
            t5,
            ModelConfig { position: Position::Alibi, tie_embeddings: false, ..small.clone() },
            ModelConfig { position: Position::Rotary, n_layer: 1, ..small.clone() },
            ModelConfig { position: Position::Sinusoidal, n_layer: 3, ..small.clone() },
            moe,
            small,
        ] {
            let found = parameters::shapes(&Model::uninitialized(&config, Mode::Fused, &device));
            let listed = super::parameters(&config);
            let expected: BTreeMap<_, _> = listed.into_iter().map(|shape| (shape.name, shape.dims)).collect();
            assert_eq!(found, expected, "{config:?}");
        }
    }
}
