//! The folder `OUT/work`, in which a run works, and the markers that say which of its tasks and stages are
//! finished.
//!
//! ```text
//! OUT/work/02-clean-1f0c…/part-00000-000.parquet    documents, kept and dropped
//! OUT/work/02-clean-1f0c…/part-00000.json           marker of a task, written last
//! OUT/work/02-clean-1f0c…/stage.json                marker of the stage
//! ```
//!
//! The hexadecimal digits are a digest of everything that decides the stage's output, so that a changed
//! setting makes another folder.

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
    /// Names the folder of a stage below `work`. `number` counts stages from 1, `previous` is the key of the
    /// stage before, and `settings` is everything else that decides the output.
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

/// Computes the SHA-256 of a file, in hexadecimal, and its length in bytes.
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

/// Path beside `path` that a file is written to until it is complete.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{UNFINISHED}{}-{name}", std::process::id()))
}

/// Prefix of the names of unfinished files.
const UNFINISHED: &str = "tmp-";

/// Returns whether the file's name is one that [`unfinished`] or [`storage::write_atomic`] gives to
/// unfinished files.
pub(super) fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(UNFINISHED) || name.ends_with(".tmp")
}

/// Removes unfinished files that a killed process left in a stage's folder, once all tasks are finished.
pub(super) fn remove_leftovers(folder: &Path) -> Result<()> {
    for file in storage::list(folder)? {
        if is_unfinished(&file) {
            std::fs::remove_file(&file).map_err(|error| Error::io("remove", &file, error))?;
        }
    }
    Ok(())
}

/// Returns the path and the digest of a file that a step reads; for a folder (a checkpoint) the digests of
/// its files.
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
