//! The blocks of an encoder or a decoder, with their positions, masks and final norm.

use super::{
    attention::{AttentionContext, StackContext},
    block::{Block, Memory, normalized},
    kv_cache::KvCache,
    mask::{Mask, MaskInputs},
    moe::Routing,
    norm::Norm,
    position::{Bias, Positions, Rope},
    recompute,
};
use crate::{
    config::{ModelConfig, NormPosition, Position, Recompute},
    kernels::{
        Mode,
        attention::{Window, document_mask, union, window_mask},
        trace::layer,
    },
    model::{Pass, init::Initializer},
};
use burn::{module::Module, tensor::Tensor};

/// A sequence of blocks.
#[derive(Module, Debug)]
pub struct Stack {
    rope: Option<Rope>,
    /// Rotary embedding of layers with a sliding window, if it differs.
    local_rope: Option<Rope>,
    /// Bias of attention scores by distance.
    pub distance_bias: Option<Bias>,
    pub blocks: Vec<Block>,
    /// Final norm; `None` if blocks end with a norm.
    pub norm: Option<Norm>,
    #[module(skip)]
    mask: Mask,
    /// Blocks that are computed again in the backward pass; set from outside.
    #[module(skip)]
    pub(crate) recompute: Recompute,
    #[module(skip)]
    mode: Mode,
}

impl Stack {
    /// Makes the stack of an encoder.
    pub(crate) fn encoder(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self::init(config, config.n_layer, false, false, initializer)
    }

    /// Makes the stack of a decoder-only model.
    pub(crate) fn decoder(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self::init(config, config.n_layer, true, false, initializer)
    }

    /// Makes the stack of a decoder beside an encoder, with cross-attention.
    pub(crate) fn decoder_beside_encoder(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self::init(config, config.decoder_layers(), true, true, initializer)
    }

    fn init(
        config: &ModelConfig,
        layers: usize,
        causal: bool,
        has_cross_attention: bool,
        initializer: &mut Initializer,
    ) -> Self {
        let mask = Mask::init(config, causal);
        let rotary = config.position == Position::Rotary;
        let local_theta = config.rope.local_theta.filter(|_| rotary && mask.has_window());
        Self {
            rope: rotary.then(|| Rope::init(config, config.rope.theta, initializer)).flatten(),
            local_rope: local_theta.and_then(|theta| Rope::init(config, theta, initializer)),
            distance_bias: Bias::init(config, causal, initializer),
            blocks: (0..layers)
                .map(|layer| Block::init(config, layer, has_cross_attention, initializer))
                .collect(),
            norm: (config.norm_position != NormPosition::Post).then(|| Norm::init(config, initializer)),
            mask,
            recompute: Recompute::None,
            mode: initializer.mode,
        }
    }

    /// Computes hidden states of embeddings, `[B, T, E]` -> `[B, T, E]`. Also returns the routing of each
    /// layer, which is empty without experts. With a cache, the tokens continue those in it.
    pub(crate) fn forward(
        &self,
        mut x: Tensor<3>,
        positions: &Positions,
        mask_inputs: &MaskInputs,
        memory: Option<&Memory>,
        mut cache: Option<&mut KvCache>,
        pass: &Pass,
    ) -> (Tensor<3>, Vec<Routing>) {
        let [_, time, _] = x.dims();
        let offset = cache.as_ref().map_or(0, |cache| cache.len());
        let context = self.context(&x, offset, positions, mask_inputs);
        let mut routings = Vec::new();
        for (number, block) in self.blocks.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, number));
            let routing;
            (x, routing) = layer("blocks", Some(number), || match self.recompute.part_of(number) {
                Some(part) if cache.is_none() && x.is_autodiff() => {
                    recompute::forward(part, block, x, &context, memory, pass, self.mode)
                }
                _ => block.forward(x, &context, memory, cache, pass),
            });
            routings.extend(routing);
        }
        if let Some(cache) = cache {
            cache.advance(time);
        }
        (normalized(&self.norm, x), routings)
    }

    /// Attention weights of block `layer` for embeddings `[1, T, E]`, `[H, T, T]`.
    pub(crate) fn attention_weights(
        &self,
        mut x: Tensor<3>,
        positions: &Positions,
        mask_inputs: &MaskInputs,
        layer: usize,
        pass: &Pass,
    ) -> Tensor<3> {
        let context = self.context(&x, 0, positions, mask_inputs);
        for block in &self.blocks[..layer] {
            x = block.forward(x, &context, None, None, pass).0;
        }
        self.blocks[layer].attention_weights(x, &context).squeeze_dim(0)
    }

    /// Makes the attention context of all blocks, where `offset` tokens are in the cache.
    pub(crate) fn context(
        &self,
        x: &Tensor<3>,
        offset: usize,
        positions: &Positions,
        mask_inputs: &MaskInputs,
    ) -> StackContext {
        let ([_, time, _], device) = (x.dims(), x.device());
        // Kernels apply window and documents themselves; otherwise they are part of one mask for all layers.
        let is_unfused = !self.mode.fuses(x) || self.distance_bias.is_some();
        let attention_context = |rope: &Option<Rope>, in_window| {
            let (mut window, mut mask) = self.mask.build_mask(time, offset, in_window, mask_inputs, &device);
            let mut documents = mask_inputs.documents.clone();
            if is_unfused {
                mask = window_mask(mask, [time, offset + time], window, x);
                let other_documents = documents.take().map(|documents| document_mask(&documents));
                mask = mask.into_iter().chain(other_documents).reduce(union);
                window = Window::FULL;
            }
            let rotation = rope.as_ref().map(|rope| rope.at(positions));
            AttentionContext { rotation, window, mask, documents }
        };
        let local = self.mask.has_window().then(|| {
            let rope = if self.local_rope.is_some() { &self.local_rope } else { &self.rope };
            attention_context(rope, true)
        });
        StackContext {
            global: attention_context(&self.rope, false),
            local,
            bias: self.distance_bias.as_ref().map(|bias| bias.at(time, offset, &device)),
        }
    }
}
