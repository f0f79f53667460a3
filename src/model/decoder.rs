//! The decoder-only transformer: embeddings, blocks in which each token sees those before it, output
//! projection.

use super::{
    Input, Pass,
    init::Initializer,
    layers::{embeddings::Embeddings, kv_cache::KvCache, moe::Routing, output::Output, stack::Stack},
};
use crate::{config::ModelConfig, kernels::Mode};
use burn::{
    module::Module,
    tensor::{Device, Int, Tensor},
};

/// A decoder-only transformer (GPT, Llama and what lies between them).
#[derive(Module, Debug)]
pub struct Decoder {
    pub embeddings: Embeddings,
    pub stack: Stack,
    pub projection: Output,
    /// A prompt sees itself whole.
    #[module(skip)]
    prefix_attention: bool,
}

impl Decoder {
    /// A new model with weights drawn from `seed`. Training needs an autodiff device.
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

    /// A prompt, or what follows those already in the cache, as it is read where text is to be continued.
    pub fn prompt(&self, input: Input, cache: &KvCache) -> Input {
        let is_prefix = self.prefix_attention && cache.is_empty();
        let whole = || Tensor::<2, Int>::ones(input.tokens.dims(), &input.tokens.device()).equal_elem(1);
        Input { prefix: is_prefix.then(whole), ..input }
    }

    /// Tokens `[B, T]` -> logits `[B, T, vocab_size]`. With a cache, `tokens` continue those in it.
    ///
    /// Positions beyond `block_size` do not exist: the caller keeps `T` plus the cached tokens
    /// within it.
    pub fn forward(&self, input: impl Into<Input>, cache: Option<&mut KvCache>) -> Tensor<3> {
        self.forward_routed(input, cache).0
    }

    /// The same, with what the router of each layer decided; nothing where there are no experts.
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

    /// The same before the output projection, `[B, T, n_embd]`.
    pub(super) fn states(
        &self,
        input: Input,
        cache: Option<&mut KvCache>,
        pass: &Pass,
    ) -> (Tensor<3>, Vec<Routing>) {
        let places = input.places(cache.as_ref().map_or(0, |cache| cache.len()));
        let marks = input.marks();
        let x = self.embeddings.forward(input.tokens, input.token_types, &places, pass);
        self.stack.forward(x, &places, &marks, None, cache, pass)
    }
}
