//! A reward model that scores sampled answers.

use super::AnswerText;
use crate::{
    checkpoint::{Checkpoint, Weights},
    config::{Config, Head, ModelConfig},
    device,
    error::{Error, Hint, Result, hint},
    model::{Decoder, Input, Model, Side},
    predict::{Prediction, Predictor},
    tokenizer::Tokenizer,
    transform,
};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use std::path::{Path, PathBuf};

/// A reward model. A decoder with the policy's tokenizer reads the sampled tokens, any other the text.
pub struct RewardModel {
    path: PathBuf,
    model: Model,
    config: ModelConfig,
    tokenizer: Tokenizer,
    /// Whether it has the tokens of the policy.
    shares_tokens: bool,
}

impl RewardModel {
    /// Opens the reward model of a run or checkpoint, on the device of the policy.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a model that gives no number, or whose context is too short for the
    /// policy's answers, and errors of opening the checkpoint.
    pub fn open(path: &Path, config: &Config, policy: &Model, tokenizer: &Tokenizer) -> Result<Self> {
        let checkpoint = Checkpoint::open_model(path)?;
        let own = checkpoint.tokenizer()?;
        let refused = |message: &str, hint: Hint| Error::InvalidValue {
            key: "rollout.rewards".into(),
            value: path.display().to_string(),
            message: message.into(),
            hint: Some(hint),
        };
        if checkpoint.model.head != Head::Regression {
            let hint = hint!["train one with ", hint::command("kiln train --preset reward")];
            return Err(refused("it is no reward model: it gives a text no number", hint));
        }
        let shares_tokens = own.fingerprint() == tokenizer.fingerprint();
        let limit = checkpoint.model.context_limit().unwrap_or(usize::MAX);
        if shares_tokens && limit < config.model.block_size {
            let message = format!(
                "it reads {limit} tokens, but prompts with answers have up to {}",
                config.model.block_size
            );
            return Err(refused(&message, hint!["add ", hint::set("model.block_size", limit)]));
        }
        let device = policy.devices().into_iter().next().unwrap_or_else(device::placeholder).inner();
        let model = transform::adapter::fold(&checkpoint.build(Weights::Latest, &device)?);
        let config = checkpoint.model.clone();
        Ok(Self { path: path.into(), model, config, tokenizer: own, shares_tokens })
    }

    /// Scores answers with their prompts, `at_once` of them together.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`], and those of [`Predictor::classify`] for a model that reads text.
    pub async fn score(
        &self,
        answers: &[AnswerText<'_>],
        at_once: usize,
        device: &Device,
    ) -> Result<Vec<f32>> {
        let device = device.clone().inner();
        let mut scores = Vec::with_capacity(answers.len());
        for answers in answers.chunks(at_once.max(1)) {
            if !(self.shares_tokens && matches!(self.model, Model::Decoder(_))) {
                scores.extend(self.score_texts(answers, &device).await?);
                continue;
            }
            let rows: Vec<Vec<u32>> = answers.iter().map(|answer| answer.all_tokens.to_vec()).collect();
            let (numbers, _) = self.model.forward(Input::padded(&rows, Side::Right, &device)); // [B, 1]
            scores.extend(device::read_numbers(numbers, "scoring answers").await?);
        }
        Ok(scores)
    }

    async fn score_texts(&self, answers: &[AnswerText<'_>], device: &Device) -> Result<Vec<f32>> {
        let texts: Vec<String> =
            answers.iter().map(|answer| format!("{}{}", answer.prompt, answer.answer)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let predictor = Predictor::new(&self.model, &self.config, &self.tokenizer, device)?;
        let found = predictor.classify(&texts).await?;
        let number = |prediction: Prediction| match prediction {
            Prediction::Number { value } => value,
            _ => f32::NAN,
        };
        Ok(found.into_iter().map(|found| number(found.prediction)).collect())
    }

    /// Its decoder and the weights of its head, `[1, n_embd]`, for a value model to begin from.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a model that is no decoder with the policy's tokens, from which no value
    /// model can be made.
    pub fn value_parts(&self) -> Result<(&Decoder, Tensor<2>)> {
        if let (Model::Decoder(decoder), true) = (&self.model, self.shares_tokens)
            && let Some(head) = &decoder.projection.head
        {
            let weight = head.effective_weight();
            let weight = if weight.is_autodiff() { weight.inner() } else { weight };
            return Ok((decoder, weight.transpose()));
        }
        Err(Error::InvalidValue {
            key: "ppo.value".into(),
            value: "own".into(),
            message: format!(
                "the value model begins from the reward model `{}`, which is no decoder with the policy's tokens",
                self.path.display()
            ),
            hint: Some(hint!["add ", hint::set("ppo.value", "shared")]),
        })
    }
}
