//! Records the sizes and checksums of a checkpoint's files.

use super::{Bytes, names};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Contents of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the checkpoint's format.
    format: u32,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FileRecord {
    bytes: u64,
    sha256: String,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { format: Self::FORMAT, files: BTreeMap::new() }
    }
}

impl Manifest {
    const FORMAT: u32 = 1;

    /// Makes the manifest of a set of files.
    pub fn of(files: &BTreeMap<String, Bytes>) -> Self {
        let mut manifest = Self::default();
        for (name, bytes) in files.iter().filter(|(name, _)| *name != names::MANIFEST) {
            manifest.record(name, bytes);
        }
        manifest
    }

    /// Adds a file.
    pub fn record(&mut self, name: &str, bytes: &[u8]) {
        let record = FileRecord { bytes: bytes.len() as u64, sha256: sha256(bytes) };
        self.files.insert(name.into(), record);
    }

    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let manifest: Self =
            serde_json::from_slice(json).map_err(|e| format!("`{}` is broken: {e}", names::MANIFEST))?;
        if manifest.format != Self::FORMAT {
            return Err(format!(
                "its layout has version {}, but this kiln knows {}",
                manifest.format,
                Self::FORMAT
            ));
        }
        Ok(manifest)
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Compares the `wanted` files with their sizes and checksums.
    ///
    /// # Errors
    /// A message for the first file that is missing, truncated or changed.
    pub fn check(
        &self,
        files: &BTreeMap<String, Bytes>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        for (name, record) in self.files.iter().filter(|(name, _)| wanted(name)) {
            let bytes = files.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
            if bytes.len() as u64 != record.bytes {
                return Err(format!(
                    "`{name}` has {} bytes instead of {}: it is truncated",
                    bytes.len(),
                    record.bytes
                ));
            }
            if sha256(bytes) != record.sha256 {
                return Err(format!("`{name}` does not match its checksum: it was changed or damaged"));
            }
        }
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
