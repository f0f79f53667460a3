//! The decoder-only transformer: embeddings, blocks of attention and MLP, output projection.

use super::{
    init::Initializer,
    layers::{
        attention::Attention,
        kv_cache::KvCache,
        linear::Linear,
        mlp::Mlp,
        norm::Norm,
        position::{Rope, sinusoidal_table},
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
}

/// What a forward pass reads.
pub struct DecoderInput {
    /// `[B, T]`
    pub tokens: Tensor<2, Int>,
    /// `[B, T]`, true for padding that nobody may attend to.
    pub padding: Option<Tensor<2, Bool>>,
}

impl From<Tensor<2, Int>> for DecoderInput {
    fn from(tokens: Tensor<2, Int>) -> Self {
        Self { tokens, padding: None }
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
            blocks: (0..config.n_layer).map(|_| Block::init(config, initializer)).collect(),
            norm: (config.norm_position == NormPosition::Pre).then(|| Norm::init(config, initializer)),
            head: (!config.tie_embeddings)
                .then(|| Linear::init([config.n_embd, config.vocab_size], false, std, initializer)),
        }
    }

    /// Tokens `[B, T]` -> logits `[B, T, vocab_size]`. With a cache, `tokens` continue those in it.
    ///
    /// Positions beyond `block_size` do not exist: the caller keeps `T` plus the cached tokens
    /// within it.
    pub fn forward(&self, input: impl Into<DecoderInput>, mut cache: Option<&mut KvCache>) -> Tensor<3> {
        let DecoderInput { tokens, padding } = input.into();
        let [_, time] = tokens.dims();
        let offset = cache.as_ref().map_or(0, |cache| cache.len());
        let device = tokens.device();

        let mut x = self.embed(tokens, offset);
        let hidden = hidden_positions(time, offset, padding, &device);
        for (layer, block) in self.blocks.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, layer));
            x = block.forward(x, self.rope.as_ref(), hidden.clone(), cache);
        }
        if let Some(cache) = cache {
            cache.advance(time);
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        match &self.head {
            Some(head) => head.forward(x),
            None => linear(x, self.embedding.val().transpose(), None),
        }
    }

    /// How much each position of tokens `[1, T]` looks at each other one in block `layer`,
    /// `[H, T, T]`; for looking at, without dropout or autodiff (`Module::valid`).
    pub fn attention_weights(&self, tokens: Tensor<2, Int>, layer: usize) -> Tensor<3> {
        let [_, time] = tokens.dims();
        let hidden = hidden_positions(time, 0, None, &tokens.device());
        let mut x = self.embed(tokens, 0);
        for block in &self.blocks[..layer] {
            x = block.forward(x, self.rope.as_ref(), hidden.clone(), None);
        }
        let block = &self.blocks[layer];
        let x = match block.norm_position {
            NormPosition::Pre => block.attention_norm.forward(x),
            NormPosition::Post => x,
        };
        block.attention.attend(x, self.rope.as_ref(), hidden, None).0.squeeze_dim(0)
    }

    /// Tokens `[B, T]`, the first of which stands at position `offset` -> `[B, T, E]`.
    fn embed(&self, tokens: Tensor<2, Int>, offset: usize) -> Tensor<3> {
        let [_, time] = tokens.dims();
        let mut x = embedding(self.embedding.val(), tokens); // [B, T, E]
        let positions = self.position.as_ref().map(|table| table.val()).or_else(|| self.sinusoidal.clone());
        if let Some(table) = positions {
            x = x + table.narrow(0, offset, time).unsqueeze(); // + [1, T, E]
        }
        self.dropout.forward(x)
    }
}

/// True where query `offset + t` must not look: later positions and padding. `[1 or B, 1, T, S]`;
/// `None` where nothing is hidden.
fn hidden_positions(
    time: usize,
    offset: usize,
    padding: Option<Tensor<2, Bool>>,
    device: &Device,
) -> Option<Tensor<4, Bool>> {
    let seen = offset + time;
    let future = (time > 1).then(|| {
        // True strictly above the diagonal that lets query t see key offset + t.
        let kept = Tensor::<2, Bool>::tril_mask([time, seen], offset as i64, device);
        kept.unsqueeze::<4>()
    });
    let padding = padding.map(|padding| {
        let [batch, keys] = padding.dims();
        padding.reshape([batch, 1, 1, keys])
    });
    match (future, padding) {
        (Some(future), Some(padding)) => {
            let [batch, _, _, keys] = padding.dims();
            let shape = [batch, 1, time, keys];
            Some(future.expand(shape).bool_or(padding.expand(shape)))
        }
        (future, padding) => future.or(padding),
    }
}

/// Attention and MLP, each with a norm and a residual connection.
#[derive(Module, Debug)]
pub struct Block {
    pub attention_norm: Norm,
    pub attention: Attention,
    pub mlp_norm: Norm,
    pub mlp: Mlp,
    dropout: Dropout,
    #[module(skip)]
    norm_position: NormPosition,
}

impl Block {
    fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        Self {
            attention_norm: Norm::init(config, initializer),
            attention: Attention::init(config, initializer),
            mlp_norm: Norm::init(config, initializer),
            mlp: Mlp::init(config, initializer),
            dropout: DropoutConfig::new(config.dropout).init(),
            norm_position: config.norm_position,
        }
    }

    /// `[B, T, E]` -> `[B, T, E]`
    fn forward(
        &self,
        x: Tensor<3>,
        rope: Option<&Rope>,
        hidden: Option<Tensor<4, Bool>>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let attention = |x| self.dropout.forward(self.attention.forward(x, rope, hidden, cache));
        let mlp = |x| self.dropout.forward(self.mlp.forward(x));
        match self.norm_position {
            NormPosition::Pre => {
                let x = x.clone() + attention(self.attention_norm.forward(x));
                x.clone() + mlp(self.mlp_norm.forward(x))
            }
            NormPosition::Post => {
                let x = self.attention_norm.forward(x.clone() + attention(x));
                self.mlp_norm.forward(x.clone() + mlp(x))
            }
        }
    }
}
