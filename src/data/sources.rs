//! Finds and reads the files that `data.paths` names.

use super::corpus::{AnswerKind, Corpus, Fields};
use crate::{
    config::{DataConfig, Task},
    error::{Error, Result},
    platform::storage,
};
use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

/// The text that is trained on when no path is given.
pub(super) const EMBEDDED: &str = include_str!("../../assets/corpus.txt");

/// What `data.paths` leads to.
pub(super) enum Source {
    Text(Corpus),
    /// Token shards, to be split.
    Shards(Vec<PathBuf>),
    /// Of a folder with `train.bin` or `train-*.bin` and `val.bin` or `val-*.bin`: those of each split.
    Splits {
        folder: PathBuf,
        train: Vec<PathBuf>,
        val: Vec<PathBuf>,
    },
}

/// Reads all text, with the answer that each record has if one is asked for, or finds all shards. Folders are read recursively, sorted by name, without hidden
/// files; in a folder with shards everything else is passed over.
///
/// # Errors
/// [`Error::NotFound`], [`Error::InvalidUtf8`], [`Error::InvalidRecord`], [`Error::EmptyCorpus`],
/// [`Error::Io`], and [`Error::InvalidValue`] for text and shards together.
pub(super) fn read(data: &DataConfig, answer: Option<(&str, AnswerKind)>) -> Result<Source> {
    let mut corpus = Corpus::default();
    let without_fields = |what: &str| match answer {
        None => Ok(()),
        Some((field, _)) => Err(Error::InvalidValue {
            key: "data.paths".into(),
            value: list(&data.paths),
            message: format!("{what} no field `{field}`"),
            hint: Some("name a JSONL file with `--data FILE`".into()),
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
    let mut files = Vec::new();
    for path in &data.paths {
        if !storage::exists(path) {
            return Err(Error::NotFound {
                path: path.clone(),
                hint: "`--data` takes text files, JSONL files, token shards and folders of them".into(),
            });
        }
        if storage::is_folder(path) { find(path, &mut files)? } else { files.push(path.clone()) }
    }
    let shards = files.iter().filter(|path| is_shard(path)).count();
    if shards > 0 && shards == files.len() {
        without_fields("token shards have")?;
        return Ok(Source::Shards(files));
    }
    if shards > 0 {
        return Err(Error::InvalidValue {
            key: "data.paths".into(),
            value: list(&data.paths),
            message: "text and token shards (`.bin`) cannot be mixed".into(),
            hint: Some("name one or the other, or encode the text into shards first".into()),
        });
    }
    for path in files {
        let bytes = storage::read(&path)?;
        let text = decode(&path, &bytes, data.lossy)?;
        if has_extension(&path, &["jsonl", "ndjson"]) {
            corpus.push_jsonl(&path, &text, &Fields { text: &data.text_field, answer })?;
        } else if let Some((field, _)) = answer {
            return Err(Error::InvalidRecord {
                path,
                line: 1,
                message: format!("is not of a `.jsonl` file, which alone has a field `{field}`"),
            });
        } else {
            corpus.push_text(&text);
        }
    }
    if corpus.is_empty() {
        return Err(Error::EmptyCorpus { sources: list(&data.paths) });
    }
    Ok(Source::Text(corpus))
}

/// `SPLIT.bin` or `SPLIT-….bin` in a folder, sorted.
fn shards_of(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let is_of = |path: &PathBuf| {
        let rest = path.file_stem().and_then(|name| name.to_str()?.strip_prefix(split));
        is_shard(path) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut shards: Vec<PathBuf> = storage::list(folder)?.into_iter().filter(is_of).collect();
    shards.sort();
    Ok(shards)
}

/// Adds the data files of a folder and of the folders in it.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let is_hidden =
        |path: &Path| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let entries: Vec<PathBuf> = storage::list(folder)?.into_iter().filter(|path| !is_hidden(path)).collect();
    let has_shards = entries.iter().any(|path| is_shard(path));
    for path in entries {
        if storage::is_folder(&path) {
            find(&path, files)?;
        } else if has_shards {
            if is_shard(&path) {
                files.push(path);
            }
        } else if path.file_name().is_some_and(|name| name == "tokenizer.json") {
            continue;
        } else if storage::read_prefix(&path, 8192)?.contains(&0) {
            tracing::warn!("`{}` is not a text file; it is passed over", path.display());
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Text of a file's bytes, without a byte-order mark.
fn decode<'a>(path: &Path, bytes: &'a [u8], lossy: bool) -> Result<Cow<'a, str>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) if lossy => String::from_utf8_lossy(bytes),
        Err(error) => return Err(Error::InvalidUtf8 { path: path.into(), offset: error.valid_up_to() }),
    };
    Ok(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix('\u{FEFF}').unwrap_or(text)),
        Cow::Owned(text) => match text.strip_prefix('\u{FEFF}') {
            Some(rest) => Cow::Owned(rest.to_owned()),
            None => Cow::Owned(text),
        },
    })
}

fn is_shard(path: &Path) -> bool {
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
        match read(data, None).unwrap() {
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
    fn text_is_decoded_strictly_unless_lossy() {
        let folder = folder(&[("bom.txt", b"\xEF\xBB\xBFa\r\nb\r\n"), ("bad.txt", b"\xEF\xBB\xBFab\xFFc")]);
        assert_eq!(texts(&config(&[folder.path().join("bom.txt")])), ["a\nb\n"]);
        let bad = folder.path().join("bad.txt");
        let mut data = config(std::slice::from_ref(&bad));
        match read(&data, None).err().unwrap() {
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
            read(&config(&paths), None).err().unwrap()
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
        match read(&config(&[shards.path().into()]), None).unwrap() {
            Source::Shards(paths) => {
                assert_eq!(paths, ["a.bin", "b.bin"].map(|name| shards.path().join(name)));
            }
            _ => panic!("no shards"),
        }
        let splits = folder(&[("train.bin", b"\0\0"), ("val.bin", b"\0\0"), ("input.txt", b"x")]);
        assert!(matches!(read(&config(&[splits.path().into()]), None).unwrap(), Source::Splits { .. }));
        let many =
            folder(&[("train-00001.bin", b"\0\0"), ("train-00000.bin", b"\0\0"), ("val.bin", b"\0\0")]);
        match read(&config(&[many.path().into()]), None).unwrap() {
            Source::Splits { train, val, .. } => {
                assert_eq!(train, ["train-00000.bin", "train-00001.bin"].map(|name| many.path().join(name)));
                assert_eq!(val, [many.path().join("val.bin")]);
            }
            _ => panic!("no splits"),
        }
    }
}
