//! Multi-head and grouped-query attention (arXiv:1706.03762, arXiv:2305.13245).
//!
//! Shape suffixes: B batch, T query positions, S key positions, H query heads, G key/value heads,
//! R = H / G query heads per key/value head, D head width, E width of the residual stream.
#![allow(non_snake_case)]

use super::{kv_cache::KvCache, linear::Linear, norm::Norm, position::Rotation};
use crate::{
    config::ModelConfig,
    kernels::{
        Mode,
        attention::{self, AttentionSpec, Projected, Window},
        linear::Prologue,
        precision::reduced,
        trace::layer,
    },
    model::{Pass, init::Initializer},
};
use burn::{
    module::Module,
    tensor::{Bool, Int, Tensor},
};

/// Self-attention of one block.
#[derive(Module, Debug)]
pub struct Attention {
    /// Projection to queries, keys and values, `[E, (H + 2G) * D]`: the columns of all queries, then keys,
    /// then values.
    pub qkv: Linear,
    /// Projection of the attention output, `[H * D, E]`.
    pub output: Linear,
    /// Norm of each query head, `[D]`; `None` if queries and keys are not normalized.
    pub query_norm: Option<Norm>,
    pub key_norm: Option<Norm>,
    layout: HeadLayout,
}

/// Attention context that the layers of a forward pass share.
#[derive(Clone)]
pub struct StackContext {
    pub(crate) global: AttentionContext,
    /// Context of layers with a sliding window.
    pub(crate) local: Option<AttentionContext>,
    /// Bias that is added to the scores, `[1, H, T, S]`.
    pub(crate) bias: Option<Tensor<4>>,
}

impl StackContext {
    /// The context without the bias, which is the only part that gradients flow through.
    pub(super) fn without_bias(&self) -> Self {
        Self { global: self.global.clone(), local: self.local.clone(), bias: None }
    }

    pub(super) fn with_bias(self, bias: Option<Tensor<4>>) -> Self {
        Self { bias, ..self }
    }
}

/// Positions, window and mask of a layer's tokens.
#[derive(Clone)]
pub(crate) struct AttentionContext {
    pub rotation: Option<Rotation>,
    pub window: Window,
    /// Mask, `[1 or B, 1, T or 1, S]`, true where a query must not attend to a key in its window.
    pub mask: Option<Tensor<4, Bool>>,
    /// Number of each token's document, `[B, T]`, if rows are packed and the mask does not separate them.
    pub documents: Option<Tensor<2, Int>>,
}

impl Attention {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let (heads, kv_heads, head_size) = (config.n_head, config.kv_heads(), config.head_size());
        let (std, residual_std) = (initializer.std, initializer.residual_std);
        // Saturating, since parameters are counted before sizes are checked.
        let query_size = heads.saturating_mul(head_size);
        let qkv_size = query_size.saturating_add(kv_heads.saturating_mul(head_size).saturating_mul(2));
        Self {
            qkv: Linear::init(
                [config.n_embd, qkv_size],
                config.bias || config.attention.qkv_bias,
                std,
                initializer,
            ),
            output: Linear::init([query_size, config.n_embd], config.bias, residual_std, initializer),
            query_norm: config.attention.qk_norm.then(|| Norm::of_width(head_size, config, initializer)),
            key_norm: config.attention.qk_norm.then(|| Norm::of_width(head_size, config, initializer)),
            layout: HeadLayout::init(config, initializer.mode),
        }
    }

    /// Computes attention of `x`, `[B, T, E]` -> `[B, T, E]`, and adds `residual` if given. With a cache,
    /// given with this layer's index in it, keys include the cached tokens.
    pub(crate) fn forward(
        &self,
        x_BTE: impl Into<Prologue<3>>,
        attention_context: &AttentionContext,
        bias: Option<Tensor<4>>,
        cache: Option<(&mut KvCache, usize)>,
        residual: Option<Tensor<3>>,
        pass: &Pass,
    ) -> Tensor<3> {
        let qkv = self.project(x_BTE, attention_context, pass);
        let spec = self.layout.spec(attention_context.window, pass);
        let mask = attention_context.mask.clone();
        let values_BTE = match (cache, bias) {
            (None, None) => {
                let documents = attention_context.documents.clone();
                attention::attention(Projected::Together(qkv), mask, documents, spec, self.layout.mode)
            }
            (cache, bias) => {
                let (q_BHTD, mut k_BGSD, mut v_BGSD) = self.heads(&qkv, spec);
                if let Some((cache, layer)) = cache {
                    let [k_new, v_new] = [k_BGSD, v_BGSD].map(|x| reduced(x, spec.precision));
                    (k_BGSD, v_BGSD) = cache.append(layer, k_new, v_new);
                }
                match bias {
                    None => attention::cached(q_BHTD, k_BGSD, v_BGSD, mask, spec, self.layout.mode),
                    bias => attention::reference(q_BHTD, k_BGSD, v_BGSD, bias, mask, spec),
                }
            }
        };
        layer("output", None, || self.output.forward_onto(values_BTE, residual, pass))
    }

    /// Attention weights of each query over the keys, `[B, H, T, S]`, where S = T; each row sums to 1.
    pub(crate) fn weights(
        &self,
        x_BTE: Tensor<3>,
        attention_context: &AttentionContext,
        bias: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let pass = &Pass::default();
        let qkv = self.project(x_BTE, attention_context, pass);
        let spec = self.layout.spec(attention_context.window, pass);
        let (q_BHTD, k_BGSD, _) = self.heads(&qkv, spec);
        let [_, _, time, _] = q_BHTD.dims();
        let mask = attention::window_mask(
            attention_context.mask.clone(),
            [time, time],
            attention_context.window,
            &qkv,
        );
        attention::weights(q_BHTD, k_BGSD, bias, mask, spec)
    }

    /// Projects to queries, keys and values, `[B, T, (H + 2G) * D]`, then normalizes and rotates queries and
    /// keys.
    fn project(
        &self,
        x_BTE: impl Into<Prologue<3>>,
        attention_context: &AttentionContext,
        pass: &Pass,
    ) -> Tensor<3> {
        let mut qkv = layer("qkv", None, || self.qkv.forward_onto(x_BTE, None, pass));
        let (heads, groups) = (self.layout.heads, self.layout.kv_heads);
        if let (Some(query_norm), Some(key_norm)) = (&self.query_norm, &self.key_norm) {
            let ([batch, time, width], size) = (qkv.dims(), self.layout.head_size);
            let normalized = |norm: &Norm, start, heads| {
                let part: Tensor<4> =
                    qkv.clone().narrow(2, start * size, heads * size).reshape([batch, time, heads, size]);
                norm.forward(part).reshape([batch, time, heads * size])
            };
            let (q, k) = (normalized(query_norm, 0, heads), normalized(key_norm, heads, groups));
            let start = (heads + groups) * size;
            qkv = Tensor::cat(vec![q, k, qkv.narrow(2, start, width - start)], 2);
        }
        match &attention_context.rotation {
            Some(rotation) => rotation.apply(qkv, heads + groups),
            None => qkv,
        }
    }

    /// Splits a projection into queries `[B, H, T, D]`, keys `[B, G, T, D]` and values `[B, G, T, D]`.
    fn heads(&self, qkv: &Tensor<3>, spec: AttentionSpec) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let (heads, groups) = (self.layout.heads, self.layout.kv_heads);
        let part = |start, heads| attention::part(qkv, start, heads, spec);
        (part(0, heads), part(heads, groups), part(heads + groups, groups))
    }
}

/// Attention of a decoder block over the hidden states of an encoder.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// Projection to queries, `[E, H * D]`.
    pub query: Linear,
    /// Projection to keys and values, `[E, 2G * D]`: the columns of all keys, then values.
    pub key_value: Linear,
    /// Projection of the attention output, `[H * D, E]`.
    pub output: Linear,
    layout: HeadLayout,
}

impl CrossAttention {
    pub(crate) fn init(config: &ModelConfig, initializer: &mut Initializer) -> Self {
        let (heads, kv_heads, head_size) = (config.n_head, config.kv_heads(), config.head_size());
        let (std, residual_std) = (initializer.std, initializer.residual_std);
        let qkv_bias = config.bias || config.attention.qkv_bias;
        let query_size = heads.saturating_mul(head_size);
        let key_value_size = kv_heads.saturating_mul(head_size).saturating_mul(2);
        let mut linear = |sizes, bias, std| Linear::init(sizes, bias, std, initializer);
        Self {
            query: linear([config.n_embd, query_size], qkv_bias, std),
            key_value: linear([config.n_embd, key_value_size], qkv_bias, std),
            output: linear([query_size, config.n_embd], config.bias, residual_std),
            layout: HeadLayout::init(config, initializer.mode),
        }
    }

    /// Computes attention of `x`, `[B, T, E]`, over `memory`, `[B, S, E]`, and adds `residual` if given.
    /// `padding`, `[B, 1, 1, S]`, is true for masked positions of the memory. A cache stores the keys and
    /// values.
    pub(crate) fn forward(
        &self,
        x_BTE: impl Into<Prologue<3>>,
        memory_BSE: &Tensor<3>,
        padding: Option<Tensor<4, Bool>>,
        cache: Option<(&mut KvCache, usize)>,
        residual: Option<Tensor<3>>,
        pass: &Pass,
    ) -> Tensor<3> {
        let spec = self.layout.spec(Window::FULL, pass);
        let query = layer("query", None, || self.query.forward_onto(x_BTE, None, pass));
        let key_value =
            || layer("key_value", None, || self.key_value.forward_onto(memory_BSE.clone(), None, pass));
        let values_BTE = match cache {
            None => {
                let projected = Projected::Apart(query, key_value());
                attention::attention(projected, padding, None, spec, self.layout.mode)
            }
            Some((cache, layer)) => {
                let groups = self.layout.kv_heads;
                let (k_BGSD, v_BGSD) = cache.of_memory(layer, || {
                    let both = reduced(key_value(), spec.precision);
                    (attention::part(&both, 0, groups, spec), attention::part(&both, groups, groups, spec))
                });
                let q_BHTD = attention::part(&query, 0, self.layout.heads, spec);
                attention::cached(q_BHTD, k_BGSD, v_BGSD, padding, spec, self.layout.mode)
            }
        };
        layer("output", None, || self.output.forward_onto(values_BTE, residual, pass))
    }
}

/// Head layout and settings that self-attention and cross-attention share.
#[derive(Module, Debug)]
struct HeadLayout {
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kv_heads: usize,
    #[module(skip)]
    head_size: usize,
    #[module(skip)]
    scale: f64,
    /// Soft cap of the scores; 0 disables it.
    #[module(skip)]
    softcap: f64,
    #[module(skip)]
    mode: Mode,
}

impl HeadLayout {
    fn init(config: &ModelConfig, mode: Mode) -> Self {
        Self {
            dropout: config.dropout,
            heads: config.n_head,
            kv_heads: config.kv_heads(),
            head_size: config.head_size(),
            scale: config.score_scale(),
            softcap: config.attention.softcap.unwrap_or(0.0),
            mode,
        }
    }

    fn spec(&self, window: Window, pass: &Pass) -> AttentionSpec {
        AttentionSpec {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_size: self.head_size,
            scale: self.scale as f32,
            softcap: self.softcap as f32,
            window,
            dropout: pass.dropout(self.dropout),
            precision: self.mode.precision,
        }
    }
}
