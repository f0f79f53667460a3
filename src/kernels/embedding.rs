//! Lookup of rows in an embedding table.

use super::{Mode, backend::Differentiable, trace};
use burn::{
    backend::Dispatch,
    tensor::{Int, Tensor, module},
};

/// Looks up the rows of `table`, `[vocabulary, E]`, at tokens `[B, T]` -> `[B, T, E]`.
pub fn embedding(table: Tensor<2>, tokens: Tensor<2, Int>, mode: Mode) -> Tensor<3> {
    if !mode.fuses(&table) {
        return trace::output("embedding", module::embedding(table, tokens));
    }
    let rows = Dispatch::embed(table.into_dispatch(), tokens.into_dispatch());
    trace::output("embedding", Tensor::from_dispatch(rows))
}
