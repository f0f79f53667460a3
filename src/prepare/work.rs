//! The folder that a run works in, and the markers that say what of it is finished.
//!
//! ```text
//! OUT/work/02-clean-1f0c…/part-00000-000.parquet    documents, kept and dropped
//! OUT/work/02-clean-1f0c…/part-00000.json           marker of a task, written last
//! OUT/work/02-clean-1f0c…/stage.json                marker of the stage
//! ```
//!
//! The hexadecimal digits are a digest of all that decides what the stage holds, so that a changed setting makes
//! another folder.

use crate::{
    error::{Error, Result},
    platform::storage,
};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A stage's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    pub path: PathBuf,
    /// Digest of everything that decides the stage's output.
    pub key: String,
    pub name: String,
}

impl Folder {
    /// The folder of the stage with this number under `work`. `previous` is the key of the stage before,
    /// `settings` what else decides.
    pub fn new(work: &Path, number: usize, name: &str, previous: &str, settings: &str) -> Self {
        let mut digest = Sha256::new();
        for part in [env!("CARGO_PKG_VERSION"), name, previous, settings] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let key = hexadecimal(&digest.finalize()[..6]);
        Self { path: work.join(format!("{number:02}-{name}-{key}")), key, name: name.into() }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file, and its length.
pub(super) fn digest_file(path: &Path) -> Result<(String, u64)> {
    let mut file = std::fs::File::open(path).map_err(|error| Error::io("read", path, error))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let read =
            std::io::Read::read(&mut file, &mut buffer).map_err(|error| Error::io("read", path, error))?;
        if read == 0 {
            return Ok((hexadecimal(&digest.finalize()), length));
        }
        digest.update(&buffer[..read]);
        length += read as u64;
    }
}

/// Where a file is written until it is whole: beside it.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{UNFINISHED}{}-{name}", std::process::id()))
}

/// Prefix of the names of unfinished files.
const UNFINISHED: &str = "tmp-";

/// Whether a file is one that [`unfinished`] or [`storage::write_atomic`] named.
pub(super) fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(UNFINISHED) || name.ends_with(".tmp")
}

/// Removes what a killed process left behind in a stage's folder, once all tasks are finished.
pub(super) fn remove_leftovers(folder: &Path) -> Result<()> {
    for file in storage::list(folder)? {
        if is_unfinished(&file) {
            std::fs::remove_file(&file).map_err(|error| Error::io("remove", &file, error))?;
        }
    }
    Ok(())
}

/// Name and digest of a file that a step reads; of a folder (a checkpoint) those of its files.
pub(super) fn digest_of(path: &Path) -> Result<(PathBuf, String)> {
    if !storage::exists(path) {
        let hint = "paths of steps are relative to the pipeline file".into();
        return Err(Error::NotFound { path: path.into(), hint });
    }
    if !storage::is_folder(path) {
        return Ok((path.into(), digest_file(path)?.0));
    }
    let mut files = storage::list(path)?;
    files.sort();
    let digests = files.iter().map(|file| Ok(digest_of(file)?.1)).collect::<Result<Vec<_>>>()?;
    Ok((path.into(), digests.join(" ")))
}
