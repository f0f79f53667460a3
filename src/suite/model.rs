//! The model that a suite evaluates, as the suite sees it: contexts and texts go in, log-likelihoods and
//! generated texts come out.

use crate::{error::Result, generation::Generation};

/// A model with its tokenizer. Each function returns one output per request, in the order of the requests.
pub trait Model {
    /// Log-likelihoods of continuations, each given its context.
    ///
    /// # Errors
    /// [`Error::Model`](crate::error::Error::Model), as of each function below.
    fn loglikelihood(&mut self, requests: &[LikelihoodRequest]) -> Result<Vec<Likelihood>>;

    /// Log-likelihoods of whole texts, each in nats. A text that is longer than the context is cut into
    /// windows, and each token is predicted once.
    fn loglikelihood_rolling(&mut self, texts: &[String]) -> Result<Vec<f64>>;

    /// Continues contexts. The generated texts end before the first of the stop strings.
    fn generate_until(&mut self, requests: &[GenerationRequest]) -> Result<Vec<String>>;
}

/// A continuation whose likelihood is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikelihoodRequest {
    pub context: String,
    pub continuation: String,
}

/// Likelihood of a continuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Sum of the log-probabilities of the continuation's tokens, in nats.
    pub logprob_sum: f64,
    /// Whether each token of the continuation is the most likely one.
    pub is_greedy: bool,
    /// Number of tokens of the continuation.
    pub tokens: usize,
}

/// A context to continue, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    pub context: String,
    pub generation: Generation,
}
