//! Changes of a layer's matrix by adapters: low-rank ones (LoRA, arXiv:2106.09685; DoRA, arXiv:2402.09353) and
//! trained copies. `transform::adapter` puts them into a model; without them a layer computes as it always did.
//!
//! The matrix `[I, O]` of a layer becomes `W * gain + down up`, where `gain`, `[1, O]`, is there only for DoRA.

use crate::{
    kernels::{
        Mode, Precision,
        dropout::dropout,
        embedding::embedding,
        linear::{Epilogue, Prologue, linear},
        low_rank::LowRank,
        precision::stacked_product,
    },
    model::Pass,
};
use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor},
};
use std::ops::Range;

/// Changes of one matrix.
#[derive(Module, Debug)]
pub struct Adapter {
    /// Low-rank changes, each of some columns.
    pub parts: Vec<Part>,
    /// Trained copy of the layer that is used instead of it.
    pub saved: Option<Saved>,
    /// The matrix without the changes, `[I, O]`, while they are merged into the layer's.
    pub(crate) unmerged: Option<Tensor<2>>,
    /// Probability of zeroing an input of the low-rank changes, in training only.
    #[module(skip)]
    dropout: f64,
    /// Whether an output projection that is tied to an embedding has the embedding's changes too.
    #[module(skip)]
    pub(crate) changes_tied_output: bool,
}

/// Low-rank change of some columns of a matrix, `down up` times a factor.
#[derive(Module, Debug)]
pub struct Part {
    /// Factor of the inputs, `[I, R]`.
    pub down: Param<Tensor<2>>,
    /// Factor of the outputs, `[R, columns]`.
    pub up: Param<Tensor<2>>,
    /// Norms that the changed columns get, `[columns]` (DoRA).
    pub magnitude: Option<Param<Tensor<1>>>,
    #[module(skip)]
    columns: Range<usize>,
    /// Factor of the product.
    #[module(skip)]
    scale: f64,
    /// Share of the whole change that counts.
    #[module(skip)]
    share: f64,
}

/// Trained copy of a layer.
#[derive(Module, Debug)]
pub struct Saved {
    /// `[I, O]`
    pub weight: Param<Tensor<2>>,
    /// `[O]`
    pub bias: Option<Param<Tensor<1>>>,
}

/// Changes of a stack of matrices `[X, I, O]`, one for each expert.
#[derive(Module, Debug)]
pub struct StackAdapter {
    pub experts: Vec<Option<Adapter>>,
    /// The stack without the changes, while they are merged into the layer's.
    pub(crate) unmerged: Option<Tensor<3>>,
}

/// Factors by which all low-rank changes of a matrix are computed.
struct Factors<const D: usize> {
    /// `[I, R]` or `[X, I, R]`
    down: Tensor<D>,
    /// `[R, O]` or `[X, R, O]`
    up: Tensor<D>,
    /// `[1, O]` or `[X, 1, O]`
    gain: Option<Tensor<D>>,
}

impl Part {
    /// Makes a change of `columns` by `scale * down up`. If `magnitude` is given, the changed columns get these
    /// norms. `share` is the share of the whole change that counts.
    pub(crate) fn new(
        down: Param<Tensor<2>>,
        up: Param<Tensor<2>>,
        magnitude: Option<Param<Tensor<1>>>,
        columns: Range<usize>,
        scale: f64,
        share: f64,
    ) -> Self {
        Self { down, up, magnitude, columns, scale, share }
    }

    /// Norms of the changed columns of `weight`, `[I, O]`, before they get those of DoRA, `[1, columns]`.
    /// Gradients do not flow through them.
    pub(crate) fn norms(&self, weight: Tensor<2>) -> Tensor<2> {
        let own = weight.inner().narrow(1, self.columns.start, self.columns.len());
        let change = self.down.val().inner().matmul(self.up.val().inner()).mul_scalar(self.scale);
        (own + change).square().sum_dim(0).sqrt()
    }
}

impl Adapter {
    /// Makes an adapter that changes nothing yet.
    pub(crate) fn new(dropout: f64, changes_tied_output: bool) -> Self {
        Self { parts: Vec::new(), saved: None, unmerged: None, dropout, changes_tied_output }
    }

    /// Factors of all changes of a matrix with so many outputs, `[I, O]`, which `weight` returns; `None` if there are
    /// no low-rank changes, or they are merged.
    fn factors(&self, outputs: usize, weight: impl Fn() -> Tensor<2>) -> Option<Factors<2>> {
        if self.unmerged.is_some() {
            return None;
        }
        let (mut downs, mut ups) = (Vec::new(), Vec::new());
        let mut gain: Option<Tensor<2>> = None;
        for part in &self.parts {
            let mut up = part.up.val().mul_scalar(part.scale * part.share); // [R, columns]
            if let Some(magnitude) = &part.magnitude {
                let ratio = magnitude.val().unsqueeze::<2>() / part.norms(weight()); // [1, columns]
                up = up * ratio.clone();
                let more = ratio.sub_scalar(1.0).mul_scalar(part.share);
                let more = widened(more, &part.columns, outputs); // [1, O]
                gain = Some(match gain {
                    None => more.add_scalar(1.0),
                    Some(gain) => gain + more,
                });
            }
            downs.push(part.down.val());
            ups.push(widened(up, &part.columns, outputs)); // [R, O]
        }
        Some(Factors { down: joined(downs, 1)?, up: joined(ups, 0)?, gain })
    }

    /// Computes a linear layer with the changes, `[.., I]` -> `[.., O]`.
    pub(super) fn forward<const D: usize>(
        &self,
        x: Prologue<D>,
        weight: Tensor<2>,
        epilogue: Epilogue<D>,
        pass: &Pass,
        mode: Mode,
    ) -> Tensor<D> {
        if let Some(Saved { weight, bias }) = &self.saved {
            let bias = bias.as_ref().map(|bias| bias.val());
            return linear(x, weight.val(), false, Epilogue { bias, ..epilogue }, mode);
        }
        let [_, outputs] = weight.dims();
        let Some(Factors { down, up, gain }) = self.factors(outputs, || weight.clone()) else {
            return linear(x, weight, false, epilogue, mode);
        };
        let drop = pass.dropout(self.dropout);
        let Some(gain) = gain else {
            let low_rank = Some(LowRank { down, up, dropout: drop });
            return linear(x, weight, false, Epilogue { low_rank, ..epilogue }, mode);
        };
        let x = x.resolve(mode);
        let y = linear(x.clone(), weight, false, Epilogue::default(), mode);
        let hidden = linear(dropout(x, None, drop, mode), down, false, Epilogue::default(), mode);
        let mut shape = [1; D];
        shape[D - 1] = outputs;
        y * gain.reshape(shape) + linear(hidden, up, false, epilogue, mode)
    }

    /// Looks up the rows of a changed table, `[V, E]`, at tokens `[B, T]` -> `[B, T, E]`.
    pub(super) fn lookup(&self, table: Tensor<2>, tokens: Tensor<2, Int>, mode: Mode) -> Tensor<3> {
        if let Some(saved) = &self.saved {
            return embedding(saved.weight.val(), tokens, mode);
        }
        let factors = self.factors(table.dims()[1], || table.clone());
        let mut rows = embedding(table, tokens.clone(), mode);
        let Some(Factors { down, up, gain }) = factors else { return rows };
        if let Some(gain) = gain {
            rows = rows * gain.unsqueeze::<3>();
        }
        let residual = Some(rows);
        linear(embedding(down, tokens, mode), up, false, Epilogue { residual, ..Default::default() }, mode)
    }

    /// The matrix with the changes in it, `[I, O]`.
    pub(crate) fn effective(&self, weight: Tensor<2>) -> Tensor<2> {
        if let Some(saved) = &self.saved {
            return saved.weight.val();
        }
        match self.factors(weight.dims()[1], || weight.clone()) {
            None => weight,
            Some(factors) => factors.changed(weight),
        }
    }
}

impl StackAdapter {
    /// Makes an adapter that changes nothing yet.
    pub(crate) fn new(experts: usize) -> Self {
        Self { experts: vec![None; experts], unmerged: None }
    }

    /// Factors of all changes of `weight`, `[X, I, O]`. Experts with a lower rank than others, or without a change,
    /// get factors of zeros.
    fn factors(&self, weight: &Tensor<3>) -> Option<Factors<3>> {
        if self.unmerged.is_some() {
            return None;
        }
        let ([_, inputs, outputs], device) = (weight.dims(), weight.device());
        let of_expert = |(index, adapter): (usize, &Option<Adapter>)| {
            let own = || weight.clone().narrow(0, index, 1).squeeze_dim::<2>(0);
            adapter.as_ref().and_then(|adapter| adapter.factors(outputs, own))
        };
        let all: Vec<Option<Factors<2>>> = self.experts.iter().enumerate().map(of_expert).collect();
        let rank =
            |factors: &Option<Factors<2>>| factors.as_ref().map_or(0, |factors| factors.down.dims()[1]);
        let largest = all.iter().map(rank).max().filter(|&rank| rank > 0)?;
        let has_gain = all.iter().flatten().any(|factors| factors.gain.is_some());
        let (mut downs, mut ups, mut gains) = (Vec::new(), Vec::new(), Vec::new());
        for factors in all {
            let missing = largest - rank(&factors);
            let (down, up, gain) = match factors {
                Some(Factors { down, up, gain }) => (Some(down), Some(up), gain),
                None => (None, None, None),
            };
            let zeros = |shape: [usize; 2]| (missing > 0).then(|| Tensor::<2>::zeros(shape, &device));
            downs.push(joined(down.into_iter().chain(zeros([inputs, missing])).collect(), 1)?);
            ups.push(joined(up.into_iter().chain(zeros([missing, outputs])).collect(), 0)?);
            gains.push(gain.unwrap_or_else(|| Tensor::ones([1, outputs], &device)));
        }
        Some(Factors {
            down: Tensor::stack(downs, 0),
            up: Tensor::stack(ups, 0),
            gain: has_gain.then(|| Tensor::stack(gains, 0)),
        })
    }

    /// Multiplies blocks of rows, `[J, R, I]`, by the changed matrices of their experts -> `[J, R, O]`. `of_blocks`
    /// selects from a stack, `[X, ..]`, the matrix of each block, `[J, ..]`.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        weight: Tensor<3>,
        of_blocks: impl Fn(Tensor<3>) -> Tensor<3>,
        precision: Precision,
    ) -> Tensor<3> {
        let factors = self.factors(&weight);
        let y = stacked_product(x.clone(), of_blocks(weight), precision);
        let Some(Factors { down, up, gain }) = factors else { return y };
        let y = match gain {
            Some(gain) => y * of_blocks(gain),
            None => y,
        };
        let hidden = stacked_product(x, of_blocks(down), precision);
        y + stacked_product(hidden, of_blocks(up), precision)
    }

    /// The stack with the changes in it, `[X, I, O]`.
    pub(crate) fn effective(&self, weight: Tensor<3>) -> Tensor<3> {
        match self.factors(&weight) {
            None => weight,
            Some(factors) => factors.changed(weight),
        }
    }
}

impl<const D: usize> Factors<D> {
    fn changed(self, weight: Tensor<D>) -> Tensor<D> {
        let weight = match self.gain {
            Some(gain) => weight * gain,
            None => weight,
        };
        weight + self.down.matmul(self.up)
    }
}

/// Joins matrices along a dimension; `None` if there are none.
fn joined(mut matrices: Vec<Tensor<2>>, dim: usize) -> Option<Tensor<2>> {
    if matrices.len() < 2 {
        return matrices.pop();
    }
    Some(Tensor::cat(matrices, dim))
}

/// Puts a matrix into the columns of a wider one that is otherwise 0, `[R, columns]` -> `[R, width]`.
fn widened(x: Tensor<2>, columns: &Range<usize>, width: usize) -> Tensor<2> {
    if columns.len() == width {
        return x;
    }
    let ([rows, _], device) = (x.dims(), x.device());
    let zeros = |count: usize| (count > 0).then(|| Tensor::<2>::zeros([rows, count], &device));
    let after = zeros(width - columns.end);
    let parts = zeros(columns.start).into_iter().chain([x]).chain(after);
    Tensor::cat(parts.collect(), 1)
}
