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
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A stage's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    pub path: PathBuf,
    /// Of all that decides what the stage holds.
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

    /// What a marker says, or nothing if what it stands for is not finished. A marker that cannot be read
    /// counts as not written.
    pub fn marker<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.file(&format!("{name}.json"));
        if !storage::exists(&path) {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&storage::read(&path)?).ok())
    }

    pub fn mark(&self, name: &str, content: &impl Serialize) -> Result<()> {
        let json =
            serde_json::to_vec(content).map_err(|error| Error::preparation(name, error.to_string()))?;
        storage::write_atomic(&self.file(&format!("{name}.json")), &json)
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
