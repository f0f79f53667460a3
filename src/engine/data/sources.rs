//! Finds and reads the files that `data.paths` names.

use super::{
    corpus::{Corpus, LabelKind},
    decode::{self, NotText, decode},
    records::{Fields, Shape},
};
use crate::{
    config::{DataConfig, Task},
    error::{Error, Place, Result, hint},
    platform::storage,
};
use std::path::{Path, PathBuf};

/// Text that is used for training if no path is given.
pub const EMBEDDED: &str = include_str!("../../../assets/corpus.txt");

/// Data that was found under `data.paths`.
pub(super) enum Source {
    Text(Corpus),
    /// Token shards that are not divided into splits yet.
    Shards(Vec<PathBuf>),
    /// Shards of a folder with `train.bin` or `train-*.bin`, and `val.bin` or `val-*.bin`, for each split.
    Splits {
        folder: PathBuf,
        train: Vec<PathBuf>,
        val: Vec<PathBuf>,
    },
}

/// A file that may hold text.
pub(super) struct File {
    pub path: PathBuf,
    /// Whether the user named the file itself rather than its folder.
    pub is_named: bool,
}

/// Files under the paths that the user named.
pub(super) struct Found {
    pub files: Vec<File>,
    /// Files that are not text, with the reason.
    pub passed_over: Vec<(PathBuf, NotText)>,
}

/// Lists the files that `paths` name. Folders are listed recursively, sorted by name, without hidden files; in
/// a folder with shards all other files are skipped.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::Io`].
pub(super) fn files(paths: &[PathBuf]) -> Result<Found> {
    let mut found = Found { files: Vec::new(), passed_over: Vec::new() };
    for path in paths {
        if !storage::exists(path) {
            return Err(Error::NotFound {
                path: path.clone(),
                hint: hint![Place::Data, " takes text, JSON and CSV files, token shards and folders of them"],
            });
        }
        match storage::is_folder(path) {
            true => find(path, &mut found.files, &mut found.passed_over)?,
            false => found.files.push(File { path: path.clone(), is_named: true }),
        }
    }
    Ok(found)
}

/// Reads all text, with the label of each record if requested, or finds all shards. Folders are read
/// recursively, sorted by name, without hidden files; in a folder with shards all other files are skipped.
/// Adds notes for the user to `notes`.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotText`], [`Error::InvalidUtf8`], [`Error::InvalidRecord`],
/// [`Error::EmptyCorpus`], [`Error::Io`], and [`Error::InvalidValue`] if text and shards are mixed.
pub(super) fn read(
    data: &DataConfig,
    label: Option<(&str, LabelKind)>,
    notes: &mut Vec<String>,
) -> Result<Source> {
    let mut corpus = Corpus::default();
    let without_fields = |what: &str| match label {
        None => Ok(()),
        Some((field, _)) => Err(Error::InvalidValue {
            key: "data.paths".into(),
            value: list(&data.paths),
            message: format!("{what} no field `{field}`"),
            hint: Some(hint!["name a JSONL file ", Place::Data.by_argument("with", "FILE")]),
        }),
    };
    if data.task != Task::None {
        without_fields("a task has")?;
        for document in data.task.documents() {
            corpus.push_document(&document);
        }
        return Ok(Source::Text(corpus));
    }
    if data.paths.is_empty() {
        without_fields("the embedded corpus has")?;
        corpus.push_text(EMBEDDED);
        return Ok(Source::Text(corpus));
    }
    if let [folder] = &data.paths[..]
        && storage::is_folder(folder)
    {
        let (train, val) = (shards_of(folder, "train")?, shards_of(folder, "val")?);
        if !train.is_empty() && !val.is_empty() {
            without_fields("token shards have")?;
            return Ok(Source::Splits { folder: folder.clone(), train, val });
        }
    }
    let Found { files, passed_over } = files(&data.paths)?;
    let shards = files.iter().filter(|file| is_shard(&file.path)).count();
    if shards > 0 && shards == files.len() {
        without_fields("token shards have")?;
        return Ok(Source::Shards(files.into_iter().map(|file| file.path).collect()));
    }
    if shards > 0 {
        return Err(Error::InvalidValue {
            key: "data.paths".into(),
            value: list(&data.paths),
            message: "text and token shards (`.bin`) cannot be mixed".into(),
            hint: Some("name one or the other, or encode the text into shards first".into()),
        });
    }
    let fields = Fields { text: &data.text_field, label };
    for File { path, is_named } in files {
        let bytes = storage::read(&path)?;
        let (text, replaced) = decode(&path, &bytes, data.lossy)?;
        if replaced > 0 {
            let name = path.display();
            notes.push(format!("`{name}`: {replaced} places are no UTF-8 and became U+FFFD (`data.lossy`)"));
        }
        corpus.push_file(&path, &text, Shape::of(&path, &text, &fields, is_named), &fields)?;
    }
    notes.extend(note_of(&passed_over));
    if corpus.is_empty() {
        return Err(match passed_over.into_iter().find(|(_, why)| why.has_text) {
            Some((path, why)) => why.into_error(&path),
            None => Error::EmptyCorpus { sources: list(&data.paths) },
        });
    }
    Ok(Source::Text(corpus))
}

/// Note for the user on files that are passed over; `None` if there are none.
pub(super) fn note_of(passed_over: &[(PathBuf, NotText)]) -> Option<String> {
    let (path, why) = passed_over.iter().find(|(_, why)| why.has_text).or(passed_over.first())?;
    Some(format!(
        "passed over {} of the files: they are no text that is read here, such as `{}`, which {}",
        passed_over.len(),
        path.display(),
        why.message
    ))
}

/// Lists the files `SPLIT.bin` and `SPLIT-….bin` of a folder, sorted.
fn shards_of(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let is_of = |path: &PathBuf| {
        let rest = path.file_stem().and_then(|name| name.to_str()?.strip_prefix(split));
        is_shard(path) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut shards: Vec<PathBuf> = storage::list(folder)?.into_iter().filter(is_of).collect();
    shards.sort();
    Ok(shards)
}

/// Collects the data files of a folder and its subfolders in `files`, and files that are not text, with the
/// reason, in `passed_over`.
fn find(folder: &Path, files: &mut Vec<File>, passed_over: &mut Vec<(PathBuf, NotText)>) -> Result<()> {
    let is_hidden =
        |path: &Path| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let entries: Vec<PathBuf> = storage::list(folder)?.into_iter().filter(|path| !is_hidden(path)).collect();
    let has_shards = entries.iter().any(|path| is_shard(path));
    for path in entries {
        if storage::is_folder(&path) {
            find(&path, files, passed_over)?;
        } else if has_shards {
            if is_shard(&path) {
                files.push(File { path, is_named: false });
            }
        } else if path.file_name().is_some_and(|name| name == "tokenizer.json") {
            continue;
        } else if let Some(why) = NotText::of(&storage::read_prefix(&path, decode::START)?) {
            passed_over.push((path, why));
        } else {
            files.push(File { path, is_named: false });
        }
    }
    Ok(())
}

pub(super) fn is_shard(path: &Path) -> bool {
    has_extension(path, &["bin"])
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|own| extensions.iter().any(|other| own.eq_ignore_ascii_case(other)))
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A folder with these files.
    fn folder(files: &[(&str, &[u8])]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            storage::create_folder(path.parent().unwrap()).unwrap();
            storage::write_synced(&path, bytes).unwrap();
        }
        folder
    }

    fn config(paths: &[PathBuf]) -> DataConfig {
        DataConfig { paths: paths.to_vec(), ..DataConfig::default() }
    }

    fn texts(data: &DataConfig) -> Vec<String> {
        match read(data, None, &mut Vec::new()).unwrap() {
            Source::Text(corpus) => corpus.split(0.0).0.into_iter().map(str::to_owned).collect(),
            _ => panic!("shards"),
        }
    }

    #[test]
    fn folders_are_read_in_order_without_hidden_and_binary_files() {
        let folder = folder(&[
            ("b.md", b"second"),
            ("a.txt", b"first"),
            (".hidden", b"no"),
            (".git/x", b"no"),
            ("c/d.JSONL", b"{\"text\":\"third\"}\n"),
            ("c/e", b"fourth"),
            ("image.png", b"\x89PNG\0\xFF"),
            ("tokenizer.json", b"{}"),
        ]);
        assert_eq!(texts(&config(&[folder.path().into()])), ["first", "second", "third", "fourth"]);
        let files = ["b.md", "a.txt"].map(|name| folder.path().join(name));
        assert_eq!(texts(&config(&files)), ["second", "first"]);
        assert!(!texts(&config(&[])).is_empty());
    }

    #[test]
    fn tables_and_json_are_records_and_other_formats_are_said() {
        let folder = folder(&[
            ("a.csv", b"id,text\n1,\"one, two\"\n"),
            ("b.json", b"[{\"text\": \"three\"}]"),
            ("c", b"{ \"text\" : \"four\" }\n"),
            ("package.json", b"{\"name\": \"x\"}"),
            ("x.gz", b"\x1f\x8b\x08\x00"),
            ("y.png", b"\x89PNG\r\n\x1a\n\0"),
        ]);
        let data = config(&[folder.path().into()]);
        assert_eq!(texts(&data), ["one, two", "three", "four", "{\"name\": \"x\"}"]);
        let mut notes = Vec::new();
        read(&data, None, &mut notes).unwrap();
        assert_eq!(notes.len(), 1);
        assert!(notes[0].starts_with("passed over 2 of the files"), "{notes:?}");
        assert!(notes[0].ends_with("x.gz`, which is compressed by gzip"), "{notes:?}");
        // Named by itself it is refused, and so is a folder without anything else.
        let error = |path: PathBuf| read(&config(&[path]), None, &mut Vec::new()).err().unwrap();
        assert!(matches!(error(folder.path().join("x.gz")), Error::NotText { .. }));
        let alone = super::tests::folder(&[("x.gz", b"\x1f\x8b\x08\x00")]);
        assert!(error(alone.path().into()).hint().unwrap().to_string().contains("gunzip"));
        let refused = error(folder.path().join("package.json"));
        assert!(refused.to_string().ends_with("line 1: has no field `text`"), "{refused}");
    }

    #[test]
    fn replaced_bytes_are_said() {
        let folder = folder(&[("a.txt", b"ab\xffc")]);
        let data = DataConfig { lossy: true, ..config(&[folder.path().into()]) };
        let mut notes = Vec::new();
        read(&data, None, &mut notes).unwrap();
        assert!(notes[0].contains("a.txt`: 1 places are no UTF-8"), "{notes:?}");
    }

    #[test]
    fn text_is_decoded_strictly_unless_lossy() {
        let folder = folder(&[("bom.txt", b"\xEF\xBB\xBFa\r\nb\r\n"), ("bad.txt", b"\xEF\xBB\xBFab\xFFc")]);
        assert_eq!(texts(&config(&[folder.path().join("bom.txt")])), ["a\nb\n"]);
        let bad = folder.path().join("bad.txt");
        let mut data = config(std::slice::from_ref(&bad));
        match read(&data, None, &mut Vec::new()).err().unwrap() {
            Error::InvalidUtf8 { path, offset } => assert_eq!((path, offset), (bad, 5)),
            other => panic!("{other}"),
        }
        data.lossy = true;
        assert_eq!(texts(&data), ["ab\u{FFFD}c"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = folder(&[("empty.txt", b""), ("x.bin", b"\0\0"), ("y.txt", b"y")]);
        let error = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| folder.path().join(name)).collect();
            read(&config(&paths), None, &mut Vec::new()).err().unwrap()
        };
        assert!(matches!(error(&["none.txt"]), Error::NotFound { .. }));
        assert!(matches!(error(&["empty.txt"]), Error::EmptyCorpus { .. }));
        assert!(error(&["empty.txt"]).to_string().contains("empty.txt`"));
        assert!(error(&["x.bin", "y.txt"]).to_string().contains("cannot be mixed"));
    }

    #[test]
    fn shards_are_found() {
        let shards =
            folder(&[("b.bin", b"\0\0"), ("a.bin", b"\0\0"), ("a.json", b"{}"), ("readme.md", b"x")]);
        match read(&config(&[shards.path().into()]), None, &mut Vec::new()).unwrap() {
            Source::Shards(paths) => {
                assert_eq!(paths, ["a.bin", "b.bin"].map(|name| shards.path().join(name)));
            }
            _ => panic!("no shards"),
        }
        let splits = folder(&[("train.bin", b"\0\0"), ("val.bin", b"\0\0"), ("input.txt", b"x")]);
        assert!(matches!(
            read(&config(&[splits.path().into()]), None, &mut Vec::new()).unwrap(),
            Source::Splits { .. }
        ));
        let many =
            folder(&[("train-00001.bin", b"\0\0"), ("train-00000.bin", b"\0\0"), ("val.bin", b"\0\0")]);
        match read(&config(&[many.path().into()]), None, &mut Vec::new()).unwrap() {
            Source::Splits { train, val, .. } => {
                assert_eq!(train, ["train-00000.bin", "train-00001.bin"].map(|name| many.path().join(name)));
                assert_eq!(val, [many.path().join("val.bin")]);
            }
            _ => panic!("no splits"),
        }
    }
}
