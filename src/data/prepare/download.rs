//! Brings files from addresses: `http(s)://`, `s3://`, `gs://`, `az://`. What is there of a file is not fetched
//! again, also after a kill in the middle of it.

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

/// The files of an address: one, or for a bucket those below a prefix that ends with `/` or of a pattern. Only the
/// first of several ranks fetches; the others wait.
///
/// # Errors
/// [`Error::InvalidValue`] for what is no address or another file than its checksum says;
/// [`Error::Preparation`] if it cannot be reached.
pub(super) async fn fetch(
    address: &str,
    sha256: Option<&str>,
    folder: &Path,
    is_first: bool,
) -> Result<Vec<PathBuf>> {
    let invalid = |message: String| Error::invalid_value("source.paths", address, message);
    let url = Url::parse(address).map_err(|error| invalid(error.to_string()))?;
    let variables = std::env::vars().map(|(key, value)| (key.to_ascii_lowercase(), value));
    let variables =
        variables.filter(|(key, _)| ["aws_", "google_", "azure_"].iter().any(|own| key.starts_with(own)));
    let options = variables.chain([("allow_http".into(), "true".into())]);
    let (store, path) =
        object_store::parse_url_opts(&url, options).map_err(|error| invalid(error.to_string()))?;
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
        let digest = Sha256::digest(format!("{}://{}/{object}", url.scheme(), url.authority()));
        let name = object.filename().unwrap_or("index.html");
        let target = folder.join(hexadecimal(&digest[..6])).join(name);
        while !target.exists() {
            if is_first {
                fetch_object(&*store, &object, &target, address, sha256).await?;
            } else {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        files.push(target);
    }
    Ok(files)
}

async fn list(store: &dyn ObjectStore, prefix: &StorePath, address: &str) -> Result<Vec<StorePath>> {
    let objects = store.list(Some(prefix)).map_ok(|object| object.location).try_collect::<Vec<_>>().await;
    let mut objects = objects.map_err(|error| unreachable(address, &error))?;
    objects.sort();
    Ok(objects)
}

/// Fetches an object into a file beside `target`, going on where an earlier attempt ended, and renames it.
async fn fetch_object(
    store: &dyn ObjectStore,
    object: &StorePath,
    target: &Path,
    address: &str,
    sha256: Option<&str>,
) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    crate::platform::storage::create_folder(folder)?;
    let partial =
        target.with_file_name(format!("{}.partial", target.file_name().unwrap_or_default().display()));
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

/// Appends what the file does not have yet.
async fn append(store: &dyn ObjectStore, object: &StorePath, partial: &Path) -> Result<(), Failure> {
    let mut file = OpenOptions::new().create(true).append(true).open(partial).map_err(Failure::File)?;
    let have = file.metadata().map_err(Failure::File)?.len();
    if have > 0 {
        let size = store.head(object).await.map_err(Failure::Store)?.size;
        if size == have {
            return Ok(());
        }
        if size < have {
            file.set_len(0).map_err(Failure::File)?;
        }
    }
    let have = file.metadata().map_err(Failure::File)?.len();
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
    let mut stream = result.into_stream();
    while let Some(bytes) = stream.next().await {
        file.write_all(&bytes.map_err(Failure::Store)?).map_err(Failure::File)?;
    }
    file.sync_all().map_err(Failure::File)
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
