//! Exposure of canaries: how much likelier the inserted secret is than others (arXiv:1802.08232, section 4).
//!
//! The exposure is log₂ of the number of possible secrets minus log₂ of the rank of the inserted one among them,
//! by the likelihood of the text. With few secrets all of them are scored. With more, a random sample of them is
//! (the paper's approximation by sampling, section 4.3), which gives no more than log₂ of the sample's size.

use crate::{
    data::{Canary, HostBatch, IGNORE_INDEX, random},
    device::read_numbers,
    error::Result,
    generate::Generator,
    objective::Batch,
    tokenizer::Tokenizer,
};
use serde::{Deserialize, Serialize};

/// Exposure of one canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Exposure {
    /// The text that was inserted.
    pub text: String,
    /// Number of times that it was inserted.
    pub repeat: usize,
    /// Number of possible secrets.
    pub candidates: u64,
    /// Number of secrets that were scored, the inserted one included.
    pub scored: u64,
    /// Number of scored secrets that are at least as likely as the inserted one, which is one of them.
    pub rank: u64,
    /// Exposure in bits; an estimate if not all candidates were scored.
    pub exposure: f64,
    /// Negative log-likelihood of the inserted text, in nats.
    pub loss: f64,
}

/// Maximum number of secrets that are scored for a canary.
pub const MOST_SCORED: u64 = 10_000;

/// Number of tokens that are in a batch.
const TOKENS_AT_ONCE: usize = 8192;

impl Exposure {
    fn new(canary: &Canary, losses: &[f64]) -> Self {
        let (own, others) = losses.split_first().map_or((f64::NAN, &[][..]), |(own, others)| (*own, others));
        let scored = others.len() as u64 + 1;
        let rank = others.iter().filter(|&&loss| loss <= own).count() as u64 + 1;
        Self {
            text: canary.text(),
            repeat: canary.repeat(),
            candidates: canary.candidates(),
            scored,
            rank,
            exposure: (scored as f64 / rank as f64).log2(),
            loss: own,
        }
    }

    /// Largest exposure that can be found with as many scored secrets, in bits.
    pub fn most(&self) -> f64 {
        (self.scored as f64).log2()
    }

    /// Whether only a sample of the secrets was scored.
    pub fn is_estimate(&self) -> bool {
        self.scored < self.candidates
    }
}

/// Computes the exposure of each canary; `seed` determines samples. An interrupt ends it with the canaries that
/// are done.
///
/// # Errors
/// [`Error::Tokenizer`](crate::Error::Tokenizer) if a candidate cannot be encoded,
/// [`Error::NonFiniteOutput`](crate::Error::NonFiniteOutput) and
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub async fn exposures(
    generator: &Generator<'_>,
    canaries: &[Canary],
    seed: u64,
    interrupted: &dyn Fn() -> bool,
) -> Result<Vec<Exposure>> {
    let mut found = Vec::new();
    for (number, canary) in canaries.iter().enumerate() {
        let secrets = secrets_to_score(canary, number as u64, seed);
        let Some(losses) = losses(generator, canary, &secrets, interrupted).await? else { break };
        found.push(Exposure::new(canary, &losses));
    }
    Ok(found)
}

/// The inserted secret, and after it all others or a random sample of them.
fn secrets_to_score(canary: &Canary, number: u64, seed: u64) -> Vec<u64> {
    let own = canary.secret();
    let others: Vec<u64> = if canary.candidates() <= MOST_SCORED {
        (0..canary.candidates()).filter(|&secret| secret != own).collect()
    } else {
        let mut random = random::rng(seed, number, "canary candidates");
        // Numbers from `own` on stand for those after it.
        let draw = || random::below(&mut random, canary.candidates() - 1);
        let other = |secret: u64| secret + u64::from(secret >= own);
        std::iter::repeat_with(draw).map(other).take(MOST_SCORED as usize - 1).collect()
    };
    std::iter::once(own).chain(others).collect()
}

/// Negative log-likelihood of the canary's text with each secret, in nats; `None` if interrupted.
async fn losses(
    generator: &Generator<'_>,
    canary: &Canary,
    secrets: &[u64],
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Vec<f64>>> {
    let Generator { model, config, tokenizer, device } = *generator;
    let device = device.clone().inner();
    let first = first_token(tokenizer);
    let mut losses = Vec::with_capacity(secrets.len());
    let longest = tokenizer.encode(&canary.text())?.len();
    for secrets in secrets.chunks((TOKENS_AT_ONCE / (longest + 1)).max(1)) {
        if interrupted() {
            return Ok(None);
        }
        let texts = secrets.iter().map(|&secret| tokenizer.encode(&canary.candidate(secret)));
        let texts = texts.collect::<Result<Vec<_>>>()?;
        let limit = config.context_limit().unwrap_or(usize::MAX);
        let batch = Batch::new(&rows(&texts, first, limit), &device);
        let values = read_numbers(batch.row_log_probabilities(model), "evaluating").await?;
        crate::Error::check_finite("the log-probabilities of canaries", &values)?;
        losses.extend(values.into_iter().map(|value| -f64::from(value)));
    }
    Ok(Some(losses))
}

/// Token before a text: the end of the document before it, a line break, or the tokenizer's first token.
fn first_token(tokenizer: &Tokenizer) -> u32 {
    let line_break = || tokenizer.encode("\n").ok()?.last().copied();
    tokenizer.end_of_text().or_else(line_break).unwrap_or(0)
}

/// A batch with a text in each row, each token of which is predicted from those before it. Padding follows
/// the texts, so that a decoder needs no mask of it. Texts are cut at `limit` tokens: the inserted canary fits
/// into a block, but another secret may have more tokens.
fn rows(texts: &[Vec<u32>], first: u32, limit: usize) -> HostBatch {
    let time = texts.iter().map(Vec::len).max().unwrap_or(0).clamp(1, limit);
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for text in texts {
        let row = std::iter::once(first).chain(text.iter().copied()).map(|token| token as i32);
        inputs.extend(row.chain(std::iter::repeat(0)).take(time));
        let row = text.iter().map(|&token| token as i32);
        targets.extend(row.chain(std::iter::repeat(IGNORE_INDEX)).take(time));
    }
    HostBatch::new(inputs, targets, texts.len(), time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CanaryConfig, Config, SecretFormat};

    fn canary(length: usize) -> Canary {
        let canary = CanaryConfig { text: "code {}".into(), format: SecretFormat::Digits, length, repeat: 1 };
        let mut config = Config::default();
        config.data.canaries = vec![canary];
        Canary::all(&config).remove(0)
    }

    #[test]
    fn exposure_is_the_rank_among_candidates() {
        let of = |losses: &[f64]| Exposure::new(&canary(3), losses);
        let first = of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((first.rank, first.exposure, first.most()), (1, 2.0, 2.0));
        // Ties count against the canary.
        let last = of(&[2.0, 1.0, 2.0, 0.5]);
        assert_eq!((last.rank, last.exposure), (4, 0.0));
        assert!(last.is_estimate());
    }

    #[test]
    fn few_secrets_are_all_scored_and_many_sampled() {
        let few = canary(3);
        let mut secrets = secrets_to_score(&few, 0, 1);
        assert_eq!((secrets.len(), secrets[0]), (1000, few.secret()));
        secrets.sort_unstable();
        assert!(secrets.iter().copied().eq(0..1000));
        let many = canary(9);
        let secrets = secrets_to_score(&many, 0, 1);
        assert_eq!(secrets.len() as u64, MOST_SCORED);
        assert_eq!(secrets.iter().filter(|&&secret| secret == many.secret()).count(), 1);
        assert!(secrets.iter().all(|&secret| secret < many.candidates()));
        assert_eq!(secrets, secrets_to_score(&many, 0, 1));
    }

    #[test]
    fn rows_predict_every_token_of_a_text() {
        let texts = [vec![5, 6, 7], vec![8]];
        let batch = rows(&texts, 1, 4);
        assert_eq!(batch.inputs, [1, 5, 6, 1, 8, 0]);
        let n = IGNORE_INDEX;
        assert_eq!(batch.targets, [5, 6, 7, 8, n, n]);
        assert_eq!(rows(&texts, 1, 2).targets, [5, 6, 8, n]);
    }
}
