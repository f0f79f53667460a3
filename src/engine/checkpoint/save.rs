//! Encodes a trainer's state as checkpoint files.

use super::{
    Files, TrainedAdapter, exact, names,
    tensors::{self, FloatType},
};
use crate::{
    config::{Config, OptimizerKind, SampleConfig},
    data::Cursor,
    error::{Error, Result},
    model::{families::Family, parameters::NamedData},
    optim::{HostState, LossScaleState},
    tokenizer::Tokenizer,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// The trainer's state except tensors and configuration, saved as `trainer.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Number of finished optimizer steps.
    pub step: u64,
    /// Number of tokens trained on so far.
    pub tokens: u64,
    /// Number of steps skipped because their loss was not finite.
    pub skipped_steps: u64,
    #[serde(with = "exact::option", default)]
    pub best_val_loss: Option<f64>,
    pub best_step: Option<u64>,
    /// Number of evaluations since the best one.
    pub evaluations_without_improvement: u64,
    /// State of the watch for overfitting.
    #[serde(default)]
    pub overfitting: OverfittingState,
    /// Losses of the steps since the last evaluation.
    #[serde(default)]
    pub recent_losses: RecentLosses,
    /// Number of skipped steps in a row up to this one.
    #[serde(default)]
    pub skipped_in_a_row: u64,
    pub optimizer: OptimizerKind,
    /// Factor of the loss, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScaleState>,
    /// Number of updates of each parameter.
    pub updates: BTreeMap<String, usize>,
    /// Position of the data loader.
    pub data: Cursor,
}

/// State of the watch for overfitting, so that a resumed run warns when the uninterrupted one would.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OverfittingState {
    /// Training loss at the evaluation with the best validation loss.
    #[serde(with = "exact::option", default)]
    pub train_loss_at_best: Option<f64>,
    /// Number of evaluations in a row that showed overfitting.
    pub evaluations: u64,
    /// Whether the run has warned already.
    pub has_warned: bool,
}

/// Sum of training losses, so that an evaluation reports their mean although the run was resumed before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentLosses {
    #[serde(with = "exact")]
    pub sum: f64,
    /// Number of steps.
    pub count: u64,
}

impl RecentLosses {
    pub fn add(&mut self, loss: f32) {
        self.sum += f64::from(loss);
        self.count += 1;
    }

    /// Mean of the losses; `None` without one.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Encodes the files of a checkpoint. Tensors are given under Kiln's parameter names. With an `adapter`, `weights` and
/// `ema` are its numbers instead of the model's.
pub fn encode(
    config: &Config,
    tokenizer: &Tokenizer,
    adapter: Option<&TrainedAdapter>,
    weights: NamedData,
    ema: Option<NamedData>,
    optimizer: &HostState,
    trainer: &TrainerState,
) -> Result<Files> {
    let mut files = Files::new("checkpoint");
    let failed = |message: String| Error::Checkpoint { path: "checkpoint".into(), message, hint: None };
    let family = Family::of(&config.model);
    let end_of_text = tokenizer.end_of_text();
    let store = |weights| match adapter {
        Some(adapter) => adapter.encode(weights),
        None => family.store(&config.model, weights).and_then(|named| tensors::write(&named, FloatType::F32)),
    };
    let pretty =
        |value: &serde_json::Value| serde_json::to_vec_pretty(value).map_err(|e| failed(e.to_string()));
    let mut put = |name: &str, bytes: Vec<u8>| files.contents.insert(name.into(), bytes.into());

    put(if adapter.is_some() { names::ADAPTER } else { names::MODEL }, store(weights).map_err(failed)?);
    if let Some(ema) = ema {
        put(names::EMA, store(ema).map_err(failed)?);
    }
    match adapter {
        Some(adapter) => adapter.descriptions().into_iter().for_each(|(name, bytes)| drop(put(name, bytes))),
        None => drop(put(names::CONFIG, pretty(&family.to_json(&config.model, end_of_text))?)),
    }
    put(names::TOKENIZER, tokenizer.to_json()?.into_bytes());
    put(names::TOKENIZER_CONFIG, tokenizer.to_transformers_config(config.model.block_size).into_bytes());
    if let Some(template) = tokenizer.chat_template() {
        put(names::CHAT_TEMPLATE, template.as_bytes().to_vec());
    }
    put(names::GENERATION, pretty(&generation(&config.sample, end_of_text, tokenizer.end_tokens()))?);
    put(names::OPTIMIZER, tensors::write_state(&optimizer.floats, &optimizer.words).map_err(failed)?);
    put(names::TRAINER, serde_json::to_vec_pretty(trainer).map_err(|e| failed(e.to_string()))?);
    put(names::KILN, config.to_toml()?.into_bytes());
    Ok(files)
}

/// Adds the state of the objective to the files of a checkpoint, if it has any.
pub fn put_objective(files: &mut Files, state: &NamedData) -> Result<()> {
    if state.is_empty() {
        return Ok(());
    }
    let bytes = tensors::write(state, FloatType::F32).map_err(|message| files.error(message))?;
    files.contents.insert(names::OBJECTIVE.into(), bytes.into());
    Ok(())
}

/// Contents of `generation_config.json`, with which transformers samples like Kiln.
fn generation(sample: &SampleConfig, end_of_text: Option<u32>, end_tokens: &[u32]) -> serde_json::Value {
    let samples = sample.temperature > 0.0;
    let ends = match end_tokens {
        [] => json!(end_of_text),
        [one] => json!(one),
        several => json!(several),
    };
    let mut json = json!({
        "bos_token_id": end_of_text,
        "eos_token_id": ends,
        "do_sample": samples,
        "temperature": sample.temperature,
        "max_new_tokens": sample.max_new_tokens,
    });
    // Where nothing is sampled, transformers warns of filters.
    if samples && sample.top_k > 0 {
        json["top_k"] = sample.top_k.into();
    }
    if samples && sample.top_p < 1.0 {
        json["top_p"] = sample.top_p.into();
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_come_back_to_the_bit() {
        for number in 1..2000 {
            let sum = f64::from(number).sqrt() * 3.7;
            let state = RecentLosses { sum, count: 7 };
            let read: RecentLosses = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
            assert_eq!(read.sum.to_bits(), sum.to_bits(), "{sum}");
            assert_eq!(read.mean(), Some(sum / 7.0));
        }
        let older: RecentLosses = serde_json::from_str(r#"{"sum": 1.5, "count": 2}"#).unwrap();
        assert_eq!(older, RecentLosses { sum: 1.5, count: 2 });
        assert_eq!(RecentLosses::default().mean(), None);
    }

    #[test]
    fn filters_are_told_where_they_are_on() {
        let off = generation(&SampleConfig::default(), Some(3), &[3]);
        assert_eq!(off["eos_token_id"], 3);
        assert_eq!(generation(&SampleConfig::default(), Some(3), &[4, 3])["eos_token_id"], json!([4, 3]));
        assert!(off.get("top_k").is_none() && off.get("top_p").is_none(), "{off}");
        let sample = SampleConfig { top_k: 20, top_p: 0.9, ..Default::default() };
        let on = generation(&sample, None, &[]);
        assert!(on["eos_token_id"].is_null());
        assert_eq!((&on["top_k"], &on["top_p"], &on["do_sample"]), (&json!(20), &json!(0.9), &json!(true)));
        let greedy = generation(&SampleConfig { temperature: 0.0, ..sample }, None, &[]);
        assert!(greedy.get("top_k").is_none() && greedy["do_sample"] == false, "{greedy}");
    }
}
