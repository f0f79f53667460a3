//! Samples answers to prompts, through the KV cache.

use super::{Answer, Prompt};
use crate::{
    config::{Config, SampleConfig},
    error::Result,
    generate::{Completion, Generator},
    model::Model,
    objective::Start,
    transform,
};

/// Samples an answer to each prompt as `rollout` says, or none to a prompt that is too long. The log-probabilities of
/// its tokens are there if they are asked for.
///
/// # Errors
/// Those of [`Generator::complete`].
pub async fn sample_answers(
    run: &Start<'_>,
    policy: &Model,
    prompts: &[&Prompt],
    seed: u64,
    with_log_probabilities: bool,
) -> Result<Vec<Option<Completion>>> {
    let config = run.config;
    let sample = SampleConfig {
        temperature: config.rollout.temperature,
        max_new_tokens: config.rollout.max_new_tokens,
        stop: config.rollout.stop.clone(),
        seed,
        ..SampleConfig::default()
    };
    let fits = |prompt: &Prompt| prompt.tokens.len() + sample.max_new_tokens <= config.model.block_size;
    let rows: Vec<&[u32]> =
        prompts.iter().filter(|prompt| fits(prompt)).map(|prompt| prompt.tokens.as_slice()).collect();
    let (tokenizer, device) = (&run.dataset.tokenizer, run.device);
    // Unmerged, the norms of DoRA would be computed again for each token.
    let merged = config.adapter.is_on().then(|| transform::adapter::merge(policy));
    let policy = merged.as_ref().unwrap_or(policy);
    let generator = Generator { model: policy, config: &config.model, tokenizer, device };
    let at_once = config.rollout.generation_batch;
    let mut found = generator.complete(&rows, 0, at_once, &sample, with_log_probabilities).await?.into_iter();
    Ok(prompts.iter().map(|prompt| if fits(prompt) { found.next() } else { None }).collect())
}

/// Rows of prompts and sampled answers. A prompt without an answer is left out.
pub fn answer_rows(prompts: &[&Prompt], completions: &[Option<Completion>]) -> Vec<Answer> {
    let row = |(prompt, completion): (&&Prompt, &Option<Completion>)| match completion {
        Some(completion) => {
            Answer { prompt: prompt.tokens.clone(), tokens: completion.tokens.clone(), is_left_out: false }
        }
        // The beginning stands for a prompt that is too long for a row.
        None => Answer { prompt: prompt.tokens[..1].to_vec(), tokens: Vec::new(), is_left_out: true },
    };
    prompts.iter().zip(completions).map(row).collect()
}

/// Message about a prompt that leaves no room for an answer.
pub fn no_room(prompt: &Prompt, config: &Config) -> String {
    let (length, block_size) = (prompt.tokens.len(), config.model.block_size);
    format!("a prompt has {length} tokens, which leaves no room for an answer in {block_size}")
}
