//! The decoder-only transformer: embeddings, blocks in which each token sees those before it, output
//! projection.

use super::{
    Input,
    init::Initializer,
    layers::{
        attention::softcap, embeddings::Embeddings, kv_cache::KvCache, linear::Linear, moe::Routing,
        stack::Stack,
    },
};
use crate::config::ModelConfig;
use burn::{
    module::Module,
    tensor::{Device, Int, Tensor},
};

/// A decoder-only transformer (GPT, Llama and what lies between them).
#[derive(Module, Debug)]
pub struct Decoder {
    pub embeddings: Embeddings,
    pub stack: Stack,
    /// `[n_embd, vocab_size]`; absent where the embedding serves as output projection.
    pub head: Option<Linear>,
    /// 0: none.
    #[module(skip)]
    logit_softcap: f64,
    /// What the output projection's input is multiplied by.
    #[module(skip)]
    logit_scale: f64,
    /// A prompt sees itself whole.
    #[module(skip)]
    prefix_attention: bool,
}

impl Decoder {
    /// A new model with weights drawn from `seed`. Training needs an autodiff device.
    pub fn init(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        Self::build(config, &mut Initializer::new(config, seed, device))
    }

    pub(super) fn build(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self {
            embeddings: Embeddings::init(config, initializer),
            stack: Stack::decoder(config, initializer),
            head: untied_head(config, initializer),
            logit_softcap: config.logit_softcap,
            logit_scale: logit_scale(config),
            prefix_attention: config.prefix_attention,
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
        let places = input.places(cache.as_ref().map_or(0, |cache| cache.len()));
        let marks = input.marks();
        let x = self.embeddings.forward(input.tokens, input.token_types, &places);
        let (x, routings) = self.stack.forward(x, &places, &marks, None, cache);
        let x = if self.logit_scale == 1.0 { x } else { x.mul_scalar(self.logit_scale) };
        let logits = match &self.head {
            Some(head) => head.forward(x),
            None => self.embeddings.likeness(x),
        };
        let limit = self.logit_softcap;
        (if limit > 0.0 { softcap(logits, limit) } else { logits }, routings)
    }
}

/// The output projection where the embedding does not serve as one.
pub(super) fn untied_head(config: &ModelConfig, initializer: &mut Initializer) -> Option<Linear> {
    let sizes = [config.n_embd, config.vocab_size];
    (!config.tie_embeddings).then(|| Linear::init(sizes, false, config.init_std, initializer))
}

/// What the output projection's input is multiplied by.
pub(super) fn logit_scale(config: &ModelConfig) -> f64 {
    if config.scale_logits { 1.0 / (config.n_embd as f64).sqrt() } else { 1.0 }
}
