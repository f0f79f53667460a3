//! A second model that an objective evaluates but does not train: a teacher, or a reference policy.

use super::Batch;
use crate::{
    checkpoint::{Checkpoint, Weights, names},
    config::{Config, ModelConfig, TrainConfig},
    error::{Error, Result, hint},
    model::{Model, Output},
    tokenizer::Tokenizer,
};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use std::path::Path;

/// A model without gradients, on the device of the model in training.
#[derive(Debug, Clone)]
pub struct Frozen {
    model: Model,
}

impl Frozen {
    /// Copies the present weights of `model`. They share memory with it until one of the two changes.
    pub fn new(model: &Model) -> Self {
        Self { model: model.valid() }
    }

    /// Loads the model of the checkpoint that `key` of the configuration names onto the device of `beside`. It
    /// may differ from the model in training in everything but the vocabulary.
    ///
    /// # Errors
    /// Errors of opening the checkpoint, and [`Error::InvalidValue`] if it is no decoder that generates text, has
    /// another vocabulary than `tokenizer`, or a context too short for the rows of the run.
    pub fn open(
        path: &Path,
        key: &str,
        config: &Config,
        beside: &Model,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let checkpoint = Checkpoint::open_model(path)?;
        let refused = |message: String, hint| Error::InvalidValue {
            key: key.into(),
            value: path.display().to_string(),
            message,
            hint: Some(hint),
        };
        let model = &checkpoint.model;
        if !model.supports_generation() || model.architecture != config.model.architecture {
            let message = "it is no decoder that generates text";
            return Err(refused(message.into(), hint!["name a language model"]));
        }
        if checkpoint.has_tokenizer() && checkpoint.tokenizer()?.fingerprint() != tokenizer.fingerprint() {
            let file = checkpoint.path().join(names::TOKENIZER);
            let hint = hint![
                "both need the same tokens under the same numbers; a new model takes its own with ",
                hint::set("tokenizer.kind", "file").and("tokenizer.path", file.display())
            ];
            return Err(refused("its tokenizer is another one than the model's".into(), hint));
        }
        if model.vocab_size != config.model.vocab_size {
            let (own, other) = (config.model.vocab_size, model.vocab_size);
            let message = format!("it has a vocabulary of {other} tokens, but the model has {own}");
            let hint = hint!["a new model takes as many with ", hint::set("model.vocab_size", other)];
            return Err(refused(message, hint));
        }
        if let Some(limit) = model.context_limit().filter(|&limit| limit < config.model.block_size) {
            let message = format!("it reads {limit} tokens, but rows have up to {}", config.model.block_size);
            let hint = hint!["add ", hint::set("model.block_size", limit), ", or name another model"];
            return Err(refused(message, hint));
        }
        let frozen = Config {
            model: ModelConfig { dropout: 0.0, ..model.clone() },
            kernels: config.kernels.clone(),
            // The same rounding: a model that has not changed yet gives the same numbers.
            train: TrainConfig { dtype: config.train.dtype, ..Default::default() },
            ..Default::default()
        };
        let device = device_of(beside).inner();
        Ok(Self { model: checkpoint.build_with_config(&frozen, Weights::Latest, &device)? })
    }

    /// The model, without autodiff.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Output of the model for a batch, without autodiff.
    pub(super) fn output(&self, batch: &Batch) -> Output {
        self.model.forward_unprojected(batch.without_autodiff().input).0
    }

    /// Logits of a batch, `[N, vocab_size or classes]`, through which no gradients flow.
    pub fn logits(&self, batch: &Batch) -> Tensor<2> {
        Tensor::from_inner(batch.without_autodiff().logits(&self.model))
    }

    /// Log-probability of each target, `[N, 1]`; 0 where there is no target.
    pub fn log_probabilities(&self, batch: &Batch) -> Tensor<2> {
        Tensor::from_inner(batch.without_autodiff().log_probabilities(&self.model))
    }

    /// Sum of the log-probabilities of each row's targets, `[B, 1]`, without autodiff.
    pub fn row_log_probabilities(&self, batch: &Batch) -> Tensor<2> {
        batch.without_autodiff().row_log_probabilities(&self.model)
    }
}

/// Device of a model's parameters.
fn device_of(model: &Model) -> Device {
    model.devices().into_iter().next().unwrap_or_else(crate::device::placeholder)
}
