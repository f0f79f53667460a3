//! Writing behind many prompts at once: the rows of one batch, padded at the left so that all end together.

use super::{StopReason, Vocabulary, sampling::Sampler, writer::Writer};
use crate::{
    config::{ModelConfig, SampleConfig},
    error::Result,
    model::{Input, KvCache, Side, mask},
};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A row of the batch.
struct Row<'a> {
    /// Prompt and what is written behind it.
    tokens: Vec<u32>,
    prompt: usize,
    sampler: Sampler<'a>,
    /// Why nothing more is written.
    ended: Option<StopReason>,
}

/// What is written behind each of some prompts (at least one token each), without the token that ends
/// documents, and why it ends. `interrupted` is asked after each token.
///
/// # Errors
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub async fn write(
    writer: &Writer<'_>,
    config: &ModelConfig,
    prompts: &[Vec<u32>],
    vocabulary: &Vocabulary,
    sample: &SampleConfig,
    device: &Device,
    interrupted: &dyn Fn() -> bool,
) -> Result<Vec<(Vec<u32>, StopReason)>> {
    let device = device.clone().inner();
    let cut = |prompt: &Vec<u32>| prompt[prompt.len().saturating_sub(config.block_size)..].to_vec();
    let prompts: Vec<Vec<u32>> = prompts.iter().map(cut).collect();
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    // The last token needs no place in the context.
    let steps = sample.max_new_tokens.min(config.block_size - longest + 1);
    let mut cache = KvCache::new(config, prompts.len(), longest + steps, &device);
    let mut input = Input::padded(&prompts, Side::Left, &device);
    let pads: Vec<usize> = prompts.iter().map(|prompt| longest - prompt.len()).collect();
    let row = |(number, prompt): (usize, Vec<u32>)| Row {
        prompt: prompt.len(),
        tokens: prompt,
        sampler: Sampler::of_row(sample, number as u64),
        ended: None,
    };
    let mut rows: Vec<Row> = prompts.into_iter().enumerate().map(row).collect();
    for step in 0..steps {
        let mut logits = writer.next(input, &mut cache).await?;
        let width = logits.len() / rows.len();
        let known = vocabulary.known.min(width);
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact_mut(width)) {
            if row.ended.is_some() {
                continue;
            }
            let token = row.sampler.sample(&mut logits[..known], &row.tokens);
            if Some(token) == vocabulary.end_of_text {
                row.ended = Some(StopReason::EndOfText);
            } else {
                row.tokens.push(token);
            }
        }
        if interrupted() {
            rows.iter_mut().for_each(|row| row.ended = row.ended.or(Some(StopReason::Interrupted)));
        }
        if rows.iter().all(|row| row.ended.is_some()) {
            break;
        }
        input = next_input(&rows, &pads, longest + step + 1, &device);
    }
    let result = |mut row: Row| (row.tokens.split_off(row.prompt), row.ended.unwrap_or(StopReason::Length));
    Ok(rows.into_iter().map(result).collect())
}

/// The newest token of each row, where it stands, and what of the `seen` ones in the cache is padding.
fn next_input(rows: &[Row], pads: &[usize], seen: usize, device: &Device) -> Input {
    // A row that has ended goes on with anything: nobody reads what follows.
    let newest = rows.iter().map(|row| row.tokens.last().map_or(0, |&token| token as i32));
    let column = |values: Vec<i32>| -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(values, [rows.len(), 1]), device)
    };
    let input = Input::from(column(newest.collect()));
    if pads.iter().all(|&pad| pad == 0) {
        return input;
    }
    let place = |pad: &usize| (seen - 1 - pad) as i32;
    let padding = pads.iter().flat_map(|&pad| (0..seen).map(move |place| place < pad)).collect();
    Input {
        positions: Some(column(pads.iter().map(place).collect())),
        padding: Some(mask(padding, rows.len(), device)),
        ..input
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Norm, Position},
        generate::tests::small,
        kernels::Mode,
        model::Decoder,
    };

    #[test]
    fn rows_of_a_batch_are_written_as_they_are_alone() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let learned = small();
        let of = |position| ModelConfig { position, norm: Norm::Rmsnorm, ..learned.clone() };
        let window = ModelConfig { sliding_window: 3, ..of(Position::Rotary) };
        let positions = [Position::Rotary, Position::Alibi, Position::Relative, Position::Sinusoidal].map(of);
        for config in positions.into_iter().chain([window, learned.clone()]) {
            let model = Decoder::init(&config, Mode::Fused, 3, &device);
            let writer = Writer::Decoder(&model);
            let vocabulary = Vocabulary { known: 13, end_of_text: Some(5) };
            let sample = SampleConfig { temperature: 0.0, max_new_tokens: 8, ..Default::default() };
            let write = |prompts: &[Vec<u32>]| {
                let written = write(&writer, &config, prompts, &vocabulary, &sample, &device, &|| false);
                pollster::block_on(written).unwrap()
            };
            let prompts = [vec![1, 2, 3, 4, 5, 6], vec![7], vec![8, 9, 10]];
            let alone: Vec<_> =
                prompts.iter().flat_map(|prompt| write(std::slice::from_ref(prompt))).collect();
            assert_eq!(write(&prompts), alone, "{config:?}");
        }
    }
}
