//! Answers to prompts that are given as tokens, with the very tokens that were sampled, which reinforcement
//! learning trains on.

use super::{Generator, StopReason, batch, decoder::Prompt, decoder::TextDecoder, output::Output};
use crate::{
    config::SampleConfig,
    error::{Error, Result},
    model::Model,
};

/// A sampled answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Sampled tokens, including those that end the answer.
    pub tokens: Vec<u32>,
    /// Log-probability of each token in nats, under the whole vocabulary at the temperature of sampling.
    pub log_probabilities: Vec<f32>,
    /// Text of the answer, without what ended it.
    pub text: String,
    pub reason: StopReason,
}

impl Generator<'_> {
    /// Samples an answer to each prompt of at least one token, `at_once` of them together. `first` is the
    /// number of the first prompt, since each draws its own random numbers: the answers do not depend on
    /// `at_once`, but for rounding. `sample.prompt` is ignored.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a model with an encoder, [`Error::NonFiniteOutput`] and
    /// [`Error::DeviceFailed`].
    pub async fn complete(
        &self,
        prompts: &[&[u32]],
        first: usize,
        at_once: usize,
        sample: &SampleConfig,
    ) -> Result<Vec<Completion>> {
        let Self { model, config, tokenizer, device } = *self;
        let Model::Decoder(decoder) = model else {
            let message = "only a decoder without an encoder answers a prompt";
            return Err(Error::invalid_value("model.architecture", "with an encoder", message));
        };
        let decoder = TextDecoder::DecoderOnly(decoder);
        let at_once = if batch::is_exact(config) { at_once.max(1) } else { 1 };
        let mut all = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(at_once) {
            let prompts: Vec<Prompt> = prompts
                .iter()
                .map(|tokens| Prompt { tokens: tokens.to_vec(), is_continued: true, tokens_cut: 0 })
                .collect();
            let outputs = prompts.iter().map(|prompt| Output::new(tokenizer, prompt, sample));
            let mut outputs = outputs.collect::<Result<Vec<_>>>()?;
            let mut sampled = vec![(Vec::new(), Vec::new(), StopReason::Length); prompts.len()];
            let mut ends = |row: usize, token: u32, logits: &[f32]| -> Result<bool> {
                let reason = outputs[row].push(token, &mut |_| {})?;
                let (tokens, log_probabilities, end) = &mut sampled[row];
                tokens.push(token);
                log_probabilities.push(log_probability(logits, token, sample.temperature));
                *end = reason.unwrap_or(StopReason::Length);
                Ok(reason.is_some())
            };
            let (number, known) = (first + all.len(), tokenizer.vocab_size());
            let tokens = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
            batch::generate(&decoder, config, tokens, known, number, sample, device, &mut ends).await?;
            for (output, (tokens, log_probabilities, reason)) in outputs.into_iter().zip(sampled) {
                let text = output.finish(reason, &mut |_| {})?.text;
                all.push(Completion { tokens, log_probabilities, text, reason });
            }
        }
        Ok(all)
    }
}

/// Logarithm of a token's probability. Logits are divided by the temperature if it is not 0.
fn log_probability(logits: &[f32], token: u32, temperature: f64) -> f32 {
    let scale = if temperature > 0.0 { 1.0 / temperature } else { 1.0 };
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let from_largest = |logit: f32| f64::from(logit - largest) * scale;
    let sum: f64 = logits.iter().map(|&logit| from_largest(logit).exp()).sum();
    let own = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    (from_largest(own) - sum.ln()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::TokenizerConfig,
        generate::tests::small,
        kernels::Mode,
        model::{Input, Side},
        tokenizer::Tokenizer,
    };
    use burn::tensor::activation::log_softmax;

    /// Answers are the tokens that were drawn, whatever they spell, and their log-probabilities are those of
    /// a pass over the whole text.
    #[test]
    fn sampled_tokens_are_kept_with_their_log_probabilities() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let tokenizer = Tokenizer::train(&TokenizerConfig::default(), &[], ["abcdefghijkl\n"]).unwrap();
        let config = small();
        assert_eq!(tokenizer.vocab_size(), config.vocab_size);
        let model = Model::init(&config, Mode::Fused, 3, &device);
        let generator = Generator { model: &model, config: &config, tokenizer: &tokenizer, device: &device };
        let end = tokenizer.encode("\n").unwrap()[0];
        let sample = SampleConfig {
            temperature: 0.7,
            max_new_tokens: 9,
            stop: vec!["\n".into()],
            seed: 11,
            ..SampleConfig::default()
        };
        let prompts: Vec<Vec<u32>> =
            vec![vec![1, 2, 3], vec![4], vec![5, 6], vec![7, 8, 9, 10, 11], vec![3; 2]];
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let complete = |first, prompts: &[&[u32]], at_once| {
            pollster::block_on(generator.complete(prompts, first, at_once, &sample)).unwrap()
        };
        let answers = complete(0, &prompts, 8);
        let mut lengths = std::collections::BTreeSet::new();
        for (prompt, answer) in prompts.iter().zip(&answers) {
            let ended = answer.tokens.last() == Some(&end);
            assert_eq!(answer.reason, if ended { StopReason::StopText } else { StopReason::Length });
            let text = tokenizer.decode(&answer.tokens).unwrap();
            assert_eq!(answer.text, text.trim_end_matches('\n'));
            lengths.insert(answer.tokens.len());

            let row: Vec<u32> = prompt.iter().chain(&answer.tokens).copied().collect();
            let (logits, _) = model.forward(Input::padded(&[row], Side::Right, &device));
            let log_p = log_softmax(logits.div_scalar(0.7), 1).into_data().try_into_vec_as::<f32>().unwrap();
            for (place, (&token, found)) in answer.tokens.iter().zip(&answer.log_probabilities).enumerate() {
                let expected = log_p[(prompt.len() - 1 + place) * config.vocab_size + token as usize];
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
        assert!(lengths.len() > 1, "{lengths:?}");
        // A row has its own random numbers, however many are sampled together.
        let tokens =
            |answers: &[Completion]| answers.iter().map(|answer| answer.tokens.clone()).collect::<Vec<_>>();
        assert_eq!(tokens(&complete(0, &prompts, 2)), tokens(&answers));
        assert_eq!(tokens(&complete(3, &prompts[3..], 8)), tokens(&answers[3..]));
        assert_ne!(tokens(&complete(5, &prompts, 8)), tokens(&answers));
    }
}
