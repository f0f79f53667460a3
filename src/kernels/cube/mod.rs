//! Kernels for GPUs, written once for CUDA, Vulkan, Metal, WebGPU and the browser. They stay within the
//! limits that WebGPU guarantees everywhere (8 storage buffers per kernel, 16 KiB of memory shared by the
//! units of a cube, no float atomics), and do not rely on units running in lockstep, which not every browser
//! provides.
#![allow(clippy::needless_range_loop, clippy::manual_is_multiple_of, reason = "kernels know neither")]

mod activation;
mod adamw_8bit;
mod attention;
mod cross_entropy;
mod dropout;
mod embedding;
mod launch;
mod math;
mod norm;
mod optimizer;
mod rope;

use super::{
    activation::Activation,
    adamw::AdamWSpec,
    adamw_8bit::AdamW8BitSpec,
    attention::AttentionSpec,
    backend::{Kernels, Optional, OptionalInts, OptionalMask},
    cross_entropy::CrossEntropySpec,
    dropout::Dropout,
    norm::NormSpec,
    rope::RopeSpec,
};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};

impl Kernels for CubeBackend {
    fn norm_forward(
        x: CubeTensor,
        weight: CubeTensor,
        bias: Optional<Self>,
        spec: NormSpec,
    ) -> (CubeTensor, CubeTensor) {
        norm::forward(x, weight, bias.into_option(), spec)
    }

    fn norm_backward(
        x: CubeTensor,
        weight: CubeTensor,
        statistics: CubeTensor,
        dy: CubeTensor,
        spec: NormSpec,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        norm::backward(x, weight, statistics, dy, spec)
    }

    fn activation_forward(x: CubeTensor, activation: Activation) -> CubeTensor {
        activation::forward(x, activation)
    }

    fn activation_backward(x: CubeTensor, dy: CubeTensor, activation: Activation) -> CubeTensor {
        activation::backward(x, dy, activation)
    }

    fn rope(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, spec: RopeSpec) -> CubeTensor {
        rope::rotate(x, cos, sin, spec)
    }

    fn attention_forward(
        query: CubeTensor,
        key_value: Optional<Self>,
        mask: OptionalMask<Self>,
        documents: OptionalInts<Self>,
        spec: AttentionSpec,
    ) -> (CubeTensor, CubeTensor) {
        let masks = (mask.into_option(), documents.into_option());
        attention::forward(query, key_value.into_option(), masks, spec)
    }

    fn attention_backward(
        query: CubeTensor,
        key_value: Optional<Self>,
        mask: OptionalMask<Self>,
        documents: OptionalInts<Self>,
        output: CubeTensor,
        sums: CubeTensor,
        d_output: CubeTensor,
        spec: AttentionSpec,
    ) -> (CubeTensor, CubeTensor) {
        let outputs = [output, sums, d_output];
        let masks = (mask.into_option(), documents.into_option());
        attention::backward(query, key_value.into_option(), masks, outputs, spec)
    }

    fn attention_cached(
        query: CubeTensor,
        key: CubeTensor,
        value: CubeTensor,
        mask: OptionalMask<Self>,
        spec: AttentionSpec,
    ) -> CubeTensor {
        attention::cached(query, key, value, mask.into_option(), spec)
    }

    fn cross_entropy(
        states: CubeTensor,
        weight: CubeTensor,
        targets: CubeTensor,
        weights: CubeTensor,
        spec: CrossEntropySpec,
    ) -> CubeTensor {
        cross_entropy::loss(states, weight, targets, weights, spec)
    }

    fn cross_entropy_with_gradients(
        states: CubeTensor,
        weight: CubeTensor,
        targets: CubeTensor,
        weights: CubeTensor,
        spec: CrossEntropySpec,
        with_weight_gradient: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        cross_entropy::loss_with_gradients(states, weight, targets, weights, spec, with_weight_gradient)
    }

    fn embedding_gradient(tokens: CubeTensor, dy: CubeTensor, vocabulary: usize) -> CubeTensor {
        embedding::backward(tokens, dy, vocabulary)
    }

    fn dropout(x: CubeTensor, residual: Optional<Self>, dropout: Dropout) -> CubeTensor {
        dropout::apply(x, residual.into_option(), dropout)
    }

    fn adamw(
        weights: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        gradient: CubeTensor,
        scale: CubeTensor,
        spec: AdamWSpec,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [weights, first, second] = optimizer::adamw([weights, first, second], gradient, scale, spec);
        (weights, first, second)
    }

    fn adamw_8bit(
        weights: CubeTensor,
        codes: CubeTensor,
        largest: CubeTensor,
        gradient: CubeTensor,
        scale: CubeTensor,
        tables: CubeTensor,
        spec: AdamW8BitSpec,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        adamw_8bit::update(weights, codes, largest, [gradient, scale, tables], spec)
    }

    fn sum_of_squares(x: CubeTensor) -> CubeTensor {
        optimizer::sum_of_squares(x)
    }
}
