//! Making a tokenizer from text.

use super::{END_OF_TEXT, Tokenizer, alphabet, general::pieces, json, words::Words};
use crate::{
    config::{TokenizerConfig, TokenizerKind},
    error::{Error, Result},
};
use tokenizers::{
    AddedToken, Trainer,
    models::bpe::{BPE, BpeTrainer},
};

/// Least size of a trained vocabulary: all bytes and the end-of-text token.
const LEAST_VOCABULARY: usize = 257;

/// Bytes of text whose words are counted at once.
const PIECE: usize = 256 << 10;

impl Tokenizer {
    /// Makes the tokenizer that a configuration describes; `texts` is all of the text that it learns
    /// from. A BPE whose text has too few distinct words ends with fewer tokens than asked for.
    ///
    /// # Errors
    /// [`Error::EmptyCorpus`] if a character tokenizer would have no tokens, [`Error::InvalidValue`]
    /// for a `tokenizer.vocab_size` under 257 or a missing `tokenizer.path`, and those of
    /// [`Tokenizer::from_file`].
    pub fn train<'a>(config: &TokenizerConfig, texts: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        match config.kind {
            TokenizerKind::Char => train_characters(texts),
            TokenizerKind::Byte => Self::from_bytes(json::bytes().to_string().as_bytes(), "of bytes"),
            TokenizerKind::Bpe => train_bpe(config.vocab_size, texts),
            TokenizerKind::File => match &config.path {
                Some(path) => Self::from_file(path),
                None => Err(Error::InvalidValue {
                    key: "tokenizer.path".into(),
                    value: String::new(),
                    message: "`tokenizer.kind = \"file\"` needs a file".into(),
                    hint: Some("name a `tokenizer.json` with `--set tokenizer.path=FILE`".into()),
                }),
            },
        }
    }
}

/// One token per distinct character, sorted by code point (nanoGPT's `data/shakespeare_char`).
fn train_characters<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Tokenizer> {
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
    Tokenizer::from_bytes(json::characters(&characters).to_string().as_bytes(), "of characters")
}

fn train_bpe<'a>(vocab_size: usize, texts: impl IntoIterator<Item = &'a str>) -> Result<Tokenizer> {
    if vocab_size < LEAST_VOCABULARY {
        return Err(Error::invalid_value(
            "tokenizer.vocab_size",
            vocab_size,
            format!("a byte-level BPE has at least {LEAST_VOCABULARY} tokens: 256 bytes and `{END_OF_TEXT}`"),
        ));
    }
    let failed = |error: tokenizers::Error| Error::Tokenizer {
        origin: "of byte pairs".into(),
        message: format!("cannot be trained: {error}"),
        hint: None,
    };
    let end_of_text = AddedToken::from(END_OF_TEXT, true);
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .show_progress(false)
        .special_tokens(vec![end_of_text])
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
    let document = json::gpt2(model["vocab"].clone(), model["merges"].clone(), 0);
    Tokenizer::from_bytes(document.to_string().as_bytes(), "of byte pairs")
}
