//! The first stage: finds the files of all sources, groups them into tasks and reads them into parts.

use super::{
    columnar, download,
    extract::{self, BadRecord, Document},
    part_writer::PartWriter,
    parts::Part,
    pipeline::{OnBadRecord, Pipeline, SourceConfig},
};
use crate::{
    error::{Error, Result},
    platform::storage,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Input {
    pub path: PathBuf,
    /// Name that documents carry as their file: its path relative to the pipeline's folder, or the address of
    /// a download.
    pub name: String,
    /// Index of its source in the pipeline.
    pub source: usize,
    pub bytes: u64,
    /// Modification time in nanoseconds since 1970, which tells it from another file of the same name and
    /// length.
    pub changed: u128,
    /// Reason why it could not be downloaded.
    #[serde(default, rename = "fault")]
    pub download_error: Option<String>,
}

/// Files that one task reads, one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Task {
    pub number: usize,
    pub inputs: Vec<Input>,
    pub sources: Vec<SourceConfig>,
    pub folder: PathBuf,
    pub part_bytes: usize,
    #[serde(rename = "on_fault")]
    pub on_bad_record: OnBadRecord,
}

/// Output of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extracted {
    pub parts: Vec<Part>,
    /// Records of a kind without text, such as requests and images of a WARC file.
    pub skipped: u64,
    /// Total bytes of the files that were read.
    pub bytes: u64,
}

/// Finds the files of all sources and downloads those that are given by address.
///
/// # Errors
/// [`Error::NotFound`] for a path or pattern without a file, [`Error::InvalidValue`] for an invalid pattern,
/// [`Error::Io`]; errors of [`download::fetch`] if bad records stop the run.
pub(super) async fn find(pipeline: &Pipeline, downloads: &Path, rank: usize) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for (number, source) in pipeline.sources.iter().enumerate() {
        let mut checksums = source.sha256.iter();
        let mut files = Vec::new();
        for path in &source.paths {
            if path.contains("://") {
                let checksum = checksums.next().map(String::as_str);
                match download::fetch(path, checksum, downloads, rank).await {
                    Ok(found) => files.extend(found.into_iter().map(|file| (file.path, file.address))),
                    Err(error) if pipeline.on_bad_record == OnBadRecord::Skip => inputs.push(Input {
                        path: path.into(),
                        name: path.clone(),
                        source: number,
                        bytes: 0,
                        changed: 0,
                        download_error: Some(error.to_string()),
                    }),
                    Err(error) => return Err(error),
                }
            } else {
                let mut found = Vec::new();
                find_local(path, &mut found)?;
                files.extend(found.into_iter().map(|path| {
                    let name = path.strip_prefix(&pipeline.folder).unwrap_or(&path);
                    let name = name.to_string_lossy().into_owned();
                    (path, name)
                }));
            }
        }
        for (path, name) in files {
            let data = std::fs::metadata(&path).map_err(|error| Error::io("read", &path, error))?;
            let changed = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let changed = changed.map_or(0, |time| time.as_nanos());
            inputs.push(Input {
                path,
                name,
                source: number,
                bytes: data.len(),
                changed,
                download_error: None,
            });
        }
    }
    Ok(inputs)
}

/// Appends the files of a path, of a folder with all folders in it, or of a pattern to `files`, sorted.
fn find_local(path: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    let missing = |hint: &str| Error::NotFound { path: path.into(), hint: hint.into() };
    let plain = Path::new(path);
    if storage::exists(plain) {
        return find_below(plain, files);
    }
    if !path.contains(['*', '?', '[']) {
        return Err(missing("`source.paths` are relative to the pipeline file"));
    }
    let found = glob::glob(path).map_err(|error| Error::invalid_value("source.paths", path, error.msg))?;
    let before = files.len();
    let mut matches: Vec<PathBuf> = found.filter_map(|entry| entry.ok()).collect();
    matches.sort();
    matches.iter().try_for_each(|path| find_below(path, files))?;
    if files.len() == before {
        return Err(missing("no file is of this pattern"));
    }
    Ok(())
}

fn find_below(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !storage::is_folder(path) {
        files.push(path.into());
        return Ok(());
    }
    let mut entries = storage::list(path)?;
    entries.sort();
    let is_hidden =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    entries.iter().filter(|path| !is_hidden(path)).try_for_each(|path| find_below(path, files))
}

/// Groups files into tasks of about the size of a part; a larger file is a task of its own.
pub(super) fn tasks(pipeline: &Pipeline, inputs: &[Input], folder: &Path) -> Vec<Task> {
    let part_bytes = pipeline.part_mb << 20;
    let mut groups: Vec<(u64, Vec<Input>)> = Vec::new();
    for input in inputs {
        match groups.last_mut() {
            Some((bytes, group)) if *bytes + input.bytes <= part_bytes as u64 => {
                *bytes += input.bytes;
                group.push(input.clone());
            }
            _ => groups.push((input.bytes, vec![input.clone()])),
        }
    }
    let task = |(number, (_, inputs)): (usize, (u64, Vec<Input>))| Task {
        number,
        inputs,
        sources: pipeline.sources.clone(),
        folder: folder.into(),
        part_bytes,
        on_bad_record: pipeline.on_bad_record,
    };
    groups.into_iter().enumerate().map(task).collect()
}

impl Input {
    /// Returns everything that decides what is read; neither the place of a download nor the reason why one
    /// failed does.
    pub(super) fn identity(&self) -> (&str, usize, u64, u128, bool) {
        (&self.name, self.source, self.bytes, self.changed, self.download_error.is_some())
    }
}

impl Task {
    pub(super) fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| Error::preparation("reading a plan", error.to_string()))
    }

    /// Reads all files of the task into parts.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Preparation`] if a part cannot be written, or for a bad record if bad
    /// records stop the run.
    pub(super) fn run(&self) -> Result<Extracted> {
        let mut writer = PartWriter::new(&self.folder, self.number, self.part_bytes);
        let mut extracted = Extracted::default();
        for input in &self.inputs {
            let Some(source) = self.sources.get(input.source) else { continue };
            extracted.bytes += input.bytes;
            let mut each = |record: Result<Document, BadRecord>| match record {
                Ok(document) => writer.document(&source.name, &source.language, &document),
                Err(bad_record) if self.on_bad_record == OnBadRecord::Stop => Err(Error::Preparation {
                    action: "reading".into(),
                    message: bad_record.to_string(),
                    hint: Some("`on_bad_record = \"skip\"` counts and reports what cannot be read".into()),
                }),
                Err(bad_record) => writer.bad_record(&source.name, &bad_record),
            };
            match &input.download_error {
                None => extracted.skipped += read(input, source, each)?,
                Some(reason) => {
                    each(Err(BadRecord { file: input.name.clone(), offset: 0, reason: reason.clone() }))?;
                }
            }
        }
        extracted.parts = writer.finish()?;
        Ok(extracted)
    }
}

/// Passes every record of a file to `each` and returns the number of records that were skipped.
fn read(
    input: &Input,
    source: &SourceConfig,
    mut each: impl FnMut(Result<Document, BadRecord>) -> Result<()>,
) -> Result<u64> {
    let config = source.extract();
    let Input { path, name, .. } = input;
    if columnar::is_columnar(path) || (config.format.is_none() && columnar::begins_columnar(path)) {
        columnar::read(path, name, &config, each)?;
        return Ok(0);
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => {
            each(Err(BadRecord { file: name.clone(), offset: 0, reason: error.to_string() }))?;
            return Ok(0);
        }
    };
    let mut documents = extract::open(name, Box::new(file), &config);
    for record in &mut documents {
        each(record)?;
    }
    Ok(documents.skipped())
}
