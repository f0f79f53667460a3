//! The files that contain a model's weights: a single one, several with an index, or the one that the user
//! chose.

use super::{
    Files, Index, names, resolve,
    tensors::{self, FloatType},
};
use crate::{error::Result, model::parameters::NamedData, platform::storage};
use safetensors::SafeTensors;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// Place of a model on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub folder: PathBuf,
    /// Name of the weight file, if the user chose one.
    pub named: Option<String>,
}

impl Location {
    /// Finds a model by path: a model's folder, a run (its newest checkpoint), or a `.safetensors` file.
    ///
    /// # Errors
    /// Those of [`resolve`].
    pub fn find(path: &Path) -> Result<Self> {
        Ok(match Self::of_file(path) {
            Some(location) => location,
            None => Self { folder: resolve(path)?, named: None },
        })
    }

    /// Place of a `.safetensors` file; `None` if the path is anything else.
    pub fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str().filter(|name| names::holds_tensors(name))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = parent.unwrap_or(Path::new(".")).into();
        (storage::exists(path) && !storage::is_folder(path))
            .then(|| Self { folder, named: Some(name.into()) })
    }

    /// Opens the files that a model needs. Tensors are mapped and not read yet.
    ///
    /// # Errors
    /// Those of [`Files::read_folder`].
    pub fn open(&self) -> Result<Files> {
        Files::read_folder(&self.folder, |name| self.wants(name))
    }

    /// Whether a file belongs to the model.
    pub fn wants(&self, name: &str) -> bool {
        match &self.named {
            Some(named) if names::holds_tensors(name) => name == named,
            _ => name != names::OPTIMIZER,
        }
    }
}

/// The opened weight files of a model, of which only headers have been read.
pub struct WeightFiles<'a> {
    files: &'a Files,
    parts: Vec<(String, SafeTensors<'a>)>,
}

/// Description of a tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Name of its type in the format: `F32`, `BF16`, …
    pub dtype: String,
    /// Size in the file, in bytes.
    pub bytes: u64,
}

const DAMAGED: &str = "copy or download the file again";
const INCOMPLETE: &str = "get all files of the model, those that its index lists, from the same place";
const UNREADABLE: &str = "kiln reads F32, F16, BF16 and F64; take the weights in one of these types";

impl<'a> WeightFiles<'a> {
    /// Opens the single weight file, or those that the index names. Like in transformers, a single
    /// `model.safetensors` takes precedence over an index.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) naming the file, and the tensor if there is one, for a
    /// file that is missing, truncated or broken, and for an index that does not agree with its files.
    pub fn open(files: &'a Files, named: Option<&str>) -> Result<Self> {
        let single = named.unwrap_or(names::MODEL);
        match files.get(names::INDEX) {
            Some(index) if named.is_none() && files.get(single).is_none() => Self::open_sharded(files, index),
            _ => Self::open_single(files, single),
        }
    }

    fn open_single(files: &'a Files, name: &str) -> Result<Self> {
        let bytes = files.get(name).ok_or_else(|| {
            files.refused(
                format!("`{name}` is missing"),
                "kiln reads `model.safetensors`, or its parts with their index; pickled weights (`.bin`, `.pt`) are \
                 not read",
            )
        })?;
        Ok(Self { files, parts: vec![(name.into(), parse(files, name, bytes)?)] })
    }

    fn open_sharded(files: &'a Files, index: &[u8]) -> Result<Self> {
        let index = Index::parse(index).map_err(|message| files.refused(message, INCOMPLETE))?;
        let mut parts = Vec::new();
        for name in index.files() {
            let bytes = files.get(name).ok_or_else(|| {
                files.refused(format!("`{name}` is missing, which `{}` lists", names::INDEX), INCOMPLETE)
            })?;
            parts.push((name.to_owned(), parse(files, name, bytes)?));
        }
        let mut locations = HashMap::new();
        for (file, tensors) in &parts {
            for tensor in tensors.names() {
                if let Some(other) = locations.insert(tensor, file.as_str()) {
                    let message = format!("tensor `{tensor}` is in both `{other}` and `{file}`");
                    return Err(files.refused(message, INCOMPLETE));
                }
            }
        }
        for (tensor, file) in index.tensors() {
            if locations.get(tensor) != Some(&file) {
                let message =
                    format!("`{file}`: tensor `{tensor}` is missing, which `{}` lists there", names::INDEX);
                return Err(files.refused(message, INCOMPLETE));
            }
        }
        drop(locations);
        Ok(Self { files, parts })
    }

    /// Names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(name, _)| name.as_str())
    }

    /// Total size of the files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.names().filter_map(|name| self.files.get(name)).map(|bytes| bytes.len() as u64).sum()
    }

    /// Type of all tensors, if they have the same one and Kiln writes it.
    pub fn float_type(&self) -> Option<FloatType> {
        let mut types =
            self.parts.iter().flat_map(|(_, tensors)| tensors.iter()).map(|(_, view)| view.dtype());
        let first = types.next()?;
        types.all(|other| other == first).then(|| FloatType::of(first))?
    }

    /// Lists every tensor, sorted by name; numbers in names are compared by value.
    pub fn list(&self) -> Vec<StoredTensor> {
        let tensors = self.parts.iter().flat_map(|(_, tensors)| tensors.iter());
        let mut list: Vec<StoredTensor> = tensors
            .map(|(name, view)| StoredTensor {
                name: name.into(),
                shape: view.shape().into(),
                dtype: view.dtype().to_string(),
                bytes: view.data().len() as u64,
            })
            .collect();
        list.sort_by_cached_key(|tensor| natural(&tensor.name));
        list
    }

    /// Names of all tensors.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|(_, tensors)| tensors.names())
    }

    /// Whether two tensors have the same numbers. Unless `are_alike`, the second is transposed first.
    pub fn are_equal(&self, first: &str, second: &str, are_alike: bool) -> bool {
        let find = |name| self.parts.iter().find_map(|(_, tensors)| tensors.tensor(name).ok());
        let (Some(first), Some(second)) = (find(first), find(second)) else { return false };
        if are_alike && first.dtype() == second.dtype() {
            return first.shape() == second.shape() && first.data() == second.data();
        }
        let (Ok(first), Ok(second)) = (tensors::to_floats(&first), tensors::to_floats(&second)) else {
            return false;
        };
        let shape: Vec<usize> = match are_alike {
            true => second.shape.clone(),
            false => second.shape.iter().rev().copied().collect(),
        };
        let (&[rows, columns], true) = (&first.shape[..], first.shape == shape) else { return false };
        let transposed_index =
            |row: usize, column: usize| if are_alike { row * columns + column } else { column * rows + row };
        let mut locations = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        locations.all(|(row, column)| {
            first.values[row * columns + column] == second.values[transposed_index(row, column)]
        })
    }

    /// Reads all tensors as f32. Tensors whose names are `ignored` are left out, whatever their type.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) for a tensor of a type that Kiln does not read.
    pub fn read(&self, ignored: impl Fn(&str) -> bool) -> Result<NamedData> {
        let mut all = NamedData::new();
        for (name, tensors) in &self.parts {
            let read = tensors::floats(tensors, &ignored);
            all.append(&mut read.map_err(|e| self.files.refused(format!("`{name}`: {e}"), UNREADABLE))?);
        }
        Ok(all)
    }
}

fn parse<'a>(files: &Files, name: &str, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    tensors::open(bytes).map_err(|message| files.refused(format!("`{name}`: {message}"), DAMAGED))
}

/// Sort key by which `layers.2` comes before `layers.10`.
fn natural(name: &str) -> Vec<(u64, String)> {
    let parts = name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part.to_owned()));
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_listed_by_number() {
        let mut names = ["h.10.a", "h.2.b", "h.2.a", "embedding"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["embedding", "h.2.a", "h.2.b", "h.10.a"]);
    }
}
