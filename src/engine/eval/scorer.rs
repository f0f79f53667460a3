//! Scores and continues texts as evaluation suites ask for it: log-likelihoods of continuations and of whole
//! texts, and generated texts. Tokens, windows and truncation are those of lm-evaluation-harness 0.4.13
//! (`HFLM` in `lm_eval/models/huggingface.py`).

mod encoding;
mod generation;
mod likelihood;

use crate::{
    config::{Architecture, ModelConfig},
    error::{Error, Result, hint},
    generate::Generator,
    model::Model,
    tokenizer::Tokenizer,
};
use burn::tensor::Device;
use likelihood::Row;

/// A model that scores and continues texts.
#[derive(Clone, Copy)]
pub struct Scorer<'a> {
    generator: Generator<'a>,
    /// Maximum number of rows of a batch.
    batch_size: usize,
}

/// Likelihood of a continuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Sum of the log-probabilities of the continuation's tokens, in nats.
    pub sum: f64,
    /// Whether each token of the continuation is the most likely one.
    pub is_greedy: bool,
    /// Number of tokens of the continuation.
    pub tokens: usize,
}

impl<'a> Scorer<'a> {
    /// Makes a scorer. `model` is without autodiff (`Module::valid`).
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for an encoder.
    pub fn new(generator: Generator<'a>, batch_size: usize) -> Result<Self> {
        check_architecture(generator.config)?;
        Ok(Self { generator, batch_size: batch_size.max(1) })
    }

    fn config(&self) -> &'a ModelConfig {
        self.generator.config
    }

    fn tokenizer(&self) -> &'a Tokenizer {
        self.generator.tokenizer
    }

    fn device(&self) -> Device {
        self.generator.device.clone().inner()
    }

    /// Log-likelihoods of continuations, each of a context. A context that is too long loses its beginning.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a text that cannot be encoded, [`Error::InvalidValue`] for a continuation that
    /// has no token or is longer than the context of the model, [`Error::NonFiniteOutput`] and
    /// [`Error::DeviceFailed`].
    pub async fn likelihoods(&self, pairs: &[(&str, &str)]) -> Result<Vec<Likelihood>> {
        let is_joint = matches!(self.generator.model, Model::Decoder(_));
        let rows = pairs
            .iter()
            .map(|(context, continuation)| {
                let (context, tokens) = encoding::pair(self.tokenizer(), context, continuation, is_joint)?;
                Row::new(context, tokens, context_length(self.config()), continuation, is_joint)
            })
            .collect::<Result<Vec<_>>>()?;
        self.score(&rows).await
    }

    /// Log-likelihoods of whole texts, in nats. A text that is longer than the context of the model is cut into
    /// windows, in which each token is predicted once.
    ///
    /// # Errors
    /// Those of [`likelihoods`](Self::likelihoods).
    pub async fn whole_texts(&self, texts: &[&str]) -> Result<Vec<f64>> {
        let is_joint = matches!(self.generator.model, Model::Decoder(_));
        let limit = context_length(self.config());
        let (mut rows, mut text_of_row) = (Vec::new(), Vec::new());
        for (number, text) in texts.iter().enumerate() {
            for (context, tokens) in encoding::windows(self.tokenizer(), text, limit)? {
                rows.push(Row::new(context, tokens, limit, text, is_joint)?);
                text_of_row.push(number);
            }
        }
        let mut sums = vec![0.0; texts.len()];
        for (likelihood, number) in self.score(&rows).await?.into_iter().zip(text_of_row) {
            sums[number] += likelihood.sum;
        }
        Ok(sums)
    }
}

/// Refuses a model that neither scores nor generates text.
///
/// # Errors
/// [`Error::InvalidValue`] for an encoder and for a reward model.
pub fn check_architecture(config: &ModelConfig) -> Result<()> {
    if config.supports_generation() {
        return Ok(());
    }
    if config.architecture == Architecture::Decoder {
        return Err(Error::InvalidValue {
            key: "model.head".into(),
            value: "regression".into(),
            message: "a reward model gives no likelihood of a text and generates none".into(),
            hint: Some(hint![hint::command("kiln eval RUN --data FILE"), " measures it on pairs"]),
        });
    }
    Err(Error::InvalidValue {
        key: "model.architecture".into(),
        value: "encoder".into(),
        message: "an encoder gives no likelihood of a text and generates none".into(),
        hint: Some(hint![
            "evaluate a decoder or an encoder-decoder; ",
            hint::command("kiln eval RUN --data FILE"),
            " measures an encoder"
        ]),
    })
}

/// Number of tokens that the model reads at once.
pub fn context_length(config: &ModelConfig) -> usize {
    config.context_limit().unwrap_or(config.block_size)
}
