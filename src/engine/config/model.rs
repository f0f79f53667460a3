//! The shape of the transformer.

mod attention;
mod moe;
mod rope;

pub use attention::AttentionConfig;
pub use moe::MoeConfig;
pub use rope::{RopeConfig, RopeLayout, RopeScaling};

use crate::kernels::activation::Activation;
use crate::section::Range;
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// A transformer. The defaults are GPT-2's choices at nanoGPT's CPU size.
    #["model"]
    pub struct ModelConfig {
        /// `decoder` (GPT), `encoder` (BERT) or `encoder-decoder` (T5).
        architecture: Architecture = Architecture::Decoder;
        /// Output of an encoder: `language-model`, `sequence-classification`, `token-classification` or `regression`. A
        /// decoder has `language-model` or `regression`, which is a reward model: one number at the last token.
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
        /// Blocks of the decoder beside an encoder; absent: `n_layer`.
        n_decoder_layer: Option<usize> = None, Range::SIZE;
        /// Query heads.
        n_head: usize = 4, Range::SIZE;
        /// Key and value heads (grouped-query attention, arXiv:2305.13245); absent: `n_head`.
        n_kv_head: Option<usize> = None, Range::SIZE;
        /// Width of the residual stream.
        n_embd: usize = 128, Range::SIZE;
        /// Width of one head; absent: `n_embd` / `n_head`.
        head_dim: Option<usize> = None, Range::SIZE;
        /// Width inside the MLP; absent: 4 × `n_embd`, or 8/3 of it rounded up to a multiple of 16 for gated MLPs.
        n_inner: Option<usize> = None, Range::SIZE;
        /// `learned`, `sinusoidal`, `rotary`, `relative` (T5) or `alibi`.
        position: Position = Position::Learned;
        /// Relative positions: number of distances that are told apart (T5, arXiv:1910.10683).
        relative_buckets: usize = 32;
        /// Relative positions: distances from this on are one.
        relative_max_distance: usize = 128;
        /// Soft limit of logits to within ± this (Gemma 2); absent: no limit.
        logit_softcap: Option<f64> = None, Range::Positive;
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
    sections {
        /// Positions that a token attends to, and computation of the scores.
        attention: AttentionConfig,
        /// Rotary positions.
        rope: RopeConfig,
        /// Experts in the place of the MLP.
        moe: MoeConfig,
    }
}

impl ModelConfig {
    /// Number of decoder blocks beside an encoder; defaults to `n_layer`.
    pub fn decoder_layers(&self) -> usize {
        self.n_decoder_layer.unwrap_or(self.n_layer)
    }

    /// Number of classes of a classifier, 1 for a regression, 0 for a language model.
    pub fn classes(&self) -> usize {
        match self.head {
            Head::LanguageModel => 0,
            Head::Regression => 1,
            Head::SequenceClassification | Head::TokenClassification => self.labels.len(),
        }
    }

    /// Number of outputs at each position: the vocabulary size or the number of classes.
    pub fn outputs(&self) -> usize {
        if self.head == Head::LanguageModel { self.vocab_size } else { self.classes() }
    }

    /// Whether the model generates text, rather than classes or numbers.
    pub fn supports_generation(&self) -> bool {
        self.architecture != Architecture::Encoder && self.head == Head::LanguageModel
    }

    /// Whether the exponential of the loss is a perplexity, as for a language model, whose loss is over its
    /// vocabulary.
    pub fn has_perplexity(&self) -> bool {
        self.head == Head::LanguageModel
    }

    /// Loss in nats if every token or class is given the same probability; `None` for a regression.
    pub fn uniform_loss(&self) -> Option<f64> {
        (self.head != Head::Regression).then(|| (self.outputs() as f64).ln())
    }

    /// Number of key and value heads; defaults to `n_head`.
    pub fn kv_heads(&self) -> usize {
        self.n_kv_head.unwrap_or(self.n_head)
    }

    /// Width of one head; defaults to `n_embd` / `n_head`.
    pub fn head_size(&self) -> usize {
        self.head_dim.unwrap_or(self.n_embd / self.n_head.max(1))
    }

    /// Factor of the attention scores; defaults to 1 / √(head width).
    pub fn score_scale(&self) -> f64 {
        self.attention.scale.unwrap_or_else(|| 1.0 / (self.head_size() as f64).sqrt())
    }

    /// Length in tokens of the longest text that the model reads or generates as a whole. `None` means any
    /// length, because positions only enter as distances. A decoder without an encoder never reads more than
    /// the block size that it was trained with.
    pub fn context_limit(&self) -> Option<usize> {
        let is_by_distance = matches!(self.position, Position::Relative | Position::Alibi);
        (!is_by_distance || self.architecture == Architecture::Decoder).then_some(self.block_size)
    }

    /// Whether the attention of a layer has a sliding window.
    pub fn is_sliding(&self, layer: usize) -> bool {
        let AttentionConfig {
            sliding_window,
            full_attention_every: every,
            full_attention_offset: offset,
            ..
        } = self.attention;
        sliding_window.is_some() && !every.is_some_and(|every| every > 0 && layer % every == offset)
    }

    /// Whether layers hold experts instead of one MLP.
    pub fn has_experts(&self) -> bool {
        self.moe.n_experts > 0
    }

    /// Width inside the MLP, derived from `n_embd` unless `n_inner` is set.
    pub fn inner_size(&self) -> usize {
        match (self.n_inner, self.activation.is_gated()) {
            (Some(inner), _) => inner,
            // Saturating, since this is asked before sizes are checked.
            (None, false) => self.n_embd.saturating_mul(4),
            (None, true) => self.n_embd.saturating_mul(8).div_ceil(3).next_multiple_of(16),
        }
    }
}

/// Stacks of blocks that the model consists of, and the tokens that each attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Each token attends to itself and those before it (GPT, Llama).
    Decoder,
    /// Each token attends to all tokens (BERT).
    Encoder,
    /// A decoder that also attends to an encoder's output for another text (T5).
    EncoderDecoder,
}

/// Output of an encoder, or of a decoder that may also give a text one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// A probability for each token of the vocabulary, at each position.
    LanguageModel,
    /// One class for the whole text.
    SequenceClassification,
    /// One class for each token.
    TokenClassification,
    /// One number for the whole text.
    Regression,
}

/// Ways in which a sequence classifier reduces the vectors of all tokens to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The vector of the first token (BERT's `[CLS]`).
    First,
    /// The mean of all tokens' vectors.
    Mean,
}

/// Ways to encode the positions of tokens.
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

/// Type of the normalization layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// LayerNorm (arXiv:1607.06450).
    Layernorm,
    /// RMSNorm (arXiv:1910.07467).
    Rmsnorm,
}

/// Place of the norms in a block.
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

/// Distribution of the initial weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Normal with standard deviation `init_std`; divided by √(2·n_layer) for projections back into the
    /// residual stream.
    Gpt2,
    /// Normal with standard deviation `init_std` for all weights (Hugging Face's Llama).
    Llama,
}
