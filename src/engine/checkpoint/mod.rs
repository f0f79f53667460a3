//! Checkpoints: folders that transformers loads and that training resumes from.
//!
//! | file | for |
//! | --- | --- |
//! | `model.safetensors` (or its parts with `model.safetensors.index.json`), `config.json`, `tokenizer.json`, `generation_config.json` | transformers, and every command of Kiln |
//! | `ema.safetensors` | the averaged weights, if the run keeps them |
//! | `optimizer.safetensors`, `trainer.json`, `kiln.toml` | resuming |
//! | `manifest.json` | sizes and checksums; written last, so its presence means completeness |

mod export;
mod files;
mod generation;
mod index;
mod load;
mod manifest;
mod projection;
mod run;
mod save;
pub mod tensors;
mod weights;

pub use export::{Export, Exported, Names};
pub use files::{Bytes, Files};
pub use generation::EndTokens;
pub use index::Index;
pub use load::{Checkpoint, Weights};
pub use manifest::Manifest;
pub use run::{Resume, RunFolder, resolve};
pub use save::{OverfittingState, TrainerState, encode};
pub use weights::{Location, StoredTensor, WeightFiles};

/// File names inside a checkpoint.
pub mod names {
    pub const MODEL: &str = "model.safetensors";
    pub const INDEX: &str = "model.safetensors.index.json";
    pub const EMA: &str = "ema.safetensors";
    pub const CONFIG: &str = "config.json";
    pub const TOKENIZER: &str = "tokenizer.json";
    pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
    pub const GENERATION: &str = "generation_config.json";
    pub const OPTIMIZER: &str = "optimizer.safetensors";
    pub const TRAINER: &str = "trainer.json";
    pub const KILN: &str = "kiln.toml";
    pub const MANIFEST: &str = "manifest.json";

    /// Whether Kiln reads a file with this name.
    pub(super) fn is_known(name: &str) -> bool {
        let texts = [CONFIG, TOKENIZER, TOKENIZER_CONFIG, GENERATION, INDEX, TRAINER, KILN, MANIFEST];
        holds_tensors(name) || texts.contains(&name)
    }

    /// Whether a file with this name contains tensors.
    pub fn holds_tensors(name: &str) -> bool {
        name.ends_with(".safetensors")
    }
}
