//! Canaries: draws their secrets and inserts them into the training split (arXiv:1802.08232).
//!
//! Secrets and positions depend on `train.seed` and on nothing else, and the insertion copies no token of the
//! split: it only adds parts in between, so that shards stay mapped. If the split has several documents, each
//! repetition is a document of its own; otherwise it is a line after a line break.

use super::{TokenSplit, random, split::Tokens};
use crate::{
    config::{CanaryConfig, Config, PLACEHOLDER},
    error::{Error, Result},
    tokenizer::Tokenizer,
};

/// A canary and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    config: CanaryConfig,
    /// Number of the secret among all that are possible.
    secret: u64,
}

/// Number of tokens that are read in search of a line break.
const LONGEST_LINE: usize = 4096;

impl Canary {
    /// Draws the secrets of a configuration's canaries.
    pub fn all(config: &Config) -> Vec<Self> {
        let canary = |(number, canary): (usize, &CanaryConfig)| {
            let secrets = canary.secrets().unwrap_or(1);
            let mut random = random::rng(config.train.seed, number as u64, "canary secret");
            Self { config: canary.clone(), secret: random::below(&mut random, secrets) }
        };
        config.data.canaries.iter().enumerate().map(canary).collect()
    }

    /// Number of the secret among the candidates.
    pub fn secret(&self) -> u64 {
        self.secret
    }

    /// Number of secrets that are possible.
    pub fn candidates(&self) -> u64 {
        self.config.secrets().unwrap_or(1)
    }

    /// Number of times that the canary is in the training split.
    pub fn repeat(&self) -> usize {
        self.config.repeat
    }

    /// The text with a given secret.
    pub fn candidate(&self, mut secret: u64) -> String {
        let alphabet = self.config.format.alphabet().as_bytes();
        let base = alphabet.len() as u64;
        let mut characters: Vec<char> = Vec::with_capacity(self.config.length);
        for _ in 0..self.config.length {
            characters.push(alphabet[(secret % base) as usize].into());
            secret /= base;
        }
        let secret: String = characters.into_iter().rev().collect();
        self.config.text.replace(PLACEHOLDER, &secret)
    }

    /// The text that is in the training split.
    pub fn text(&self) -> String {
        self.candidate(self.secret)
    }
}

/// Texts that contain all characters that the canaries may have, for a tokenizer of characters.
pub(super) fn alphabets(config: &Config) -> Vec<String> {
    let text = |canary: &CanaryConfig| canary.text.replace(PLACEHOLDER, canary.format.alphabet());
    config.data.canaries.iter().map(text).collect()
}

/// Inserts the canaries of a configuration into the training split. Also returns the number of bytes of text
/// that were added.
///
/// # Errors
/// [`Error::InvalidValue`] if the tokenizer has no token for a character of a canary.
pub(super) fn insert(split: TokenSplit, config: &Config, tokenizer: &Tokenizer) -> Result<(TokenSplit, u64)> {
    let canaries = Canary::all(config);
    if canaries.is_empty() || split.is_empty() {
        return Ok((split, 0));
    }
    let fit = |text: &str| {
        tokenizer.encode(text).map_err(|error| Error::InvalidValue {
            key: "data.canaries".into(),
            value: text.into(),
            message: format!("the tokenizer cannot encode it: {error}"),
            hint: Some("choose a text and a format of characters that the tokenizer has tokens for".into()),
        })
    };
    for text in alphabets(config) {
        fit(&text)?;
    }
    let are_documents = split.document_count() > 1;
    let line_break = tokenizer.encode("\n").unwrap_or_default();
    let last = match are_documents {
        true => tokenizer.end_of_text().into_iter().collect(),
        false => line_break.clone(),
    };
    let ends_line: Vec<bool> = (0..tokenizer.vocab_size() as u32)
        .map(|token| !are_documents && tokenizer.token_text(token).is_some_and(|text| text.ends_with('\n')))
        .collect();
    let mut random = random::rng(config.train.seed, 0, "canary positions");
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    for canary in &canaries {
        let text = canary.text();
        let mut tokens = Tokens::for_vocabulary(tokenizer.vocab_size());
        tokens.extend(&fit(&text)?);
        tokens.extend(&last);
        for _ in 0..canary.repeat() {
            let drawn = random::below(&mut random, split.len() as u64 + 1) as usize;
            pieces.push((boundary(&split, drawn, are_documents, &ends_line), tokens.clone()));
        }
        let line = usize::from(!are_documents && !line_break.is_empty());
        bytes += ((text.len() + line) * canary.repeat()) as u64;
    }
    pieces.sort_by_key(|(position, _)| *position);
    Ok((split.with_inserted(pieces, are_documents), bytes))
}

/// The first position from `drawn` on at which a document or a line begins. If there is no line break nearby,
/// it is the drawn position itself.
fn boundary(split: &TokenSplit, drawn: usize, are_documents: bool, ends_line: &[bool]) -> usize {
    if are_documents {
        if drawn == 0 {
            return 0;
        }
        return split.document(split.document_at(drawn - 1)).end;
    }
    let from = drawn.saturating_sub(1);
    let near = split.read(from..split.len().min(from + LONGEST_LINE));
    let is_end = |token: &i32| ends_line.get(*token as usize).copied().unwrap_or(false);
    match (drawn, near.iter().position(is_end)) {
        (0, _) => 0,
        (_, Some(index)) => from + index + 1,
        (_, None) => drawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Layout, SecretFormat, TokenizerConfig, TokenizerKind},
        data::{Dataset, write_shard},
        platform::storage,
    };

    fn config(kind: TokenizerKind, canaries: &[(&str, usize)]) -> Config {
        let canary = |(text, repeat): &(&str, usize)| CanaryConfig {
            text: (*text).into(),
            format: SecretFormat::Digits,
            length: 3,
            repeat: *repeat,
        };
        let mut config =
            Config { tokenizer: TokenizerConfig { kind, vocab_size: 300, path: None }, ..Config::default() };
        config.model.block_size = 8;
        config.data.canaries = canaries.iter().map(canary).collect();
        config
    }

    fn text_of(dataset: &Dataset) -> String {
        let tokens: Vec<u32> =
            dataset.train.read(0..dataset.train.len()).into_iter().map(|token| token as u32).collect();
        dataset.tokenizer.decode(&tokens).unwrap()
    }

    const LINES: &str = "one line\nanother line\na third one\nand the last of all the lines\n";

    #[test]
    fn secrets_are_numbers_of_the_alphabet() {
        let canaries = Canary::all(&config(TokenizerKind::Char, &[("code {}.", 1), ("code {}.", 2)]));
        assert_ne!(canaries[0].secret(), canaries[1].secret());
        assert_eq!(canaries[0].candidates(), 1000);
        assert_eq!(canaries[0].candidate(7), "code 007.");
        assert_eq!(canaries[0].candidate(120), "code 120.");
        assert_eq!(canaries[1].text(), canaries[1].candidate(canaries[1].secret()));
    }

    #[test]
    fn one_text_gets_whole_lines() {
        for kind in [TokenizerKind::Char, TokenizerKind::Byte, TokenizerKind::Bpe] {
            let plain = Dataset::from_text(&config(kind, &[]), &LINES.repeat(5), None).unwrap();
            let config = config(kind, &[("code {}.", 5), ("key {}", 2)]);
            let dataset = Dataset::from_text(&config, &LINES.repeat(5), None).unwrap();
            let text = text_of(&dataset);
            let [first, second] = [0, 1].map(|index| Canary::all(&config)[index].text());
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.iter().filter(|line| **line == first).count(), 5, "{kind:?}: {text}");
            assert_eq!(lines.iter().filter(|line| **line == second).count(), 2);
            // Nothing else changes, and the validation split not at all.
            let rest: String = text.lines().filter(|line| **line != first && **line != second).collect();
            assert_eq!(rest, text_of(&plain).lines().collect::<String>());
            assert_eq!(dataset.val.len(), plain.val.len());
            let added = dataset.train_bytes.unwrap() - plain.train_bytes.unwrap();
            assert_eq!(added as usize, 5 * (first.len() + 1) + 2 * (second.len() + 1));
            assert_eq!(dataset.train.inserted().len(), 7);
            for range in dataset.train.inserted() {
                let tokens: Vec<u32> =
                    dataset.train.read(range.clone()).into_iter().map(|token| token as u32).collect();
                let own = dataset.tokenizer.decode(&tokens).unwrap();
                assert!([&first, &second].contains(&&own.trim_end().to_owned()), "{own}");
            }
        }
    }

    #[test]
    fn documents_stand_between_documents() {
        let mut config = config(TokenizerKind::Bpe, &[("code {}.", 3)]);
        config.data.layout = Layout::Documents;
        config.data.val_fraction = 0.0;
        let dataset = Dataset::from_text(&config, "one<|endoftext|>two two<|endoftext|>three", None).unwrap();
        let canary = Canary::all(&config)[0].text();
        let documents: Vec<String> = (0..dataset.train.document_count())
            .map(|index| dataset.train.read(dataset.train.document(index)))
            .map(|tokens| tokens.into_iter().map(|token| token as u32).collect::<Vec<_>>())
            .map(|tokens| dataset.tokenizer.decode(&tokens).unwrap())
            .collect();
        let canary = format!("{canary}<|endoftext|>");
        assert_eq!(documents.iter().filter(|document| **document == canary).count(), 3, "{documents:?}");
        let rest: Vec<&String> = documents.iter().filter(|document| **document != canary).collect();
        assert_eq!(rest, ["one<|endoftext|>", "two two<|endoftext|>", "three<|endoftext|>"]);
    }

    #[test]
    fn fingerprints_follow_canaries_and_seed() {
        let print = |config: &Config| Dataset::from_text(config, &LINES.repeat(5), None).unwrap().fingerprint;
        let plain = config(TokenizerKind::Byte, &[]);
        let with = config(TokenizerKind::Byte, &[("code {}.", 2)]);
        let mut seeded = with.clone();
        seeded.train.seed += 1;
        assert_eq!(print(&with), print(&with));
        assert_ne!(print(&with), print(&plain));
        assert_ne!(print(&with), print(&seeded));
    }

    #[test]
    fn shards_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for (text, are_documents) in [
            (LINES.repeat(20), false),
            (["one", "two two", "three", "four"].map(|text| text.repeat(30)).join("<|endoftext|>"), true),
        ] {
            let mut config = config(TokenizerKind::Bpe, &[]);
            let plain = Dataset::from_text(&config, &text, None).unwrap();
            let json = plain.tokenizer.to_json().unwrap();
            storage::write_synced(&folder.path().join("tokenizer.json"), json.as_bytes()).unwrap();
            for (split, name) in [(&plain.train, "train.bin"), (&plain.val, "val.bin")] {
                write_shard(&folder.path().join(name), split, &plain.tokenizer).unwrap();
            }
            config.data.paths = vec![folder.path().into()];
            config.data.canaries = super::tests::config(TokenizerKind::Bpe, &[("code {}.", 7)]).data.canaries;
            let dataset = Dataset::prepare(&config, None).unwrap();
            let canary = Canary::all(&config)[0].text();
            assert_eq!(text_of(&dataset).matches(&canary).count(), 7);
            let own = if are_documents { 7 } else { 0 };
            assert_eq!(dataset.train.document_count(), plain.train.document_count() + own);
            let rest = text_of(&dataset).replace(&format!("{canary}\n"), "");
            let rest = rest.replace(&format!("{canary}<|endoftext|>"), "");
            assert_eq!(rest, text_of(&plain));
            let added = dataset.train_bytes.unwrap() - plain.train_bytes.unwrap();
            assert_eq!(added as usize, 7 * (canary.len() + usize::from(!are_documents)));
        }
    }

    #[test]
    fn a_tokenizer_must_know_the_canary() {
        let plain = Dataset::from_text(&config(TokenizerKind::Char, &[]), &LINES.repeat(5), None).unwrap();
        let with = config(TokenizerKind::Char, &[("code {}.", 2)]);
        let error = Dataset::from_text(&with, &LINES.repeat(5), Some(plain.tokenizer)).unwrap_err();
        assert!(matches!(&error, Error::InvalidValue { key, .. } if key == "data.canaries"), "{error}");
    }
}
