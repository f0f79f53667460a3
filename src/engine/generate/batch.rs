//! Generates the texts of many prompts together, as rows of one batch that are padded on the left so that all
//! end at the same position. Each text is the same as if it were generated alone, also when the older half of
//! a full context is dropped.

use super::{decoder::TextDecoder, kept_of, sampling::Sampler};
use crate::{
    config::{Architecture, ModelConfig, SampleConfig},
    error::Result,
    model::{Input, KvCache, Side, mask},
};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// One row of the batch.
struct Row<'a> {
    /// Number of the prompt.
    number: usize,
    /// Tokens of the prompt and those generated after it.
    tokens: Vec<u32>,
    sampler: Sampler<'a>,
    /// Number of newest tokens that are in the context.
    context: usize,
    /// Maximum number of tokens in the context.
    capacity: usize,
    /// Whether generation has ended for this row.
    has_ended: bool,
}

impl Row<'_> {
    fn newest(&self, count: usize) -> Vec<u32> {
        self.tokens[self.tokens.len().saturating_sub(count)..].to_vec()
    }
}

/// Whether a batch generates the same texts as single prompts. This is not so if experts have a capacity,
/// which rows then share, nor if a decoder attends to blocks, which are counted from the first token, padding
/// included.
pub(crate) fn is_exact(config: &ModelConfig) -> bool {
    let shares_experts = config.has_experts() && config.moe.capacity.is_some();
    let counts_blocks =
        config.attention.sparse_block.is_some() && config.architecture == Architecture::Decoder;
    !shares_experts && !counts_blocks
}

/// Called with the number of a row, each new token of it, and the logits that the token was drawn from. Returns
/// whether the row ends.
pub type OnToken<'a> = dyn FnMut(usize, u32, &[f32]) -> Result<bool> + 'a;

/// Generates tokens after several prompts of at least one token each. Only the first `known` tokens of the
/// vocabulary may be drawn. `first` is the number of the first prompt, which determines random numbers.
///
/// # Errors
/// Those of `ends`, [`Error::NonFiniteOutput`](crate::Error::NonFiniteOutput) and
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
#[allow(clippy::too_many_arguments, reason = "each is one thing")]
pub async fn generate(
    decoder: &TextDecoder<'_>,
    config: &ModelConfig,
    prompts: Vec<Vec<u32>>,
    known: usize,
    first: usize,
    sample: &SampleConfig,
    device: &Device,
    ends: &mut OnToken<'_>,
) -> Result<()> {
    let device = device.clone().inner();
    let limit = config.context_limit().unwrap_or(usize::MAX);
    let row = |(number, tokens): (usize, Vec<u32>)| {
        let capacity = tokens.len().saturating_add(sample.max_new_tokens).min(limit);
        Row {
            number,
            context: tokens.len().min(capacity),
            capacity,
            tokens,
            sampler: Sampler::of_row(sample, (first + number) as u64),
            has_ended: false,
        }
    };
    let mut rows: Vec<Row> = prompts.into_iter().enumerate().map(row).collect();
    let widest = rows.iter().map(|row| row.context).max().unwrap_or(0);
    // Once the cache is full, tokens that are in no row's context are dropped from it.
    let columns = widest.saturating_add(sample.max_new_tokens).min(limit.saturating_mul(2));
    let prompts = Prompts::of(&rows, decoder);
    let mut cache = KvCache::with_capacity(config, prompts.contexts.len(), columns, &device);
    for step in 0..sample.max_new_tokens {
        let mut logits = match step {
            0 => prompts.read(decoder, &mut cache, &device).await?,
            _ => read_newest(decoder, config, &mut rows, &mut cache, &device).await?,
        };
        let width = logits.len() / rows.len();
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact_mut(width)) {
            if row.has_ended {
                continue;
            }
            let token = row.sampler.sample(&mut logits[..known.min(width)], &row.tokens)?;
            row.tokens.push(token);
            row.has_ended = ends(row.number, token, logits)?;
        }
        if rows.iter().all(|row| row.has_ended) {
            break;
        }
        // What an encoder has read stays as many rows as it is.
        if matches!(decoder, TextDecoder::DecoderOnly(_)) {
            drop_ended(&mut rows, &mut cache, &device);
        }
    }
    Ok(())
}

/// The prompts of a batch. One that adjacent rows share is there once.
struct Prompts {
    /// Tokens of each prompt that are in the context.
    contexts: Vec<Vec<u32>>,
    /// Index of each row's prompt.
    of_rows: Vec<i32>,
}

impl Prompts {
    fn of(rows: &[Row<'_>], decoder: &TextDecoder<'_>) -> Self {
        // Beside an encoder the rows differ in what the encoder has read.
        let may_share = matches!(decoder, TextDecoder::DecoderOnly(_));
        let mut prompts = Self { contexts: Vec::new(), of_rows: Vec::with_capacity(rows.len()) };
        for row in rows {
            let context = row.newest(row.context);
            if !(may_share && prompts.contexts.last() == Some(&context)) {
                prompts.contexts.push(context);
            }
            prompts.of_rows.push(prompts.contexts.len() as i32 - 1);
        }
        prompts
    }

    /// Reads each prompt once into an empty cache, which has all rows of the batch afterwards. Returns the next
    /// token's logits, `[B * vocab_size]`.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    async fn read(
        &self,
        decoder: &TextDecoder<'_>,
        cache: &mut KvCache,
        device: &Device,
    ) -> Result<Vec<f32>> {
        let logits = decoder.next(Input::padded(&self.contexts, Side::Left, device), cache).await?;
        let rows = self.of_rows.len();
        if self.contexts.len() == rows {
            return Ok(logits);
        }
        cache.select(Tensor::from_data(TensorData::new(self.of_rows.clone(), [rows]), device));
        let prompts: Vec<&[f32]> = logits.chunks_exact(logits.len() / self.contexts.len()).collect();
        Ok(self.of_rows.iter().flat_map(|&prompt| prompts[prompt as usize]).copied().collect())
    }
}

/// Removes the rows that have ended from the batch and the cache, once they are half of them. The copy of the
/// cache costs less than computing them until all have ended.
fn drop_ended(rows: &mut Vec<Row<'_>>, cache: &mut KvCache, device: &Device) {
    let going: Vec<i32> = (0..rows.len()).filter(|&row| !rows[row].has_ended).map(|row| row as i32).collect();
    if 2 * going.len() > rows.len() {
        return;
    }
    let count = going.len();
    cache.select(Tensor::from_data(TensorData::new(going, [count]), device));
    rows.retain(|row| !row.has_ended);
}

/// Reads the newest token of each row and returns the next token's logits, `[B * vocab_size]`. Rows whose
/// context is full drop its older half and read the rest again, separately. Rows that have ended continue
/// with arbitrary logits, which nobody reads.
async fn read_newest(
    decoder: &TextDecoder<'_>,
    config: &ModelConfig,
    rows: &mut [Row<'_>],
    cache: &mut KvCache,
    device: &Device,
) -> Result<Vec<f32>> {
    let is_full = |row: &Row| row.context == row.capacity;
    let full: Vec<usize> =
        (0..rows.len()).filter(|&row| is_full(&rows[row]) && !rows[row].has_ended).collect();
    let alive = rows.iter().filter(|row| !row.has_ended).count();
    for row in rows.iter_mut() {
        row.context = match (is_full(row), row.has_ended) {
            (false, _) => row.context + 1,
            (true, false) => kept_of(row.capacity),
            (true, true) => row.context,
        };
    }
    // Rows that fill the context all have its capacity, so that they keep equally many tokens. Beside an
    // encoder all rows are equally long, and all are full at once.
    if full.len() == alive {
        let kept = full.first().map_or(1, |&row| rows[row].context);
        rows.iter_mut().for_each(|row| row.context = row.context.min(kept));
        cache.clear();
        let contexts: Vec<_> = rows.iter().map(|row| row.newest(row.context)).collect();
        return decoder.next(Input::padded(&contexts, Side::Left, device), cache).await;
    }
    if cache.remaining() == 0 {
        let seen = rows.iter().map(|row| row.context).max().unwrap_or(0);
        cache.keep_newest(seen.min(cache.len()));
    }
    let input = next_input(rows, cache.len() + 1, device);
    let mut logits = decoder.next(input, cache).await?;
    if !full.is_empty() {
        let contexts: Vec<_> = full.iter().map(|&row| rows[row].newest(rows[row].context)).collect();
        let mut own = KvCache::new(config, full.len(), contexts[0].len(), device);
        let anew = decoder.next(Input::padded(&contexts, Side::Left, device), &mut own).await?;
        cache.replace(&full, &own);
        let width = logits.len() / rows.len();
        for (&row, anew) in full.iter().zip(anew.chunks_exact(width)) {
            logits[row * width..(row + 1) * width].copy_from_slice(anew);
        }
    }
    Ok(logits)
}

/// Input of one token per row: the newest token, its position, and a mask of those of the `seen` tokens in
/// the cache that are not in the row's context.
fn next_input(rows: &[Row], seen: usize, device: &Device) -> Input {
    let newest = rows.iter().map(|row| row.tokens.last().map_or(0, |&token| token as i32));
    let column = |values: Vec<i32>| -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(values, [rows.len(), 1]), device)
    };
    let input = Input::from(column(newest.collect()));
    if rows.iter().all(|row| row.context == seen) {
        return input;
    }
    let padding =
        rows.iter().flat_map(|row| (0..seen).map(move |position| position + row.context < seen)).collect();
    Input {
        positions: Some(column(rows.iter().map(|row| row.context as i32 - 1).collect())),
        padding: Some(mask(padding, rows.len(), device)),
        ..input
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{AttentionConfig, Norm, Position},
        generate::{NextToken, tests::small},
        kernels::Mode,
        model::Decoder,
    };

    const KNOWN: usize = 13;

    /// Tokens generated for a single prompt, up to one that ends the text.
    fn alone(model: &Decoder, config: &ModelConfig, prompt: &[u32], sample: &SampleConfig) -> Vec<u32> {
        let device = crate::device::Choice::cpu().open().unwrap();
        let capacity = prompt.len() + sample.max_new_tokens;
        let mut next = NextToken::new(TextDecoder::DecoderOnly(model), config, capacity, &device);
        let (mut tokens, mut new) = (prompt.to_vec(), prompt.to_vec());
        let mut sampler = Sampler::new(sample);
        while tokens.len() < capacity {
            let mut logits = pollster::block_on(next.logits(&new)).unwrap();
            let token = sampler.sample(&mut logits, &tokens).unwrap();
            tokens.push(token);
            new = vec![token];
            if token == 5 {
                break;
            }
        }
        tokens.split_off(prompt.len())
    }

    fn together(
        model: &Decoder,
        config: &ModelConfig,
        prompts: &[Vec<u32>],
        sample: &SampleConfig,
    ) -> Vec<Vec<u32>> {
        let device = crate::device::Choice::cpu().open().unwrap();
        let mut found = vec![Vec::new(); prompts.len()];
        let mut ends = |row: usize, token, _: &[f32]| {
            found[row].push(token);
            Ok(token == 5)
        };
        let decoder = TextDecoder::DecoderOnly(model);
        let generated = generate(&decoder, config, prompts.to_vec(), KNOWN, 0, sample, &device, &mut ends);
        pollster::block_on(generated).unwrap();
        found
    }

    fn configurations() -> Vec<ModelConfig> {
        let learned = small();
        let of = |position| ModelConfig { position, norm: Norm::Rmsnorm, ..learned.clone() };
        let with = |attention, config| ModelConfig { attention, ..config };
        let window =
            with(AttentionConfig { sliding_window: Some(3), ..Default::default() }, of(Position::Rotary));
        let prefix = with(AttentionConfig { prefix: true, ..Default::default() }, learned.clone());
        let grouped = ModelConfig { n_kv_head: Some(2), ..of(Position::Rotary) };
        let positions = [Position::Rotary, Position::Alibi, Position::Relative, Position::Sinusoidal].map(of);
        positions.into_iter().chain([window, prefix, grouped, learned]).collect()
    }

    /// Texts are as long as the context or far longer, so that each row drops tokens at another time than the
    /// others.
    #[test]
    fn rows_of_a_batch_are_generated_as_they_are_alone() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let prompts =
            [vec![1, 2, 3, 4, 5, 6], vec![7], vec![8, 9, 10], (0..40).map(|i| i * i % 13).collect()];
        let mut past_the_context = 0;
        for config in configurations() {
            let model = Decoder::init(&config, Mode::Fused, 3, &device);
            for max_new_tokens in [0, 1, 8, 11, 70] {
                let sample = SampleConfig { temperature: 0.0, max_new_tokens, ..Default::default() };
                // Of the last ones, two adjacent rows share a prompt.
                let shared: [Vec<u32>; 4] = [vec![1; 3], vec![1; 3], vec![7], vec![1; 3]];
                for prompts in [&prompts[..], &prompts[..3], &[vec![1; 3], vec![2; 3]], &shared] {
                    let found = together(&model, &config, prompts, &sample);
                    for (prompt, found) in prompts.iter().zip(found) {
                        let alone = alone(&model, &config, prompt, &sample);
                        past_the_context += usize::from(prompt.len() + alone.len() > config.block_size);
                        assert_eq!(found, alone, "{max_new_tokens} after {prompt:?}: {config:?}");
                    }
                }
            }
        }
        assert!(past_the_context > 50, "{past_the_context}");
    }

    #[test]
    fn a_context_of_one_token_goes_on_too() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let config = ModelConfig { block_size: 1, ..small() };
        let model = Decoder::init(&config, Mode::Fused, 3, &device);
        let sample = SampleConfig { temperature: 0.0, max_new_tokens: 5, ..Default::default() };
        let prompts = [vec![1, 2, 3], vec![4]];
        let found = together(&model, &config, &prompts, &sample);
        for (prompt, found) in prompts.iter().zip(found) {
            assert_eq!(found, alone(&model, &config, prompt, &sample));
        }
    }

    #[test]
    fn rows_that_would_disturb_each_other_are_generated_alone() {
        assert!(configurations().iter().all(is_exact));
        let mut experts = small();
        experts.moe.n_experts = 4;
        assert!(is_exact(&experts));
        experts.moe.capacity = Some(1.0);
        assert!(!is_exact(&experts));
        let mut sparse = small();
        sparse.attention.sparse_block = Some(2);
        assert!(!is_exact(&sparse));
        assert!(is_exact(&ModelConfig { architecture: Architecture::EncoderDecoder, ..sparse }));
    }
}
