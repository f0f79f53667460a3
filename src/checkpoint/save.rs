//! A trainer's state as checkpoint files.

use super::{Files, names, tensors};
use crate::{
    config::{Config, OptimizerKind},
    data::Cursor,
    error::{Error, Result},
    model::{families::Family, parameters::NamedData},
    tokenizer::Tokenizer,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// What resuming needs besides tensors and configuration; `trainer.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Finished optimizer steps.
    pub step: u64,
    /// Target tokens seen.
    pub tokens: u64,
    /// Steps without effect because their loss was not finite.
    pub skipped_steps: u64,
    pub best_val_loss: Option<f64>,
    pub best_step: Option<u64>,
    /// Evaluations since the best one.
    pub evaluations_without_improvement: u64,
    pub optimizer: OptimizerKind,
    /// Updates of each parameter.
    pub updates: BTreeMap<String, usize>,
    /// Where the loader stands.
    pub data: Cursor,
}

/// Lays out a checkpoint. Tensors come under our names.
pub fn encode(
    config: &Config,
    tokenizer: &Tokenizer,
    weights: NamedData,
    ema: Option<NamedData>,
    optimizer: &NamedData,
    trainer: &TrainerState,
) -> Result<Files> {
    let mut files = Files::new("checkpoint");
    let failed = |message: String| Error::Checkpoint { path: "checkpoint".into(), message, hint: None };
    let family = Family::of(&config.model);
    let end_of_text = tokenizer.end_of_text();
    let store = |weights| family.store(&config.model, weights).and_then(|named| tensors::write(&named));
    let pretty =
        |value: &serde_json::Value| serde_json::to_vec_pretty(value).map_err(|e| failed(e.to_string()));
    let mut put = |name: &str, bytes: Vec<u8>| files.contents.insert(name.into(), bytes);

    put(names::MODEL, store(weights).map_err(failed)?);
    if let Some(ema) = ema {
        put(names::EMA, store(ema).map_err(failed)?);
    }
    put(names::CONFIG, pretty(&family.to_json(&config.model, end_of_text))?);
    put(names::TOKENIZER, tokenizer.to_json()?.into_bytes());
    put(names::TOKENIZER_CONFIG, tokenizer.to_transformers_config(config.model.block_size).into_bytes());
    put(
        names::GENERATION,
        pretty(&json!({
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
            "do_sample": config.sample.temperature > 0.0,
            "temperature": config.sample.temperature,
            "max_new_tokens": config.sample.max_new_tokens,
        }))?,
    );
    put(names::OPTIMIZER, tensors::write(optimizer).map_err(failed)?);
    put(names::TRAINER, serde_json::to_vec_pretty(trainer).map_err(|e| failed(e.to_string()))?);
    put(names::KILN, config.to_toml()?.into_bytes());
    Ok(files)
}
