//! Encoding with the range of bytes that each token stands for, by which a mask over a text becomes one over
//! its tokens, and encoding of text in which nothing may become an added token.

use super::{Tokenizer, general};
use crate::error::Result;
use std::ops::Range;
use tokenizers::{Model, OffsetType};

/// A token, and the range of bytes of the text that it stands for. Ranges of neighbours may overlap where a
/// character has several tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRange {
    pub id: u32,
    pub bytes: Range<usize>,
}

/// A token that is found in a text before the rest of the text is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedToken {
    pub id: u32,
    pub text: String,
    /// Whether it stands for no text. `<think>` usually does.
    pub is_special: bool,
}

impl Tokenizer {
    /// Encodes a text like [`encode`](Self::encode), with the bytes of each token.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn encode_with_ranges(&self, text: &str) -> Result<Vec<TokenRange>> {
        if self.inner.codec.encoder().is_some()
            && let Some(tokens) = self.consecutive(self.encode(text)?, text.len())
        {
            return Ok(tokens);
        }
        let encoding = self.inner.hugging_face.encode(text, false);
        Ok(of_encoding(&encoding.map_err(|error| self.cannot_encode(&error))?))
    }

    /// Encodes a text as if there were no added tokens, so that `<|endoftext|>` is spelled in pieces.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn encode_plain(&self, text: &str) -> Result<Vec<TokenRange>> {
        let hugging_face = &self.inner.hugging_face;
        if let Some(encoder) = self.inner.codec.encoder() {
            let mut tokens = Vec::new();
            let encoded = encoder.encode(hugging_face, 0, text, &mut tokens);
            encoded.map_err(|failure| self.error(failure.message(0), None))?;
            if let Some(tokens) = self.consecutive(tokens, text.len()) {
                return Ok(tokens);
            }
        }
        let encoding = general::split_words(hugging_face, text).and_then(|mut words| {
            words.tokenize(|word| hugging_face.get_model().tokenize(word.get()))?;
            words.into_encoding(None, 0, OffsetType::Byte)
        });
        Ok(of_encoding(&encoding.map_err(|error| self.cannot_encode(&error))?))
    }

    /// Tokens that are found in a text before the rest of it is encoded, by id.
    pub fn added_tokens(&self) -> Vec<AddedToken> {
        let added = self.inner.hugging_face.get_added_tokens_decoder().into_iter();
        let added =
            added.map(|(id, token)| AddedToken { id, text: token.content, is_special: token.special });
        let mut tokens: Vec<AddedToken> = added.collect();
        tokens.sort_by_key(|token| token.id);
        tokens
    }

    /// Places tokens one after the other by the lengths of their bytes; `None` if they do not add up to
    /// `length`, because one of them stands for characters that are unknown.
    fn consecutive(&self, tokens: Vec<u32>, length: usize) -> Option<Vec<TokenRange>> {
        let bytes = self.inner.codec.token_bytes()?;
        let mut end = 0;
        let place = |id: u32| {
            let start = end;
            end += bytes.get(id as usize)?.len();
            Some(TokenRange { id, bytes: start..end })
        };
        let placed: Option<Vec<TokenRange>> = tokens.into_iter().map(place).collect();
        placed.filter(|_| end == length)
    }

    fn cannot_encode(&self, error: &tokenizers::Error) -> crate::error::Error {
        self.error(format!("cannot encode the text: {error}"), None)
    }
}

fn of_encoding(encoding: &tokenizers::Encoding) -> Vec<TokenRange> {
    let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
    tokens.map(|(&id, &(start, end))| TokenRange { id, bytes: start..end }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TokenizerConfig, TokenizerKind};

    fn tokenizer(kind: TokenizerKind) -> Tokenizer {
        let config = TokenizerConfig { kind, vocab_size: 300, path: None };
        let special = ["<|end|>".to_owned(), "[PAD]".into()];
        Tokenizer::train(&config, &special, ["ab é<|end> [P A D]\nendless 🦆 ends"]).unwrap()
    }

    const LLAMA_2: &str = include_str!("../../tests/reports/first-space/llama2-like/tokenizer.json");

    #[test]
    fn ranges_cut_the_text_into_its_tokens() {
        let text = "end <|end|>é🦆[PAD]\nab";
        for kind in [TokenizerKind::Char, TokenizerKind::Byte, TokenizerKind::Bpe] {
            let tokenizer = tokenizer(kind);
            let tokens = tokenizer.encode_with_ranges(text).unwrap();
            let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
            assert_eq!(ids, tokenizer.encode(text).unwrap());
            let special = tokenizer.token_id("<|end|>").unwrap();
            let place = tokens.iter().find(|token| token.id == special).unwrap();
            assert_eq!(&text[place.bytes.clone()], "<|end|>");
            assert_eq!(tokens.last().unwrap().bytes.end, text.len());
            assert!(tokens.windows(2).all(|pair| pair[0].bytes.end == pair[1].bytes.start));
        }
    }

    #[test]
    fn plain_text_has_no_added_tokens() {
        for kind in [TokenizerKind::Char, TokenizerKind::Byte, TokenizerKind::Bpe] {
            let tokenizer = tokenizer(kind);
            let special: Vec<u32> = tokenizer.added_tokens().iter().map(|token| token.id).collect();
            assert!(special.len() >= 2);
            let tokens = tokenizer.encode_plain("<|end|>[PAD]").unwrap();
            let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
            assert!(ids.iter().all(|id| !special.contains(id)), "{kind:?} {ids:?}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), "<|end|>[PAD]");
        }
    }

    #[test]
    fn tokenizers_of_other_kinds_know_their_ranges_too() {
        let tokenizer = Tokenizer::from_bytes(LLAMA_2.as_bytes(), "test").unwrap();
        let text = "heron 🦆";
        let tokens = tokenizer.encode_with_ranges(text).unwrap();
        assert_eq!(tokens.iter().map(|token| token.id).collect::<Vec<_>>(), tokenizer.encode(text).unwrap());
        assert_eq!(tokens.last().unwrap().bytes.end, text.len());
        let end = tokenizer.token_id("</s>").unwrap();
        assert!(tokenizer.encode_with_ranges("</s>").unwrap().iter().any(|token| token.id == end));
        assert!(tokenizer.encode_plain("</s>").unwrap().iter().all(|token| token.id != end));
    }
}
