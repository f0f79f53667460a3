//! Burn's CPU tensors as slices, and back.

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{Bytes, DType, Shape},
};

/// A tensor whose numbers lie side by side.
pub(super) struct Floats(FlexTensor);

impl Floats {
    /// Copies only where the tensor is a view with gaps.
    pub fn of(tensor: &FlexTensor) -> Self {
        Self(if tensor.as_slice::<f32>().is_some() { tensor.clone() } else { tensor.to_contiguous() })
    }

    pub fn dims(&self) -> Vec<usize> {
        self.0.layout().shape().to_vec()
    }
}

impl std::ops::Deref for Floats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        self.0.as_slice().unwrap_or_default()
    }
}

/// Room for so many numbers, which the caller writes all of.
pub(super) fn room(count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count);
    // SAFETY: any bits are a valid f32, and every number is written before one is read.
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(count);
    }
    values
}

/// Numbers as a tensor.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape.into()), DType::F32)
}
