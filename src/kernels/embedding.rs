//! Lookup of rows in an embedding table.

use super::{Mode, backend::Differentiable, trace};
use burn::{
    backend::Dispatch,
    tensor::{FloatDType, Int, Tensor, module},
};

/// Looks up the rows of `table`, `[vocabulary, E]`, at tokens `[B, T]` -> `[B, T, E]`.
pub fn embedding(table: Tensor<2>, tokens: Tensor<2, Int>, mode: Mode) -> Tensor<3> {
    if !mode.fuses(&table) {
        let rows = module::embedding(table, tokens);
        // A table may be stored in a small type; the residual stream is f32.
        let rows = if mode.precision.is_small() { rows.cast(FloatDType::F32) } else { rows };
        return trace::output("embedding", rows);
    }
    let rows = Dispatch::embed(table.into_dispatch(), tokens.into_dispatch());
    trace::output("embedding", Tensor::from_dispatch(rows))
}
