//! From documents to shards: tokens of each part; passes over the sources; the shards in shuffled order.
//!
//! A document's place is a hash of the seed and its id, so that the order depends on nothing else. A shard is a
//! range of places; copies of a document lie 0.618… of the way round from each other, so that each shard has
//! its share of every pass, and a shard is read from all parts by that range alone, in whatever process.

mod writer;

use super::{
    blend::BlendedSource,
    engine::{Engine, failed},
    keys::each_batch,
    parts::Part,
    pipeline::{Pipeline, TokenizeConfig},
    rowwise::call,
    work::{Folder, digest_file},
};
use crate::{
    config::{TokenizerConfig, TokenizerKind},
    error::{Error, Result},
    platform::storage,
    tokenizer::Tokenizer,
};
use datafusion::{
    arrow::{array::AsArray, datatypes::DataType},
    dataframe::DataFrame,
    functions_nested::expr_fn::make_array,
    logical_expr::{Expr, cast, col, lit, when},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use writer::ShardWriter;

/// 2⁶⁴ over the golden ratio: multiples of it spread evenly over all places.
const NEXT_COPY: u64 = 0x9e37_79b9_7f4a_7c15;

/// Documents of a row group, which a shard takes or leaves by its range of places.
const GROUP: usize = 128;

/// The name of a tokenizer beside shards.
const TOKENIZER: &str = "tokenizer.json";

/// Which split.
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

/// Tokens of a part, by split and source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TokenPart {
    pub train: BTreeMap<String, u64>,
    pub val: BTreeMap<String, u64>,
    pub documents: u64,
}

/// A shard that is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardSummary {
    pub file: String,
    pub split: Split,
    pub tokens: u64,
    pub documents: u64,
    pub sha256: String,
    pub sources: BTreeMap<String, u64>,
}

/// The stages from documents to shards at work.
#[derive(Clone)]
pub(super) struct Tokenizing {
    pub engine: Engine,
    pub pipeline: Arc<Pipeline>,
    pub config: TokenizeConfig,
    pub inputs: Arc<Vec<(PathBuf, Part)>>,
    /// Of the tokens.
    pub folder: Folder,
}

impl Tokenizing {
    /// Path of the tokenizer, which [`tokenizer`](Self::tokenizer) makes.
    fn tokenizer_path(&self) -> PathBuf {
        self.folder.file(TOKENIZER)
    }

    /// Copies or trains the tokenizer. It learns from documents drawn by the seed.
    pub(super) async fn tokenizer(self) -> Result<()> {
        if !self.config.tokenizer.as_os_str().is_empty() {
            let path = &self.config.tokenizer;
            Tokenizer::from_file(path)?;
            return storage::write_atomic(&self.tokenizer_path(), &storage::read(path)?);
        }
        let texts = self.sample().await?;
        if texts.is_empty() {
            return Err(Error::EmptyCorpus { sources: "what all steps have kept".into() });
        }
        let config =
            TokenizerConfig { kind: self.config.kind, vocab_size: self.config.vocab_size, path: None };
        let special = match self.config.kind {
            TokenizerKind::Bpe => Vec::new(),
            _ => vec![crate::tokenizer::END_OF_TEXT.to_owned()],
        };
        let tokenizer = Tokenizer::train(&config, &special, texts.iter().map(String::as_str))?;
        storage::write_atomic(&self.tokenizer_path(), tokenizer.to_json()?.as_bytes())
    }

    /// What [`tokenizer`](Self::tokenizer) has made.
    pub(super) async fn tokenizer_made(&self) -> Result<Tokenizer> {
        self.engine.workspace.have(&[self.tokenizer_path()]).await?;
        Tokenizer::from_file(&self.tokenizer_path())
    }

    /// Texts to learn from: all of them, or the first by their hashes.
    async fn sample(&self) -> Result<Vec<String>> {
        let plan = |error| failed("planning")(error);
        let files: Vec<PathBuf> = self.inputs.iter().map(|(path, _)| path.clone()).collect();
        let most = self.config.sample_mb << 20;
        let all: u64 = self.inputs.iter().map(|(_, part)| part.tally.kept.bytes).sum();
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

    /// Writes the tokens of a part, ordered by place: `key`, `number`, `id`, `source`, `is_val`, `draw`, `tokens`.
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

    /// How often each source is read.
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

    /// All shards that are to be written: split, number in it, and how many it has.
    pub(super) fn shards(&self, parts: &[TokenPart], blend: &[BlendedSource]) -> Vec<(Split, u64, u64)> {
        let train = blend.iter().map(|source| source.epochs * source.available as f64).sum::<f64>() as u64;
        let val: u64 = parts.iter().flat_map(|part| part.val.values()).sum();
        let of = |split, tokens: u64| {
            let count = tokens.div_ceil(self.config.shard_tokens);
            (0..count).map(move |index| (split, index, count))
        };
        of(Split::Train, train).chain(of(Split::Val, val)).collect()
    }

    /// Writes a shard into `folder`.
    pub(super) async fn shard(
        self,
        folder: &Path,
        (split, index, count): (Split, u64, u64),
        blend: Arc<Vec<BlendedSource>>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<ShardSummary> {
        let name = if count == 1 { split.name().into() } else { format!("{}-{index:05}", split.name()) };
        let mut writer = ShardWriter::new(&folder.join(format!("{name}.bin")), tokenizer)?;
        let mut sources: BTreeMap<String, u64> = BTreeMap::new();
        each_batch(self.in_order(split, index, count, &blend).await?, |batch| {
            let (names, tokens) = (batch.column(0).as_string::<i32>(), batch.column(1).as_binary::<i32>());
            for row in 0..batch.num_rows() {
                let (tokens, _) = tokens.value(row).as_chunks::<4>();
                writer.document(tokens)?;
                *sources.entry(names.value(row).into()).or_default() += tokens.len() as u64;
            }
            Ok(())
        })
        .await?;
        let (tokens, documents) = writer.finish()?;
        let file = format!("{name}.bin");
        let (sha256, _) = digest_file(&folder.join(&file))?;
        Ok(ShardSummary { file, split, tokens, documents, sha256, sources })
    }

    /// Puts shards and tokenizer where users look for them: hard links, or copies where there are none.
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
            let name = file.file_name().unwrap_or_default();
            if name.to_string_lossy().contains(".tmp-") {
                continue;
            }
            let link = beside.join(name);
            std::fs::hard_link(&file, &link)
                .or_else(|_| std::fs::copy(&file, &link).map(drop))
                .map_err(|error| Error::io("copy", &file, error))?;
        }
        if target.exists() {
            storage::remove_folder(target)?;
        }
        storage::rename(&beside, target)
    }

    /// Sources and tokens of the documents in one of `count` equal ranges, shuffled.
    async fn in_order(
        &self,
        split: Split,
        index: u64,
        count: u64,
        blend: &[BlendedSource],
    ) -> Result<DataFrame> {
        let plan = |error| failed("planning")(error);
        let files: Vec<PathBuf> = (0..self.inputs.len()).map(|part| self.file(part)).collect();
        let all = self.engine.documents(&files).await?;
        let all = all.filter(col("is_val").eq(lit(split == Split::Val))).map_err(plan)?;
        let copies = match split {
            Split::Train => blend.iter().map(|source| source.epochs.ceil() as u64).max().unwrap_or(0),
            Split::Val => 1,
        };
        // Which copies of a document are here, before it is copied: so that parts are read by the ranges.
        let is_here = |copy: u64| {
            let mut here = lit(true);
            if split == Split::Train {
                here = here.and(in_copy(copy, blend));
            }
            if count > 1 {
                here = here.and(in_range(index, count, copy.wrapping_mul(NEXT_COPY)));
            }
            here
        };
        let copies = || 0..copies.max(1);
        let any = copies().map(is_here).reduce(Expr::or).unwrap_or_else(|| lit(false));
        let own = copies().map(|copy| col("copy").eq(lit(copy)).and(is_here(copy))).reduce(Expr::or);
        let mut place = lit(0u64);
        for copy in copies() {
            let seed = self.pipeline.seed.wrapping_add((3 << 32) + copy);
            let hash = call(&self.engine, "kiln_hash", vec![lit(seed), col("id")])?;
            place = when(col("copy").eq(lit(copy)), hash).otherwise(place).map_err(plan)?;
        }
        let columns = ["source", "tokens", "number", "id", "key", "draw"].map(col);
        let copied = columns.into_iter().chain([make_array(copies().map(lit).collect()).alias("copy")]);
        let rows = all
            .filter(any)
            .and_then(|rows| rows.select(copied.collect::<Vec<_>>()))
            .and_then(|rows| rows.unnest_columns(&["copy"]))
            .and_then(|rows| rows.filter(own.unwrap_or_else(|| lit(false))))
            .and_then(|rows| {
                rows.select(vec![
                    col("source"),
                    col("tokens"),
                    place.alias("place"),
                    col("number"),
                    col("copy"),
                ])
            });
        let order = ["place", "number", "copy"].map(|name| col(name).sort(true, false)).to_vec();
        rows.and_then(|rows| rows.sort(order)).map_err(plan)
    }
}

fn into_plan(error: Error) -> datafusion::common::DataFusionError {
    datafusion::common::DataFusionError::External(Box::new(error))
}

/// Whether a document has this copy.
fn in_copy(copy: u64, blend: &[BlendedSource]) -> Expr {
    let of_source = |source: &BlendedSource| {
        let whole = source.epochs as u64;
        let is_source = col("source").eq(lit(source.name.clone()));
        match copy.cmp(&whole) {
            std::cmp::Ordering::Less => is_source,
            std::cmp::Ordering::Equal => {
                let share = (source.epochs.fract() * u64::MAX as f64) as u64;
                is_source.and(col("draw").lt(lit(share)))
            }
            std::cmp::Ordering::Greater => lit(false),
        }
    };
    blend.iter().map(of_source).reduce(Expr::or).unwrap_or_else(|| lit(false))
}

/// Whether a document's place, moved by `shift`, is in one of `count` equal ranges.
fn in_range(index: u64, count: u64, shift: u64) -> Expr {
    let bound = |index: u64| ((u128::from(index) << 64) / u128::from(count)) as u64;
    let first = bound(index).wrapping_sub(shift);
    // The end is the last place inside: 2⁶⁴ itself is no number of 64 bits.
    let last = bound(index + 1).wrapping_sub(1).wrapping_sub(shift);
    let (from, to) = (col("key").gt_eq(lit(first)), col("key").lt_eq(lit(last)));
    if first <= last { from.and(to) } else { from.or(to) }
}
