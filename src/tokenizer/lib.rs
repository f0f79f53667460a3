//! Tokenizers: text to token ids and back. All are read from and written as Hugging Face's `tokenizer.json`,
//! which Python's `tokenizers` and `transformers` load with the same result as `encode(text,
//! add_special_tokens=False)` without truncation and padding. Encoding is deterministic: the `dropout` of a
//! BPE is off ([`original`]).
//!
//! The `tokenizers` crate reads, writes and trains them. The kinds that Kiln itself makes, and GPT-2's, are
//! encoded and decoded by faster code of our own ([`codec`]).

pub mod config;
mod added;
mod alphabet;
mod bpe;
mod char_table;
mod chat;
mod charsmap;
mod codec;
mod general;
mod gpt2;
mod hugging_face;
mod json;
mod oniguruma;
mod original;
mod ranges;
mod special;
mod stream;
mod train;
mod word_starts;
mod words;

pub use config::{TokenizerConfig, TokenizerKind};
// Names of lower crates that this one is written with.
use kiln_base::{error, platform};

pub use chat::TOKEN_NAMES;
pub use ranges::{AddedToken, TokenRange};
pub use special::sentinel;
pub use stream::DecodeStream;

use crate::{
    error::{Error, Hint, Result, hint},
    platform::storage,
};
use codec::Codec;
use kiln_gguf::Gguf;
use original::Original;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, OnceLock},
};
use word_starts::{Spelling, WordStarts};

/// Text of the special token that GPT-2 puts between documents, and that Kiln gives its own BPE.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Text of BERT's mask token.
pub const MASK: &str = "[MASK]";

/// Texts of the end-of-text token in Kiln's and other models' tokenizers.
const END_OF_TEXT_NAMES: [&str; 4] = [END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>"];

/// Largest token id that is accepted. Tables are as long as the largest id, so an absurd one is refused
/// rather than allocated.
const LARGEST_ID: u32 = (1 << 24) - 1;

/// Number of bytes of text that are encoded at once.
const PIECE: usize = 1 << 20;

/// Converts text to token ids and back. Clones share their tables.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    end_of_text: Option<u32>,
    end_tokens: Arc<[u32]>,
    /// Source of the chat template that the model's files have, if they have one.
    chat_template: Option<Arc<str>>,
    /// Names that the model's files give to special tokens.
    named_tokens: Arc<BTreeMap<String, String>>,
}

struct Inner {
    /// Origin of the tokenizer, for error messages.
    origin: String,
    hugging_face: tokenizers::Tokenizer,
    original: Original,
    codec: Codec,
    kind: TokenizerKind,
    vocab_size: usize,
    /// Whether a token is special, by id; false beyond the end.
    special: Vec<bool>,
    spelling: Spelling,
    word_starts: OnceLock<WordStarts>,
    fingerprint: String,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or the tokenizer of a GGUF file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let missing = |error: Error| match error {
            Error::Io { path, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Error::NotFound {
                    path,
                    hint: hint!["name a `tokenizer.json` with ", hint::choose("tokenizer.path", "FILE")],
                }
            }
            other => other,
        };
        let origin = format!("`{}`", path.display());
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(kiln_gguf::EXTENSION)) {
            let bytes = storage::map(path).map_err(missing)?;
            return Self::from_document(Gguf::parse(&bytes, path)?.tokenizer()?, &origin);
        }
        Self::from_bytes(&storage::read(path).map_err(missing)?, &origin)
    }

    /// Reads the bytes of a `tokenizer.json`. Error messages call it `origin`.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self> {
        let document =
            serde_json::from_slice(bytes).map_err(|e| refused(origin, format!("is not JSON: {e}")))?;
        Self::from_document(document, origin)
    }

    /// Reads the contents of a `tokenizer.json`. Error messages call it `origin`.
    pub fn from_document(mut document: Value, origin: &str) -> Result<Self> {
        let refused = |message: String| refused(origin, message);
        json::check_model(&document).map_err(refused)?;
        json::check_parts(&document).map_err(refused)?;
        let mut original = Original::take(&mut document).map_err(refused)?;
        json::check_merges(&document).map_err(refused)?;
        let mut hugging_face =
            hugging_face::read(document).map_err(|error| refused(format!("cannot be read: {error}")))?;
        original.take_lengths(&mut hugging_face).map_err(|e| refused(e.to_string()))?;

        let mut vocabulary: Vec<(u32, String)> =
            hugging_face.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        vocabulary.sort_unstable();
        let Some(&(largest, _)) = vocabulary.last() else {
            return Err(refused("has no tokens".into()));
        };
        if largest > LARGEST_ID {
            return Err(refused(format!("has a token with the id {largest}")));
        }
        let mut document = hugging_face::document(&hugging_face).map_err(|e| refused(e.to_string()))?;
        original.restore_patterns(&mut document).map_err(refused)?;
        let (kind, codec) = codec::choose(&document, &vocabulary, &hugging_face);
        let special = special::marks(&document);
        let named = || END_OF_TEXT_NAMES.iter().filter_map(|name| hugging_face.token_to_id(name));
        // A vocabulary may hold such a name as mere text, as Gemma's has tags of HTML.
        let is_special = |id: &u32| special.get(*id as usize).copied().unwrap_or(false);
        let end_of_text = named().find(is_special).or_else(|| named().next());
        Ok(Self {
            end_of_text,
            end_tokens: end_of_text.into_iter().collect(),
            chat_template: None,
            named_tokens: Arc::default(),
            inner: Arc::new(Inner {
                origin: origin.into(),
                codec,
                kind,
                vocab_size: largest as usize + 1,
                special,
                spelling: Spelling::read(&document),
                word_starts: OnceLock::new(),
                fingerprint: fingerprint(&vocabulary),
                original,
                hugging_face,
            }),
        })
    }

    /// The pretty-printed `tokenizer.json`. Its `truncation`, `padding`, `dropout` and patterns are those of
    /// the file that was read, although this library does not use them as they are.
    pub fn to_json(&self) -> Result<String> {
        let unwritable = |e: tokenizers::Error| self.error(format!("cannot be written: {e}"), None);
        let text = self.inner.hugging_face.to_string(true).map_err(unwritable)?;
        self.inner.original.restore(&text).map_err(|e| unwritable(e.into()))
    }

    /// Kind of the tokenizer. A `tokenizer.json` that is a character, byte or GPT-2-like BPE tokenizer has
    /// that kind wherever it came from; all others are `File`.
    pub fn kind(&self) -> TokenizerKind {
        self.inner.kind
    }

    /// Largest token id plus 1.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// The token that ends a document, if there is one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// Tokens that each end a generated text.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// Replaces the end tokens by those that a model's files name.
    pub fn with_end_tokens(self, end_of_text: Option<u32>, end_tokens: &[u32]) -> Self {
        Self { end_of_text, end_tokens: end_tokens.into(), ..self }
    }

    /// Fingerprint of the vocabulary: 16 hexadecimal digits that depend on all tokens and their ids and on
    /// nothing else.
    pub fn fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }

    /// Encodes a text, without the tokens that a template would add at its ends. Text that reads like an
    /// added token (`<|endoftext|>`) becomes that token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] with the character and its byte offset if it is not in the vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        self.encode_each(text, |piece| tokens.extend_from_slice(piece))?;
        Ok(tokens)
    }

    /// Encodes one word of a text, preceded by a space unless it is the first. Also returns the index of the
    /// first token that is more than white space.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn encode_word(&self, word: &str, is_first: bool) -> Result<(Vec<u32>, usize)> {
        let tokens = if is_first { self.encode(word)? } else { self.encode(&format!(" {word}"))? };
        let is_space = |token: &u32| self.token_text(*token).is_some_and(|text| text.trim().is_empty());
        let spaces = tokens.iter().take_while(|token| is_space(token)).count();
        Ok((tokens, spaces))
    }

    /// Encodes a text and passes its tokens to `sink` in pieces, in order, so that the tokens of a long text
    /// need not be in memory at once. Concatenated they are the result of [`encode`](Self::encode).
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode); `sink` has then received the tokens before the failure.
    pub fn encode_each(&self, text: &str, mut sink: impl FnMut(&[u32])) -> Result<()> {
        let piece_length = if self.inner.codec.cuts_at_lines() { PIECE } else { text.len() };
        let mut offset = 0;
        let mut tokens = Vec::new();
        for piece in general::pieces(text, piece_length) {
            tokens.clear();
            self.inner.codec.encode(&self.inner.hugging_face, piece, &mut tokens).map_err(|failure| {
                let hint = hint![
                    "use a tokenizer that takes any text (",
                    hint::set("tokenizer.kind", "byte"),
                    " or `bpe`), or one made from text with this character"
                ];
                self.error(failure.message(offset), Some(hint))
            })?;
            sink(&tokens);
            offset += piece.len();
        }
        Ok(())
    }

    /// Decodes tokens to text, added tokens included. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an id that is not in the vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        if let Some(table) = self.inner.codec.token_bytes() {
            let mut bytes = Vec::new();
            for &id in tokens {
                bytes.extend_from_slice(table.get(id as usize).ok_or_else(|| self.unknown_id(id))?);
            }
            return Ok(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            });
        }
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= self.inner.vocab_size) {
            return Err(self.unknown_id(id));
        }
        self.inner.hugging_face.decode(tokens, false).map_err(|e| self.error(e.to_string(), None))
    }

    /// Decodes one token; an incomplete character becomes U+FFFD. `None` for an id that is not in the
    /// vocabulary.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.decode(&[id]).ok()
    }

    /// Number of bytes that a token adds to a text, 0 for a special token. `None` if it depends on the
    /// neighbours of the token (tokenizers that are not byte-level).
    pub fn token_length(&self, id: u32) -> Option<usize> {
        if self.is_special(id) {
            return Some(0);
        }
        Some(self.inner.codec.token_bytes()?.get(id as usize)?.len())
    }

    /// Starts decoding tokens one at a time, as they are generated. Text that depends on its neighbours, such
    /// as a leading space, is decoded as it would be after the tokens `before`.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode).
    pub fn stream(&self, before: &[u32]) -> Result<DecodeStream> {
        DecodeStream::new(self.clone(), before)
    }

    fn unknown_id(&self, id: u32) -> Error {
        let size = self.inner.vocab_size;
        self.error(format!("token {id} is not in the vocabulary of {size} tokens"), None)
    }

    fn error(&self, message: String, hint: Option<Hint>) -> Error {
        Error::Tokenizer { origin: self.inner.origin.clone(), message, hint }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("kind", &self.inner.kind)
            .field("vocab_size", &self.inner.vocab_size)
            .field("fingerprint", &self.inner.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Error about a `tokenizer.json` that cannot be used.
fn refused(origin: &str, message: String) -> Error {
    Error::Tokenizer {
        origin: origin.into(),
        message,
        hint: Some("it should be a `tokenizer.json` as Hugging Face's `tokenizers` writes it".into()),
    }
}

/// Computes [`Tokenizer::fingerprint`]; `vocabulary` is sorted by id.
fn fingerprint(vocabulary: &[(u32, String)]) -> String {
    let mut hash = Sha256::new();
    for (id, token) in vocabulary {
        hash.update(id.to_le_bytes());
        hash.update((token.len() as u64).to_le_bytes());
        hash.update(token);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
