//! The shape of the transformer.

use serde::{Deserialize, Serialize};

/// A decoder-only transformer. The defaults are GPT-2's choices at nanoGPT's CPU size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of tokens; 0: as many as the tokenizer has.
    pub vocab_size: usize,
    /// Longest context in tokens.
    pub block_size: usize,
    pub n_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads (grouped-query attention, arXiv:2305.13245); 0: `n_head`.
    pub n_kv_head: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width inside the MLP; 0: 4 × `n_embd`, or 8/3 of it rounded up to a multiple of 16 for gated MLPs.
    pub n_inner: usize,
    pub position: Position,
    /// Which components of a head rotate together.
    pub rope_layout: RopeLayout,
    /// Base of the rotary wavelengths.
    pub rope_theta: f64,
    pub norm: Norm,
    pub norm_position: NormPosition,
    pub norm_eps: f64,
    pub activation: Activation,
    /// Biases in linear layers and LayerNorm.
    pub bias: bool,
    /// Use the token embedding as the output projection.
    pub tie_embeddings: bool,
    /// Probability of zeroing an activation, in training only.
    pub dropout: f64,
    pub init: Init,
    /// Standard deviation of the initial weights.
    pub init_std: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            vocab_size: 0,
            block_size: 64,
            n_layer: 4,
            n_head: 4,
            n_kv_head: 0,
            n_embd: 128,
            n_inner: 0,
            position: Position::Learned,
            rope_layout: RopeLayout::Half,
            rope_theta: 10_000.0,
            norm: Norm::Layernorm,
            norm_position: NormPosition::Pre,
            norm_eps: 1e-5,
            activation: Activation::Gelu,
            bias: false,
            tie_embeddings: true,
            dropout: 0.0,
            init: Init::Gpt2,
            init_std: 0.02,
        }
    }
}

impl ModelConfig {
    /// Key and value heads, resolved.
    pub fn kv_heads(&self) -> usize {
        if self.n_kv_head == 0 { self.n_head } else { self.n_kv_head }
    }

    /// Width of one head.
    pub fn head_size(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Width inside the MLP, resolved.
    pub fn inner_size(&self) -> usize {
        match (self.n_inner, self.activation.is_gated()) {
            // Saturating, since this is asked before sizes are checked.
            (0, false) => self.n_embd.saturating_mul(4),
            (0, true) => self.n_embd.saturating_mul(8).div_ceil(3).next_multiple_of(16),
            (n, _) => n,
        }
    }
}

/// How the model knows where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// A trained vector per position (GPT-2).
    Learned,
    /// Fixed sines and cosines (arXiv:1706.03762).
    Sinusoidal,
    /// Rotation of queries and keys (arXiv:2104.09864).
    Rotary,
}

/// Which components of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopeLayout {
    /// `i` and `i + d/2` (Hugging Face, GPT-NeoX).
    Half,
    /// `2i` and `2i + 1` (the paper, Meta's Llama).
    Interleaved,
}

/// The normalization layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// arXiv:1607.06450
    Layernorm,
    /// arXiv:1910.07467
    Rmsnorm,
}

/// Where a block normalizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormPosition {
    /// `x + f(norm(x))`, with one more norm at the end (GPT-2, Llama).
    Pre,
    /// `norm(x + f(x))` (the original transformer).
    Post,
}

/// The non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    Relu,
    /// Exact, with the error function.
    Gelu,
    /// The tanh approximation (GPT-2's `gelu_new`).
    GeluTanh,
    /// `silu(gate(x)) * up(x)` (arXiv:2002.05202).
    Swiglu,
    /// `gelu_tanh(gate(x)) * up(x)` (arXiv:2002.05202).
    Geglu,
}

impl Activation {
    /// Whether the MLP has a gate projection beside the up projection.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Swiglu | Self::Geglu)
    }
}

/// How weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Normal with `init_std`; projections back into the residual stream divided by √(2·n_layer).
    Gpt2,
    /// Normal with `init_std` everywhere (Hugging Face's Llama).
    Llama,
}
