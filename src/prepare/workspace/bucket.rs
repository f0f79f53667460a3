//! The object store that a workspace mirrors: fetches files from it and sends files to it.

use super::AT_A_TIME;
use crate::{
    error::{Error, Result},
    platform::storage,
    {download::StoreAt, work::unfinished},
};
use futures::{StreamExt, TryStreamExt};
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStoreExt, WriteMultipart, path::Path as StorePath,
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bytes that are sent at a time; smaller files are sent as a whole.
const CHUNK: usize = 8 << 20;

/// An object store that a folder mirrors.
#[derive(Debug)]
pub(super) struct Bucket {
    pub at: StoreAt,
    pub address: String,
    /// Files of the folder that are known to be in the store.
    there: Mutex<BTreeSet<StorePath>>,
    /// Folders of stages that were already listed.
    listed: Mutex<BTreeSet<StorePath>>,
    /// Lock of the task that sends files.
    pub sending: tokio::sync::Mutex<()>,
}

impl Bucket {
    pub fn new(at: StoreAt, address: String) -> Self {
        let (there, listed) = Default::default();
        Self { at, address, there, listed, sending: tokio::sync::Mutex::default() }
    }

    pub fn has(&self, key: &StorePath) -> bool {
        locked(&self.there).contains(key)
    }

    /// Lists the files of a folder in the store, unless it was already listed.
    pub async fn learn(&self, folder: StorePath) -> Result<()> {
        if !locked(&self.listed).contains(&folder) {
            let there = self.list(&folder).await?;
            locked(&self.there).extend(there.into_iter().map(|object| object.location));
            locked(&self.listed).insert(folder);
        }
        Ok(())
    }

    fn failed(&self, action: &str, key: &StorePath, error: &StoreError) -> Error {
        // Of a stage only what a marker says is there is asked for.
        let below: Vec<String> = key.prefix_match(&self.at.path).map_or_else(Vec::new, |parts| {
            parts.map(|part| AsRef::<str>::as_ref(&part).to_owned()).collect()
        });
        if let (StoreError::NotFound { .. }, [work, stage, ..]) = (error, &below[..])
            && work == "work"
        {
            let stage = format!("{}/work/{stage}", self.address);
            return Error::Preparation {
                action: action.into(),
                message: format!(
                    "`{}/{}` is gone, though what it belongs to is finished",
                    self.address,
                    below.join("/")
                ),
                hint: Some(format!(
                    "put it back, or remove `{stage}` from the store and run again: the stage is then made anew"
                ).into()),
            };
        }
        Error::Preparation {
            action: action.into(),
            message: format!("`{key}` of `{}`: {error}", self.address),
            hint: Some(
                "check the address, the rights and the network, and run again: what is there is kept".into(),
            ),
        }
    }

    /// Lists all objects below a prefix.
    pub async fn list(&self, prefix: &StorePath) -> Result<Vec<ObjectMeta>> {
        let objects = self.at.store.list(Some(prefix)).try_collect().await;
        objects.map_err(|error| self.failed("listing", prefix, &error))
    }

    pub async fn head(&self, key: &StorePath) -> Result<ObjectMeta> {
        self.at.store.head(key).await.map_err(|error| self.failed("reading", key, &error))
    }

    pub async fn copy(&self, from: &StorePath, to: &StorePath) -> Result<()> {
        self.at.store.copy(from, to).await.map_err(|error| self.failed("copying", from, &error))
    }

    pub async fn remove(&self, key: &StorePath) -> Result<()> {
        match self.at.store.delete(key).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("removing", key, &error)),
        }
    }

    pub async fn fetch(&self, key: StorePath, file: &Path) -> Result<()> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let failed = |error| self.failed("reading", &key, &error);
        let mut content = self.at.store.get(&key).await.map_err(failed)?.into_stream();
        storage::create_folder(file.parent().unwrap_or(Path::new(".")))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = file.file_name().unwrap_or_default().display();
        let beside = unfinished(&file.with_file_name(format!("{number}-{name}")));
        let write = |error| Error::io("write", &beside, error);
        let mut open = File::create(&beside).map_err(write)?;
        while let Some(bytes) = content.next().await {
            open.write_all(&bytes.map_err(failed)?).map_err(write)?;
        }
        storage::rename(&beside, file)?;
        locked(&self.there).insert(key);
        Ok(())
    }

    pub async fn send(&self, file: &Path, key: &StorePath) -> Result<()> {
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
        locked(&self.there).insert(key.clone());
        Ok(())
    }
}

fn locked(keys: &Mutex<BTreeSet<StorePath>>) -> MutexGuard<'_, BTreeSet<StorePath>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
