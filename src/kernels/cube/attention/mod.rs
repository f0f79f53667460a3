//! Attention with one unit per query and, in the backward pass, one unit per key. Each unit keeps its row in
//! registers and reads the rows of the other side in turn. Neighbouring units read the same row at the same
//! time, so that one fetch serves all of them. Scores are never stored (FlashAttention, arXiv:2205.14135;
//! online softmax: arXiv:1805.02867), units share no data, and no unit waits for another.

mod backward;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::{cached, forward};

use super::{
    launch::{contiguous, floats},
    math::{Draws, draw, of_part, of_row, tanh},
};
use crate::{
    attention::{AttentionSpec, PADDING, Strides},
    dropout::Dropout,
};
use burn::{backend::cubecl::dtype_to_storage_type, tensor::DType};
use burn_cubecl::{
    cubecl::{self, ir::ElemType, prelude::*},
    tensor::CubeTensor,
};

/// A distance that is larger than that of any key.
const FAR: usize = 1 << 30;
/// Number of queries whose units begin with the same key, so that they read the same keys.
const BLOCK: usize = 32;
/// Value of a masked score. It is finite, so that a query without keys has a finite output.
const MASKED_SCORE: f32 = -1e30;
/// Number of padding among the documents' numbers.
const NO_DOCUMENT: i64 = PADDING as i64;
/// A number below every score, since WGSL has no literal for infinity.
const LEAST: f32 = -3e38;

/// [`Strides`] in units of vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct HeadOffsets {
    first: usize,
    batch: usize,
    head: usize,
    token: usize,
}

#[cube]
fn offset(offsets: &HeadOffsets, batch: usize, head: usize, token: usize) -> usize {
    offsets.first + batch * offsets.batch + head * offsets.head + token * offsets.token
}

/// Sizes and settings that are passed to the kernels.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Problem {
    batches: usize,
    heads: usize,
    groups: usize,
    time: usize,
    seen: usize,
    left: usize,
    right: usize,
    scale: f32,
    softcap: f32,
    /// Stride between the samples of the mask; `mask_query` is the stride between its queries.
    mask_batch: usize,
    mask_query: usize,
    draws: Draws,
}

/// Compile-time settings of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    /// Number of vectors in a row.
    vectors: usize,
    has_softcap: bool,
    drops: bool,
}

/// First token of a token's document, or the token itself if it is padding. Numbers of documents ascend within
/// a row, so that it is found by bisection.
#[cube]
fn document_start<I: Int>(
    documents: &ComptimeOption<&[I]>,
    batch: usize,
    token: usize,
    problem: &Problem,
) -> usize {
    #[comptime]
    match documents {
        ComptimeOption::Some(numbers) => {
            let row = batch * problem.time;
            let own = numbers[row + token];
            let mut low = 0usize;
            let mut high = token;
            if own == I::new(NO_DOCUMENT) {
                low = token;
            }
            while low < high {
                let middle = (low + high) / 2;
                if numbers[row + middle] < own {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        }
        ComptimeOption::None => 0usize.runtime(),
    }
}

/// End of a token's document: one past its last token, or the token itself if it is padding. It is `length` if
/// there are no documents.
#[cube]
fn document_end<I: Int>(
    documents: &ComptimeOption<&[I]>,
    batch: usize,
    token: usize,
    length: usize,
    problem: &Problem,
) -> usize {
    #[comptime]
    match documents {
        ComptimeOption::Some(numbers) => {
            let row = batch * problem.time;
            let own = numbers[row + token];
            let mut low = token;
            let mut high = problem.time;
            if own == I::new(NO_DOCUMENT) {
                high = token;
            }
            while low < high {
                let middle = (low + high) / 2;
                if numbers[row + middle] > own {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            low
        }
        ComptimeOption::None => length,
    }
}

/// First key in the window of a query.
#[cube]
fn first_key(problem: &Problem, query: usize) -> usize {
    let position = max(query + problem.seen, problem.time) - problem.time;
    min(position - min(position, problem.left), problem.seen)
}

/// End of the window of a query: one past its last key.
#[cube]
fn end_key(problem: &Problem, query: usize) -> usize {
    let position = max(query + problem.seen, problem.time) - problem.time;
    min(position + problem.right + 1, problem.seen)
}

/// Loads the row at an offset into registers.
#[cube]
fn load<N: Size>(
    rows: &[Vector<f32, N>],
    offset: usize,
    factor: f32,
    #[comptime] vectors: usize,
) -> Array<Vector<f32, N>> {
    let mut row = Array::<Vector<f32, N>>::new(vectors);
    let factor = Vector::<f32, N>::new(factor);
    #[unroll]
    for i in 0..vectors {
        row[i] = rows[offset + i] * factor;
    }
    row
}

#[cube]
fn zeros<N: Size>(#[comptime] vectors: usize) -> Array<Vector<f32, N>> {
    let mut row = Array::<Vector<f32, N>>::new(vectors);
    #[unroll]
    for i in 0..vectors {
        row[i] = Vector::new(0.0f32);
    }
    row
}

#[cube]
fn store<N: Size>(
    row: &Array<Vector<f32, N>>,
    rows: &mut [Vector<f32, N>],
    offset: usize,
    factor: f32,
    #[comptime] vectors: usize,
) {
    let factor = Vector::<f32, N>::new(factor);
    #[unroll]
    for i in 0..vectors {
        rows[offset + i] = row[i] * factor;
    }
}

/// Dot product of a row in registers and a row in memory.
#[cube]
fn dot<N: Size>(
    row: &Array<Vector<f32, N>>,
    rows: &[Vector<f32, N>],
    offset: usize,
    #[comptime] vectors: usize,
) -> f32 {
    let mut sums = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for i in 0..vectors {
        sums += row[i] * rows[offset + i];
    }
    let mut total = sums.extract(0usize);
    #[unroll]
    for lane in 1..N::value() {
        total += sums.extract(lane);
    }
    total
}

/// Adds a row, multiplied by a factor, to a row in registers.
#[cube]
fn add<N: Size>(
    sums: &mut Array<Vector<f32, N>>,
    rows: &[Vector<f32, N>],
    offset: usize,
    factor: f32,
    #[comptime] vectors: usize,
) {
    let factor = Vector::<f32, N>::new(factor);
    #[unroll]
    for i in 0..vectors {
        sums[i] += rows[offset + i] * factor;
    }
}

/// Applies the soft cap to a score.
#[cube]
fn soft_cap(score: f32, problem: &Problem, #[comptime] kind: Kind) -> f32 {
    if kind.has_softcap { problem.softcap * tanh(score / problem.softcap) } else { score }
}

/// State of the dropout generator for a query.
#[cube]
fn drawn(batch: usize, head: usize, query: usize, problem: &Problem, #[comptime] kind: Kind) -> u32 {
    if kind.drops { of_part(of_part(of_row(&problem.draws, batch), head), query) } else { 0u32.runtime() }
}

/// Dropout factor of the weight of a key; `drawn` is the state of its query.
#[cube]
fn kept(drawn: u32, key: usize, problem: &Problem, #[comptime] kind: Kind) -> f32 {
    if kind.drops { draw(&problem.draws, drawn, key) } else { 1.0f32.runtime() }
}

/// Whether a key in the window is masked.
#[cube]
fn is_masked<B: Int>(
    mask: &ComptimeOption<&[B]>,
    batch: usize,
    query: usize,
    key: usize,
    problem: &Problem,
) -> bool {
    #[comptime]
    match mask {
        ComptimeOption::Some(flags) => {
            flags[batch * problem.mask_batch + query * problem.mask_query + key] != B::from_int(0)
        }
        ComptimeOption::None => false.runtime(),
    }
}

/// Mask of keys inside the window, `[B or 1, 1, T or 1, S]`, its strides, and the numbers of the documents,
/// `[B, T]`.
struct Mask {
    flags: Option<CubeTensor>,
    batch: usize,
    query: usize,
    documents: Option<CubeTensor>,
}

impl Mask {
    fn of((flags, documents): Masks) -> Self {
        let (flags, documents) = (flags.map(contiguous), documents.map(contiguous));
        let (mut batch, mut query) = (0, 0);
        if let Some(flags) = &flags {
            let shape = flags.meta.shape();
            let (batches, queries, keys) = (shape[0], shape[2], shape[3]);
            batch = if batches > 1 { queries * keys } else { 0 };
            query = if queries > 1 { keys } else { 0 };
        }
        Self { flags, batch, query, documents }
    }

    /// Element type of the flags.
    fn kind(&self) -> ElemType {
        dtype_to_storage_type(self.flags.as_ref().map_or(DType::U32, |flags| flags.dtype))
    }

    fn argument<T: LaunchArg<RuntimeArg = BufferArg>>(&self) -> ComptimeOptionArgs<T> {
        self.flags.clone().map(CubeTensor::into_buffer_arg).into()
    }

    /// Element type of the documents' numbers.
    fn documents_kind(&self) -> ElemType {
        dtype_to_storage_type(self.documents.as_ref().map_or(DType::I32, |documents| documents.dtype))
    }

    fn documents<T: LaunchArg<RuntimeArg = BufferArg>>(&self) -> ComptimeOptionArgs<T> {
        self.documents.clone().map(CubeTensor::into_buffer_arg).into()
    }
}

/// Mask of keys, and numbers of documents.
type Masks = (Option<CubeTensor>, Option<CubeTensor>);

/// Sizes of one attention: B, T and S.
#[derive(Clone, Copy)]
struct Sizes {
    batches: usize,
    time: usize,
    seen: usize,
}

fn problem(spec: AttentionSpec, sizes: Sizes, mask: &Mask) -> ProblemLaunch {
    ProblemLaunch::new(
        sizes.batches,
        spec.heads,
        spec.kv_heads,
        sizes.time,
        sizes.seen,
        spec.window.left.min(FAR),
        spec.window.right.min(FAR),
        spec.scale,
        spec.softcap,
        mask.batch,
        mask.query,
        Draws::arguments(spec.dropout),
    )
}

fn offsets(strides: Strides, vector: usize) -> HeadOffsetsLaunch {
    HeadOffsetsLaunch::new(
        strides.first / vector,
        strides.batch / vector,
        strides.head / vector,
        strides.token / vector,
    )
}

/// Largest vector length that divides the head size and all strides.
fn vector(spec: AttentionSpec, strides: &[Strides]) -> usize {
    let fits = |vector: &usize| {
        let whole = |length: usize| length.is_multiple_of(*vector);
        whole(spec.head_size)
            && strides.iter().all(|s| whole(s.first) && whole(s.batch) && whole(s.head) && whole(s.token))
    };
    [4, 2].into_iter().find(fits).unwrap_or(1)
}

impl Kind {
    fn of(spec: AttentionSpec, vector: usize) -> Self {
        let dropout: Dropout = spec.dropout;
        Self { vectors: spec.head_size / vector, has_softcap: spec.softcap > 0.0, drops: dropout.is_on() }
    }
}

/// Queries, keys and values, with the strides of their heads. Keys and values are in the same tensor, which
/// may also be that of the queries.
struct Inputs {
    query: CubeTensor,
    key_value: Option<CubeTensor>,
    strides: [Strides; 3],
    sizes: Sizes,
    spec: AttentionSpec,
}

impl Inputs {
    /// Inputs in the layout of a projection: `[B, T, (H + 2G) * D]`, or `[B, T, H * D]` and `[B, S, 2G * D]`.
    fn packed(query: CubeTensor, key_value: Option<CubeTensor>, spec: AttentionSpec) -> Self {
        let (query, key_value) = (floats(query), key_value.map(floats));
        let AttentionSpec { heads, kv_heads, head_size, .. } = spec;
        let (batches, time) = (query.meta.shape()[0], query.meta.shape()[1]);
        let seen = key_value.as_ref().map_or(time, |key_value| key_value.meta.shape()[1]);
        let strides = match key_value {
            None => [0, heads, heads + kv_heads]
                .map(|first| Strides::packed(time, heads + 2 * kv_heads, head_size, first)),
            Some(_) => [
                Strides::packed(time, heads, head_size, 0),
                Strides::packed(seen, 2 * kv_heads, head_size, 0),
                Strides::packed(seen, 2 * kv_heads, head_size, kv_heads),
            ],
        };
        Self { query, key_value, strides, sizes: Sizes { batches, time, seen }, spec }
    }

    fn vector(&self) -> usize {
        vector(self.spec, &self.strides)
    }

    /// Argument of a kernel for the keys and values, where `first` is the argument before. If both are the
    /// same tensor, this is an alias of `first`, since a buffer must not be bound twice.
    fn key_value(&self, first: &CubeTensor, key_value: &Option<CubeTensor>) -> BufferArg {
        match key_value {
            Some(key_value) => key_value.clone().into_buffer_arg(),
            None => BufferArg::alias(0, super::launch::length(first)),
        }
    }
}
