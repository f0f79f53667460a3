//! A checkpoint as a set of named byte strings, which can be read from and written to a folder, a download or
//! a browser's storage.

use super::{Manifest, names};
use crate::{
    error::{Error, Hint, Place, Result, hint},
    platform::storage::{self, Mapped},
};
use std::{
    collections::BTreeMap,
    fmt,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Largest size of a text file that is read, in bytes. The largest vocabularies take half of it.
const LONGEST_TEXT: u64 = 64 << 20;

/// Contents of a file. Clones share mapped files.
#[derive(Clone)]
pub enum Bytes {
    Owned(Vec<u8>),
    /// A file of tensors, mapped into memory.
    Mapped(Arc<Mapped>),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(mapped) => mapped,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// The files of one checkpoint.
#[derive(Debug, Clone)]
pub struct Files {
    /// Origin of the files, for error messages.
    pub origin: PathBuf,
    pub contents: BTreeMap<String, Bytes>,
}

impl Files {
    pub fn new(origin: impl Into<PathBuf>) -> Self {
        Self { origin: origin.into(), contents: BTreeMap::new() }
    }

    /// Reads the files of a checkpoint folder whose names are `wanted`, so that a command that needs only the
    /// model reads only that. Files of tensors are mapped, others are read. The manifest is always read, but
    /// the files are not compared with it yet ([`check`](Self::check)).
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Checkpoint`] for a text file over 64 MiB.
    pub fn read_folder(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let mut files = Self::new(folder);
        for path in storage::list(folder)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let wanted = name == names::MANIFEST || wanted(name);
            if !wanted || !names::is_known(name) || storage::is_folder(&path) {
                continue;
            }
            let bytes = match names::holds_tensors(name) {
                true => Bytes::Mapped(Arc::new(storage::map(&path)?)),
                false => Bytes::Owned(files.read_text(name, &path)?),
            };
            files.contents.insert(name.into(), bytes);
        }
        Ok(files)
    }

    fn read_text(&self, name: &str, path: &Path) -> Result<Vec<u8>> {
        let length = storage::len(path)?;
        if length > LONGEST_TEXT {
            let longest = LONGEST_TEXT >> 20;
            return Err(self.refused(
                format!("`{name}` has {length} bytes, but at most {longest} MiB are read"),
                "it cannot be what its name says; take it anew from where the model is from",
            ));
        }
        storage::read(path)
    }

    /// Compares the `wanted` files with the manifest, if there is one.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is missing, truncated or changed.
    pub fn check(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let Some(manifest) = self.contents.get(names::MANIFEST) else {
            return Ok(());
        };
        let checked = Manifest::parse(manifest).and_then(|manifest| manifest.check(&self.contents, wanted));
        checked.map_err(|message| Error::Checkpoint {
            path: self.origin.clone(),
            message,
            hint: Some(hint![
                "take another checkpoint of the run, for example ",
                Place::Resume.by_argument("with", "DIR")
            ]),
        })
    }

    /// Makes the manifest of these files.
    pub fn manifest(&self) -> Vec<u8> {
        Manifest::of(&self.contents).to_json()
    }

    /// A file that may be absent.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.contents.get(name).map(Deref::deref)
    }

    /// A file that must be present.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is missing.
    pub fn require(&self, name: &str) -> Result<&[u8]> {
        self.get(name).ok_or_else(|| self.error(format!("`{name}` is missing")))
    }

    /// Path of a file of this checkpoint, for error messages; that of the GGUF file that contains all.
    pub fn path(&self, name: &str) -> PathBuf {
        if self.gguf().is_some() { self.origin.clone() } else { self.origin.join(name) }
    }

    pub fn error(&self, message: String) -> Error {
        Error::Checkpoint { path: self.origin.clone(), message, hint: None }
    }

    /// Like [`error`](Self::error), with a hint.
    pub fn refused(&self, message: String, hint: impl Into<Hint>) -> Error {
        Error::Checkpoint { path: self.origin.clone(), message, hint: Some(hint.into()) }
    }

    /// Writes the files and their manifest into a new folder. They are written under a temporary name, which
    /// is changed when all are complete. `folder` must not exist.
    pub fn write_folder(&self, folder: &Path) -> Result<()> {
        write_whole(folder, |folder| {
            for (name, bytes) in &self.contents {
                storage::write_synced(&folder.join(name), bytes)?;
            }
            storage::write_synced(&folder.join(names::MANIFEST), &self.manifest())
        })
    }
}

/// Makes a folder that either exists completely or not at all: `write` fills it under a temporary name.
/// `folder` must not exist, or must be empty.
pub(super) fn write_whole(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("checkpoint");
    let temporary = folder.with_file_name(format!(".{name}.tmp"));
    let fill = || {
        if temporary.is_dir() {
            storage::remove_folder(&temporary)?;
        }
        storage::create_folder(&temporary)?;
        write(&temporary)?;
        storage::sync_folder(&temporary)?;
        storage::rename(&temporary, folder)
    };
    let written = fill();
    if written.is_err() {
        // What is half written helps nobody and may be what fills the disk.
        let _ = storage::remove_folder(&temporary);
    }
    written
}
