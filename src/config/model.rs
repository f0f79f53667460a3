//! The shape of the transformer.

use crate::kernels::activation::Activation;
use serde::{Deserialize, Serialize};

/// A transformer. The defaults are GPT-2's choices at nanoGPT's CPU size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    pub architecture: Architecture,
    /// What an encoder's last layer gives.
    pub head: Head,
    /// Names of the classes that a classifier tells apart; empty: those of the data.
    pub labels: Vec<String>,
    /// How a classifier of sequences makes one vector of many.
    pub pooling: Pooling,
    /// Number of tokens; 0: as many as the tokenizer has.
    pub vocab_size: usize,
    /// Longest context in tokens.
    pub block_size: usize,
    /// Blocks; with an encoder and a decoder, those of the encoder.
    pub n_layer: usize,
    /// Blocks of the decoder beside an encoder; 0: `n_layer`.
    pub n_decoder_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads (grouped-query attention, arXiv:2305.13245); 0: `n_head`.
    pub n_kv_head: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of one head; 0: `n_embd` / `n_head`.
    pub head_dim: usize,
    /// Width inside the MLP; 0: 4 × `n_embd`, or 8/3 of it rounded up to a multiple of 16 for gated MLPs.
    pub n_inner: usize,
    pub position: Position,
    /// Which components of a head rotate together.
    pub rope_layout: RopeLayout,
    /// Base of the rotary wavelengths.
    pub rope_theta: f64,
    /// How rotary wavelengths are stretched beyond the context that they were made for.
    pub rope_scaling: RopeScaling,
    /// By how much they are stretched.
    pub rope_factor: f64,
    /// Llama 3's scaling: the context that wavelengths were made for.
    pub rope_original_context: usize,
    /// Llama 3's scaling: wavelengths longer than the original context divided by this are stretched whole.
    pub rope_low_freq_factor: f64,
    /// Llama 3's scaling: wavelengths shorter than the original context divided by this are left alone.
    pub rope_high_freq_factor: f64,
    /// Base of the rotary wavelengths in layers with a sliding window; 0: `rope_theta`.
    pub rope_local_theta: f64,
    /// Relative positions: distances that are told apart (T5, arXiv:1910.10683).
    pub relative_buckets: usize,
    /// Relative positions: distances from this on are one.
    pub relative_max_distance: usize,
    /// Tokens, itself included, that a position sees in layers with a sliding window; 0: no window. In
    /// encoders half of it, rounded down, on each side.
    pub sliding_window: usize,
    /// With a sliding window: each so-manieth layer sees everything; 0: none does.
    pub global_every: usize,
    /// With a sliding window: index of the first layer that sees everything.
    pub global_offset: usize,
    /// Let everything up to the mark before the answer (`data.answer_after`), or a prompt, see itself whole
    /// (prefix language model, arXiv:1910.10683).
    pub prefix_attention: bool,
    /// Block-sparse attention: tokens of a block (arXiv:1904.10509, arXiv:2007.14062); 0: attention is not
    /// sparse.
    pub sparse_block: usize,
    /// Block-sparse attention: blocks on each side of its own that a position sees.
    pub sparse_local_blocks: usize,
    /// Block-sparse attention: tokens from the first on that see, and are seen by, all.
    pub sparse_global_tokens: usize,
    /// Multiplies queries times keys; 0: 1 / √(head width).
    pub attention_scale: f64,
    /// Bends attention scores to within ± this (`s·tanh(x/s)`, Gemma 2); 0: does not.
    pub attention_softcap: f64,
    /// Bends logits to within ± this; 0: does not.
    pub logit_softcap: f64,
    /// Normalize each head's queries and keys (Qwen3, arXiv:2302.05442).
    pub qk_norm: bool,
    pub norm: Norm,
    /// Normalize embeddings (BERT).
    pub embedding_norm: bool,
    /// The first block's attention reads embeddings as they are (ModernBERT, which has normalized them).
    pub skip_first_norm: bool,
    pub norm_position: NormPosition,
    pub norm_eps: f64,
    /// Norm weights count from 1: the layer multiplies by 1 + weight (Gemma).
    pub norm_offset: bool,
    pub activation: Activation,
    /// Biases in linear layers and LayerNorm.
    pub bias: bool,
    /// Biases of queries, keys and values even without `bias` (Qwen2).
    pub qkv_bias: bool,
    /// Experts per layer (mixture of experts, arXiv:1701.06538); 0: one plain MLP.
    pub n_experts: usize,
    /// Experts that each token is sent to.
    pub experts_per_token: usize,
    /// Width inside the expert that every token passes too, through a gate of its own (Qwen2-MoE); 0: none.
    pub shared_expert_inner: usize,
    /// Scale the chosen experts' weights to add up to 1.
    pub normalize_experts: bool,
    /// Tokens of a micro-batch that an expert takes at most, as a multiple of an equal share; the rest is
    /// dropped. 0: none is.
    pub expert_capacity: f64,
    /// Weight of the load-balancing loss (arXiv:2101.03961), of each micro-batch for itself.
    pub router_aux_loss: f64,
    /// Weight of the router-z loss (arXiv:2202.08906).
    pub router_z_loss: f64,
    /// Multiply embeddings by √`n_embd` (Gemma).
    pub scale_embeddings: bool,
    /// Kinds of segments that tokens may belong to, each with a trained vector (BERT); 0: none.
    pub token_types: usize,
    /// Use the token embedding as the output projection.
    pub tie_embeddings: bool,
    /// Multiply what the output projection reads by 1 / √`n_embd` (T5 with tied embeddings).
    pub scale_logits: bool,
    /// The token before the first that a decoder beside an encoder writes.
    pub decoder_start_token: usize,
    /// Probability of zeroing an activation, in training only.
    pub dropout: f64,
    pub init: Init,
    /// Standard deviation of the initial weights.
    pub init_std: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::Decoder,
            head: Head::LanguageModel,
            labels: Vec::new(),
            pooling: Pooling::First,
            vocab_size: 0,
            block_size: 64,
            n_layer: 4,
            n_decoder_layer: 0,
            n_head: 4,
            n_kv_head: 0,
            n_embd: 128,
            head_dim: 0,
            n_inner: 0,
            position: Position::Learned,
            rope_layout: RopeLayout::Half,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            rope_factor: 1.0,
            rope_original_context: 0,
            rope_low_freq_factor: 1.0,
            rope_high_freq_factor: 4.0,
            rope_local_theta: 0.0,
            relative_buckets: 32,
            relative_max_distance: 128,
            sliding_window: 0,
            global_every: 0,
            global_offset: 0,
            prefix_attention: false,
            sparse_block: 0,
            sparse_local_blocks: 1,
            sparse_global_tokens: 0,
            attention_scale: 0.0,
            attention_softcap: 0.0,
            logit_softcap: 0.0,
            qk_norm: false,
            norm: Norm::Layernorm,
            embedding_norm: false,
            skip_first_norm: false,
            norm_position: NormPosition::Pre,
            norm_eps: 1e-5,
            norm_offset: false,
            activation: Activation::Gelu,
            bias: false,
            qkv_bias: false,
            n_experts: 0,
            experts_per_token: 2,
            shared_expert_inner: 0,
            normalize_experts: true,
            expert_capacity: 0.0,
            router_aux_loss: 0.0,
            router_z_loss: 0.0,
            scale_embeddings: false,
            token_types: 0,
            tie_embeddings: true,
            scale_logits: false,
            decoder_start_token: 0,
            dropout: 0.0,
            init: Init::Gpt2,
            init_std: 0.02,
        }
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

/// How weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Normal with `init_std`; projections back into the residual stream divided by √(2·n_layer).
    Gpt2,
    /// Normal with `init_std` everywhere (Hugging Face's Llama).
    Llama,
}
