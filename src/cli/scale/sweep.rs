//! The runs of a sweep. Each has the base configuration with a shape, a length and a learning rate of its own:
//!
//! - The schedule ends with the run, as arXiv:2203.15556, appendix B, asks for: a run that is cut off before its learning
//!   rate has decayed has a higher loss than one that was planned to be as short.
//! - The learning rate is that of the base at the base's width, and proportional to 1/√width.
//! - The loss is that of the whole validation split at the last step.

use crate::{
    cli::{
        compare::plan::{Cell, Place},
        config::ConfigSource,
        show_notes,
        train::use_data,
    },
    config::{Architecture, Config, Head, Layout, Position, RunData, ScheduleKind},
    data::Dataset,
    device::Choice,
    error::{Error, Result, hint},
    model::size,
};
use kiln_scale::{plan, runs::compute};
use std::path::PathBuf;

/// Steps that a run has at least: with fewer, warmup and decay are most of it.
const MIN_STEPS: u64 = 20;
/// Share of the steps in which the learning rate rises.
const WARMUP: f64 = 0.05;
/// Checkpoints of a run, from which it goes on after a kill.
const SAVES: u64 = 10;
/// Passes over a text up to which repeated tokens are worth nearly as much as new ones (arXiv:2305.16264, section 6).
pub const WORTHWHILE_EPOCHS: f64 = 4.0;

/// Preset of a sweep that names none.
const DEFAULT_PRESET: &str = "shakespeare-char-cpu";
/// Keys that the sweep itself decides.
const DECIDED: [&str; 7] = [
    "model.n_layer",
    "model.n_head",
    "train.max_steps",
    "train.stop_after",
    "train.warmup_steps",
    "train.decay_steps",
    "train.eval_interval",
];

/// Settings that all runs of a sweep share.
pub struct Base {
    pub config: Config,
    /// Number of tokens of the tokenizer.
    pub vocabulary: usize,
    /// Size of the training split, in tokens.
    pub train_tokens: usize,
    /// Bits per byte of a loss of one nat per token; `None` where the bytes of the split are not known.
    pub bits_per_nat: Option<f64>,
    /// Whether N includes embeddings.
    pub embeddings: bool,
    evaluates_all: bool,
}

/// A run of a sweep.
#[derive(Debug, Clone)]
pub struct SweepCell {
    pub cell: Cell,
    /// Budget that the run belongs to, counted from 0.
    pub budget: usize,
    /// N.
    pub parameters: u64,
    /// D, the tokens of all steps.
    pub tokens: u64,
    /// C = 6·N·D.
    pub flops: f64,
}

impl Base {
    /// Reads configuration and data.
    ///
    /// # Errors
    /// Errors of the configuration and of the data, and [`Error::InvalidValue`] for a key that the sweep decides and for
    /// a model or data that have no scaling law.
    pub fn prepare(source: &ConfigSource, data: &[PathBuf], embeddings: bool) -> Result<Self> {
        let own = source.set.iter().filter_map(|text| text.split_once('='));
        if let Some((key, value)) = own
            .map(|(key, value)| (Config::current_name(key.trim()), value))
            .find(|(key, _)| DECIDED.contains(key))
        {
            return Err(Error::invalid_value(key, value, "each run of the sweep has its own"));
        }
        let (mut config, keys) = source.read_with_keys(DEFAULT_PRESET)?;
        use_data(&mut config, data)?;
        config.validate()?;
        let refused =
            |key: &str, value: String, message: &str| Err(Error::invalid_value(key, value, message));
        let model = &config.model;
        if (model.architecture, model.head) != (Architecture::Decoder, Head::LanguageModel) {
            let value = serde_json::json!(model.architecture).as_str().unwrap_or_default().to_owned();
            return refused(
                "model.architecture",
                value,
                "the laws are those of language models that are decoders",
            );
        }
        if model.has_experts() {
            let message = "with experts the number of parameters does not say what a token costs";
            return refused("model.moe.n_experts", model.moe.n_experts.to_string(), message);
        }
        let dataset = Dataset::prepare(&config, None)?;
        show_notes(&dataset.notes);
        if dataset.val.is_empty() {
            let message = "losses are measured on a validation split, and there is none";
            return refused("data.val_fraction", config.data.val_fraction.to_string(), message);
        }
        let bytes = dataset.val_bytes.filter(|bytes| *bytes > 0 && config.layout() == Layout::Stream);
        // The first token has nothing to be predicted from.
        let targets = dataset.val.len().saturating_sub(1) as f64;
        let base = Self {
            vocabulary: config.model.vocab_size.max(dataset.vocab_size()),
            train_tokens: dataset.train.len(),
            bits_per_nat: bytes.map(|bytes| targets / (std::f64::consts::LN_2 * bytes as f64)),
            embeddings,
            evaluates_all: !keys.iter().any(|key| key == "train.eval_batches"),
            config,
        };
        base.config.clone().resolve(&dataset)?;
        Ok(base)
    }

    /// A run of about `shape.flops`.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if the budget is too small for it, and errors of [`Config::validate`].
    pub fn cell(&self, shape: &plan::Cell, device: &Choice) -> Result<SweepCell> {
        let mut config = self.config.clone();
        let [layers, heads, width] = [shape.layers, shape.heads, shape.width].map(|size| size as usize);
        let model = &mut config.model;
        (model.n_layer, model.n_head, model.n_embd) = (layers, heads, width);
        // They follow from the width.
        (model.n_kv_head, model.head_dim, model.n_inner) = (None, None, None);
        let parameters = self.parameters(&config);
        let step = size::tokens_per_step(&config) as f64;
        let steps = (shape.flops / compute(parameters as f64, step)).round() as u64;
        if steps < MIN_STEPS {
            return Err(Error::InvalidValue {
                key: "--flops".into(),
                value: format!("{:.2e}", shape.flops),
                message: format!(
                    "the share of a run is too small: it leaves a model of {parameters} parameters {steps} steps of {step} \
                     tokens, and {MIN_STEPS} are needed"
                ),
                hint: Some(hint![
                    "give more FLOPs or minutes, or lower ",
                    hint::key("train.batch_size"),
                    " or ",
                    hint::key("model.block_size")
                ]),
            });
        }
        let train = &mut config.train;
        let by_width = (self.config.model.n_embd as f64 / width as f64).sqrt();
        train.learning_rate *= by_width;
        train.min_lr *= by_width;
        train.max_steps = steps;
        train.warmup_steps = ((WARMUP * steps as f64).round() as u64).max(1);
        train.eval_interval = steps;
        train.save_interval = Some((steps / SAVES).max(1));
        train.sample_interval = 0;
        (train.stop_after, train.decay_steps, train.early_stopping_patience) = (None, None, None);
        if matches!(train.schedule, ScheduleKind::Constant | ScheduleKind::InverseSqrt) {
            train.schedule = ScheduleKind::Cosine;
        }
        if self.evaluates_all {
            train.eval_batches = 0;
        }
        config.validate()?;
        let name = format!("budget={}-layers={layers}-width={width}", shape.budget + 1);
        let tokens = steps * step as u64;
        Ok(SweepCell {
            cell: Cell {
                label: name.clone(),
                name,
                place: Place::Device(device.clone()),
                seed: config.train.seed,
                config,
            },
            budget: shape.budget,
            parameters,
            tokens,
            flops: compute(parameters as f64, tokens as f64),
        })
    }

    /// N of a configuration.
    pub fn parameters(&self, config: &Config) -> u64 {
        let mut model = config.model.clone();
        model.vocab_size = self.vocabulary;
        let all = size::parameter_count(&model);
        let tables = if model.tie_embeddings { 1 } else { 2 };
        let positions = if model.position == Position::Learned { model.block_size } else { 0 };
        let embeddings = model.n_embd * (tables * self.vocabulary + positions + model.token_types);
        (if self.embeddings { all } else { all.saturating_sub(embeddings) }) as u64
    }

    /// Size of the vocabulary for a plan, where N includes it.
    pub fn counted_vocabulary(&self) -> Option<u64> {
        self.embeddings.then_some(self.vocabulary as u64)
    }

    /// Passes over the training split in a number of tokens.
    pub fn epochs(&self, tokens: u64) -> f64 {
        tokens as f64 / self.train_tokens as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(set: &[&str], embeddings: bool) -> Result<Base> {
        let set = set.iter().map(|text| (*text).to_owned()).collect();
        let source = ConfigSource { preset: Some("debug".into()), set, ..ConfigSource::default() };
        Base::prepare(&source, &[], embeddings)
    }

    fn shape(flops: f64) -> plan::Cell {
        let config = plan::PlanConfig { layers: Some(2), ..plan::PlanConfig::default() };
        plan::single(&config, f64::from(24 * 64 * 64), flops).unwrap()
    }

    #[test]
    fn a_run_has_a_schedule_and_a_learning_rate_of_its_own() {
        let base = base(&[], false).unwrap();
        let found = base.cell(&shape(1e10), &Choice::cpu()).unwrap();
        let Config { model, train, .. } = &found.cell.config;
        assert_eq!((model.n_layer, model.n_head, model.n_embd), (2, 1, 64));
        // Two layers of 12 · 64² and norms without biases.
        assert_eq!(found.parameters, 2 * (12 * 64 * 64 + 2 * 64) + 64);
        assert_eq!(found.tokens, train.max_steps * 128);
        assert!((found.flops / 1e10 - 1.0).abs() < 0.05, "{found:?}");
        assert!((train.learning_rate / base.config.train.learning_rate - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!((train.eval_interval, train.eval_batches, train.decay_steps), (train.max_steps, 0, None));
        let with = self::base(&[], true).unwrap().cell(&shape(1e10), &Choice::cpu()).unwrap();
        assert_eq!(with.parameters - found.parameters, 64 * (base.vocabulary as u64 + 32));
    }

    #[test]
    fn what_has_no_law_is_refused() {
        for (set, key) in [
            ("train.max_steps=5", "train.max_steps"),
            ("model.n_layer=5", "model.n_layer"),
            ("model.architecture=encoder", "model.architecture"),
            ("model.moe.n_experts=4", "model.moe.n_experts"),
            ("data.val_fraction=0", "data.val_fraction"),
        ] {
            let error = base(&[set], false).err().unwrap();
            assert!(
                matches!(&error, Error::InvalidValue { key: found, .. } if found == key),
                "{set}: {error}"
            );
        }
        let small = base(&[], false).unwrap().cell(&shape(1e8), &Choice::cpu()).unwrap_err().to_string();
        assert!(small.contains("it leaves a model of"), "{small}");
        assert_eq!(
            base(&["train.eval_batches=3"], false)
                .unwrap()
                .cell(&shape(1e10), &Choice::cpu())
                .unwrap()
                .cell
                .config
                .train
                .eval_batches,
            3
        );
    }
}
