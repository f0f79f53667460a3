//! Tensors of GPUs as buffers, and how many units a kernel runs in.

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise, client::Client},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

/// Units of a cube that work on something together.
pub(super) const UNITS: usize = 64;

/// Makes a tensor contiguous; copies only where it is a view with gaps.
pub(super) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// Makes a tensor of f32 contiguous.
///
/// # Panics
/// If its numbers are of another type, which the operations that call kernels rule out.
pub(super) fn floats(tensor: CubeTensor) -> CubeTensor {
    let (kind, shape) = (tensor.dtype, tensor.meta.shape());
    assert!(kind == DType::F32, "a kernel for {:?} got a tensor of {kind:?}, shape {shape:?}", DType::F32);
    contiguous(tensor)
}

/// Allocates an uninitialized f32 tensor on the device of `like`, which a kernel fills.
pub(super) fn alloc(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    alloc_dtype(like, shape, DType::F32)
}

pub(super) fn alloc_dtype(like: &CubeTensor, shape: impl Into<Shape>, kind: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), kind)
}

/// A tensor with a buffer of its own to write to: itself where nothing else shares its buffer, else a copy.
pub(super) fn make_unique(tensor: CubeTensor) -> CubeTensor {
    if tensor.dtype == DType::F32
        && tensor.can_mut()
        && tensor.is_contiguous()
        && tensor.is_contiguous_buffer()
    {
        tensor
    } else {
        floats(tensor.copy())
    }
}

/// Launch grid of a kernel.
pub(super) struct Grid {
    pub client: Client,
    pub count: CubeCount,
    pub dim: CubeDim,
}

impl Grid {
    /// So many units or a few more that have nothing to do with each other.
    pub fn units(like: &CubeTensor, count: usize) -> Self {
        let dim = CubeDim::new(&like.client, count);
        let count = calculate_cube_count_elemwise(&like.client, count, dim);
        Self { client: like.client.clone(), count, dim }
    }

    /// So many cubes or a few more, of [`UNITS`] units each.
    pub fn cubes(like: &CubeTensor, count: usize) -> Self {
        let dim = CubeDim::new_1d(UNITS as u32);
        let count = calculate_cube_count_elemwise(&like.client, count * UNITS, dim);
        Self { client: like.client.clone(), count, dim }
    }
}

/// The last dimension.
pub(super) fn width(tensor: &CubeTensor) -> usize {
    tensor.meta.shape().last().copied().unwrap_or(1)
}

/// Numbers in all.
pub(super) fn length(tensor: &CubeTensor) -> usize {
    tensor.meta.shape().num_elements()
}
