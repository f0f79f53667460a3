//! The configuration of a run: one serde tree with a default for every key, read from TOML, changed
//! by `key=value` overrides ([`overrides`]), started from a named preset ([`presets`]) and checked
//! once ([`validate`]) before anything is built. Keys take nanoGPT's names where it has one.
//!
//! `kiln config show` prints the resolved tree; every checkpoint carries it as `kiln.toml`.

mod model;
pub mod overrides;
pub mod presets;
mod train;
mod validate;

pub use crate::kernels::activation::Activation;
pub use model::{
    Architecture, Head, Init, ModelConfig, Norm, NormPosition, Pooling, Position, RopeLayout, RopeScaling,
};
pub use train::{OnNonFinite, OptimizerKind, ScheduleKind, TrainConfig};

use crate::kernels::Mode;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything that decides what a run computes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(type = "Record<string, Record<string, unknown>>"))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub data: DataConfig,
    pub tokenizer: TokenizerConfig,
    pub model: ModelConfig,
    pub objective: ObjectiveConfig,
    pub train: TrainConfig,
    pub sample: SampleConfig,
    pub kernels: KernelConfig,
}

/// How operations are computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KernelConfig {
    /// By Kiln's own fused kernels, where there are some, instead of Burn's operations one by one.
    pub fused: bool,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self { fused: true }
    }
}

impl KernelConfig {
    pub fn mode(&self) -> Mode {
        if self.fused { Mode::Fused } else { Mode::Reference }
    }
}

impl Config {
    /// How rows are cut from the tokens: a text that has an answer is a row.
    pub fn layout(&self) -> Layout {
        let has_answers = !(self.data.label_field.is_empty() && self.data.target_field.is_empty());
        if has_answers { Layout::Documents } else { self.data.layout }
    }
}

/// What a model is to learn of a text, beside which the architecture and the head decide: a decoder its
/// next token, an encoder its hidden tokens or its class, an encoder with a decoder another text or what
/// was cut out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Share of the tokens that are hidden (BERT) or cut out (T5).
    pub mask_fraction: f64,
    /// Hide words with all their tokens.
    pub whole_words: bool,
    /// Mean length, in tokens, of what is cut out.
    pub mean_span_length: f64,
    /// Share of the probability that a target leaves to all tokens evenly.
    pub label_smoothing: f64,
    /// Weight of the square of the logarithm of what probabilities are divided by.
    pub z_loss: f64,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            mask_fraction: 0.15,
            whole_words: false,
            mean_span_length: 3.0,
            label_smoothing: 0.0,
            z_loss: 0.0,
        }
    }
}

/// Where the tokens come from and in which order they are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Text, JSON lines, JSON and CSV files, token shards (`.bin`) or folders of them. Empty: the embedded corpus.
    pub paths: Vec<PathBuf>,
    /// A procedural task to train on instead of text.
    pub task: Task,
    /// In each row only what follows this text counts as target; empty: everything. Documents that have nothing
    /// behind it within a row are left out. Needs `layout = "documents"`, and a tokenizer that has a token for
    /// exactly this text.
    pub answer_after: String,
    /// Share of the tokens, from the end, that is held out for validation. Ignored where the data
    /// brings its own split (`train.bin` and `val.bin` in one folder).
    pub val_fraction: f64,
    /// How rows are cut from the tokens.
    pub layout: Layout,
    /// In which order rows are read.
    pub order: Order,
    /// Replace invalid UTF-8 by U+FFFD instead of refusing the file.
    pub lossy: bool,
    /// The field of a record, or the column of a table, that holds the text.
    pub text_field: String,
    /// The field that holds the class of the text, the list of classes of its words (the text is then a
    /// list of words), or the number that a regression is to give.
    pub label_field: String,
    /// The field that holds the text that an encoder with a decoder is to write.
    pub target_field: String,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            task: Task::None,
            answer_after: String::new(),
            val_fraction: 0.1,
            layout: Layout::Stream,
            order: Order::Random,
            lossy: false,
            text_field: "text".into(),
            label_field: String::new(),
            target_field: String::new(),
        }
    }
}

/// The procedural tasks (`data/tasks.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "TaskName"))]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    None,
    Copy,
    Reverse,
    Sort,
    Addition,
    ModularAddition,
    Parity,
    Dyck,
    TwoSum,
}

/// How rows of `block_size` tokens are cut from the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// All documents end to end; a row may begin and end anywhere (nanoGPT).
    Stream,
    /// One document a row, cut or padded to the block; padding has no loss.
    Documents,
}

/// In which order rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Rows drawn independently, with replacement (nanoGPT).
    Random,
    /// Every row once per epoch, shuffled anew each epoch.
    Shuffled,
}

/// Which tokenizer turns text into tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    pub kind: TokenizerKind,
    /// Number of tokens that a byte-level BPE is trained to (`kind = "bpe"`).
    pub vocab_size: usize,
    /// The `tokenizer.json` to load (`kind = "file"`).
    pub path: Option<PathBuf>,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { kind: TokenizerKind::Char, vocab_size: 1024, path: None }
    }
}

/// The kinds of tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// One token per character that the text contains.
    Char,
    /// One token per byte: 256 tokens, any text.
    Byte,
    /// Byte-level byte-pair encoding, trained on the text.
    Bpe,
    /// A `tokenizer.json` that exists.
    File,
}

/// How text is continued; also the arguments of `kiln generate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// Text to continue. Empty: a line break, or the tokenizer's first token.
    pub prompt: String,
    /// Number of tokens to add.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 takes the most likely token each time.
    pub temperature: f64,
    /// Keep only the k most likely tokens; 0: all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose probability reaches p; 1: all.
    pub top_p: f64,
    /// Drop tokens less likely than this share of the most likely one; 0: none.
    pub min_p: f64,
    /// Divides the logits of tokens that already occurred (CTRL, arXiv:1909.05858); 1: none.
    pub repetition_penalty: f64,
    /// Candidates of beam search, which takes the most likely text instead of drawing; 1: none.
    pub num_beams: usize,
    /// Beam search compares log-probabilities over length to this power: above 0 favours long text.
    pub length_penalty: f64,
    /// Text at which to stop; it is not part of the result.
    pub stop: Vec<String>,
    pub seed: u64,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            max_new_tokens: 200,
            temperature: 0.8,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            num_beams: 1,
            length_penalty: 1.0,
            stop: Vec::new(),
            seed: 1337,
        }
    }
}
