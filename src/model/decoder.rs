//! The decoder-only transformer: embeddings, blocks of attention and MLP, output projection.

use super::{
    init::Initializer,
    layers::{
        attention::{Context, softcap},
        block::Block,
        kv_cache::KvCache,
        linear::Linear,
        moe::Routing,
        norm::Norm,
        position::{Places, Rope, sinusoidal_table},
    },
};
use crate::config::{Init, ModelConfig, NormPosition, Position};
use burn::{
    module::{Module, Param},
    nn::{Dropout, DropoutConfig},
    tensor::{
        Bool, Device, Int, Tensor,
        module::{embedding, linear},
    },
};

/// A decoder-only transformer (GPT, Llama and what lies between them).
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocab_size, n_embd]`
    pub embedding: Param<Tensor<2>>,
    /// `[block_size, n_embd]`, trained positions only.
    pub position: Option<Param<Tensor<2>>>,
    sinusoidal: Option<Tensor<2>>,
    rope: Option<Rope>,
    dropout: Dropout,
    pub blocks: Vec<Block>,
    /// Absent where blocks normalize last.
    pub norm: Option<Norm>,
    /// `[n_embd, vocab_size]`; absent where the embedding serves as output projection.
    pub head: Option<Linear>,
    /// 0: none.
    #[module(skip)]
    sliding_window: usize,
    /// What embeddings are multiplied by.
    #[module(skip)]
    embedding_scale: f64,
    /// 0: none.
    #[module(skip)]
    logit_softcap: f64,
}

/// What a forward pass reads.
pub struct DecoderInput {
    /// `[B, T]`
    pub tokens: Tensor<2, Int>,
    /// `[B, S]`, true for padding that nobody may attend to; S counts cached tokens too.
    pub padding: Option<Tensor<2, Bool>>,
    /// `[B, T]`: where each token stands; `None`: one after another, after those in the cache.
    pub positions: Option<Tensor<2, Int>>,
}

impl From<Tensor<2, Int>> for DecoderInput {
    fn from(tokens: Tensor<2, Int>) -> Self {
        Self { tokens, padding: None, positions: None }
    }
}

impl Decoder {
    /// A new model with weights drawn from `seed`. Training needs an autodiff device.
    pub fn init(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let residual_std = match config.init {
            Init::Gpt2 => config.init_std / (2.0 * config.n_layer as f64).sqrt(),
            Init::Llama => config.init_std,
        };
        Self::build(config, &mut Initializer::new(seed, config.init_std, residual_std, device))
    }

    /// A model to load weights into: parameters have their shapes, and take no memory before they are
    /// replaced or used.
    pub fn unloaded(config: &ModelConfig, device: &Device) -> Self {
        Self::build(config, &mut Initializer::deferred(device))
    }

    fn build(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let table = [config.vocab_size, config.n_embd];
        let std = config.init_std;
        Self {
            embedding: initializer.normal(table, std),
            position: (config.position == Position::Learned)
                .then(|| initializer.normal([config.block_size, config.n_embd], std)),
            sinusoidal: (config.position == Position::Sinusoidal)
                .then(|| sinusoidal_table(config, initializer)),
            rope: (config.position == Position::Rotary).then(|| Rope::init(config, initializer)),
            dropout: DropoutConfig::new(config.dropout).init(),
            blocks: (0..config.n_layer).map(|layer| Block::init(config, layer, initializer)).collect(),
            norm: (config.norm_position != NormPosition::Post).then(|| Norm::init(config, initializer)),
            head: (!config.tie_embeddings)
                .then(|| Linear::init([config.n_embd, config.vocab_size], false, std, initializer)),
            sliding_window: config.sliding_window,
            embedding_scale: if config.scale_embeddings { (config.n_embd as f64).sqrt() } else { 1.0 },
            logit_softcap: config.logit_softcap,
        }
    }

    /// Tokens `[B, T]` -> logits `[B, T, vocab_size]`. With a cache, `tokens` continue those in it.
    ///
    /// Positions beyond `block_size` do not exist: the caller keeps `T` plus the cached tokens
    /// within it.
    pub fn forward(&self, input: impl Into<DecoderInput>, cache: Option<&mut KvCache>) -> Tensor<3> {
        self.forward_routed(input, cache).0
    }

    /// The same, with what the router of each layer decided; nothing where there are no experts.
    pub fn forward_routed(
        &self,
        input: impl Into<DecoderInput>,
        mut cache: Option<&mut KvCache>,
    ) -> (Tensor<3>, Vec<Routing>) {
        let input = input.into();
        let [_, time] = input.tokens.dims();
        let offset = cache.as_ref().map_or(0, |cache| cache.len());
        let (mut x, context) = self.enter(input, offset);
        let mut routings = Vec::new();
        for (layer, block) in self.blocks.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, layer));
            let routing;
            (x, routing) = block.forward(x, &context, cache);
            routings.extend(routing);
        }
        if let Some(cache) = cache {
            cache.advance(time);
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        let logits = match &self.head {
            Some(head) => head.forward(x),
            None => linear(x, self.embedding.val().transpose(), None),
        };
        let limit = self.logit_softcap;
        (if limit > 0.0 { softcap(logits, limit) } else { logits }, routings)
    }

    /// How much each position of tokens `[1, T]` looks at each other one in block `layer`,
    /// `[H, T, T]`; for looking at, without dropout or autodiff (`Module::valid`).
    pub fn attention_weights(&self, tokens: Tensor<2, Int>, layer: usize) -> Tensor<3> {
        let (mut x, context) = self.enter(tokens.into(), 0);
        for block in &self.blocks[..layer] {
            x = block.forward(x, &context, None).0;
        }
        let block = &self.blocks[layer];
        let x = match block.norm_position {
            NormPosition::Pre | NormPosition::Both => block.attention_norm.forward(x),
            NormPosition::Post => x,
        };
        let hidden = block.hidden(&context);
        block.attention.attend(x, context.rotation.as_ref(), hidden, None).0.squeeze_dim(0)
    }

    /// What the first block reads, `[B, T, E]`, and what all blocks share. The first token stands at
    /// `offset` unless the input says otherwise.
    fn enter(&self, input: DecoderInput, offset: usize) -> (Tensor<3>, Context) {
        let DecoderInput { tokens, padding, positions } = input;
        let [_, time] = tokens.dims();
        let device = tokens.device();
        let places = positions.map_or(Places::Range { offset, time }, Places::Each);
        let window = self.sliding_window;
        let context = Context {
            rotation: self.rope.as_ref().map(|rope| rope.at(&places)),
            hidden: hidden_positions(time, offset, 0, padding.clone(), &device),
            hidden_by_window: if window > 0 {
                hidden_positions(time, offset, window, padding, &device)
            } else {
                None
            },
        };
        let mut x = embedding(self.embedding.val(), tokens); // [B, T, E]
        if self.embedding_scale != 1.0 {
            x = x.mul_scalar(self.embedding_scale);
        }
        let table = self.position.as_ref().map(|table| table.val()).or_else(|| self.sinusoidal.clone());
        if let Some(table) = table {
            x = x + places.rows_of(table); // + [1 or B, T, E]
        }
        (self.dropout.forward(x), context)
    }
}

/// True where query `offset + t` must not look: later positions, those that a window (if not 0) does
/// not reach, and padding. `[1 or B, 1, T, S]`; `None` where nothing is hidden.
fn hidden_positions(
    time: usize,
    offset: usize,
    window: usize,
    padding: Option<Tensor<2, Bool>>,
    device: &Device,
) -> Option<Tensor<4, Bool>> {
    let seen = offset + time;
    let mut hidden: Option<Tensor<4, Bool>> = None;
    let mut hide = |more: Tensor<4, Bool>| {
        hidden = Some(match hidden.take() {
            None => more,
            Some(hidden) => hidden.bool_or(more),
        });
    };
    if time > 1 {
        // True strictly above the diagonal that lets query t see key offset + t.
        hide(Tensor::<2, Bool>::tril_mask([time, seen], offset as i64, device).unsqueeze());
    }
    if window > 0 && seen > window {
        // True strictly below the diagonal of the furthest key in reach.
        let furthest = offset as i64 - window as i64 + 1;
        hide(Tensor::<2, Bool>::triu_mask([time, seen], furthest, device).unsqueeze());
    }
    if let Some(padding) = padding {
        let [batch, keys] = padding.dims();
        let shape = [batch, 1, time, keys];
        let padding = padding.reshape([batch, 1, 1, keys]);
        hidden = Some(match hidden {
            None => padding,
            Some(hidden) => hidden.expand(shape).bool_or(padding.expand(shape)),
        });
    }
    hidden
}
