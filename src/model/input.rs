//! What a forward pass reads.

use super::layers::{mask::Marks, position::Places};
use crate::kernels::dropout::Dropout;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use std::cell::Cell;

/// Tokens of a batch, and what is known of them.
#[derive(Clone)]
pub struct Input {
    /// `[B, T]`
    pub tokens: Tensor<2, Int>,
    /// `[B, S]`, true for padding that nobody may attend to; S counts cached tokens too.
    pub padding: Option<Tensor<2, Bool>>,
    /// `[B, T]`: where each token stands; `None`: one after another, after those in the cache.
    pub positions: Option<Tensor<2, Int>>,
    /// `[B, T]`: the segment of each token; `None`: all are of the first.
    pub token_types: Option<Tensor<2, Int>>,
    /// `[B, S]`, true for tokens that earlier ones see too (prefix attention of a decoder).
    pub prefix: Option<Tensor<2, Bool>>,
    /// `[B, T']`: what the decoder beside an encoder reads.
    pub decoder_tokens: Option<Tensor<2, Int>>,
    /// What dropout draws from; `None`: nothing is dropped.
    pub dropout: Option<DropoutSource>,
}

/// What dropout draws from in one pass of a training step.
#[derive(Debug, Clone, Copy)]
pub struct DropoutSource {
    /// Of the step.
    pub seed: u32,
    /// Row of the step that is the first of the batch. A row is drawn for by its number in the step, so that
    /// neither its micro-batch nor its process matters.
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
            decoder_tokens: None,
            dropout: None,
        }
    }
}

impl Input {
    /// Rows of different lengths as a batch; where they differ, padding is marked, and places count from each
    /// row's first token.
    pub fn padded(rows: &[Vec<u32>], side: Side, device: &Device) -> Self {
        let time = rows.iter().map(Vec::len).max().unwrap_or(0);
        let shape = [rows.len(), time];
        let place = |row: &[u32], column: usize| match side {
            Side::Left => (column + row.len()).checked_sub(time),
            Side::Right => (column < row.len()).then_some(column),
        };
        let places = || rows.iter().flat_map(|row| (0..time).map(move |column| (row, place(row, column))));
        let tokens = places().map(|(row, place)| place.map_or(0, |place| row[place] as i32));
        let input = Input::from(Tensor::<2, Int>::from_data(
            TensorData::new(tokens.collect::<Vec<_>>(), shape),
            device,
        ));
        if rows.iter().all(|row| row.len() == time) {
            return input;
        }
        let padding = places().map(|(_, place)| place.is_none()).collect();
        let positions = places().map(|(_, place)| place.unwrap_or(0) as i32).collect::<Vec<_>>();
        Input {
            padding: Some(mask(padding, rows.len(), device)),
            positions: (side == Side::Left)
                .then(|| Tensor::from_data(TensorData::new(positions, shape), device)),
            ..input
        }
    }

    /// The same input for a model without autodiff or dropout.
    pub(crate) fn without_autodiff(self) -> Self {
        Self {
            tokens: self.tokens.inner(),
            padding: self.padding.map(Tensor::inner),
            positions: self.positions.map(Tensor::inner),
            token_types: self.token_types.map(Tensor::inner),
            prefix: self.prefix.map(Tensor::inner),
            decoder_tokens: self.decoder_tokens.map(Tensor::inner),
            dropout: None,
        }
    }

    /// Where the tokens stand, after so many in the cache unless it is said.
    pub(super) fn places(&self, offset: usize) -> Places {
        let [_, time] = self.tokens.dims();
        self.positions.clone().map_or(Places::Range { offset, time }, Places::Each)
    }

    pub(super) fn pass(&self) -> Pass {
        Pass { dropout: self.dropout, draws: Cell::new(0) }
    }

    pub(super) fn marks(&self) -> Marks {
        Marks { padding: self.padding.clone(), prefix: self.prefix.clone() }
    }
}

/// One forward pass through a model.
#[derive(Default)]
pub struct Pass {
    dropout: Option<DropoutSource>,
    /// Places of the model that have drawn.
    draws: Cell<u32>,
}

impl Pass {
    /// What the next place of the model drops.
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

/// 2^32 over the golden ratio: seeds of neighbouring places are far from one another.
const GOLDEN: u32 = 0x9e37_79b9;

/// Where shorter rows are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// So that all rows end together and can go on.
    Left,
    Right,
}

/// Flags of `rows` rows as a mask.
pub(crate) fn mask(flags: Vec<bool>, rows: usize, device: &Device) -> Tensor<2, Bool> {
    let width = flags.len() / rows.max(1);
    Tensor::from_data(TensorData::new::<bool, _>(flags, [rows, width]), device)
}
