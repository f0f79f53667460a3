//! Writes the tokens of a shard and, beside them, the positions where its documents begin.

use crate::{
    data::shard::{self, Dtype},
    error::{Error, Result},
    platform::storage,
    tokenizer::Tokenizer,
    work::unfinished,
};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Writer of a shard, document by document.
pub(super) struct ShardWriter {
    path: PathBuf,
    beside: PathBuf,
    file: BufWriter<File>,
    tokenizer: Arc<Tokenizer>,
    dtype: Dtype,
    tokens: u64,
    starts: Vec<u64>,
}

impl ShardWriter {
    pub fn new(path: &Path, tokenizer: Arc<Tokenizer>) -> Result<Self> {
        let beside = unfinished(path);
        let file = File::create(&beside).map_err(|error| Error::io("create", &beside, error))?;
        let dtype = Dtype::of(&tokenizer);
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { path: path.into(), beside, file, tokenizer, dtype, tokens: 0, starts: Vec::new() })
    }

    /// Adds a document's tokens, each in four little-endian bytes.
    pub fn document(&mut self, tokens: &[[u8; 4]]) -> Result<()> {
        if tokens.is_empty() {
            return Ok(());
        }
        self.starts.push(self.tokens);
        self.tokens += tokens.len() as u64;
        let written = match self.dtype {
            Dtype::Uint16 => tokens.iter().try_for_each(|token| self.file.write_all(&token[..2])),
            Dtype::Uint32 => self.file.write_all(tokens.as_flattened()),
        };
        written.map_err(|error| Error::io("write", &self.beside, error))
    }

    /// Puts the finished shard in place and returns its numbers of tokens and documents.
    pub fn finish(self) -> Result<(u64, u64)> {
        let failed = |error| Error::io("write", &self.beside, error);
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        storage::rename(&self.beside, &self.path)?;
        shard::describe(&self.path, self.tokens as usize, &self.starts, &self.tokenizer)?;
        Ok((self.tokens, self.starts.len() as u64))
    }
}
