//! GGUF files as checkpoints. Such a file is one weight file in which everything else is metadata: the small
//! files of a checkpoint are made of them, so that all commands read a model of either format alike.

mod export;

pub use export::GgufExport;
pub use kiln_gguf::TensorType;

use super::{Bytes, Files, names};
use crate::{error::Result, platform::storage, tokenizer::Tokenizer};
use kiln_gguf::Gguf;
use serde_json::Value;
use std::{borrow::Cow, path::Path, sync::Arc};

impl Files {
    /// Maps a GGUF file.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn read_gguf(path: &Path) -> Result<Self> {
        let mut files = Self::new(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.contents.insert(name, Bytes::Mapped(Arc::new(storage::map(path)?)));
        Ok(files)
    }

    /// The GGUF file, if that is what the model is in.
    pub(super) fn gguf(&self) -> Option<&[u8]> {
        self.contents.iter().find(|(name, _)| names::is_gguf(name)).map(|(_, bytes)| &**bytes)
    }

    /// Adds the configuration files that the metadata of a GGUF file describe. Other files stay as they are.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) for a damaged file and for a model that Kiln does not
    /// know.
    pub(super) fn with_described(mut self) -> Result<Self> {
        let Some(bytes) = self.gguf() else { return Ok(self) };
        let file = Gguf::parse(bytes, &self.origin)?;
        let pretty = |json: Value| format!("{json:#}\n").into_bytes();
        let mut described = vec![
            (names::CONFIG, pretty(file.config()?)),
            (names::GENERATION, pretty(file.generation_config()?)),
        ];
        if file.has_tokenizer() {
            described.push((names::TOKENIZER_CONFIG, pretty(file.tokenizer_config()?)));
        }
        let template = file.chat_template()?.map(|template| template.as_bytes().to_vec());
        described.extend(template.map(|template| (names::CHAT_TEMPLATE, template)));
        self.contents.extend(described.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.into())));
        Ok(self)
    }

    /// Whether there is a `tokenizer.json`, or a GGUF file that one can be made of.
    pub(super) fn has_tokenizer(&self) -> bool {
        let described = || Some(Gguf::parse(self.gguf()?, &self.origin).ok()?.has_tokenizer());
        self.get(names::TOKENIZER).is_some() || described().unwrap_or(false)
    }

    /// Reads the tokenizer, which error messages call `origin`. That of a GGUF file is made of its metadata.
    ///
    /// # Errors
    /// Those of [`tokenizer_json`](Self::tokenizer_json), and [`Error::Tokenizer`](crate::Error::Tokenizer) for one
    /// that is broken.
    pub(super) fn tokenizer(&self, origin: &str) -> Result<Tokenizer> {
        if let (None, Some(bytes)) = (self.get(names::TOKENIZER), self.gguf()) {
            return Tokenizer::from_document(Gguf::parse(bytes, &self.origin)?.tokenizer()?, origin);
        }
        Tokenizer::from_bytes(self.require(names::TOKENIZER)?, origin)
    }

    /// The `tokenizer.json`. That of a GGUF file is made when it is asked for.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) if there is none, and
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) for a vocabulary that Kiln does not know.
    pub(super) fn tokenizer_json(&self) -> Result<Cow<'_, [u8]>> {
        if let (None, Some(bytes)) = (self.get(names::TOKENIZER), self.gguf()) {
            let file = Gguf::parse(bytes, &self.origin)?;
            return Ok(Cow::Owned(file.tokenizer()?.to_string().into_bytes()));
        }
        Ok(Cow::Borrowed(self.require(names::TOKENIZER)?))
    }
}
