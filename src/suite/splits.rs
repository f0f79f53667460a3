//! The splits of a task and the local files that hold their rows (`data`, `dataset_path`).

use crate::{
    data::{self, ReadTable, Row},
    entries::{Entries, Entry, Unsupported},
    error::{Origin, Result},
    files,
};
use kiln_base::platform::storage;
use std::path::{Path, PathBuf};

/// Splits of a task, and where their rows are.
#[derive(Debug, Clone)]
pub struct SplitConfig {
    pub training: Option<String>,
    pub validation: Option<String>,
    pub test: Option<String>,
    pub fewshot: Option<String>,
    source: DataSource,
    /// Key that names the files.
    pub origin: Origin,
}

#[derive(Debug, Clone)]
enum DataSource {
    /// Files of each split.
    Files(Vec<(String, Vec<PathBuf>)>),
    /// A folder with a file for each split.
    Folder(PathBuf),
}

/// Keys of `dataset_kwargs`. All but `data_files` have no effect on local files.
const ARGUMENTS: [&str; 5] =
    ["data_files", "trust_remote_code", "revision", "streaming", "verification_mode"];

const UNSUPPORTED_ARGUMENTS: [Unsupported; 4] = [
    ("column_names", "name the columns in the first line of the file"),
    ("header", "name the columns in the first line of the file"),
    ("data_dir", "name the folder with `dataset_path`"),
    ("features", "the types are those of the values in the file"),
];

/// Values of `dataset_path` that name a format.
const FORMATS: [&str; 3] = ["json", "csv", "parquet"];

/// Extensions of data files in a folder.
const EXTENSIONS: [&str; 6] = ["jsonl", "ndjson", "json", "csv", "tsv", "parquet"];

impl SplitConfig {
    /// Reads the keys of a task. `data` comes before `dataset_path`, so that a file can include a task of
    /// lm-evaluation-harness and give it local rows.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::error::Error::UnknownKey) and
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey).
    pub fn new(keys: &Entries, task: &Origin) -> Result<Self> {
        let split = |name: &str| keys.text(name);
        let (validation, test) = (split("validation_split")?, split("test_split")?);
        let evaluated = test.as_ref().or(validation.as_ref()).cloned();
        let (source, origin) = if let Some(entry) = keys.get("data") {
            let name = evaluated.clone().unwrap_or_else(|| "test".into());
            (DataSource::Files(split_files(entry, &name)?), entry.origin.clone())
        } else {
            Self::dataset(keys, task)?
        };
        let mut config = Self {
            training: split("training_split")?,
            validation,
            test,
            fewshot: split("fewshot_split")?,
            source,
            origin,
        };
        if evaluated.is_none() {
            // The only files, or those of a split called `test`, are what is evaluated.
            let found = match &config.source {
                DataSource::Files(files) => files.iter().find(|(name, _)| files.len() == 1 || name == "test"),
                DataSource::Folder(_) => None,
            };
            config.test =
                found.map(|(name, _)| name.clone()).filter(|name| config.training.as_ref() != Some(name));
        }
        if config.test.is_none() && config.validation.is_none() {
            let origin = Origin { key: "test_split".into(), ..task.clone() };
            return Err(
                origin.invalid_with("is missing", "name the split to evaluate, such as `test_split: test`")
            );
        }
        Ok(config)
    }

    fn dataset(keys: &Entries, task: &Origin) -> Result<(DataSource, Origin)> {
        const HINT: &str = "name a local file with `data: FILE`, or a file for each split with \
                            `data: {test: FILE, train: FILE}`";
        let Some(entry) = keys.get("dataset_path") else {
            let origin = Origin { key: "data".into(), ..task.clone() };
            return Err(origin.invalid_with("is missing", HINT));
        };
        let path = entry.text()?;
        let arguments = keys.get("dataset_kwargs").map(Entry::map).transpose()?.unwrap_or_default();
        arguments.check(&ARGUMENTS, &UNSUPPORTED_ARGUMENTS)?;
        if let Some(list) = arguments.get("data_files") {
            return Ok((DataSource::Files(split_files(list, "train")?), list.origin.clone()));
        }
        let found = files::resolve(folder(&entry.origin), &path);
        if FORMATS.contains(&path.as_str()) && !storage::exists(&found) {
            return Err(entry.origin.invalid_with("needs `dataset_kwargs` with `data_files`", HINT));
        }
        if storage::is_folder(&found) {
            return Ok((DataSource::Folder(found), entry.origin.clone()));
        }
        if storage::exists(&found) {
            return Ok((DataSource::Files(vec![("train".into(), vec![found])]), entry.origin.clone()));
        }
        Err(entry.origin.invalid_with(format!("`{path}` is neither a local file nor a local folder"), HINT))
    }

    /// Name of the split that is evaluated.
    pub fn evaluated(&self) -> &str {
        self.test.as_deref().or(self.validation.as_deref()).unwrap_or_default()
    }

    /// Reads the rows of a split, of which there is at least one. `key` is the key that names the split.
    ///
    /// # Errors
    /// Those of [`data::read`], and [`Error::InvalidKey`](crate::error::Error::InvalidKey) if there is no
    /// such split or it has no rows.
    pub fn read(&self, split: &str, key: &Origin, read_table: &ReadTable) -> Result<Vec<Row>> {
        let paths = match &self.source {
            DataSource::Files(files) => {
                let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
                let found = files.iter().find(|(name, _)| name == split);
                let missing = || {
                    key.invalid_with(
                        format!(
                            "names the split `{split}`, but `{}` has only: {}",
                            self.origin.key,
                            names.join(", ")
                        ),
                        format!("add its file, as in `data: {{{split}: FILE}}`"),
                    )
                };
                found.map(|(_, paths)| paths.clone()).ok_or_else(missing)?
            }
            DataSource::Folder(folder) => {
                let paths: Vec<PathBuf> =
                    files::list(folder)?.into_iter().filter(|path| is_of_split(path, split)).collect();
                if paths.is_empty() {
                    let message =
                        format!("names the split `{split}`, but `{}` has no such file", folder.display());
                    return Err(key.invalid_with(message, format!("call the file `{split}.jsonl`")));
                }
                paths
            }
        };
        let rows = data::read(&paths, read_table)?;
        if rows.is_empty() {
            let paths: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
            return Err(
                key.invalid(format!("names the split `{split}`, but {} has no rows", paths.join(", ")))
            );
        }
        Ok(rows)
    }
}

/// Folder of the file that a key is in.
fn folder(origin: &Origin) -> &Path {
    origin.path.parent().unwrap_or(Path::new(""))
}

/// Files of each split: those of one split with a given name, or a map from splits to files.
fn split_files(entry: &Entry, only_split: &str) -> Result<Vec<(String, Vec<PathBuf>)>> {
    let resolved = |entry: &Entry| {
        let path = |entry: &Entry| Ok(files::resolve(folder(&entry.origin), &entry.text()?));
        entry.one_or_list().iter().map(path).collect::<Result<Vec<_>>>()
    };
    if !entry.is_map() {
        return Ok(vec![(only_split.into(), resolved(entry)?)]);
    }
    entry.map()?.iter().map(|entry| Ok((entry.name.clone(), resolved(entry)?))).collect()
}

/// Whether a file is called as the files of a split are: `test.jsonl`, `test-00000-of-00001.parquet`.
fn is_of_split(path: &Path, split: &str) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_named = stem.strip_prefix(split).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    is_named && EXTENSIONS.contains(&extension.as_str())
}
