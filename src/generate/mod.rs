//! Continuing text: one token at a time through a KV cache, sampled on the host.

pub mod sampling;
mod stop;

use crate::{
    config::{ModelConfig, SampleConfig},
    device::device_failed,
    error::Result,
    model::{Decoder, KvCache},
    tokenizer::Tokenizer,
};
use burn::tensor::{Device, Tensor, TensorData};
use sampling::Sampler;
use serde::Serialize;
use stop::StopText;

/// What was written and why it ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generated {
    /// Without the prompt.
    pub text: String,
    pub tokens: usize,
    pub reason: StopReason,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// `max_new_tokens` reached.
    Length,
    /// One of the stop strings appeared.
    StopText,
    /// The model ended the document.
    EndOfText,
    /// The caller asked to stop.
    Interrupted,
}

/// Logits of the next token, keeping what was already seen in a cache.
pub struct NextToken<'a> {
    model: &'a Decoder,
    cache: KvCache,
    /// Tokens in the cache.
    context: Vec<u32>,
    device: Device,
}

impl<'a> NextToken<'a> {
    /// `model` is without autodiff (`Module::valid`) and lives on `device`.
    pub fn new(model: &'a Decoder, config: &ModelConfig, device: &Device) -> Self {
        let device = device.clone().inner();
        Self { model, cache: KvCache::new(config, 1, &device), context: Vec::new(), device }
    }

    /// Reads `tokens` (at least one) after those already seen and returns the logits
    /// `[vocab_size]` of the one to follow. Once the context is full its older half is forgotten.
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let block_size = self.cache.remaining() + self.cache.len();
        let fits = tokens.len() <= self.cache.remaining();
        let to_read = if fits {
            tokens.to_vec()
        } else {
            self.cache.clear();
            let mut all = std::mem::take(&mut self.context);
            all.extend_from_slice(tokens);
            // A prompt may fill the whole block; a continuation leaves room to go on.
            let kept = if tokens.len() > 1 { block_size } else { (block_size / 2).max(1) };
            all.split_off(all.len().saturating_sub(kept))
        };
        self.context.extend_from_slice(&to_read);
        let time = to_read.len();
        let ids: Vec<i32> = to_read.into_iter().map(|token| token as i32).collect();
        let input = Tensor::from_data(TensorData::new(ids, [1, time]), &self.device);
        let logits = self.model.forward(input, Some(&mut self.cache)).narrow(1, time - 1, 1);
        let data = logits.into_data_async().await;
        let failed = |message| device_failed(&self.device, "generating", message);
        let data = data.map_err(|e| failed(e.to_string()))?;
        data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))
    }
}

/// Continues `sample.prompt`. `on_text` is given each new piece of text as soon as it is certain;
/// `interrupted` is asked after each token.
pub async fn generate(
    model: &Decoder,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    sample: &SampleConfig,
    device: &Device,
    on_text: &mut dyn FnMut(&str),
    interrupted: &dyn Fn() -> bool,
) -> Result<Generated> {
    let mut tokens = prompt_tokens(tokenizer, &sample.prompt)?;
    let mut next = NextToken::new(model, config, device);
    let mut sampler = Sampler::new(sample);
    let mut decoder = tokenizer.stream();
    let mut output = StopText::new(&sample.stop);
    let end_of_text = tokenizer.end_of_text();
    let known = tokenizer.vocab_size();

    let mut count = 0;
    let mut new = tokens.clone();
    let reason = loop {
        if count == sample.max_new_tokens {
            break StopReason::Length;
        }
        let mut logits = next.logits(&new).await?;
        // A model may have more outputs than the tokenizer has tokens (padding to a round size).
        logits.truncate(known);
        let token = sampler.sample(&mut logits, &tokens);
        count += 1;
        if Some(token) == end_of_text {
            break StopReason::EndOfText;
        }
        tokens.push(token);
        new = vec![token];
        if output.push(&decoder.push(token)?, on_text) {
            break StopReason::StopText;
        }
        if interrupted() {
            break StopReason::Interrupted;
        }
    };
    if reason != StopReason::StopText {
        output.finish(&decoder.finish()?, on_text);
    }
    Ok(Generated { text: output.into_text(), tokens: count, reason })
}

/// The prompt's tokens; for a prompt without any the token that ends documents, a line break, or
/// whatever the tokenizer's first token is.
fn prompt_tokens(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    let tokens = tokenizer.encode(prompt)?;
    if !tokens.is_empty() {
        return Ok(tokens);
    }
    if let Some(token) = tokenizer.end_of_text() {
        return Ok(vec![token]);
    }
    Ok(tokenizer.encode("\n").ok().filter(|tokens| !tokens.is_empty()).unwrap_or_else(|| vec![0]))
}
