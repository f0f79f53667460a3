//! Multi-head and grouped-query attention (arXiv:1706.03762, arXiv:2305.13245).
//!
//! Shape suffixes: B batch, T query positions, S key positions, H query heads, G key/value heads,
//! R = H / G query heads per key/value head, D head width, E width of the residual stream.
#![allow(non_snake_case)]

use super::{kv_cache::KvCache, linear::Linear, norm::Norm, position::Rotation};
use crate::{config::ModelConfig, model::init::Initializer};
use burn::{
    module::Module,
    nn::{Dropout, DropoutConfig},
    tensor::{Bool, Tensor, activation::softmax},
};

/// Self-attention of one block.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[E, (H + 2G) * D]`: the columns of all queries, then keys, then values.
    pub qkv: Linear,
    /// `[H * D, E]`
    pub output: Linear,
    /// `[D]`, where queries and keys are normalized.
    pub query_norm: Option<Norm>,
    pub key_norm: Option<Norm>,
    mix: Mix,
}

/// What the layers of a forward pass share.
#[derive(Clone, Default)]
pub struct Context {
    pub(crate) global: View,
    /// For layers with a sliding window.
    pub(crate) local: View,
    /// Added to scores, `[1, H, T, S]`.
    pub(crate) bias: Option<Tensor<4>>,
}

/// Where tokens stand and what they see.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub rotation: Option<Rotation>,
    /// True where a query must not look, broadcastable to `[B, 1, T, S]`.
    pub hidden: Option<Tensor<4, Bool>>,
}

impl Attention {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let (heads, kv_heads, head_size) = (config.n_head, config.kv_heads(), config.head_size());
        let (std, residual_std) = (initializer.std, initializer.residual_std);
        let qkv_size = (heads + 2 * kv_heads) * head_size;
        Self {
            qkv: Linear::init([config.n_embd, qkv_size], config.bias || config.qkv_bias, std, initializer),
            output: Linear::init([heads * head_size, config.n_embd], config.bias, residual_std, initializer),
            query_norm: config.qk_norm.then(|| Norm::of_width(head_size, config, initializer)),
            key_norm: config.qk_norm.then(|| Norm::of_width(head_size, config, initializer)),
            mix: Mix::init(config),
        }
    }

    /// `[B, T, E]` -> `[B, T, E]`. With a cache (and this layer's index in it), S counts the cached tokens
    /// too.
    pub(crate) fn forward(
        &self,
        x_BTE: Tensor<3>,
        view: &View,
        bias: Option<Tensor<4>>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let (weights_BHTS, v_BGSD) = self.attend(x_BTE, view, bias, cache);
        self.output.forward(self.mix.values(weights_BHTS, v_BGSD))
    }

    /// How much each query looks at each key, `[B, H, T, S]` with rows that add up to 1, and the
    /// values `[B, G, S, D]`. Arguments as for [`forward`](Self::forward).
    pub(crate) fn attend(
        &self,
        x_BTE: Tensor<3>,
        view: &View,
        bias: Option<Tensor<4>>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> (Tensor<4>, Tensor<4>) {
        let (heads, groups) = (self.mix.heads, self.mix.kv_heads);
        let qkv = self.qkv.forward(x_BTE);
        let mut q_BHTD = self.mix.part(&qkv, 0, heads);
        let mut k_BGSD = self.mix.part(&qkv, heads, groups);
        let mut v_BGSD = self.mix.part(&qkv, heads + groups, groups);
        if let (Some(query_norm), Some(key_norm)) = (&self.query_norm, &self.key_norm) {
            q_BHTD = query_norm.forward(q_BHTD);
            k_BGSD = key_norm.forward(k_BGSD);
        }
        if let Some(rotation) = &view.rotation {
            q_BHTD = rotation.apply(q_BHTD);
            k_BGSD = rotation.apply(k_BGSD);
        }
        if let Some((cache, layer)) = cache {
            (k_BGSD, v_BGSD) = cache.append(layer, k_BGSD, v_BGSD);
        }
        (self.mix.weights(q_BHTD, k_BGSD, bias, view.hidden.clone()), v_BGSD)
    }
}

/// Attention of a decoder's block over what an encoder made of another text.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// `[E, H * D]`
    pub query: Linear,
    /// `[E, 2G * D]`: the columns of all keys, then values.
    pub key_value: Linear,
    /// `[H * D, E]`
    pub output: Linear,
    mix: Mix,
}

impl CrossAttention {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let (heads, kv_heads, head_size) = (config.n_head, config.kv_heads(), config.head_size());
        let (std, residual_std) = (initializer.std, initializer.residual_std);
        let qkv_bias = config.bias || config.qkv_bias;
        let mut linear = |sizes, bias, std| Linear::init(sizes, bias, std, initializer);
        Self {
            query: linear([config.n_embd, heads * head_size], qkv_bias, std),
            key_value: linear([config.n_embd, 2 * kv_heads * head_size], qkv_bias, std),
            output: linear([heads * head_size, config.n_embd], config.bias, residual_std),
            mix: Mix::init(config),
        }
    }

    /// Queries of `[B, T, E]` over `memory`, `[B, S, E]`, of which `padding`, `[B, 1, 1, S]`, is not seen.
    /// Keys and values are made once: a cache keeps them.
    pub(crate) fn forward(
        &self,
        x_BTE: Tensor<3>,
        memory_BSE: &Tensor<3>,
        padding: Option<Tensor<4, Bool>>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let groups = self.mix.kv_heads;
        let q_BHTD = self.mix.part(&self.query.forward(x_BTE), 0, self.mix.heads);
        let key_value = || {
            let both = self.key_value.forward(memory_BSE.clone());
            (self.mix.part(&both, 0, groups), self.mix.part(&both, groups, groups))
        };
        let (k_BGSD, v_BGSD) = match cache {
            Some((cache, layer)) => cache.of_memory(layer, key_value),
            None => key_value(),
        };
        let weights_BHTS = self.mix.weights(q_BHTD, k_BGSD, None, padding);
        self.output.forward(self.mix.values(weights_BHTS, v_BGSD))
    }
}

/// Scores, weights and weighted values: what self-attention and cross-attention have in common.
#[derive(Module, Debug)]
struct Mix {
    dropout: Dropout,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kv_heads: usize,
    #[module(skip)]
    head_size: usize,
    #[module(skip)]
    scale: f64,
    /// 0: none.
    #[module(skip)]
    softcap: f64,
}

impl Mix {
    fn init(config: &ModelConfig) -> Self {
        Self {
            dropout: DropoutConfig::new(config.dropout).init(),
            heads: config.n_head,
            kv_heads: config.kv_heads(),
            head_size: config.head_size(),
            scale: config.score_scale(),
            softcap: config.attention_softcap,
        }
    }

    /// So many heads of a projection, from one on: `[B, T, .. D]` -> `[B, heads, T, D]`
    fn part(&self, projected: &Tensor<3>, start: usize, heads: usize) -> Tensor<4> {
        let ([batch, time, _], size) = (projected.dims(), self.head_size);
        let part: Tensor<4> =
            projected.clone().narrow(2, start * size, heads * size).reshape([batch, time, heads, size]);
        part.swap_dims(1, 2)
    }

    /// `[B, H, T, S]`
    fn weights(
        &self,
        q_BHTD: Tensor<4>,
        k_BGSD: Tensor<4>,
        bias: Option<Tensor<4>>,
        hidden: Option<Tensor<4, Bool>>,
    ) -> Tensor<4> {
        let [batch, heads, time, size] = q_BHTD.dims();
        let [_, groups, seen, _] = k_BGSD.dims();
        // Query heads that share a key head are stacked along the rows of one matrix product.
        let q = q_BHTD.mul_scalar(self.scale).reshape([batch, groups, heads / groups * time, size]);
        let scores = q.matmul(k_BGSD.swap_dims(2, 3)); // [B, G, R T, S]
        let mut scores_BHTS: Tensor<4> = scores.reshape([batch, heads, time, seen]);
        if self.softcap > 0.0 {
            scores_BHTS = softcap(scores_BHTS, self.softcap);
        }
        if let Some(bias) = bias {
            scores_BHTS = scores_BHTS + bias;
        }
        if let Some(hidden) = hidden {
            // Finite, so that a row in which everything is hidden stays finite too.
            scores_BHTS = scores_BHTS.mask_fill(hidden.expand([batch, heads, time, seen]), -1e30);
        }
        softmax(scores_BHTS, 3)
    }

    /// The weighted values of all heads side by side, `[B, T, H * D]`.
    fn values(&self, weights_BHTS: Tensor<4>, v_BGSD: Tensor<4>) -> Tensor<3> {
        let [batch, heads, time, seen] = weights_BHTS.dims();
        let [_, groups, _, size] = v_BGSD.dims();
        let weights = self.dropout.forward(weights_BHTS);
        let mixed = weights.reshape([batch, groups, heads / groups * time, seen]).matmul(v_BGSD); // [B, G, R T, D]
        let mixed: Tensor<4> = mixed.reshape([batch, heads, time, size]).swap_dims(1, 2); // [B, T, H, D]
        mixed.reshape([batch, time, heads * size])
    }
}

/// Bends values to within ± `limit` (Gemma 2, arXiv:2408.00118).
pub(crate) fn softcap<const D: usize>(x: Tensor<D>, limit: f64) -> Tensor<D> {
    x.div_scalar(limit).tanh().mul_scalar(limit)
}
