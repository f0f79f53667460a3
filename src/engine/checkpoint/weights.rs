//! The files that contain a model's weights: a single one, several with an index, or the one that the user
//! chose, which may be of either format.

use super::{
    Files, Index, names,
    part::{Dequantized, Part},
    resolve,
    tensors::FloatType,
};
use crate::{
    error::{Error, Result, hint},
    model::parameters::NamedData,
    platform::storage,
};
use std::{
    collections::{BTreeMap, HashMap},
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
    /// Finds a model by path: a model's folder, a run (its newest checkpoint), a `.safetensors` or `.gguf`
    /// file, or a folder with nothing but a `.gguf` file.
    ///
    /// # Errors
    /// Those of [`resolve`], and [`Error::InvalidValue`] for a folder with several `.gguf` files.
    pub fn find(path: &Path) -> Result<Self> {
        if let Some(location) = Self::of_file(path) {
            return Ok(location);
        }
        if storage::is_folder(path) && !storage::exists(&path.join(names::CONFIG)) {
            let mut files = storage::list(path)?;
            files.retain(|file| file.to_str().is_some_and(names::is_gguf));
            match &files[..] {
                [] => {}
                [file] => return Self::of_file(file).map_or_else(|| Self::of_folder(path), Ok),
                several => {
                    return Err(Error::InvalidValue {
                        key: "model".into(),
                        value: path.display().to_string(),
                        message: format!("there are {} GGUF files here", several.len()),
                        hint: Some(hint![
                            "name one of them, for example ",
                            hint::command(several[0].display().to_string())
                        ]),
                    });
                }
            }
        }
        Self::of_folder(path)
    }

    fn of_folder(path: &Path) -> Result<Self> {
        Ok(Self { folder: resolve(path)?, named: None })
    }

    /// Place of a `.safetensors` or `.gguf` file; `None` if the path is anything else.
    pub fn of_file(path: &Path) -> Option<Self> {
        let is_weights = |name: &&str| names::holds_tensors(name) || names::is_gguf(name);
        let name = path.file_name()?.to_str().filter(is_weights)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = parent.unwrap_or(Path::new(".")).into();
        (storage::exists(path) && !storage::is_folder(path))
            .then(|| Self { folder, named: Some(name.into()) })
    }

    /// Opens the files that a model needs. Tensors are mapped and not read yet.
    ///
    /// # Errors
    /// Those of [`Files::read_folder`] and [`Files::read_gguf`].
    pub fn open(&self) -> Result<Files> {
        if let Some(name) = self.named.as_deref().filter(|name| names::is_gguf(name)) {
            return Files::read_gguf(&self.folder.join(name));
        }
        Files::read_folder(&self.folder, |name| self.wants(name))
    }

    /// Whether a file belongs to the model.
    pub fn wants(&self, name: &str) -> bool {
        match &self.named {
            Some(named) if names::holds_tensors(name) => name == named,
            _ => ![names::OPTIMIZER, names::OBJECTIVE].contains(&name),
        }
    }
}

/// The opened weight files of a model, of which only headers have been read.
pub struct WeightFiles<'a> {
    files: &'a Files,
    parts: Vec<(String, Part<'a>)>,
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

pub(super) const DAMAGED: &str = "copy or download the file again";
const INCOMPLETE: &str = "get all files of the model, those that its index lists, from the same place";
pub(super) const UNREADABLE: &str =
    "kiln reads F32, F16, BF16 and F64; take the weights in one of these types";

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
        Ok(Self { files, parts: vec![(name.into(), Part::open(files, name, bytes)?)] })
    }

    fn open_sharded(files: &'a Files, index: &[u8]) -> Result<Self> {
        let index = Index::parse(index).map_err(|message| files.refused(message, INCOMPLETE))?;
        let mut parts = Vec::new();
        for name in index.files() {
            let bytes = files.get(name).ok_or_else(|| {
                files.refused(format!("`{name}` is missing, which `{}` lists", names::INDEX), INCOMPLETE)
            })?;
            parts.push((name.to_owned(), Part::open(files, name, bytes)?));
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
        let mut types = self.parts.iter().flat_map(|(_, part)| part.float_types());
        let first = types.next()??;
        types.all(|other| other == Some(first)).then_some(first)
    }

    /// Lists every tensor, sorted by name; numbers in names are compared by value.
    pub fn list(&self) -> Vec<StoredTensor> {
        let mut list: Vec<StoredTensor> = self.parts.iter().flat_map(|(_, part)| part.list()).collect();
        list.sort_by_cached_key(|tensor| natural(&tensor.name));
        list
    }

    /// Names of all tensors.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|(_, part)| part.names())
    }

    /// Whether two tensors have the same numbers. Unless `are_alike`, the second is transposed first.
    pub fn are_equal(&self, first: &str, second: &str, are_alike: bool) -> bool {
        let find =
            |name: &str| self.parts.iter().map(|(_, part)| part).find(|part| part.names().contains(&name));
        let (Some(first_part), Some(second_part)) = (find(first), find(second)) else { return false };
        if are_alike && let Some(are_equal) = first_part.have_equal_bytes(first, second_part, second) {
            return are_equal;
        }
        let (Some(first), Some(second)) = (first_part.read_one(first), second_part.read_one(second)) else {
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
        for (name, part) in &self.parts {
            let read = part.read(&ignored);
            all.append(
                &mut read.map_err(|(error, hint)| self.files.refused(format!("`{name}`: {error}"), hint))?,
            );
        }
        Ok(all)
    }

    /// Tensors of a GGUF file, to be converted one at a time; `None` for files of the other format.
    pub(super) fn dequantized(&self) -> Option<BTreeMap<String, Dequantized<'a>>> {
        let [(_, Part::Gguf(tensors))] = &self.parts[..] else { return None };
        Some(tensors.iter().map(|tensor| (tensor.name.clone(), Dequantized(tensor.clone()))).collect())
    }
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
