//! An encoder of one text and a decoder that writes another.

use super::{
    Input,
    decoder::{logit_scale, untied_head},
    init::Initializer,
    layers::{
        block::Memory,
        embeddings::Embeddings,
        kv_cache::KvCache,
        linear::Linear,
        mask::{Marks, of_keys},
        moe::Routing,
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
    /// `[n_embd, vocab_size]`; absent where the embedding serves as output projection.
    pub head: Option<Linear>,
    /// What the output projection's input is multiplied by.
    #[module(skip)]
    logit_scale: f64,
}

impl EncoderDecoder {
    pub(super) fn build(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self {
            embeddings: Embeddings::init(config, initializer),
            encoder: Stack::encoder(config, initializer),
            decoder: Stack::decoder_beside_encoder(config, initializer),
            head: untied_head(config, initializer),
            logit_scale: logit_scale(config),
        }
    }

    /// What the decoder looks at, and what the encoder's routers decided.
    pub fn encode(&self, input: Input) -> (Memory, Vec<Routing>) {
        let (places, marks) = (input.places(0), input.marks());
        let x = self.embeddings.forward(input.tokens, input.token_types, &places);
        let (states, routings) = self.encoder.forward(x, &places, &marks, None, None);
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
        let [_, time] = tokens.dims();
        let places = Places::Range { offset: cache.as_ref().map_or(0, |cache| cache.len()), time };
        let x = self.embeddings.forward(tokens, None, &places);
        let (x, routings) = self.decoder.forward(x, &places, &Marks::default(), Some(memory), cache);
        let x = if self.logit_scale == 1.0 { x } else { x.mul_scalar(self.logit_scale) };
        let logits = match &self.head {
            Some(head) => head.forward(x),
            None => self.embeddings.likeness(x),
        };
        (logits, routings)
    }
}
