//! Conversion of GPU tensors to buffers, and launch grids of kernels.

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise, client::Client},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

/// Number of units of a cube that work together.
pub(super) const UNITS: usize = 64;

/// Makes a tensor contiguous; copies only if it is a view that is not contiguous.
pub(super) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// Makes an f32 tensor contiguous.
///
/// # Panics
/// If the tensor has another element type, which the operations that call kernels rule out.
pub(super) fn floats(tensor: CubeTensor) -> CubeTensor {
    let (kind, shape) = (tensor.dtype, tensor.meta.shape());
    assert!(kind == DType::F32, "a kernel for {:?} got a tensor of {kind:?}, shape {shape:?}", DType::F32);
    contiguous(tensor)
}

/// Allocates an uninitialized f32 tensor on the device of `like`, for a kernel to fill.
pub(super) fn alloc(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    alloc_dtype(like, shape, DType::F32)
}

pub(super) fn alloc_dtype(like: &CubeTensor, shape: impl Into<Shape>, kind: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), kind)
}

/// A tensor whose buffer may be written to: the tensor itself if nothing else shares its buffer, otherwise a
/// copy.
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
    /// Grid of at least `count` independent units.
    pub fn units(like: &CubeTensor, count: usize) -> Self {
        let dim = CubeDim::new(&like.client, count);
        let count = calculate_cube_count_elemwise(&like.client, count, dim);
        Self { client: like.client.clone(), count, dim }
    }

    /// Grid of at least `count` cubes of [`UNITS`] units each.
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

/// Number of elements.
pub(super) fn length(tensor: &CubeTensor) -> usize {
    tensor.meta.shape().num_elements()
}
