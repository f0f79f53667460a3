//! How a tokenizer's text is turned into tokens and back: by tables where the `tokenizer.json` is one
//! of the simple kinds, by the `tokenizers` crate otherwise. What a document is, is read off its
//! parts, not remembered, so that a tokenizer from a checkpoint is as fast as a fresh one.

use super::{alphabet, bpe::BpeEncoder, char_table::CharTable, general::General, json};
use crate::config::TokenizerKind;
use serde_json::Value;
use std::collections::HashMap;
use tokenizers::Model;

/// Encoder, and the bytes of every token where decoding is concatenation.
pub(super) enum Codec {
    Char { table: CharTable, tokens: TokenBytes },
    Byte { tokens: TokenBytes },
    Bpe { encoder: Box<BpeEncoder>, added: Vec<AddedText>, tokens: TokenBytes },
    General(General),
}

/// Why a text has no tokens.
pub(super) enum Failure {
    Character { character: char, offset: usize },
    HuggingFace(tokenizers::Error),
}

impl Failure {
    /// What to tell; `before`: bytes of text before the piece that failed.
    pub(super) fn message(&self, before: usize) -> String {
        match self {
            Self::Character { character, offset } => format!(
                "the character {character:?} (U+{:04X}) at byte {} is not in the vocabulary",
                u32::from(*character),
                before + offset
            ),
            Self::HuggingFace(error) => format!("cannot encode the text: {error}"),
        }
    }
}

/// Chooses by the canonical document (as `tokenizers` writes it) of a tokenizer.
/// `vocabulary`: all tokens, added ones included, sorted by id.
pub(super) fn choose(
    document: &Value,
    vocabulary: &[(u32, String)],
    hugging_face: &tokenizers::Tokenizer,
) -> (TokenizerKind, Codec) {
    if let Some(table) = character_table(document) {
        let tokens = TokenBytes::new(vocabulary, |token| token.as_bytes().into());
        return (TokenizerKind::Char, Codec::Char { table, tokens });
    }
    let is_byte_level = document["decoder"]["type"] == "ByteLevel"
        && document["model"]["type"] == "BPE"
        && document["normalizer"].is_null()
        && document["pre_tokenizer"]["type"] == "ByteLevel"
        && document["pre_tokenizer"]["add_prefix_space"] == false;
    if is_byte_level {
        let tokens = TokenBytes::new(vocabulary, alphabet::read);
        if is_bytes(document, &tokens) {
            return (TokenizerKind::Byte, Codec::Byte { tokens });
        }
        if let (Some(encoder), Some(added)) = (bpe_encoder(document), added_texts(document)) {
            return (TokenizerKind::Bpe, Codec::Bpe { encoder: Box::new(encoder), added, tokens });
        }
    }
    (TokenizerKind::File, Codec::General(General::new(document, hugging_face)))
}

/// A word-level model over single characters, cut into characters and joined again.
fn character_table(document: &Value) -> Option<CharTable> {
    let model = &document["model"];
    let is_per_character = model["type"] == "WordLevel"
        && document["normalizer"].is_null()
        && document["pre_tokenizer"]["type"] == "Split"
        && document["pre_tokenizer"]["behavior"] == "Isolated"
        && document["pre_tokenizer"]["pattern"]["Regex"] == json::ANY_CHARACTER
        && document["decoder"]["type"] == "Fuse"
        && document["added_tokens"].as_array().is_some_and(Vec::is_empty);
    if !is_per_character {
        return None;
    }
    let vocabulary = model["vocab"].as_object()?;
    let unknown = model["unk_token"].as_str().and_then(|token| vocabulary.get(token)).and_then(id);
    let mut characters = Vec::with_capacity(vocabulary.len());
    for (token, value) in vocabulary {
        let mut rest = token.chars();
        match (rest.next(), rest.next()) {
            (Some(character), None) => characters.push((character, id(value)?)),
            _ if unknown.is_some() && id(value) == unknown => {}
            _ => return None,
        }
    }
    Some(CharTable::new(characters.into_iter(), unknown))
}

/// 256 tokens without merges whose id is the byte they stand for.
fn is_bytes(document: &Value, tokens: &TokenBytes) -> bool {
    document["added_tokens"].as_array().is_some_and(Vec::is_empty)
        && document["model"]["merges"].as_array().is_some_and(Vec::is_empty)
        && tokens.spans.len() == 256
        && (0..=255).all(|byte: u8| tokens.get(usize::from(byte)) == Some(&[byte]))
}

/// A BPE over GPT-2's words whose merges alone decide.
fn bpe_encoder(document: &Value) -> Option<BpeEncoder> {
    let model = &document["model"];
    let is_plain = document["pre_tokenizer"]["use_regex"] == true
        && model["ignore_merges"] == false
        && model["dropout"].as_f64().unwrap_or(0.0) == 0.0
        && model["continuing_subword_prefix"].as_str().unwrap_or("").is_empty()
        && model["end_of_word_suffix"].as_str().unwrap_or("").is_empty();
    if !is_plain {
        return None;
    }
    let vocabulary: HashMap<&str, u32> = model["vocab"]
        .as_object()?
        .iter()
        .map(|(token, value)| Some((token.as_str(), id(value)?)))
        .collect::<Option<_>>()?;
    let merges: Vec<(&str, &str)> = model["merges"]
        .as_array()?
        .iter()
        .map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)))
        .collect::<Option<_>>()?;
    BpeEncoder::new(&vocabulary, merges.into_iter())
}

/// A text that becomes one token wherever it stands.
pub(super) struct AddedText {
    text: String,
    id: u32,
}

/// Added tokens, longest first; `None` if one of them has a condition on its surroundings, or if they
/// would be looked for in two passes.
fn added_texts(document: &Value) -> Option<Vec<AddedText>> {
    let list = document["added_tokens"].as_array()?;
    let is_plain = |token: &Value| {
        ["single_word", "lstrip", "rstrip"].iter().all(|flag| token[*flag] == false)
            && token["normalized"] == list[0]["normalized"]
    };
    let mut added = list
        .iter()
        .map(|token| {
            let text = token["content"].as_str().filter(|text| !text.is_empty() && is_plain(token))?;
            Some(AddedText { text: text.into(), id: id(&token["id"])? })
        })
        .collect::<Option<Vec<_>>>()?;
    added.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
    Some(added)
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

impl Codec {
    /// Appends the tokens of `text`.
    pub(super) fn encode(
        &self,
        hugging_face: &tokenizers::Tokenizer,
        text: &str,
        tokens: &mut Vec<u32>,
    ) -> Result<(), Failure> {
        match self {
            Self::Char { table, .. } => table
                .encode(text, tokens)
                .map_err(|(character, offset)| Failure::Character { character, offset }),
            Self::Byte { .. } => {
                tokens.extend(text.bytes().map(u32::from));
                Ok(())
            }
            Self::Bpe { encoder, added, .. } => {
                let long_word = |word: &str, tokens: &mut Vec<u32>| {
                    let spelled = alphabet::spell(word.as_bytes());
                    let found = hugging_face.get_model().tokenize(&spelled).map_err(Failure::HuggingFace)?;
                    tokens.extend(found.iter().map(|token| token.id));
                    Ok(())
                };
                let mut done = 0;
                for (start, token) in
                    (AddedMatches { text, added, next: vec![Some(0); added.len()], done: 0 })
                {
                    encoder.encode(&text[done..start], tokens, long_word)?;
                    tokens.push(token.id);
                    done = start + token.text.len();
                }
                encoder.encode(&text[done..], tokens, long_word)
            }
            Self::General(general) => {
                general.encode(hugging_face, text, tokens).map_err(Failure::HuggingFace)
            }
        }
    }

    /// Whether a text may be cut between lines without a change of its tokens.
    pub(super) fn cuts_at_lines(&self) -> bool {
        match self {
            Self::Char { .. } | Self::Byte { .. } => true,
            Self::Bpe { added, .. } => added.iter().all(|token| !token.text.contains('\n')),
            Self::General(general) => general.cuts_at_lines(),
        }
    }

    /// The bytes of every token, if a text is the concatenation of its tokens' bytes.
    pub(super) fn token_bytes(&self) -> Option<&TokenBytes> {
        match self {
            Self::Char { tokens, .. } | Self::Byte { tokens } | Self::Bpe { tokens, .. } => Some(tokens),
            Self::General(_) => None,
        }
    }
}

/// Where added tokens stand in a text: leftmost first, the longest where several begin.
struct AddedMatches<'a> {
    text: &'a str,
    /// Longest first.
    added: &'a [AddedText],
    /// Where each occurs next. Positions before `done` are out of date; `None`: not any more.
    next: Vec<Option<usize>>,
    done: usize,
}

impl<'a> Iterator for AddedMatches<'a> {
    type Item = (usize, &'a AddedText);

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<Self::Item> = None;
        for (token, next) in self.added.iter().zip(&mut self.next) {
            // Each token's search goes over the text once, however often the others occur.
            if self.done == 0 || next.is_some_and(|at| at < self.done) {
                *next = self.text[self.done..].find(&token.text).map(|at| at + self.done);
            }
            if let Some(at) = *next
                && first.is_none_or(|(start, _)| at < start)
            {
                first = Some((at, token));
            }
        }
        let (start, token) = first?;
        self.done = start + token.text.len();
        Some((start, token))
    }
}

/// Bytes of all tokens, by id.
pub(super) struct TokenBytes {
    /// Where in `bytes` a token lies: start and end; `None` for an id without a token.
    spans: Vec<Option<(u32, u32)>>,
    bytes: Vec<u8>,
}

impl TokenBytes {
    fn new(vocabulary: &[(u32, String)], read: impl Fn(&str) -> Box<[u8]>) -> Self {
        let mut table = Self { spans: Vec::new(), bytes: Vec::new() };
        for (id, token) in vocabulary {
            let start = table.bytes.len() as u32;
            table.bytes.extend_from_slice(&read(token));
            table.spans.resize(*id as usize + 1, None);
            table.spans[*id as usize] = Some((start, table.bytes.len() as u32));
        }
        table
    }

    pub(super) fn get(&self, id: usize) -> Option<&[u8]> {
        let &(start, end) = self.spans.get(id)?.as_ref()?;
        self.bytes.get(start as usize..end as usize)
    }
}
