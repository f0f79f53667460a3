//! Inputs of a model's forward pass.

use super::layers::{mask::MaskInputs, position::Positions};
use crate::kernels::dropout::Dropout;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use std::cell::Cell;

/// Tokens of a batch with their positions, segments and masks.
#[derive(Clone)]
pub struct Input {
    /// Token ids, `[B, T]`.
    pub tokens: Tensor<2, Int>,
    /// Padding mask, `[B, S]`, true for tokens that no token may attend to. S includes cached tokens.
    pub padding: Option<Tensor<2, Bool>>,
    /// Position of each token, `[B, T]`; `None` if positions are consecutive, after those in the cache.
    pub positions: Option<Tensor<2, Int>>,
    /// Segment of each token, `[B, T]`; `None` if all belong to the first.
    pub token_types: Option<Tensor<2, Int>>,
    /// Prefix mask, `[B, S]`, true for tokens that earlier ones attend to as well (prefix attention of a
    /// decoder).
    pub prefix: Option<Tensor<2, Bool>>,
    /// Number of the document of each token, `[B, T]`, if rows are packed: tokens attend to those of their own
    /// document only. Numbers ascend within a row; padding has the number
    /// [`PADDING`](crate::kernels::attention::PADDING). Positions must be given too.
    pub documents: Option<Tensor<2, Int>>,
    /// Number of the branch of each token, `[B, T]`, if texts of a row begin alike: tokens attend to those of their own
    /// branch and to the trunk, which has the number 0. Positions must be given too.
    pub branches: Option<Tensor<2, Int>>,
    /// Input tokens of the decoder in an encoder-decoder model, `[B, T']`.
    pub decoder_tokens: Option<Tensor<2, Int>>,
    /// Source of dropout's random numbers; `None` turns dropout off.
    pub dropout: Option<DropoutSource>,
    /// Noise that is added to the embeddings of a decoder's tokens, `[B, T, n_embd]`.
    pub noise: Option<Tensor<3>>,
}

/// Source of dropout's random numbers in one forward pass of a training step.
#[derive(Debug, Clone, Copy)]
pub struct DropoutSource {
    /// Seed of the training step.
    pub seed: u32,
    /// Number of the batch's first row in the step. Random numbers depend on a row's number in the step, so
    /// that neither its micro-batch nor its process matters.
    pub first_row: usize,
}

impl From<Tensor<2, Int>> for Input {
    fn from(tokens: Tensor<2, Int>) -> Self {
        Self {
            tokens,
            padding: None,
            positions: None,
            token_types: None,
            prefix: None,
            documents: None,
            branches: None,
            decoder_tokens: None,
            dropout: None,
            noise: None,
        }
    }
}

impl Input {
    /// Makes a batch of rows of different lengths. If lengths differ, it has a padding mask, and positions
    /// count from each row's first token.
    pub fn padded(rows: &[Vec<u32>], side: Side, device: &Device) -> Self {
        let time = rows.iter().map(Vec::len).max().unwrap_or(0);
        let shape = [rows.len(), time];
        let index_in_row = |row: &[u32], column: usize| match side {
            Side::Left => (column + row.len()).checked_sub(time),
            Side::Right => (column < row.len()).then_some(column),
        };
        let cells =
            || rows.iter().flat_map(|row| (0..time).map(move |column| (row, index_in_row(row, column))));
        let tokens = cells().map(|(row, index)| index.map_or(0, |index| row[index] as i32));
        let input = Input::from(Tensor::<2, Int>::from_data(
            TensorData::new(tokens.collect::<Vec<_>>(), shape),
            device,
        ));
        if rows.iter().all(|row| row.len() == time) {
            return input;
        }
        let padding = cells().map(|(_, index)| index.is_none()).collect();
        let positions = cells().map(|(_, index)| index.unwrap_or(0) as i32).collect::<Vec<_>>();
        Input {
            padding: Some(mask(padding, rows.len(), device)),
            positions: (side == Side::Left)
                .then(|| Tensor::from_data(TensorData::new(positions, shape), device)),
            ..input
        }
    }

    /// Copy of the input for a model without autodiff, dropout or noise.
    pub(crate) fn without_autodiff(self) -> Self {
        Self {
            tokens: self.tokens.inner(),
            padding: self.padding.map(Tensor::inner),
            positions: self.positions.map(Tensor::inner),
            token_types: self.token_types.map(Tensor::inner),
            prefix: self.prefix.map(Tensor::inner),
            documents: self.documents.map(Tensor::inner),
            branches: self.branches.map(Tensor::inner),
            decoder_tokens: self.decoder_tokens.map(Tensor::inner),
            dropout: None,
            noise: None,
        }
    }

    /// Positions of the tokens: the given ones, or consecutive ones after `offset` cached tokens.
    pub(super) fn positions(&self, offset: usize) -> Positions {
        let [_, time] = self.tokens.dims();
        self.positions.clone().map_or(Positions::Range { offset, time }, Positions::Each)
    }

    pub(super) fn pass(&self) -> Pass {
        Pass { dropout: self.dropout, noise: self.noise.clone(), ..Pass::default() }
    }

    pub(super) fn mask_inputs(&self) -> MaskInputs {
        MaskInputs {
            padding: self.padding.clone(),
            prefix: self.prefix.clone(),
            documents: self.documents.clone(),
            branches: self.branches.clone(),
        }
    }
}

/// State of one forward pass through a model.
#[derive(Default)]
pub struct Pass {
    dropout: Option<DropoutSource>,
    /// Noise that is added to the embeddings of the tokens.
    pub(super) noise: Option<Tensor<3>>,
    /// Number of dropout layers that have drawn random numbers so far.
    draws: Cell<u32>,
    /// Choice of experts, `[N, K]`, of a layer that is computed again.
    chosen_experts: Option<Tensor<2, Int>>,
}

impl Pass {
    /// The same pass at its present state, for computing what follows once more.
    pub(super) fn again(&self) -> Self {
        Self { dropout: self.dropout, draws: self.draws.clone(), ..Self::default() }
    }

    /// Lets the next mixture of experts use these experts, `[N, K]`, instead of choosing.
    pub(super) fn with_chosen_experts(self, chosen_experts: Option<Tensor<2, Int>>) -> Self {
        Self { chosen_experts, ..self }
    }

    /// Experts that have been chosen before, `[N, K]`; `None` the first time.
    pub(super) fn chosen_experts(&self) -> Option<Tensor<2, Int>> {
        self.chosen_experts.clone()
    }

    /// Settings for the next dropout layer.
    pub(crate) fn dropout(&self, probability: f64) -> Dropout {
        match self.dropout {
            Some(DropoutSource { seed, first_row }) if probability > 0.0 => {
                let draw = self.draws.replace(self.draws.get() + 1);
                Dropout {
                    probability: probability as f32,
                    seed: seed.wrapping_add(draw.wrapping_mul(GOLDEN)),
                    first_row: first_row as u32,
                }
            }
            _ => Dropout::NONE,
        }
    }
}

/// 2^32 divided by the golden ratio, which spreads the seeds of consecutive layers.
const GOLDEN: u32 = 0x9e37_79b9;

/// Side on which shorter rows are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Padding before the tokens, so that all rows end together and can be continued.
    Left,
    Right,
}

/// Makes a mask of flags, row by row, `[rows, flags / rows]`.
pub(crate) fn mask(flags: Vec<bool>, rows: usize, device: &Device) -> Tensor<2, Bool> {
    let width = flags.len() / rows.max(1);
    Tensor::from_data(TensorData::new::<bool, _>(flags, [rows, width]), device)
}
