//! The pipeline file: sources, steps, blend and tokenization.

use super::{
    blend::BlendConfig,
    extract::{ExtractConfig, Format, Separator},
    steps::{Step, syntax},
};
use crate::{
    config::TokenizerKind,
    error::{Error, Result},
    platform::storage,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Everything that decides the output of `kiln data run`. Workers, ranks and the cluster, which do not, are
/// in [`EngineConfig`](super::EngineConfig).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pipeline {
    /// Name of the pipeline file.
    #[serde(skip)]
    pub file: String,
    /// Folder of the pipeline file. Documents are named by their files' paths relative to it, so that the
    /// names, and the order that follows from them, stay the same if everything is moved to another place.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Seed of shuffling, blending and splitting.
    pub seed: u64,
    /// Size of a part, which is the work of one task, in MB of text.
    pub part_mb: usize,
    /// Action on a bad record. The files that Kiln writes keep the earlier name, `on_fault`.
    #[serde(rename = "on_fault")]
    pub on_bad_record: OnBadRecord,
    #[serde(rename = "source")]
    pub sources: Vec<SourceConfig>,
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    pub blend: BlendConfig,
    pub tokenize: Option<TokenizeConfig>,
}

/// Action on a bad record, one that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadRecord {
    /// The record is counted and reported, and the run continues.
    #[default]
    Skip,
    /// The run stops with an error.
    Stop,
}

/// A `[[source]]` of the pipeline: files of one origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    pub name: String,
    /// Files, folders, globs, and `http(s)://`, `s3://`, `gs://` and `az://` addresses.
    pub paths: Vec<String>,
    /// SHA-256 of the downloads, in the order of the addresses among `paths`; empty if they are not checked.
    pub sha256: Vec<String>,
    /// Weight of this source in the blend, relative to the weights of the others.
    pub weight: Option<f64>,
    /// Language of all documents, if it is known.
    pub language: String,
    /// License, for the dataset card.
    pub license: String,
    pub version: String,
    pub format: Option<Format>,
    pub separator: Separator,
    pub text_field: String,
    pub id_field: String,
    pub url_field: String,
    /// Maximum size of a record in MB; a longer one is a bad record.
    pub record_mb: usize,
    /// Maximum memory in MB that the window of a zstd frame may need (`zstd --long=N` makes a window of 2^N
    /// bytes); a frame that needs more is a bad record. Each task that reads such a frame holds as much.
    pub zstd_window_mb: usize,
}

impl Default for SourceConfig {
    fn default() -> Self {
        let extract = ExtractConfig::default();
        Self {
            name: String::new(),
            paths: Vec::new(),
            sha256: Vec::new(),
            weight: None,
            language: String::new(),
            license: String::new(),
            version: String::new(),
            format: extract.format,
            separator: extract.separator,
            text_field: extract.text_field,
            id_field: extract.id_field,
            url_field: extract.url_field,
            record_mb: extract.record_limit >> 20,
            zstd_window_mb: (extract.zstd_window >> 20) as usize,
        }
    }
}

impl SourceConfig {
    pub(super) fn extract(&self) -> ExtractConfig {
        ExtractConfig {
            format: self.format,
            separator: self.separator.clone(),
            text_field: self.text_field.clone(),
            id_field: self.id_field.clone(),
            url_field: self.url_field.clone(),
            record_limit: self.record_mb << 20,
            zstd_window: (self.zstd_window_mb as u64) << 20,
        }
    }
}

/// The `[tokenize]` table: how documents become token shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizeConfig {
    /// A `tokenizer.json` file; if empty, a tokenizer is trained.
    pub tokenizer: PathBuf,
    /// Kind of tokenizer that is trained: `bpe`, `char` or `byte`.
    pub kind: TokenizerKind,
    /// Vocabulary size of a BPE tokenizer that is trained.
    pub vocab_size: usize,
    /// MB of text that the tokenizer is trained on, a sample drawn by the seed.
    pub sample_mb: usize,
    /// Fraction of the documents in the validation split.
    pub val_fraction: f64,
    /// Maximum number of tokens in a shard.
    pub shard_tokens: u64,
}

impl Default for TokenizeConfig {
    fn default() -> Self {
        Self {
            tokenizer: PathBuf::new(),
            kind: TokenizerKind::Bpe,
            vocab_size: 8192,
            sample_mb: 64,
            val_fraction: 0.01,
            shard_tokens: 100_000_000,
        }
    }
}

impl Pipeline {
    /// Reads a pipeline file; relative paths in it start at its folder. `overrides` are `key=value`, with the
    /// number of a step or source (from 1) as part of the key: `seed=7`, `step.3.min_words=20`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`], [`Error::ConfigSyntax`] and [`Error::InvalidValue`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        if !storage::exists(path) {
            let hint = "name a pipeline file; `examples/corpora.toml` is one".into();
            return Err(Error::NotFound { path: path.into(), hint });
        }
        let text = storage::read_to_string(path)?;
        let folder = std::path::absolute(path).map_err(|error| Error::io("find", path, error))?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        let pipeline = Self::from_toml(&text, &format!("`{}`", path.display()), folder, overrides)?;
        Ok(Self { file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(), ..pipeline })
    }

    /// As [`load`](Self::load), from the text of a file in `folder`; `origin` names it in error messages.
    pub fn from_toml(text: &str, origin: &str, folder: &Path, overrides: &[String]) -> Result<Self> {
        let mut table: Table = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(String::new(), |span| {
                let line = text[..span.start].matches('\n').count() + 1;
                format!("line {line}: ")
            });
            syntax(origin, format!("{line}{}", error.message().replace('\n', ", ")))
        })?;
        rename_old_keys(&mut table);
        for text in overrides {
            apply(&mut table, text)?;
            rename_old_keys(&mut table);
        }
        // Each part is read by itself, so that a message can say which one it is about.
        let mut pipeline = Self {
            file: String::new(),
            folder: folder.into(),
            seed: 1337,
            part_mb: 32,
            on_bad_record: OnBadRecord::default(),
            sources: Vec::new(),
            steps: Vec::new(),
            blend: BlendConfig::default(),
            tokenize: None,
        };
        for (key, value) in table {
            let place = format!("{origin}, `{key}`");
            match key.as_str() {
                "seed" => pipeline.seed = entry(value, &place)?,
                "part_mb" => pipeline.part_mb = entry(value, &place)?,
                "on_bad_record" => pipeline.on_bad_record = entry(value, &place)?,
                "blend" => pipeline.blend = entry(value, &place)?,
                "tokenize" => pipeline.tokenize = Some(entry(value, &place)?),
                "source" => {
                    for (number, table) in tables(value, &place)? {
                        let place =
                            format!("{origin}, source {number}{}", line_of(text, "[[source]]", number));
                        pipeline.sources.push(entry(Value::Table(table), &place)?);
                    }
                }
                "step" => {
                    for (number, table) in tables(value, &place)? {
                        let place = format!("{origin}, step {number}{}", line_of(text, "[[step]]", number));
                        pipeline.steps.push(Step::from_table(table, &place)?);
                    }
                }
                _ => {
                    let known = "seed, part_mb, on_bad_record, [[source]], [[step]], [blend], [tokenize]";
                    return Err(syntax(origin, format!("unknown key `{key}`; there are {known}")));
                }
            }
        }
        pipeline.resolve(folder);
        pipeline.validate()?;
        Ok(pipeline)
    }

    fn resolve(&mut self, folder: &Path) {
        for (number, source) in self.sources.iter_mut().enumerate() {
            if source.name.is_empty() {
                source.name = format!("source-{}", number + 1);
            }
            for path in source.paths.iter_mut().filter(|path| !path.contains("://")) {
                *path = folder.join(&path).to_string_lossy().into_owned();
            }
        }
        self.steps.iter_mut().for_each(|step| step.resolve(folder));
        if let Some(tokenize) = &mut self.tokenize
            && !tokenize.tokenizer.as_os_str().is_empty()
        {
            tokenize.tokenizer = folder.join(&tokenize.tokenizer);
        }
    }

    fn validate(&self) -> Result<()> {
        if self.sources.is_empty() {
            return Err(invalid("source", "", "there is none", "add `[[source]]` with `paths`"));
        }
        if !(1..=4096).contains(&self.part_mb) {
            return Err(invalid("part_mb", self.part_mb, "must be between 1 and 4096", "32 is usual"));
        }
        let mut names: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(invalid(
                "source.name",
                pair[0],
                "stands twice",
                "names tell sources apart in the blend",
            ));
        }
        for source in &self.sources {
            if source.paths.is_empty() {
                return Err(invalid("source.paths", &source.name, "names no file", "add `paths = [\"…\"]`"));
            }
            if !(1..=1024).contains(&source.record_mb) {
                let hint = "a longer record counts as one that cannot be read";
                return Err(invalid(
                    "source.record_mb",
                    source.record_mb,
                    "must be between 1 and 1024",
                    hint,
                ));
            }
            if !(1..=2048).contains(&source.zstd_window_mb) {
                let (value, message) = (source.zstd_window_mb, "must be between 1 and 2048");
                return Err(invalid("source.zstd_window_mb", value, message, "2048 reads every zstd file"));
            }
            if source.weight.is_some_and(|weight| !weight.is_finite() || weight < 0.0) {
                let value = source.weight.unwrap_or_default();
                return Err(invalid("source.weight", value, "must be 0 or more", "weights are relative"));
            }
        }
        self.blend.validate()?;
        if let Some(tokenize) = &self.tokenize {
            if !(0.0..1.0).contains(&tokenize.val_fraction) {
                let value = tokenize.val_fraction;
                return Err(invalid(
                    "tokenize.val_fraction",
                    value,
                    "must be at least 0 and below 1",
                    "0.01",
                ));
            }
            if tokenize.sample_mb > usize::MAX >> 20 {
                let (value, message) = (tokenize.sample_mb, "no machine has as much memory");
                return Err(invalid("tokenize.sample_mb", value, message, "64 is usual"));
            }
            if tokenize.shard_tokens < 1000 || tokenize.sample_mb == 0 {
                let message = "shards need 1,000 tokens or more, and the sample 1 MB or more";
                return Err(invalid("tokenize", tokenize.shard_tokens, message, "leave them out"));
            }
        }
        Ok(())
    }
}

fn invalid(key: &str, value: impl ToString, message: &str, hint: &str) -> Error {
    Error::InvalidValue {
        key: key.into(),
        value: value.to_string(),
        message: message.into(),
        hint: Some(hint.into()),
    }
}

fn entry<T: serde::de::DeserializeOwned>(value: Value, place: &str) -> Result<T> {
    value.try_into().map_err(|error: toml::de::Error| syntax(place, error.message().replace('\n', ", ")))
}

fn tables(value: Value, place: &str) -> Result<impl Iterator<Item = (usize, Table)>> {
    let tables: Vec<Table> = entry(value, place)?;
    Ok((1..).zip(tables))
}

/// Formats the place of the numbered table with this header as ` (line N)`.
fn line_of(text: &str, header: &str, number: usize) -> String {
    let mut lines = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with(header));
    lines.nth(number - 1).map_or(String::new(), |(line, _)| format!(" (line {})", line + 1))
}

/// Renames keys that had another name in earlier versions.
fn rename_old_keys(table: &mut Table) {
    if let Some(value) = table.remove("on_fault") {
        table.insert("on_bad_record".into(), value);
    }
}

/// Applies an override `a.b.c=value`, where a number selects from an array of tables.
fn apply(table: &mut Table, text: &str) -> Result<()> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Error::invalid_value("--set", text, "expected KEY=VALUE"));
    };
    let parsed: Option<Table> = toml::from_str(&format!("value = {value}")).ok();
    let value =
        parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(value.into()));
    let path: Vec<&str> = key.trim().split('.').collect();
    let Some((last, way)) = path.split_last() else { return Ok(()) };
    let mut names = way.iter().peekable();
    let mut table = table;
    while let Some(name) = names.next() {
        let number = names.peek().and_then(|number| number.parse::<usize>().ok());
        let next = table.entry(*name).or_insert_with(|| Value::Table(Table::new()));
        let next = match (number, next) {
            (Some(number), Value::Array(tables)) => {
                names.next();
                let count = tables.len();
                let table = number.checked_sub(1).and_then(|index| tables.get_mut(index));
                table.ok_or_else(|| {
                    Error::invalid_value("--set", key, format!("there are {count} of these"))
                })?
            }
            (_, next) => next,
        };
        let Value::Table(next) = next else {
            return Err(Error::invalid_value("--set", key, format!("`{name}` is no table")));
        };
        table = next;
    }
    table.insert((*last).into(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_names_of_keys_are_read() {
        let read = |key: &str, overrides: &[&str]| {
            let text = format!("{key}\n[[source]]\npaths = [\"x\"]\n");
            let overrides: Vec<String> = overrides.iter().map(|&text| text.into()).collect();
            Pipeline::from_toml(&text, "test", Path::new("/"), &overrides).unwrap().on_bad_record
        };
        assert_eq!(read("", &[]), OnBadRecord::Skip);
        assert_eq!(read("on_bad_record = \"stop\"", &[]), OnBadRecord::Stop);
        assert_eq!(read("on_fault = \"stop\"", &[]), OnBadRecord::Stop);
        // What comes last counts, by whichever name.
        assert_eq!(read("on_fault = \"stop\"", &["on_bad_record=skip"]), OnBadRecord::Skip);
        assert_eq!(read("on_bad_record = \"stop\"", &["on_fault=skip"]), OnBadRecord::Skip);
    }
}
