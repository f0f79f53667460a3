//! Weights in several files: `model.safetensors.index.json` says which tensor lies in which shard.

use super::{Files, names, tensors};
use crate::{error::Result, model::parameters::NamedData};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The part of the index that is used.
#[derive(Deserialize)]
struct Index {
    /// Tensor to file name.
    weight_map: BTreeMap<String, String>,
}

/// Reads all shards that the index names. Tensors that are `ignored` by name are left out.
///
/// # Errors
/// For a shard that lies elsewhere, is missing or broken, and for a tensor that the index puts into a
/// shard that does not hold it.
pub(super) fn read(files: &Files, ignored: impl Fn(&str) -> bool) -> Result<NamedData> {
    let refused = |message: String| files.error(format!("`{}` {message}", names::INDEX));
    let index: Index = serde_json::from_slice(files.require(names::INDEX)?)
        .map_err(|error| refused(format!("is not an index of shards: {error}")))?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    let mut all = NamedData::new();
    for shard in shards {
        if shard.contains(['/', '\\']) || !shard.ends_with(".safetensors") {
            return Err(refused(format!("names `{shard}`, which is no shard in the same folder")));
        }
        let bytes = files.get(shard).ok_or_else(|| refused(format!("names `{shard}`, which is missing")))?;
        let broken = |message| files.error(format!("`{shard}`: {message}"));
        for (name, tensor) in tensors::read(bytes, &ignored).map_err(broken)? {
            if index.weight_map.get(&name) != Some(shard) {
                return Err(refused(format!("does not say that `{name}` is in `{shard}`")));
            }
            all.insert(name, tensor);
        }
    }
    match index.weight_map.iter().find(|(name, _)| !all.contains_key(*name) && !ignored(name)) {
        Some((name, shard)) => Err(refused(format!("puts `{name}` into `{shard}`, which does not hold it"))),
        None => Ok(all),
    }
}
