//! One layer of a transformer: attention, then cross-attention over an encoder's output if there is one, then
//! an MLP or a mixture of experts.

use super::{
    attention::{Attention, AttentionContext, CrossAttention, StackContext},
    kv_cache::KvCache,
    mlp::Mlp,
    moe::{Moe, Routing},
    norm::Norm,
};
use crate::{
    config::{ModelConfig, NormPosition},
    kernels::{Mode, dropout::dropout, linear::Prologue, trace::layer},
    model::{Pass, init::Initializer},
};
use burn::{
    module::Module,
    tensor::{Bool, Tensor},
};

/// Attention and MLP, each with a norm and a residual connection.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm of the attention; `None` in a first block that reads embeddings which are already normalized.
    pub attention_norm: Option<Norm>,
    pub attention: Attention,
    /// Norm of the attention's output, if blocks normalize both input and output.
    pub attention_output_norm: Option<Norm>,
    /// Norm of the cross-attention, in a decoder beside an encoder.
    pub cross_norm: Option<Norm>,
    pub cross: Option<CrossAttention>,
    pub mlp_norm: Option<Norm>,
    pub mlp: FeedForward,
    /// Norm of the MLP's output, if blocks normalize both input and output.
    pub mlp_output_norm: Option<Norm>,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    norm_position: NormPosition,
    #[module(skip)]
    is_sliding: bool,
    #[module(skip)]
    mode: Mode,
}

/// Feed-forward layer of a block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a layer, and Burn has no modules in boxes")]
pub enum FeedForward {
    Dense(Mlp),
    Experts(Moe),
}

/// Hidden states of an encoder, which a decoder attends to.
#[derive(Clone)]
pub struct Memory {
    /// Hidden states, `[B, S, E]`.
    pub states: Tensor<3>,
    /// Padding mask, `[B, 1, 1, S]`, true for padding.
    pub padding: Option<Tensor<4, Bool>>,
}

impl Block {
    /// Makes the block of layer `layer`. With `has_cross_attention` it also attends to an encoder's output.
    pub(crate) fn init(
        config: &ModelConfig,
        layer: usize,
        has_cross_attention: bool,
        initializer: &mut Initializer,
    ) -> Self {
        let both = config.norm_position == NormPosition::Both;
        let unnormalized = config.skip_first_norm && layer == 0;
        initializer.in_block(|initializer| Self {
            attention_norm: (!unnormalized).then(|| Norm::init(config, initializer)),
            attention: Attention::init(config, initializer),
            attention_output_norm: both.then(|| Norm::init(config, initializer)),
            cross_norm: has_cross_attention.then(|| Norm::init(config, initializer)),
            cross: has_cross_attention.then(|| CrossAttention::init(config, initializer)),
            mlp_norm: Some(Norm::init(config, initializer)),
            mlp: if config.has_experts() {
                FeedForward::Experts(Moe::init(config, initializer))
            } else {
                FeedForward::Dense(Mlp::init(config, initializer))
            },
            mlp_output_norm: both.then(|| Norm::init(config, initializer)),
            dropout: config.dropout,
            norm_position: config.norm_position,
            is_sliding: config.is_sliding(layer),
            mode: initializer.mode,
        })
    }

    fn attention_context<'a>(&self, context: &'a StackContext) -> &'a AttentionContext {
        match &context.local {
            Some(local) if self.is_sliding => local,
            _ => &context.global,
        }
    }

    /// Computes `[B, T, E]` -> `[B, T, E]`. Also returns the routing, if there are experts.
    pub fn forward(
        &self,
        x: Tensor<3>,
        context: &StackContext,
        memory: Option<&Memory>,
        cache: Option<(&mut KvCache, usize)>,
        pass: &Pass,
    ) -> (Tensor<3>, Option<Routing>) {
        self.feed_forward(self.attend(x, context, memory, cache, pass), pass)
    }

    /// Computes the attention, and the cross-attention if there is one, `[B, T, E]` -> `[B, T, E]`.
    pub(super) fn attend(
        &self,
        x: Tensor<3>,
        context: &StackContext,
        memory: Option<&Memory>,
        mut cache: Option<(&mut KvCache, usize)>,
        pass: &Pass,
    ) -> Tensor<3> {
        let attention = |x: Prologue<3>, residual| {
            let cache = cache.as_mut().map(|(cache, layer)| (&mut **cache, *layer));
            let (bias, attention_context) = (context.bias.clone(), self.attention_context(context));
            layer("attention", None, || {
                self.attention.forward(x, attention_context, bias, cache, residual, pass)
            })
        };
        let mut x = self.residual(x, &self.attention_norm, attention, &self.attention_output_norm, pass);
        if let (Some(cross), Some(memory)) = (&self.cross, memory) {
            let cross = |x, residual| {
                let padding = memory.padding.clone();
                layer("cross", None, || cross.forward(x, &memory.states, padding, cache, residual, pass))
            };
            x = self.residual(x, &self.cross_norm, cross, &None, pass);
        }
        x
    }

    /// Computes the MLP or the experts, `[B, T, E]` -> `[B, T, E]`. Also returns the routing, if there are experts.
    pub(super) fn feed_forward(&self, x: Tensor<3>, pass: &Pass) -> (Tensor<3>, Option<Routing>) {
        let mut routing = None;
        let mlp = |x: Prologue<3>, residual: Option<Tensor<3>>| match &self.mlp {
            FeedForward::Dense(mlp) => layer("mlp", None, || mlp.forward(x, residual, pass)),
            FeedForward::Experts(moe) => {
                let (y, decided) = layer("mlp", None, || moe.forward(x, pass));
                routing = Some(decided);
                match residual {
                    Some(residual) => residual + y,
                    None => y,
                }
            }
        };
        (self.residual(x, &self.mlp_norm, mlp, &self.mlp_output_norm, pass), routing)
    }

    /// Applies `layer` with its norms, dropout and residual connection. `layer` must add its second argument
    /// to its result.
    fn residual(
        &self,
        x: Tensor<3>,
        norm: &Option<Norm>,
        layer: impl FnOnce(Prologue<3>, Option<Tensor<3>>) -> Tensor<3>,
        output_norm: &Option<Norm>,
        pass: &Pass,
    ) -> Tensor<3> {
        let (input, last_norm) = match self.norm_position {
            NormPosition::Pre | NormPosition::Both => {
                (norm.as_ref().map_or_else(|| x.clone().into(), |norm| norm.prologue(x.clone())), &None)
            }
            NormPosition::Post => (Prologue::Plain(x.clone()), norm),
        };
        let drop = pass.dropout(self.dropout);
        let sum = if drop.is_on() || output_norm.is_some() {
            dropout(normalized(output_norm, layer(input, None)), Some(x), drop, self.mode)
        } else {
            layer(input, Some(x))
        };
        normalized(last_norm, sum)
    }

    /// Attention weights of each position over the others, `[B, H, T, S]`.
    pub(crate) fn attention_weights(&self, x: Tensor<3>, context: &StackContext) -> Tensor<4> {
        let x = match self.norm_position {
            NormPosition::Pre | NormPosition::Both => normalized(&self.attention_norm, x),
            NormPosition::Post => x,
        };
        self.attention.weights(x, self.attention_context(context), context.bias.clone())
    }
}

pub(crate) fn normalized(norm: &Option<Norm>, x: Tensor<3>) -> Tensor<3> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
