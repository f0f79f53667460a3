//! The model of `tests/fixtures/suite/golden.py` in Rust.

use crate::{
    error::Result,
    model::{GenerationRequest, Likelihood, LikelihoodRequest, Model},
};
use std::collections::HashMap;

/// A model that computes its outputs from a hash of the request.
#[derive(Default)]
pub struct HashModel {
    /// Number of texts that were generated for a context.
    generated: HashMap<String, u64>,
}

/// FNV-1a (Fowler, Noll and Vo, 1991).
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

impl Model for HashModel {
    fn loglikelihood(&mut self, requests: &[LikelihoodRequest]) -> Result<Vec<Likelihood>> {
        let likelihood = |request: &LikelihoodRequest| {
            let hash = hash(&format!("{}\0{}", request.context, request.continuation));
            let logprob_sum = -((hash % 1_000_003) as f64) / 37_000.0;
            Likelihood {
                logprob_sum,
                is_greedy: (hash >> 32).is_multiple_of(3),
                tokens: request.continuation.len(),
            }
        };
        Ok(requests.iter().map(likelihood).collect())
    }

    fn loglikelihood_rolling(&mut self, texts: &[String]) -> Result<Vec<f64>> {
        Ok(texts.iter().map(|text| -((hash(text) % 1_000_003) as f64) / 1000.0).collect())
    }

    fn generate_until(&mut self, requests: &[GenerationRequest]) -> Result<Vec<String>> {
        let mut text = |request: &GenerationRequest| {
            let count = self.generated.entry(request.context.clone()).or_insert(0);
            let hash =
                hash(&format!("{}\0{count}\0{}", request.context, request.generation.until.join("\0")));
            *count += 1;
            let number = (hash >> 8) % 4;
            match hash % 6 {
                0 => format!("So it is {number} + 1.\n#### {number}"),
                1 => format!(" The answer is ${number},000. "),
                2 => format!("#### {number}.\n#### 7"),
                3 => format!("I think (B): Blue {number}, \"no\" (A)"),
                4 => format!("THE cat sat on {number} mats"),
                _ => "no number".into(),
            }
        };
        Ok(requests.iter().map(&mut text).collect())
    }
}
