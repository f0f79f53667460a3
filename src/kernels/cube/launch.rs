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

/// Numbers side by side; copies only where the tensor is a view with gaps.
pub(super) fn dense(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// The same of numbers that a kernel reads as f32.
///
/// # Panics
/// If they are of another type, which the operations that call kernels rule out.
pub(super) fn floats(tensor: CubeTensor) -> CubeTensor {
    let (kind, shape) = (tensor.dtype, tensor.meta.shape());
    assert!(kind == DType::F32, "a kernel for {:?} got a tensor of {kind:?}, shape {shape:?}", DType::F32);
    dense(tensor)
}

/// Room for numbers, which a kernel writes all of, on the device of `like`.
pub(super) fn room(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    room_of(like, shape, DType::F32)
}

pub(super) fn room_of(like: &CubeTensor, shape: impl Into<Shape>, kind: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), kind)
}

/// A tensor of its own memory to write to: itself where nobody else holds it.
pub(super) fn owned(tensor: CubeTensor) -> CubeTensor {
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

/// Where a kernel runs.
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
