//! Conversion of Burn's CPU tensors to slices and back.

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{Bytes, DType, Shape},
};
use std::{marker::PhantomData, ops::Deref};

/// An element type that kernels compute with.
pub(super) trait Number: Sized + 'static {
    const KIND: DType;

    /// All elements of a contiguous tensor; `None` if it has another element type or is not contiguous.
    fn slice(tensor: &FlexTensor) -> Option<&[Self]>;
}

impl Number for f32 {
    const KIND: DType = DType::F32;

    fn slice(tensor: &FlexTensor) -> Option<&[Self]> {
        tensor.as_slice()
    }
}

impl Number for i32 {
    const KIND: DType = DType::I32;

    fn slice(tensor: &FlexTensor) -> Option<&[Self]> {
        tensor.as_slice()
    }
}

/// A tensor whose elements are contiguous.
pub(super) struct Numbers<N> {
    tensor: FlexTensor,
    kind: PhantomData<N>,
}

pub(super) type Floats = Numbers<f32>;
pub(super) type Tokens = Numbers<i32>;

impl<N: Number> Numbers<N> {
    /// Borrows the elements of a tensor, or copies them if it is a view that is not contiguous.
    ///
    /// # Panics
    /// If the tensor has another element type, which the operations that call kernels rule out.
    pub fn of(tensor: &FlexTensor) -> Self {
        check_kind(tensor, N::KIND);
        let tensor = if tensor.is_contiguous() { tensor.clone() } else { tensor.to_contiguous() };
        Self { tensor, kind: PhantomData }
    }

    pub fn dims(&self) -> Vec<usize> {
        self.tensor.layout().shape().to_vec()
    }
}

impl<N: Number> Deref for Numbers<N> {
    type Target = [N];

    fn deref(&self) -> &[N] {
        match N::slice(&self.tensor) {
            Some(numbers) => numbers,
            None => unreachable!("the type was checked, and gaps were removed"),
        }
    }
}

/// Refuses element types that a kernel would misinterpret.
pub(super) fn check_kind(tensor: &FlexTensor, kind: DType) {
    assert!(
        tensor.dtype() == kind,
        "a kernel for {kind:?} got a tensor of {:?}, shape {:?}",
        tensor.dtype(),
        tensor.layout().shape().to_vec(),
    );
}

/// Makes a tensor of elements.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape.into()), DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn of(data: TensorData) -> FlexTensor {
        FlexTensor::from_data(data)
    }

    #[test]
    fn numbers_are_those_of_the_tensor_whatever_its_layout() {
        let whole = of(TensorData::new((0..6).map(|i| i as f32).collect::<Vec<_>>(), [2, 3]));
        assert_eq!(Floats::of(&whole)[..], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let transposed = whole.transpose(0, 1);
        assert_eq!(Floats::of(&transposed)[..], [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(Floats::of(&transposed).dims(), [3, 2]);
        assert_eq!(Tokens::of(&of(TensorData::new(vec![7i32, -1], [2])))[..], [7, -1]);
        assert_eq!(Floats::of(&of(TensorData::new(Vec::<f32>::new(), [0, 3]))).len(), 0);
    }

    #[test]
    #[should_panic(expected = "a kernel for F32 got a tensor of F64, shape [2]")]
    fn wide_numbers_are_refused() {
        Floats::of(&of(TensorData::new(vec![1f64, 2.0], [2])));
    }

    #[test]
    #[should_panic(expected = "a kernel for I32 got a tensor of I64")]
    fn wide_tokens_are_refused() {
        Tokens::of(&of(TensorData::new(vec![1i64, 2], [2])));
    }
}
