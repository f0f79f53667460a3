//! Computes the attention output and the logarithm of the sum of each query's weights.

use super::{
    super::launch::{Grid, alloc},
    BLOCK, HeadOffsets, Inputs, Kind, LEAST, MASKED_SCORE, Mask, Masks, Problem, Sizes, add, document_end,
    document_start, dot, drawn, end_key, first_key, is_masked, kept, load, offset, offsets, problem,
    soft_cap, store, vector, zeros,
};
use crate::attention::{AttentionSpec, Strides};
use burn::tensor::DType;
use burn_cubecl::{
    cubecl::{self, ir::ElemType, prelude::*},
    tensor::CubeTensor,
};

#[cube(launch_unchecked)]
fn kernel<N: Size, B: Int, I: Int>(
    query: &[Vector<f32, N>],
    key: &[Vector<f32, N>],
    value: &[Vector<f32, N>],
    mask: ComptimeOption<&[B]>,
    documents: ComptimeOption<&[I]>,
    output: &mut [Vector<f32, N>],
    sums: &mut [f32],
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
    let own = load(query, offset(&query_offsets, batch, head, token), problem.scale, vectors);
    let mut mixed = zeros::<N>(vectors);
    let mut most = f32::new(LEAST);
    let mut total = 0.0f32;
    let drawn = drawn(batch, head, token, &problem, kind);
    let first = max(first_key(&problem, token), document_start(&documents, batch, token, &problem));
    let end = end_key(&problem, token);
    let end = min(end, document_end(&documents, batch, token, problem.seen, &problem));
    let block = token - token % BLOCK;
    let block = max(first_key(&problem, block), document_start(&documents, batch, block, &problem));
    for at in block..end {
        if at >= first {
            let score = dot(&own, key, offset(&key_offsets, batch, group, at), vectors);
            let mut score = soft_cap(score, &problem, kind);
            if is_masked(&mask, batch, token, at, &problem) {
                score = f32::new(MASKED_SCORE);
            }
            if score > most {
                let shrunk = (most - score).exp();
                total *= shrunk;
                let shrunk = Vector::<f32, N>::new(shrunk);
                #[unroll]
                for i in 0..vectors {
                    mixed[i] *= shrunk;
                }
                most = score;
            }
            let weight = (score - most).exp();
            total += weight;
            let weight = weight * kept(drawn, at, &problem, kind);
            add(&mut mixed, value, offset(&value_offsets, batch, group, at), weight, vectors);
        }
    }
    // No key within the window.
    if total == 0.0 {
        total = 1.0;
    }
    let target = ((batch * problem.time + token) * problem.heads + head) * vectors;
    store(&mixed, output, target, 1.0 / total, vectors);
    sums[row] = most + total.ln();
}

/// Attention output, `[B, T, H * D]`, and the logarithm of the sum of each query's weights, `[B, H, T]`.
pub fn forward(
    query: CubeTensor,
    key_value: Option<CubeTensor>,
    masks: Masks,
    spec: AttentionSpec,
) -> (CubeTensor, CubeTensor) {
    let inputs = Inputs::packed(query, key_value, spec);
    let vector = inputs.vector();
    let key = inputs.key_value(&inputs.query, &inputs.key_value);
    // Values are of the tensor that keys are of.
    let value = BufferArg::alias(usize::from(inputs.key_value.is_some()), 0);
    let query = inputs.query.clone();
    launch(
        [query.clone().into_buffer_arg(), key, value],
        &query,
        masks,
        inputs.strides,
        inputs.sizes,
        spec,
        vector,
    )
}

/// Attention output, `[B, T, H * D]`, of queries `[B, H, T, D]` over keys and values `[B, G, S, D]`, with any
/// strides.
pub fn cached(
    query: CubeTensor,
    key: CubeTensor,
    value: CubeTensor,
    mask: Option<CubeTensor>,
    spec: AttentionSpec,
) -> CubeTensor {
    let [query, key, value] = [query, key, value].map(with_whole_rows);
    let sizes =
        Sizes { batches: query.meta.shape()[0], time: query.meta.shape()[2], seen: key.meta.shape()[2] };
    let strides = [&query, &key, &value].map(|tensor| {
        let strides = tensor.meta.strides();
        Strides { first: 0, batch: strides[0], head: strides[1], token: strides[2] }
    });
    let vector = vector(spec, &strides);
    let buffers = [query.clone(), key, value].map(CubeTensor::into_buffer_arg);
    launch(buffers, &query, (mask, None), strides, sizes, spec, vector).0
}

/// A tensor whose rows along the last dimension are contiguous; copies it only if needed.
fn with_whole_rows(tensor: CubeTensor) -> CubeTensor {
    let whole = tensor.dtype == DType::F32 && !tensor.meta.is_tiled() && tensor.meta.strides()[3] == 1;
    if whole { tensor } else { super::floats(tensor) }
}

fn launch(
    [query, key, value]: [BufferArg; 3],
    like: &CubeTensor,
    masks: Masks,
    strides: [Strides; 3],
    sizes: Sizes,
    spec: AttentionSpec,
    vector: usize,
) -> (CubeTensor, CubeTensor) {
    let mask = Mask::of(masks);
    let Sizes { batches, time, .. } = sizes;
    let output = alloc(like, [batches, time, spec.heads * spec.head_size]);
    let sums = alloc(like, [batches, spec.heads, time]);
    let [query_offsets, key_offsets, value_offsets] = strides.map(|strides| offsets(strides, vector));
    let Grid { client, count, dim } = Grid::units(like, batches * spec.heads * time);
    // SAFETY: units beyond the last query end at once; the others read keys below S of their batch and
    // group, where their strides put them, and write the row of their own query.
    unsafe {
        kernel::launch_unchecked(
            &client,
            count,
            dim,
            vector,
            query,
            key,
            value,
            mask.argument(),
            mask.documents(),
            output.clone().into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            query_offsets,
            key_offsets,
            value_offsets,
            problem(spec, sizes, &mask),
            Kind::of(spec, vector),
            mask.kind(),
            mask.documents_kind(),
        );
    }
    (output, sums)
}
