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

/// What the layers of a forward pass share.
#[derive(Clone, Default)]
pub struct Context {
    pub rotation: Option<Rotation>,
    /// True where a query must not look, broadcastable to `[B, 1, T, S]`.
    pub hidden: Option<Tensor<4, Bool>>,
    /// The same for layers with a sliding window.
    pub hidden_by_window: Option<Tensor<4, Bool>>,
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
            dropout: DropoutConfig::new(config.dropout).init(),
            heads,
            kv_heads,
            head_size,
            scale: config.score_scale(),
            softcap: config.attention_softcap,
        }
    }

    /// `[B, T, E]` -> `[B, T, E]`. `hidden` is true where a query must not look, broadcastable to
    /// `[B, 1, T, S]`. With a cache (and this layer's index in it), S counts the cached tokens too.
    pub fn forward(
        &self,
        x_BTE: Tensor<3>,
        rotation: Option<&Rotation>,
        hidden: Option<Tensor<4, Bool>>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let [batch, time, _] = x_BTE.dims();
        let (heads, groups, size) = (self.heads, self.kv_heads, self.head_size);
        let (weights_BHTS, v_BGSD) = self.attend(x_BTE, rotation, hidden, cache);
        let seen = v_BGSD.dims()[2];
        let weights = self.dropout.forward(weights_BHTS);
        let mixed = weights.reshape([batch, groups, heads / groups * time, seen]).matmul(v_BGSD); // [B, G, R T, D]
        let mixed: Tensor<4> = mixed.reshape([batch, heads, time, size]).swap_dims(1, 2); // [B, T, H, D]
        self.output.forward(mixed.reshape([batch, time, heads * size]))
    }

    /// How much each query looks at each key, `[B, H, T, S]` with rows that add up to 1, and the
    /// values `[B, G, S, D]`. Arguments as for [`forward`](Self::forward).
    pub(crate) fn attend(
        &self,
        x_BTE: Tensor<3>,
        rotation: Option<&Rotation>,
        hidden: Option<Tensor<4, Bool>>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> (Tensor<4>, Tensor<4>) {
        let [batch, time, _] = x_BTE.dims();
        let (heads, groups, size) = (self.heads, self.kv_heads, self.head_size);
        let repeats = heads / groups;
        let qkv = self.qkv.forward(x_BTE);
        let part = |start: usize, heads: usize| -> Tensor<4> {
            // [B, T, (H + 2G) D] -> [B, T, heads, D] -> [B, heads, T, D]
            qkv.clone()
                .narrow(2, start * size, heads * size)
                .reshape([batch, time, heads, size])
                .swap_dims(1, 2)
        };
        let mut q_BHTD = part(0, heads);
        let mut k_BGSD = part(heads, groups);
        let mut v_BGSD = part(heads + groups, groups);
        if let (Some(query_norm), Some(key_norm)) = (&self.query_norm, &self.key_norm) {
            q_BHTD = query_norm.forward(q_BHTD);
            k_BGSD = key_norm.forward(k_BGSD);
        }
        if let Some(rotation) = rotation {
            q_BHTD = rotation.apply(q_BHTD);
            k_BGSD = rotation.apply(k_BGSD);
        }
        if let Some((cache, layer)) = cache {
            (k_BGSD, v_BGSD) = cache.append(layer, k_BGSD, v_BGSD);
        }
        let seen = k_BGSD.dims()[2];

        // Query heads that share a key head are stacked along the rows of one matrix product.
        let q = q_BHTD.mul_scalar(self.scale).reshape([batch, groups, repeats * time, size]);
        let scores = q.matmul(k_BGSD.swap_dims(2, 3)); // [B, G, R T, S]
        let mut scores_BHTS: Tensor<4> = scores.reshape([batch, heads, time, seen]);
        if self.softcap > 0.0 {
            scores_BHTS = softcap(scores_BHTS, self.softcap);
        }
        if let Some(hidden) = hidden {
            // Finite, so that a row in which everything is hidden stays finite too.
            scores_BHTS = scores_BHTS.mask_fill(hidden.expand([batch, heads, time, seen]), -1e30);
        }
        (softmax(scores_BHTS, 3), v_BGSD)
    }
}

/// Bends values to within ± `limit` (Gemma 2, arXiv:2408.00118).
pub(crate) fn softcap<const D: usize>(x: Tensor<D>, limit: f64) -> Tensor<D> {
    x.div_scalar(limit).tanh().mul_scalar(limit)
}
