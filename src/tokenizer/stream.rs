//! Decoding one token at a time, for text that appears while it is generated.

use super::Tokenizer;
use crate::error::Result;

/// Gives the text of tokens as they come, and never half of a character: its bytes are held back
/// until the rest of it arrives.
pub struct DecodeStream {
    tokenizer: Tokenizer,
    pending: Pending,
}

/// What has not been given out yet.
enum Pending {
    /// Bytes at the end that may become a character.
    Bytes(Vec<u8>),
    /// For tokenizers whose text depends on neighbouring tokens: the latest tokens, how many of them
    /// are given out and serve as context only, and the text of those.
    Tokens { tokens: Vec<u32>, given: usize, context: String },
}

/// Tokens without complete text after which the text is given out as it is.
const MOST_PENDING: usize = 16;

impl DecodeStream {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        let pending = match tokenizer.inner.codec.token_bytes() {
            Some(_) => Pending::Bytes(Vec::new()),
            None => Pending::Tokens { tokens: Vec::new(), given: 0, context: String::new() },
        };
        Self { tokenizer, pending }
    }

    /// Takes the next token and gives the text that it completes, which may be empty.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) for an id that is not in the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String> {
        match &mut self.pending {
            Pending::Bytes(bytes) => {
                let table = self.tokenizer.inner.codec.token_bytes();
                let token = table.and_then(|table| table.get(id as usize));
                bytes.extend_from_slice(token.ok_or_else(|| self.tokenizer.unknown_id(id))?);
                Ok(complete_text(bytes))
            }
            Pending::Tokens { tokens, given, context } => {
                tokens.push(id);
                let text = self.tokenizer.decode(tokens)?;
                let is_waiting = text.ends_with('\u{FFFD}') && tokens.len() - *given < MOST_PENDING;
                if is_waiting || text.len() <= context.len() {
                    return Ok(String::new());
                }
                let new = text.strip_prefix(context.as_str()).unwrap_or(&text).to_owned();
                tokens.drain(..*given);
                *given = tokens.len();
                *context = self.tokenizer.decode(tokens)?;
                Ok(new)
            }
        }
    }

    /// The text of what is still held back; part of a character becomes U+FFFD.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    pub fn finish(self) -> Result<String> {
        match self.pending {
            Pending::Bytes(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Pending::Tokens { tokens, context, .. } => {
                let text = self.tokenizer.decode(&tokens)?;
                Ok(text.strip_prefix(context.as_str()).unwrap_or(&text).to_owned())
            }
        }
    }
}

/// Takes from `bytes` all but an incomplete character at its end; what cannot become a character is
/// U+FFFD.
fn complete_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut done = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        done += chunk.valid().len();
        let invalid = chunk.invalid();
        let is_last = done + invalid.len() == bytes.len();
        // An incomplete character at the end has no byte that contradicts it.
        let may_go_on = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if invalid.is_empty() || (is_last && may_go_on) {
            continue;
        }
        text.push('\u{FFFD}');
        done += invalid.len();
    }
    bytes.drain(..done);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_back_incomplete_characters_only() {
        let mut bytes = Vec::new();
        let mut given = Vec::new();
        for &byte in "aé🙂\u{FFFD}".as_bytes() {
            bytes.push(byte);
            given.push(complete_text(&mut bytes));
        }
        assert_eq!(given, ["a", "", "é", "", "", "", "🙂", "", "", "\u{FFFD}"]);
        assert!(bytes.is_empty());

        let mut invalid = vec![b'a', 0xFF, b'b', 0xE2, 0x82];
        assert_eq!(complete_text(&mut invalid), "a\u{FFFD}b");
        assert_eq!(invalid, [0xE2, 0x82]);
        invalid.push(b'c');
        assert_eq!(complete_text(&mut invalid), "\u{FFFD}c");
    }
}
