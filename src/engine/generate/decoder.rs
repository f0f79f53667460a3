//! The decoder that generates text: a decoder-only model, or the decoder of an encoder-decoder model.

use crate::{
    config::ModelConfig,
    device::read_numbers,
    error::{Error, Result, hint},
    model::{Decoder, EncoderDecoder, Input, KvCache, Model, Side, layers::block::Memory},
    tokenizer::Tokenizer,
};
use burn::tensor::{Device, Tensor};

/// Tokens after which a decoder generates.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Token ids, at least one.
    pub tokens: Vec<u32>,
    /// Whether the generated text continues that of the tokens; otherwise it is a separate text.
    pub is_continued: bool,
    /// Number of the text's tokens that are not read, because the context is full.
    pub tokens_cut: usize,
}

/// Decoder of a model, with the output of the encoder if there is one.
pub enum TextDecoder<'a> {
    DecoderOnly(&'a Decoder),
    EncoderDecoder { model: &'a EncoderDecoder, memory: Box<Memory> },
}

/// Error for a decoder that gives texts numbers and generates none.
pub(super) fn gives_numbers() -> Error {
    Error::InvalidValue {
        key: "model.head".into(),
        value: "regression".into(),
        message: "a reward model gives a text a number and generates none".into(),
        hint: Some(hint![hint::command("kiln classify"), " shows the numbers of texts"]),
    }
}

impl<'a> TextDecoder<'a> {
    /// Makes the decoder for `prompts`, which an encoder reads as far as they fit, and the tokens after which
    /// it generates.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for an encoder, and [`Error::Tokenizer`] for a prompt that cannot be encoded.
    pub fn open(
        model: &'a Model,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        prompts: &[&str],
        device: &Device,
    ) -> Result<(Self, Vec<Prompt>)> {
        let device = device.clone().inner();
        let limit = config.context_limit().unwrap_or(usize::MAX);
        match model {
            Model::Decoder(_) if !config.supports_generation() => Err(gives_numbers()),
            Model::Decoder(decoder) => {
                let prompts = prompts.iter().map(|prompt| Prompt::of_decoder(tokenizer, prompt, limit));
                Ok((Self::DecoderOnly(decoder), prompts.collect::<Result<_>>()?))
            }
            Model::EncoderDecoder(model) => {
                let mut sources = Vec::new();
                let mut begins = Vec::new();
                for prompt in prompts {
                    let mut tokens = tokenizer.encode(prompt)?;
                    let whole = tokens.len();
                    // One position is for the end.
                    tokens.truncate(limit.saturating_sub(1));
                    begins.push(Prompt {
                        tokens: vec![config.decoder_start_token as u32],
                        is_continued: false,
                        tokens_cut: whole - tokens.len(),
                    });
                    tokens.extend(tokenizer.end_of_text());
                    sources.push(if tokens.is_empty() { vec![0] } else { tokens });
                }
                let (memory, _) = model.encode(Input::padded(&sources, Side::Right, &device));
                Ok((Self::EncoderDecoder { model, memory: memory.into() }, begins))
            }
            Model::Encoder(_) => Err(Error::InvalidValue {
                key: "model.architecture".into(),
                value: "encoder".into(),
                message: "an encoder does not generate text".into(),
                hint: Some(hint![
                    hint::command("kiln fill"),
                    " fills its masks, ",
                    hint::command("kiln classify"),
                    " classifies texts"
                ]),
            }),
        }
    }

    /// Logits of the token after the last input token, `[B, 1, vocab_size]`. The input continues the tokens in
    /// the cache.
    fn last_logits(&self, input: Input, cache: &mut KvCache) -> Tensor<3> {
        match self {
            Self::DecoderOnly(decoder) => decoder.last_logits(decoder.prompt(input, cache), cache),
            Self::EncoderDecoder { model, memory } => {
                let logits = model.decode(input.tokens, memory, Some(cache)).0;
                let [_, time, _] = logits.dims();
                logits.narrow(1, time - 1, 1)
            }
        }
    }

    /// Logits of the token after the last input token, `[B * vocab_size]`, read from the device.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn next(&self, input: Input, cache: &mut KvCache) -> Result<Vec<f32>> {
        read_numbers(self.last_logits(input, cache), "generating").await
    }
}

impl Prompt {
    /// Encodes a prompt. A text without tokens becomes the end-of-text token, a line break, or the
    /// tokenizer's first token. `limit` is the length of the context.
    fn of_decoder(tokenizer: &Tokenizer, text: &str, limit: usize) -> Result<Self> {
        let tokens = tokenizer.encode(text)?;
        if !tokens.is_empty() {
            return Ok(Self { tokens_cut: tokens.len().saturating_sub(limit), tokens, is_continued: true });
        }
        Ok(Self { tokens: vec![start_token(tokenizer)], is_continued: false, tokens_cut: 0 })
    }
}

/// Token that a text without a prompt begins after: the end-of-text token, a line break, or the tokenizer's
/// first token.
pub(crate) fn start_token(tokenizer: &Tokenizer) -> u32 {
    let line_break = || tokenizer.encode("\n").ok()?.first().copied();
    tokenizer.end_of_text().or_else(line_break).unwrap_or(0)
}
