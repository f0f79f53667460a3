//! All data that a run reads: the tokens of both splits and their tokenizer.

use super::{
    Dialogues, RowLayout, TokenSplit, canaries,
    collate::special_tokens,
    corpus::{Corpus, documents_in_train, train_share},
    labels::{self, Encoder, Part},
    loader::check_split,
    random,
    records::{Fields, Shape},
    shard,
    sources::{self, Source},
    targets,
};
use crate::{
    config::{Config, Head, RunData, TokenizerKind},
    error::{Error, Result, hint},
    platform::storage,
    tokenizer::Tokenizer,
};
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Training tokens, validation tokens, and their tokenizer.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub tokenizer: Tokenizer,
    pub train: Arc<TokenSplit>,
    /// Empty if `data.val_fraction` is 0.
    pub val: Arc<TokenSplit>,
    /// Size of the text of each split in UTF-8 bytes, for bits per byte. `None` for shards of a tokenizer
    /// whose tokens have no fixed length in bytes.
    pub train_bytes: Option<u64>,
    pub val_bytes: Option<u64>,
    /// Fingerprint of the tokens and the tokenizer: 16 hexadecimal digits.
    pub fingerprint: String,
    /// Names of the classes of a classifier's data, in the order of their ids.
    pub labels: Vec<String>,
    /// Notes for the user on the data: files that were skipped, documents without a target.
    pub notes: Vec<String>,
}

impl RunData for Dataset {
    fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn has_validation(&self) -> bool {
        !self.val.is_empty()
    }

    fn check_text(&self, text: &str) -> Result<()> {
        self.tokenizer.encode(text).map(drop)
    }

    fn longest_canary(&self) -> usize {
        self.train.inserted().iter().map(std::ops::Range::len).max().unwrap_or(0)
    }
}

impl Dataset {
    /// Reads, splits and tokenizes the data that `config.data` names. Uses `tokenizer` (that of a checkpoint)
    /// if given, otherwise the one that `config.tokenizer` describes; a character tokenizer is trained on all
    /// of the text, a BPE on the training part.
    ///
    /// A single text is divided into its first and last characters like in nanoGPT. Several documents are
    /// kept whole, and each ends with the end-of-text token if the tokenizer has one.
    ///
    /// # Errors
    /// Those of reading ([`Error::NotFound`], [`Error::NotText`], [`Error::InvalidUtf8`],
    /// [`Error::InvalidRecord`], [`Error::EmptyCorpus`], [`Error::InvalidShard`], [`Error::Io`]),
    /// [`Error::Tokenizer`] if the tokenizer does not fit the text, [`Error::CorpusTooShort`],
    /// [`Error::InvalidValue`] if no document has a target, and those of [`Dialogues::prepare`].
    pub fn prepare(config: &Config, tokenizer: Option<Tokenizer>) -> Result<Self> {
        if let Some(dialogues) = Dialogues::prepare(config, tokenizer.as_ref())? {
            return Self::from_dialogues(config, dialogues);
        }
        let mut notes = Vec::new();
        let source = sources::read(&config.data, labels::wanted(config)?, &mut notes)?;
        let dataset = Self::from_source(config, source, tokenizer)?;
        notes.extend(dataset.notes);
        Ok(Self { notes, ..dataset })
    }

    fn from_source(config: &Config, source: Source, tokenizer: Option<Tokenizer>) -> Result<Self> {
        match source {
            Source::Text(corpus) => Self::from_corpus(config, &corpus, tokenizer),
            Source::Shards(paths) => {
                let folder = paths[0].parent().unwrap_or(Path::new(""));
                let tokenizer = shard_tokenizer(config, folder, tokenizer)?;
                let all = shard::open("train", &paths, &tokenizer)?;
                let cut = cut_of_tokens(&all, config.data.val_fraction);
                let val = all.slice("validation", cut..all.len());
                Self::from_splits(config, tokenizer, all.slice("train", 0..cut), val, None)
            }
            Source::Splits { folder, train, val } => {
                let tokenizer = shard_tokenizer(config, &folder, tokenizer)?;
                let open = |name, paths: &[PathBuf]| shard::open(name, paths, &tokenizer);
                let (train, val) = (open("train", &train)?, open("validation", &val)?);
                Self::from_splits(config, tokenizer, train, val, None)
            }
        }
    }

    /// Like [`prepare`](Self::prepare), with a text in memory instead of `config.data.paths`. The text may
    /// consist of records.
    pub fn from_text(config: &Config, text: &str, tokenizer: Option<Tokenizer>) -> Result<Self> {
        Self::from_file_text(config, Path::new("the given text"), text, tokenizer)
    }

    /// Like [`from_text`](Self::from_text), with the text of a file, whose name may indicate that it is a
    /// table or JSON.
    pub fn from_file_text(
        config: &Config,
        name: &Path,
        text: &str,
        tokenizer: Option<Tokenizer>,
    ) -> Result<Self> {
        if let Some(dialogues) = Dialogues::from_text(config, name, text, tokenizer.as_ref())? {
            return Self::from_dialogues(config, dialogues);
        }
        let mut corpus = Corpus::default();
        let fields = Fields { text: &config.data.text_field, label: labels::wanted(config)? };
        let shape = match Shape::of(name, text, &fields, true) {
            Shape::Text if fields.label.is_some() => Shape::Lines,
            shape => shape,
        };
        corpus.push_file(name, text, shape, &fields)?;
        if corpus.is_empty() {
            return Err(Error::EmptyCorpus { sources: name.display().to_string() });
        }
        Self::from_corpus(config, &corpus, tokenizer)
    }

    fn from_dialogues(config: &Config, dialogues: Dialogues) -> Result<Self> {
        let notes = dialogues.notes();
        let Dialogues { tokenizer, train, val, .. } = dialogues;
        let dataset = Self::from_splits(config, tokenizer, train.split, val.split, None)?;
        // Only a part of the text is trained.
        let notes = notes.into_iter().chain(dataset.notes).collect();
        Ok(Self { notes, train_bytes: None, val_bytes: None, ..dataset })
    }

    fn from_corpus(config: &Config, corpus: &Corpus, given: Option<Tokenizer>) -> Result<Self> {
        let (train, val) = parts(corpus, config.data.val_fraction)?;
        let is_given = given.is_some();
        let tokenizer = match given {
            Some(tokenizer) => tokenizer,
            None => {
                let special = special_tokens(config);
                match config.tokenizer.kind {
                    TokenizerKind::Bpe => Tokenizer::train(&config.tokenizer, &special, train.texts())?,
                    _ => {
                        let canaries = canaries::alphabets(config);
                        let texts =
                            train.texts().chain(val.texts()).chain(canaries.iter().map(String::as_str));
                        Tokenizer::train(&config.tokenizer, &special, texts)?
                    }
                }
            }
        };
        let labels = match (config.model.head, &config.model.labels[..]) {
            (Head::SequenceClassification | Head::TokenClassification, []) => labels::classes([&train, &val]),
            (_, labels) => labels.to_vec(),
        };
        let encoder = Encoder::new(config, &tokenizer, !corpus.is_one_document(), &labels);
        let encode = |name, part: &Part| {
            encoder.encode(name, part).map_err(|error| match error {
                Error::Tokenizer { origin, message, .. } if is_given => Error::Tokenizer {
                    origin,
                    message: format!("does not fit the data: {message}"),
                    hint: Some(
                        "the model knows the tokens that it was made with; give text of the same \
                         characters, or begin a new run"
                            .into(),
                    ),
                },
                other => other,
            })
        };
        let (train_split, val_split) = (encode("train", &train)?, encode("validation", &val)?);
        let bytes = [train.bytes(), val.bytes()];
        let dataset = Self::from_splits(config, tokenizer.clone(), train_split, val_split, Some(bytes))?;
        Ok(Self { labels, ..dataset })
    }

    fn from_splits(
        config: &Config,
        tokenizer: Tokenizer,
        train: TokenSplit,
        val: TokenSplit,
        bytes: Option<[u64; 2]>,
    ) -> Result<Self> {
        let (train, canary_bytes) = canaries::insert(train, config, &tokenizer)?;
        let layout = RowLayout::of(config, &tokenizer)?;
        let delimiter = delimiter_token(config.data.answer_after.as_deref(), &tokenizer)?;
        let [train, val] = [train, val].map(|split| match delimiter {
            None => split,
            Some(token) => split.with_completions_after(token),
        });
        let mut notes = targets::check(&train, config, &layout.collator)?;
        check_split(&train, &layout)?;
        if !val.is_empty() || config.data.val_fraction > 0.0 {
            notes.extend(targets::check(&val, config, &layout.collator)?);
            check_split(&val, &layout)?;
        }
        let mut hash = Sha256::new();
        for part in [tokenizer.fingerprint(), &train.fingerprint(), &val.fingerprint()] {
            hash.update(part);
        }
        let fingerprint = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let [train_bytes, val_bytes] = match bytes {
            Some([train, val]) => [Some(train + canary_bytes), Some(val)],
            None => [&train, &val].map(|split| bytes_of(split, &tokenizer)),
        };
        Ok(Self {
            tokenizer,
            train: Arc::new(train),
            val: Arc::new(val),
            train_bytes,
            val_bytes,
            fingerprint,
            labels: config.model.labels.clone(),
            notes,
        })
    }
}

/// Finds the token of the delimiter that precedes completions; `None` without a delimiter.
///
/// # Errors
/// [`Error::InvalidValue`] if the tokenizer has no single token for the delimiter.
fn delimiter_token(text: Option<&str>, tokenizer: &Tokenizer) -> Result<Option<u32>> {
    let Some(text) = text else { return Ok(None) };
    match tokenizer.encode(text).as_deref() {
        Ok([token]) => Ok(Some(*token)),
        _ => Err(Error::InvalidValue {
            key: "data.answer_after".into(),
            value: text.into(),
            message: "the tokenizer has no single token for it".into(),
            hint: Some("choose one character that the text contains, or leave it out".into()),
        }),
    }
}

/// Divides a corpus into a training and a validation part. Labelled documents are shuffled first, since
/// labelled data is often sorted by class.
///
/// # Errors
/// [`Error::InvalidValue`] if no labelled document would be left to train on.
fn parts(corpus: &Corpus, val_fraction: f64) -> Result<(Part<'_>, Part<'_>)> {
    if corpus.labels().is_empty() {
        let part = |documents| Part { documents, labels: Vec::new() };
        let (train, val) = corpus.split(val_fraction);
        return Ok((part(train), part(val)));
    }
    let (documents, labels) = (corpus.documents(), corpus.labels());
    let (order, val) = hold_out(documents.len(), val_fraction)?;
    let part = |order: Vec<usize>| Part {
        documents: order.iter().map(|&index| documents[index]).collect(),
        labels: order.iter().map(|&index| &labels[index]).collect(),
    };
    Ok((part(order), part(val)))
}

/// Divides `count` records, by their indices, into those to train on and those that are held out for
/// validation. They are shuffled first.
///
/// # Errors
/// [`Error::InvalidValue`] if none would be left to train on.
pub(super) fn hold_out(count: usize, val_fraction: f64) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut order: Vec<usize> = (0..count).collect();
    random::shuffle(&mut order, &mut random::rng(0, 0, "split"));
    let held_out = match val_fraction {
        none if none <= 0.0 => 0,
        share => ((count as f64 * share).round() as usize).max(1),
    };
    if held_out >= count {
        return Err(Error::InvalidValue {
            key: "data.val_fraction".into(),
            value: val_fraction.to_string(),
            message: format!("of {count} records none would be left to train on"),
            hint: Some(hint!["give more of them, or ", hint::set("data.val_fraction", 0)]),
        });
    }
    let val = order.split_off(count - held_out);
    Ok((order, val))
}

/// Finds the tokenizer of shards: the given one, the configured file, or the `tokenizer.json` beside them.
fn shard_tokenizer(config: &Config, folder: &Path, given: Option<Tokenizer>) -> Result<Tokenizer> {
    if let Some(tokenizer) = given {
        return Ok(tokenizer);
    }
    if config.tokenizer.kind == TokenizerKind::File {
        return Tokenizer::train(&config.tokenizer, &special_tokens(config), []);
    }
    let beside = folder.join("tokenizer.json");
    if storage::exists(&beside) {
        return Tokenizer::from_file(&beside);
    }
    Err(Error::NotFound {
        path: beside,
        hint: hint![
            "token shards need the tokenizer that they were made with: put its `tokenizer.json` there, or name it with ",
            hint::set("tokenizer.kind", "file").and_choose("tokenizer.path", "FILE"),
            " (nanoGPT's `meta.pkl` is not read)"
        ],
    })
}

/// Number of tokens of shards in the training part, which ends at the end of a document if documents are
/// known.
fn cut_of_tokens(split: &TokenSplit, val_fraction: f64) -> usize {
    if val_fraction <= 0.0 {
        return split.len();
    }
    match split.document_count() {
        0 | 1 => train_share(split.len(), val_fraction),
        count => {
            let ends: Vec<usize> = (0..count).map(|index| split.document(index).end).collect();
            ends[documents_in_train(&ends, val_fraction) - 1]
        }
    }
}

/// Number of bytes of text that the tokens stand for; `None` if a token has no fixed length.
fn bytes_of(split: &TokenSplit, tokenizer: &Tokenizer) -> Option<u64> {
    let lengths: Vec<Option<usize>> =
        (0..tokenizer.vocab_size()).map(|id| tokenizer.token_length(id as u32)).collect();
    let mut total = Some(0);
    split.for_each(|tokens| {
        for &token in tokens {
            let length = lengths.get(token as usize).copied().flatten();
            total = total.zip(length).map(|(sum, length)| sum + length as u64);
        }
    });
    total
}

#[cfg(test)]
mod tests {
    use super::{super::write_shard, *};
    use crate::config::{DataConfig, Layout, ModelConfig, TokenizerConfig};
    use tempfile::TempDir;

    const SHAKESPEARE: &str = include_str!("../../../tests/fixtures/tinyshakespeare.txt");

    fn config(kind: TokenizerKind, block_size: usize) -> Config {
        Config {
            tokenizer: TokenizerConfig { kind, vocab_size: 300, path: None },
            model: ModelConfig { block_size, ..ModelConfig::default() },
            ..Config::default()
        }
    }

    fn tokens(split: &TokenSplit) -> Vec<u32> {
        let mut all = Vec::new();
        split.for_each(|tokens| all.extend(tokens.iter().map(|&token| token as u32)));
        all
    }

    #[test]
    fn characters_of_tiny_shakespeare_split_as_in_nanogpt() {
        let dataset = Dataset::from_text(&config(TokenizerKind::Char, 64), SHAKESPEARE, None).unwrap();
        assert_eq!((dataset.train.len(), dataset.val.len()), (1_003_854, 111_540));
        assert_eq!((dataset.tokenizer.vocab_size(), dataset.val_bytes), (65, Some(111_540)));
    }

    #[test]
    fn the_embedded_corpus_is_used_without_paths() {
        let dataset = Dataset::prepare(&config(TokenizerKind::Char, 64), None).unwrap();
        assert!(dataset.train.len() > dataset.val.len() && dataset.val.len() > 64);
    }

    #[test]
    fn documents_end_with_the_end_of_text_token() {
        let text = "one one\n<|endoftext|>\ntwo two\n<|endoftext|>\nthree";
        let dataset = Dataset::from_text(&config(TokenizerKind::Bpe, 4), text, None).unwrap();
        let end = dataset.tokenizer.end_of_text().unwrap();
        let decoded = dataset.tokenizer.decode(&tokens(&dataset.train)).unwrap();
        assert_eq!(decoded, "one one<|endoftext|>two two<|endoftext|>");
        assert_eq!(tokens(&dataset.val).last(), Some(&end));
        assert_eq!((dataset.train.document_count(), dataset.val.document_count()), (2, 1));
        let second = dataset.train.document(1);
        assert_eq!(
            dataset.tokenizer.decode(&tokens(&dataset.train)[second]).unwrap(),
            "two two<|endoftext|>"
        );
        assert_eq!(dataset.val_bytes, Some(5));

        // One text has no end-of-text token.
        let one = Dataset::from_text(&config(TokenizerKind::Bpe, 4), &SHAKESPEARE[..1000], None).unwrap();
        assert!(!tokens(&one.train).contains(&end) && !tokens(&one.val).contains(&end));
        // A character tokenizer has none either: documents stand side by side.
        let characters = Dataset::from_text(&config(TokenizerKind::Char, 4), text, None).unwrap();
        assert_eq!(characters.tokenizer.decode(&tokens(&characters.train)).unwrap(), "one onetwo two");
    }

    #[test]
    fn the_validation_split_may_be_left_out() {
        let mut config = config(TokenizerKind::Char, 4);
        config.data.val_fraction = 0.0;
        let dataset = Dataset::from_text(&config, "hello world", None).unwrap();
        assert_eq!((dataset.train.len(), dataset.val.len(), dataset.val_bytes), (11, 0, Some(0)));
    }

    #[test]
    fn a_given_tokenizer_must_fit() {
        let config = config(TokenizerKind::Char, 4);
        let first =
            Dataset::from_text(&config, "abcabcabcabcabcabcabcabcabcabc abcabcabcabcabcabcabcabc", None);
        let tokenizer = first.unwrap().tokenizer;
        let error = Dataset::from_text(&config, "hello", Some(tokenizer)).unwrap_err();
        assert!(error.to_string().contains("does not fit the data: the character 'h' (U+0068) at byte 0"));
    }

    #[test]
    fn short_and_empty_texts_are_refused() {
        let error = |text: &str, layout| {
            let mut config = config(TokenizerKind::Char, 8);
            config.data.layout = layout;
            Dataset::from_text(&config, text, None).unwrap_err().to_string()
        };
        assert!(error("abcdefgh", Layout::Stream).starts_with("the train split has 7 tokens"));
        assert!(error("abcdefghijklmnop", Layout::Stream).starts_with("the validation split has 2 tokens"));
        assert_eq!(error("", Layout::Stream), "there is no text in the given text");
        assert!(error("a<|endoftext|>b", Layout::Documents).contains("no document of the train split"));
    }

    #[test]
    fn fingerprints_follow_data_and_tokenizer() {
        let print = |kind, text: &str| Dataset::from_text(&config(kind, 4), text, None).unwrap().fingerprint;
        let text = &SHAKESPEARE[..1000];
        assert_eq!(print(TokenizerKind::Char, text), print(TokenizerKind::Char, text));
        assert_ne!(print(TokenizerKind::Char, text), print(TokenizerKind::Byte, text));
        assert_ne!(print(TokenizerKind::Char, text), print(TokenizerKind::Char, &SHAKESPEARE[..999]));
    }

    #[test]
    fn only_completions_are_targets_with_a_delimiter() {
        use super::super::{IGNORE_INDEX, RowLayout, evaluation_batches};
        let mut config = config(TokenizerKind::Char, 8);
        config.data = DataConfig {
            layout: Layout::Documents,
            answer_after: Some("=".into()),
            val_fraction: 0.0,
            ..DataConfig::default()
        };
        let text = "ab=b\n<|endoftext|>no answer<|endoftext|>a=b=b";
        let dataset = Dataset::from_text(&config, text, None).unwrap();
        let batch = evaluation_batches(dataset.train.clone(), RowLayout::causal(Layout::Documents, 8), 3, 0)
            .next()
            .unwrap();
        let labels: Vec<String> = batch
            .targets
            .chunks(8)
            .map(|row| {
                row.iter().filter(|&&token| token != IGNORE_INDEX).map(|&token| token as u32).collect()
            })
            .map(|tokens: Vec<u32>| dataset.tokenizer.decode(&tokens).unwrap())
            .collect();
        // Documents without the delimiter are left out.
        assert_eq!(labels, ["b", "b=b"]);
        assert_eq!((batch.target_tokens, batch.rows_with_targets()), (4, 2));
        let note =
            "1 of 3 documents of the train split are left out, since they have no target: 1 without `=`";
        assert_eq!(dataset.notes, [note]);

        config.data.answer_after = Some("=>".into());
        let error = Dataset::from_text(&config, text, None).unwrap_err();
        assert!(error.to_string().contains("`data.answer_after`"), "{error}");
    }

    #[test]
    fn shards_bring_their_own_split_and_tokenizer() {
        let folder = TempDir::new().unwrap();
        let from_text =
            Dataset::from_text(&config(TokenizerKind::Bpe, 16), &SHAKESPEARE[..20_000], None).unwrap();
        for (split, name) in [(&from_text.train, "train.bin"), (&from_text.val, "val.bin")] {
            write_shard(&folder.path().join(name), split, &from_text.tokenizer).unwrap();
        }
        let mut config = config(TokenizerKind::Char, 16);
        config.data = DataConfig { paths: vec![folder.path().into()], ..DataConfig::default() };
        let error = Dataset::prepare(&config, None).unwrap_err();
        assert!(matches!(&error, Error::NotFound { path, .. } if path.ends_with("tokenizer.json")));
        assert!(error.hint().unwrap().to_string().contains("tokenizer.kind=file"));

        let json = from_text.tokenizer.to_json().unwrap();
        storage::write_synced(&folder.path().join("tokenizer.json"), json.as_bytes()).unwrap();
        let dataset = Dataset::prepare(&config, None).unwrap();
        assert_eq!(dataset.fingerprint, from_text.fingerprint);
        assert_eq!(dataset.val_bytes, from_text.val_bytes);

        config.data.paths = vec![folder.path().join("train.bin")];
        let dataset = Dataset::prepare(&config, None).unwrap();
        assert_eq!(dataset.train.len() + dataset.val.len(), from_text.train.len());
        assert_eq!(dataset.train.len(), train_share(from_text.train.len(), 0.1));
    }
}
