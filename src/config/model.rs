//! The shape of the transformer.

use super::section::{Range, section};
use serde::{Deserialize, Serialize};

section! {
    /// A transformer. The defaults are GPT-2's choices at nanoGPT's CPU size.
    #["model"]
    pub struct ModelConfig {
        /// `decoder` (GPT), `encoder` (BERT) or `encoder-decoder` (T5).
        architecture: Architecture = Architecture::Decoder;
        /// Output of an encoder: `language-model`, `sequence-classification`, `token-classification` or `regression`.
        head: Head = Head::LanguageModel;
        /// Names of the classes of a classifier; empty: those of the data.
        labels: Vec<String> = Vec::new();
        /// A classifier of sequences reads the `first` token's vector or the `mean` of all.
        pooling: Pooling = Pooling::First;
        /// Number of tokens; 0: as many as the tokenizer has.
        vocab_size: usize = 0, Range::COUNT;
        /// Longest context in tokens.
        block_size: usize = 64, Range::SIZE;
        /// Blocks; with an encoder and a decoder, those of the encoder.
        n_layer: usize = 4, Range::SIZE;
        /// Blocks of the decoder beside an encoder; 0: `n_layer`.
        n_decoder_layer: usize = 0, Range::COUNT;
        /// Query heads.
        n_head: usize = 4, Range::SIZE;
        /// Key and value heads (grouped-query attention, arXiv:2305.13245); 0: `n_head`.
        n_kv_head: usize = 0, Range::COUNT;
        /// Width of the residual stream.
        n_embd: usize = 128, Range::SIZE;
        /// Width of one head; 0: `n_embd` / `n_head`.
        head_dim: usize = 0, Range::COUNT;
        /// Width inside the MLP; 0: 4 × `n_embd`, or 8/3 of it rounded up to a multiple of 16 for gated MLPs.
        n_inner: usize = 0, Range::COUNT;
        /// `learned`, `sinusoidal`, `rotary`, `relative` (T5) or `alibi`.
        position: Position = Position::Learned;
        /// Components of a head that rotate together: `half` (Hugging Face) or `interleaved` (Meta).
        rope_layout: RopeLayout = RopeLayout::Half;
        /// Base of the rotary wavelengths.
        rope_theta: f64 = 10_000.0, Range::Positive;
        /// Stretching of rotary wavelengths beyond the context that they were made for: `none`, `linear` or `llama3`.
        rope_scaling: RopeScaling = RopeScaling::None;
        /// Factor by which rotary wavelengths are stretched.
        rope_factor: f64 = 1.0, Range::Positive;
        /// Llama 3's scaling: the context that wavelengths were made for.
        rope_original_context: usize = 0;
        /// Llama 3's scaling: wavelengths longer than the original context divided by this are stretched whole.
        rope_low_freq_factor: f64 = 1.0, Range::Positive;
        /// Llama 3's scaling: wavelengths shorter than the original context divided by this are left alone.
        rope_high_freq_factor: f64 = 4.0, Range::Positive;
        /// Base of the rotary wavelengths in layers with a sliding window; 0: `rope_theta`.
        rope_local_theta: f64 = 0.0, Range::FromZero;
        /// Relative positions: number of distances that are told apart (T5, arXiv:1910.10683).
        relative_buckets: usize = 32;
        /// Relative positions: distances from this on are one.
        relative_max_distance: usize = 128;
        /// Tokens, itself included, that a position attends to in layers with a sliding window; 0: no window. In
        /// encoders half of it, rounded down, on each side.
        sliding_window: usize = 0;
        /// With a sliding window, one in so many layers attends to everything; 0: none does.
        global_every: usize = 0;
        /// With a sliding window, the index of the first layer that attends to everything.
        global_offset: usize = 0;
        /// Let the text before the answer (`data.answer_after`), or a prompt, attend to all of itself (prefix
        /// language model, arXiv:1910.10683).
        prefix_attention: bool = false;
        /// Block-sparse attention: tokens of a block (arXiv:1904.10509, arXiv:2007.14062); 0: attention is not
        /// sparse.
        sparse_block: usize = 0, Range::COUNT;
        /// Block-sparse attention: blocks on each side of its own that a position attends to.
        sparse_local_blocks: usize = 1, Range::COUNT;
        /// Block-sparse attention: first tokens that attend to all and that all attend to.
        sparse_global_tokens: usize = 0, Range::COUNT;
        /// Factor of queries times keys; 0: 1 / √(head width).
        attention_scale: f64 = 0.0, Range::FromZero;
        /// Soft limit of attention scores to within ± this (`s·tanh(x/s)`, Gemma 2); 0: none.
        attention_softcap: f64 = 0.0, Range::FromZero;
        /// Soft limit of logits to within ± this (Gemma 2); 0: none.
        logit_softcap: f64 = 0.0, Range::FromZero;
        /// Normalize each head's queries and keys (Qwen3, arXiv:2302.05442).
        qk_norm: bool = false;
        /// `layernorm` or `rmsnorm`.
        norm: Norm = Norm::Layernorm;
        /// Normalize embeddings (BERT).
        embedding_norm: bool = false;
        /// The first block's attention reads embeddings as they are (ModernBERT, which has normalized them).
        skip_first_norm: bool = false;
        /// Place of a block's norms: `pre` (GPT-2, Llama), `post` (the original transformer) or `both` (Gemma 2).
        norm_position: NormPosition = NormPosition::Pre;
        /// Added to the variance before its root.
        norm_eps: f64 = 1e-5, Range::Positive;
        /// Norm weights count from 1: the layer multiplies by 1 + weight (Gemma).
        norm_offset: bool = false;
        /// `relu`, `gelu`, `gelu-tanh`, or gated: `swiglu`, `geglu`, `geglu-exact`.
        activation: Activation = Activation::Gelu;
        /// Biases in linear layers and LayerNorm.
        bias: bool = false;
        /// Biases of queries, keys and values even without `bias` (Qwen2).
        qkv_bias: bool = false;
        /// Experts per layer (mixture of experts, arXiv:1701.06538); 0: one plain MLP.
        n_experts: usize = 0, Range::COUNT;
        /// Experts that each token is sent to.
        experts_per_token: usize = 2;
        /// Width inside the expert that every token passes too, through a gate of its own (Qwen2-MoE); 0: none.
        shared_expert_inner: usize = 0, Range::COUNT;
        /// Scale the chosen experts' weights to add up to 1.
        normalize_experts: bool = true;
        /// Tokens of a micro-batch that an expert takes at most, as a multiple of an equal share; the rest is
        /// dropped. 0: any number.
        expert_capacity: f64 = 0.0, Range::FromZero;
        /// Weight of the load-balancing loss (arXiv:2101.03961), of each micro-batch for itself.
        router_aux_loss: f64 = 0.0, Range::FromZero;
        /// Weight of the router-z loss (arXiv:2202.08906).
        router_z_loss: f64 = 0.0, Range::FromZero;
        /// Multiply embeddings by √`n_embd` (Gemma).
        scale_embeddings: bool = false;
        /// Kinds of segments that tokens may belong to, each with a trained vector (BERT); 0: none.
        token_types: usize = 0, Range::COUNT;
        /// Use the token embedding as the output projection.
        tie_embeddings: bool = true;
        /// Multiply the input of the output projection by 1 / √`n_embd` (T5 with tied embeddings).
        scale_logits: bool = false;
        /// Token that a decoder beside an encoder begins with.
        decoder_start_token: usize = 0;
        /// Probability of zeroing an activation, in training only.
        dropout: f64 = 0.0, Range::Share;
        /// Initial weights: `gpt2` (projections into the residual stream smaller) or `llama` (all alike).
        init: Init = Init::Gpt2;
        /// Standard deviation of the initial weights.
        init_std: f64 = 0.02, Range::Positive;
    }
}

impl ModelConfig {
    /// Blocks of the decoder beside an encoder, resolved.
    pub fn decoder_layers(&self) -> usize {
        if self.n_decoder_layer == 0 { self.n_layer } else { self.n_decoder_layer }
    }

    /// What a classifier tells apart, or the one number of a regression; 0 for a language model.
    pub fn classes(&self) -> usize {
        match self.head {
            Head::LanguageModel => 0,
            Head::Regression => 1,
            Head::SequenceClassification | Head::TokenClassification => self.labels.len(),
        }
    }

    /// What the model tells apart: tokens or classes.
    pub fn outputs(&self) -> usize {
        if self.head == Head::LanguageModel { self.vocab_size } else { self.classes() }
    }

    /// Whether `exp` of a loss is a perplexity: of a language model, whose loss is over its vocabulary.
    pub fn has_perplexity(&self) -> bool {
        self.head == Head::LanguageModel
    }

    /// Loss of giving every token or class the same probability, in nats; a regression has none.
    pub fn uniform_loss(&self) -> Option<f64> {
        (self.head != Head::Regression).then(|| (self.outputs() as f64).ln())
    }

    /// Key and value heads, resolved.
    pub fn kv_heads(&self) -> usize {
        if self.n_kv_head == 0 { self.n_head } else { self.n_kv_head }
    }

    /// Width of one head, resolved.
    pub fn head_size(&self) -> usize {
        if self.head_dim == 0 { self.n_embd / self.n_head.max(1) } else { self.head_dim }
    }

    /// What multiplies queries times keys, resolved.
    pub fn score_scale(&self) -> f64 {
        if self.attention_scale == 0.0 {
            1.0 / (self.head_size() as f64).sqrt()
        } else {
            self.attention_scale
        }
    }

    /// Longest text in tokens that the model reads or generates without forgetting any of it; `None`: any
    /// length, because positions enter only as distances. A decoder without an encoder never reads more
    /// than the block that it was trained on.
    pub fn context_limit(&self) -> Option<usize> {
        let is_by_distance = matches!(self.position, Position::Relative | Position::Alibi);
        (!is_by_distance || self.architecture == Architecture::Decoder).then_some(self.block_size)
    }

    /// Whether the attention of a layer reaches no further back than the sliding window.
    pub fn slides(&self, layer: usize) -> bool {
        let global = self.global_every > 0 && layer % self.global_every == self.global_offset;
        self.sliding_window > 0 && !global
    }

    /// Whether layers hold experts instead of one MLP.
    pub fn has_experts(&self) -> bool {
        self.n_experts > 0
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

/// Which stacks of blocks there are, and what sees what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Each token sees those before it (GPT, Llama).
    Decoder,
    /// Each token sees all (BERT).
    Encoder,
    /// A decoder that also sees what an encoder made of another text (T5).
    EncoderDecoder,
}

/// What an encoder's last layer gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// The probability of each token of the vocabulary at each position.
    LanguageModel,
    /// One class for the whole text.
    SequenceClassification,
    /// One class for each token.
    TokenClassification,
    /// One number for the whole text.
    Regression,
}

/// How a classifier of sequences makes one vector of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// That of the first token (BERT's `[CLS]`).
    First,
    /// The mean over all tokens.
    Mean,
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
    /// A trained bias of each head for each distance, the same in all layers (T5, arXiv:1910.10683).
    Relative,
    /// A fixed bias of each head that grows with the distance (arXiv:2108.12409).
    Alibi,
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

/// How rotary wavelengths are stretched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RopeScaling {
    None,
    /// All of them alike (arXiv:2306.15595).
    Linear,
    /// Long ones whole, short ones not at all, those between in part (Llama 3.1).
    Llama3,
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
    /// `x + norm(f(norm(x)))`, with one more norm at the end (Gemma 2).
    Both,
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
    /// The same with the exact non-linearity (ModernBERT).
    GegluExact,
}

impl Activation {
    /// Whether the MLP has a gate projection beside the up projection.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Swiglu | Self::Geglu | Self::GegluExact)
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
