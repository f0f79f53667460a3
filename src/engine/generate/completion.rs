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
    /// Log-probability of each token in nats, under the whole vocabulary at the temperature of sampling; empty
    /// unless asked for.
    pub log_probabilities: Vec<f32>,
    /// Entropy of the distribution that each token was drawn from, in nats; empty unless asked for.
    pub entropies: Vec<f32>,
    /// Text of the answer, without what ended it.
    pub text: String,
    pub reason: StopReason,
}

impl Generator<'_> {
    /// Samples an answer to each prompt of at least one token, `at_once` of them together. `first` is the
    /// number of the first prompt, since each draws its own random numbers: the answers do not depend on
    /// `at_once`, but for rounding. `sample.prompt` is ignored. Log-probabilities and entropies of the tokens take a pass
    /// over the vocabulary on the host for each token, and are there if they are asked for.
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
        with_log_probabilities: bool,
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
            let mut sampled = vec![(Vec::new(), Vec::new(), Vec::new(), StopReason::Length); prompts.len()];
            let mut ends = |row: usize, token: u32, logits: &[f32]| -> Result<bool> {
                let reason = outputs[row].push(token, &mut |_| {})?;
                let (tokens, log_probabilities, entropies, end) = &mut sampled[row];
                tokens.push(token);
                if with_log_probabilities {
                    let (log_probability, entropy) = log_probability(logits, token, sample.temperature);
                    log_probabilities.push(log_probability);
                    entropies.push(entropy);
                }
                *end = reason.unwrap_or(StopReason::Length);
                Ok(reason.is_some())
            };
            let (number, known) = (first + all.len(), tokenizer.vocab_size());
            let tokens = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
            batch::generate(&decoder, config, tokens, known, number, sample, device, &mut ends).await?;
            for (output, (tokens, log_probabilities, entropies, reason)) in outputs.into_iter().zip(sampled) {
                let text = output.finish(reason, &mut |_| {})?.text;
                all.push(Completion { tokens, log_probabilities, entropies, text, reason });
            }
        }
        Ok(all)
    }
}

/// Logarithm of a token's probability, and entropy of the distribution. Logits are divided by the temperature if it is
/// not 0.
fn log_probability(logits: &[f32], token: u32, temperature: f64) -> (f32, f32) {
    let scale = if temperature > 0.0 { 1.0 / temperature } else { 1.0 };
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let from_largest = |logit: f32| f64::from(logit - largest) * scale;
    let (mut sum, mut weighted) = (0.0, 0.0);
    for &logit in logits {
        let difference = from_largest(logit);
        let weight = difference.exp();
        sum += weight;
        // A token that cannot be drawn has the logit -inf.
        weighted += if weight > 0.0 { weight * difference } else { 0.0 };
    }
    let own = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    ((from_largest(own) - sum.ln()) as f32, (sum.ln() - weighted / sum) as f32)
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

    /// Answers are the tokens that were drawn, whatever they spell, and their log-probabilities and entropies are
    /// those of a pass over the whole text.
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
            let found = generator.complete(prompts, first, at_once, &sample, true);
            pollster::block_on(found).unwrap()
        };
        let answers = complete(0, &prompts, 8);
        let mut lengths = std::collections::BTreeSet::new();
        for (prompt, answer) in prompts.iter().zip(&answers) {
            let ended = answer.tokens.last() == Some(&end);
            assert_eq!(answer.reason, if ended { StopReason::StopText } else { StopReason::Length });
            assert_eq!(answer.log_probabilities.len(), answer.tokens.len());
            let text = tokenizer.decode(&answer.tokens).unwrap();
            assert_eq!(answer.text, text.trim_end_matches('\n'));
            lengths.insert(answer.tokens.len());

            let row: Vec<u32> = prompt.iter().chain(&answer.tokens).copied().collect();
            let (logits, _) = model.forward(Input::padded(&[row], Side::Right, &device));
            let log_p = log_softmax(logits.div_scalar(0.7), 1).into_data().try_into_vec_as::<f32>().unwrap();
            let rows = log_p.chunks(config.vocab_size).skip(prompt.len() - 1);
            let found = answer.log_probabilities.iter().zip(&answer.entropies);
            for ((row, &token), (log_probability, entropy)) in rows.zip(&answer.tokens).zip(found) {
                let expected = row[token as usize];
                assert!((log_probability - expected).abs() < 1e-4, "{log_probability} {expected}");
                let expected: f32 = row.iter().map(|log_p| -log_p.exp() * log_p).sum();
                assert!((entropy - expected).abs() < 1e-4, "{entropy} {expected}");
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
