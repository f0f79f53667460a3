//! Finds the documents to drop, once the keys of all parts are written: documents with the same key are
//! duplicates.

use super::{Comparison, each_batch};
use crate::{
    error::{Error, Result},
    platform::storage,
    {
        duplicates::{
            clusters::{Clusters, pairs},
            semantic::{SemanticConfig, semantic_duplicates},
        },
        engine::failed,
        parts::write_numbers,
        steps::Step,
        work::unfinished,
    },
};
use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch, UInt64Array},
        datatypes::{Float32Type, UInt64Type},
    },
    functions_window::expr_fn::row_number,
    logical_expr::{ExprFunctionExt, JoinType, col, lit},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
};

/// Numbers and sizes of the groups of duplicates that a step found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    /// Number of documents that were compared.
    pub documents: u64,
    /// Number of groups of each size. If embeddings are compared, each dropped document counts as a group of
    /// two.
    pub sizes: BTreeMap<u32, u64>,
}

impl Comparison {
    /// Finds the documents or pieces to drop and writes them to `removed.parquet`.
    pub(in super::super) async fn groups(self) -> Result<Groups> {
        match &self.step {
            Step::SemanticDuplicates(config) => {
                let config = config.clone();
                self.semantic(&config).await
            }
            _ if self.is_of_documents() => self.clusters().await,
            _ => self.repeated().await,
        }
    }

    /// Writes the documents to drop (`number`, `representative`) and returns the groups.
    async fn clusters(self) -> Result<Groups> {
        let documents = self.documents();
        let documents = u32::try_from(documents).map_err(|_| {
            Error::invalid_value("step", self.step.name(), format!("{documents} documents are more than 2³²"))
        })?;
        let mut clusters = Clusters::new(documents);
        if self.verified_at().is_some() {
            let similar = self.engine.keys(&self.files("similar")).await?;
            each_batch(similar, |batch| {
                let [a, b] = [numbers(batch, 0)?, numbers(batch, 1)?];
                (0..a.len())
                    .try_for_each(|row| clusters.join(a.value(row) as u32, b.value(row) as u32).map(drop))
            })
            .await?;
        } else {
            self.join_by_keys(&mut clusters).await?;
        }
        let mut groups = self.no_groups();
        for cluster in clusters.clusters() {
            *groups.sizes.entry(cluster.size).or_default() += 1;
        }
        let mut rows = (Vec::new(), Vec::new());
        for document in 0..documents {
            if !clusters.is_kept(document) {
                rows.0.push(u64::from(document));
                rows.1.push(u64::from(clusters.representative(document)));
            }
        }
        self.write_removed(rows).await?;
        Ok(groups)
    }

    /// Joins the clusters of all documents that have a common key.
    async fn join_by_keys(&self, clusters: &mut Clusters) -> Result<()> {
        let keys = self.engine.keys(&self.files("keys")).await?;
        let order = [col("key").sort(true, false), col("number").sort(true, false)];
        let sorted = keys.select(vec![col("number"), col("key")]).and_then(|keys| keys.sort(order.to_vec()));
        let mut last: Option<(u128, u32)> = None;
        each_batch(sorted.map_err(failed("planning"))?, |batch| {
            let keys = batch.column(1).as_fixed_size_binary();
            let numbers = numbers(batch, 0)?;
            // The first document of the key that goes on from the batch before.
            let rows = (0..batch.num_rows()).map(|row| {
                let key = keys.value(row).try_into().map(u128::from_be_bytes).unwrap_or_default();
                (key, numbers.value(row) as u32)
            });
            let rows: Vec<(u128, u32)> = last.into_iter().chain(rows).collect();
            for (a, b) in pairs(rows.iter().copied()) {
                clusters.join(a, b)?;
            }
            last = rows.last().map(|&(key, _)| {
                let first = rows.iter().rev().take_while(|row| row.0 == key).last();
                first.copied().unwrap_or_default()
            });
            Ok(())
        })
        .await
    }

    /// Counts the documents that are compared, without any group.
    fn no_groups(&self) -> Groups {
        let documents = self.inputs.iter().map(|(_, part)| part.counts.kept.documents).sum();
        Groups { documents, ..Groups::default() }
    }

    /// Writes the numbers of the documents to drop, the numbers of those that are kept in their place, and
    /// the ids of the latter.
    async fn write_removed(&self, (numbers, representatives): (Vec<u64>, Vec<u64>)) -> Result<()> {
        let plan = |error| failed("planning")(error);
        let path = self.folder.file("removed-numbers.parquet");
        write_numbers(&path, ["number", "representative"], [numbers, representatives])?;
        // One part after another: a union of all would have all of them open at once.
        let mut files = Vec::new();
        for part in 0..self.inputs.len() {
            let (first, last) = self.numbers_of(part);
            let removed = self.engine.keys(std::slice::from_ref(&path)).await?;
            let here = col("representative").between(lit(first), lit(last));
            let removed = removed.filter(here).map_err(plan)?;
            let ids = vec![self.number(part).alias("own"), col("id").alias("kept_id")];
            let ids = self.part(part).await?.select(ids).map_err(plan)?;
            let named = removed
                .join(ids, JoinType::Inner, &["representative"], &["own"], None)
                .and_then(|named| named.select(["number", "representative", "kept_id"].map(col).to_vec()))
                .map_err(plan)?;
            files.push(self.file("named", part));
            self.engine.write(named, &files[part]).await?;
        }
        let named =
            self.engine.keys(&files).await?.sort(vec![col("number").sort(true, false)]).map_err(plan)?;
        self.engine.write(named, &self.folder.file("removed.parquet")).await
    }

    /// Writes the documents that have nearly the same embedding as another. Embeddings are in a memory-mapped
    /// file.
    async fn semantic(self, config: &SemanticConfig) -> Result<Groups> {
        let beside = unfinished(&self.folder.file("embeddings.f32"));
        let file = File::create(&beside).map_err(|error| Error::io("create", &beside, error))?;
        let mut file = BufWriter::new(file);
        let (mut ids, mut width) = (Vec::new(), 0);
        let keys = self.engine.keys(&self.files("keys")).await?;
        let keys = keys.sort(vec![col("number").sort(true, false)]).map_err(failed("planning"))?;
        each_batch(keys, |batch| {
            ids.extend_from_slice(numbers(batch, 0)?.values());
            let embeddings = batch.column(1).as_list::<i32>();
            for embedding in embeddings.iter().flatten() {
                let embedding = embedding.as_primitive::<Float32Type>();
                width = embedding.len();
                let mut bytes = embedding.values().iter().map(|value| value.to_ne_bytes());
                let written = bytes.try_for_each(|bytes| file.write_all(&bytes));
                written.map_err(|error| Error::io("write", &beside, error))?;
            }
            Ok(())
        })
        .await?;
        file.flush().map_err(|error| Error::io("write", &beside, error))?;
        drop(file);
        let mut groups = self.no_groups();
        let mut rows = (Vec::new(), Vec::new());
        if width > 0 {
            let bytes = storage::map(&beside)?;
            for duplicate in semantic_duplicates(as_floats(&bytes)?, width, config)? {
                rows.0.push(ids[duplicate.document]);
                rows.1.push(ids[duplicate.of]);
            }
        }
        groups.sizes.insert(2, rows.0.len() as u64);
        self.write_removed(rows).await?;
        std::fs::remove_file(&beside).map_err(|error| Error::io("remove", &beside, error))?;
        Ok(groups)
    }

    /// Writes the pieces to drop: all but the first with the same key.
    async fn repeated(self) -> Result<Groups> {
        let plan = |error| failed("planning")(error);
        let keys = self.engine.keys(&self.files("keys")).await?;
        let order = vec![col("number").sort(true, false), col("piece").sort(true, false)];
        let rank = row_number().partition_by(vec![col("key")]).order_by(order.clone()).build();
        let ranked =
            keys.window(vec![rank.map_err(failed("planning"))?.alias("occurrence")]).map_err(plan)?;
        let repeated = ranked
            .filter(col("occurrence").gt(lit(1u64)))
            .and_then(|rows| rows.select(vec![col("number"), col("piece")]))
            .and_then(|rows| rows.sort(order))
            .map_err(plan)?;
        self.engine.write(repeated, &self.folder.file("removed.parquet")).await?;
        Ok(self.no_groups())
    }
}

/// Casts the bytes of a file of numbers.
fn as_floats(bytes: &[u8]) -> Result<&[f32]> {
    // SAFETY: every pattern of bits is a number.
    match unsafe { bytes.align_to::<f32>() } {
        ([], floats, []) => Ok(floats),
        _ => Err(Error::preparation("comparing", "embeddings are cut short".into())),
    }
}

fn numbers(batch: &RecordBatch, column: usize) -> Result<&UInt64Array> {
    let numbers = batch.column(column).as_primitive_opt::<UInt64Type>();
    numbers
        .ok_or_else(|| Error::preparation("running a plan", "a column of numbers is something else".into()))
}
