//! Reads files of dialogues: the examples of each, by the format that its first records have.

use super::super::{
    decode::decode,
    records::{Fields, Shape, first_record},
    signature::{Signature, Way},
    sources::{self, File, Found, is_shard},
};
use super::{
    detect::detect,
    table::{self, each_record},
};
use crate::{
    config::{Config, Format, OnBadRow, SampleKind, Task},
    error::{Error, Hint, Result, hint},
    platform::storage,
};
use kiln_chat::{Refusal, Sample, Skipped, Value, format};
use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

/// A file of dialogues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogueFile {
    pub path: PathBuf,
    pub format: Format,
    /// Whether the format was told by the records rather than named by the user.
    pub is_detected: bool,
    /// Number of examples, including those that are left out.
    pub examples: usize,
}

/// An example, and where it is from.
pub(super) struct Located {
    /// Index of the file.
    pub file: usize,
    /// Line where the record begins.
    pub line: usize,
    /// Two samples of a pair whose answers are labelled one by one, otherwise one.
    pub samples: Vec<Sample>,
    /// The record, if the objective needs it.
    pub record: Option<serde_json::Value>,
}

/// Examples of files, before they are turned into tokens.
#[derive(Default)]
pub(super) struct Examples {
    pub files: Vec<DialogueFile>,
    pub examples: Vec<Located>,
    /// Examples of the files that are for validation, if they bring them along.
    pub val: Option<Vec<Located>>,
    pub skipped: Skipped,
    /// Note on files that are not read, if there are any.
    pub passed_over: Option<String>,
    /// The first example that is refused.
    pub refused: Option<(usize, usize, Refusal)>,
}

/// Reads the dialogues that `config.data` names; `None` if they are text, which some objectives learn from
/// too.
///
/// # Errors
/// Those of reading, and [`Error::InvalidDialogue`] for a file that holds no dialogues of the kind that the
/// objective learns from.
pub(super) fn read(config: &Config, kind: SampleKind) -> Result<Option<Examples>> {
    let data = &config.data;
    let is_text = data.format == Some(Format::Text) || data.answer_after.is_some();
    if data.task != Task::None || data.paths.is_empty() || is_text {
        return refuse_text(config, kind, "is text").map(|()| None);
    }
    let Found { files, passed_over } = sources::files(&data.paths)?;
    if files.iter().any(|file| is_shard(&file.path)) {
        return refuse_text(config, kind, "is token shards").map(|()| None);
    }
    let mut examples = Examples { passed_over: sources::note_of(&passed_over), ..Examples::default() };
    if files.is_empty()
        && let Some((path, why)) = passed_over.into_iter().next()
    {
        return Err(why.into_error(&path));
    }
    let (train, val) = own_split(&data.paths, files);
    for File { path, is_named } in train {
        let bytes = storage::read(&path)?;
        let text = decoded(&path, &bytes, data.lossy)?;
        if !examples.push_file(config, kind, &path, &text, is_named)? {
            return match examples.files.is_empty() {
                true => refuse_text(config, kind, "has no dialogues").map(|()| None),
                false => Err(mixed(&path)),
            };
        }
    }
    if !val.is_empty() {
        let train = std::mem::take(&mut examples.examples);
        for File { path, is_named } in val {
            let bytes = storage::read(&path)?;
            let text = decoded(&path, &bytes, data.lossy)?;
            if !examples.push_file(config, kind, &path, &text, is_named)? {
                return Err(mixed(&path));
            }
        }
        examples.val = Some(std::mem::replace(&mut examples.examples, train));
    }
    Ok(Some(examples))
}

/// Tells what the files of `config.data` hold by the first record of the first one; `None` for text.
///
/// # Errors
/// Those of reading.
pub fn kind_of(config: &Config) -> Result<Option<SampleKind>> {
    let data = &config.data;
    let format = match (data.format, sources::files(&data.paths)?.files.first()) {
        (Some(format), _) => Some(format),
        (None, None) => None,
        (None, Some(file)) if is_shard(&file.path) => None,
        (None, Some(file)) => {
            let bytes = storage::read(&file.path)?;
            let text = decoded(&file.path, &bytes, data.lossy)?;
            let fields = Fields { text: &data.text_field, label: None };
            let shape = Shape::of(&file.path, &text, &fields, true);
            let first = match first_record::<Value>(&text) {
                // Of a table; or an error, of what is not JSON.
                None if shape != Shape::Text => table::first_record(&file.path, &text, shape)?,
                first => first,
            };
            first.and_then(|record| format::detect(&record))
        }
    };
    Ok(match format {
        None | Some(Format::Text) => None,
        Some(Format::Messages | Format::Sharegpt | Format::Alpaca | Format::PromptCompletion) => {
            Some(SampleKind::Conversations)
        }
        Some(Format::Preference) => Some(SampleKind::Pairs),
        Some(Format::Labelled) => Some(SampleKind::Labelled),
        Some(Format::Scored) => Some(SampleKind::Rewards),
        Some(Format::Prompts) => Some(SampleKind::Prompts),
    })
}

/// Decodes the bytes of a file.
///
/// # Errors
/// Those of [`decode`]. Of columns, such as those of Parquet, the hint says how they become JSON lines.
fn decoded<'a>(path: &Path, bytes: &'a [u8], lossy: bool) -> Result<Cow<'a, str>> {
    let has_columns = Signature::of(bytes).is_some_and(|signature| signature.way == Way::Prepare);
    match decode(path, bytes, lossy) {
        Ok((text, _)) => Ok(text),
        Err(Error::NotText { path, message, .. }) if has_columns => {
            let reader = if bytes.starts_with(b"PAR1") { "read_parquet" } else { "read_feather" };
            let options = "orient='records', lines=True";
            let command = format!(
                "python -c \"import pandas as p; p.{reader}('FILE').to_json('NEW.jsonl', {options})\""
            );
            let hint = hint![
                "dialogues are read from JSON lines, JSON and CSV; convert it, for example with ",
                hint::command(command)
            ];
            Err(Error::NotText { path, message, hint })
        }
        Err(error) => Err(error),
    }
}

/// Divides the files of a single folder into those whose names begin with `train` and with `val`, if it has
/// both. Other files are then left out.
fn own_split(paths: &[PathBuf], files: Vec<File>) -> (Vec<File>, Vec<File>) {
    let begins = |file: &File, name: &str| {
        file.path.file_name().and_then(|own| own.to_str()).is_some_and(|own| own.starts_with(name))
    };
    let has = |name: &str| files.iter().any(|file| begins(file, name));
    let is_split = matches!(paths, [folder] if storage::is_folder(folder)) && has("train") && has("val");
    if !is_split {
        return (files, Vec::new());
    }
    let (train, rest): (Vec<File>, Vec<File>) = files.into_iter().partition(|file| begins(file, "train"));
    (train, rest.into_iter().filter(|file| begins(file, "val")).collect())
}

/// Refuses text for an objective that learns from dialogues alone.
fn refuse_text(config: &Config, kind: SampleKind, message: &str) -> Result<()> {
    if matches!(kind, SampleKind::Conversations | SampleKind::Prompts) && !names_dialogues(config) {
        return Ok(());
    }
    let paths: Vec<String> = config.data.paths.iter().map(|path| path.display().to_string()).collect();
    let shown = if paths.is_empty() { "the embedded corpus".into() } else { paths.join(", ") };
    Err(Error::InvalidValue {
        key: "data.paths".into(),
        value: shown,
        message: format!("it {message}, but `{}` learns from dialogues", config.objective_kind().name()),
        hint: Some(wanted(kind)),
    })
}

fn names_dialogues(config: &Config) -> bool {
    config.data.format.is_some_and(|format| format != Format::Text)
}

/// Advice on the fields that an objective learns from.
pub(super) fn wanted(kind: SampleKind) -> Hint {
    match kind {
        SampleKind::Conversations => {
            "records have `messages`, `conversations`, `instruction` and `output`, or `prompt` and `completion`"
                .into()
        }
        SampleKind::Pairs => "records have `chosen`, `rejected` and the `prompt` of both".into(),
        SampleKind::Labelled => {
            "records have `messages`, or `prompt` and `completion`, and a `label` that is true or false".into()
        }
        SampleKind::Rewards => {
            "records have `chosen` and `rejected`, or an answer and its `score`".into()
        }
        SampleKind::Prompts => "records have a `prompt`, or `messages`".into(),
    }
}

fn mixed(path: &Path) -> Error {
    Error::InvalidDialogue {
        path: path.into(),
        line: 1,
        message: "is text or empty, but the files before it hold dialogues".into(),
        hint: Some(hint![
            "name files of one sort, or say which it is with ",
            hint::choose("data.format", "FORMAT")
        ]),
    }
}

impl Examples {
    /// Reads a file; false if it holds text rather than dialogues.
    ///
    /// # Errors
    /// [`Error::InvalidRecord`] for what is not JSON, and [`Error::InvalidDialogue`] for records of no format
    /// or of one that the objective does not learn from.
    pub fn push_file(
        &mut self,
        config: &Config,
        kind: SampleKind,
        path: &Path,
        text: &str,
        is_named: bool,
    ) -> Result<bool> {
        let fields = Fields { text: &config.data.text_field, label: None };
        let mut shape = Shape::of(path, text, &fields, is_named || names_dialogues(config));
        if shape == Shape::Text && text.trim_start().starts_with(['{', '[']) {
            shape = Shape::Json;
        }
        if shape == Shape::Text || text.trim().is_empty() {
            return Ok(false);
        }
        let named = config.data.format;
        let Some(format) =
            named.map_or_else(|| detect(config, kind, path, text, shape), |named| Ok(Some(named)))?
        else {
            return Ok(false);
        };
        let file = self.files.len();
        let before = self.examples.len();
        let mut refused = 0;
        each_record(path, text, shape, |line, record: Value| {
            match format::read(&record, format, kind) {
                Ok(samples) => {
                    let keeps_record = kind == SampleKind::Prompts;
                    let record = keeps_record.then(|| serde_json::to_value(&record).unwrap_or_default());
                    self.examples.push(Located { file, line, samples, record });
                }
                Err(refusal) => {
                    refused += 1;
                    self.refuse(path, file, line, refusal);
                }
            }
            Ok(())
        })?;
        let examples = self.examples.len() - before + refused;
        self.files.push(DialogueFile { path: path.into(), format, is_detected: named.is_none(), examples });
        Ok(true)
    }

    /// Counts an example that is refused.
    pub fn refuse(&mut self, path: &Path, file: usize, line: usize, refusal: Refusal) {
        let place = || format!("`{}` line {line}: {}", path.display(), refusal.message);
        self.skipped.add(refusal.reason, place);
        self.refused.get_or_insert((file, line, refusal));
    }

    /// Ends the run if an example was refused and none may be left out. The error is that of the first one,
    /// and says how many there are.
    ///
    /// # Errors
    /// [`Error::InvalidDialogue`].
    pub fn check_refused(&self, config: &Config) -> Result<()> {
        let Some((file, line, refusal)) = &self.refused else { return Ok(()) };
        if config.chat.on_bad_row == OnBadRow::Skip {
            return Ok(());
        }
        let path = self.files.get(*file).map_or(Path::new("the given text"), |file| &file.path);
        let mut refusal = refusal.clone();
        if self.skipped.count() > 1 {
            let all: usize = self.files.iter().map(|file| file.examples).sum();
            let counts = self.skipped.counts();
            refusal.message = format!("{} (of {all} examples that are read, {counts})", refusal.message);
        }
        Err(refusal.into_error(path, *line))
    }
}
