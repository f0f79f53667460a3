//! Fused training operations: each does in one pass, forward and backward, what several of Burn's own
//! operations do. Each is a function over tensors with a reference beside it, which is made of Burn's
//! operations. The reference is used if [`Mode::Reference`] is given (`--set kernels.fused=false`), if there
//! are no kernels for the device or the element type, and in tests.
//!
//! A [`Mode`] also has the [`Precision`] of matrix products, as autocast has in PyTorch: their factors are rounded to
//! it, their sums are f32. Parameters, the residual stream, norms, softmax, losses and reductions stay f32. Tensors
//! that are saved for the backward pass are stored in the small type on devices that have it
//! ([`Kernels::reduced`](backend::Kernels::reduced)); on the CPU they stay f32, and the products round their factors
//! themselves.

pub mod accumulate;
pub mod activation;
pub mod adafactor;
pub mod adamw;
pub mod adamw_8bit;
pub mod attention;
mod autodiff;
pub mod backend;
pub mod cases;
mod composed;

#[cfg(feature = "flex")]
mod cpu;
pub mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
pub mod device;
pub mod dropout;
pub mod embedding;
pub mod linear;
pub mod log_probabilities;
pub mod low_rank;
pub mod norm;
pub mod peak;
pub mod precision;
pub mod recompute;
pub mod rope;
#[cfg(feature = "cube")]
mod shapes;
pub mod softcap;
pub mod trace;

// Names of lower crates that this one is written with.
use kiln_base::{error, platform};

pub use kiln_operations::Precision;

use backend::{Optional, OptionalInts, OptionalMask};
use burn::{
    backend::{Dispatch, DispatchDevice},
    tensor::{Bool, DType, Device, Int, Tensor},
};

/// The way operations are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Whether operations are computed by fused kernels, where they exist, instead of unfused operations of Burn.
    pub fused: bool,
    /// Precision of matrix products.
    pub precision: Precision,
}

impl Default for Mode {
    fn default() -> Self {
        Self::Fused
    }
}

#[allow(non_upper_case_globals, reason = "the two ways are told apart as if they were variants")]
impl Mode {
    /// Fused kernels, in f32.
    pub const Fused: Self = Self { fused: true, precision: Precision::F32 };
    /// Unfused operations of Burn, in f32.
    pub const Reference: Self = Self { fused: false, precision: Precision::F32 };
}

impl Mode {
    /// The same way, with matrix products of another precision.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Whether a kernel computes an operation on this tensor. Counts the operation if so.
    pub fn fuses<const D: usize>(self, x: &Tensor<D>) -> bool {
        let fuses = self.fused && x.dtype() == DType::F32 && has_kernels(&x.device());
        counted::FUSED.with(|count| count.set(count.get() + usize::from(fuses)));
        fuses
    }
}

fn optional<const D: usize>(tensor: Option<Tensor<D>>) -> Optional<Dispatch> {
    tensor.map_or(Optional::Absent, |tensor| Optional::Given(tensor.into_dispatch()))
}

fn optional_mask<const D: usize>(mask: Option<Tensor<D, Bool>>) -> OptionalMask<Dispatch> {
    mask.map_or(OptionalMask::Absent, |mask| OptionalMask::Given(mask.into_dispatch()))
}

fn optional_ints<const D: usize>(tensor: Option<Tensor<D, Int>>) -> OptionalInts<Dispatch> {
    tensor.map_or(OptionalInts::Absent, |tensor| OptionalInts::Given(tensor.into_dispatch()))
}

/// Whether there are kernels for a device.
pub fn has_kernels(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        #[allow(unreachable_patterns, reason = "a build may have one backend only")]
        _ => false,
    }
}

/// Counter of fused operations, for tests.
pub mod counted {
    use std::cell::Cell;

    thread_local! {
        pub(super) static FUSED: Cell<usize> = const { Cell::new(0) };
    }

    /// Number of operations in `work` that kernels computed.
    pub fn fused(work: impl FnOnce()) -> usize {
        let before = FUSED.get();
        work();
        FUSED.get() - before
    }
}
