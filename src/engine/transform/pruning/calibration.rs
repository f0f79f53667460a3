//! Calibration: what the linear layers of a model see of a text.

use crate::{
    data::{HostBatch, TokenSplit},
    error::{Error, Result, hint},
    kernels::trace::{LinearInput, record_inputs},
    model::{
        Input, Model, Pass,
        parameters::{self, FlatTensor, NamedData},
    },
};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::collections::BTreeMap;

/// Number of rows that a device computes together.
const ROWS_AT_ONCE: usize = 4;

/// Rows of text that a model is pruned for.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// Tokens of each row, and the one after it.
    rows: Vec<Vec<i32>>,
}

impl Calibration {
    /// Takes up to `count` rows of `time` tokens from a text, at equal distances.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a text that is shorter than a row.
    pub fn of(split: &TokenSplit, time: usize, count: usize) -> Result<Self> {
        let fitting = (split.len() / (time + 1)).min(count);
        if fitting == 0 {
            return Err(Error::InvalidValue {
                key: "calibration text".into(),
                value: format!("{} tokens", split.len()),
                message: format!("a row has {} tokens", time + 1),
                hint: Some(hint!["name a longer text"]),
            });
        }
        let last_start = split.len() - (time + 1);
        let start = |row: usize| if fitting > 1 { row * last_start / (fitting - 1) } else { 0 };
        Ok(Self { rows: (0..fitting).map(|row| split.read(start(row)..start(row) + time + 1)).collect() })
    }

    /// Number of tokens that a model sees.
    pub fn tokens(&self) -> usize {
        self.rows.iter().map(|row| row.len() - 1).sum()
    }

    /// The rows as batches, to measure a loss.
    pub fn batches(&self) -> impl Iterator<Item = HostBatch> + Clone + '_ {
        self.rows.chunks(ROWS_AT_ONCE).map(|rows| {
            let time = rows[0].len() - 1;
            let inputs = rows.iter().flat_map(|row| &row[..time]).copied().collect();
            let targets = rows.iter().flat_map(|row| &row[1..]).copied().collect();
            HostBatch::new(inputs, targets, rows.len(), time)
        })
    }
}

/// A model without autodiff, and the text that it runs over.
#[derive(Clone, Copy)]
pub struct CalibrationRun<'a> {
    pub model: &'a Model,
    pub calibration: &'a Calibration,
    pub device: &'a Device,
}

/// Runs a decoder over a text, block by block. `change` is given the number of each block, the products `Xᵀ X`, `[in,
/// in]`, of the inputs of its linear layers by name, such as `attention.qkv`, and the number of tokens in them. It
/// returns new values of parameters of the block, such as `attention.qkv.weight`; the blocks after it see what the
/// changed block makes of the text.
///
/// # Errors
/// [`Error::InvalidValue`] for a model that is no decoder, [`Error::DeviceFailed`], and those of `change`.
pub(super) async fn walk(
    run: CalibrationRun<'_>,
    mut change: impl FnMut(usize, NamedData, usize) -> Result<NamedData>,
) -> Result<()> {
    let CalibrationRun { model, calibration, device } = run;
    let Model::Decoder(decoder) = model else {
        return Err(Error::InvalidValue {
            key: "model.architecture".into(),
            value: "encoder".into(),
            message: "only decoders are pruned by the text that they see".into(),
            hint: Some(hint!["prune it by the magnitude of its weights"]),
        });
    };
    let pass = Pass::default();
    let embed = |host: HostBatch| {
        let tokens = TensorData::new(host.inputs, [host.rows, host.time]);
        decoder.embed(Input::from(Tensor::<2, Int>::from_data(tokens, device)))
    };
    let mut texts: Vec<_> = calibration.batches().map(embed).collect();
    let mut decoder = decoder.clone();
    for layer in 0..decoder.stack.blocks.len() {
        let block = decoder.stack.blocks.remove(layer);
        let (mut sums, mut outputs) = (BTreeMap::<String, Tensor<2>>::new(), Vec::with_capacity(texts.len()));
        for (x, context) in &texts {
            let ((y, _), inputs) = record_inputs(|| block.forward(x.clone(), context, None, None, &pass));
            for LinearInput { layer, input } in inputs {
                let products = input.clone().transpose().matmul(input);
                let sum = match sums.remove(&layer) {
                    Some(sum) => sum + products,
                    None => products,
                };
                sums.insert(layer, sum);
            }
            outputs.push(y);
        }
        let sums = sums.into_iter().map(|(name, sum)| (name, FlatTensor::from_tensor(sum))).collect();
        let changed = change(layer, parameters::read(sums).await?, calibration.tokens())?;
        let is_changed = !changed.is_empty();
        let block = parameters::put(block, changed);
        for ((x, context), y) in texts.iter_mut().zip(outputs) {
            *x = if is_changed { block.forward(x.clone(), context, None, None, &pass).0 } else { y };
        }
        decoder.stack.blocks.insert(layer, block);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::ModelConfig, data::Tokens, kernels::Mode};

    fn calibration() -> Calibration {
        let tokens = (0..100).map(|i| (i * i + 3) % 11).collect();
        Calibration::of(&TokenSplit::from_tokens("train", Tokens::U32(tokens), vec![]), 9, 3).unwrap()
    }

    #[test]
    fn rows_are_spread_over_the_text() {
        let found = calibration();
        assert_eq!((found.rows.len(), found.tokens()), (3, 27));
        assert_eq!(found.rows[2], (90..100).map(|i| (i * i + 3) % 11).collect::<Vec<i32>>());
        let batch = found.batches().next().unwrap();
        assert_eq!((batch.rows, batch.time, batch.target_tokens), (3, 9, 27));
        assert_eq!((&batch.inputs[1..9], batch.inputs[9]), (&batch.targets[..8], batch.inputs[9]));
        let short = TokenSplit::from_tokens("train", Tokens::U32(vec![1; 9]), vec![]);
        let error = Calibration::of(&short, 9, 3).unwrap_err();
        assert!(
            error.to_string().contains("`9 tokens`") && error.to_string().contains("10 tokens"),
            "{error}"
        );
    }

    #[test]
    fn later_blocks_see_what_changed_blocks_make() {
        let config = ModelConfig {
            block_size: 9,
            vocab_size: 11,
            n_layer: 2,
            n_head: 2,
            n_embd: 8,
            init_std: 0.3,
            ..Default::default()
        };
        let device = crate::device::Choice::cpu().open().unwrap();
        let model = Model::init(&config, Mode::Fused, 5, &device);
        let text = calibration();
        let run = CalibrationRun { model: &model, calibration: &text, device: &device };
        let products = |changes: bool| {
            let mut seen = BTreeMap::new();
            let zero = |products: &NamedData| {
                let zeros = |size| parameters::HostTensor::new([size, 8], vec![0.0; size * 8]);
                let width = products["mlp.down"].shape[0];
                NamedData::from([
                    ("attention.output.weight".into(), zeros(8)),
                    ("mlp.down.weight".into(), zeros(width)),
                ])
            };
            let change = |layer: usize, products: NamedData, tokens: usize| {
                assert_eq!(tokens, 27);
                let changed = if changes { zero(&products) } else { NamedData::new() };
                seen.extend(
                    products.into_iter().map(|(name, tensor)| (format!("{layer}.{name}"), tensor.values)),
                );
                Ok(changed)
            };
            pollster::block_on(walk(run, change)).unwrap();
            seen
        };
        let (dense, changed) = (products(false), products(true));
        assert_eq!(
            dense.keys().map(String::as_str).take(4).collect::<Vec<_>>(),
            ["0.attention.output", "0.attention.qkv", "0.mlp.down", "0.mlp.up"]
        );
        assert_eq!(dense["0.mlp.down"], changed["0.mlp.down"]);
        // Without the first block, the second one's normalized inputs are those of the first.
        assert_eq!(dense["0.attention.qkv"], changed["1.attention.qkv"]);
        assert_ne!(dense["1.attention.qkv"], changed["1.attention.qkv"]);
    }
}
