//! Where a run keeps its files: in a folder, or in an object store, with a folder for what of it this process reads
//! and writes.

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

/// Files that are fetched, and chunks that are sent, at the same time.
const AT_A_TIME: usize = 8;

/// Name of the marker of a stage.
pub(super) const STAGE: &str = "stage";

/// A run's folder, `DIR` or `s3://BUCKET/PREFIX`, `gs://…`, `az://…`.
#[derive(Debug, Clone)]
pub struct Workspace {
    folder: PathBuf,
    bucket: Option<Arc<Bucket>>,
}

impl Workspace {
    /// `out` is a folder or the address of one in an object store; `cache` then the folder beside it, by default
    /// one below the system's folder for temporary files. Ranks on one machine have one each.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for an address of no object store.
    pub fn open(out: &str, cache: Option<&Path>, rank: usize) -> Result<Self> {
        if !out.contains("://") {
            if cache.is_some() {
                let message = "a folder on this machine needs none";
                return Err(Error::invalid_value("--cache", out, message));
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

    /// The folder on this machine.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it only mirrors an object store.
    pub fn is_mirror(&self) -> bool {
        self.bucket.is_some()
    }

    /// A path in the folder as users find it.
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

    /// Time between checks of what others have finished.
    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(if self.is_mirror() { 1000 } else { 100 })
    }

    /// The markers in a stage's folder.
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

    /// Contents of the markers of these names; `None` where the work of one is not finished.
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

    /// Content of a marker.
    pub(super) async fn marked<T: DeserializeOwned>(&self, folder: &Folder, name: &str) -> Result<Option<T>> {
        let all = self.all_marked(folder, &[name.to_owned()]).await?;
        Ok(all.into_iter().next().flatten())
    }

    /// Says that something is finished, once all of it is where others find it.
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

    /// Brings files here that are in the object store only. Files never change but those that
    /// [`refresh`](Self::refresh) is for.
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

    /// Brings a file here that may have changed.
    ///
    /// # Errors
    /// As for [`have`](Self::have).
    pub async fn refresh(&self, file: &Path) -> Result<()> {
        match &self.bucket {
            Some(bucket) => bucket.fetch(self.key(bucket, file), file).await,
            None => Ok(()),
        }
    }

    /// Puts a file into the object store, if there is one.
    ///
    /// # Errors
    /// As for [`have`](Self::have).
    pub async fn send(&self, file: &Path) -> Result<()> {
        match &self.bucket {
            Some(bucket) => bucket.send(file, &self.key(bucket, file)).await,
            None => Ok(()),
        }
    }

    /// Makes `target` in the object store a folder of the files of `source` and of `more`, copied there.
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

    /// Removes the stages that are not among `kept`, the folders of a manifest: earlier settings left them.
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

    /// Where a path of the folder is in the object store.
    fn key(&self, bucket: &Bucket, path: &Path) -> StorePath {
        let path = path.strip_prefix(&self.folder).unwrap_or(path);
        path.iter().fold(bucket.at.path.clone(), |key, part| key.join(part.to_string_lossy().as_ref()))
    }
}

/// Whether a file of a stage's folder is the marker of a task or of the stage.
fn is_marker(folder: &Folder, file: &Path) -> bool {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let is_task =
        stem.rsplit_once('-').is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    let is_named = stem == STAGE || is_task;
    is_named && file.extension().is_some_and(|found| found == "json") && file.parent() == Some(&folder.path)
}

/// Finished files of a folder and of those in it.
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
