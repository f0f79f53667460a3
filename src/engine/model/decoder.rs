//! The decoder-only transformer: embeddings, causal blocks, output projection.

use super::{
    Input, Pass,
    init::Initializer,
    layers::{
        embeddings::Embeddings,
        kv_cache::KvCache,
        moe::Routing,
        output::{Output, Projection},
        stack::Stack,
    },
};
use crate::{config::ModelConfig, kernels::Mode};
use burn::{
    module::Module,
    tensor::{Device, Int, Tensor},
};

/// A decoder-only transformer, such as GPT and Llama.
#[derive(Module, Debug)]
pub struct Decoder {
    pub embeddings: Embeddings,
    pub stack: Stack,
    pub projection: Output,
    /// Whether the tokens of a prompt attend to each other in both directions (prefix attention).
    #[module(skip)]
    prefix_attention: bool,
}

impl Decoder {
    /// Makes a model with weights drawn from `seed`. Training needs an autodiff device.
    pub fn init(config: &ModelConfig, mode: Mode, seed: u64, device: &Device) -> Self {
        Self::build(config, &mut Initializer::new(config, mode, seed, device))
    }

    pub(super) fn build(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self {
            embeddings: Embeddings::init(config, initializer),
            stack: Stack::decoder(config, initializer),
            projection: Output::init(config, initializer),
            prefix_attention: config.attention.prefix,
        }
    }

    /// Prepares an input for generation: with prefix attention, the first input is marked as a prefix.
    pub fn prompt(&self, input: Input, cache: &KvCache) -> Input {
        let is_prefix = self.prefix_attention && cache.is_empty();
        let whole = || Tensor::<2, Int>::ones(input.tokens.dims(), &input.tokens.device()).equal_elem(1);
        Input { prefix: is_prefix.then(whole), ..input }
    }

    /// Computes logits `[B, T, vocab_size]` of tokens `[B, T]`. With a cache, the tokens continue those in
    /// it.
    ///
    /// `T` plus the number of cached tokens must not exceed `block_size`, since there are no positions beyond
    /// it.
    pub fn forward(&self, input: impl Into<Input>, cache: Option<&mut KvCache>) -> Tensor<3> {
        self.forward_routed(input, cache).0
    }

    /// Like [`forward`](Self::forward), and also returns the routing of each layer, which is empty without
    /// experts.
    pub fn forward_routed(
        &self,
        input: impl Into<Input>,
        cache: Option<&mut KvCache>,
    ) -> (Tensor<3>, Vec<Routing>) {
        let input = input.into();
        let pass = input.pass();
        let (x, routings) = self.states(input, cache, &pass);
        (self.projection.forward(x, &self.embeddings), routings)
    }

    /// Output projection of single tokens of `[B, T]`, given by their indices in the B · T tokens. With a cache,
    /// the tokens continue those in it.
    pub(crate) fn project_at(
        &self,
        input: Input,
        cache: Option<&mut KvCache>,
        indices: Tensor<1, Int>,
    ) -> Projection {
        let pass = input.pass();
        let (states, _) = self.states(input, cache, &pass);
        self.projection.project(states, &self.embeddings).select(indices)
    }

    /// Hidden states before the output projection, `[B, T, n_embd]`, and the routing of each layer.
    pub(super) fn states(
        &self,
        input: Input,
        cache: Option<&mut KvCache>,
        pass: &Pass,
    ) -> (Tensor<3>, Vec<Routing>) {
        let positions = input.positions(cache.as_ref().map_or(0, |cache| cache.len()));
        let mask_inputs = input.mask_inputs();
        let x = self.embeddings.forward(input.tokens, input.token_types, &positions, pass);
        self.stack.forward(x, &positions, &mask_inputs, None, cache, pass)
    }
}
