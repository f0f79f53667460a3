//! Kiln's own models as filters: perplexity under a decoder, embeddings of an encoder.

use crate::{
    checkpoint::{Checkpoint, Weights},
    config::{Layout, ModelConfig},
    data::{RowLayout, TokenSplit, Tokens, evaluation_batches},
    device::{Choice, device_failed},
    error::{Error, Result},
    eval::evaluate,
    model::{Input, Model, Side},
    tokenizer::Tokenizer,
};
use burn::tensor::{Device, Tensor};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Maximum number of tokens of a document that its embedding is computed from.
const EMBEDDED_TOKENS: usize = 512;
/// Windows in a batch.
const ROWS: usize = 4;

/// A model loaded from a checkpoint onto the CPU.
pub(super) struct CheckpointModel {
    model: Mutex<Model>,
    config: ModelConfig,
    tokenizer: Tokenizer,
    device: Device,
}

impl CheckpointModel {
    /// Loads the checkpoint at `path`.
    ///
    /// # Errors
    /// Errors of reading a checkpoint.
    pub fn load(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open_model(path)?;
        let tokenizer = checkpoint.tokenizer()?;
        let device = Choice::cpu().open()?;
        let model = checkpoint.build(Weights::Latest, &device)?;
        Ok(Self { model: Mutex::new(model), config: checkpoint.model.clone(), tokenizer, device })
    }

    /// Computes the perplexity per token of a text. `None` if the text has fewer than two tokens or
    /// characters that the model does not know.
    pub fn perplexity(&self, text: &str) -> Result<Option<f64>> {
        if !matches!(*self.lock(), Model::Decoder(_)) {
            let message = "only a decoder gives perplexity";
            return Err(Error::invalid_value("perplexity.model", "an encoder", message));
        }
        let ids = match self.tokenizer.encode(text) {
            // Characters that the model does not know.
            Err(Error::Tokenizer { .. }) => return Ok(None),
            ids => ids?,
        };
        if ids.len() < 2 {
            return Ok(None);
        }
        let mut tokens = Tokens::for_vocabulary(self.tokenizer.vocab_size());
        tokens.extend(&ids);
        let split = Arc::new(TokenSplit::from_tokens("document", tokens, Vec::new()));
        let block_size = self.config.block_size.min(ids.len() - 1);
        let batches = evaluation_batches(split, RowLayout::causal(Layout::Stream, block_size), ROWS, 0);
        let evaluation = pollster::block_on(evaluate(&self.lock(), &self.config, batches, &self.device))?;
        Error::check_finite("the losses of the filter's model", &[evaluation.loss as f32])?;
        Ok(evaluation.perplexity)
    }

    /// Length of an embedding.
    pub fn width(&self) -> usize {
        self.config.n_embd
    }

    /// Computes the mean of an encoder's last hidden states over the first tokens of a text, `[n_embd]`. A
    /// text with characters that the model does not know gets zeros, which are similar to nothing.
    pub fn embedding(&self, text: &str) -> Result<Vec<f32>> {
        let model = self.lock();
        let Model::Encoder(encoder) = &*model else {
            let message = "only an encoder gives embeddings";
            return Err(Error::invalid_value("semantic-duplicates.model", "a decoder", message));
        };
        let mut tokens = match self.tokenizer.encode(text) {
            Err(Error::Tokenizer { .. }) => Vec::new(),
            tokens => tokens?,
        };
        tokens.truncate(EMBEDDED_TOKENS.min(self.config.block_size));
        if tokens.is_empty() {
            return Ok(vec![0.0; self.config.n_embd]);
        }
        let device = self.device.clone().inner();
        let states = encoder.hidden_states(Input::padded(&[tokens], Side::Right, &device)); // [1, T, C]
        let mean: Tensor<1> = states.mean_dim(1).reshape([self.config.n_embd]); // [C]
        let failed = |message: String| device_failed(&device, "embedding", message);
        let data = pollster::block_on(mean.into_data_async()).map_err(|error| failed(error.to_string()))?;
        let embedding = data.try_into_vec_as::<f32>().map_err(|error| failed(format!("{error:?}")))?;
        Error::check_finite("the states of the filter's model", &embedding)?;
        Ok(embedding)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
