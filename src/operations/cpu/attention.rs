//! Attention that keeps only the scores of a few queries at a time, so that memory grows with the length of
//! the text rather than its square.
//!
//! The backward pass computes the scores again, with the sum of each query's weights from the forward pass
//! (FlashAttention, arXiv:2205.14135).

use super::{
    documents::Documents,
    few_rows::Target,
    gemm::{Into, Matrix, product, product_of},
    math::{exp, max, sum, tanh, vectorized},
    parallel::{Shared, alloc, each},
};
use crate::attention::{AttentionSpec, Strides};
use std::{mem::MaybeUninit, ops::Range};

/// Number of queries whose scores are in memory at a time, per thread.
const BLOCK: usize = 64;

/// Heads of queries, keys or values. Element `d` of token `t` in head `h` of sample `b` is at index
/// `strides.offset(b, h, t) + d`.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    pub values: &'a [f32],
    pub strides: Strides,
}

impl<'a> Heads<'a> {
    fn matrix(self, batch: usize, head: usize, token: usize) -> Matrix<'a> {
        Matrix::of_rows(&self.values[self.strides.offset(batch, head, token)..], self.strides.token)
    }

    fn row(self, batch: usize, head: usize, token: usize, size: usize) -> &'a [f32] {
        let start = self.strides.offset(batch, head, token);
        &self.values[start..start + size]
    }
}

/// Heads of an output tensor. Each head is written by one thread at a time.
#[derive(Clone, Copy)]
struct OutputHeads<'a> {
    shared: Shared<'a, MaybeUninit<f32>>,
    strides: Strides,
}

impl OutputHeads<'_> {
    /// The row of a token in a head, to be written.
    ///
    /// # Safety
    /// Nothing else may use this row at the same time.
    #[allow(clippy::mut_from_ref, reason = "heads are disjoint")]
    unsafe fn row(&self, batch: usize, head: usize, token: usize, size: usize) -> &mut [MaybeUninit<f32>] {
        let start = self.strides.offset(batch, head, token);
        // SAFETY: the caller's promise.
        unsafe { self.shared.part(start..start + size) }
    }

    /// Address of the rows of a range of tokens, which must lie inside the slice.
    fn rows(&self, batch: usize, head: usize, tokens: &Range<usize>, size: usize) -> *mut f32 {
        if !tokens.is_empty() {
            assert!(self.strides.offset(batch, head, tokens.end - 1) + size <= self.shared.len());
        }
        self.shared.at(self.strides.offset(batch, head, tokens.start)).cast()
    }
}

/// Mask of keys inside the window, `[B or 1, T or 1, S]`.
#[derive(Clone, Copy)]
pub struct Mask<'a> {
    /// Flags that are 0 where a query attends to a key.
    pub flags: &'a [u8],
    pub batches: usize,
    pub queries: usize,
}

impl Mask<'_> {
    fn row(&self, batch: usize, query: usize, keys: usize) -> &[u8] {
        let batch = if self.batches == 1 { 0 } else { batch };
        let query = if self.queries == 1 { 0 } else { query };
        let start = (batch * self.queries + query) * keys;
        &self.flags[start..start + keys]
    }
}

/// Inputs of the forward and the backward pass.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub query: Heads<'a>,
    pub key: Heads<'a>,
    pub value: Heads<'a>,
    pub mask: Option<Mask<'a>>,
    /// Documents that queries and keys, which are of the same tokens, belong to.
    pub documents: Option<&'a Documents>,
    pub spec: AttentionSpec,
    /// The sizes B, T and S.
    pub sizes: [usize; 3],
    /// Whether queries, keys and values are parts of the same tensor.
    pub is_one_tensor: bool,
}

/// Consecutive queries of one head.
struct Block {
    batch: usize,
    head: usize,
    queries: Range<usize>,
    /// Keys that are in the window of at least one of the queries.
    keys: Range<usize>,
}

impl Inputs<'_> {
    /// Queries of a sample, in blocks whose scores are computed together.
    fn blocks(&self, batch: usize) -> Vec<Range<usize>> {
        let [_, time, _] = self.sizes;
        let (mut blocks, mut first) = (Vec::with_capacity(time.div_ceil(BLOCK)), 0);
        while first < time {
            let end = match self.documents {
                Some(documents) => documents.block_end(batch, first, BLOCK),
                None => (first + BLOCK).min(time),
            };
            blocks.push(first..end);
            first = end;
        }
        blocks
    }

    fn block(&self, batch: usize, head: usize, queries: Range<usize>) -> Block {
        let start = self.visible(batch, queries.start).start;
        let end = self.visible(batch, queries.end - 1).end;
        Block { batch, head, queries, keys: start.min(end)..end }
    }

    /// Range of the keys that a query may attend to: those in its window and of its document.
    fn visible(&self, batch: usize, query: usize) -> Range<usize> {
        let [_, time, seen] = self.sizes;
        let window = self.spec.visible(query, time, seen);
        match self.documents.map(|documents| documents.range(batch, query)) {
            Some(document) => window.start.max(document.start)..window.end.min(document.end),
            None => window,
        }
    }

    /// Computes the scores of a block, `[queries, keys]`, into the buffer `scores`. They are soft-capped but
    /// not yet masked.
    fn scores<'s>(&self, block: &Block, scores: &'s mut [MaybeUninit<f32>]) -> &'s mut [f32] {
        let spec = self.spec;
        let group = block.head / (spec.heads / spec.kv_heads);
        let (count, width) = (block.queries.len(), block.keys.len());
        let queries = self.query.matrix(block.batch, block.head, block.queries.start);
        let keys = self.key.matrix(block.batch, group, block.keys.start).transposed();
        let scores =
            product_of([count, spec.head_size, width], queries, keys, spec.scale, scores, spec.precision);
        if spec.softcap > 0.0 {
            vectorized(
                #[inline(always)]
                || {
                    for score in scores.iter_mut() {
                        *score = spec.softcap * tanh(*score / spec.softcap);
                    }
                },
            );
        }
        scores
    }

    /// Keys in a query's window, counted from the first key of the block, and their mask.
    fn seen(&self, block: &Block, query: usize) -> (Range<usize>, Option<&[u8]>) {
        let [_, _, seen] = self.sizes;
        let visible = self.visible(block.batch, query);
        let start = visible.start.max(block.keys.start).min(block.keys.end);
        let end = visible.end.min(block.keys.end).max(start);
        let mask = self.mask.as_ref().map(|mask| &mask.row(block.batch, query, seen)[start..end]);
        (start - block.keys.start..end - block.keys.start, mask)
    }
}

/// Value of a masked score. It is finite, so that a query without keys has a finite output.
const MASKED_SCORE: f32 = -1e30;

/// Computes the attention output, `[B, T, H * D]`, and the logarithm of the sum of each query's weights
/// before they are normalized, `[B, H, T]`.
pub fn forward(inputs: Inputs) -> (Vec<f32>, Vec<f32>) {
    let (spec, [batches, time, _]) = (inputs.spec, inputs.sizes);
    let (heads, size) = (spec.heads, spec.head_size);
    let mut output = alloc(batches * time * heads * size);
    let mut sums = alloc(batches * heads * time);
    let output_heads =
        OutputHeads { shared: Shared::new(&mut output), strides: Strides::packed(time, heads, size, 0) };
    let sums_shared = Shared::new(&mut sums);
    let of_heads = |batch| {
        let blocks = inputs.blocks(batch);
        let of_head = move |head| blocks.clone().into_iter().map(move |queries| (batch, head, queries));
        (0..heads).flat_map(of_head)
    };
    let tasks: Vec<_> = (0..batches).flat_map(of_heads).collect();
    each(tasks.len(), |task| {
        let (batch, head, queries) = tasks[task].clone();
        let block = inputs.block(batch, head, queries);
        let (count, width) = (block.queries.len(), block.keys.len());
        // SAFETY: every task has queries of its own.
        let sums = unsafe {
            let start = (batch * heads + head) * time + block.queries.start;
            sums_shared.part(start..start + count)
        };
        if block.keys.is_empty() {
            sums.fill(MaybeUninit::new(0.0));
            for query in block.queries {
                // SAFETY: every task has queries of its own.
                unsafe { output_heads.row(batch, head, query, size) }.fill(MaybeUninit::new(0.0));
            }
            return;
        }
        let mut scores = alloc(count * width);
        let scores = inputs.scores(&block, &mut scores);
        let mut inverse = [0f32; BLOCK];
        for (row, query) in block.queries.clone().enumerate() {
            let (keys, mask) = inputs.seen(&block, query);
            let scores = &mut scores[row * width..(row + 1) * width];
            vectorized(
                #[inline(always)]
                || {
                    scores[..keys.start].fill(0.0);
                    scores[keys.end..].fill(0.0);
                    let scores = &mut scores[keys.clone()];
                    if let Some(mask) = mask {
                        for (score, mask) in scores.iter_mut().zip(mask) {
                            *score = if *mask != 0 { MASKED_SCORE } else { *score };
                        }
                    }
                    let most = max(scores);
                    for score in scores.iter_mut() {
                        *score = exp(*score - most);
                    }
                    let total = sum(
                        scores.len(),
                        #[inline(always)]
                        |i| scores[i],
                    );
                    sums[row].write(most + total.ln());
                    inverse[row] = 1.0 / total;
                },
            );
            if spec.dropout.is_on() {
                let draws = spec.dropout.row(batch).part(head).part(query);
                let first = (block.keys.start + keys.start) as u32;
                vectorized(
                    #[inline(always)]
                    || {
                        let (threshold, scale) = (spec.dropout.threshold(), spec.dropout.scale());
                        for (i, weight) in scores[keys].iter_mut().enumerate() {
                            let kept = draws.draw(first.wrapping_add(i as u32)) >= threshold;
                            *weight = if kept { *weight * scale } else { 0.0 };
                        }
                    },
                );
            }
        }
        let group = head / (heads / spec.kv_heads);
        let values = inputs.value.matrix(batch, group, block.keys.start);
        let weights = Matrix::of_rows(scores, width);
        let output = output_heads.rows(batch, head, &block.queries, size);
        // SAFETY: every task has queries of its own, whose rows the product writes.
        unsafe {
            product(
                [count, width, size],
                weights,
                values,
                1.0,
                Target(output, heads * size),
                Into::Replace,
                spec.precision,
            );
            for (query, inverse) in block.queries.zip(inverse) {
                let values = output_heads.row(batch, head, query, size).assume_init_mut();
                values.iter_mut().for_each(|value| *value *= inverse);
            }
        }
    });
    // SAFETY: the tasks have written the row and the sum of every query of every head.
    unsafe { (output.assume_init().into_vec(), sums.assume_init().into_vec()) }
}

/// Gradients of the tensor that contains the queries, and of the one that contains keys and values if that is
/// another tensor.
pub fn backward(
    inputs: Inputs,
    output: &[f32],
    sums: &[f32],
    d_output: &[f32],
) -> (Vec<f32>, Option<Vec<f32>>) {
    let (spec, [batches, time, seen]) = (inputs.spec, inputs.sizes);
    let (heads, groups, size) = (spec.heads, spec.kv_heads, spec.head_size);
    // The heads of queries, keys and values cover their tensors, so every gradient is filled.
    assert!(heads.is_multiple_of(groups));
    let (queries, keys) = (batches * time * heads * size, batches * seen * 2 * groups * size);
    let is_one = inputs.is_one_tensor;
    let held = if is_one { [queries + keys, queries + keys] } else { [queries, keys] };
    assert_eq!([inputs.query.values.len(), inputs.key.values.len()], held);
    assert_eq!(inputs.value.values.len(), held[1]);
    let mut query_buffer = alloc(held[0]);
    let mut key_value_buffer = alloc(if is_one { 0 } else { held[1] });
    let d_query = Shared::new(&mut query_buffer);
    let d_key_value = if is_one { d_query } else { Shared::new(&mut key_value_buffer) };
    let d_query = OutputHeads { shared: d_query, strides: inputs.query.strides };
    let d_key = OutputHeads { shared: d_key_value, strides: inputs.key.strides };
    let d_value = OutputHeads { shared: d_key_value, strides: inputs.value.strides };
    let packed = Strides::packed(time, heads, size, 0);
    let outputs = Heads { values: output, strides: packed };
    let d_outputs = Heads { values: d_output, strides: packed };
    let blocks: Vec<_> = (0..batches).map(|batch| inputs.blocks(batch)).collect();
    each(batches * groups, |task| {
        let (batch, group) = (task / groups, task % groups);
        for token in 0..seen {
            // SAFETY: every task has keys and values of its own.
            unsafe {
                d_key.row(batch, group, token, size).fill(MaybeUninit::new(0.0));
                d_value.row(batch, group, token, size).fill(MaybeUninit::new(0.0));
            }
        }
        let per_group = heads / groups;
        for head in group * per_group..(group + 1) * per_group {
            for queries in &blocks[batch] {
                let block = inputs.block(batch, head, queries.clone());
                let (first, count, width) = (queries.start, queries.len(), block.keys.len());
                if block.keys.is_empty() {
                    for query in block.queries {
                        // SAFETY: every task has queries of its own.
                        unsafe { d_query.row(batch, head, query, size) }.fill(MaybeUninit::new(0.0));
                    }
                    continue;
                }
                let (mut weights, mut d_scores) = (alloc(count * width), alloc(count * width));
                let weights = inputs.scores(&block, &mut weights);
                let d_out = d_outputs.matrix(batch, head, first);
                let values = inputs.value.matrix(batch, group, block.keys.start).transposed();
                let d_scores =
                    product_of([count, size, width], d_out, values, 1.0, &mut d_scores, spec.precision);
                for (row, query) in block.queries.clone().enumerate() {
                    let (keys, mask) = inputs.seen(&block, query);
                    let weights = &mut weights[row * width..(row + 1) * width];
                    let d_scores = &mut d_scores[row * width..(row + 1) * width];
                    let position = (batch * heads + head) * time + query;
                    let total = sums[position];
                    let (o, d_o) =
                        (outputs.row(batch, head, query, size), d_outputs.row(batch, head, query, size));
                    let first_key = (block.keys.start + keys.start) as u32;
                    let draws = spec.dropout.row(batch).part(head).part(query);
                    vectorized(
                        #[inline(always)]
                        || {
                            let even = sum(
                                size,
                                #[inline(always)]
                                |d| o[d] * d_o[d],
                            );
                            for outside in [0..keys.start, keys.end..width] {
                                weights[outside.clone()].fill(0.0);
                                d_scores[outside].fill(0.0);
                            }
                            let (weights, d_scores) =
                                (&mut weights[keys.clone()], &mut d_scores[keys.clone()]);
                            let (threshold, scale) = (spec.dropout.threshold(), spec.dropout.scale());
                            for (i, (weight, d_score)) in
                                weights.iter_mut().zip(d_scores.iter_mut()).enumerate()
                            {
                                let score = *weight;
                                let mask = mask.is_some_and(
                                    #[inline(always)]
                                    |mask| mask[i] != 0,
                                );
                                let p = if mask { 0.0 } else { exp(score - total) };
                                let mut factor = 1.0;
                                if spec.dropout.is_on() {
                                    let kept = draws.draw(first_key.wrapping_add(i as u32)) >= threshold;
                                    factor = if kept { scale } else { 0.0 };
                                }
                                let mut slope = p * (*d_score * factor - even) * spec.scale;
                                if spec.softcap > 0.0 {
                                    let bent = score / spec.softcap;
                                    slope *= 1.0 - bent * bent;
                                }
                                *d_score = slope;
                                *weight = p * factor;
                            }
                        },
                    );
                }
                let (weights, d_scores) = (Matrix::of_rows(weights, width), Matrix::of_rows(d_scores, width));
                let queries = inputs.query.matrix(batch, head, first);
                let keys = inputs.key.matrix(batch, group, block.keys.start);
                let (steps, d_queries) =
                    (d_query.strides.token, d_query.rows(batch, head, &block.queries, size));
                let (key_steps, d_keys) = (d_key.strides.token, d_key.rows(batch, group, &block.keys, size));
                let (value_steps, d_values) =
                    (d_value.strides.token, d_value.rows(batch, group, &block.keys, size));
                // SAFETY: every task has queries, keys and values of its own; the latter two were set to 0.
                unsafe {
                    product(
                        [count, width, size],
                        d_scores,
                        keys,
                        1.0,
                        Target(d_queries, steps),
                        Into::Replace,
                        spec.precision,
                    );
                    let (d_scores, weights) = (d_scores.transposed(), weights.transposed());
                    product(
                        [width, count, size],
                        d_scores,
                        queries,
                        1.0,
                        Target(d_keys, key_steps),
                        Into::Add,
                        spec.precision,
                    );
                    product(
                        [width, count, size],
                        weights,
                        d_out,
                        1.0,
                        Target(d_values, value_steps),
                        Into::Add,
                        spec.precision,
                    );
                }
            }
        }
    });
    // SAFETY: the tasks have written all queries, keys and values, which are all there is. Without a tensor of
    // their own, keys and values have no buffer.
    let (d_query, d_key_value) = unsafe { (query_buffer.assume_init(), key_value_buffer.assume_init()) };
    (d_query.into_vec(), (!is_one).then(|| d_key_value.into_vec()))
}
