//! Token shards: files that are mapped into memory rather than read.
//!
//! `NAME.bin` contains only tokens, as little-endian integers of two bytes, or of four if the vocabulary has
//! more than 65,536 tokens. Two-byte shards are the same as nanoGPT's. If Kiln wrote it, there are two more
//! files: `NAME.json` with the width, the number of tokens and the tokenizer, and `NAME.idx` with the
//! positions at which documents begin, as little-endian integers of eight bytes.
//!
//! Shards of llm.c, with a header of 256 integers before the tokens, are read too.

use super::{TokenSplit, split::Store};
use crate::{
    error::{Error, Result},
    platform::storage,
    tokenizer::Tokenizer,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Contents of `NAME.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    dtype: Dtype,
    /// Number of tokens.
    tokens: usize,
    vocab_size: usize,
    /// [`Tokenizer::fingerprint`] of the tokenizer that made the tokens.
    tokenizer: String,
    /// Number of documents. If there is more than one, `NAME.idx` contains their positions.
    documents: usize,
}

/// Integer type of a token, with NumPy's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    Uint16,
    Uint32,
}

impl Dtype {
    /// The narrowest type that fits all tokens.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        if tokenizer.vocab_size() <= 1 << 16 { Self::Uint16 } else { Self::Uint32 }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Uint16 => 2,
            Self::Uint32 => 4,
        }
    }
}

/// Refuses a path for a shard (`NAME.bin`) whose sidecar (`NAME.json`) would be mistaken for a tokenizer or
/// would overwrite a file that is not a sidecar, probably the tokenizer.
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

/// Writes the index and, last, the sidecar of a shard that has been written at `path`. `starts` contains the
/// positions at which its documents begin.
pub fn describe(path: &Path, tokens: usize, starts: &[u64], tokenizer: &Tokenizer) -> Result<()> {
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

/// Maps shards as one split, and checks that every token is in the tokenizer's vocabulary.
///
/// # Errors
/// [`Error::InvalidShard`] if a file is not a shard, is incomplete, or was made with another tokenizer.
pub fn open(name: &'static str, paths: &[PathBuf], tokenizer: &Tokenizer) -> Result<TokenSplit> {
    let mut split = TokenSplit::empty(name);
    for path in paths {
        let refused = |message: String| Error::InvalidShard { path: path.clone(), message };
        let sidecar = read_sidecar(path, tokenizer)?;
        let bytes = storage::map(path)?;
        let header = if sidecar.is_none() { Header::read(path, &bytes)? } else { None };
        let dtype = match (&sidecar, &header) {
            (Some(sidecar), _) => sidecar.dtype,
            (None, Some(header)) => header.dtype,
            (None, None) => Dtype::of(tokenizer),
        };
        if bytes.len() % dtype.bytes() != 0 {
            let (bytes, width, dtype) = (bytes.len(), dtype.bytes(), dtype.name());
            return Err(refused(format!(
                "has {bytes} bytes, which is no multiple of {width}, the size of a token ({dtype}) of this tokenizer"
            )));
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
        if header.is_some() {
            shard = shard.slice(name, HEADER_BYTES / dtype.bytes()..shard.len());
        } else if sidecar.is_none() && is_wider(&shard) {
            let (dtype, width) = (dtype.name(), 2 * dtype.bytes());
            return Err(refused(format!(
                "seems to have {width} bytes or more for a token: as {dtype}, which this tokenizer needs, every other \
                 token is 0"
            )));
        }
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

/// Size of the header of llm.c's shards in bytes: 256 integers, of which three are used.
const HEADER_BYTES: usize = 1024;

/// Header of a shard of llm.c (`dev/data/data_common.py` there).
struct Header {
    dtype: Dtype,
}

impl Header {
    /// Reads the header; `None` if the file is not from llm.c.
    ///
    /// # Errors
    /// [`Error::InvalidShard`] for an incomplete file of llm.c, and for one of Megatron.
    fn read(path: &Path, bytes: &[u8]) -> Result<Option<Self>> {
        let refused = |message: String| Err(Error::InvalidShard { path: path.into(), message });
        let index = path.with_extension("idx");
        if storage::exists(&index) && storage::read_prefix(&index, 7)? == b"MMIDIDX" {
            return refused("is a data set of Megatron, as its `.idx` says, which is not read".into());
        }
        let (integers, _) = bytes.as_chunks();
        let integer = |at: usize| integers.get(at).map_or(0, |&bytes| u32::from_le_bytes(bytes));
        let (dtype, name) = match (integer(0), integer(1)) {
            (20_240_520, 1) => (Dtype::Uint16, "GPT-2"),
            (20_240_801, 7) => (Dtype::Uint32, "Llama 3"),
            _ => return Ok(None),
        };
        let (tokens, length) = (u64::from(integer(2)), bytes.len() as u64);
        if length == HEADER_BYTES as u64 + tokens * dtype.bytes() as u64 {
            return Ok(Some(Self { dtype }));
        }
        refused(format!(
            "has the header of llm.c's shards for {name} with {tokens} tokens, but {length} bytes are not as many"
        ))
    }
}

/// Whether the tokens seem to be wider than they were read: then every other one, the upper half, is zero.
fn is_wider(split: &TokenSplit) -> bool {
    // Fewer may be so by accident.
    const LEAST: usize = 16;
    if split.len() < LEAST || !split.len().is_multiple_of(2) {
        return false;
    }
    let (mut upper, mut lower) = (0, 0);
    split.for_each(|tokens| {
        let (pairs, _) = tokens.as_chunks::<2>();
        lower += pairs.iter().filter(|pair| pair[0] != 0).count();
        upper += pairs.iter().filter(|pair| pair[1] != 0).count();
    });
    upper == 0 && 4 * lower >= split.len() / 2
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

/// Finds a token that is outside the vocabulary.
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

    /// A tokenizer with this number of tokens.
    fn of_characters(count: u32) -> Tokenizer {
        let characters: String = (0x20..).filter_map(char::from_u32).take(count as usize).collect();
        let tokenizer = Tokenizer::train(&TokenizerConfig::default(), &[], [characters.as_str()]).unwrap();
        assert_eq!(tokenizer.vocab_size(), count as usize);
        tokenizer
    }

    #[test]
    fn without_a_sidecar_the_vocabulary_decides_the_width() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("train.bin");
        let ids: Vec<u32> = (0..40).map(|index| [5, 400, 65_535][index % 3]).collect();
        let short: Vec<u8> = ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect();
        let long: Vec<u8> = ids.iter().flat_map(|&id| id.to_le_bytes()).collect();
        let (small, large) = (of_characters(65_536), of_characters(65_537));
        let read = |bytes: &[u8], tokenizer: &Tokenizer| {
            storage::write_synced(&path, bytes).unwrap();
            let split = open("train", std::slice::from_ref(&path), tokenizer);
            split.map(|split| tokens(&split)).map_err(|error| error.to_string())
        };
        let expected: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        assert_eq!(read(&short, &small).unwrap(), expected);
        assert_eq!(read(&long, &large).unwrap(), expected);
        assert!(read(&long, &small).unwrap_err().contains("4 bytes or more for a token"));
        assert!(read(&short, &large).unwrap_err().contains("holds the token"));
        assert!(read(&long[..38], &large).unwrap_err().contains("no multiple of 4"));
        // NumPy's int64.
        let longest: Vec<u8> = ids.iter().flat_map(|&id| u64::from(id).to_le_bytes()).collect();
        assert!(read(&longest, &small).unwrap_err().contains("4 bytes or more for a token"));
        assert!(read(&longest, &large).unwrap_err().contains("8 bytes or more for a token"));
    }

    #[test]
    fn shards_of_llm_c_are_read_without_their_header() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("fineweb_train_000001.bin");
        let header = |magic: u32, version: u32, count: u32| {
            let mut integers = vec![0_u32; 256];
            integers[..3].copy_from_slice(&[magic, version, count]);
            integers.iter().flat_map(|integer| integer.to_le_bytes()).collect::<Vec<u8>>()
        };
        let read = |bytes: &[u8], tokenizer: &Tokenizer| {
            storage::write_synced(&path, bytes).unwrap();
            let split = open("train", std::slice::from_ref(&path), tokenizer);
            split.map(|split| (tokens(&split), split.document_count())).map_err(|error| error.to_string())
        };
        let gpt_2 = [&header(20_240_520, 1, 3)[..], &[5, 0, 6, 0, 200, 0]].concat();
        assert_eq!(read(&gpt_2, &bytes()).unwrap(), (vec![5, 6, 200], 1));
        let llama = [&header(20_240_801, 7, 2)[..], &[5, 0, 0, 0, 6, 0, 0, 0]].concat();
        assert_eq!(read(&llama, &bytes()).unwrap(), (vec![5, 6], 1));
        let message = read(&gpt_2[..1028], &bytes()).unwrap_err();
        assert!(message.contains("llm.c's shards for GPT-2 with 3 tokens, but 1028 bytes"), "{message}");
        storage::write_synced(&path.with_extension("idx"), b"MMIDIDX\0\0").unwrap();
        assert!(read(&[1, 0], &bytes()).unwrap_err().contains("Megatron"));
    }

    #[test]
    fn broken_shards_are_named() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.bin");
        let message =
            |paths: &PathBuf| open("train", std::slice::from_ref(paths), &bytes()).unwrap_err().to_string();
        storage::write_synced(&path, &[1, 0, 2]).unwrap();
        assert!(message(&path).contains("x.bin` has 3 bytes, which is no multiple of 2"));
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
