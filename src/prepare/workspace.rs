//! The folder that a run keeps its files in. It may be in an object store; then a local folder holds the
//! files that this process reads and writes.

mod bucket;
mod inventory;

use super::{
    download::open_store,
    work::{Folder, hexadecimal, is_unfinished},
};
use crate::{
    error::{Error, Result},
    platform::storage::{self, Lock},
};
use bucket::Bucket;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, path::Path as StorePath};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Number of files that are fetched, or chunks that are sent, at the same time.
const AT_A_TIME: usize = 8;

/// Name of a stage's marker.
pub(super) const STAGE: &str = "stage";

/// The folder of a run: a local one, `DIR`, or one in an object store, `s3://BUCKET/PREFIX`, `gs://…` or
/// `az://…`.
#[derive(Debug, Clone)]
pub struct Workspace {
    folder: PathBuf,
    bucket: Option<Arc<Bucket>>,
}

impl Workspace {
    /// Opens the folder `out`, which may be an address in an object store. `cache` is the local folder of
    /// such an address, by default one below the system's folder for temporary files. Ranks on one machine
    /// have one each.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for an address of no object store, and for a `cache` beside a local folder.
    pub fn open(out: &str, cache: Option<&Path>, rank: usize) -> Result<Self> {
        if !out.contains("://") {
            if let Some(cache) = cache {
                let message = "a folder on this machine needs none";
                return Err(Error::invalid_value("--cache", cache.display(), message));
            }
            let folder = std::path::absolute(out).map_err(|error| Error::io("find", out, error))?;
            return Ok(Self { folder, bucket: None });
        }
        let invalid = |message: String| Error::InvalidValue {
            key: "--out".into(),
            value: out.into(),
            message,
            hint: Some("write to a folder, or to `s3://`, `gs://` or `az://`, BUCKET and PREFIX".into()),
        };
        if out.starts_with("http") {
            return Err(invalid("a web server takes no files".into()));
        }
        let at = open_store(out).map_err(invalid)?;
        let digest = Sha256::digest(out.trim_end_matches('/'));
        let name = format!("kiln-{}-rank-{rank}", hexadecimal(&digest[..6]));
        let folder = cache.map_or_else(|| std::env::temp_dir().join(name), Path::to_path_buf);
        let folder = std::path::absolute(&folder).map_err(|error| Error::io("find", &folder, error))?;
        let address = out.trim_end_matches('/').into();
        Ok(Self { folder, bucket: Some(Arc::new(Bucket::new(at, address))) })
    }

    /// Local folder of the run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns whether the local folder is a copy of one in an object store.
    pub fn is_mirror(&self) -> bool {
        self.bucket.is_some()
    }

    /// Formats a path in the folder for users: as an address if it is in an object store.
    pub fn address(&self, path: &Path) -> String {
        match (&self.bucket, path.strip_prefix(&self.folder)) {
            (Some(bucket), Ok(path)) => format!("{}/{}", bucket.address, path.display()),
            _ => path.display().to_string(),
        }
    }

    /// Takes the folder for this rank until the lock is dropped.
    ///
    /// # Errors
    /// [`Error::RunLocked`] if another run has it.
    pub(super) fn lock(&self, rank: usize) -> Result<Lock> {
        let work = self.folder.join("work");
        storage::create_folder(&work)?;
        let lock = storage::lock(&work.join(format!("rank-{rank}.lock")))?;
        lock.ok_or_else(|| Error::RunLocked { path: self.folder.clone() })
    }

    /// Time between checks for tasks that other ranks have finished.
    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(if self.is_mirror() { 1000 } else { 100 })
    }

    /// Names of the markers in a stage's folder, without `.json`.
    pub(super) async fn markers(&self, folder: &Folder) -> Result<BTreeSet<String>> {
        let names: Vec<String> = match &self.bucket {
            Some(bucket) => {
                let objects = bucket.list(&self.key(bucket, &folder.path)).await?;
                objects.iter().filter_map(|object| Some(object.location.filename()?.to_owned())).collect()
            }
            None if !storage::exists(&folder.path) => Vec::new(),
            None => {
                let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
                storage::list(&folder.path)?.iter().filter_map(name).collect()
            }
        };
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect())
    }

    /// Reads the markers of these names; `None` for each whose task is not finished.
    pub(super) async fn all_marked<T: DeserializeOwned>(
        &self,
        folder: &Folder,
        names: &[String],
    ) -> Result<Vec<Option<T>>> {
        let there = self.markers(folder).await?;
        let read = |name: &String| {
            let (path, is_there) = (folder.file(&format!("{name}.json")), there.contains(name));
            async move {
                if is_there {
                    self.have(std::slice::from_ref(&path)).await?;
                }
                // One that cannot be read counts as not written.
                Ok::<_, Error>(if is_there {
                    serde_json::from_slice(&storage::read(&path)?).ok()
                } else {
                    None
                })
            }
        };
        // Collected first: a stream of borrowing closures is not `Send`.
        let reads: Vec<_> = names.iter().map(read).collect();
        stream::iter(reads).buffered(AT_A_TIME).try_collect().await
    }

    /// Reads one marker; `None` if its task is not finished.
    pub(super) async fn marked<T: DeserializeOwned>(&self, folder: &Folder, name: &str) -> Result<Option<T>> {
        let all = self.all_marked(folder, &[name.to_owned()]).await?;
        Ok(all.into_iter().next().flatten())
    }

    /// Writes a marker, after all files that it stands for are in the object store, if there is one.
    pub(super) async fn mark(&self, folder: &Folder, name: &str, content: &impl Serialize) -> Result<()> {
        let path = folder.file(&format!("{name}.json"));
        let json = serde_json::to_vec(content);
        let json = json.map_err(|error| Error::preparation(name, error.to_string()))?;
        if let Some(bucket) = &self.bucket {
            let _turn = bucket.sending.lock().await;
            bucket.learn(self.key(bucket, &folder.path)).await?;
            for file in files_below(&folder.path)? {
                let key = self.key(bucket, &file);
                // A marker goes with what it stands for, which may be missing beside one from another store.
                if !bucket.has(&key) && !is_marker(folder, &file) {
                    bucket.send(&file, &key).await?;
                }
            }
            if name == STAGE {
                self.take_inventory(bucket, folder).await?;
            }
        }
        storage::write_atomic(&path, &json)?;
        self.send(&path).await
    }

    /// Fetches those of `files` that are in the object store but not here. Only files for which there is
    /// [`refresh`](Self::refresh) ever change.
    ///
    /// # Errors
    /// [`Error::Preparation`] if the object store cannot be reached, [`Error::Io`].
    pub async fn have(&self, files: &[PathBuf]) -> Result<()> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let missing: Vec<_> = files.iter().filter(|file| !file.exists()).collect();
        let fetches: Vec<_> =
            missing.into_iter().map(|file| bucket.fetch(self.key(bucket, file), file)).collect();
        stream::iter(fetches).buffer_unordered(AT_A_TIME).try_collect().await
    }

    /// Fetches a file that may have changed in the object store.
    ///
    /// # Errors
    /// As for [`have`](Self::have).
    pub async fn refresh(&self, file: &Path) -> Result<()> {
        match &self.bucket {
            Some(bucket) => bucket.fetch(self.key(bucket, file), file).await,
            None => Ok(()),
        }
    }

    /// Sends a file to the object store, if there is one.
    ///
    /// # Errors
    /// As for [`have`](Self::have).
    pub async fn send(&self, file: &Path) -> Result<()> {
        match &self.bucket {
            Some(bucket) => bucket.send(file, &self.key(bucket, file)).await,
            None => Ok(()),
        }
    }

    /// Fills the folder `target` of the object store with copies of the files in `source` and of the file
    /// `more`, and removes all others from it.
    pub(super) async fn publish(&self, source: &Path, more: &Path, target: &Path) -> Result<()> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let listed = bucket.list(&self.key(bucket, target)).await?.into_iter();
        let mut old: BTreeMap<StorePath, ObjectMeta> =
            listed.map(|object| (object.location.clone(), object)).collect();
        let mut files = bucket.list(&self.key(bucket, source)).await?;
        let more = self.key(bucket, more);
        files.push(bucket.head(&more).await?);
        for file in files {
            let key = self.key(bucket, &target.join(file.location.filename().unwrap_or_default()));
            let is_there = old.remove(&key).is_some_and(|old| old.e_tag.is_some() && old.e_tag == file.e_tag);
            if !is_there {
                bucket.copy(&file.location, &key).await?;
            }
        }
        for key in old.keys() {
            bucket.remove(key).await?;
        }
        Ok(())
    }

    /// Removes the folders of stages, left by earlier settings, that are not in `kept`, the list of a
    /// manifest.
    ///
    /// # Errors
    /// As for [`have`](Self::have).
    pub async fn prune(&self, kept: &[&str]) -> Result<()> {
        let work = self.folder.join("work");
        let is_old = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_digit())
                && !kept.iter().any(|own| own.ends_with(name))
        };
        for folder in storage::list(&work)? {
            if folder.file_name().is_some_and(|name| is_old(&name.to_string_lossy())) {
                storage::remove_folder(&folder)?;
            }
        }
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let prefix = self.key(bucket, &work);
        for object in bucket.list(&prefix).await? {
            let stage = object.location.prefix_match(&prefix).and_then(|mut parts| parts.next());
            if stage.is_some_and(|stage| is_old(stage.as_ref())) {
                bucket.remove(&object.location).await?;
            }
        }
        Ok(())
    }

    /// Path in the object store of a path in the local folder.
    fn key(&self, bucket: &Bucket, path: &Path) -> StorePath {
        let path = path.strip_prefix(&self.folder).unwrap_or(path);
        path.iter().fold(bucket.at.path.clone(), |key, part| key.join(part.to_string_lossy().as_ref()))
    }
}

/// Returns whether a file of a stage's folder is the marker of a task or of the stage.
fn is_marker(folder: &Folder, file: &Path) -> bool {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let is_task =
        stem.rsplit_once('-').is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    let is_named = stem == STAGE || is_task;
    is_named && file.extension().is_some_and(|found| found == "json") && file.parent() == Some(&folder.path)
}

/// Lists the finished files of a folder and of all folders in it.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in storage::list(folder)? {
        if storage::is_folder(&path) {
            files.extend(files_below(&path)?);
        } else if !is_unfinished(&path) {
            files.push(path);
        }
    }
    Ok(files)
}
