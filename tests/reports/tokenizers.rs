//! Tokenizer files.
