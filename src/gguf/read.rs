//! Header and tensors of a file:
//!
//! ```text
//! "GGUF", version: u32, tensors: u64, keys: u64
//! keys times:    key: text, type: u32, value
//! tensors times: name: text, dimensions: u32, sizes: u64 each (innermost first), type: u32, offset: u64
//! padding to a multiple of `general.alignment` (32), then the data, from which offsets count
//! ```

use crate::{cursor::Cursor, dequantize, metadata::Metadata, types::TensorType};
use kiln_base::error::{Error, Hint, Result};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// Version that is written. Version 2 has the same layout.
pub(crate) const VERSION: u32 = 3;

/// Key of the number whose multiples tensors begin at, and its value in files that do not have it.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
pub(crate) const ALIGNMENT: usize = 32;

/// Largest alignment that is accepted, in bytes.
const LARGEST_ALIGNMENT: u64 = 1 << 20;

/// Largest number of dimensions of a tensor (`GGML_MAX_DIMS`).
const MOST_DIMENSIONS: u32 = 4;

/// Fewest bytes that describe a tensor: the length of its name, one dimension, type and offset.
const LEAST_TENSOR: usize = 32;

const DAMAGED: &str = "copy or download the file again";

/// An opened file, of which the header has been read.
#[derive(Debug, Clone)]
pub struct Gguf<'a> {
    /// Path of the file, for messages.
    pub origin: PathBuf,
    pub version: u32,
    pub metadata: Metadata<'a>,
    /// Tensors in the order of the file.
    pub tensors: Vec<Tensor<'a>>,
}

/// A tensor of a file.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    pub name: &'a str,
    /// Shape in row-major order, that is, with the innermost dimension last.
    pub shape: Vec<usize>,
    pub kind: TensorType,
    /// Blocks of the type, row after row.
    pub data: &'a [u8],
}

impl<'a> Gguf<'a> {
    /// Reads the header of a file. `origin` is its path, for messages.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is truncated, damaged or of another version, or that has a
    /// tensor of a type that is not read.
    pub fn parse(bytes: &'a [u8], origin: &Path) -> Result<Self> {
        let refused = |Refusal { message, hint }: Refusal| Error::Checkpoint {
            path: origin.into(),
            message,
            hint: Some(hint.into()),
        };
        let (version, metadata, tensors) = parse(bytes).map_err(refused)?;
        Ok(Self { origin: origin.into(), version, metadata, tensors })
    }

    /// Tensor with a name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor<'a>> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Makes an error about this file.
    pub(crate) fn failed(&self, message: impl Into<String>) -> Error {
        Error::Checkpoint { path: self.origin.clone(), message: message.into(), hint: None }
    }

    /// Like [`failed`](Self::failed), with a hint.
    pub(crate) fn refused(&self, message: impl Into<String>, hint: impl Into<Hint>) -> Error {
        Error::Checkpoint { path: self.origin.clone(), message: message.into(), hint: Some(hint.into()) }
    }
}

impl Tensor<'_> {
    /// Number of elements in a row, which is the innermost dimension.
    pub fn row_length(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Converts all elements to f32, in row-major order.
    pub fn read(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.elements()];
        dequantize::dequantize(self.kind, self.data, &mut values);
        values
    }

    /// Converts one row to f32; `values` has [`row_length`](Self::row_length) elements.
    pub(crate) fn read_row(&self, row: usize, values: &mut [f32]) {
        let bytes = self.row_length() / self.kind.block_length() * self.kind.block_bytes();
        dequantize::dequantize(self.kind, &self.data[row * bytes..(row + 1) * bytes], values);
    }
}

/// Why a file is refused, and what to do about it.
struct Refusal {
    message: String,
    hint: &'static str,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { message, hint: DAMAGED }
    }
}

fn parse(bytes: &[u8]) -> Result<(u32, Metadata<'_>, Vec<Tensor<'_>>), Refusal> {
    let mut cursor = Cursor::new(bytes);
    let magic = cursor.number().map_err(|_| "it is too short for a GGUF file: it is truncated".to_owned())?;
    if magic != MAGIC {
        let hint = "name a file that llama.cpp, `gguf` or kiln has written";
        return Err(Refusal { message: "it does not begin with `GGUF`".into(), hint });
    }
    let version = cursor.u32()?;
    if !(2..=VERSION).contains(&version) {
        let (message, hint) = match version.swap_bytes() {
            2..=VERSION => ("it is a file for big-endian machines".into(), "take the little-endian one"),
            _ => (
                format!("it has version {version} of the format, but kiln reads 2 and 3"),
                "take a file that a current llama.cpp has made",
            ),
        };
        return Err(Refusal { message, hint });
    }
    let tensors = cursor.count(LEAST_TENSOR, "tensors")?;
    let keys = Metadata::count(&mut cursor)?;
    let metadata = Metadata::read(&mut cursor, keys)?;
    let alignment = alignment(&metadata)?;
    let described = describe(&mut cursor, tensors, alignment)?;
    let start = cursor.position().next_multiple_of(alignment);
    let located = locate(described, bytes.get(start..).unwrap_or_default())?;
    Ok((version, metadata, located))
}

/// Reads the alignment of the tensors.
fn alignment(metadata: &Metadata<'_>) -> Result<usize, String> {
    match metadata.unsigned(ALIGNMENT_KEY)? {
        None => Ok(ALIGNMENT),
        Some(alignment) if alignment.is_power_of_two() && (8..=LARGEST_ALIGNMENT).contains(&alignment) => {
            Ok(alignment as usize)
        }
        Some(other) => Err(format!("`{ALIGNMENT_KEY}` is {other}, which is not a power of two from 8 on")),
    }
}

/// Description of a tensor in the header.
struct Described<'a> {
    name: &'a str,
    shape: Vec<usize>,
    kind: TensorType,
    offset: u64,
    bytes: u64,
}

fn describe<'a>(
    cursor: &mut Cursor<'a>,
    count: usize,
    alignment: usize,
) -> Result<Vec<Described<'a>>, Refusal> {
    let mut names = HashSet::new();
    let mut all = Vec::with_capacity(count);
    for number in 1..=count {
        let name = cursor.text(&format!("the name of tensor {number} of {count}"))?;
        if !names.insert(name) {
            return Err(format!("tensor `{name}` is there twice").into());
        }
        let dimensions = cursor.u32()?;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(format!("tensor `{name}` has {dimensions} dimensions, but kiln reads 1 to 4").into());
        }
        let sizes = (0..dimensions).map(|_| cursor.u64()).collect::<Result<Vec<_>, _>>()?;
        let kind = TensorType::from_number(cursor.u32()?).map_err(|message| Refusal {
            message: format!("tensor `{name}` {message}"),
            hint: "kiln reads F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K; take the model in one of \
                   these",
        })?;
        let offset = cursor.u64()?;
        let (shape, bytes) = size(&sizes, kind).ok_or_else(|| {
            format!("tensor `{name}` cannot have type {} and the sizes {sizes:?}", kind.name())
        })?;
        if !offset.is_multiple_of(alignment as u64) {
            return Err(
                format!("tensor `{name}` begins at {offset}, which is no multiple of {alignment}").into()
            );
        }
        all.push(Described { name, shape, kind, offset, bytes });
    }
    Ok(all)
}

/// Shape of a tensor with these sizes, and the bytes that it takes; `None` if there is no such tensor.
fn size(sizes: &[u64], kind: TensorType) -> Option<(Vec<usize>, u64)> {
    let shape = sizes.iter().rev().map(|&size| usize::try_from(size).ok().filter(|&size| size > 0));
    let shape: Vec<usize> = shape.collect::<Option<_>>()?;
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
    if !sizes.first()?.is_multiple_of(kind.block_length() as u64) {
        return None;
    }
    let bytes = (elements / kind.block_length()).checked_mul(kind.block_bytes())?;
    // Converted it takes four bytes an element.
    elements.checked_mul(size_of::<f32>()).filter(|&bytes| isize::try_from(bytes).is_ok())?;
    Some((shape, bytes as u64))
}

/// Finds the data of each tensor. Tensors may not overlap.
fn locate<'a>(described: Vec<Described<'a>>, data: &'a [u8]) -> Result<Vec<Tensor<'a>>, String> {
    let mut places: Vec<(u64, u64, &str)> = Vec::with_capacity(described.len());
    for Described { name, offset, bytes, .. } in &described {
        match offset.checked_add(*bytes) {
            Some(end) if end <= data.len() as u64 => places.push((*offset, end, name)),
            _ => {
                return Err(format!(
                    "it is truncated: tensor `{name}` has {bytes} bytes from byte {offset} of the data on, of which \
                     the file has {}",
                    data.len()
                ));
            }
        }
    }
    places.sort_unstable();
    if let Some([(_, _, first), (_, _, second)]) =
        places.array_windows().find(|[(_, end, _), (start, _, _)]| start < end)
    {
        return Err(format!("tensors `{first}` and `{second}` overlap"));
    }
    let located = described.into_iter().map(|Described { name, shape, kind, offset, bytes }| {
        let data = &data[offset as usize..(offset + bytes) as usize];
        Tensor { name, shape, kind, data }
    });
    Ok(located.collect())
}
