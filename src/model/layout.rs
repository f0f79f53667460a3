//! The name and shape of every parameter, from the configuration alone: for counting them, for the files
//! of Kiln's own layout, and for holding files to them before anything is built.

use super::encoder::has_transform;
use crate::config::{Architecture, Head, ModelConfig, Norm, NormPosition, Position};

/// A parameter of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Path of fields, for example `blocks.0.attention.qkv.weight`.
    pub name: String,
    pub dims: Vec<usize>,
}

/// Every parameter of a model.
pub fn parameters(config: &ModelConfig) -> Vec<Shape> {
    let mut all = beside_blocks(config);
    for stack in stacks(config) {
        for layer in 0..stack.layers {
            all.extend(stack.block(config, layer));
        }
    }
    all
}

/// Blocks of an encoder or a decoder.
pub(super) struct StackLayout {
    /// What names begin with: `blocks`, or `encoder.blocks`.
    name: &'static str,
    pub layers: usize,
    /// Looks at an encoder's output too.
    crosses: bool,
}

/// The stacks of a model.
pub(super) fn stacks(config: &ModelConfig) -> Vec<StackLayout> {
    match config.architecture {
        Architecture::Decoder | Architecture::Encoder => {
            vec![StackLayout { name: "blocks", layers: config.n_layer, crosses: false }]
        }
        Architecture::EncoderDecoder => vec![
            StackLayout { name: "encoder.blocks", layers: config.n_layer, crosses: false },
            StackLayout { name: "decoder.blocks", layers: config.decoder_layers(), crosses: true },
        ],
    }
}

/// Collects parameters.
struct Collect<'a> {
    config: &'a ModelConfig,
    shapes: Vec<Shape>,
}

impl Collect<'_> {
    fn tensor(&mut self, name: impl Into<String>, dims: &[usize]) {
        self.shapes.push(Shape { name: name.into(), dims: dims.to_vec() });
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.tensor(format!("{name}.weight"), &[width]);
        if self.config.bias && self.config.norm == Norm::Layernorm {
            self.tensor(format!("{name}.bias"), &[width]);
        }
    }

    fn linear(&mut self, name: &str, dims: [usize; 2], bias: bool) {
        self.tensor(format!("{name}.weight"), &dims);
        if bias {
            self.tensor(format!("{name}.bias"), &dims[1..]);
        }
    }

    fn mlp(&mut self, name: &str, inner: usize) {
        let (width, bias) = (self.config.n_embd, self.config.bias);
        let up = if self.config.activation.is_gated() { inner.saturating_mul(2) } else { inner };
        self.linear(&format!("{name}.up"), [width, up], bias);
        self.linear(&format!("{name}.down"), [inner, width], bias);
    }
}

/// Embeddings, last norms, heads.
pub(super) fn beside_blocks(config: &ModelConfig) -> Vec<Shape> {
    let mut collect = Collect { config, shapes: Vec::new() };
    let (width, vocab) = (config.n_embd, config.vocab_size);
    collect.tensor("embedding", &[vocab, width]);
    if config.position == Position::Learned {
        collect.tensor("position", &[config.block_size, width]);
    }
    if config.token_types > 0 {
        collect.tensor("token_type", &[config.token_types, width]);
    }
    if config.embedding_norm {
        collect.norm("embedding_norm", width);
    }
    for stack in stacks(config) {
        let prefix = stack.name.strip_suffix("blocks").unwrap_or_default();
        if config.position == Position::Relative {
            collect.tensor(format!("{prefix}relative_bias"), &[config.relative_buckets, config.n_head]);
        }
        if config.norm_position != NormPosition::Post {
            collect.norm(&format!("{prefix}norm"), width);
        }
    }
    if config.architecture != Architecture::Encoder {
        if !config.tie_embeddings {
            collect.tensor("head.weight", &[width, vocab]);
        }
        return collect.shapes;
    }
    if has_transform(config) {
        collect.linear("head.transform.dense", [width, width], config.bias);
        if config.head == Head::LanguageModel || config.norm_position != NormPosition::Post {
            collect.norm("head.transform.norm", width);
        }
    }
    match config.head {
        Head::LanguageModel => {
            collect.tensor("head.bias", &[vocab]);
            if !config.tie_embeddings {
                collect.tensor("head.output.weight", &[width, vocab]);
            }
        }
        _ => collect.linear("head.output", [width, config.classes()], true),
    }
    collect.shapes
}

impl StackLayout {
    /// The parameters of one layer.
    pub fn block(&self, config: &ModelConfig, layer: usize) -> Vec<Shape> {
        let mut collect = Collect { config, shapes: Vec::new() };
        let (width, inner, head_size) = (config.n_embd, config.inner_size(), config.head_size());
        let (queries, keys) =
            (config.n_head.saturating_mul(head_size), config.kv_heads().saturating_mul(head_size));
        let qkv_bias = config.bias || config.attention.qkv_bias;
        let block = format!("{}.{layer}", self.name);
        if !(config.skip_first_norm && layer == 0) {
            collect.norm(&format!("{block}.attention_norm"), width);
        }
        collect.norm(&format!("{block}.mlp_norm"), width);
        if config.norm_position == NormPosition::Both {
            collect.norm(&format!("{block}.attention_output_norm"), width);
            collect.norm(&format!("{block}.mlp_output_norm"), width);
        }
        if config.attention.qk_norm {
            collect.norm(&format!("{block}.attention.query_norm"), head_size);
            collect.norm(&format!("{block}.attention.key_norm"), head_size);
        }
        let qkv = queries.saturating_add(keys.saturating_mul(2));
        collect.linear(&format!("{block}.attention.qkv"), [width, qkv], qkv_bias);
        collect.linear(&format!("{block}.attention.output"), [queries, width], config.bias);
        if self.crosses {
            collect.norm(&format!("{block}.cross_norm"), width);
            collect.linear(&format!("{block}.cross.query"), [width, queries], qkv_bias);
            collect.linear(&format!("{block}.cross.key_value"), [width, keys.saturating_mul(2)], qkv_bias);
            collect.linear(&format!("{block}.cross.output"), [queries, width], config.bias);
        }
        if !config.has_experts() {
            collect.mlp(&format!("{block}.mlp"), inner);
            return collect.shapes;
        }
        let experts = config.moe.n_experts;
        collect.tensor(format!("{block}.mlp.router.weight"), &[width, experts]);
        collect.tensor(format!("{block}.mlp.up"), &[experts, width, inner.saturating_mul(2)]);
        collect.tensor(format!("{block}.mlp.down"), &[experts, inner, width]);
        if let Some(inner) = config.moe.shared_expert_inner {
            collect.mlp(&format!("{block}.mlp.shared"), inner);
            collect.tensor(format!("{block}.mlp.shared_gate.weight"), &[width, 1]);
        }
        collect.shapes
    }
}

impl Shape {
    /// Numbers in it; in a type in which no product of validated sizes overflows.
    pub(super) fn count(&self) -> u128 {
        self.dims.iter().map(|&size| size as u128).product()
    }

    /// The experts of a layer, one behind the other, of which a token passes only some.
    pub(super) fn is_of_experts(&self) -> bool {
        self.dims.len() == 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Activation, AttentionConfig, MoeConfig, Pooling},
        kernels::Mode,
        model::{Model, parameters},
    };
    use std::collections::BTreeMap;

    #[test]
    fn names_and_shapes_are_those_of_the_modules() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let small = ModelConfig { vocab_size: 11, n_embd: 8, n_head: 2, n_layer: 2, ..Default::default() };
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
            moe,
            small,
        ] {
            let found = parameters::shapes(&Model::unloaded(&config, Mode::Fused, &device));
            let listed = super::parameters(&config);
            let expected: BTreeMap<_, _> = listed.into_iter().map(|shape| (shape.name, shape.dims)).collect();
            assert_eq!(found, expected, "{config:?}");
        }
    }
}
