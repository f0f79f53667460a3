//! Training of tokenizers on text.

use super::{END_OF_TEXT, Tokenizer, alphabet, general::pieces, json, words::Words};
use crate::{
    config::{TokenizerConfig, TokenizerKind},
    error::{Error, Result, hint},
};
use tokenizers::{
    AddedToken, Trainer,
    models::bpe::{BPE, BpeTrainer},
};

/// Number of tokens of a BPE that stand for single bytes.
const BYTES: usize = 256;

/// Number of bytes of text whose words are counted at once.
const PIECE: usize = 256 << 10;

impl Tokenizer {
    /// Makes the tokenizer that a configuration describes. `texts` is all of the text that it learns from. A
    /// BPE whose text has too few distinct words ends with fewer tokens than requested.
    ///
    /// `special` holds the texts of further special tokens, in order of id. In a character tokenizer or a BPE
    /// they come first (after [`END_OF_TEXT`], which a BPE always has), in a byte tokenizer after the bytes.
    /// A tokenizer from a file is used unchanged and must already have them.
    ///
    /// # Errors
    /// [`Error::EmptyCorpus`] if a character tokenizer would have no tokens, [`Error::InvalidValue`] for a
    /// missing `tokenizer.path` or a `tokenizer.vocab_size` below the number of bytes and special tokens,
    /// [`Error::Tokenizer`] for a special token that the file lacks or that is a single character, and those
    /// of [`Tokenizer::from_file`].
    pub fn train<'a>(
        config: &TokenizerConfig,
        special: &[String],
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        match config.kind {
            TokenizerKind::Char => train_characters(&distinct(special.iter().cloned())?, texts),
            TokenizerKind::Byte => {
                let special = distinct(special.iter().cloned())?;
                Self::from_bytes(json::bytes(&special).to_string().as_bytes(), "of bytes")
            }
            TokenizerKind::Bpe => {
                let end_of_text = std::iter::once(END_OF_TEXT.to_owned());
                train_bpe(config.vocab_size, &distinct(end_of_text.chain(special.iter().cloned()))?, texts)
            }
            TokenizerKind::File => match &config.path {
                Some(path) => {
                    let tokenizer = Self::from_file(path)?;
                    tokenizer.require(special)?;
                    Ok(tokenizer)
                }
                None => Err(Error::InvalidValue {
                    key: "tokenizer.path".into(),
                    value: String::new(),
                    message: "`tokenizer.kind = \"file\"` needs a file".into(),
                    hint: Some(hint![
                        "name a `tokenizer.json` with ",
                        hint::choose("tokenizer.path", "FILE")
                    ]),
                }),
            },
        }
    }
}

/// Removes repetitions from the texts of special tokens.
///
/// # Errors
/// [`Error::Tokenizer`] for a text shorter than two characters: a single character of a text would become the
/// special token.
fn distinct(texts: impl Iterator<Item = String>) -> Result<Vec<String>> {
    let mut distinct: Vec<String> = Vec::new();
    for text in texts {
        if text.chars().nth(1).is_none() {
            return Err(Error::Tokenizer {
                origin: "to be made".into(),
                message: format!("the special token `{text}` is shorter than two characters"),
                hint: Some("give it a text that no document holds, such as `[MASK]`".into()),
            });
        }
        if !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    Ok(distinct)
}

/// One token per distinct character, sorted by code point (nanoGPT's `data/shakespeare_char`).
fn train_characters<'a>(special: &[String], texts: impl IntoIterator<Item = &'a str>) -> Result<Tokenizer> {
    let mut seen = vec![false; char::MAX as usize + 1];
    for text in texts {
        for character in text.chars() {
            seen[character as usize] = true;
        }
    }
    let characters: Vec<char> =
        (0..).zip(seen).filter(|(_, seen)| *seen).filter_map(|(c, _)| char::from_u32(c)).collect();
    if characters.is_empty() {
        return Err(Error::EmptyCorpus { sources: "the text for the character tokenizer".into() });
    }
    Tokenizer::from_bytes(json::characters(special, &characters).to_string().as_bytes(), "of characters")
}

/// Trains a BPE. `special` contains `<|endoftext|>` and others.
fn train_bpe<'a>(
    vocab_size: usize,
    special: &[String],
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<Tokenizer> {
    let least = BYTES + special.len();
    if vocab_size < least {
        let others = match special.len() {
            0 | 1 => format!(" and `{END_OF_TEXT}`"),
            count => format!(", `{END_OF_TEXT}` and {} more special ones", count - 1),
        };
        return Err(Error::invalid_value(
            "tokenizer.vocab_size",
            vocab_size,
            format!("a byte-level BPE has at least {least} tokens: {BYTES} bytes{others}"),
        ));
    }
    let failed = |error: tokenizers::Error| Error::Tokenizer {
        origin: "of byte pairs".into(),
        message: format!("cannot be trained: {error}"),
        hint: None,
    };
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .show_progress(false)
        .special_tokens(special.iter().map(|text| AddedToken::from(text.as_str(), true)).collect())
        .initial_alphabet(alphabet::CHARACTERS.into())
        .build();
    let pieces: Vec<&str> = texts.into_iter().flat_map(|text| pieces(text, PIECE)).collect();
    let spell_words =
        |piece: &str| Ok(Words::new(piece).map(|word| alphabet::spell(word.as_bytes())).collect());
    trainer.feed(pieces.into_iter(), spell_words).map_err(failed)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(failed)?;

    let model = serde_json::to_value(&model).map_err(|error| failed(error.into()))?;
    // The trainer numbers special tokens first.
    let document = json::gpt2(model["vocab"].clone(), model["merges"].clone(), special, 0);
    Tokenizer::from_bytes(document.to_string().as_bytes(), "of byte pairs")
}
