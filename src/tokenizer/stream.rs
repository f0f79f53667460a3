//! Decoding one token at a time, for text that appears while it is generated.

use super::Tokenizer;
use crate::error::Result;

/// Decodes tokens as they come, and never gives half a character: its bytes are held back until the rest
/// arrives.
pub struct DecodeStream {
    tokenizer: Tokenizer,
    pending: Pending,
}

/// Tokens or bytes whose text has not been given out yet.
enum Pending {
    /// Bytes at the end that are an incomplete character.
    Bytes(Vec<u8>),
    /// For tokenizers whose text depends on neighbouring tokens: the latest tokens, the number of them that
    /// have been given out and only serve as context, and the text of those.
    Tokens { tokens: Vec<u32>, given: usize, context: String },
}

/// Minimum number of earlier tokens with which the next ones are decoded.
const CONTEXT: usize = 8;

/// Number of tokens without a complete character after which their text is given out as it is.
const MOST_PENDING: usize = 16;

impl DecodeStream {
    /// Starts decoding after the tokens `before`, whose text is not given again.
    pub(super) fn new(tokenizer: Tokenizer, before: &[u32]) -> Result<Self> {
        let pending = match tokenizer.inner.codec.token_bytes() {
            Some(_) => Pending::Bytes(Vec::new()),
            None => {
                let (tokens, context) = end_of(&tokenizer, before)?;
                Pending::Tokens { given: tokens.len(), tokens: tokens.to_vec(), context }
            }
        };
        Ok(Self { tokenizer, pending })
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
                let new = continuation(&self.tokenizer, tokens, *given, &text, context)?;
                tokens.drain(..*given);
                *given = tokens.len();
                *context = self.tokenizer.decode(tokens)?;
                Ok(new)
            }
        }
    }

    /// The text that is still held back; an incomplete character becomes U+FFFD.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    pub fn finish(self) -> Result<String> {
        match self.pending {
            Pending::Bytes(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Pending::Tokens { tokens, given, .. } if tokens.len() == given => Ok(String::new()),
            Pending::Tokens { tokens, given, context } => {
                let text = self.tokenizer.decode(&tokens)?;
                continuation(&self.tokenizer, &tokens, given, &text, &context)
            }
        }
    }
}

/// The part of `text` that follows `context`, where `text` is that of `tokens` and `context` that of the
/// first `given` tokens. If later bytes have changed the context, the remaining tokens are decoded on their
/// own.
fn continuation(
    tokenizer: &Tokenizer,
    tokens: &[u32],
    given: usize,
    text: &str,
    context: &str,
) -> Result<String> {
    match text.strip_prefix(context) {
        Some(new) => Ok(new.to_owned()),
        None => tokenizer.decode(&tokens[given..]),
    }
}

/// The last tokens, as many as affect how the next ones are decoded, and their text.
fn end_of<'a>(tokenizer: &Tokenizer, tokens: &'a [u32]) -> Result<(&'a [u32], String)> {
    let mut count = CONTEXT;
    loop {
        let end = &tokens[tokens.len().saturating_sub(count)..];
        let text = if end.is_empty() { String::new() } else { tokenizer.decode(end)? };
        // It may begin within a character.
        if end.len() == tokens.len() || !text.starts_with('\u{FFFD}') {
            return Ok((end, text));
        }
        count *= 2;
    }
}

/// Removes from `bytes` all but an incomplete character at the end and returns it as text; invalid bytes
/// become U+FFFD.
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

    const LLAMA_2: &str = include_str!("../../tests/reports/first-space/llama2-like/tokenizer.json");

    /// A tokenizer with another decoder and with words spelled by `spell`.
    fn with_decoder(decoder: serde_json::Value, spell: impl Fn(&str) -> String) -> Tokenizer {
        let mut document: serde_json::Value = serde_json::from_str(LLAMA_2).unwrap();
        document["decoder"] = decoder;
        let vocabulary = document["model"]["vocab"].as_object().unwrap();
        let spelled = vocabulary.iter().map(|(token, id)| (spell(token), id.clone()));
        let spelled: serde_json::Map<_, _> = spelled.collect();
        let words = serde_json::json!({ "type": "WordLevel", "vocab": spelled, "unk_token": "<unk>" });
        document["model"] = words;
        Tokenizer::from_bytes(document.to_string().as_bytes(), "test").unwrap()
    }

    /// Tokenizers whose decoders each remove the space at the beginning of a text in their own way.
    fn tokenizers() -> Vec<Tokenizer> {
        let word_piece = |token: &str| match token.strip_prefix('▁') {
            Some(word) if !word.is_empty() => word.to_owned(),
            _ => format!("##{token}"),
        };
        let metaspace = serde_json::json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
        let pieces = serde_json::json!({ "type": "WordPiece", "prefix": "##", "cleanup": true });
        vec![
            Tokenizer::from_bytes(LLAMA_2.as_bytes(), "test").unwrap(),
            with_decoder(metaspace, str::to_owned),
            with_decoder(pieces, word_piece),
        ]
    }

    #[test]
    fn what_follows_a_text_is_what_the_whole_adds_to_it() {
        let mut state = 1u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        for tokenizer in tokenizers() {
            assert!(tokenizer.inner.codec.token_bytes().is_none());
            for _ in 0..200 {
                // Words, letters, spaces and special tokens, and a duck of four bytes.
                let mut parts: Vec<Vec<u32>> = Vec::new();
                for _ in 0..2 + random(30) {
                    let id = random(33) as u32;
                    parts.push(if (6..=9).contains(&id) { vec![6, 7, 8, 9] } else { vec![id] });
                }
                let cut = random(parts.len());
                let (before, after) = (parts[..cut].concat(), parts[cut..].concat());
                let mut stream = tokenizer.stream(&before).unwrap();
                let mut text = String::new();
                for &id in &after {
                    text += &stream.push(id).unwrap();
                }
                text += &stream.finish().unwrap();
                let whole = tokenizer.decode(&[before.clone(), after].concat()).unwrap();
                let before = if cut == 0 { String::new() } else { tokenizer.decode(&before).unwrap() };
                assert_eq!(before + &text, whole);
            }
        }
    }

    #[test]
    fn bytes_that_spoil_what_is_given_out_do_not_repeat_it() {
        let tokenizer = &tokenizers()[0];
        // A duck, then the first of its bytes alone.
        let mut stream = tokenizer.stream(&[3]).unwrap();
        let tokens = [6, 7, 8, 9, 6, 4];
        let mut text: String = tokens.iter().map(|&id| stream.push(id).unwrap()).collect();
        text += &stream.finish().unwrap();
        assert_eq!(text, "🦆\u{FFFD} heron");
        // A prompt of many bytes is decoded from the beginning of a character.
        let duck = [6, 7, 8, 9].repeat(5);
        let mut stream = tokenizer.stream(&[&[3][..], &duck].concat()).unwrap();
        assert_eq!(stream.push(4).unwrap(), " heron");
    }
}
