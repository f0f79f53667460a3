//! Conversions between Kiln's and a family's form of a tensor: slices, transposes and permutations of
//! columns, never arithmetic.

use crate::model::parameters::{HostTensor, NamedData};

/// Number of rows that are transposed together: those of 16 f32 that lie together, a line of the cache.
const TILE: usize = 16;

/// Conversion of a part of a tensor to its stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    AsIs,
    /// Kiln's tensor is `[in, out]`, the family's is `[out, in]`.
    Transpose,
    /// The tensor is transposed, and the columns of each head with this width are permuted: those that rotate
    /// together are adjacent in Kiln's tensor, and half a head apart in the family's.
    TransposeRotary {
        head_size: usize,
    },
    /// The family has a bias that Kiln's model does not: zeros of this length.
    Zeros(usize),
}

impl Transform {
    pub(super) fn store(self, tensor: HostTensor) -> HostTensor {
        match self {
            Self::AsIs | Self::Zeros(_) => tensor,
            Self::Transpose => transpose(&tensor),
            Self::TransposeRotary { head_size } => transpose(&permute_columns(&tensor, head_size, to_halves)),
        }
    }

    /// Converts a stored tensor to Kiln's form; `None` if it does not have the rank or size that the
    /// conversion needs.
    pub(super) fn load(self, tensor: HostTensor) -> Option<HostTensor> {
        match self {
            Self::AsIs | Self::Zeros(_) => Some(tensor),
            _ if tensor.shape.is_empty() || tensor.shape.len() > 2 => None,
            Self::Transpose => Some(transpose(&tensor)),
            Self::TransposeRotary { head_size } => {
                let whole_heads = tensor.shape[0].is_multiple_of(head_size);
                whole_heads.then(|| permute_columns(&transpose(&tensor), head_size, to_pairs))
            }
        }
    }
}

/// Transposes a matrix, `[rows, columns]` -> `[columns, rows]`; leaves a vector unchanged.
fn transpose(tensor: &HostTensor) -> HostTensor {
    let &[rows, columns] = &tensor.shape[..] else {
        return tensor.clone();
    };
    let mut values = vec![0.0; tensor.values.len()];
    for start in (0..rows).step_by(TILE) {
        let end = rows.min(start + TILE);
        for column in 0..columns {
            let target = &mut values[column * rows + start..column * rows + end];
            for (value, row) in target.iter_mut().zip(start..end) {
                *value = tensor.values[row * columns + column];
            }
        }
    }
    HostTensor::new([columns, rows], values)
}

/// Selects a range of columns of a matrix, or of elements of a vector.
pub(super) fn columns(tensor: &HostTensor, range: &std::ops::Range<usize>) -> HostTensor {
    let width = tensor.shape.last().copied().unwrap_or(1);
    if range.len() == width {
        return tensor.clone();
    }
    let values = tensor.values.chunks(width).flat_map(|row| &row[range.clone()]).copied().collect();
    let mut shape = tensor.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = range.len();
    }
    HostTensor::new(shape, values)
}

/// Joins matrices side by side, or vectors end to end; `None` if there are none or their heights differ.
pub(super) fn join(mut parts: Vec<HostTensor>) -> Option<HostTensor> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let widths: Vec<usize> = parts.iter().filter_map(|part| part.shape.last().copied()).collect();
    let rows = parts[0].values.len() / widths[0].max(1);
    if parts.iter().zip(&widths).any(|(part, width)| part.values.len() != rows * width) {
        return None;
    }
    let mut values = Vec::with_capacity(rows * widths.iter().sum::<usize>());
    for row in 0..rows {
        for (part, width) in parts.iter().zip(&widths) {
            values.extend_from_slice(&part.values[row * width..(row + 1) * width]);
        }
    }
    let mut shape = parts.swap_remove(0).shape;
    if let Some(last) = shape.last_mut() {
        *last = widths.iter().sum();
    }
    Some(HostTensor::new(shape, values))
}

/// Permutes the columns in each head: column `i` of the result is column `source(i)` of the input.
fn permute_columns(tensor: &HostTensor, head_size: usize, source: fn(usize, usize) -> usize) -> HostTensor {
    let width = tensor.shape.last().copied().unwrap_or(1).max(1);
    let place = |column: usize| column / head_size * head_size + source(column % head_size, head_size);
    let places: Vec<usize> = (0..width).map(place).collect();
    let mut values = Vec::with_capacity(tensor.values.len());
    for row in tensor.values.chunks_exact(width) {
        values.extend(places.iter().map(|&place| row[place]));
    }
    HostTensor::new(tensor.shape.clone(), values)
}

/// Index in the interleaved layout, with pairs `(2i, 2i + 1)`, of column `i` in the half layout, with pairs
/// `(i, i + d/2)`.
fn to_halves(i: usize, size: usize) -> usize {
    if i < size / 2 { 2 * i } else { 2 * (i - size / 2) + 1 }
}

/// The inverse of [`to_halves`].
fn to_pairs(i: usize, size: usize) -> usize {
    if i.is_multiple_of(2) { i / 2 } else { i / 2 + size / 2 }
}

/// Selects one matrix of a stack `[n, rows, columns]`.
pub(super) fn matrix(tensor: &HostTensor, index: usize) -> HostTensor {
    let shape = tensor.shape.get(1..).unwrap_or_default().to_vec();
    let size = shape.iter().product::<usize>();
    HostTensor::new(shape, tensor.values[index * size..(index + 1) * size].to_vec())
}

/// Stacks matrices of equal shape; `None` if there are none or their shapes differ.
pub(super) fn stack(matrices: Vec<HostTensor>) -> Option<HostTensor> {
    let mut shape = matrices.first()?.shape.clone();
    if matrices.iter().any(|matrix| matrix.shape != shape) {
        return None;
    }
    shape.insert(0, matrices.len());
    Some(HostTensor::new(shape, matrices.into_iter().flat_map(|matrix| matrix.values).collect()))
}

/// Separates the experts of a layer into tensors with their names in files. In memory, and therefore in the
/// names of gradients, transformers 5 has them in one tensor: `experts.gate_up_proj`, `[X, 2 F, E]`, and
/// `experts.down_proj`, `[X, E, F]`.
pub(super) fn experts_apart(tensors: NamedData) -> NamedData {
    let mut apart = NamedData::new();
    for (name, tensor) in tensors {
        let fused = name.strip_suffix("experts.gate_up_proj").map(|layer| (layer, true));
        let fused = fused.or_else(|| name.strip_suffix("experts.down_proj").map(|layer| (layer, false)));
        let (Some((layer, is_up)), &[experts, rows, columns]) = (fused, &tensor.shape[..]) else {
            apart.insert(name, tensor);
            continue;
        };
        for expert in 0..experts {
            let own = matrix(&tensor, expert);
            let mut put = |part: &str, values: &[f32]| {
                let shape = [values.len() / columns.max(1), columns];
                apart.insert(
                    format!("{layer}experts.{expert}.{part}.weight"),
                    HostTensor::new(shape, values.to_vec()),
                );
            };
            if is_up {
                let (gate, up) = own.values.split_at(rows / 2 * columns);
                put("gate_proj", gate);
                put("up_proj", up);
            } else {
                put("down_proj", &own.values);
            }
        }
    }
    apart
}
