//! Token shards: files that are mapped into memory rather than read.
//!
//! `NAME.bin` holds tokens as little-endian integers of two bytes, or of four where the vocabulary
//! has more than 65,536 tokens, and nothing else: two-byte shards are nanoGPT's. Beside it, if Kiln
//! wrote it, lie `NAME.json` with the width, the number of tokens and the tokenizer, and `NAME.idx`
//! with the positions at which documents begin, as little-endian integers of eight bytes.

use super::{TokenSplit, split::Store};
use crate::{
    error::{Error, Result},
    platform::storage,
    tokenizer::Tokenizer,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// `NAME.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    dtype: Dtype,
    /// Number of tokens.
    tokens: usize,
    vocab_size: usize,
    /// [`Tokenizer::fingerprint`] of the tokenizer that the tokens are of.
    tokenizer: String,
    /// Number of documents. More than one: `NAME.idx` says where they begin.
    documents: usize,
}

/// Width of a token, by NumPy's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dtype {
    Uint16,
    Uint32,
}

impl Dtype {
    /// The narrower one that has room for all tokens.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        if tokenizer.vocab_size() <= 1 << 16 { Self::Uint16 } else { Self::Uint32 }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Uint16 => 2,
            Self::Uint32 => 4,
        }
    }
}

/// Refuses a path for a shard (`NAME.bin`) whose sidecar (`NAME.json`) would be taken for a tokenizer or
/// overwrite a file that is no sidecar: very likely the tokenizer.
///
/// # Errors
/// [`Error::InvalidValue`].
pub fn check_shard_path(path: &Path) -> Result<()> {
    let sidecar = path.with_extension("json");
    let is_tokenizer = sidecar.file_name().is_some_and(|name| name == "tokenizer.json");
    let foreign = |sidecar: &Path| {
        storage::exists(sidecar)
            && storage::read(sidecar).is_ok_and(|json| serde_json::from_slice::<Sidecar>(&json).is_err())
    };
    if !is_tokenizer && !foreign(&sidecar) {
        return Ok(());
    }
    Err(Error::InvalidValue {
        key: "--out".into(),
        value: path.display().to_string(),
        message: format!("its description would be written to `{}`, a tokenizer's place", sidecar.display()),
        hint: Some("choose another name, for example `train.bin`".into()),
    })
}

/// Writes the tokens of a split as a shard at `path` (`NAME.bin`), its sidecar last.
///
/// # Errors
/// [`Error::Io`], and those of [`check_shard_path`] before anything is written.
pub fn write_shard(path: &Path, split: &TokenSplit, tokenizer: &Tokenizer) -> Result<()> {
    check_shard_path(path)?;
    let dtype = Dtype::of(tokenizer);
    let mut bytes = Vec::with_capacity(split.len() * dtype.bytes());
    split.for_each(|tokens| match dtype {
        Dtype::Uint16 => bytes.extend(tokens.iter().flat_map(|&token| (token as u16).to_le_bytes())),
        Dtype::Uint32 => bytes.extend(tokens.iter().flat_map(|&token| (token as u32).to_le_bytes())),
    });
    storage::write_atomic(path, &bytes)?;
    let starts: Vec<u64> =
        (0..split.document_count()).map(|index| split.document(index).start as u64).collect();
    describe(path, split.len(), &starts, tokenizer)
}

/// Writes the index and, last, the sidecar of a shard at `path` that is written; `starts` is where its documents
/// begin.
pub(super) fn describe(path: &Path, tokens: usize, starts: &[u64], tokenizer: &Tokenizer) -> Result<()> {
    if starts.len() > 1 {
        let bytes: Vec<u8> = starts.iter().flat_map(|start| start.to_le_bytes()).collect();
        storage::write_atomic(&path.with_extension("idx"), &bytes)?;
    }
    let sidecar = Sidecar {
        dtype: Dtype::of(tokenizer),
        tokens,
        vocab_size: tokenizer.vocab_size(),
        tokenizer: tokenizer.fingerprint().into(),
        documents: starts.len(),
    };
    let sidecar_path = path.with_extension("json");
    let json = serde_json::to_vec_pretty(&sidecar)
        .map_err(|error| Error::io("write", &sidecar_path, std::io::Error::other(error)))?;
    storage::write_atomic(&sidecar_path, &json)
}

/// Maps shards as one split, and checks that every token is one of `tokenizer`.
///
/// # Errors
/// [`Error::InvalidShard`] if a file is no shard, is not whole, or is not of this tokenizer.
pub(super) fn open(name: &'static str, paths: &[PathBuf], tokenizer: &Tokenizer) -> Result<TokenSplit> {
    let mut split = TokenSplit::empty(name);
    for path in paths {
        let refused = |message: String| Error::InvalidShard { path: path.clone(), message };
        let sidecar = read_sidecar(path, tokenizer)?;
        let dtype = sidecar.as_ref().map_or(Dtype::Uint16, |sidecar| sidecar.dtype);
        let bytes = storage::map(path)?;
        if bytes.len() % dtype.bytes() != 0 {
            let width = dtype.bytes();
            return Err(refused(format!("has {} bytes, which is no multiple of {width}", bytes.len())));
        }
        let store = match dtype {
            Dtype::Uint16 => Store::MappedU16(bytes),
            Dtype::Uint32 => Store::MappedU32(bytes),
        };
        let documents = match &sidecar {
            Some(sidecar) if sidecar.tokens != store.len() => {
                let (tokens, expected) = (store.len(), sidecar.tokens);
                return Err(refused(format!("has {tokens} tokens, but its `.json` says {expected}")));
            }
            Some(sidecar) => read_documents(path, sidecar)?,
            None => Vec::new(),
        };
        let mut shard = TokenSplit::empty(name);
        shard.push(store, documents);
        if let Some(token) = first_outside(&shard, tokenizer.vocab_size()) {
            return Err(refused(format!(
                "holds the token {token}, but the tokenizer has only {} tokens",
                tokenizer.vocab_size()
            )));
        }
        split.append(&shard);
    }
    Ok(split)
}

fn read_sidecar(path: &Path, tokenizer: &Tokenizer) -> Result<Option<Sidecar>> {
    let sidecar_path = path.with_extension("json");
    if !storage::exists(&sidecar_path) {
        return Ok(None);
    }
    let refused = |message: String| Error::InvalidShard { path: sidecar_path.clone(), message };
    let sidecar: Sidecar = serde_json::from_slice(&storage::read(&sidecar_path)?)
        .map_err(|error| refused(format!("does not describe a shard: {error}")))?;
    if sidecar.tokenizer != tokenizer.fingerprint() {
        return Err(refused(format!(
            "names the tokenizer {}, but this one is {}",
            sidecar.tokenizer,
            tokenizer.fingerprint()
        )));
    }
    Ok(Some(sidecar))
}

fn read_documents(path: &Path, sidecar: &Sidecar) -> Result<Vec<usize>> {
    if sidecar.documents <= 1 {
        return Ok(Vec::new());
    }
    let index_path = path.with_extension("idx");
    let bytes = storage::read(&index_path)?;
    let (starts, rest) = bytes.as_chunks();
    let starts: Vec<usize> = starts.iter().map(|&start| u64::from_le_bytes(start) as usize).collect();
    let is_ascending = starts.is_sorted_by(|a, b| a < b);
    let is_inside = starts.first() == Some(&0) && starts.last().is_some_and(|&last| last < sidecar.tokens);
    if rest.is_empty() && starts.len() == sidecar.documents && is_ascending && is_inside {
        Ok(starts)
    } else {
        let message = format!("does not say where {} documents begin", sidecar.documents);
        Err(Error::InvalidShard { path: index_path, message })
    }
}

/// A token that is not below `vocab_size`.
fn first_outside(split: &TokenSplit, vocab_size: usize) -> Option<u32> {
    let mut found = None;
    split.for_each(|tokens| {
        let largest = tokens.iter().map(|&token| token as u32).max();
        found = found.or(largest.filter(|&token| token as usize >= vocab_size));
    });
    found
}

#[cfg(test)]
mod tests {
    use super::{super::Tokens, *};
    use crate::config::{TokenizerConfig, TokenizerKind};
    use tempfile::TempDir;

    fn bytes() -> Tokenizer {
        let config = TokenizerConfig { kind: TokenizerKind::Byte, ..TokenizerConfig::default() };
        Tokenizer::train(&config, &[], [""]).unwrap()
    }

    fn tokens(split: &TokenSplit) -> Vec<i32> {
        let mut all = Vec::new();
        split.for_each(|tokens| all.extend_from_slice(tokens));
        all
    }

    #[test]
    fn shards_come_back_with_their_documents() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.bin");
        let split = TokenSplit::from_tokens("train", Tokens::U16(vec![5, 6, 7, 200]), vec![0, 3]);
        write_shard(&path, &split, &bytes()).unwrap();
        assert_eq!(storage::read(&path).unwrap(), [5, 0, 6, 0, 7, 0, 200, 0]);
        let read = open("train", &[path.clone(), path.clone()], &bytes()).unwrap();
        assert_eq!(tokens(&read), [5, 6, 7, 200, 5, 6, 7, 200]);
        assert_eq!((0..4).map(|i| read.document(i).start).collect::<Vec<_>>(), [0, 3, 4, 7]);
        assert_eq!(open("train", &[path], &bytes()).unwrap().fingerprint(), split.fingerprint());
    }

    #[test]
    fn large_vocabularies_take_four_bytes() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.bin");
        let characters: String = (0x20..0x20000).filter_map(char::from_u32).collect();
        let large = Tokenizer::train(&TokenizerConfig::default(), &[], [characters.as_str()]).unwrap();
        let split = TokenSplit::from_tokens("train", Tokens::U32(vec![1, 70_000]), vec![]);
        write_shard(&path, &split, &large).unwrap();
        assert_eq!(storage::len(&path).unwrap(), 8);
        assert_eq!(tokens(&open("train", &[path], &large).unwrap()), [1, 70_000]);
    }

    #[test]
    fn nanogpts_shards_need_no_sidecar() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("train.bin");
        storage::write_synced(&path, &[1, 0, 255, 0]).unwrap();
        let split = open("train", &[path], &bytes()).unwrap();
        assert_eq!((tokens(&split), split.document_count()), (vec![1, 255], 1));
    }

    #[test]
    fn broken_shards_are_named() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.bin");
        let message =
            |paths: &PathBuf| open("train", std::slice::from_ref(paths), &bytes()).unwrap_err().to_string();
        storage::write_synced(&path, &[1, 0, 2]).unwrap();
        assert!(message(&path).ends_with("x.bin` has 3 bytes, which is no multiple of 2"));
        storage::write_synced(&path, &[1, 0, 0, 1]).unwrap();
        assert!(message(&path).contains("the token 256, but the tokenizer has only 256"));

        let split = TokenSplit::from_tokens("train", Tokens::U16(vec![5, 6, 7]), vec![0, 1]);
        write_shard(&path, &split, &bytes()).unwrap();
        storage::write_synced(&path, &[1, 0]).unwrap();
        assert!(message(&path).contains("has 1 tokens, but its `.json` says 3"));
        write_shard(&path, &split, &bytes()).unwrap();
        storage::write_synced(&folder.path().join("x.idx"), &[0; 16]).unwrap();
        assert!(message(&path).contains("x.idx` does not say where 2 documents begin"));

        let other = Tokenizer::train(&TokenizerConfig::default(), &[], ["abcdefgh"]).unwrap();
        assert!(
            open("train", std::slice::from_ref(&path), &other)
                .unwrap_err()
                .to_string()
                .contains("x.json` names")
        );
        storage::write_synced(&folder.path().join("x.json"), b"{}").unwrap();
        assert!(message(&path).contains("x.json` does not describe a shard"));
    }
}
