//! Gradients of queries, keys and values.

use super::{
    super::launch::{Grid, alloc, floats},
    BLOCK, HeadOffsets, Inputs, Kind, Mask, Masks, Problem, Sizes, add, document_end, document_start, dot,
    drawn, end_key, first_key, is_masked, kept, load, offset, offsets, problem, soft_cap, store, zeros,
};
use crate::attention::AttentionSpec;
use burn_cubecl::{
    cubecl::{self, ir::ElemType, prelude::*},
    tensor::CubeTensor,
};

/// Stores for each query the logarithm of the sum of its weights, and the dot product of its output and the
/// gradient of its output.
#[cube(launch_unchecked)]
fn row_kernel<N: Size>(
    output: &[Vector<f32, N>],
    d_output: &[Vector<f32, N>],
    sums: &[f32],
    rows: &mut [f32],
    problem: Problem,
    #[comptime] kind: Kind,
) {
    let row = ABSOLUTE_POS;
    if row >= problem.batches * problem.heads * problem.time {
        terminate!();
    }
    let token = row % problem.time;
    let head = row / problem.time % problem.heads;
    let batch = row / problem.time / problem.heads;
    let vectors = comptime!(kind.vectors);
    let start = ((batch * problem.time + token) * problem.heads + head) * vectors;
    let own = load(output, start, 1.0f32.runtime(), vectors);
    rows[2 * row] = sums[row];
    rows[2 * row + 1] = dot(&own, d_output, start, vectors);
}

/// Computes the gradient of a score and the attention weight after dropout. `score` is soft-capped but not
/// masked, `d_weight` is the dot product of the value and the gradient of the output.
#[cube]
fn slopes(
    score: f32,
    d_weight: f32,
    mask: bool,
    kept: f32,
    rows: &[f32],
    row: usize,
    problem: &Problem,
    #[comptime] kind: Kind,
) -> (f32, f32) {
    let mut weight = (score - rows[2 * row]).exp();
    if mask {
        weight = 0.0;
    }
    let mut slope = weight * (d_weight * kept - rows[2 * row + 1]) * problem.scale;
    if kind.has_softcap {
        let bent = score / problem.softcap;
        slope *= 1.0 - bent * bent;
    }
    (slope, weight * kept)
}

#[cube(launch_unchecked)]
fn query_kernel<N: Size, B: Int, I: Int>(
    query: &[Vector<f32, N>],
    key_value: &[Vector<f32, N>],
    mask: ComptimeOption<&[B]>,
    documents: ComptimeOption<&[I]>,
    rows: &[f32],
    d_output: &[Vector<f32, N>],
    d_query: &mut [Vector<f32, N>],
    query_offsets: HeadOffsets,
    key_offsets: HeadOffsets,
    value_offsets: HeadOffsets,
    problem: Problem,
    #[comptime] kind: Kind,
    #[define(B)] _type: ElemType,
    #[define(I)] _documents_type: ElemType,
) {
    let row = ABSOLUTE_POS;
    if row >= problem.batches * problem.heads * problem.time {
        terminate!();
    }
    let token = row % problem.time;
    let head = row / problem.time % problem.heads;
    let batch = row / problem.time / problem.heads;
    let group = head / (problem.heads / problem.groups);
    let vectors = comptime!(kind.vectors);
    let from = offset(&query_offsets, batch, head, token);
    let own = load(query, from, problem.scale, vectors);
    let upstream_from = ((batch * problem.time + token) * problem.heads + head) * vectors;
    let upstream = load(d_output, upstream_from, 1.0f32.runtime(), vectors);
    let mut gradient = zeros::<N>(vectors);
    let drawn = drawn(batch, head, token, &problem, kind);
    let first = max(first_key(&problem, token), document_start(&documents, batch, token, &problem));
    let end = end_key(&problem, token);
    let end = min(end, document_end(&documents, batch, token, problem.seen, &problem));
    let block = token - token % BLOCK;
    let block = max(first_key(&problem, block), document_start(&documents, batch, block, &problem));
    for at in block..end {
        if at >= first {
            let key = offset(&key_offsets, batch, group, at);
            let score = soft_cap(dot(&own, key_value, key, vectors), &problem, kind);
            let d_weight = dot(&upstream, key_value, offset(&value_offsets, batch, group, at), vectors);
            let is_excluded = is_masked(&mask, batch, token, at, &problem);
            let kept = kept(drawn, at, &problem, kind);
            let (slope, _weight) = slopes(score, d_weight, is_excluded, kept, rows, row, &problem, kind);
            add(&mut gradient, key_value, key, slope, vectors);
        }
    }
    store(&gradient, d_query, from, 1.0f32.runtime(), vectors);
}

#[cube(launch_unchecked)]
fn key_kernel<N: Size, B: Int, I: Int>(
    query: &[Vector<f32, N>],
    key_value: &[Vector<f32, N>],
    mask: ComptimeOption<&[B]>,
    documents: ComptimeOption<&[I]>,
    rows: &[f32],
    d_output: &[Vector<f32, N>],
    d_key_value: &mut [Vector<f32, N>],
    query_offsets: HeadOffsets,
    key_offsets: HeadOffsets,
    value_offsets: HeadOffsets,
    problem: Problem,
    #[comptime] kind: Kind,
    #[define(B)] _type: ElemType,
    #[define(I)] _documents_type: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit >= problem.batches * problem.groups * problem.seen {
        terminate!();
    }
    let at = unit % problem.seen;
    let group = unit / problem.seen % problem.groups;
    let batch = unit / problem.seen / problem.groups;
    let vectors = comptime!(kind.vectors);
    let key = offset(&key_offsets, batch, group, at);
    let value = offset(&value_offsets, batch, group, at);
    let own_key = load(key_value, key, problem.scale, vectors);
    let own_value = load(key_value, value, 1.0f32.runtime(), vectors);
    let mut d_key = zeros::<N>(vectors);
    let mut d_value = zeros::<N>(vectors);
    let per_group = problem.heads / problem.groups;
    let first = document_start(&documents, batch, at, &problem);
    let end = document_end(&documents, batch, at, problem.time, &problem);
    for head in group * per_group..(group + 1) * per_group {
        for token in first..end {
            if at >= first_key(&problem, token) && at < end_key(&problem, token) {
                let row = (batch * problem.heads + head) * problem.time + token;
                let from = offset(&query_offsets, batch, head, token);
                let upstream = ((batch * problem.time + token) * problem.heads + head) * vectors;
                let score = soft_cap(dot(&own_key, query, from, vectors), &problem, kind);
                let d_weight = dot(&own_value, d_output, upstream, vectors);
                let is_excluded = is_masked(&mask, batch, token, at, &problem);
                let kept = kept(drawn(batch, head, token, &problem, kind), at, &problem, kind);
                let (slope, weight) = slopes(score, d_weight, is_excluded, kept, rows, row, &problem, kind);
                add(&mut d_key, query, from, slope, vectors);
                add(&mut d_value, d_output, upstream, weight, vectors);
            }
        }
    }
    store(&d_key, d_key_value, key, 1.0f32.runtime(), vectors);
    store(&d_value, d_key_value, value, 1.0f32.runtime(), vectors);
}

/// Gradients of `query` and of `key_value`, in their layouts; returns the first one twice if `key_value` is
/// absent.
pub fn backward(
    query: CubeTensor,
    key_value: Option<CubeTensor>,
    masks: Masks,
    [output, sums, d_output]: [CubeTensor; 3],
    spec: AttentionSpec,
) -> (CubeTensor, CubeTensor) {
    let inputs = Inputs::packed(query, key_value, spec);
    let (vector, mask, d_output) = (inputs.vector(), Mask::of(masks), floats(d_output));
    let Sizes { batches, time, seen } = inputs.sizes;
    let (query, kind) = (&inputs.query, Kind::of(spec, vector));
    let rows = alloc(query, [batches, spec.heads, time, 2]);
    let d_query = alloc(query, query.meta.shape().clone());
    let d_key_value = match &inputs.key_value {
        Some(key_value) => alloc(query, key_value.meta.shape().clone()),
        None => d_query.clone(),
    };
    let told = || problem(spec, inputs.sizes, &mask);
    let at = || inputs.strides.map(|strides| offsets(strides, vector));
    let by_query = Grid::units(query, batches * spec.heads * time);
    let by_key = Grid::units(query, batches * spec.kv_heads * seen);
    // SAFETY: units beyond the last query or key end at once; the others read rows of the other side below
    // their number, and write the rows of their own query, or key and value.
    unsafe {
        row_kernel::launch_unchecked(
            &by_query.client,
            by_query.count.clone(),
            by_query.dim,
            vector,
            floats(output).into_buffer_arg(),
            d_output.clone().into_buffer_arg(),
            floats(sums).into_buffer_arg(),
            rows.clone().into_buffer_arg(),
            told(),
            kind,
        );
        let [query_offsets, key_offsets, value_offsets] = at();
        query_kernel::launch_unchecked(
            &by_query.client,
            by_query.count,
            by_query.dim,
            vector,
            query.clone().into_buffer_arg(),
            inputs.key_value(query, &inputs.key_value),
            mask.argument(),
            mask.documents(),
            rows.clone().into_buffer_arg(),
            d_output.clone().into_buffer_arg(),
            d_query.clone().into_buffer_arg(),
            query_offsets,
            key_offsets,
            value_offsets,
            told(),
            kind,
            mask.kind(),
            mask.documents_kind(),
        );
        let [query_offsets, key_offsets, value_offsets] = at();
        key_kernel::launch_unchecked(
            &by_key.client,
            by_key.count,
            by_key.dim,
            vector,
            query.clone().into_buffer_arg(),
            inputs.key_value(query, &inputs.key_value),
            mask.argument(),
            mask.documents(),
            rows.into_buffer_arg(),
            d_output.into_buffer_arg(),
            d_key_value.clone().into_buffer_arg(),
            query_offsets,
            key_offsets,
            value_offsets,
            told(),
            kind,
            mask.kind(),
            mask.documents_kind(),
        );
    }
    (d_query, d_key_value)
}
