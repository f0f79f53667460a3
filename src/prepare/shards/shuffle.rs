//! Reads documents in shuffled order, shard by shard.
//!
//! A document's position is a hash of the seed and its id, so that the order depends on nothing else. A shard
//! is a range of positions. The positions of a document's copies differ by 0.618… of the whole range, so that
//! each shard gets its share of every pass. Any process can read a shard from all parts by its range alone.

use super::{ShardSummary, Split, Tokenizing, writer::ShardWriter};
use crate::{
    error::Result,
    tokenizer::Tokenizer,
    {blend::BlendedSource, engine::failed, keys::each_batch, rowwise::call, work::digest_file},
};
use datafusion::{
    arrow::array::AsArray,
    dataframe::DataFrame,
    functions_nested::expr_fn::make_array,
    logical_expr::{Expr, col, lit, when},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// 2⁶⁴ divided by the golden ratio; its multiples spread evenly over all positions.
const NEXT_COPY: u64 = 0x9e37_79b9_7f4a_7c15;

/// Writer of the shards, with all that its tasks need.
#[derive(Clone)]
pub(in super::super) struct Sharding {
    pub tokenizing: Tokenizing,
    pub tokenizer: Arc<Tokenizer>,
    pub folder: PathBuf,
    /// Split, index in the split, and the split's number of shards, for each shard.
    pub shards: Arc<Vec<(Split, u64, u64)>>,
    pub blend: Arc<Vec<BlendedSource>>,
}

impl Sharding {
    /// Writes one of the shards.
    pub(in super::super) async fn shard(self, number: usize) -> Result<ShardSummary> {
        let (split, index, count) = self.shards[number];
        let name = if count == 1 { split.name().into() } else { format!("{}-{index:05}", split.name()) };
        let mut writer =
            ShardWriter::new(&self.folder.join(format!("{name}.bin")), Arc::clone(&self.tokenizer))?;
        let mut sources: BTreeMap<String, u64> = BTreeMap::new();
        each_batch(self.in_order(self.shards[number]).await?, |batch| {
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
        let (sha256, _) = digest_file(&self.folder.join(&file))?;
        Ok(ShardSummary { file, split, tokens, documents, sha256, sources })
    }

    /// Plans the sources and tokens of the documents in one of `count` equal ranges, shuffled.
    async fn in_order(&self, (split, index, count): (Split, u64, u64)) -> Result<DataFrame> {
        let plan = |error| failed("planning")(error);
        let (tokenizing, blend) = (&self.tokenizing, &self.blend);
        let files: Vec<PathBuf> = (0..tokenizing.inputs.len()).map(|part| tokenizing.file(part)).collect();
        let all = tokenizing.engine.documents(&files).await?;
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
            let seed = tokenizing.pipeline.seed.wrapping_add((3 << 32) + copy);
            let hash = call(&tokenizing.engine, "kiln_hash", vec![lit(seed), col("id")])?;
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

/// Builds the condition that a document has this copy.
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

/// Builds the condition that a document's position, moved by `shift`, is in one of `count` equal ranges.
fn in_range(index: u64, count: u64, shift: u64) -> Expr {
    let bound = |index: u64| ((u128::from(index) << 64) / u128::from(count)) as u64;
    let first = bound(index).wrapping_sub(shift);
    // The end is the last place inside: 2⁶⁴ itself is no number of 64 bits.
    let last = bound(index + 1).wrapping_sub(1).wrapping_sub(shift);
    let (from, to) = (col("key").gt_eq(lit(first)), col("key").lt_eq(lit(last)));
    if first <= last { from.and(to) } else { from.or(to) }
}
