//! Detects changes that others made in the object store. Each finished stage has a list of its objects, which
//! is compared with the store before the stage is used. Objects that are missing or differ are sent again
//! from the cache, if it has them.

use super::{Workspace, bucket::Bucket, is_marker};
use crate::{
    error::{Error, Result},
    platform::storage,
    work::{Folder, digest_file, unfinished},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Name of the list in a stage's folder.
const FILE_NAME: &str = "stage.objects";

/// Maximum number of checks, a second apart, that a rank waits for rank 0 to restore the stage, which may
/// have much to send.
const CHECKS: usize = 600;

/// Objects of a stage, by their paths in its folder.
type Inventory = BTreeMap<String, Object>;

/// An object as it was when the stage was finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Object {
    bytes: u64,
    /// Tag that the store gives to the content.
    e_tag: Option<String>,
    /// SHA-256 of the file in the cache, if it was there.
    sha256: Option<String>,
}

impl Workspace {
    /// Lists the objects of a stage that is about to be marked as finished.
    pub(super) async fn take_inventory(&self, bucket: &Bucket, folder: &Folder) -> Result<()> {
        let mut inventory = self.objects(bucket, folder).await?;
        for (name, object) in &mut inventory {
            let file = folder.path.join(name);
            if file.exists() {
                object.sha256 = Some(digest_file(&file)?.0);
            }
        }
        self.write_inventory(folder, &inventory).await
    }

    /// Compares a finished stage with the object store and sends objects again that are missing there or
    /// differ. Rank 0 does so, and the other ranks wait for it.
    ///
    /// # Errors
    /// [`Error::Preparation`] if the cache lacks such an object too, or if the store cannot be reached.
    pub(crate) async fn verify(&self, folder: &Folder, rank: usize) -> Result<()> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let path = folder.file(FILE_NAME);
        for attempt in 0.. {
            let listed = bucket.list(&self.key(bucket, &folder.path)).await?;
            let key = self.key(bucket, &path);
            if !listed.iter().any(|object| object.location == key) {
                // Of a stage that was finished before there were such lists.
                return Ok(());
            }
            bucket.fetch(key, &path).await?;
            let json = storage::read(&path)?;
            let inventory: Inventory = serde_json::from_slice(&json)
                .map_err(|error| Error::preparation("reading what a stage has", error.to_string()))?;
            let found = self.objects(bucket, folder).await?;
            let is_same = |(name, object): &(&String, &Object)| {
                found
                    .get(*name)
                    .is_some_and(|found| found.bytes == object.bytes && found.e_tag == object.e_tag)
            };
            let changed: Vec<_> = inventory.iter().filter(|entry| !is_same(entry)).collect();
            if changed.is_empty() {
                return Ok(());
            }
            if rank == 0 {
                for (name, object) in changed {
                    self.restore(bucket, folder, name, object, found.get(name)).await?;
                }
                let mut now = self.objects(bucket, folder).await?;
                now.retain(|name, _| inventory.contains_key(name));
                for (name, object) in &mut now {
                    object.sha256 = inventory.get(name).and_then(|object| object.sha256.clone());
                }
                return self.write_inventory(folder, &now).await;
            }
            if attempt == CHECKS {
                return Err(self.lost(folder, changed[0].0));
            }
            tokio::time::sleep(self.poll()).await;
        }
        Ok(())
    }

    /// Restores an object that is missing (`found` is `None`) or seems to differ.
    async fn restore(
        &self,
        bucket: &Bucket,
        folder: &Folder,
        name: &str,
        object: &Object,
        found: Option<&Object>,
    ) -> Result<()> {
        let file = folder.path.join(name);
        let key = self.key(bucket, &file);
        let is_own = |file: &PathBuf| -> Result<bool> {
            if !file.exists() || storage::len(file)? != object.bytes {
                return Ok(false);
            }
            let digest = digest_file(file)?.0;
            Ok(object.sha256.as_ref().is_none_or(|own| *own == digest))
        };
        // A store that was copied names its objects anew: the content tells.
        if let (Some(found), Some(own)) = (found, &object.sha256)
            && found.bytes == object.bytes
        {
            let copy = unfinished(&file);
            bucket.fetch(key.clone(), &copy).await?;
            let digest = digest_file(&copy)?.0;
            std::fs::remove_file(&copy).map_err(|error| Error::io("remove", &copy, error))?;
            if digest == *own {
                return Ok(());
            }
        }
        if !is_own(&file)? {
            return Err(self.lost(folder, name));
        }
        let address = self.address(&file);
        tracing::warn!("`{address}` is gone or is another than this run wrote; it is sent again");
        bucket.send(&file, &key).await
    }

    /// Lists the objects of a stage in the store, without markers.
    async fn objects(&self, bucket: &Bucket, folder: &Folder) -> Result<Inventory> {
        let prefix = self.key(bucket, &folder.path);
        let mut inventory = Inventory::new();
        for object in bucket.list(&prefix).await? {
            let Some(parts) = object.location.prefix_match(&prefix) else { continue };
            let name: Vec<String> = parts.map(|part| AsRef::<str>::as_ref(&part).to_owned()).collect();
            let name = name.join("/");
            if name != FILE_NAME && !is_marker(folder, &folder.path.join(&name)) {
                inventory.insert(name, Object { bytes: object.size, e_tag: object.e_tag, sha256: None });
            }
        }
        Ok(inventory)
    }

    async fn write_inventory(&self, folder: &Folder, inventory: &Inventory) -> Result<()> {
        let json = serde_json::to_vec(inventory);
        let json = json.map_err(|error| Error::preparation("listing what a stage has", error.to_string()))?;
        let path = folder.file(FILE_NAME);
        storage::write_atomic(&path, &json)?;
        self.send(&path).await
    }

    /// Makes the error of an object that is missing or differs.
    pub(super) fn lost(&self, folder: &Folder, name: &str) -> Error {
        Error::Preparation {
            action: "comparing a finished stage with the object store".into(),
            message: format!(
                "`{}` is gone or is another than this run wrote",
                self.address(&folder.file(name))
            ),
            hint: Some(
                format!(
                    "put it back, or remove `{}` from the store and run again: the stage is then made anew",
                    self.address(&folder.path)
                )
                .into(),
            ),
        }
    }
}
