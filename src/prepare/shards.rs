//! Turns documents into token shards: tokenizes each part, decides how often each source is read, and lists
//! the shards.

mod shuffle;
mod writer;

use super::{
    blend::BlendedSource,
    engine::{Engine, failed},
    functions,
    keys::each_batch,
    parts::Part,
    pipeline::{Pipeline, TokenizeConfig},
    rowwise::call,
    work::{Folder, is_unfinished},
};
use crate::{
    config::{TokenizerConfig, TokenizerKind},
    error::{Error, Result},
    platform::storage,
    tokenizer::Tokenizer,
};
use datafusion::{
    arrow::{array::AsArray, datatypes::DataType},
    logical_expr::{cast, col, lit},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) use shuffle::Sharding;

/// Documents in a row group; a shard reads only the row groups that overlap its range of positions.
const GROUP: usize = 128;

/// File name of the tokenizer beside the shards.
const TOKENIZER: &str = "tokenizer.json";

/// Split of the documents that a shard belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Val,
}

impl Split {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

/// Number of tokens of a part, for each split by source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TokenPart {
    pub train: BTreeMap<String, u64>,
    pub val: BTreeMap<String, u64>,
    pub documents: u64,
}

/// A finished shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardSummary {
    pub file: String,
    pub split: Split,
    pub tokens: u64,
    pub documents: u64,
    pub sha256: String,
    pub sources: BTreeMap<String, u64>,
}

/// The stages from documents to shards, with all that their tasks need.
#[derive(Clone)]
pub(super) struct Tokenizing {
    pub engine: Engine,
    pub pipeline: Arc<Pipeline>,
    pub config: TokenizeConfig,
    pub inputs: Arc<Vec<(PathBuf, Part)>>,
    /// Folder of the token files.
    pub folder: Folder,
}

impl Tokenizing {
    /// Path of the tokenizer that [`tokenizer`](Self::tokenizer) writes.
    fn tokenizer_path(&self) -> PathBuf {
        self.folder.file(TOKENIZER)
    }

    /// Copies the given tokenizer, or trains one on documents that are drawn by the seed.
    pub(super) async fn tokenizer(self) -> Result<()> {
        if !self.config.tokenizer.as_os_str().is_empty() {
            let path = &self.config.tokenizer;
            let tokenizer = Tokenizer::from_file(path)?;
            storage::write_atomic(&self.tokenizer_path(), &storage::read(path)?)?;
            functions::cache_tokenizer(&self.tokenizer_path().to_string_lossy(), tokenizer);
            return Ok(());
        }
        let texts = self.sample().await?;
        if texts.is_empty() {
            return Err(Error::NothingToTokenize {
                message: format!("no document is in the sample of {} MB", self.config.sample_mb),
                hint: "raise `tokenize.sample_mb`, or name a `tokenize.tokenizer`".into(),
            });
        }
        let config =
            TokenizerConfig { kind: self.config.kind, vocab_size: self.config.vocab_size, path: None };
        let special = match self.config.kind {
            TokenizerKind::Bpe => Vec::new(),
            _ => vec![crate::tokenizer::END_OF_TEXT.to_owned()],
        };
        let tokenizer = Tokenizer::train(&config, &special, texts.iter().map(String::as_str))?;
        storage::write_atomic(&self.tokenizer_path(), tokenizer.to_json()?.as_bytes())?;
        functions::cache_tokenizer(&self.tokenizer_path().to_string_lossy(), tokenizer);
        Ok(())
    }

    /// Loads the tokenizer that [`tokenizer`](Self::tokenizer) wrote.
    pub(super) async fn tokenizer_made(&self) -> Result<Tokenizer> {
        self.engine.workspace.have(&[self.tokenizer_path()]).await?;
        Tokenizer::from_file(&self.tokenizer_path())
    }

    /// Texts that the tokenizer is trained on: all, or those with the lowest hashes, up to the size of the
    /// sample.
    async fn sample(&self) -> Result<Vec<String>> {
        let plan = |error| failed("planning")(error);
        let files: Vec<PathBuf> = self.inputs.iter().map(|(path, _)| path.clone()).collect();
        let most = self.config.sample_mb << 20;
        let all: u64 = self.inputs.iter().map(|(_, part)| part.counts.kept.bytes).sum();
        let mut frame = self.engine.documents(&files).await?.filter(col("reason").is_null()).map_err(plan)?;
        if all > most as u64 {
            let hash = call(&self.engine, "kiln_hash", vec![lit(self.pipeline.seed ^ 1), col("id")])?;
            let share = (most as f64 / all as f64 * u64::MAX as f64) as u64;
            frame = frame.filter(hash.lt_eq(lit(share))).map_err(plan)?;
        }
        let mut texts = Vec::new();
        let mut bytes = 0;
        each_batch(frame.select(vec![col("text")]).map_err(plan)?, |batch| {
            for text in batch.column(0).as_string::<i32>().iter().flatten() {
                if bytes < most {
                    bytes += text.len();
                    texts.push(text.to_owned());
                }
            }
            Ok(())
        })
        .await?;
        Ok(texts)
    }

    /// Tokenizes a part and writes the columns `key`, `number`, `id`, `source`, `is_val`, `draw` and
    /// `tokens`, ordered by `key` (a hash, which shuffles the documents) and `number`.
    pub(super) async fn tokens(self, part: usize) -> Result<TokenPart> {
        let plan = |error| failed("planning")(error);
        let (path, _) = &self.inputs[part];
        let offset: u64 = self.inputs[..part].iter().map(|(_, part)| part.span).sum();
        let documents = self.engine.documents(std::slice::from_ref(path)).await?;
        let seed = self.pipeline.seed;
        let hash =
            |purpose: u64| call(&self.engine, "kiln_hash", vec![lit(seed.wrapping_add(purpose)), col("id")]);
        self.engine.workspace.have(&[self.tokenizer_path()]).await?;
        let tokenizer = lit(self.tokenizer_path().to_string_lossy().into_owned());
        let val = (self.config.val_fraction * u64::MAX as f64) as u64;
        let frame = documents
            .filter(col("reason").is_null())
            .and_then(|documents| {
                documents.select(vec![
                    hash(0).map_err(into_plan)?.alias("key"),
                    (cast(col("row"), DataType::UInt64) + lit(offset)).alias("number"),
                    col("id"),
                    col("source"),
                    hash(1 << 32).map_err(into_plan)?.lt(lit(val)).alias("is_val"),
                    hash(2 << 32).map_err(into_plan)?.alias("draw"),
                    call(&self.engine, "kiln_tokens", vec![tokenizer, col("text")])
                        .map_err(into_plan)?
                        .alias("tokens"),
                ])
            })
            .and_then(|tokens| {
                tokens.sort(vec![col("key").sort(true, false), col("number").sort(true, false)])
            })
            .map_err(plan)?;
        let path = self.file(part);
        self.engine.write_in_groups(frame, &path, GROUP).await?;
        let mut counted = TokenPart::default();
        let columns = vec![col("source"), col("is_val"), col("tokens")];
        let written = self.engine.read_here(&path).await?.select(columns).map_err(plan)?;
        each_batch(written, |batch| {
            let (sources, tokens) = (batch.column(0).as_string::<i32>(), batch.column(2).as_binary::<i32>());
            let is_val = batch.column(1).as_boolean();
            for row in 0..batch.num_rows() {
                let split = if is_val.value(row) { &mut counted.val } else { &mut counted.train };
                *split.entry(sources.value(row).into()).or_default() += tokens.value_length(row) as u64 / 4;
                counted.documents += 1;
            }
            Ok(())
        })
        .await?;
        Ok(counted)
    }

    fn file(&self, part: usize) -> PathBuf {
        self.folder.file(&format!("tokens-{part:05}.parquet"))
    }

    /// Plans how often each source is read.
    pub(super) fn blend(&self, parts: &[TokenPart]) -> Vec<BlendedSource> {
        let available = |name: &str| parts.iter().filter_map(|part| part.train.get(name)).sum();
        let sources: Vec<(String, Option<f64>, u64)> = self
            .pipeline
            .sources
            .iter()
            .map(|source| (source.name.clone(), source.weight, available(&source.name)))
            .collect();
        self.pipeline.blend.plan(&sources)
    }

    /// Lists all shards to write: split, index in the split, and the split's number of shards.
    pub(super) fn shards(&self, parts: &[TokenPart], blend: &[BlendedSource]) -> Vec<(Split, u64, u64)> {
        let train = blend.iter().map(|source| source.epochs * source.available as f64).sum::<f64>() as u64;
        let val: u64 = parts.iter().flat_map(|part| part.val.values()).sum();
        let of = |split, tokens: u64| {
            let count = tokens.div_ceil(self.config.shard_tokens);
            (0..count).map(move |index| (split, index, count))
        };
        of(Split::Train, train).chain(of(Split::Val, val)).collect()
    }

    /// Puts the shards and the tokenizer into the folder that users see, as hard links, or as copies where
    /// those are not possible.
    pub(super) async fn publish(&self, shards: &Path, target: &Path) -> Result<()> {
        let workspace = &self.engine.workspace;
        if workspace.is_mirror() {
            return workspace.publish(shards, &self.tokenizer_path(), target).await;
        }
        let beside = target.with_extension("tmp");
        if beside.exists() {
            storage::remove_folder(&beside)?;
        }
        storage::create_folder(&beside)?;
        for file in storage::list(shards)?.into_iter().chain([self.tokenizer_path()]) {
            if is_unfinished(&file) {
                continue;
            }
            let link = beside.join(file.file_name().unwrap_or_default());
            std::fs::hard_link(&file, &link)
                .or_else(|_| std::fs::copy(&file, &link).map(drop))
                .map_err(|error| Error::io("copy", &file, error))?;
        }
        if target.exists() {
            storage::remove_folder(target)?;
        }
        storage::rename(&beside, target)
    }
}

fn into_plan(error: Error) -> datafusion::common::DataFusionError {
    datafusion::common::DataFusionError::External(Box::new(error))
}
