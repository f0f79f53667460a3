//! Generation turn by turn: each prompt usually begins with the one before and what was generated then, so
//! that the cache need not be computed again.

use super::{
    Generated, Generator, NextToken,
    decoder::{Prompt, TextDecoder, gives_numbers},
    output::Output,
    sampled::Sampled,
    sampling::Sampler,
};
use crate::{
    config::SampleConfig,
    error::{Error, Result},
    model::{Decoder, Model},
};

/// A decoder that generates several texts one after the other.
pub struct Session<'a> {
    generator: Generator<'a>,
    decoder: &'a Decoder,
    next: Option<NextToken<'a>>,
    /// Number of texts so far, each of which draws its own random numbers.
    texts: u64,
}

impl<'a> Session<'a> {
    /// Starts a session.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a model with an encoder or with another head, which continues no text.
    pub fn new(generator: Generator<'a>) -> Result<Self> {
        let Model::Decoder(decoder) = generator.model else {
            let message = "only a decoder without an encoder continues a text";
            return Err(Error::invalid_value("model.architecture", "with an encoder", message));
        };
        if !generator.config.supports_generation() {
            return Err(gives_numbers());
        }
        Ok(Self { generator, decoder, next: None, texts: 0 })
    }

    /// Generates a text after the tokens of a prompt, of which there is at least one. `on_text` is called with
    /// each new piece of text as soon as it is certain; `interrupted` is called after each token. The prompt
    /// of `sample` and its number of beams are ignored.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], [`Error::NonFiniteOutput`] and [`Error::DeviceFailed`].
    pub async fn generate(
        &mut self,
        tokens: Vec<u32>,
        sample: &SampleConfig,
        on_text: &mut dyn FnMut(&str),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Generated> {
        let Generator { config, tokenizer, device, .. } = self.generator;
        let limit = config.context_limit().unwrap_or(usize::MAX);
        let needed = tokens.len().saturating_add(sample.max_new_tokens).min(limit);
        // With prefix attention the tokens of a prompt see each other, so that they are read together.
        let is_kept = |next: &NextToken<'_>| next.capacity() >= needed && !config.attention.prefix;
        let mut next = match self.next.take().filter(is_kept) {
            Some(next) => next,
            None => {
                let decoder = TextDecoder::DecoderOnly(self.decoder);
                // Room for some turns more, but not for the whole context, which may take gigabytes.
                NextToken::new(decoder, config, needed.saturating_mul(2), device)
            }
        };
        let known = next.keep_common(&tokens);
        let tokens_cut = tokens.len().saturating_sub(limit);
        let prompt = Prompt { tokens, is_continued: true, tokens_cut };
        let output = Output::new(tokenizer, &prompt, sample)?;
        let sampled = Sampled {
            new: prompt.tokens[known..].to_vec(),
            tokens: prompt.tokens,
            output,
            sampler: Sampler::of_row(sample, self.texts),
        };
        self.texts += 1;
        let vocabulary = tokenizer.vocab_size();
        let generated = sampled.run(&mut next, vocabulary, sample.max_new_tokens, on_text, interrupted).await;
        self.next = Some(next);
        generated
    }
}

impl NextToken<'_> {
    /// Number of tokens that fit into the cache.
    fn capacity(&self) -> usize {
        self.cache.remaining() + self.cache.len()
    }

    /// Drops the tokens from the cache that are not those of a prompt. Returns the number of the prompt's tokens
    /// that are in it, which is not all of them, so that one is left to read.
    fn keep_common(&mut self, prompt: &[u32]) -> usize {
        let is_whole = self.cache.len() == self.context.len();
        let common = self.context.iter().zip(prompt).take_while(|(own, other)| own == other).count();
        let kept = if is_whole { common.min(prompt.len().saturating_sub(1)) } else { 0 };
        self.cache.truncate(kept);
        self.context.truncate(kept);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{TokenizerConfig, TokenizerKind},
        generate::StopReason,
        kernels::Mode,
        tokenizer::Tokenizer,
    };

    #[test]
    fn turns_are_those_of_fresh_sessions() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let tokenizer_config = TokenizerConfig { kind: TokenizerKind::Char, vocab_size: 0, path: None };
        let tokenizer = Tokenizer::train(&tokenizer_config, &[], ["abcdefghijklm"]).unwrap();
        let config = crate::generate::tests::small();
        let model = Model::Decoder(Decoder::init(&config, Mode::Fused, 3, &device));
        let generator = Generator { model: &model, config: &config, tokenizer: &tokenizer, device: &device };
        let sample = SampleConfig { max_new_tokens: 3, temperature: 0.0, ..SampleConfig::default() };
        let turn = |session: &mut Session<'_>, tokens: &[u32]| {
            let mut observe = |_: &str| {};
            let generated = session.generate(tokens.to_vec(), &sample, &mut observe, &|| false);
            pollster::block_on(generated).unwrap()
        };
        let mut session = Session::new(generator).unwrap();
        // A turn that goes on, one that goes back, the same once more, and one beyond the context.
        for tokens in [&[1, 2][..], &[1, 2, 3, 4, 5, 6], &[1, 2, 9], &[1, 2, 9], &[7; 15]] {
            let fresh = turn(&mut Session::new(generator).unwrap(), tokens);
            let found = turn(&mut session, tokens);
            assert_eq!(found, fresh, "{tokens:?}");
            assert_eq!((found.tokens, found.reason), (3, StopReason::Length));
        }
    }
}
