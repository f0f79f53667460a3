//! Where a run keeps its files: in a folder, or in an object store, with a folder for what of it this process reads
//! and writes.

use super::{
    download::{StoreAt, open_store},
    work::{Folder, hexadecimal},
};
use crate::{
    error::{Error, Result},
    platform::storage::{self, Lock},
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStoreExt, WriteMultipart, path::Path as StorePath,
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Bytes that are sent at a time; smaller files are sent whole.
const CHUNK: usize = 8 << 20;

/// Files that are fetched, and chunks that are sent, at the same time.
const AT_A_TIME: usize = 8;

/// A run's folder, `DIR` or `s3://BUCKET/PREFIX`, `gs://…`, `az://…`.
#[derive(Debug, Clone)]
pub struct Workspace {
    folder: PathBuf,
    bucket: Option<Arc<Bucket>>,
}

/// The object store that a folder mirrors.
#[derive(Debug)]
struct Bucket {
    at: StoreAt,
    address: String,
    /// What of the folder is in the store, and which stages' folders were looked at for that.
    there: Mutex<BTreeSet<StorePath>>,
    listed: Mutex<BTreeSet<StorePath>>,
    /// Whose turn it is to send.
    sending: tokio::sync::Mutex<()>,
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

    /// Between looks at what others have finished.
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

    /// What the markers of these names say; nothing where what one stands for is not finished.
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

    /// What a marker says.
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
            bucket.look(self.key(bucket, &folder.path)).await?;
            for file in files_below(&folder.path)? {
                let key = self.key(bucket, &file);
                if !bucket.has(&key) {
                    bucket.send(&file, &key).await?;
                }
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
        files.push(
            bucket.at.store.head(&more).await.map_err(|error| bucket.failed("reading", &more, &error))?,
        );
        for file in files {
            let key = self.key(bucket, &target.join(file.location.filename().unwrap_or_default()));
            let is_there = old.remove(&key).is_some_and(|old| old.e_tag.is_some() && old.e_tag == file.e_tag);
            if !is_there {
                let copied = bucket.at.store.copy(&file.location, &key).await;
                copied.map_err(|error| bucket.failed("copying", &file.location, &error))?;
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

impl Bucket {
    fn new(at: StoreAt, address: String) -> Self {
        let (there, listed) = Default::default();
        Self { at, address, there, listed, sending: tokio::sync::Mutex::default() }
    }

    fn has(&self, key: &StorePath) -> bool {
        keys(&self.there).contains(key)
    }

    /// Learns what of a folder is there, the first time.
    async fn look(&self, folder: StorePath) -> Result<()> {
        if !keys(&self.listed).contains(&folder) {
            let there = self.list(&folder).await?;
            keys(&self.there).extend(there.into_iter().map(|object| object.location));
            keys(&self.listed).insert(folder);
        }
        Ok(())
    }

    fn failed(&self, action: &str, key: &StorePath, error: &StoreError) -> Error {
        Error::Preparation {
            action: action.into(),
            message: format!("`{key}` of `{}`: {error}", self.address),
            hint: Some(
                "check the address, the rights and the network, and run again: what is there is kept".into(),
            ),
        }
    }

    /// All below a prefix.
    async fn list(&self, prefix: &StorePath) -> Result<Vec<ObjectMeta>> {
        let objects = self.at.store.list(Some(prefix)).try_collect().await;
        objects.map_err(|error| self.failed("listing", prefix, &error))
    }

    async fn remove(&self, key: &StorePath) -> Result<()> {
        self.at.store.delete(key).await.map_err(|error| self.failed("removing", key, &error))
    }

    async fn fetch(&self, key: StorePath, file: &Path) -> Result<()> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let failed = |error| self.failed("reading", &key, &error);
        let mut content = self.at.store.get(&key).await.map_err(failed)?.into_stream();
        storage::create_folder(file.parent().unwrap_or(Path::new(".")))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = file.file_name().unwrap_or_default().display();
        let beside = file.with_file_name(format!("tmp-{}-{number}-{name}", std::process::id()));
        let write = |error| Error::io("write", &beside, error);
        let mut open = File::create(&beside).map_err(write)?;
        while let Some(bytes) = content.next().await {
            open.write_all(&bytes.map_err(failed)?).map_err(write)?;
        }
        storage::rename(&beside, file)?;
        keys(&self.there).insert(key);
        Ok(())
    }

    async fn send(&self, file: &Path, key: &StorePath) -> Result<()> {
        let failed = |error| self.failed("writing", key, &error);
        let read = |error| Error::io("read", file, error);
        let mut open = File::open(file).map_err(read)?;
        let mut chunk = Vec::with_capacity(CHUNK.min(storage::len(file)? as usize));
        let mut next = |chunk: &mut Vec<u8>| {
            chunk.clear();
            Read::by_ref(&mut open).take(CHUNK as u64).read_to_end(chunk).map_err(read)
        };
        if next(&mut chunk)? < CHUNK {
            self.at.store.put(key, chunk.into()).await.map_err(failed)?;
        } else {
            let upload = self.at.store.put_multipart(key).await.map_err(failed)?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, CHUNK);
            while !chunk.is_empty() {
                upload.wait_for_capacity(AT_A_TIME).await.map_err(failed)?;
                upload.write(&chunk);
                next(&mut chunk)?;
            }
            upload.finish().await.map_err(failed)?;
        }
        keys(&self.there).insert(key.clone());
        Ok(())
    }
}

fn keys(keys: &Mutex<BTreeSet<StorePath>>) -> MutexGuard<'_, BTreeSet<StorePath>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finished files of a folder and of those in it.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in storage::list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if storage::is_folder(&path) {
            files.extend(files_below(&path)?);
        } else if !name.starts_with("tmp-") && !name.contains(".tmp") {
            files.push(path);
        }
    }
    Ok(files)
}
