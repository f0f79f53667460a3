//! Texts that continue contexts up to a stop string.

use super::{Scorer, context_length, encoding};
use crate::{
    config::SampleConfig,
    error::{Error, Result},
    generate::{
        batch::{self, is_exact},
        decoder::TextDecoder,
    },
    model::Model,
    tokenizer::{DecodeStream, Tokenizer},
};
use std::cmp::Reverse;

/// A text in the making.
struct Text<'a> {
    tokenizer: &'a Tokenizer,
    stops: &'a [String],
    tokens: Vec<u32>,
    stream: DecodeStream,
    /// Text of the tokens so far.
    text: String,
}

impl<'a> Text<'a> {
    fn new(tokenizer: &'a Tokenizer, stops: &'a [String]) -> Result<Self> {
        let (tokens, text) = (Vec::new(), String::new());
        Ok(Self { tokenizer, stops, tokens, stream: tokenizer.stream(&[])?, text })
    }

    /// Adds a token. Returns true if it ends the text.
    fn push(&mut self, token: u32) -> Result<bool> {
        if self.tokenizer.end_tokens().contains(&token) {
            return Ok(true);
        }
        self.tokens.push(token);
        let before = self.text.len();
        self.text += &self.stream.push(token)?;
        let has_stop = |stop: &String| {
            // Only a stop string that ends in the new piece has not been looked for yet.
            let mut from = before.saturating_sub(stop.len());
            while !self.text.is_char_boundary(from) {
                from -= 1;
            }
            !stop.is_empty() && self.text[from..].contains(stop.as_str())
        };
        Ok(self.stops.iter().any(has_stop))
    }

    /// The text, up to the first occurrence of each stop string.
    fn finish(self) -> Result<String> {
        let is_text = |token: &u32| self.tokenizer.token_length(*token) != Some(0);
        let tokens: Vec<u32> = self.tokens.iter().copied().filter(is_text).collect();
        let mut text = self.tokenizer.decode(&tokens)?;
        for stop in self.stops.iter().filter(|stop| !stop.is_empty()) {
            text.truncate(text.find(stop.as_str()).unwrap_or(text.len()));
        }
        Ok(text)
    }
}

impl Scorer<'_> {
    /// Continues contexts with up to `sample.max_new_tokens` tokens, up to the first of `sample.stop`. A context
    /// loses its beginning where it does not leave room for them. `sample.prompt` is ignored.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a context that cannot be encoded, [`Error::InvalidValue`] if the context of the
    /// model has no room for the generated tokens, [`Error::NonFiniteOutput`] and [`Error::DeviceFailed`].
    pub async fn continue_texts(&self, contexts: &[&str], sample: &SampleConfig) -> Result<Vec<String>> {
        let (config, tokenizer) = (self.config(), self.tokenizer());
        let limit = context_length(config);
        let is_joint = matches!(self.generator.model, Model::Decoder(_));
        if is_joint && sample.max_new_tokens >= limit {
            let message = format!("must be less than the {limit} tokens that the model reads");
            return Err(Error::invalid_value("max_gen_toks", sample.max_new_tokens, message));
        }
        let mut prompts = Vec::new();
        for (number, context) in contexts.iter().enumerate() {
            prompts.push((number, encoding::start(tokenizer, context)?));
        }
        prompts.sort_by_key(|(number, tokens)| (Reverse(tokens.len()), contexts[*number]));
        let most = if is_exact(config) { self.batch_size } else { 1 };
        let mut texts = vec![String::new(); contexts.len()];
        for (batch, prompts) in prompts.chunks(most).enumerate() {
            let generated = self.generate_batch(contexts, prompts, batch * most, sample).await?;
            for ((number, _), text) in prompts.iter().zip(generated) {
                texts[*number] = text;
            }
        }
        Ok(texts)
    }

    /// Continues the contexts with these numbers and tokens. `first` is the place of the first one among all,
    /// which determines random numbers.
    async fn generate_batch(
        &self,
        contexts: &[&str],
        prompts: &[(usize, Vec<u32>)],
        first: usize,
        sample: &SampleConfig,
    ) -> Result<Vec<String>> {
        let (config, tokenizer, device) = (self.config(), self.tokenizer(), self.generator.device);
        let (decoder, tokens) = match self.generator.model {
            Model::Decoder(decoder) => {
                let room = context_length(config) - sample.max_new_tokens;
                let newest = |tokens: &Vec<u32>| tokens[tokens.len().saturating_sub(room)..].to_vec();
                let tokens = prompts.iter().map(|(_, tokens)| newest(tokens)).collect();
                (TextDecoder::DecoderOnly(decoder), tokens)
            }
            model => {
                let texts: Vec<&str> = prompts.iter().map(|(number, _)| contexts[*number]).collect();
                let (decoder, begins) = TextDecoder::open(model, config, tokenizer, &texts, device)?;
                (decoder, begins.into_iter().map(|prompt| prompt.tokens).collect())
            }
        };
        let text = |_| Text::new(tokenizer, &sample.stop);
        let mut texts = prompts.iter().map(text).collect::<Result<Vec<_>>>()?;
        let mut ends = |row: usize, token: u32, _: &[f32]| texts[row].push(token);
        let known = tokenizer.vocab_size();
        batch::generate(&decoder, config, tokens, known, first, sample, device, &mut ends).await?;
        texts.into_iter().map(Text::finish).collect()
    }
}
