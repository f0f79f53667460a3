//! File format of filter models, similar to safetensors: the length of a JSON header as 8 bytes
//! (little-endian), the header, and numbers of 4 bytes (little-endian).

use super::super::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;

/// Maximum length of a header in bytes; a file of another kind may state any length.
const MAX_HEADER: usize = 1 << 20;

pub(super) fn to_bytes(header: &impl Serialize, numbers: impl Iterator<Item = u32>) -> Result<Vec<u8>> {
    let header = serde_json::to_vec(header)
        .map_err(|error| Error::invalid_value("header", "model", error.to_string()))?;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(numbers.flat_map(u32::to_le_bytes));
    Ok(bytes)
}

/// Reads the header and the numbers from a file's bytes; `path` is for messages.
pub(super) fn from_bytes<H: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<(H, Vec<u32>)> {
    let parts = bytes.split_first_chunk().and_then(|(length, rest)| {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        (length <= MAX_HEADER).then(|| rest.split_at_checked(length))?
    });
    let Some((header, numbers)) = parts else {
        return Err(invalid(path, "is cut short or not a model of `kiln data`"));
    };
    let header = serde_json::from_slice(header)
        .map_err(|error| invalid(path, &format!("is not a model of this kind: {error}")))?;
    let (numbers, []) = numbers.as_chunks() else { return Err(invalid(path, "is cut short")) };
    Ok((header, numbers.iter().map(|&number| u32::from_le_bytes(number)).collect()))
}

pub(super) fn invalid(path: &Path, message: &str) -> Error {
    Error::InvalidModel { path: path.into(), message: message.into() }
}
