//! Finds files beside a task file.

use crate::error::Result;
use kiln_base::platform::storage;
use std::path::{Path, PathBuf};

/// Lists the files of a folder and of its subfolders, in the order of their paths.
///
/// # Errors
/// [`Error::File`](crate::error::Error::File).
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for path in storage::list(folder)? {
        if !storage::is_folder(&path) {
            paths.push(path);
        } else if storage::read_link(&path).is_none() {
            // A link to a folder is not followed, so that a circle of links cannot go on for ever.
            paths.extend(list(&path)?);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Path relative to a folder or, if there is nothing, to the working directory.
pub fn resolve(folder: &Path, path: &str) -> PathBuf {
    let beside = folder.join(path);
    if storage::exists(&beside) || !storage::exists(Path::new(path)) { beside } else { path.into() }
}
