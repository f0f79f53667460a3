//! Matrix products of a small precision: which devices have it, and what Burn's operations compute in it.

use super::{
    Precision,
    device::short_name,
    error::{Error, Result},
};
use burn::{
    backend::DispatchDevice,
    tensor::{Device, FloatDType, Tensor},
};

/// Element type of a small precision; `None` for one that is stored as f32.
pub(crate) fn small_type(precision: Precision) -> Option<FloatDType> {
    match precision {
        Precision::F32 | Precision::Tf32 => None,
        Precision::Bf16 => Some(FloatDType::BF16),
        Precision::F16 => Some(FloatDType::F16),
    }
}

/// Whether a device computes products of a precision. A device without faster products of tf32 computes them in f32.
pub fn is_supported(precision: Precision, device: &Device) -> bool {
    small_type(precision).is_none_or(|kind| device.clone().inner().supports_dtype(kind))
}

/// Refuses a precision that a device lacks. `key` is the key or option that asks for it.
///
/// # Errors
/// [`Error::InvalidValue`] with the precisions that the device has.
pub fn check(key: &str, precision: Precision, device: &Device) -> Result<()> {
    if is_supported(precision, device) {
        return Ok(());
    }
    let supported = Precision::ALL.into_iter().filter(|precision| is_supported(*precision, device));
    let names: Vec<&str> = supported.map(Precision::name).collect();
    Err(Error::InvalidValue {
        key: key.into(),
        value: precision.to_string(),
        message: format!("device `{}` does not compute in this type", short_name(device)),
        hint: Some(format!("it computes in {}", names.join(", ")).into()),
    })
}

/// Note on a precision that does not save time on a device.
pub fn note(precision: Precision, device: &Device) -> Option<String> {
    if precision == Precision::F32 || stores_small_types(device) {
        return None;
    }
    match precision {
        Precision::F16 => Some(
            "on the CPU, f16 takes longer than f32: factors are rounded, and their products are those of f32"
                .into(),
        ),
        _ if has_unit(precision) => None,
        _ => Some(format!("this processor has no unit for {precision}: products are those of f32")),
    }
}

/// Whether the processor has a unit for products of a precision.
fn has_unit(precision: Precision) -> bool {
    #[cfg(feature = "flex")]
    return kiln_operations::cpu::gemm::has_unit(precision);
    #[cfg(not(feature = "flex"))]
    {
        let _ = precision;
        false
    }
}

/// Whether tensors of small types save time on a device. Kernels for the CPU read f32.
pub fn stores_small_types(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => false,
        #[allow(unreachable_patterns, reason = "a build may have one backend only")]
        _ => true,
    }
}

/// Converts numbers to the type of a small precision, in which they take half the memory.
pub fn reduced<const D: usize>(x: Tensor<D>, precision: Precision) -> Tensor<D> {
    match small_type(precision) {
        Some(kind) => x.cast(kind),
        None => x,
    }
}

/// Converts a weight that is only read by products to the type of their precision, where that saves time.
pub fn stored<const D: usize>(weight: Tensor<D>, precision: Precision) -> Tensor<D> {
    if stores_small_types(&weight.device()) { reduced(weight, precision) } else { weight }
}

/// Rounds numbers to a precision; they become f32, or stay so. Their gradient is rounded too.
pub(crate) fn rounded<const D: usize>(x: Tensor<D>, precision: Precision) -> Tensor<D> {
    match small_type(precision) {
        Some(kind) => x.cast(kind).cast(FloatDType::F32),
        None => x,
    }
}

/// Multiplies stacks of matrices, `[X, M, K] [X, K, N]` -> `[X, M, N]`, as Burn does. On the CPU they are f32 products
/// whatever the precision.
pub fn stacked_product(a: Tensor<3>, b: Tensor<3>, precision: Precision) -> Tensor<3> {
    match small_type(precision).filter(|_| stores_small_types(&a.device())) {
        Some(kind) => a.cast(kind).matmul(b.cast(kind)).cast(FloatDType::F32),
        None => a.matmul(b),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::DType;

    #[test]
    fn the_cpu_computes_in_every_type_and_stores_f32() {
        let device = Device::flex();
        for precision in Precision::ALL {
            check("train.dtype", precision, &device.clone().autodiff()).unwrap();
            assert!(note(precision, &device).is_none() || precision != Precision::F32);
            let weight = Tensor::<1>::ones([3], &device);
            assert_eq!(stored(weight, precision).dtype(), DType::F32);
        }
    }

    #[test]
    fn numbers_are_rounded_to_even_and_gradients_too() {
        let device = Device::flex().autodiff();
        // 1 + 2^-8 is halfway between two numbers of bf16, 1 + 3 * 2^-8 too; f16 has both.
        let numbers = [1.0f32 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -3.0];
        let x = Tensor::<1>::from_floats(numbers, &device).require_grad();
        let y = rounded(x.clone(), Precision::Bf16);
        let values = |x: Tensor<1>| x.into_data().try_into_vec_as::<f32>().unwrap();
        assert_eq!(values(y.clone().inner()), [1.0, 1.0 + 1.0 / 64.0, -3.0]);
        let gradients = (y * Tensor::from_floats(numbers, &device)).sum().backward();
        assert_eq!(values(x.grad(&gradients).unwrap()), [1.0, 1.0 + 1.0 / 64.0, -3.0]);
        assert_eq!(values(rounded(x.clone(), Precision::F16).inner()), numbers);
        assert_eq!(values(rounded(x, Precision::Tf32).inner()), numbers);
    }
}
