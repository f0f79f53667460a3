//! Conversions between Kiln's and a family's form of a tensor: slices, transposes and permutations of
//! columns, never arithmetic.

use super::Stored;
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
        let shape = self.loaded_shape(&tensor.shape)?;
        if matches!((self, shape.len()), (Self::AsIs | Self::Zeros(_), _) | (Self::Transpose, 1)) {
            return Some(tensor);
        }
        let mut values = vec![0.0; tensor.values.len()];
        self.put(&tensor, &mut values, 0, shape.last().copied().unwrap_or(1));
        Some(HostTensor::new(shape, values))
    }

    /// Shape in Kiln's form of a tensor that is stored with this one; `None` if it does not have the rank or size
    /// that the conversion needs.
    pub(super) fn loaded_shape(self, stored: &[usize]) -> Option<Vec<usize>> {
        match (self, stored) {
            (Self::AsIs | Self::Zeros(_), _) => Some(stored.to_vec()),
            (Self::TransposeRotary { head_size }, [rows] | [rows, _]) if !rows.is_multiple_of(head_size) => {
                None
            }
            (_, &[rows]) => Some(vec![rows]),
            (_, &[rows, columns]) => Some(vec![columns, rows]),
            _ => None,
        }
    }

    /// Converts a stored tensor to Kiln's form within a larger matrix, whose rows have `total` columns and of which
    /// it becomes those from `start` on. Reads and writes each number once.
    fn put(self, stored: &HostTensor, whole: &mut [f32], start: usize, total: usize) {
        let source = |column: usize| match self {
            Self::TransposeRotary { head_size } => {
                column / head_size * head_size + to_pairs(column % head_size, head_size)
            }
            _ => column,
        };
        match (self, &stored.shape[..]) {
            (Self::Transpose | Self::TransposeRotary { .. }, &[rows, columns]) => {
                for first in (0..rows).step_by(TILE) {
                    let count = TILE.min(rows - first);
                    let starts: [usize; TILE] = std::array::from_fn(|at| match at < count {
                        true => source(first + at) * columns,
                        false => 0,
                    });
                    for column in 0..columns {
                        let at = column * total + start + first;
                        for (value, from) in whole[at..at + count].iter_mut().zip(starts) {
                            *value = stored.values[from + column];
                        }
                    }
                }
            }
            (Self::TransposeRotary { .. }, _) => {
                for (column, value) in whole[start..start + stored.values.len()].iter_mut().enumerate() {
                    *value = stored.values[source(column)];
                }
            }
            _ => {
                let width = stored.shape.last().copied().unwrap_or(1).max(1);
                for (row, whole) in stored.values.chunks(width).zip(whole.chunks_mut(total.max(1))) {
                    whole[start..start + width].copy_from_slice(row);
                }
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

/// Converts stored tensors to Kiln's form, matrices side by side and vectors end to end; `None` if there are none, if
/// one does not have the rank that its conversion needs, or if their heights differ. Only one of them at a time is in
/// memory twice.
pub(super) fn join<T: Stored>(mut parts: Vec<(Transform, T)>) -> Option<HostTensor> {
    if parts.len() < 2 {
        let (transform, stored) = parts.pop()?;
        return transform.load(stored.into_host());
    }
    let shapes: Vec<Vec<usize>> = parts
        .iter()
        .map(|(transform, stored)| transform.loaded_shape(stored.shape()))
        .collect::<Option<_>>()?;
    let widths: Vec<usize> = shapes.iter().map(|shape| shape.last().copied()).collect::<Option<_>>()?;
    let rows = shapes[0].iter().product::<usize>() / widths[0].max(1);
    let is_as_high = |(shape, width): (&Vec<usize>, &usize)| shape.iter().product::<usize>() == rows * width;
    if !shapes.iter().zip(&widths).all(is_as_high) {
        return None;
    }
    let total = widths.iter().sum::<usize>();
    let mut values = vec![0.0; rows * total];
    let mut start = 0;
    for ((transform, stored), width) in parts.into_iter().zip(widths) {
        transform.put(&stored.into_host(), &mut values, start, total);
        start += width;
    }
    let mut shape = shapes.into_iter().next()?;
    if let Some(last) = shape.last_mut() {
        *last = total;
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
    let mut values = Vec::with_capacity(matrices.iter().map(|matrix| matrix.values.len()).sum());
    matrices.into_iter().for_each(|matrix| values.extend(matrix.values));
    Some(HostTensor::new(shape, values))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: &[usize], from: usize) -> HostTensor {
        let count = shape.iter().product::<usize>();
        HostTensor::new(shape, (from..from + count).map(|number| number as f32).collect())
    }

    #[test]
    fn stored_parts_are_joined_in_their_own_columns() {
        let rotary = Transform::TransposeRotary { head_size: 4 };
        // More than a tile, and no whole number of tiles.
        let parts = [(rotary, 40), (Transform::Transpose, 21), (Transform::AsIs, 7)];
        for rows in [&[3][..], &[]] {
            let own = parts.map(|(_, width)| numbers(&[rows, &[width]].concat(), 1000 * width));
            let stored: Vec<_> =
                parts.iter().zip(&own).map(|((t, _), own)| (*t, t.store(own.clone()))).collect();
            let joined = join(stored).unwrap();
            assert_eq!(joined.shape, [rows, &[68]].concat());
            let mut start = 0;
            for own in &own {
                let width = own.shape.last().copied().unwrap();
                assert_eq!(columns(&joined, &(start..start + width)), *own);
                start += width;
            }
            for ((transform, _), own) in parts.iter().zip(own) {
                assert_eq!(transform.load(transform.store(own.clone())), Some(own));
            }
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_none() {
        let two = |first: &[usize], second: &[usize]| {
            join(vec![(Transform::Transpose, numbers(first, 0)), (Transform::Transpose, numbers(second, 0))])
        };
        assert_eq!(two(&[2, 3], &[4, 3]).unwrap().shape, [3, 6]);
        assert_eq!(two(&[2, 3], &[4, 2]), None);
        assert_eq!(two(&[2, 3], &[1, 2, 3]), None);
        assert_eq!(join(Vec::<(Transform, HostTensor)>::new()), None);
        assert_eq!(Transform::TransposeRotary { head_size: 4 }.load(numbers(&[6, 2], 0)), None);
    }
}
