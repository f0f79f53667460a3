//! Text generation with a KV cache: one token at a time, sampled on the host, or by beam search.

pub mod batch;
pub mod beam;
mod completion;
pub mod decoder;
mod output;
mod sampled;
pub mod sampling;
mod session;
mod stop;

pub use session::Session;

use crate::{
    config::{ModelConfig, SampleConfig},
    error::{Error, Result},
    model::{Input, KvCache, Model, Side},
    tokenizer::Tokenizer,
};
use beam::BeamSearch;
use burn::tensor::Device;
pub use completion::Completion;
pub(crate) use decoder::start_token;
use decoder::{Prompt, TextDecoder};
use output::Output;
use sampled::Sampled;
use sampling::Sampler;
use serde::Serialize;

/// Generated text, and the reason why it ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generated {
    /// Generated text without the prompt. The prompt is continued exactly, so that the text may begin with a
    /// space.
    pub text: String,
    /// Number of generated tokens, including one that ended the text.
    pub tokens: usize,
    pub reason: StopReason,
    /// Number of the prompt's tokens that were not read, because the context is full.
    pub prompt_tokens_cut: usize,
}

/// Reason why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// `max_new_tokens` was reached.
    Length,
    /// One of the stop strings appeared.
    StopText,
    /// The model ended the document.
    EndOfText,
    /// The caller asked to stop.
    Interrupted,
}

/// Tokens that can be generated.
pub struct Vocabulary<'a> {
    /// Number of tokens of the tokenizer. A model may have more outputs, because its vocabulary is padded to
    /// a round size; they are never generated.
    pub known: usize,
    /// Tokens that each end a text.
    pub end_tokens: &'a [u32],
}

/// A model that generates text, with its configuration, tokenizer and device.
#[derive(Clone, Copy)]
pub struct Generator<'a> {
    /// The model, without autodiff (`Module::valid`).
    pub model: &'a Model,
    pub config: &'a ModelConfig,
    pub tokenizer: &'a Tokenizer,
    pub device: &'a Device,
}

impl Generator<'_> {
    /// Continues `sample.prompt`, or, if the model has an encoder, generates a text for it. `on_text` is
    /// called with each new piece of text as soon as it is certain; `interrupted` is called after each token.
    ///
    /// # Errors
    /// [`Error::InvalidValue`](crate::Error::InvalidValue) for an encoder without a decoder,
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) for a prompt that cannot be encoded,
    /// [`Error::NonFiniteOutput`](crate::Error::NonFiniteOutput) and
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn generate(
        &self,
        sample: &SampleConfig,
        on_text: &mut dyn FnMut(&str),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Generated> {
        self.generate_row(&sample.prompt, 0, sample, on_text, interrupted).await
    }

    /// Generates the same texts for many prompts as [`generate`](Self::generate) for each. If the model
    /// allows it, they are one batch, in which shorter prompts are padded on the left. `first` is the number
    /// of the first prompt, since each draws its own random numbers. `sample.prompt` is ignored.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate).
    pub async fn generate_each(
        &self,
        prompts: &[&str],
        first: usize,
        sample: &SampleConfig,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Vec<Generated>> {
        if sample.num_beams > 1 || !batch::is_exact(self.config) {
            let mut all = Vec::new();
            for (number, prompt) in prompts.iter().enumerate() {
                all.push(self.generate_row(prompt, first + number, sample, &mut |_| {}, interrupted).await?);
            }
            return Ok(all);
        }
        let Self { model, config, tokenizer, device } = *self;
        let (decoder, prompts) = TextDecoder::open(model, config, tokenizer, prompts, device)?;
        let mut outputs = prompts
            .iter()
            .map(|prompt| Output::new(tokenizer, prompt, sample))
            .collect::<Result<Vec<_>>>()?;
        let mut reasons = vec![StopReason::Length; outputs.len()];
        let mut ends = |row: usize, token: u32, _: &[f32]| -> Result<bool> {
            let reason = outputs[row].push(token, &mut |_| {})?;
            let reason = reason.or_else(|| interrupted().then_some(StopReason::Interrupted));
            reasons[row] = reason.unwrap_or(StopReason::Length);
            Ok(reason.is_some())
        };
        let tokens = prompts.into_iter().map(|prompt| prompt.tokens).collect();
        let known = tokenizer.vocab_size();
        batch::generate(&decoder, config, tokens, known, first, sample, device, &mut ends).await?;
        outputs.into_iter().zip(reasons).map(|(output, reason)| output.finish(reason, &mut |_| {})).collect()
    }

    /// Continues prompts of at least one token each by `sample.max_new_tokens` tokens, whatever these are.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate), and [`Error::InvalidValue`](crate::Error::InvalidValue) for a
    /// model with an encoder, which continues no text.
    pub async fn continue_tokens(
        &self,
        prompts: Vec<Vec<u32>>,
        sample: &SampleConfig,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<u32>>> {
        let Self { model, config, tokenizer, device } = *self;
        let Model::Decoder(decoder) = model else {
            let message = "only a decoder without an encoder continues a text";
            return Err(Error::invalid_value("model.architecture", "with an encoder", message));
        };
        let decoder = TextDecoder::DecoderOnly(decoder);
        let known = tokenizer.vocab_size();
        let at_once = if batch::is_exact(config) { prompts.len().max(1) } else { 1 };
        let mut all = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(at_once) {
            let mut found = vec![Vec::with_capacity(sample.max_new_tokens); prompts.len()];
            let mut ends = |row: usize, token: u32, _: &[f32]| {
                found[row].push(token);
                Ok(interrupted())
            };
            let first = all.len();
            batch::generate(&decoder, config, prompts.to_vec(), known, first, sample, device, &mut ends)
                .await?;
            all.append(&mut found);
        }
        Ok(all)
    }

    /// Generates the text of one prompt. `row` is its number among several, which determines its random
    /// numbers.
    async fn generate_row(
        &self,
        prompt: &str,
        row: usize,
        sample: &SampleConfig,
        on_text: &mut dyn FnMut(&str),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Generated> {
        let Self { model, config, tokenizer, device } = *self;
        let (decoder, mut prompts) = TextDecoder::open(model, config, tokenizer, &[prompt], device)?;
        let Some(prompt) = prompts.pop() else { unreachable!("one prompt was given") };
        let output = Output::new(tokenizer, &prompt, sample)?;
        if sample.num_beams > 1 {
            return self.search(&decoder, &prompt, output, sample, on_text, interrupted).await;
        }
        // Not the whole context where that is longer: some models' takes gigabytes.
        let capacity = prompt.tokens.len().saturating_add(sample.max_new_tokens);
        let mut next = NextToken::new(decoder, config, capacity, device);
        let sampler = Sampler::of_row(sample, row as u64);
        let sampled = Sampled { new: prompt.tokens.clone(), tokens: prompt.tokens, output, sampler };
        sampled.run(&mut next, tokenizer.vocab_size(), sample.max_new_tokens, on_text, interrupted).await
    }

    /// Generates a text by beam search, which is known only when it is complete.
    async fn search(
        &self,
        decoder: &TextDecoder<'_>,
        prompt: &Prompt,
        mut output: Output<'_>,
        sample: &SampleConfig,
        on_text: &mut dyn FnMut(&str),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Generated> {
        let Self { config, tokenizer, device, .. } = *self;
        let vocabulary = Vocabulary { known: tokenizer.vocab_size(), end_tokens: tokenizer.end_tokens() };
        let search = BeamSearch {
            beams: sample.num_beams,
            length_penalty: sample.length_penalty,
            max_new_tokens: sample.max_new_tokens,
        };
        let (tokens, reason) =
            search.run(decoder, config, &prompt.tokens, &vocabulary, device, interrupted).await?;
        for token in tokens {
            if let Some(reason) = output.push(token, on_text)? {
                return output.finish(reason, on_text);
            }
        }
        let mut generated = output.finish(reason, on_text)?;
        // The search gives no token that ends a text.
        generated.tokens += usize::from(reason == StopReason::EndOfText);
        Ok(generated)
    }
}

/// Computes the logits of the next token, with a KV cache of the earlier ones.
pub struct NextToken<'a> {
    decoder: TextDecoder<'a>,
    cache: KvCache,
    /// Tokens in the cache.
    context: Vec<u32>,
    device: Device,
}

impl<'a> NextToken<'a> {
    /// Makes an empty cache. `device` is that of the model. `capacity` is the number of tokens that will be
    /// read; beyond it, or beyond the model's context, the oldest tokens are dropped.
    pub fn new(decoder: TextDecoder<'a>, config: &ModelConfig, capacity: usize, device: &Device) -> Self {
        let device = device.clone().inner();
        Self { decoder, cache: KvCache::new(config, 1, capacity, &device), context: Vec::new(), device }
    }

    /// Reads `tokens` (at least one) after the cached ones and returns the logits of the next token,
    /// `[vocab_size]`. When the context is full, its older half is dropped.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let capacity = self.cache.remaining() + self.cache.len();
        let fits = tokens.len() <= self.cache.remaining();
        let to_read = if fits {
            tokens.to_vec()
        } else {
            self.cache.clear();
            let mut all = std::mem::take(&mut self.context);
            all.extend_from_slice(tokens);
            // A prompt may fill the whole context; a continuation keeps half of it free.
            let kept = if tokens.len() > 1 { capacity } else { kept_of(capacity) };
            all.split_off(all.len().saturating_sub(kept))
        };
        self.context.extend_from_slice(&to_read);
        self.decoder.next(Input::padded(&[to_read], Side::Left, &self.device), &mut self.cache).await
    }
}

/// Number of tokens, the newest included, that remain when a full context of `capacity` tokens is shortened.
fn kept_of(capacity: usize) -> usize {
    (capacity / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Norm, Position, RopeConfig, RopeLayout},
        kernels::Mode,
        model::Decoder,
    };
    use burn::tensor::{Tensor, TensorData};

    /// A small model with weights large enough that logits are far from zero and from each other.
    pub(super) fn small() -> ModelConfig {
        ModelConfig {
            vocab_size: 13,
            block_size: 16,
            n_layer: 2,
            n_head: 4,
            n_embd: 16,
            init_std: 0.3,
            ..Default::default()
        }
    }

    #[test]
    fn logits_with_the_cache_are_those_without() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let learned = small();
        let rotary = |layout, n_kv_head| ModelConfig {
            position: Position::Rotary,
            norm: Norm::Rmsnorm,
            rope: RopeConfig { layout, ..Default::default() },
            n_kv_head,
            ..learned.clone()
        };
        let tokens: Vec<u32> = (0..16).map(|i| (i * i + 3) % 13).collect();
        for config in [
            rotary(RopeLayout::Half, None),
            rotary(RopeLayout::Half, Some(2)),
            rotary(RopeLayout::Interleaved, Some(1)),
            ModelConfig { n_kv_head: Some(2), ..learned.clone() },
            ModelConfig { position: Position::Sinusoidal, ..learned.clone() },
            learned,
        ] {
            let model = Decoder::init(&config, Mode::Fused, 3, &device);
            let mut next = NextToken::new(TextDecoder::DecoderOnly(&model), &config, tokens.len(), &device);
            let mut seen = 0;
            // A prompt, then one token at a time, and several at once in between.
            for count in [5, 1, 1, 3, 1, 1, 1, 1, 1, 1] {
                let cached = pollster::block_on(next.logits(&tokens[seen..seen + count])).unwrap();
                seen += count;
                let ids: Vec<i32> = tokens[..seen].iter().map(|&token| token as i32).collect();
                let input =
                    Tensor::<2, burn::tensor::Int>::from_data(TensorData::new(ids, [1, seen]), &device);
                let last = model.forward(input, None).narrow(1, seen - 1, 1);
                let plain = last.into_data().try_into_vec_as::<f32>().unwrap();
                assert_eq!(cached.len(), plain.len());
                let worst = cached.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-5, "{worst:e} after {seen} tokens: {config:?}");
                assert!(plain.iter().any(|logit| logit.abs() > 0.5), "{plain:?}");
            }
            assert_eq!(seen, tokens.len());
        }
    }

    #[test]
    fn a_prompt_sees_itself_whole_where_the_model_learned_to() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let mut config = small();
        config.attention.prefix = true;
        let model = Decoder::init(&config, Mode::Fused, 3, &device);
        let tokens = [1, 5, 2, 7, 3, 4];
        let mut next = NextToken::new(TextDecoder::DecoderOnly(&model), &config, 16, &device);
        pollster::block_on(next.logits(&tokens[..4])).unwrap();
        pollster::block_on(next.logits(&tokens[4..5])).unwrap();
        let next_logits = pollster::block_on(next.logits(&tokens[5..])).unwrap();
        // As a row of training with the same four tokens before the completion.
        let prefix = Tensor::from_data([[true, true, true, true, false, false]], &device);
        let input = Input { prefix: Some(prefix), ..Input::padded(&[tokens.to_vec()], Side::Left, &device) };
        let last = model.forward(input, None).narrow(1, 5, 1).into_data().try_into_vec_as::<f32>().unwrap();
        let worst = next_logits.iter().zip(&last).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{worst:e}");
        let causal = Input::padded(&[tokens.to_vec()], Side::Left, &device);
        let causal =
            model.forward(causal, None).narrow(1, 5, 1).into_data().try_into_vec_as::<f32>().unwrap();
        assert!(next_logits.iter().zip(&causal).any(|(a, b)| (a - b).abs() > 1e-3));
    }
}
