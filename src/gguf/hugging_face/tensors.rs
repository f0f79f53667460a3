//! Tensors in Hugging Face's form.

use super::{
    Architecture,
    config::Heads,
    names::{self, Form, place},
};
use crate::{Tensor, TensorType};

/// Number of rows that are transposed together, so that what is written lies together.
const TILE: usize = 16;

/// A tensor of a model, by Hugging Face's name and in its form.
#[derive(Debug, Clone)]
pub struct ModelTensor<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    form: Form,
    tensor: Tensor<'a>,
}

impl<'a> ModelTensor<'a> {
    pub(super) fn new(tensor: Tensor<'a>, architecture: Architecture, heads: Heads) -> Result<Self, String> {
        let name = names::from_gguf(architecture, tensor.name);
        let form = name.as_ref().map_or(Form::Equal, |name| Form::of(architecture, name, heads));
        let shape = form.shape(&tensor.shape).map_err(|wanted| {
            format!("tensor `{}` has shape {:?}, but should be {wanted}", tensor.name, tensor.shape)
        })?;
        Ok(Self { name: name.unwrap_or_else(|| tensor.name.into()), shape, form, tensor })
    }

    pub(super) fn plain(tensor: Tensor<'a>) -> Self {
        let (name, shape) = (tensor.name.to_owned(), tensor.shape.clone());
        Self { name, shape, form: Form::Equal, tensor }
    }

    /// Type in the file.
    pub fn kind(&self) -> TensorType {
        self.tensor.kind
    }

    /// Blocks in the file.
    pub fn data(&self) -> &'a [u8] {
        self.tensor.data
    }

    /// Whether another tensor has the same type, form and bytes.
    pub fn is_equal(&self, other: &Self) -> bool {
        self.kind() == other.kind()
            && (self.form, &self.shape) == (other.form, &other.shape)
            && self.data() == other.data()
    }

    /// Converts the tensor to f32, in row-major order, without a second copy.
    pub fn read(&self) -> Vec<f32> {
        let tensor = &self.tensor;
        let (rows, width) = (tensor.rows(), tensor.row_length());
        match self.form {
            Form::Equal => tensor.read(),
            Form::Rotary { heads } if self.shape.len() == 1 => {
                let read = tensor.read();
                let mut values = vec![0.0; read.len()];
                for (row, value) in read.iter().enumerate() {
                    values[place(row, width / heads.max(1))] = *value;
                }
                values
            }
            Form::Rotary { heads } => {
                let mut values = vec![0.0; tensor.elements()];
                for row in 0..rows {
                    let start = place(row, rows / heads.max(1)) * width;
                    tensor.read_row(row, &mut values[start..start + width]);
                }
                values
            }
            Form::Transposed => {
                let mut values = vec![0.0; tensor.elements()];
                let mut tile = vec![0.0; TILE * width];
                for start in (0..rows).step_by(TILE) {
                    let count = TILE.min(rows - start);
                    for (row, part) in tile.chunks_mut(width).take(count).enumerate() {
                        tensor.read_row(start + row, part);
                    }
                    for (column, values) in values.chunks_mut(rows).enumerate() {
                        for (row, value) in values[start..start + count].iter_mut().enumerate() {
                            *value = tile[row * width + column];
                        }
                    }
                }
                values
            }
        }
    }
}
