//! Encodes text into tokens and decodes it: with tables if the `tokenizer.json` is of a simple kind,
//! otherwise with the `tokenizers` crate. The kind is recognised from the parts of the document rather than
//! stored, so that a tokenizer from a checkpoint is as fast as a new one.

use super::{added::AddedTexts, alphabet, bpe::BpeEncoder, char_table::CharTable, general::General, json};
use crate::config::TokenizerKind;
use serde_json::Value;
use std::collections::HashMap;
use tokenizers::Model;

pub(super) enum Codec {
    Fast(Fast),
    General(General),
}

/// A tokenizer that works with tables: the added tokens, the encoder of the text between them, and the bytes
/// of every token, which decoding concatenates.
pub(super) struct Fast {
    added: AddedTexts,
    encoder: Encoder,
    tokens: TokenBytes,
}

/// Encoder of a text without added tokens.
pub(super) enum Encoder {
    Char(CharTable),
    Byte,
    Bpe(Box<BpeEncoder>),
}

/// Reason why a text cannot be encoded.
pub(super) enum Failure {
    Character { character: char, offset: usize },
    HuggingFace(tokenizers::Error),
}

impl Failure {
    /// The error message. `before` is the number of bytes of text before the piece that failed.
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

/// Chooses the codec of a tokenizer by its canonical document (as `tokenizers` writes it). `vocabulary` holds
/// all tokens, added ones included, sorted by id.
pub(super) fn choose(
    document: &Value,
    vocabulary: &[(u32, String)],
    hugging_face: &tokenizers::Tokenizer,
) -> (TokenizerKind, Codec) {
    match fast(document, vocabulary) {
        Some((kind, fast)) => (kind, Codec::Fast(fast)),
        None => (TokenizerKind::File, Codec::General(General::new(document, hugging_face))),
    }
}

fn fast(document: &Value, vocabulary: &[(u32, String)]) -> Option<(TokenizerKind, Fast)> {
    let added = AddedTexts::read(document)?;
    if let Some(table) = character_table(document, &added) {
        let tokens = TokenBytes::new(vocabulary, |token| token.as_bytes().into());
        return Some((TokenizerKind::Char, Fast { added, encoder: Encoder::Char(table), tokens }));
    }
    let is_byte_level = document["decoder"]["type"] == "ByteLevel"
        && document["model"]["type"] == "BPE"
        && document["normalizer"].is_null()
        && document["pre_tokenizer"]["type"] == "ByteLevel"
        && document["pre_tokenizer"]["add_prefix_space"] == false;
    if !is_byte_level {
        return None;
    }
    let tokens = TokenBytes::new(vocabulary, alphabet::read);
    if is_bytes(document, &tokens) {
        return Some((TokenizerKind::Byte, Fast { added, encoder: Encoder::Byte, tokens }));
    }
    let encoder = Encoder::Bpe(Box::new(bpe_encoder(document)?));
    Some((TokenizerKind::Bpe, Fast { added, encoder, tokens }))
}

/// Recognises a character tokenizer: a word-level model over single characters, whose pre-tokenizer splits
/// the text into characters and whose decoder joins them. Its vocabulary may contain added tokens too.
fn character_table(document: &Value, added: &AddedTexts) -> Option<CharTable> {
    let model = &document["model"];
    let is_per_character = model["type"] == "WordLevel"
        && document["normalizer"].is_null()
        && document["pre_tokenizer"]["type"] == "Split"
        && document["pre_tokenizer"]["behavior"] == "Isolated"
        && document["pre_tokenizer"]["pattern"]["Regex"] == json::ANY_CHARACTER
        && document["decoder"]["type"] == "Fuse";
    if !is_per_character {
        return None;
    }
    let vocabulary = model["vocab"].as_object()?;
    let unknown = model["unk_token"].as_str().and_then(|token| vocabulary.get(token)).and_then(json::id);
    let mut characters = Vec::with_capacity(vocabulary.len());
    for (token, value) in vocabulary {
        let mut rest = token.chars();
        match (rest.next(), rest.next()) {
            _ if added.contains(token) => {}
            (Some(character), None) => characters.push((character, json::id(value)?)),
            _ if unknown.is_some() && json::id(value) == unknown => {}
            _ => return None,
        }
    }
    Some(CharTable::new(characters.into_iter(), unknown))
}

/// Whether the model has no merges and 256 tokens whose ids are the bytes that they stand for.
fn is_bytes(document: &Value, tokens: &TokenBytes) -> bool {
    document["model"]["vocab"].as_object().is_some_and(|vocabulary| vocabulary.len() == 256)
        && document["model"]["merges"].as_array().is_some_and(Vec::is_empty)
        && (0..=255).all(|byte: u8| tokens.get(usize::from(byte)) == Some(&[byte]))
}

/// Recognises a BPE over GPT-2's words whose tokens depend on nothing but the merges.
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
        .map(|(token, value)| Some((token.as_str(), json::id(value)?)))
        .collect::<Option<_>>()?;
    let merges: Vec<(&str, &str)> = model["merges"]
        .as_array()?
        .iter()
        .map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)))
        .collect::<Option<_>>()?;
    BpeEncoder::new(&vocabulary, merges.into_iter())
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
            Self::Fast(fast) => fast.added.encode(text, tokens, |start, text, tokens| {
                fast.encoder.encode(hugging_face, start, text, tokens)
            }),
            Self::General(general) => {
                general.encode(hugging_face, text, tokens).map_err(Failure::HuggingFace)
            }
        }
    }

    /// The encoder of the text between added tokens, if there is one of our own.
    pub(super) fn encoder(&self) -> Option<&Encoder> {
        match self {
            Self::Fast(fast) => Some(&fast.encoder),
            Self::General(_) => None,
        }
    }

    /// Whether a text can be split between lines without changing its tokens.
    pub(super) fn cuts_at_lines(&self) -> bool {
        match self {
            Self::Fast(fast) => !fast.added.cross_lines(),
            Self::General(general) => general.cuts_at_lines(),
        }
    }

    /// The bytes of every token, if a text is the concatenation of its tokens' bytes.
    pub(super) fn token_bytes(&self) -> Option<&TokenBytes> {
        match self {
            Self::Fast(fast) => Some(&fast.tokens),
            Self::General(_) => None,
        }
    }
}

impl Encoder {
    /// Appends the tokens of a text without added tokens that begins at byte `start` of a longer one.
    pub(super) fn encode(
        &self,
        hugging_face: &tokenizers::Tokenizer,
        start: usize,
        text: &str,
        tokens: &mut Vec<u32>,
    ) -> Result<(), Failure> {
        match self {
            Self::Char(table) => table
                .encode(text, tokens)
                .map_err(|(character, offset)| Failure::Character { character, offset: start + offset }),
            Self::Byte => {
                tokens.extend(text.bytes().map(u32::from));
                Ok(())
            }
            Self::Bpe(encoder) => encoder.encode(text, tokens, |word, tokens| {
                let spelled = alphabet::spell(word.as_bytes());
                let found = hugging_face.get_model().tokenize(&spelled).map_err(Failure::HuggingFace)?;
                tokens.extend(found.iter().map(|token| token.id));
                Ok(())
            }),
        }
    }
}

/// Bytes of every token, by id.
pub(super) struct TokenBytes {
    /// Start and end of each token in `bytes`; `None` for an id without a token.
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
