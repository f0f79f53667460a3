//! Beam search: an approximate search for the most likely text, which keeps several candidates at each step.
//! Scores and termination are like in transformers with `early_stopping=False` (lengths are those of the
//! generated text).

use super::{StopReason, Vocabulary, decoder::TextDecoder, sampling::check};
use crate::{
    config::ModelConfig,
    error::Result,
    model::{Input, KvCache, Side},
};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Settings of a beam search.
pub struct BeamSearch {
    /// Number of candidates that are kept at each step.
    pub beams: usize,
    /// Exponent of the length by which log-probabilities are divided before they are compared.
    pub length_penalty: f64,
    /// Maximum number of tokens to generate.
    pub max_new_tokens: usize,
}

/// One candidate.
#[derive(Clone)]
struct Beam {
    /// Tokens generated so far.
    tokens: Vec<u32>,
    /// Sum of log-probabilities, in nats.
    log_probability: f64,
}

impl BeamSearch {
    /// Finds the best continuation of `prompt` (at least one token), without the token that ends the text,
    /// and the reason why it ends. A full context ends it, too; `interrupted` is called after each token.
    ///
    /// # Errors
    /// [`Error::NonFiniteOutput`](crate::Error::NonFiniteOutput) and
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn run(
        &self,
        decoder: &TextDecoder<'_>,
        config: &ModelConfig,
        prompt: &[u32],
        vocabulary: &Vocabulary<'_>,
        device: &Device,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(Vec<u32>, StopReason)> {
        let device = device.clone().inner();
        let limit = config.context_limit().unwrap_or(usize::MAX);
        let prompt = &prompt[prompt.len().saturating_sub(limit)..];
        let remaining = limit - prompt.len();
        // The last token needs no position in the context.
        let steps = self.max_new_tokens.min(remaining.saturating_add(1));
        // Enough that those which do not end go on, however many of them do: as transformers has it.
        let kept = self.beams.saturating_mul((1 + vocabulary.end_tokens.len()).max(2));
        // One beam reads the prompt, and the others branch off from it.
        let mut cache = KvCache::new(config, 1, prompt.len().saturating_add(steps), &device);
        let mut beams = vec![Beam { tokens: Vec::new(), log_probability: 0.0 }];
        let mut finished: Vec<(f64, Vec<u32>)> = Vec::new();
        let mut unfinished_because = StopReason::Length;
        let mut input = vec![prompt.to_vec()];

        for step in 0..steps {
            let logits = decoder.next(Input::padded(&input, Side::Left, &device), &mut cache).await?; // [N V]
            let width = logits.len() / beams.len();

            let mut candidates: Vec<(f64, usize, u32)> = Vec::new();
            for (row, (logits, beam)) in logits.chunks_exact(width).zip(&beams).enumerate() {
                let logits = &logits[..vocabulary.known.min(width)];
                check(logits)?;
                let scores = log_softmax(logits);
                let scored = scores
                    .enumerate()
                    .map(|(token, score)| (beam.log_probability + score, row, token as u32));
                candidates.extend(scored);
            }
            candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));

            let mut parents = Vec::new();
            let mut next = Vec::new();
            for (rank, (log_probability, row, token)) in candidates.into_iter().take(kept).enumerate() {
                let mut tokens = beams[row].tokens.clone();
                if vocabulary.end_tokens.contains(&token) {
                    // One that only gets here because others ended does not count.
                    if rank < self.beams {
                        finished.push((self.score(log_probability, tokens.len() + 1), tokens));
                    }
                } else if next.len() < self.beams {
                    tokens.push(token);
                    parents.push(row as i32);
                    next.push(Beam { tokens, log_probability });
                }
            }
            finished.sort_by(|a, b| b.0.total_cmp(&a.0));
            finished.truncate(self.beams);
            // A vocabulary of fewer tokens than beams.
            while next.len() < self.beams && !next.is_empty() {
                parents.push(parents[0]);
                next.push(Beam { log_probability: f64::NEG_INFINITY, ..next[0].clone() });
            }
            if next.is_empty() {
                break;
            }
            beams = next;
            let attainable = self.score(beams[0].log_probability, step + 1);
            let full = finished.len() == self.beams;
            if full && finished.last().is_some_and(|(worst, _)| *worst >= attainable) {
                beams.clear();
                break;
            }
            cache.select(Tensor::<1, Int>::from_data(TensorData::new(parents, [self.beams]), &device));
            input = beams.iter().filter_map(|beam| beam.tokens.last()).map(|&token| vec![token]).collect();
            if interrupted() {
                unfinished_because = StopReason::Interrupted;
                break;
            }
        }
        let ended = finished.into_iter().map(|(score, tokens)| (score, tokens, StopReason::EndOfText));
        let unfinished = beams.into_iter().filter(|beam| !beam.tokens.is_empty()).map(|beam| {
            (self.score(beam.log_probability, beam.tokens.len()), beam.tokens, unfinished_because)
        });
        let mut all: Vec<_> = ended.chain(unfinished).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let best = all.into_iter().next().map(|(_, tokens, reason)| (tokens, reason));
        Ok(best.unwrap_or((Vec::new(), StopReason::Length)))
    }

    fn score(&self, log_probability: f64, length: usize) -> f64 {
        log_probability / (length as f64).powf(self.length_penalty)
    }
}

/// Logarithms of the softmax of logits.
fn log_softmax(logits: &[f32]) -> impl Iterator<Item = f64> {
    let value = |logit: &f32| f64::from(*logit);
    let largest = logits.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
    let total = logits.iter().map(|logit| (value(logit) - largest).exp()).sum::<f64>().ln() + largest;
    logits.iter().map(move |logit| value(logit) - total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::Mode, model::Decoder};
    use burn::tensor::activation;

    fn search(beams: usize) -> BeamSearch {
        BeamSearch { beams, length_penalty: 1.0, max_new_tokens: 3 }
    }

    /// With as many beams as there are texts, the search is exhaustive.
    #[test]
    fn enough_beams_find_the_most_likely_text_and_one_is_greedy() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let config = ModelConfig {
            vocab_size: 4,
            block_size: 8,
            n_layer: 1,
            n_head: 2,
            n_embd: 8,
            init_std: 1.0,
            ..Default::default()
        };
        let vocabulary = Vocabulary { known: 4, end_tokens: &[] };
        for seed in 0..8 {
            let model = Decoder::init(&config, Mode::Fused, seed, &device);
            let decoder = TextDecoder::DecoderOnly(&model);
            let probabilities = |tokens: &[u32]| {
                let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
                let input = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, tokens.len()]), &device);
                let logits = model.forward(input, None).narrow(1, tokens.len() - 1, 1);
                activation::log_softmax(logits, 2).into_data().try_into_vec_as::<f32>().unwrap()
            };
            let mut best = (f32::NEG_INFINITY, Vec::new());
            for text in 0..64u32 {
                let tokens = [1, text / 16, text / 4 % 4, text % 4];
                let score =
                    (1..4).map(|end| probabilities(&tokens[..end])[tokens[end] as usize]).sum::<f32>();
                if score > best.0 {
                    best = (score, tokens[1..].to_vec());
                }
            }
            let run = |beams| {
                pollster::block_on(
                    search(beams).run(&decoder, &config, &[1], &vocabulary, &device, &|| false),
                )
                .unwrap()
                .0
            };
            assert_eq!(run(64), best.1, "seed {seed}");
            let mut greedy = vec![1];
            for _ in 0..3 {
                let scores = probabilities(&greedy);
                greedy
                    .push((0..4).max_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize])).unwrap());
            }
            assert_eq!(run(1), greedy[1..]);
            // A context that ends is the end.
            let long = BeamSearch { max_new_tokens: 100, ..search(2) };
            let search_with = |vocabulary, interrupted: &dyn Fn() -> bool| {
                pollster::block_on(long.run(&decoder, &config, &[1, 2, 3], vocabulary, &device, interrupted))
                    .unwrap()
            };
            let (tokens, reason) = search_with(&vocabulary, &|| false);
            assert_eq!((tokens.len(), reason), (6, StopReason::Length));
            let (tokens, reason) = search_with(&vocabulary, &|| true);
            assert_eq!((tokens.len(), reason), (1, StopReason::Interrupted));
            // Where only one token is known and it ends documents, nothing is generated.
            let only_end = Vocabulary { known: 1, end_tokens: &[0] };
            assert_eq!(search_with(&only_end, &|| false), (Vec::new(), StopReason::EndOfText));
        }
    }
}
