//! Fused training operations: each does in one pass, forward and backward, what several of Burn's own
//! operations do. Each is a function over tensors with a reference beside it, which is made of Burn's
//! operations. The reference is used if [`Mode::Reference`] is given (`--set kernels.fused=false`), if there
//! are no kernels for the device or the element type, and in tests.

pub mod activation;
pub mod adamw;
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
pub mod rope;
#[cfg(feature = "cube")]
mod shapes;
pub mod softcap;
pub mod trace;

// Names of lower crates that this one is written with.
use kiln_base::{error, platform};

use backend::{Optional, OptionalInts, OptionalMask};
use burn::{
    backend::{Dispatch, DispatchDevice},
    tensor::{Bool, DType, Device, Int, Tensor},
};

/// Whether operations are fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Fused kernels, where they exist.
    #[default]
    Fused,
    /// Unfused operations of Burn.
    Reference,
}

impl Mode {
    /// Whether a kernel computes an operation on this tensor. Counts the operation if so.
    pub fn fuses<const D: usize>(self, x: &Tensor<D>) -> bool {
        let fuses = self == Self::Fused && x.dtype() == DType::F32 && has_kernels(&x.device());
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
