//! Checkpoints: directories that transformers loads and that training resumes from.
//!
//! | file | for |
//! | --- | --- |
//! | `model.safetensors`, `config.json`, `tokenizer.json`, `generation_config.json` | transformers, and every command of Kiln |
//! | `ema.safetensors` | the averaged weights, if the run keeps them |
//! | `optimizer.safetensors`, `trainer.json`, `kiln.toml` | resuming |
//! | `manifest.json` | sizes and checksums; written last, so its presence means completeness |

mod files;
mod load;
mod manifest;
mod run;
mod save;
mod shards;
pub mod tensors;

pub use files::Files;
pub use load::{Checkpoint, Weights};
pub use manifest::Manifest;
pub use run::{Resume, RunFolder, resolve};
pub use save::{TrainerState, encode};

/// File names inside a checkpoint.
pub mod names {
    pub const MODEL: &str = "model.safetensors";
    /// Where weights lie that are in several files.
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
}
