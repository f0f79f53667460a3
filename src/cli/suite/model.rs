//! The model of an evaluation as `kiln-suite` sees it.

use crate::{config::SampleConfig, eval::scorer::Scorer};
use kiln_suite::{
    error::{Error, Result},
    generation::Generation,
    model::{GenerationRequest, Likelihood, LikelihoodRequest, Model},
};

/// A scorer that waits for its results.
pub struct SuiteModel<'a>(pub Scorer<'a>);

impl Model for SuiteModel<'_> {
    fn loglikelihood(&mut self, requests: &[LikelihoodRequest]) -> Result<Vec<Likelihood>> {
        let pairs: Vec<(&str, &str)> = requests
            .iter()
            .map(|request| (request.context.as_str(), request.continuation.as_str()))
            .collect();
        let found = pollster::block_on(self.0.likelihoods(&pairs)).map_err(failed)?;
        let likelihood = |found: crate::eval::scorer::Likelihood| Likelihood {
            logprob_sum: found.sum,
            is_greedy: found.is_greedy,
            tokens: found.tokens,
        };
        Ok(found.into_iter().map(likelihood).collect())
    }

    fn loglikelihood_rolling(&mut self, texts: &[String]) -> Result<Vec<f64>> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        pollster::block_on(self.0.whole_texts(&texts)).map_err(failed)
    }

    fn generate_until(&mut self, requests: &[GenerationRequest]) -> Result<Vec<String>> {
        let mut texts = vec![String::new(); requests.len()];
        // Requests with the same settings are generated together.
        let mut kinds: Vec<(&Generation, Vec<usize>)> = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            match kinds.iter_mut().find(|(kind, _)| **kind == request.generation) {
                Some((_, numbers)) => numbers.push(number),
                None => kinds.push((&request.generation, vec![number])),
            }
        }
        for (generation, numbers) in kinds {
            let contexts: Vec<&str> =
                numbers.iter().map(|&number| requests[number].context.as_str()).collect();
            let sample = sample(generation);
            let generated = pollster::block_on(self.0.continue_texts(&contexts, &sample)).map_err(failed)?;
            for (number, text) in numbers.into_iter().zip(generated) {
                texts[number] = text;
            }
        }
        Ok(texts)
    }
}

fn sample(generation: &Generation) -> SampleConfig {
    SampleConfig {
        max_new_tokens: generation.max_gen_toks,
        temperature: generation.temperature,
        top_k: generation.top_k.unwrap_or(0),
        top_p: generation.top_p.unwrap_or(1.0),
        stop: generation.until.clone(),
        ..SampleConfig::default()
    }
}

fn failed(error: crate::error::Error) -> Error {
    Error::Model(error.into())
}
