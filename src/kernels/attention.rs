//! Attention that never stores the weights of all queries at once (FlashAttention, arXiv:2205.14135). The
//! heads lie side by side, as a projection computes them, and queries may share keys and values (grouped
//! queries, arXiv:2305.13245). Documents that are packed into a row do not see each other; scores between them
//! are not computed.

pub use kiln_operations::attention::{AttentionSpec, PADDING, Strides, Window};

use super::{
    Mode,
    backend::{Differentiable, Kernels},
    dropout::Dropout,
    optional, optional_ints, optional_mask,
    precision::rounded,
    softcap::softcap,
    trace,
};
use burn::{
    backend::Dispatch,
    tensor::{Bool, FloatDType, Int, Tensor, TensorData, activation::softmax},
};

/// Projected queries, keys and values.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "one a layer, and not kept")]
pub enum Projected {
    /// Queries, keys and values of the same tokens, `[B, T, (H + 2G) * D]`.
    Together(Tensor<3>),
    /// Queries `[B, T, H * D]`, and keys and values of other tokens, `[B, S, 2G * D]`.
    Apart(Tensor<3>, Tensor<3>),
}

/// Computes the attention output, `[B, T, H * D]`. `mask`, `[B or 1, 1, T or 1, S]`, is true where a query
/// must not attend to a key in its window. `documents`, `[B, T]`, is the number of each token's document if
/// rows are packed: tokens attend to those of their own document only. Numbers ascend within a row. Tokens
/// with the number [`PADDING`] attend to nothing, and their output is 0. Packed queries, keys and values are
/// of the same tokens ([`Projected::Together`]).
pub fn attention(
    projected: Projected,
    mask: Option<Tensor<4, Bool>>,
    documents: Option<Tensor<2, Int>>,
    spec: AttentionSpec,
    mode: Mode,
) -> Tensor<3> {
    let (query, key_value) = match projected {
        Projected::Together(all) => (all, None),
        Projected::Apart(query, key_value) => (query, Some(key_value)),
    };
    if !mode.fuses(&query) {
        let (heads, groups) = (spec.heads, spec.kv_heads);
        let (source, first) = match &key_value {
            Some(key_value) => (key_value, 0),
            None => (&query, heads),
        };
        let key = part(source, first, groups, spec);
        let value = part(source, first + groups, groups, spec);
        let mask = window_mask(mask, [query.dims()[1], source.dims()[1]], spec.window, &query);
        let mask = mask.into_iter().chain(documents.as_ref().map(document_mask)).reduce(union);
        let y = reference(part(&query, 0, heads, spec), key, value, None, mask, spec);
        let y = match documents {
            Some(documents) => {
                let padding: Tensor<3, Bool> = documents.equal_elem(PADDING).unsqueeze_dim(2); // [B, T, 1]
                let shape = y.dims();
                y.mask_fill(padding.expand(shape), 0.0)
            }
            None => y,
        };
        return trace::output("attention", y);
    }
    let (mask, documents) = (optional_mask(mask), optional_ints(documents));
    let y = Dispatch::attend(query.into_dispatch(), optional(key_value), mask, documents, spec);
    trace::output("attention", Tensor::from_dispatch(y))
}

/// Computes the attention output, `[B, T, H * D]`, of queries `[B, H, T, D]` over cached keys and values `[B,
/// G, S, D]`, which may be of a small type. The kernel has no gradients; if `query` is tracked, the reference is used.
pub fn cached(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4, Bool>>,
    spec: AttentionSpec,
    mode: Mode,
) -> Tensor<3> {
    // A kernel that reads small types would save this pass over the cache.
    let widened = |cached: Tensor<4>| match spec.precision.is_small() {
        true => cached.cast(FloatDType::F32),
        false => cached,
    };
    let [key, value] = [key, value].map(widened);
    if !mode.fuses(&query) || query.is_autodiff() {
        let mask = window_mask(mask, [query.dims()[2], key.dims()[2]], spec.window, &query);
        return reference(query, key, value, None, mask, spec);
    }
    Tensor::from_dispatch(Dispatch::attention_cached(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        optional_mask(mask),
        spec,
    ))
}

/// Selects heads `start..start + heads` of a projection: `[B, T, .. D]` -> `[B, heads, T, D]`.
pub fn part(projected: &Tensor<3>, start: usize, heads: usize, spec: AttentionSpec) -> Tensor<4> {
    let ([batch, time, _], size) = (projected.dims(), spec.head_size);
    let part: Tensor<4> =
        projected.clone().narrow(2, start * size, heads * size).reshape([batch, time, heads, size]);
    part.swap_dims(1, 2)
}

/// Mask that also excludes the keys outside the window, `[B or 1, 1, T or 1, S]`.
pub fn window_mask<const D: usize>(
    mask: Option<Tensor<4, Bool>>,
    [time, seen]: [usize; 2],
    window: Window,
    like: &Tensor<D>,
) -> Option<Tensor<4, Bool>> {
    let device = &like.device();
    let offset = seen as i64 - time as i64;
    // True strictly above the diagonal of the window's last key, and strictly below that of its first.
    let later = (window.right < seen)
        .then(|| Tensor::<2, Bool>::tril_mask([time, seen], offset + window.right as i64, device));
    let earlier = (window.left < seen)
        .then(|| Tensor::<2, Bool>::triu_mask([time, seen], offset - window.left as i64, device));
    let masks = [later, earlier].into_iter().flatten().map(|mask| mask.unsqueeze::<4>());
    mask.into_iter().chain(masks).reduce(union)
}

/// Mask of the keys of other documents than the query's, `[B, 1, T, T]`, where `documents`, `[B, T]`, is the
/// number of each token's document.
pub fn document_mask(documents: &Tensor<2, Int>) -> Tensor<4, Bool> {
    let [batch, time] = documents.dims();
    let queries = documents.clone().reshape([batch, 1, time, 1]).expand([batch, 1, time, time]);
    let keys = documents.clone().reshape([batch, 1, 1, time]).expand([batch, 1, time, time]);
    queries.not_equal(keys)
}

/// Mask that is true where either mask is, with broadcasting.
pub fn union(a: Tensor<4, Bool>, b: Tensor<4, Bool>) -> Tensor<4, Bool> {
    let (a_dims, b_dims) = (a.dims(), b.dims());
    let shape: [usize; 4] = std::array::from_fn(|i| a_dims[i].max(b_dims[i]));
    a.expand(shape).bool_or(b.expand(shape))
}

/// Unfused reference of attention, made of Burn's operations, `[B, T, H * D]`. It ignores `spec.window`,
/// which the mask must include. Queries are `[B, H, T, D]`, keys and values `[B, G, S, D]`; `bias`, `[1, H,
/// T, S]`, is added to the scores. Queries, keys and values are rounded to the precision.
pub fn reference(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Option<Tensor<4>>,
    mask: Option<Tensor<4, Bool>>,
    spec: AttentionSpec,
) -> Tensor<3> {
    let [query, key, value] = [query, key, value].map(|heads| rounded(heads, spec.precision));
    let weights = weights(query, key, bias, mask, spec);
    let [batch, heads, time, seen] = weights.dims();
    let [_, groups, _, size] = value.dims();
    let weights = dropped(weights, spec.dropout);
    let mixed = weights.reshape([batch, groups, heads / groups * time, seen]).matmul(value); // [B, G, R T, D]
    let mixed: Tensor<4> = mixed.reshape([batch, heads, time, size]).swap_dims(1, 2); // [B, T, H, D]
    mixed.reshape([batch, time, heads * size])
}

/// Applies dropout to weights, `[B, H, T, S]`. The random number of a weight is determined by its sample,
/// head, query and key.
fn dropped(weights: Tensor<4>, dropout: Dropout) -> Tensor<4> {
    if !dropout.is_on() {
        return weights;
    }
    let shape @ [batch, heads, time, seen] = weights.dims();
    let (threshold, scale) = (dropout.threshold(), dropout.scale());
    let kept = (0..batch * heads * time).flat_map(|query| {
        let draws = dropout.row(query / time / heads).part(query / time % heads).part(query % time);
        (0..seen as u32).map(move |key| if draws.draw(key) >= threshold { scale } else { 0.0 })
    });
    let kept = TensorData::new::<f32, _>(kept.collect(), shape);
    weights.clone() * Tensor::from_data(kept, &weights.device())
}

/// Attention weights of each query over the keys, `[B, H, T, S]`; each row sums to 1.
pub fn weights(
    query: Tensor<4>,
    key: Tensor<4>,
    bias: Option<Tensor<4>>,
    mask: Option<Tensor<4, Bool>>,
    spec: AttentionSpec,
) -> Tensor<4> {
    let [batch, heads, time, size] = query.dims();
    let [_, groups, seen, _] = key.dims();
    // Query heads that share a key head are stacked along the rows of one matrix product.
    let query = query.mul_scalar(spec.scale).reshape([batch, groups, heads / groups * time, size]);
    let scores = query.matmul(key.swap_dims(2, 3)); // [B, G, R T, S]
    let mut scores: Tensor<4> = scores.reshape([batch, heads, time, seen]);
    if spec.softcap > 0.0 {
        scores = softcap(scores, f64::from(spec.softcap));
    }
    if let Some(bias) = bias {
        scores = scores + bias;
    }
    if let Some(mask) = mask {
        // Finite, so that a row in which everything is masked stays finite too.
        scores = scores.mask_fill(mask.expand([batch, heads, time, seen]), -1e30);
    }
    softmax(scores, 3)
}
