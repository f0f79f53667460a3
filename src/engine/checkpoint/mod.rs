//! Checkpoints: folders that transformers loads and that training resumes from.
//!
//! | file | for |
//! | --- | --- |
//! | `model.safetensors` (or its parts with `model.safetensors.index.json`), `config.json`, `tokenizer.json`, `generation_config.json` | transformers, and every command of Kiln |
//! | `chat_template.jinja` | the chat template, if the model has one |
//! | `ema.safetensors` | the averaged weights, if the run keeps them |
//! | `optimizer.safetensors`, `trainer.json`, `kiln.toml` | resuming |
//! | `objective.safetensors` | resuming reinforcement learning: the rollout in progress, the value model |
//! | `adapter_model.safetensors`, `adapter_config.json`, `base.json` | an adapter, in place of the model's weights and configuration, and the fingerprint of the model that it changes |
//! | `manifest.json` | sizes and checksums; written last, so its presence means completeness |
//!
//! A GGUF file is a checkpoint too ([`gguf`]).

mod adapter;
mod build;
mod chat;
mod exact;
mod export;
mod files;
mod generation;
pub mod gguf;
mod index;
mod load;
mod manifest;
mod part;
mod projection;
mod run;
mod save;
pub mod tensors;
mod weights;

pub use adapter::{StoredAdapter, TrainedAdapter};
pub use export::{Export, Exported, Names, check_free};
pub use files::{Bytes, Files};
pub use generation::EndTokens;
pub use index::Index;
pub use load::{Checkpoint, Weights};
pub use manifest::Manifest;
pub use run::{Resume, RunFolder, resolve};
pub use save::{OverfittingState, RecentLosses, TrainerState, encode, put_objective};
pub use weights::{Location, StoredTensor, WeightFiles};

/// File names inside a checkpoint.
pub mod names {
    pub const MODEL: &str = "model.safetensors";
    pub const INDEX: &str = "model.safetensors.index.json";
    pub const EMA: &str = "ema.safetensors";
    pub const CONFIG: &str = "config.json";
    pub const TOKENIZER: &str = "tokenizer.json";
    pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
    pub const SPECIAL_TOKENS: &str = "special_tokens_map.json";
    pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
    pub const CHAT_TEMPLATE_JSON: &str = "chat_template.json";
    pub const GENERATION: &str = "generation_config.json";
    pub const OPTIMIZER: &str = "optimizer.safetensors";
    pub const OBJECTIVE: &str = "objective.safetensors";
    pub const TRAINER: &str = "trainer.json";
    pub const ADAPTER: &str = "adapter_model.safetensors";
    pub const ADAPTER_CONFIG: &str = "adapter_config.json";
    /// Fingerprint of the model that an adapter changes.
    pub const BASE: &str = "base.json";
    pub const KILN: &str = "kiln.toml";
    pub const MANIFEST: &str = "manifest.json";

    /// Whether Kiln reads a file with this name.
    pub(super) fn is_known(name: &str) -> bool {
        let of_tokenizer = [TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS, CHAT_TEMPLATE, CHAT_TEMPLATE_JSON];
        let texts = [CONFIG, GENERATION, INDEX, TRAINER, KILN, MANIFEST];
        let of_adapters = [ADAPTER_CONFIG, BASE];
        holds_tensors(name)
            || of_adapters.contains(&name)
            || texts.contains(&name)
            || of_tokenizer.contains(&name)
    }

    /// Whether a file with this name contains tensors.
    pub fn holds_tensors(name: &str) -> bool {
        name.ends_with(".safetensors")
    }

    /// Whether a file with this name is a whole model in GGUF.
    pub fn is_gguf(name: &str) -> bool {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending);
        ending.is_some_and(|ending| ending.eq_ignore_ascii_case(kiln_gguf::EXTENSION))
    }
}
