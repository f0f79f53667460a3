//! An opened weight file of either format.

use super::{
    Files, StoredTensor,
    tensors::{self, FloatType},
    weights::{DAMAGED, UNREADABLE},
};
use crate::{
    error::Result,
    model::{
        families::Stored,
        parameters::{HostTensor, NamedData},
    },
};
use kiln_gguf::{Gguf, ModelTensor, TensorType};
use safetensors::SafeTensors;

/// An opened weight file, of which only the header has been read.
pub(super) enum Part<'a> {
    Safetensors(SafeTensors<'a>),
    /// Tensors of a GGUF file, under the names that they have in a folder of the same model.
    Gguf(Vec<ModelTensor<'a>>),
}

impl<'a> Part<'a> {
    /// Opens the bytes of the file `name`.
    pub fn open(files: &Files, name: &str, bytes: &'a [u8]) -> Result<Self> {
        if super::names::is_gguf(name) {
            let file = Gguf::parse(bytes, &files.origin)?;
            let tensors = match file.architecture() {
                Ok(_) => file.model_tensors()?,
                // Of another model, which can be listed.
                Err(_) => file.plain_tensors(),
            };
            return Ok(Self::Gguf(tensors));
        }
        let opened =
            tensors::open(bytes).map_err(|error| files.refused(format!("`{name}`: {error}"), DAMAGED))?;
        Ok(Self::Safetensors(opened))
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Safetensors(tensors) => tensors.names(),
            Self::Gguf(tensors) => tensors.iter().map(|tensor| tensor.name.as_str()).collect(),
        }
    }

    /// Describes every tensor.
    pub fn list(&self) -> Vec<StoredTensor> {
        match self {
            Self::Safetensors(tensors) => {
                let described = tensors.iter().map(|(name, view)| StoredTensor {
                    name: name.into(),
                    shape: view.shape().into(),
                    dtype: view.dtype().to_string(),
                    bytes: view.data().len() as u64,
                });
                described.collect()
            }
            Self::Gguf(tensors) => {
                let described = tensors.iter().map(|tensor| StoredTensor {
                    name: tensor.name.clone(),
                    shape: tensor.shape.clone(),
                    dtype: tensor.kind().name().into(),
                    bytes: tensor.data().len() as u64,
                });
                described.collect()
            }
        }
    }

    /// Type of each tensor, `None` for one that Kiln does not write.
    pub fn float_types(&self) -> Vec<Option<FloatType>> {
        match self {
            Self::Safetensors(tensors) => {
                tensors.iter().map(|(_, view)| FloatType::of(view.dtype())).collect()
            }
            Self::Gguf(tensors) => tensors.iter().map(|tensor| float_type(tensor.kind())).collect(),
        }
    }

    /// Whether this file and another have tensors of these names with the same bytes and shape. `None` if the
    /// bytes cannot be compared, because the types differ.
    pub fn have_equal_bytes(&self, name: &str, other: &Self, other_name: &str) -> Option<bool> {
        match (self, other) {
            (Self::Safetensors(own), Self::Safetensors(other)) => {
                let (own, other) = (own.tensor(name).ok()?, other.tensor(other_name).ok()?);
                (own.dtype() == other.dtype())
                    .then(|| own.shape() == other.shape() && own.data() == other.data())
            }
            (Self::Gguf(own), Self::Gguf(other)) => {
                let (own, other) = (find(own, name)?, find(other, other_name)?);
                (own.kind() == other.kind()).then(|| own.is_equal(other))
            }
            _ => None,
        }
    }

    /// Reads one tensor as f32; `None` if it is not there or of a type that is not read.
    pub fn read_one(&self, name: &str) -> Option<HostTensor> {
        match self {
            Self::Safetensors(tensors) => tensors::to_floats(&tensors.tensor(name).ok()?).ok(),
            Self::Gguf(tensors) => Some(Dequantized(find(tensors, name)?.clone()).into_host()),
        }
    }

    /// Reads all tensors as f32, except those whose names are `ignored`.
    ///
    /// # Errors
    /// A message and a hint for a tensor of a type that is not read.
    pub fn read(&self, ignored: impl Fn(&str) -> bool) -> Result<NamedData, (String, &'static str)> {
        match self {
            Self::Safetensors(tensors) => {
                tensors::floats(tensors, ignored).map_err(|message| (message, UNREADABLE))
            }
            Self::Gguf(tensors) => {
                let wanted = tensors.iter().filter(|tensor| !ignored(&tensor.name));
                Ok(wanted
                    .map(|tensor| (tensor.name.clone(), Dequantized(tensor.clone()).into_host()))
                    .collect())
            }
        }
    }
}

fn find<'t, 'a>(tensors: &'t [ModelTensor<'a>], name: &str) -> Option<&'t ModelTensor<'a>> {
    tensors.iter().find(|tensor| tensor.name == name)
}

/// The type of Kiln's that corresponds to a file's type.
fn float_type(kind: TensorType) -> Option<FloatType> {
    match kind {
        TensorType::F32 => Some(FloatType::F32),
        TensorType::F16 => Some(FloatType::F16),
        TensorType::Bf16 => Some(FloatType::Bf16),
        _ => None,
    }
}

/// A tensor of a GGUF file, which is converted to f32 when it is needed.
pub(super) struct Dequantized<'a>(pub ModelTensor<'a>);

impl Stored for Dequantized<'_> {
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn into_host(self) -> HostTensor {
        let values = self.0.read();
        HostTensor::new(self.0.shape, values)
    }
}
