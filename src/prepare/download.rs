//! Downloads files from `http(s)://`, `s3://`, `gs://` and `az://` addresses. A download that was
//! interrupted, even by a kill, continues where it ended.

use super::work::{digest_file, hexadecimal};
use crate::error::{Error, Result};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, path::Path as StorePath};
use sha2::{Digest, Sha256};
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};
use url::Url;

const ATTEMPTS: u32 = 4;

/// A downloaded file, and its address.
pub(super) struct Fetched {
    pub path: PathBuf,
    pub address: String,
}

/// Downloads the files of an address. In a bucket, a prefix that ends with `/` and a pattern stand for all
/// files that they match. If several ranks share the folder, rank 0 downloads and the others wait; if it
/// fails, each rank tries for itself.
///
/// # Errors
/// [`Error::InvalidValue`] if `address` is no address, names no object, or its file has another checksum than
/// `sha256`; [`Error::Preparation`] if the file cannot be downloaded, [`Error::Io`] if it cannot be written.
pub(super) async fn fetch(
    address: &str,
    sha256: Option<&str>,
    folder: &Path,
    rank: usize,
) -> Result<Vec<Fetched>> {
    let invalid = |message: String| Error::invalid_value("source.paths", address, message);
    let StoreAt { store, path, url } = open_store(address).map_err(invalid)?;
    let path_text = path.to_string();
    let is_web = url.scheme().starts_with("http");
    let objects = match path_text.find(['*', '?', '[']) {
        Some(at) if !is_web => {
            let pattern = glob::Pattern::new(&path_text).map_err(|error| invalid(error.to_string()))?;
            let prefix = path_text[..at].rsplit_once('/').map_or("", |(prefix, _)| prefix);
            let all = list(&*store, &StorePath::from(prefix), address).await?;
            all.into_iter().filter(|path| pattern.matches(path.as_ref())).collect()
        }
        None if !is_web && address.ends_with('/') => list(&*store, &path, address).await?,
        _ => vec![path],
    };
    if objects.is_empty() {
        return Err(invalid("no object is of this name".into()));
    }
    let mut files = Vec::new();
    for object in objects {
        let full = format!("{}://{}/{object}", url.scheme(), url.authority());
        let digest = Sha256::digest(&full);
        let name = object.filename().unwrap_or("index.html");
        let target = folder.join(hexadecimal(&digest[..6])).join(name);
        let failed = target.with_extension("failed");
        while rank > 0 && !target.exists() && !failed.exists() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if !target.exists() {
            let file = Wanted { object: &object, address: &full, sha256, rank };
            if let Err(error) = fetch_object(&*store, &file, &target).await {
                if rank == 0 {
                    crate::platform::storage::write_atomic(&failed, error.to_string().as_bytes())?;
                }
                return Err(error);
            }
        }
        if rank == 0 && failed.exists() {
            std::fs::remove_file(&failed).map_err(|error| Error::io("remove", &failed, error))?;
        }
        files.push(Fetched { path: target, address: full });
    }
    Ok(files)
}

/// An object store, and a path in it.
#[derive(Debug)]
pub(super) struct StoreAt {
    pub store: Box<dyn ObjectStore>,
    pub path: StorePath,
    pub url: Url,
}

/// Opens the object store of an address, with the settings that environment variables such as `AWS_REGION`
/// give. The error says what is wrong with the address.
pub(super) fn open_store(address: &str) -> Result<StoreAt, String> {
    let url = Url::parse(address).map_err(|error| error.to_string())?;
    let variables = std::env::vars().map(|(key, value)| (key.to_ascii_lowercase(), value));
    let variables =
        variables.filter(|(key, _)| ["aws_", "google_", "azure_"].iter().any(|own| key.starts_with(own)));
    let options = variables.chain([("allow_http".into(), "true".into())]);
    let (store, path) = object_store::parse_url_opts(&url, options).map_err(|error| error.to_string())?;
    Ok(StoreAt { store, path, url })
}

async fn list(store: &dyn ObjectStore, prefix: &StorePath, address: &str) -> Result<Vec<StorePath>> {
    let objects = store.list(Some(prefix)).map_ok(|object| object.location).try_collect::<Vec<_>>().await;
    let mut objects = objects.map_err(|error| unreachable(address, &error))?;
    objects.sort();
    Ok(objects)
}

/// An object to download.
struct Wanted<'a> {
    object: &'a StorePath,
    address: &'a str,
    sha256: Option<&'a str>,
    rank: usize,
}

/// Downloads an object into a file beside `target`, continues where an earlier attempt ended, and renames the
/// file.
async fn fetch_object(store: &dyn ObjectStore, file: &Wanted<'_>, target: &Path) -> Result<()> {
    let &Wanted { object, address, sha256, rank } = file;
    let folder = target.parent().unwrap_or(Path::new("."));
    crate::platform::storage::create_folder(folder)?;
    let name = target.file_name().unwrap_or_default().display();
    let partial = target.with_file_name(format!("{name}.{rank}.partial"));
    let mut attempt = 0;
    while let Err(error) = append(store, object, &partial).await {
        attempt += 1;
        let is_final = matches!(error, Failure::Store(object_store::Error::NotFound { .. }));
        if attempt == ATTEMPTS || is_final {
            return Err(match error {
                Failure::Store(error) => unreachable(address, &error),
                Failure::File(error) => Error::io("write", partial, error),
            });
        }
        tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
    }
    let found = digest_file(&partial)?.0;
    if let Some(expected) = sha256
        && !expected.eq_ignore_ascii_case(&found)
    {
        std::fs::remove_file(&partial).map_err(|error| Error::io("remove", &partial, error))?;
        return Err(Error::InvalidValue {
            key: "source.sha256".into(),
            value: expected.into(),
            message: format!("`{address}` has {found}"),
            hint: Some(
                "the file has changed or was damaged on the way; run again, or correct the checksum".into(),
            ),
        });
    }
    crate::platform::storage::rename(&partial, target)
}

enum Failure {
    Store(object_store::Error),
    File(std::io::Error),
}

/// Appends the bytes of the object that the file does not have yet. The file gets the object's modification
/// time, by which stages tell one version from another on every machine.
async fn append(store: &dyn ObjectStore, object: &StorePath, partial: &Path) -> Result<(), Failure> {
    let mut file = OpenOptions::new().create(true).append(true).open(partial).map_err(Failure::File)?;
    let mut have = file.metadata().map_err(Failure::File)?.len();
    if have > 0 {
        let there = store.head(object).await.map_err(Failure::Store)?;
        if there.size == have {
            return file.set_modified(there.last_modified.into()).map_err(Failure::File);
        }
        if there.size < have {
            file.set_len(0).map_err(Failure::File)?;
            have = 0;
        }
    }
    let range = (have > 0).then_some(GetRange::Offset(have));
    let result = match store.get_opts(object, GetOptions { range, ..GetOptions::default() }).await {
        Ok(result) => result,
        Err(error) => {
            // A server that knows no ranges: from the start next time.
            if have > 0
                && matches!(
                    error,
                    object_store::Error::NotSupported { .. } | object_store::Error::Generic { .. }
                )
            {
                file.set_len(0).map_err(Failure::File)?;
            }
            return Err(Failure::Store(error));
        }
    };
    let changed = result.meta.last_modified;
    let mut stream = result.into_stream();
    while let Some(bytes) = stream.next().await {
        file.write_all(&bytes.map_err(Failure::Store)?).map_err(Failure::File)?;
    }
    file.sync_all().and_then(|()| file.set_modified(changed.into())).map_err(Failure::File)
}

fn unreachable(address: &str, error: &object_store::Error) -> Error {
    Error::Preparation {
        action: "downloading".into(),
        message: format!("`{address}`: {error}"),
        hint: Some(
            "check the address and the network; what was fetched is kept, and the next run goes on there"
                .into(),
        ),
    }
}
