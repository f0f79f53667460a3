//! What writes: a decoder that continues a text, or one beside an encoder that has read it.

use crate::{
    config::ModelConfig,
    device::device_failed,
    error::{Error, Result},
    model::{Decoder, EncoderDecoder, Input, KvCache, Model, Side, layers::block::Memory},
    tokenizer::Tokenizer,
};
use burn::tensor::{Device, Tensor};

/// A model that has read what an encoder is to read, if it has one.
pub enum Writer<'a> {
    Decoder(&'a Decoder),
    BesideEncoder { model: &'a EncoderDecoder, memory: Box<Memory> },
}

impl<'a> Writer<'a> {
    /// What writes after `prompts`, as many tokens of each as the context holds, and the tokens that it is
    /// to go on after.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for an encoder, and [`Error::Tokenizer`] for a prompt without tokens of its own.
    pub fn open(
        model: &'a Model,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        prompts: &[&str],
        device: &Device,
    ) -> Result<(Self, Vec<Vec<u32>>)> {
        let device = device.clone().inner();
        match model {
            Model::Decoder(decoder) => {
                let tokens = prompts.iter().map(|prompt| prompt_tokens(tokenizer, prompt));
                Ok((Self::Decoder(decoder), tokens.collect::<Result<_>>()?))
            }
            Model::EncoderDecoder(model) => {
                let read = |prompt: &&str| {
                    let mut tokens = tokenizer.encode(prompt)?;
                    tokens.truncate(config.block_size - 1);
                    tokens.extend(tokenizer.end_of_text());
                    Ok(if tokens.is_empty() { vec![0] } else { tokens })
                };
                let sources = prompts.iter().map(read).collect::<Result<Vec<_>>>()?;
                let (memory, _) = model.encode(Input::padded(&sources, Side::Right, &device));
                let start = vec![config.decoder_start_token as u32];
                Ok((Self::BesideEncoder { model, memory: memory.into() }, vec![start; prompts.len()]))
            }
            Model::Encoder(_) => Err(Error::InvalidValue {
                key: "model.architecture".into(),
                value: "encoder".into(),
                message: "an encoder does not write".into(),
                hint: Some("`kiln fill` fills its masks, `kiln classify` asks its classifier".into()),
            }),
        }
    }

    /// Logits `[B, T, vocab_size]` of what follows each of the tokens, which continue those in the cache.
    pub fn forward(&self, input: Input, cache: &mut KvCache) -> Tensor<3> {
        match self {
            Self::Decoder(decoder) => decoder.forward(decoder.prompt(input, cache), Some(cache)),
            Self::BesideEncoder { model, memory } => model.decode(input.tokens, memory, Some(cache)).0,
        }
    }

    /// The same of the last token alone, read off the device, `[B * vocab_size]`.
    pub async fn next(&self, input: Input, cache: &mut KvCache) -> Result<Vec<f32>> {
        let [_, time] = input.tokens.dims();
        let device = input.tokens.device();
        let logits = self.forward(input, cache).narrow(1, time - 1, 1); // [B, 1, vocab_size]
        let failed = |message| device_failed(&device, "generating", message);
        let data = logits.into_data_async().await.map_err(|e| failed(e.to_string()))?;
        data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))
    }
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
