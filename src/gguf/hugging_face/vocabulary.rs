//! Makes a file's metadata of a `tokenizer.json`.

use super::{
    CHAT_TEMPLATE, END_TOKENS, TOKENS,
    pre_tokenizer::Splitting,
    scores, template,
    tokenizer::{ADD_BOS, ADD_EOS, ADD_PREFIX, KINDS, MERGES, MODEL, PRE, SCORES, SPACE, TEXTS, kind},
};
use crate::{Array, Value};
use serde_json::{Value as Json, json};
use std::borrow::Cow;

/// Tokens of a model that have a meaning of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// Tokens that end a text. The first one ends a document, the others a turn and a message.
    pub ends: Vec<u32>,
    pub padding: Option<u32>,
}

/// Makes the metadata of a tokenizer. The model has embeddings of `vocab_size` tokens.
///
/// # Errors
/// A message for a tokenizer that GGUF cannot express.
pub fn tokenizer_metadata<'a>(
    document: &'a Json,
    vocab_size: usize,
    special: &SpecialTokens,
    chat_template: Option<&'a str>,
) -> Result<Vec<(String, Value<'a>)>, String> {
    let model = &document["model"];
    let is_sentence_piece = model["byte_fallback"] == true;
    if model["type"] != "BPE" || !(is_sentence_piece || document["decoder"]["type"] == "ByteLevel") {
        return Err(format!(
            "its model is {}, but GGUF has only those of byte pairs (BPE) for these models",
            model["type"]
        ));
    }
    let tokens = Tokens::read(document, vocab_size)?;
    let merges = merges(model)?;
    let mut all = match is_sentence_piece {
        true => sentence_piece(document, &tokens, &merges)?,
        false => byte_level(document, &merges)?,
    };
    let [before, after] = template::around(&document["post_processor"])?;
    let named = |text: Option<&str>| text.map(|text| tokens.id(text)).transpose();
    let (first, last) = (named(before)?, named(after)?);
    all.push((TEXTS, Value::Array(Array::Text(tokens.texts))));
    all.push((KINDS, Value::Array(Array::I32(tokens.kinds))));
    // What a tokenizer adds is the token of that name.
    let mut ends = special.ends.iter().copied();
    let ids = [first.or(special.bos), last.or(ends.next()), special.padding, tokens.unknown];
    for ((key, _), id) in TOKENS.iter().zip(ids) {
        all.extend(id.map(|id| (*key, Value::U32(id))));
    }
    all.extend(END_TOKENS[1..].iter().zip(ends).map(|(key, id)| (*key, Value::U32(id))));
    all.push((ADD_BOS, Value::Bool(first.is_some())));
    all.push((ADD_EOS, Value::Bool(last.is_some())));
    all.extend(chat_template.map(|template| (CHAT_TEMPLATE, template.into())));
    Ok(all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Tokens by id.
struct Tokens<'a> {
    texts: Vec<Cow<'a, str>>,
    kinds: Vec<i32>,
    unknown: Option<u32>,
}

impl<'a> Tokens<'a> {
    fn read(document: &'a Json, vocab_size: usize) -> Result<Self, String> {
        let mut texts: Vec<Option<Cow<'a, str>>> = vec![None; vocab_size];
        let mut kinds = vec![kind::UNUSED; vocab_size];
        let mut put = |text: &'a str, id: &Json, kind: i32| {
            let place = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < vocab_size);
            let place = place.ok_or_else(|| {
                format!(
                    "its token `{}` has the id {id}, but the model has {vocab_size} tokens",
                    text.escape_debug()
                )
            })?;
            (texts[place], kinds[place]) = (Some(text.into()), kind);
            Ok::<_, String>(())
        };
        let vocabulary = document["model"]["vocab"].as_object().ok_or("its vocabulary is missing")?;
        let is_sentence_piece = document["model"]["byte_fallback"] == true;
        for (text, id) in vocabulary {
            let is_byte = is_sentence_piece && is_byte(text);
            put(text, id, if is_byte { kind::BYTE } else { kind::NORMAL })?;
        }
        for token in document["added_tokens"].as_array().into_iter().flatten() {
            let text = token["content"].as_str().unwrap_or_default();
            let is_special = token["special"] == true;
            put(text, &token["id"], if is_special { kind::CONTROL } else { kind::USER_DEFINED })?;
        }
        // Rows of the embedding that stand for no token.
        let unused =
            |(id, text): (usize, Option<Cow<'a, str>>)| text.unwrap_or_else(|| format!("[PAD{id}]").into());
        let texts = texts.into_iter().enumerate().map(unused).collect();
        let mut tokens = Self { texts, kinds, unknown: None };
        if let Some(text) = document["model"]["unk_token"].as_str() {
            let id = tokens.id(text)?;
            tokens.kinds[id as usize] = kind::UNKNOWN;
            tokens.unknown = Some(id);
        }
        Ok(tokens)
    }

    /// Id of a token by its text.
    fn id(&self, text: &str) -> Result<u32, String> {
        let id = self.texts.iter().position(|other| other == text);
        id.map(|id| id as u32)
            .ok_or_else(|| format!("its token `{}` is not in its vocabulary", text.escape_debug()))
    }
}

/// Whether a text is that of a byte, for example `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|text| text.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// The merges, which a file has as texts or as pairs.
fn merges<'a>(model: &'a Json) -> Result<Vec<(&'a str, &'a str)>, String> {
    let merges = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pair = |(merge, rank): (&'a Json, usize)| {
        let pair = match merge {
            Json::String(line) => line.split_once(' '),
            Json::Array(pair) => match &pair[..] {
                [Json::String(left), Json::String(right)] => Some((&**left, &**right)),
                _ => None,
            },
            _ => None,
        };
        pair.ok_or_else(|| format!("its merge {rank} is no pair of tokens"))
    };
    merges.iter().zip(0..).map(pair).collect()
}

type Entries<'a> = Vec<(&'static str, Value<'a>)>;

fn byte_level<'a>(document: &Json, merges: &[(&str, &str)]) -> Result<Entries<'a>, String> {
    let name = match Splitting::name_of(document) {
        Some(name) => name,
        // Without merges every byte is a token, however words are split.
        None if merges.is_empty() && document["normalizer"].is_null() => "gpt-2",
        None => return Err("it splits texts into words in a way that GGUF has no name for".into()),
    };
    let lines = merges.iter().map(|(left, right)| format!("{left} {right}").into());
    Ok(vec![(MODEL, "gpt2".into()), (PRE, name.into()), (MERGES, Value::Array(Array::Text(lines.collect())))])
}

fn sentence_piece<'a>(
    document: &Json,
    tokens: &Tokens<'_>,
    merges: &[(&str, &str)],
) -> Result<Entries<'a>, String> {
    let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    let prefix = json!({ "type": "Prepend", "prepend": SPACE });
    let normalizers = document["normalizer"]["normalizers"].as_array().map(Vec::as_slice);
    let has_prefix = match normalizers {
        Some([first, second]) if *first == prefix && *second == spaces => true,
        Some([only]) if *only == spaces => false,
        _ => return Err("its normalizer is not SentencePiece's, the only one that GGUF has".into()),
    };
    if !document["pre_tokenizer"].is_null() {
        return Err(
            "it splits texts into words before SentencePiece's merges, which GGUF cannot express".into()
        );
    }
    let texts = tokens.texts.iter().zip(&tokens.kinds).zip(0u32..);
    let is_piece = |kind: i32| matches!(kind, kind::NORMAL | kind::BYTE);
    let pieces: Vec<(&str, u32)> =
        texts.filter(|((_, kind), _)| is_piece(**kind)).map(|((text, _), id)| (&**text, id)).collect();
    let of_pieces = scores::scores(&pieces, merges)?;
    let mut scores = vec![0.0; tokens.texts.len()];
    for ((_, id), score) in pieces.iter().zip(of_pieces) {
        scores[*id as usize] = score;
    }
    Ok(vec![
        (MODEL, "llama".into()),
        (PRE, "default".into()),
        (SCORES, Value::Array(Array::F32(scores))),
        (ADD_PREFIX, Value::Bool(has_prefix)),
    ])
}
