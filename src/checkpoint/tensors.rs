//! safetensors files: bytes to tensors in host memory and back.

use crate::model::parameters::{HostTensor, NamedData};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;

/// Writes f32 tensors, in the order of their names.
pub fn write(tensors: &NamedData) -> Result<Vec<u8>, String> {
    let bytes: Vec<(&String, &HostTensor, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| (name, tensor, tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, tensor, bytes)| Ok((*name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| e.to_string())?;
    // transformers refuses files that do not say which framework laid them out.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())
}

/// Reads floating-point tensors, converted to f32. Others are errors. Those that are `ignored` by name
/// are left out, whatever they are.
pub fn read(bytes: &[u8], ignored: impl Fn(&str) -> bool) -> Result<NamedData, String> {
    let tensors =
        SafeTensors::deserialize(bytes).map_err(|e| format!("not a complete safetensors file: {e}"))?;
    tensors
        .iter()
        .filter(|(name, _)| !ignored(name))
        .map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::F16 => {
                    data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
                }
                Dtype::BF16 => {
                    data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
                }
                other => return Err(format!("tensor `{name}` has type {other:?}, not F32, F16 or BF16")),
            };
            Ok((name.to_owned(), HostTensor::new(view.shape(), values)))
        })
        .collect()
}

/// What the header of a file says of a tensor.
pub struct TensorInfo {
    pub name: String,
    pub shape: Vec<usize>,
    /// As safetensors names it, for example `BF16`.
    pub dtype: String,
}

/// All tensors of a file, by name, whatever their type.
pub fn list(bytes: &[u8]) -> Result<Vec<TensorInfo>, String> {
    let tensors =
        SafeTensors::deserialize(bytes).map_err(|e| format!("not a complete safetensors file: {e}"))?;
    let mut listed: Vec<TensorInfo> = tensors
        .iter()
        .map(|(name, view)| TensorInfo {
            name: name.into(),
            shape: view.shape().to_vec(),
            dtype: format!("{:?}", view.dtype()),
        })
        .collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// One tensor of 64-bit integers.
pub fn read_i64(bytes: &[u8], name: &str) -> Result<(Vec<usize>, Vec<i64>), String> {
    let tensors =
        SafeTensors::deserialize(bytes).map_err(|e| format!("not a complete safetensors file: {e}"))?;
    let view = tensors.tensor(name).map_err(|_| format!("tensor `{name}` is missing"))?;
    if view.dtype() != Dtype::I64 {
        return Err(format!("tensor `{name}` has type {:?}, not I64", view.dtype()));
    }
    let values = view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    Ok((view.shape().to_vec(), values))
}

/// All floating-point tensors, others left out.
pub fn read_floats(bytes: &[u8]) -> Result<NamedData, String> {
    let tensors =
        SafeTensors::deserialize(bytes).map_err(|e| format!("not a complete safetensors file: {e}"))?;
    let floats = tensors.iter().filter(|(_, view)| view.dtype() == Dtype::F32);
    Ok(floats
        .map(|(name, view)| {
            let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            (name.to_owned(), HostTensor::new(view.shape(), values))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_what_is_cut_off() {
        let tensors = NamedData::from([
            ("a".to_owned(), HostTensor::new([2, 2], vec![1.0, -0.0, f32::MIN_POSITIVE, 3.5])),
            ("b".to_owned(), HostTensor::new([1], vec![7.0])),
        ]);
        let bytes = write(&tensors).unwrap();
        assert_eq!(read(&bytes, |_| false).unwrap(), tensors);
        for length in [0, 4, 8, 20, bytes.len() - 1] {
            assert!(read(&bytes[..length], |_| false).is_err(), "{length}");
        }
    }

    #[test]
    fn a_header_that_claims_2_to_the_60_bytes_is_refused() {
        let mut bytes = (1u64 << 60).to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        assert!(read(&bytes, |_| false).is_err());
    }

    #[test]
    fn what_is_ignored_may_be_of_any_type() {
        let mask = TensorView::new(Dtype::BOOL, vec![2], &[0, 1]).unwrap();
        let bytes = safetensors::serialize([("h.0.attn.bias", mask)], None).unwrap();
        assert!(read(&bytes, |_| false).unwrap_err().contains("`h.0.attn.bias` has type BOOL"));
        assert_eq!(read(&bytes, |name| name.ends_with("attn.bias")).unwrap(), NamedData::new());
    }
}
