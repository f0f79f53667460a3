//! Stands for `parts` on processors and systems without its units.

use super::{
    few_rows::Target,
    gemm::{Into, Matrix},
};
use crate::Precision;

/// A unit, of which there is none.
#[derive(Clone, Copy)]
pub(super) enum Unit {}

pub(super) fn has_unit(_: Precision) -> bool {
    false
}

pub(super) fn unit_for(_: [usize; 3], _: Precision) -> Option<Unit> {
    None
}

#[allow(clippy::too_many_arguments, reason = "as the function that it stands for")]
pub(super) unsafe fn product(
    unit: Unit,
    _: [usize; 3],
    _: Matrix,
    _: Matrix,
    _: f32,
    _: Target,
    _: Into,
    _: Precision,
) {
    match unit {}
}
