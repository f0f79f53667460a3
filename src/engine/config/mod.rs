//! The configuration of a run: one serde tree with a default for every key, read from TOML, changed
//! by `key=value` overrides ([`overrides`]), started from a named preset ([`presets`]) and checked
//! once ([`validate`]) before anything is built. Keys take nanoGPT's names where it has one.
//!
//! `kiln config show` prints the resolved tree; every checkpoint carries it as `kiln.toml`.

mod adapter;
mod canary;
mod chat;
mod distill;
mod model;
mod objective;
mod optimizer;
pub mod overrides;
mod preference;
pub mod presets;
mod pruning;
mod recompute;
mod resolve;
mod reward;
mod rollout;
mod train;
mod validate;

pub use crate::kernels::{Precision, activation::Activation};
pub use adapter::{ALL_LINEAR, AdapterConfig, AdapterKind};
pub use canary::{CanaryConfig, PLACEHOLDER, SecretFormat};
pub use chat::{ChatConfig, OnBadRow};
pub use distill::{DistillConfig, TopK};
pub use model::{
    Architecture, AttentionConfig, Head, Init, ModelConfig, MoeConfig, Norm, NormPosition, Pooling, Position,
    RopeConfig, RopeLayout, RopeScaling,
};
pub use objective::{ObjectiveConfig, ObjectiveKind};
pub use optimizer::{AdafactorConfig, LossScaleConfig, LossScaling, MuonScale, Nesterov, Offload};
pub use preference::{PreferenceConfig, PreferenceLoss};
pub use pruning::{PruningConfig, PruningScope};
pub use recompute::{PartOfBlock, Recompute};
pub use reward::RewardConfig;
pub use rollout::{
    AdvantageScale, GrpoConfig, KlEstimator, Normalization, OnBadAnswer, PolicyLossKind, PpoConfig,
    RatioLevel, RewardKind, RewardTerm, RolloutConfig, ScorePosition, ValueKind,
};
pub use train::{OnNonFinite, OptimizerKind, ScheduleKind, TrainConfig};

pub use crate::{
    section::{Key, Range},
    tokenizer::{TokenizerConfig, TokenizerKind},
};
pub use kiln_chat::{Format, LossOn, SampleKind, Truncation};
pub use resolve::RunData;

use crate::kernels::Mode;
use crate::section::Section;
use kiln_base::section;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::LazyLock};

section! {
    /// Everything that decides what a run computes.
    #[""]
    #[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(type = "Record<string, Record<string, unknown>>"))]
    pub struct Config {}
    sections {
        /// The text to train on.
        data: DataConfig,
        /// Dialogues as text.
        chat: ChatConfig,
        /// Text to tokens.
        tokenizer: TokenizerConfig,
        /// The shape of the transformer.
        model: ModelConfig,
        /// The loss.
        objective: ObjectiveConfig,
        /// Low-rank changes that are trained instead of the model.
        adapter: AdapterConfig,
        /// Sampled answers of reinforcement learning, and their rewards.
        rollout: RolloutConfig,
        /// PPO.
        ppo: PpoConfig,
        /// GRPO and RLOO.
        grpo: GrpoConfig,
        /// Losses of preferred and rejected answers.
        preference: PreferenceConfig,
        /// Reward models.
        reward: RewardConfig,
        /// Distillation.
        distill: DistillConfig,
        /// Weights that become zero.
        pruning: PruningConfig,
        /// The training loop.
        train: TrainConfig,
        /// Tasks that the model is evaluated on.
        eval: EvalConfig,
        /// Generated text.
        sample: SampleConfig,
        /// The way operations are computed.
        kernels: KernelConfig,
    }
}

/// Every key of [`Config`], in the order of its fields.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut keys = Vec::new();
    Config::list_keys(&mut keys);
    keys
});

section! {
    /// Kernels that compute the operations.
    #["kernels"]
    pub struct KernelConfig {
        /// Compute by Kiln's own fused kernels, where there are some, instead of the unfused reference.
        fused: bool = true;
    }
}

impl KernelConfig {
    /// Kernels with products in f32.
    pub fn mode(&self) -> Mode {
        if self.fused { Mode::Fused } else { Mode::Reference }
    }
}

impl Config {
    /// Kernels that training computes with, and the precision of their products.
    pub fn mode(&self) -> Mode {
        self.kernels.mode().with_precision(self.train.dtype)
    }

    /// Layout of the rows. With labels or targets, and for instructions and answers, it is always documents.
    pub fn layout(&self) -> Layout {
        let has_labels = self.data.label_field.is_some() || self.data.target_field.is_some();
        if has_labels || self.sample_kind().is_some() { Layout::Documents } else { self.data.layout }
    }
}

section! {
    /// Where the tokens come from and in which order they are read.
    #["data"]
    pub struct DataConfig {
        /// Text, JSON, JSON lines and CSV files, token shards (`.bin`) or folders of them; empty: the embedded corpus.
        paths: Vec<PathBuf> = Vec::new();
        /// Format of the files of an objective that learns from dialogues: `messages`, `sharegpt`, `alpaca`,
        /// `prompt-completion`, `preference`, `labelled`, `scored`, `prompts` or `text`; absent: told by their records.
        format: Option<Format> = None;
        /// A procedural task to train on instead of text: `copy`, `reverse`, `sort`, `addition`, `modular-addition`,
        /// `parity`, `dyck` or `two-sum`; `none`: text.
        task: Task = Task::None;
        /// In each row only what follows this text counts as target; absent: everything. Documents that have nothing
        /// behind it within a row are left out. Needs `layout = "documents"`, and a tokenizer that has a token for
        /// exactly this text.
        answer_after: Option<String> = None;
        /// Share of the tokens, from the end, that is held out for validation; ignored where the data
        /// brings its own split (`train.bin` and `val.bin` in one folder).
        val_fraction: f64 = 0.1, Range::Share;
        /// Rows are cut anywhere in the `stream` of all text, or are `documents`, one each.
        layout: Layout = Layout::Stream;
        /// Put several documents into each row of training, as many as fit, which do not see each other. Needs
        /// `layout = "documents"`, which `sft` has.
        packing: bool = false;
        /// Rows are drawn at `random`, with replacement, or `shuffled`: every row once per epoch.
        order: Order = Order::Random;
        /// Replace invalid UTF-8 by U+FFFD instead of refusing the file.
        lossy: bool = false;
        /// Field of a record, or column of a table, that holds the text.
        text_field: String = "text".into();
        /// Field that holds the class of the text, the list of classes of its words (the text is then a
        /// list of words), or the number of a regression.
        label_field: Option<String> = None;
        /// Field that holds the text that an encoder with a decoder generates.
        target_field: Option<String> = None;
        /// Made-up secrets that are put into the training text, to measure what a model learns by heart: tables
        /// `{ text = "The code is {}.", format = "digits", length = 6, repeat = 10 }`, with `digits` or `letters`.
        canaries: Vec<CanaryConfig> = Vec::new();
    }
}

/// The procedural tasks (`data/tasks.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "TaskName"))]
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

/// Ways to take rows of `block_size` tokens from the tokenized text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// All documents are concatenated; a row may begin and end anywhere (nanoGPT).
    Stream,
    /// Each row is one document, truncated or padded to the block size; padding does not count in the loss.
    Documents,
}

/// Order in which rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Rows are drawn independently, with replacement (nanoGPT).
    Random,
    /// Every row is read once per epoch, shuffled anew in each epoch.
    Shuffled,
}

section! {
    /// Task files that are evaluated during training, as `kiln eval --suite` does.
    #["eval"]
    pub struct EvalConfig {
        /// Task files in lm-evaluation-harness's YAML, or folders of them.
        suites: Vec<PathBuf> = Vec::new();
        /// Steps between evaluations of the tasks; 0: only at the end.
        suite_interval: u64 = 0;
        /// Rows of each task, from its beginning; absent: all.
        suite_limit: Option<u64> = None, Range::AT_LEAST_ONE;
    }
}

section! {
    /// Settings of text generation; also the arguments of `kiln generate`.
    #["sample"]
    pub struct SampleConfig {
        /// Text to continue; empty: a line break, or the tokenizer's first token.
        prompt: String = String::new();
        /// Number of tokens to add.
        max_new_tokens: usize = 200;
        /// Divides the logits; 0 takes the most likely token each time.
        temperature: f64 = 0.8, Range::FromZero;
        /// Keep only the k most likely tokens; 0: all.
        top_k: usize = 0;
        /// Keep the smallest set of tokens whose probability reaches p; 1: all.
        top_p: f64 = 1.0, Range::PositiveShare;
        /// Drop tokens less likely than this share of the most likely one; 0: none.
        min_p: f64 = 0.0, Range::Share;
        /// Divides the logits of tokens that already occurred (CTRL, arXiv:1909.05858); 1: none.
        repetition_penalty: f64 = 1.0, Range::Positive;
        /// Candidates of beam search, which takes the most likely text instead of drawing; 1: tokens are drawn.
        num_beams: usize = 1, Range::Whole(1, MOST_BEAMS);
        /// Beam search compares log-probabilities over length to this power: above 0 favours long text.
        length_penalty: f64 = 1.0, Range::Finite;
        /// Texts at which to stop; they are not part of the result.
        stop: Vec<String> = Vec::new();
        /// Seed of the tokens that are drawn.
        seed: u64 = 1337;
    }
}

/// Largest number of beams, each of which has a cache of its own.
const MOST_BEAMS: u64 = 256;
