//! A new file. Its header is made first, from the shapes of all tensors; then their bytes are written one
//! tensor at a time, so that no second copy of a model is in memory.

use crate::{
    quantize::{WRITTEN, quantize},
    read::{ALIGNMENT, ALIGNMENT_KEY, MAGIC, VERSION},
    types::TensorType,
    value::{Value, put_text},
};
use std::io::{self, Write};

/// Metadata and tensors of a file to be written.
#[derive(Debug, Clone, Default)]
pub struct Contents<'a> {
    /// Keys and values, in the order of the file. `general.alignment` decides where tensors may begin.
    pub metadata: Vec<(String, Value<'a>)>,
    /// Tensors, in the order of the file.
    pub tensors: Vec<Layout>,
}

/// Name, shape and type of a tensor to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    pub name: String,
    /// Shape in row-major order.
    pub shape: Vec<usize>,
    pub kind: TensorType,
}

impl Layout {
    /// Describes a tensor that is written as `wanted`, where that is possible: a type that is not written
    /// becomes F32, and rows that are no whole number of blocks become F16.
    pub fn new(name: String, shape: Vec<usize>, wanted: TensorType) -> Self {
        let row = shape.last().copied().unwrap_or(1);
        let kind = match wanted {
            kind if !WRITTEN.contains(&kind) => TensorType::F32,
            kind if !row.is_multiple_of(kind.block_length()) => TensorType::F16,
            kind => kind,
        };
        Self { name, shape, kind }
    }

    /// Size of the tensor in the file, in bytes.
    pub fn bytes(&self) -> usize {
        let elements: usize = self.shape.iter().product();
        elements / self.kind.block_length() * self.kind.block_bytes()
    }
}

impl Contents<'_> {
    /// Writes the file. `values` gives the elements of each tensor by its number, in row-major order.
    ///
    /// # Errors
    /// Those of `out`, and [`io::ErrorKind::InvalidInput`] for a tensor with another number of elements than
    /// its shape says.
    pub fn write(&self, out: &mut dyn Write, mut values: impl FnMut(usize) -> Vec<f32>) -> io::Result<()> {
        let alignment = self.alignment();
        let mut bytes = self.header(alignment);
        for (number, tensor) in self.tensors.iter().enumerate() {
            bytes.resize(bytes.len().next_multiple_of(alignment), 0);
            out.write_all(&bytes)?;
            bytes.clear();
            let values = values(number);
            if values.len() != tensor.shape.iter().product::<usize>() {
                let message = format!("tensor `{}` has {} elements", tensor.name, values.len());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            quantize(tensor.kind, &values, &mut bytes);
        }
        // ggml's reader wants the last tensor padded, too.
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        out.write_all(&bytes)
    }

    fn alignment(&self) -> usize {
        let own = self.metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY);
        let own = own.and_then(|(_, value)| value.unsigned()).and_then(|value| usize::try_from(value).ok());
        own.filter(|alignment| *alignment > 0).unwrap_or(ALIGNMENT)
    }

    fn header(&self, alignment: usize) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut bytes, key);
            value.write(&mut bytes);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            put_text(&mut bytes, &tensor.name);
            bytes.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().rev().for_each(|size| bytes.extend((*size as u64).to_le_bytes()));
            bytes.extend(tensor.kind.number().to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.bytes()).next_multiple_of(alignment);
        }
        bytes
    }
}
