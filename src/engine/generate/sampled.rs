//! Samples the tokens of one text.

use super::{Generated, NextToken, StopReason, output::Output, sampling::Sampler};
use crate::error::Result;

/// A text whose tokens are being sampled.
pub(super) struct Sampled<'a> {
    /// Tokens of the prompt, and those generated after it.
    pub tokens: Vec<u32>,
    /// The newest of them, which the model has not read yet.
    pub new: Vec<u32>,
    pub output: Output<'a>,
    pub sampler: Sampler<'a>,
}

impl Sampled<'_> {
    /// Samples tokens until the text ends. Only the first `known` tokens of the vocabulary may be drawn, since
    /// a model may have more outputs than the tokenizer has tokens (padding to a round size).
    ///
    /// # Errors
    /// Those of the model, of sampling and of decoding.
    pub async fn run(
        mut self,
        next: &mut NextToken<'_>,
        known: usize,
        max_new_tokens: usize,
        on_text: &mut dyn FnMut(&str),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Generated> {
        let reason = loop {
            if self.output.tokens() == max_new_tokens {
                break StopReason::Length;
            }
            let mut logits = next.logits(&self.new).await?;
            logits.truncate(known);
            let token = self.sampler.sample(&mut logits, &self.tokens)?;
            self.tokens.push(token);
            self.new = vec![token];
            if let Some(reason) = self.output.push(token, on_text)? {
                break reason;
            }
            if interrupted() {
                break StopReason::Interrupted;
            }
        };
        self.output.finish(reason, on_text)
    }
}
