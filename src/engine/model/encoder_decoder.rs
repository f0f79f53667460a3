//! The encoder-decoder: an encoder reads one text, and a decoder generates another.

use super::{
    Input, Pass,
    init::Initializer,
    layers::{
        block::Memory,
        embeddings::Embeddings,
        kv_cache::KvCache,
        mask::{MaskInputs, of_keys},
        moe::Routing,
        output::{Output, Projection},
        position::Positions,
        stack::Stack,
    },
};
use crate::{config::ModelConfig, kernels::trace::layer};
use burn::{
    module::Module,
    tensor::{Int, Tensor},
};

/// An encoder-decoder transformer (T5).
#[derive(Module, Debug)]
pub struct EncoderDecoder {
    /// Embeddings of both texts.
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

    /// Encodes tokens to the hidden states that the decoder attends to. Also returns the routing of each
    /// layer of the encoder.
    pub fn encode(&self, input: Input) -> (Memory, Vec<Routing>) {
        let pass = input.pass();
        self.encode_in(input, &pass)
    }

    pub(super) fn encode_in(&self, input: Input, pass: &Pass) -> (Memory, Vec<Routing>) {
        let (positions, mask_inputs) = (input.positions(0), input.mask_inputs());
        let x = self.embeddings.forward(input.tokens, input.token_types, &positions, pass);
        let (states, routings) =
            layer("encoder", None, || self.encoder.forward(x, &positions, &mask_inputs, None, None, pass));
        (Memory { states, padding: mask_inputs.padding.as_ref().map(of_keys) }, routings)
    }

    /// Computes logits `[B, T, vocab_size]` of the next tokens after the generated tokens `[B, T]`, the first
    /// of which is `decoder_start_token`. Also returns the routing of each layer of the decoder. With a
    /// cache, `tokens` continue those in it.
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

    /// Output projection of single tokens of the decoder, given by their indices in the B · T tokens.
    pub(crate) fn project_at(
        &self,
        tokens: Tensor<2, Int>,
        memory: &Memory,
        indices: Tensor<1, Int>,
    ) -> Projection {
        let (states, _) = self.decoder_states(tokens, memory, None, &Pass::default());
        self.projection.project(states, &self.embeddings).select(indices)
    }

    /// Hidden states of the decoder before the output projection, `[B, T, n_embd]`.
    pub(super) fn decoder_states(
        &self,
        tokens: Tensor<2, Int>,
        memory: &Memory,
        cache: Option<&mut KvCache>,
        pass: &Pass,
    ) -> (Tensor<3>, Vec<Routing>) {
        let [_, time] = tokens.dims();
        let positions = Positions::Range { offset: cache.as_ref().map_or(0, |cache| cache.len()), time };
        let x = self.embeddings.forward(tokens, None, &positions, pass);
        let mask_inputs = MaskInputs::default();
        layer("decoder", None, || {
            self.decoder.forward(x, &positions, &mask_inputs, Some(memory), cache, pass)
        })
    }
}
