//! Makes a `tokenizer.json` of the vocabulary in a file's metadata.

use super::{
    TOKENS,
    pre_tokenizer::Splitting,
    scores::{self, Piece},
    template,
};
use crate::Metadata;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::HashSet};

/// Keys of the metadata.
pub(super) const MODEL: &str = "tokenizer.ggml.model";
pub(super) const PRE: &str = "tokenizer.ggml.pre";
pub(super) const TEXTS: &str = "tokenizer.ggml.tokens";
pub(super) const KINDS: &str = "tokenizer.ggml.token_type";
pub(super) const MERGES: &str = "tokenizer.ggml.merges";
pub(super) const SCORES: &str = "tokenizer.ggml.scores";
pub(super) const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
pub(super) const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
pub(super) const ADD_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// SentencePiece's space.
pub(super) const SPACE: &str = "\u{2581}";

/// Kinds of tokens in [`KINDS`].
pub(super) mod kind {
    pub const NORMAL: i32 = 1;
    pub const UNKNOWN: i32 = 2;
    /// Special tokens.
    pub const CONTROL: i32 = 3;
    /// Texts that always become one token.
    pub const USER_DEFINED: i32 = 4;
    /// Numbers that stand for no token.
    pub const UNUSED: i32 = 5;
    pub const BYTE: i32 = 6;
}

pub(super) fn tokenizer(metadata: &Metadata<'_>) -> Result<Value, String> {
    let model = metadata.text(MODEL)?.ok_or_else(|| format!("`{MODEL}` is missing"))?;
    let tokens = Tokens::read(metadata)?;
    match model {
        "gpt2" => byte_level(metadata, &tokens),
        "llama" => sentence_piece(metadata, &tokens),
        other => Err(format!(
            "`{MODEL}` is `{other}`, but kiln knows gpt2 (BPE of bytes) and llama (SentencePiece's)"
        )),
    }
}

/// Texts of the tokens, and their kinds.
#[derive(Clone, Copy)]
struct Tokens<'m> {
    texts: &'m [Cow<'m, str>],
    kinds: Option<&'m [i32]>,
}

impl<'m> Tokens<'m> {
    fn read(metadata: &'m Metadata<'_>) -> Result<Self, String> {
        let texts = metadata.texts(TEXTS)?.filter(|texts| !texts.is_empty());
        let texts = texts.ok_or_else(|| format!("`{TEXTS}` is missing"))?;
        let kinds = metadata.integers(KINDS)?;
        if kinds.is_some_and(|kinds| kinds.len() != texts.len()) {
            return Err(format!("`{KINDS}` and `{TEXTS}` differ in length"));
        }
        let tokens = Self { texts, kinds };
        let mut seen = HashSet::with_capacity(texts.len());
        match tokens.used().find(|(_, text, _)| !seen.insert(*text)) {
            Some((id, text, _)) => Err(format!("token {id}, `{}`, is there twice", text.escape_debug())),
            None => Ok(tokens),
        }
    }

    /// Every token that is used: its id, text and kind.
    fn used(self) -> impl Iterator<Item = (u32, &'m str, i32)> {
        let Self { texts, kinds } = self;
        let tokens = texts
            .iter()
            .zip(0u32..)
            .map(move |(text, id)| (id, &**text, kinds.map_or(kind::NORMAL, |kinds| kinds[id as usize])));
        tokens.filter(|(_, _, kind)| *kind != kind::UNUSED)
    }

    fn vocabulary(&self) -> Map<String, Value> {
        self.used().map(|(id, text, _)| (text.to_owned(), id.into())).collect()
    }

    /// The `added_tokens`: those that are found in a text before the rest is split.
    fn added(&self) -> Vec<Value> {
        let is_added = |kind| matches!(kind, kind::UNKNOWN | kind::CONTROL | kind::USER_DEFINED);
        let added = self.used().filter(|(_, text, kind)| is_added(*kind) && !text.is_empty());
        let entry = |(id, text, kind)| {
            json!({
                "id": id,
                "content": text,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": kind != kind::USER_DEFINED,
            })
        };
        added.map(entry).collect()
    }

    /// Text and id of the token that a key names.
    fn named(&self, metadata: &Metadata<'_>, key: &str) -> Result<Option<(&'m str, u32)>, String> {
        let Some(id) = metadata.unsigned(key)? else { return Ok(None) };
        let text = usize::try_from(id).ok().and_then(|id| self.texts.get(id));
        let text =
            text.ok_or_else(|| format!("`{key}` is {id}, but there are {} tokens", self.texts.len()))?;
        Ok(Some((text, id as u32)))
    }

    /// Makes the `post_processor`. `adds_bos` says what holds where the metadata do not say.
    fn post_processor(&self, metadata: &Metadata<'_>, adds_bos: bool) -> Result<Value, String> {
        let token = |flag: &str, default: bool, key: &str| match metadata.flag(flag)?.unwrap_or(default) {
            true => self.named(metadata, key),
            false => Ok(None),
        };
        let [(bos, _), (eos, _), ..] = TOKENS;
        Ok(template::post_processor(token(ADD_BOS, adds_bos, bos)?, token(ADD_EOS, false, eos)?))
    }
}

/// A BPE of bytes, as GPT-2's.
fn byte_level(metadata: &Metadata<'_>, tokens: &Tokens<'_>) -> Result<Value, String> {
    let splitting = Splitting::named(metadata.text(PRE)?.unwrap_or("default"))?;
    let merges = metadata.texts(MERGES)?.ok_or_else(|| format!("`{MERGES}` is missing"))?;
    let pair = |(merge, rank): (&Cow<'_, str>, usize)| {
        // The first token is at least one character, which may be a space.
        let start = merge.chars().next().map_or(0, char::len_utf8);
        let space = merge[start..].find(' ').map(|at| start + at);
        let space = space.ok_or_else(|| format!("merge {rank}, `{}`, is no pair", merge.escape_debug()))?;
        Ok(json!([merge[..space], merge[space + 1..]]))
    };
    let merges = merges.iter().zip(0..).map(pair).collect::<Result<Vec<_>, String>>()?;
    let mut document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": splitting.normalizer,
        "pre_tokenizer": splitting.pre_tokenizer,
        "post_processor": tokens.post_processor(metadata, splitting.adds_bos)?,
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": splitting.ignore_merges,
        },
    });
    // Not in the macro, which would copy them.
    document["model"]["vocab"] = tokens.vocabulary().into();
    document["model"]["merges"] = merges.into();
    Ok(document)
}

/// A BPE of characters with single bytes for the rest, as Llama's by SentencePiece.
fn sentence_piece(metadata: &Metadata<'_>, tokens: &Tokens<'_>) -> Result<Value, String> {
    let scores = metadata.floats(SCORES)?.ok_or_else(|| format!("`{SCORES}` is missing"))?;
    if scores.len() != tokens.texts.len() {
        return Err(format!("`{SCORES}` and `{TEXTS}` differ in length"));
    }
    let pieces = tokens.used().filter(|(_, _, kind)| matches!(*kind, kind::NORMAL | kind::BYTE));
    let pieces = pieces.map(|(id, text, _)| Piece { text, id, score: scores[id as usize] });
    let merges = scores::merges(&pieces.collect::<Vec<_>>());
    let unknown = match tokens.named(metadata, TOKENS[3].0)? {
        Some((text, _)) => Some(text),
        None => tokens.used().find(|(_, _, kind)| *kind == kind::UNKNOWN).map(|(_, text, _)| text),
    };
    let has_prefix = metadata.flag(ADD_PREFIX)?.unwrap_or(true);
    let prefix = has_prefix.then(|| json!({ "type": "Prepend", "prepend": SPACE }));
    let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    let strip = has_prefix.then(|| json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    let decoders = [
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    let mut document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": {
            "type": "Sequence",
            "normalizers": prefix.into_iter().chain([spaces]).collect::<Vec<_>>(),
        },
        "pre_tokenizer": null,
        "post_processor": tokens.post_processor(metadata, true)?,
        "decoder": { "type": "Sequence", "decoders": decoders.into_iter().chain(strip).collect::<Vec<_>>() },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "merges": merges,
        },
    });
    // Not in the macro, which would copy it.
    document["model"]["vocab"] = tokens.vocabulary().into();
    Ok(document)
}
