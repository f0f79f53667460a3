//! Which tokenizer a configuration asks for.

use kiln_base::section;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

section! {
    /// Which tokenizer turns text into tokens.
    #["tokenizer"]
    pub struct TokenizerConfig {
        /// `char`, `byte`, `bpe` (trained on the text) or `file` (a `tokenizer.json`).
        kind: TokenizerKind = TokenizerKind::Char;
        /// Number of tokens that a byte-level BPE is trained to (kind `bpe`).
        vocab_size: usize = 1024;
        /// The `tokenizer.json` to load (kind `file`).
        path: Option<PathBuf> = None;
    }
}

/// The kinds of tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// One token per character that the text contains.
    Char,
    /// One token per byte: 256 tokens, any text.
    Byte,
    /// Byte-level byte-pair encoding, trained on the text.
    Bpe,
    /// A `tokenizer.json` from elsewhere.
    File,
}
