//! An encoder of one text and a decoder that writes another.

use super::{
    Input, Pass,
    init::Initializer,
    layers::{
        block::Memory,
        embeddings::Embeddings,
        kv_cache::KvCache,
        mask::{Marks, of_keys},
        moe::Routing,
        output::Output,
        position::Places,
        stack::Stack,
    },
};
use crate::config::ModelConfig;
use burn::{
    module::Module,
    tensor::{Int, Tensor},
};

/// An encoder-decoder transformer (T5).
#[derive(Module, Debug)]
pub struct EncoderDecoder {
    /// Of both texts.
    pub embeddings: Embeddings,
    pub encoder: Stack,
    pub decoder: Stack,
    pub projection: Output,
}

impl EncoderDecoder {
    pub(super) fn build(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self {
            embeddings: Embeddings::init(config, initializer),
            encoder: Stack::encoder(config, initializer),
            decoder: Stack::decoder_beside_encoder(config, initializer),
            projection: Output::init(config, initializer),
        }
    }

    /// What the decoder looks at, and what the encoder's routers decided.
    pub fn encode(&self, input: Input) -> (Memory, Vec<Routing>) {
        let pass = input.pass();
        self.encode_in(input, &pass)
    }

    pub(super) fn encode_in(&self, input: Input, pass: &Pass) -> (Memory, Vec<Routing>) {
        let (places, marks) = (input.places(0), input.marks());
        let x = self.embeddings.forward(input.tokens, input.token_types, &places, pass);
        let (states, routings) = self.encoder.forward(x, &places, &marks, None, None, pass);
        (Memory { states, padding: marks.padding.as_ref().map(of_keys) }, routings)
    }

    /// Tokens `[B, T]` that the decoder has written, the first of them `decoder_start_token` -> logits of
    /// the next ones, `[B, T, vocab_size]`, and what the decoder's routers decided. With a cache, `tokens`
    /// continue those in it.
    pub fn decode(
        &self,
        tokens: Tensor<2, Int>,
        memory: &Memory,
        cache: Option<&mut KvCache>,
    ) -> (Tensor<3>, Vec<Routing>) {
        let pass = Pass::default();
        let (x, routings) = self.decoder_states(tokens, memory, cache, &pass);
        (self.projection.forward(x, &self.embeddings), routings)
    }

    /// The same before the output projection, `[B, T, n_embd]`.
    pub(super) fn decoder_states(
        &self,
        tokens: Tensor<2, Int>,
        memory: &Memory,
        cache: Option<&mut KvCache>,
        pass: &Pass,
    ) -> (Tensor<3>, Vec<Routing>) {
        let [_, time] = tokens.dims();
        let places = Places::Range { offset: cache.as_ref().map_or(0, |cache| cache.len()), time };
        let x = self.embeddings.forward(tokens, None, &places, pass);
        self.decoder.forward(x, &places, &Marks::default(), Some(memory), cache, pass)
    }
}
