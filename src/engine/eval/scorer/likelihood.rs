//! Log-likelihoods of tokens. Rows with the same context are computed together: the model reads what they
//! share once, and continues it for each row from the KV cache.

use super::{Likelihood, Scorer, encoding::check_length};
use crate::{
    device::read_numbers,
    error::{Error, Result},
    generate::batch::is_exact,
    model::{
        Decoder, EncoderDecoder, Input, KvCache, Model, Side,
        layers::{block::Memory, output::Projection},
        mask,
    },
};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};
use std::{cmp::Reverse, collections::BTreeMap};

/// Number of logits that are in memory at a time.
const LOGITS: usize = 1 << 24;

/// A context and its continuation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    context: Vec<u32>,
    continuation: Vec<u32>,
}

/// Rows with the same context, by their numbers.
struct Group<'a> {
    context: &'a [u32],
    rows: Vec<usize>,
    /// Number of tokens at the beginning that the inputs of all rows share, at least those of the context.
    shared: usize,
}

/// Predictions of a forward pass that are wanted: the index of each in the flat output, the token that should
/// follow, and the number of its row.
#[derive(Default)]
struct Wanted {
    indices: Vec<i32>,
    targets: Vec<i32>,
    rows: Vec<usize>,
}

impl Row {
    /// Makes a row. If both are one text (`is_joint`), they may together be one token longer than `limit`, since
    /// the last one is only predicted. A longer context loses its beginning.
    ///
    /// # Errors
    /// Those of [`check_length`]; `text` is the continuation in words.
    pub fn new(
        mut context: Vec<u32>,
        continuation: Vec<u32>,
        limit: usize,
        text: &str,
        is_joint: bool,
    ) -> Result<Self> {
        check_length(text, continuation.len(), limit)?;
        let room = if is_joint { limit + 1 - continuation.len() } else { limit };
        context.drain(..context.len().saturating_sub(room));
        Ok(Self { context, continuation })
    }

    /// Tokens that a decoder reads to predict the continuation.
    fn input(&self) -> Vec<u32> {
        [&self.context[..], &self.continuation[..self.continuation.len() - 1]].concat()
    }

    fn length(&self) -> usize {
        self.context.len() + self.continuation.len()
    }

    /// Adds the predictions at positions `from..to` of a decoder's input; position `from` has the flat index
    /// `first`.
    fn want(&self, number: usize, from: usize, to: usize, first: usize, wanted: &mut Wanted) {
        let start = self.context.len() - 1;
        for position in from.max(start)..to {
            wanted.indices.push((first + position - from) as i32);
            wanted.targets.push(self.continuation[position - start] as i32);
            wanted.rows.push(number);
        }
    }
}

impl Scorer<'_> {
    /// Scores rows, in their order.
    pub(super) async fn score(&self, rows: &[Row]) -> Result<Vec<Likelihood>> {
        let mut likelihoods: Vec<Likelihood> = rows
            .iter()
            .map(|row| Likelihood { sum: 0.0, is_greedy: true, tokens: row.continuation.len() })
            .collect();
        for groups in self.batches(rows) {
            let passes = match self.generator.model {
                Model::Decoder(decoder) => self.decoder_passes(decoder, rows, &groups),
                Model::EncoderDecoder(model) => vec![self.pair_pass(model, rows, &groups)],
                Model::Encoder(_) => Vec::new(),
            };
            for (projection, wanted) in passes {
                self.read(projection, &wanted, &mut likelihoods).await?;
            }
        }
        Ok(likelihoods)
    }

    /// Groups of rows that are computed together, the longest first.
    fn batches<'a>(&self, rows: &'a [Row]) -> Vec<Vec<Group<'a>>> {
        let is_shared = is_exact(self.config());
        let mut by_context: BTreeMap<(&[u32], usize), Vec<usize>> = BTreeMap::new();
        for (number, row) in rows.iter().enumerate() {
            let alone = if is_shared { 0 } else { number };
            by_context.entry((&row.context[..], alone)).or_default().push(number);
        }
        let most = if is_shared { self.batch_size } else { 1 };
        let mut groups: Vec<Group> = by_context
            .into_iter()
            .flat_map(|((context, _), numbers)| {
                let parts: Vec<_> = numbers.chunks(most).map(<[usize]>::to_vec).collect();
                parts.into_iter().map(move |part| (context, part))
            })
            .map(|(context, numbers)| Group { context, shared: shared_length(rows, &numbers), rows: numbers })
            .collect();
        let longest = |group: &Group| group.rows.iter().map(|&number| rows[number].length()).max();
        groups.sort_by_key(|group| Reverse(longest(group)));
        let mut batches: Vec<Vec<Group>> = Vec::new();
        let mut count = most;
        for group in groups {
            if count + group.rows.len() > most {
                batches.push(Vec::new());
                count = 0;
            }
            count += group.rows.len();
            if let Some(batch) = batches.last_mut() {
                batch.push(group);
            }
        }
        batches
    }

    /// Passes of a decoder: one over what the rows of each group share, and one over the rest.
    fn decoder_passes(&self, decoder: &Decoder, rows: &[Row], groups: &[Group]) -> Vec<(Projection, Wanted)> {
        let device = self.device();
        let heads: Vec<Vec<u32>> = groups
            .iter()
            .map(|group| {
                let mut input = rows[group.rows[0]].input();
                input.truncate(group.shared);
                input
            })
            .collect();
        let tails: Vec<(usize, usize, Vec<u32>)> = groups
            .iter()
            .enumerate()
            .flat_map(|(index, group)| group.rows.iter().map(move |&number| (index, group, number)))
            .map(|(index, group, number)| (index, number, rows[number].input().split_off(group.shared)))
            .filter(|(_, _, tail)| !tail.is_empty())
            .collect();
        let width = heads.iter().map(Vec::len).max().unwrap_or(0);
        let longest_tail = tails.iter().map(|(_, _, tail)| tail.len()).max().unwrap_or(0);
        let side = if tails.is_empty() { Side::Right } else { Side::Left };

        let mut wanted = Wanted::default();
        for (index, group) in groups.iter().enumerate() {
            let first = index * width + if side == Side::Left { width - group.shared } else { 0 };
            for &number in &group.rows {
                rows[number].want(number, 0, group.shared, first, &mut wanted);
            }
        }
        let mut input = Input::padded(&heads, side, &device);
        if side == Side::Right {
            // Padding comes after all tokens, so that none attends to it.
            input.padding = None;
        }
        if self.config().attention.prefix {
            input.prefix = Some(prefix_mask(groups, width, side, &device));
        }
        let mut cache = (!tails.is_empty())
            .then(|| KvCache::with_capacity(self.config(), groups.len(), width + longest_tail, &device));
        let indices = column(&wanted.indices, &device);
        let mut passes = vec![(decoder.project_at(input, cache.as_mut(), indices), wanted)];
        if let Some(cache) = &mut cache {
            let group_of: Vec<i32> = tails.iter().map(|(index, _, _)| *index as i32).collect();
            cache.select(column(&group_of, &device));
            let mut wanted = Wanted::default();
            for (place, (index, number, tail)) in tails.iter().enumerate() {
                let from = groups[*index].shared;
                let first = place * longest_tail;
                rows[*number].want(*number, from, from + tail.len(), first, &mut wanted);
            }
            let input = tail_input(&tails, groups, width, &device);
            let indices = column(&wanted.indices, &device);
            passes.push((decoder.project_at(input, Some(cache), indices), wanted));
        }
        passes
    }

    /// The pass of an encoder-decoder: the encoder reads each context once, the decoder each continuation.
    fn pair_pass(&self, model: &EncoderDecoder, rows: &[Row], groups: &[Group]) -> (Projection, Wanted) {
        let device = self.device();
        let sources: Vec<Vec<u32>> = groups.iter().map(|group| group.context.to_vec()).collect();
        let (memory, _) = model.encode(Input::padded(&sources, Side::Right, &device));
        let numbers: Vec<usize> = groups.iter().flat_map(|group| group.rows.iter().copied()).collect();
        let group_of: Vec<i32> = groups
            .iter()
            .enumerate()
            .flat_map(|(index, group)| group.rows.iter().map(move |_| index as i32))
            .collect();
        let of_rows = column(&group_of, &device);
        let memory = Memory {
            states: memory.states.select(0, of_rows.clone()),
            padding: memory.padding.map(|padding| padding.int().select(0, of_rows).equal_elem(1)),
        };
        let start = self.config().decoder_start_token as u32;
        let inputs: Vec<Vec<u32>> = numbers
            .iter()
            .map(|&number| {
                let continuation = &rows[number].continuation;
                [&[start][..], &continuation[..continuation.len() - 1]].concat()
            })
            .collect();
        let width = inputs.iter().map(Vec::len).max().unwrap_or(0);
        let mut wanted = Wanted::default();
        for (place, &number) in numbers.iter().enumerate() {
            for (position, &target) in rows[number].continuation.iter().enumerate() {
                wanted.indices.push((place * width + position) as i32);
                wanted.targets.push(target as i32);
                wanted.rows.push(number);
            }
        }
        let tokens = Input::padded(&inputs, Side::Right, &device).tokens;
        let indices = column(&wanted.indices, &device);
        (model.project_at(tokens, &memory, indices), wanted)
    }

    /// Adds the log-probabilities of wanted tokens to the likelihoods of their rows.
    async fn read(
        &self,
        projection: Projection,
        wanted: &Wanted,
        likelihoods: &mut [Likelihood],
    ) -> Result<()> {
        let device = self.device();
        let count = wanted.targets.len();
        let at_once = (LOGITS / self.config().vocab_size.max(1)).max(1);
        let Projection { states, weight, transposed, softcap, mode } = projection;
        let mut numbers = Vec::new();
        for first in (0..count).step_by(at_once) {
            let rows = at_once.min(count - first);
            let states = states.clone().narrow(0, first, rows);
            let logits = Projection { states, weight: weight.clone(), transposed, softcap, mode }.logits();
            let targets: Tensor<2, Int> =
                column(&wanted.targets[first..first + rows], &device).reshape([rows, 1]);
            let hits = logits.clone().argmax(1).equal(targets.clone()).float();
            let log_probabilities = log_softmax(logits, 1).gather(1, targets);
            numbers.push(Tensor::cat(vec![log_probabilities, hits], 1)); // [rows, 2]
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let values = read_numbers(Tensor::cat(numbers, 0), "evaluating").await?;
        let pairs = values.as_chunks::<2>().0;
        if let Some([value, _]) = pairs.iter().find(|[value, _]| value.is_nan()) {
            let (what, origin) = ("the log-probabilities", None);
            return Err(Error::NonFiniteOutput { what, value: *value, origin });
        }
        for (&[log_probability, hit], &row) in pairs.iter().zip(&wanted.rows) {
            likelihoods[row].sum += f64::from(log_probability);
            likelihoods[row].is_greedy &= hit == 1.0;
        }
        Ok(())
    }
}

/// Number of tokens at the beginning that the inputs of rows share.
fn shared_length(rows: &[Row], numbers: &[usize]) -> usize {
    let inputs: Vec<Vec<u32>> = numbers.iter().map(|&number| rows[number].input()).collect();
    let Some((first, others)) = inputs.split_first() else { return 0 };
    let same = |other: &Vec<u32>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    others.iter().map(same).min().unwrap_or(first.len())
}

/// Input of the tokens of each row after those that its group shares. The cache has `width` tokens of each
/// group, padded on the left.
fn tail_input(tails: &[(usize, usize, Vec<u32>)], groups: &[Group], width: usize, device: &Device) -> Input {
    let tokens: Vec<Vec<u32>> = tails.iter().map(|(_, _, tail)| tail.clone()).collect();
    let input = Input { padding: None, ..Input::padded(&tokens, Side::Right, device) };
    let [rows, time] = input.tokens.dims();
    let shared = || tails.iter().map(|(index, _, _)| groups[*index].shared);
    if shared().all(|shared| shared == width) {
        return input;
    }
    // Padding comes after all tokens of its row, so that its position does not matter; it has one in the context.
    let places = shared().zip(&tokens).flat_map(|(shared, tail)| {
        let last = shared + tail.len() - 1;
        (shared..shared + time).map(move |position| position.min(last) as i32)
    });
    let positions: Vec<i32> = places.collect();
    let padding = shared().flat_map(|shared| (0..width + time).map(move |at| at + shared < width)).collect();
    Input {
        positions: Some(Tensor::from_data(TensorData::new(positions, [rows, time]), device)),
        padding: Some(mask(padding, rows, device)),
        ..input
    }
}

/// Mask of the contexts, whose tokens attend to each other in both directions.
fn prefix_mask(groups: &[Group], width: usize, side: Side, device: &Device) -> Tensor<2, burn::tensor::Bool> {
    let flags = groups.iter().flat_map(|group| {
        let before = if side == Side::Left { width - group.shared } else { 0 };
        (0..width).map(move |at| (before..before + group.context.len()).contains(&at))
    });
    mask(flags.collect(), groups.len(), device)
}

fn column(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

#[cfg(test)]
mod tests;
