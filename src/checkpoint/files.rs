//! A checkpoint as a set of named byte strings, so that it can come from and go to a folder, a
//! download or a browser's storage.

use super::{Manifest, names};
use crate::{
    error::{Error, Result},
    platform::storage,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// No JSON file of a checkpoint is longer; tokenizers of 250,000 tokens have 20 MB.
const LARGEST_JSON: u64 = 256 << 20;

/// The files of one checkpoint.
#[derive(Debug, Clone)]
pub struct Files {
    /// Where they come from, for messages.
    pub origin: PathBuf,
    pub contents: BTreeMap<String, Vec<u8>>,
}

impl Files {
    pub fn new(origin: impl Into<PathBuf>) -> Self {
        Self { origin: origin.into(), contents: BTreeMap::new() }
    }

    /// Reads the files of a checkpoint folder and holds them to the manifest, if there is one.
    /// `wanted` picks files by name, so that a command that needs only the model reads only that.
    pub fn read_folder(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let mut files = Self::new(folder);
        for path in storage::list(folder)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let known = name.ends_with(".safetensors") || name.ends_with(".json") || name == names::KILN;
            if known && (name == names::MANIFEST || wanted(name)) {
                let length = storage::len(&path)?;
                if name.ends_with(".json") && length > LARGEST_JSON {
                    return Err(
                        files.error(format!("`{name}` has {length} bytes, too many to be what it is for"))
                    );
                }
                files.contents.insert(name.into(), storage::read(&path)?);
            }
        }
        files.check(wanted)?;
        Ok(files)
    }

    /// Holds those files that are `wanted` to the manifest, if there is one.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is missing, cut off or changed.
    pub fn check(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let Some(manifest) = self.contents.get(names::MANIFEST) else {
            return Ok(());
        };
        let checked = Manifest::parse(manifest).and_then(|manifest| manifest.check(&self.contents, wanted));
        checked.map_err(|message| Error::Checkpoint {
            path: self.origin.clone(),
            message,
            hint: Some("take another checkpoint of the run, for example with `--resume DIR`".into()),
        })
    }

    /// The manifest that goes with these files.
    pub fn manifest(&self) -> Vec<u8> {
        Manifest::of(&self.contents).to_json()
    }

    /// A file that may be absent.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.contents.get(name).map(Vec::as_slice)
    }

    /// The files that hold the model's weights, with their names: one, or several shards.
    pub fn weights(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let whole = self.contents.contains_key(names::MODEL);
        let shard = |name: &str| name.starts_with("model-") && name.ends_with(".safetensors");
        let files = self.contents.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        files.filter(move |(name, _)| if whole { *name == names::MODEL } else { shard(name) })
    }

    /// A file that must be present.
    pub fn require(&self, name: &str) -> Result<&[u8]> {
        self.get(name).ok_or_else(|| self.error(format!("`{name}` is missing")))
    }

    /// Where a file of this checkpoint lies, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.origin.join(name)
    }

    pub fn error(&self, message: String) -> Error {
        Error::Checkpoint { path: self.origin.clone(), message, hint: None }
    }

    /// Writes the files and their manifest into a new folder: complete under a temporary name,
    /// then renamed. `folder` must not exist.
    pub fn write_folder(&self, folder: &Path) -> Result<()> {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("checkpoint");
        let temporary = folder.with_file_name(format!(".{name}.tmp"));
        let written = self.write_into(&temporary).and_then(|()| storage::rename(&temporary, folder));
        if written.is_err() {
            // What is half written helps nobody and may be what fills the disk.
            let _ = storage::remove_folder(&temporary);
        }
        written
    }

    fn write_into(&self, folder: &Path) -> Result<()> {
        if folder.is_dir() {
            storage::remove_folder(folder)?;
        }
        storage::create_folder(folder)?;
        for (name, bytes) in &self.contents {
            storage::write_synced(&folder.join(name), bytes)?;
        }
        storage::write_synced(&folder.join(names::MANIFEST), &self.manifest())?;
        storage::sync_folder(folder)
    }
}
