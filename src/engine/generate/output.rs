//! Assembles the generated text of one prompt and detects its end.

use super::{Generated, StopReason, decoder::Prompt, stop::StopText};
use crate::{
    config::SampleConfig,
    error::Result,
    tokenizer::{DecodeStream, Tokenizer},
};

/// Text that is generated for a prompt.
pub(super) struct Output<'a> {
    decoder: DecodeStream,
    end_tokens: &'a [u32],
    text: StopText<'a>,
    /// Number of tokens so far, including one that ends the text.
    tokens: usize,
    prompt_tokens_cut: usize,
}

impl<'a> Output<'a> {
    /// Starts the text that is generated after a prompt.
    ///
    /// # Errors
    /// Those of [`Tokenizer::decode`].
    pub fn new(tokenizer: &'a Tokenizer, prompt: &Prompt, sample: &'a SampleConfig) -> Result<Self> {
        let before = if prompt.is_continued { &prompt.tokens[..] } else { &[] };
        Ok(Self {
            decoder: tokenizer.stream(before)?,
            end_tokens: tokenizer.end_tokens(),
            text: StopText::new(&sample.stop),
            tokens: 0,
            prompt_tokens_cut: prompt.tokens_cut,
        })
    }

    /// Number of tokens so far, including one that ends the text.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Adds the next token. Returns the reason if it ends the text.
    ///
    /// # Errors
    /// Those of [`DecodeStream::push`].
    pub fn push(&mut self, token: u32, on_text: &mut dyn FnMut(&str)) -> Result<Option<StopReason>> {
        self.tokens += 1;
        if self.end_tokens.contains(&token) {
            return Ok(Some(StopReason::EndOfText));
        }
        let piece = self.decoder.push(token)?;
        Ok(self.text.push(&piece, on_text).then_some(StopReason::StopText))
    }

    /// Returns the whole text, which has ended for the given reason.
    ///
    /// # Errors
    /// Those of [`DecodeStream::finish`].
    pub fn finish(mut self, reason: StopReason, on_text: &mut dyn FnMut(&str)) -> Result<Generated> {
        if reason != StopReason::StopText {
            self.text.finish(&self.decoder.finish()?, on_text);
        }
        Ok(Generated {
            text: self.text.into_text(),
            tokens: self.tokens,
            reason,
            prompt_tokens_cut: self.prompt_tokens_cut,
        })
    }
}
