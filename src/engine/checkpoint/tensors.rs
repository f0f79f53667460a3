//! Conversion of safetensors files to tensors in host memory and back.

use crate::model::parameters::{HostTensor, NamedData};
use half::{bf16, f16};
use safetensors::{
    Dtype, SafeTensors,
    tensor::{SafeTensorError, TensorInfo, TensorView, View},
};
use serde_json::{Map, Value};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

/// Types of floating-point numbers that Kiln writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatType {
    F32,
    F16,
    Bf16,
}

impl FloatType {
    /// Size of one number, in bytes.
    pub fn size(self) -> u64 {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// Name of the type in Kiln's options.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Name of the type in PyTorch and `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// The type that corresponds to a file's type, if Kiln writes it.
    pub fn of(dtype: Dtype) -> Option<Self> {
        [Self::F32, Self::F16, Self::Bf16].into_iter().find(|float| float.dtype() == dtype)
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        }
    }

    /// Whether a finite number becomes infinite in this type.
    pub fn overflows(self, value: f32) -> bool {
        value.is_finite()
            && match self {
                Self::F32 => false,
                Self::F16 => f16::from_f32(value).is_infinite(),
                Self::Bf16 => bf16::from_f32(value).is_infinite(),
            }
    }
}

/// A tensor that is converted when its bytes are requested, so that only one at a time is in memory twice.
struct Encoded<'a>(&'a HostTensor, FloatType);

impl View for Encoded<'_> {
    fn dtype(&self) -> Dtype {
        self.1.dtype()
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.1.encode(&self.0.values).into()
    }
    fn data_len(&self) -> usize {
        self.0.values.len() * self.1.size() as usize
    }
}

/// Encodes tensors in type `float`, in the order of their names.
pub fn write<'a>(
    tensors: impl IntoIterator<Item = (&'a String, &'a HostTensor)>,
    float: FloatType,
) -> Result<Vec<u8>, String> {
    let views = tensors.into_iter().map(|(name, tensor)| (name, Encoded(tensor, float)));
    // transformers refuses files that do not say which framework laid them out.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())
}

/// Words of 32 bits by the names of their tensors, with the shapes of these.
pub type NamedWords = BTreeMap<String, (Vec<usize>, Vec<u32>)>;

/// A tensor of an optimizer's state.
enum OfState<'a> {
    Floats(Encoded<'a>),
    Words(&'a [usize], &'a [u32]),
}

impl View for OfState<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Floats(floats) => floats.dtype(),
            Self::Words(..) => Dtype::U32,
        }
    }
    fn shape(&self) -> &[usize] {
        match self {
            Self::Floats(floats) => floats.shape(),
            Self::Words(shape, _) => shape,
        }
    }
    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Floats(floats) => floats.data(),
            Self::Words(_, words) => {
                words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>().into()
            }
        }
    }
    fn data_len(&self) -> usize {
        match self {
            Self::Floats(floats) => floats.data_len(),
            Self::Words(_, words) => 4 * words.len(),
        }
    }
}

/// Encodes the state of an optimizer: floats, and words of 32 bits.
pub fn write_state(floats: &NamedData, words: &NamedWords) -> Result<Vec<u8>, String> {
    let floats = floats.iter().map(|(name, tensor)| (name, OfState::Floats(Encoded(tensor, FloatType::F32))));
    let words = words.iter().map(|(name, (shape, words))| (name, OfState::Words(shape, words)));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(floats.chain(words), Some(metadata)).map_err(|e| e.to_string())
}

/// Reads the state of an optimizer.
///
/// # Errors
/// A message if the file is broken, or has a tensor of another type.
pub fn read_state(bytes: &[u8]) -> Result<(NamedData, NamedWords), String> {
    let tensors = open(bytes)?;
    let is_words = |view: &TensorView<'_>| view.dtype() == Dtype::U32;
    let mut all = NamedWords::new();
    for (name, view) in tensors.iter().filter(|(_, view)| is_words(view)) {
        let words = view.data().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        all.insert(name.to_owned(), (view.shape().to_vec(), words));
    }
    let floats = floats(&tensors, |name| all.contains_key(name))?;
    Ok((floats, all))
}

/// Opens a file and reads its header.
///
/// # Errors
/// A message about the length of the file, its header, or the offsets, type or shape of a tensor.
pub fn open(bytes: &[u8]) -> Result<SafeTensors<'_>, String> {
    SafeTensors::deserialize(bytes).map_err(|error| explain(bytes, &error))
}

/// Explains the library's error, with the tensor and the numbers that it leaves out.
fn explain(bytes: &[u8], error: &SafeTensorError) -> String {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return format!("it has {} bytes, too few for a safetensors file: it is truncated", bytes.len());
    };
    let length = u64::from_le_bytes(*length);
    let Some((header, data)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
    else {
        return format!(
            "its header would have {length} bytes, but the file has {}: it is truncated, or not safetensors",
            bytes.len()
        );
    };
    if matches!(error, SafeTensorError::HeaderTooLarge) {
        return format!("its header has {length} bytes, over the limit of the format");
    }
    let entries: Map<String, Value> = match serde_json::from_slice(header) {
        Ok(entries) => entries,
        Err(error) => return format!("its header is not JSON: {error}"),
    };
    let mut end = 0;
    for (name, value) in entries.iter().filter(|(name, _)| *name != "__metadata__") {
        match serde_json::from_value::<TensorInfo>(value.clone()) {
            Ok(info) => {
                let (start, stop) = info.data_offsets;
                let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &size| n.checked_mul(size));
                let fits = stop.checked_sub(start).and_then(|bytes| bytes.checked_mul(8)) == bits;
                if bits.is_none() || !fits {
                    let TensorInfo { dtype, shape, .. } = info;
                    return format!(
                        "tensor `{name}` of type {dtype} and shape {shape:?} does not fill the bytes from \
                         {start} to {stop}"
                    );
                }
                end = end.max(stop);
            }
            Err(_) if value["dtype"].is_string() && value["shape"].is_array() => {
                return format!(
                    "tensor `{name}` has type {} and offsets {}, which kiln cannot read",
                    value["dtype"], value["data_offsets"]
                );
            }
            Err(error) => return format!("tensor `{name}`: {error}"),
        }
    }
    match error {
        SafeTensorError::InvalidOffset(name) => {
            let offsets = &entries.get(name).unwrap_or(&Value::Null)["data_offsets"];
            format!("tensor `{name}` at {offsets} does not begin where the one before it ends")
        }
        _ if end > data.len() => {
            let missing = end - data.len();
            format!("it is truncated: the last {missing} of {end} bytes of its tensors are missing")
        }
        _ if end < data.len() => format!("it has {} bytes after its last tensor", data.len() - end),
        other => other.to_string(),
    }
}

/// Whether Kiln reads numbers of this type.
fn is_readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Reads floating-point tensors, converted to f32. Tensors whose names are `ignored` are left out, whatever
/// their type.
///
/// # Errors
/// A message for a tensor of another type.
pub fn floats(tensors: &SafeTensors<'_>, ignored: impl Fn(&str) -> bool) -> Result<NamedData, String> {
    let wanted = || tensors.iter().filter(|(name, _)| !ignored(name));
    // All of them before any is converted.
    if let Some((name, view)) = wanted().find(|(_, view)| !is_readable(view.dtype())) {
        return Err(format!("tensor `{name}` has type {}, not F32, F16, BF16 or F64", view.dtype()));
    }
    Ok(wanted().map(|(name, view)| (name.to_owned(), to_host(&view))).collect())
}

/// Reads one floating-point tensor, converted to f32.
///
/// # Errors
/// A message for a tensor of another type.
pub fn to_floats(view: &TensorView<'_>) -> Result<HostTensor, String> {
    match is_readable(view.dtype()) {
        true => Ok(to_host(view)),
        false => Err(format!("type {}, not F32, F16, BF16 or F64", view.dtype())),
    }
}

/// Converts a tensor of a readable type to f32.
fn to_host(view: &TensorView<'_>) -> HostTensor {
    let data = view.data();
    let (twos, fours, eights) = (data.as_chunks::<2>().0, data.as_chunks::<4>().0, data.as_chunks::<8>().0);
    let values = match view.dtype() {
        Dtype::F64 => eights.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F16 => twos.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => twos.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => fours.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    };
    HostTensor::new(view.shape(), values)
}

/// Opens a file and reads all of its tensors, which must be floating-point.
pub fn read(bytes: &[u8]) -> Result<NamedData, String> {
    floats(&open(bytes)?, |_| false)
}

/// Reads one tensor of 64-bit integers: its shape and values.
pub fn read_i64(bytes: &[u8], name: &str) -> Result<(Vec<usize>, Vec<i64>), String> {
    let tensors = open(bytes)?;
    let view = tensors.tensor(name).map_err(|_| format!("tensor `{name}` is missing"))?;
    if view.dtype() != Dtype::I64 {
        return Err(format!("tensor `{name}` has type {:?}, not I64", view.dtype()));
    }
    let values = view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    Ok((view.shape().to_vec(), values))
}

/// Reads all floating-point tensors; others are left out.
pub fn read_floats(bytes: &[u8]) -> Result<NamedData, String> {
    let tensors = open(bytes)?;
    let floats = tensors.iter().filter(|(_, view)| is_readable(view.dtype()));
    Ok(floats.map(|(name, view)| (name.to_owned(), to_host(&view))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> NamedData {
        NamedData::from([
            ("a".to_owned(), HostTensor::new([2, 2], vec![1.0, -0.0, f32::MIN_POSITIVE, 3.5])),
            ("b".to_owned(), HostTensor::new([1], vec![7.0])),
        ])
    }

    #[test]
    fn round_trips_and_refuses_what_is_cut_off() {
        let tensors = two();
        let bytes = write(&tensors, FloatType::F32).unwrap();
        assert_eq!(read(&bytes).unwrap(), tensors);
        for length in [0, 4, 8, 20, bytes.len() - 1] {
            assert!(read(&bytes[..length]).unwrap_err().contains("truncated"), "{length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(read(&longer).unwrap_err(), "it has 1 bytes after its last tensor");
    }

    #[test]
    fn half_precision_rounds_to_nearest() {
        let values = vec![1.0, -2.5, 1.001, 0.0];
        let tensors = NamedData::from([("a".to_owned(), HostTensor::new([4], values))]);
        for (float, near) in [(FloatType::F16, 1.000_976_6), (FloatType::Bf16, 1.0)] {
            let bytes = write(&tensors, float).unwrap();
            assert_eq!(read(&bytes).unwrap()["a"].values, [1.0, -2.5, near, 0.0], "{float:?}");
        }
        assert!(FloatType::F16.overflows(65520.0) && !FloatType::F16.overflows(65504.0));
        assert!(!FloatType::F16.overflows(f32::INFINITY) && !FloatType::Bf16.overflows(65520.0));
    }

    #[test]
    fn doubles_are_read() {
        let bytes: Vec<u8> = [0.5f64, 1e300].iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F64, vec![2], &bytes).unwrap();
        let file = safetensors::serialize([("x", view)], None).unwrap();
        assert_eq!(read(&file).unwrap()["x"].values, [0.5, f32::INFINITY]);
    }

    /// A file with the given header and number of bytes of data.
    fn with_header(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn what_is_wrong_with_a_header_is_said() {
        let entry = |shape: &str, offsets: &str| {
            format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
        };
        let (first, second) = (entry("[1]", "[0,4]"), entry("[2]", "[0,8]"));
        for (header, data, part) in [
            ("{]".to_owned(), 0, "its header is not JSON"),
            (format!(r#"{{"a":{first},"b":{second}}}"#), 8, "tensor `b` at [0,8] does not begin"),
            (format!(r#"{{"a":{first}}}"#), 3, "it is truncated: the last 1 of 4 bytes"),
            (format!(r#"{{"a":{}}}"#, entry("[2]", "[0,4]")), 4, "tensor `a` of type F32 and shape [2]"),
            (
                format!(r#"{{"a":{}}}"#, entry("[4294967296,4294967296,8]", "[0,4]")),
                4,
                "tensor `a` of type F32",
            ),
            (format!(r#"{{"a":{}}}"#, entry("[1]", "[4,0]")), 4, "tensor `a`"),
            (
                r#"{"a":{"dtype":"F3","shape":[1],"data_offsets":[0,4]}}"#.into(),
                4,
                "tensor `a` has type \"F3\"",
            ),
            (r#"{"a":7}"#.into(), 0, "tensor `a`: "),
        ] {
            let error = open(&with_header(&header, data)).err().unwrap();
            assert!(error.contains(part), "{header}: {error}");
        }
        let mut bytes = (1u64 << 60).to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        assert!(open(&bytes).err().unwrap().contains("1152921504606846976 bytes, but the file has 10"));
    }

    #[test]
    fn what_is_ignored_may_be_of_any_type() {
        let mask = TensorView::new(Dtype::BOOL, vec![2], &[0, 1]).unwrap();
        let bytes = safetensors::serialize([("h.0.attn.bias", mask)], None).unwrap();
        let tensors = open(&bytes).unwrap();
        assert!(floats(&tensors, |_| false).unwrap_err().contains("`h.0.attn.bias` has type BOOL"));
        assert_eq!(floats(&tensors, |name| name.ends_with("attn.bias")).unwrap(), NamedData::new());
    }
}
