//! Steps that compare documents with each other, as plans over keys: keys of each part, then all keys in order,
//! which says what goes, then the parts again without that. All keys are sorted in files where memory is short.

use super::{
    duplicates::{
        clusters::{Clusters, pairs},
        exact::Level,
        semantic::{SemanticConfig, semantic_duplicates},
    },
    engine::{Engine, failed},
    parts::{COLUMNS, Part},
    steps::Step,
    work::Folder,
};
use crate::error::{Error, Result};
use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch, UInt64Array},
        datatypes::{DataType, Float32Type, UInt64Type},
    },
    dataframe::DataFrame,
    functions::string::expr_fn::{btrim, concat},
    functions_aggregate::expr_fn::array_agg,
    functions_window::expr_fn::{first_value, lag, row_number},
    logical_expr::{Expr, ExprFunctionExt, JoinType, cast, col, lit, when},
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

/// A step at work.
#[derive(Clone)]
pub(super) struct Comparison {
    pub engine: Engine,
    pub folder: Folder,
    /// Parts of the stage before, with their paths.
    pub inputs: Arc<Vec<(PathBuf, Part)>>,
    pub step: Step,
}

/// Groups of duplicates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    pub documents: u64,
    /// How many groups there are of each size.
    pub sizes: std::collections::BTreeMap<u32, u64>,
}

impl Comparison {
    /// Documents have the number of their row, counted through all parts.
    fn offset(&self, part: usize) -> u64 {
        self.inputs[..part].iter().map(|(_, part)| part.span).sum()
    }

    /// The first and the last number that a part's documents may have.
    fn numbers_of(&self, part: usize) -> (u64, u64) {
        let first = self.offset(part);
        (first, (first + self.inputs[part].1.span).max(1) - 1)
    }

    fn documents(&self) -> u64 {
        self.offset(self.inputs.len())
    }

    fn settings(&self) -> Result<Expr> {
        let json = serde_json::to_string(&self.step);
        Ok(lit(json.map_err(|error| Error::preparation("planning", error.to_string()))?))
    }

    fn number(&self, part: usize) -> Expr {
        cast(col("row"), DataType::UInt64) + lit(self.offset(part))
    }

    fn function(&self, name: &str, arguments: Vec<Expr>) -> Result<Expr> {
        super::rowwise::call(&self.engine, name, arguments)
    }

    /// The kept documents of a part.
    async fn part(&self, part: usize) -> Result<DataFrame> {
        let frame = self.engine.documents(&[self.inputs[part].0.clone()]).await?;
        frame.filter(col("reason").is_null()).map_err(failed("planning"))
    }

    fn file(&self, name: &str, part: usize) -> PathBuf {
        self.folder.file(&format!("{name}-{part:05}.parquet"))
    }

    /// Whether whole documents go, or pieces of them.
    fn is_of_documents(&self) -> bool {
        !matches!(&self.step, Step::ExactDuplicates(config) if config.level != Level::Document)
    }

    /// Writes the keys of a part.
    pub(super) async fn keys(self, part: usize) -> Result<()> {
        let keys = self.keys_plan(part).await?;
        self.engine.write(keys, &self.file("keys", part)).await
    }

    /// The keys of a part: `number`, `key` and, of pieces, `piece`.
    pub(super) async fn keys_plan(&self, part: usize) -> Result<DataFrame> {
        let plan = |error| failed("planning")(error);
        let mut frame = self.part(part).await?;
        if let Step::FuzzyDuplicates(config) = &self.step
            && !config.sources.is_empty()
        {
            let names = config.sources.iter().map(|name| lit(name.clone())).collect();
            frame = frame.filter(col("source").in_list(names, false)).map_err(plan)?;
        }
        let number = self.number(part).alias("number");
        let settings = self.settings()?;
        let frame = if let Step::SemanticDuplicates(config) = &self.step {
            let model = lit(config.model.to_string_lossy().into_owned());
            let embedding = self.function("kiln_embedding", vec![model, col("text")])?;
            frame.select(vec![number, embedding.alias("key")]).map_err(plan)?
        } else if self.is_of_documents() {
            let keys = self.function("kiln_keys", vec![settings, col("text"), col("language")])?;
            let frame = frame.select(vec![number, keys.alias("key")]);
            frame.and_then(|frame| frame.unnest_columns(&["key"])).map_err(plan)?
        } else {
            let pieces = self.function("kiln_pieces", vec![settings, col("text")])?;
            let frame = frame.select(vec![number, pieces.alias("found")]);
            let frame = frame.and_then(|frame| frame.unnest_columns(&["found"])).map_err(plan)?;
            let field =
                |name: &str| datafusion::functions::core::expr_fn::get_field(col("found"), name).alias(name);
            frame.select(vec![col("number"), field("piece"), field("key")]).map_err(plan)?
        };
        Ok(frame)
    }

    /// Says what goes, once all keys are there.
    pub(super) async fn groups(self) -> Result<Groups> {
        match &self.step {
            Step::SemanticDuplicates(config) => {
                let config = config.clone();
                self.similar(&config).await
            }
            _ if self.is_of_documents() => self.clusters().await,
            _ => self.repeated().await,
        }
    }

    fn all_keys(&self) -> Vec<PathBuf> {
        (0..self.inputs.len()).map(|part| self.file("keys", part)).collect()
    }

    /// Writes which documents go (`number`, `representative`), and says what groups there are.
    async fn clusters(self) -> Result<Groups> {
        let documents = self.documents();
        let documents = u32::try_from(documents).map_err(|_| {
            Error::invalid_value("step", self.step.name(), format!("{documents} documents are more than 2³²"))
        })?;
        let mut clusters = Clusters::new(documents);
        match &self.step {
            Step::FuzzyDuplicates(config) if config.verify > 0.0 => {
                let threshold = config.verify;
                let similar = self.verified(threshold).await?;
                each_batch(similar, |batch| {
                    let [a, b] = [numbers(batch, 0)?, numbers(batch, 1)?];
                    (0..a.len())
                        .try_for_each(|row| clusters.join(a.value(row) as u32, b.value(row) as u32).map(drop))
                })
                .await?;
            }
            _ => {
                let keys = self.engine.keys(&self.all_keys()).await?;
                let order = [col("key").sort(true, false), col("number").sort(true, false)];
                let sorted =
                    keys.select(vec![col("number"), col("key")]).and_then(|keys| keys.sort(order.to_vec()));
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
                .await?;
            }
        }
        let mut groups = Groups { documents: documents.into(), ..Groups::default() };
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

    /// Pairs with a key in common whose shingles are as similar as asked. Of the documents of a key each is
    /// compared with the first and with the one before it.
    async fn verified(&self, threshold: f64) -> Result<DataFrame> {
        let plan = |error| failed("planning")(error);
        let keys = self.engine.keys(&self.all_keys()).await?;
        let order = vec![col("number").sort(true, false)];
        let window = |function: Expr| {
            function
                .partition_by(vec![col("key")])
                .order_by(order.clone())
                .build()
                .map_err(failed("planning"))
        };
        let first = window(first_value(col("number")))?;
        let previous = window(lag(col("number"), None, None))?;
        let keys = keys.window(vec![first.alias("first"), previous.alias("previous")]).map_err(plan)?;
        let pair = |other: &str| {
            let pairs = keys.clone().filter(col(other).is_not_null().and(col(other).lt(col("number"))));
            pairs.and_then(|pairs| pairs.select(vec![col(other).alias("a"), col("number").alias("b")]))
        };
        let pairs = pair("first").and_then(|pairs| pairs.union_distinct(pair("previous")?)).map_err(plan)?;
        let texts = self.all_parts(&["text", "language"]).await?;
        let named = |of: &str| {
            texts.clone().select(vec![
                col("number").alias(format!("number_{of}")),
                col("text").alias(format!("text_{of}")),
                col("language").alias(format!("language_{of}")),
            ])
        };
        let joined = pairs
            .join(named("a").map_err(plan)?, JoinType::Inner, &["a"], &["number_a"], None)
            .and_then(|joined| joined.join(named("b")?, JoinType::Inner, &["b"], &["number_b"], None))
            .map_err(plan)?;
        let columns = ["text_a", "language_a", "text_b", "language_b"].map(col);
        let arguments = [self.settings()?].into_iter().chain(columns).collect();
        let similarity = self.function("kiln_jaccard", arguments)?;
        let similar = joined.filter(similarity.gt_eq(lit(threshold))).map_err(plan)?;
        similar.select(vec![col("a"), col("b")]).map_err(plan)
    }

    /// Writes the numbers of documents that go and of those that stay for them, and the ids of these.
    async fn write_removed(&self, (numbers, representatives): (Vec<u64>, Vec<u64>)) -> Result<()> {
        let plan = |error| failed("planning")(error);
        let path = self.folder.file("removed-numbers.parquet");
        super::parts::write_numbers(&path, ["number", "representative"], [numbers, representatives])?;
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

    /// Numbers and columns of all kept documents.
    async fn all_parts(&self, columns: &[&str]) -> Result<DataFrame> {
        let plan = |error| failed("planning")(error);
        let mut all: Option<DataFrame> = None;
        for part in 0..self.inputs.len() {
            let columns = columns.iter().map(|name| col(*name)).chain([self.number(part).alias("number")]);
            let part = self.part(part).await?.select(columns.collect::<Vec<_>>()).map_err(plan)?;
            all = Some(match all {
                Some(all) => all.union(part).map_err(plan)?,
                None => part,
            });
        }
        all.ok_or_else(|| Error::preparation("planning", "there are no parts".into()))
    }

    /// Writes which documents say the same as another. Embeddings lie in a file that is mapped.
    async fn similar(self, config: &SemanticConfig) -> Result<Groups> {
        let beside = self.folder.file("embeddings.f32");
        let file = File::create(&beside).map_err(|error| Error::io("create", &beside, error))?;
        let mut file = BufWriter::new(file);
        let (mut ids, mut width) = (Vec::new(), 0);
        let keys = self.engine.keys(&self.all_keys()).await?;
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
        let mut groups = Groups { documents: ids.len() as u64, ..Groups::default() };
        let mut rows = (Vec::new(), Vec::new());
        if width > 0 {
            let bytes = crate::platform::storage::map(&beside)?;
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

    /// Writes which pieces go: all but the first of a key.
    async fn repeated(self) -> Result<Groups> {
        let plan = |error| failed("planning")(error);
        let keys = self.engine.keys(&self.all_keys()).await?;
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
        Ok(Groups { documents: self.documents(), ..Groups::default() })
    }

    /// Writes a part of this stage: that of the stage before with what goes marked, or taken out.
    pub(super) async fn apply(self, part: usize) -> Result<Part> {
        let plan = |error| failed("planning")(error);
        let span = self.inputs[part].1.span;
        let (first, last) = self.numbers_of(part);
        let removed = self.engine.keys(&[self.folder.file("removed.parquet")]).await?;
        let removed = removed.filter(col("number").between(lit(first), lit(last))).map_err(plan)?;
        let columns = COLUMNS.map(col).to_vec();
        let documents = self.part(part).await?.with_column("number_here", self.number(part)).map_err(plan)?;
        let (removed, reason, detail, text) = if self.is_of_documents() {
            let gone = col("representative").is_not_null();
            let reason = match self.step {
                Step::ExactDuplicates(_) => "exact_duplicate",
                Step::SemanticDuplicates(_) => "semantic_duplicate",
                _ => "fuzzy_duplicate",
            };
            let reason = when(gone.clone(), lit(reason)).end().map_err(plan)?;
            let number = cast(col("representative"), DataType::Utf8);
            let named = concat(vec![col("kept_id"), lit(" (document "), number, lit(")")]);
            (removed, reason, when(gone, named).end().map_err(plan)?, col("text"))
        } else {
            let order = vec![col("piece").sort(true, false)];
            let list = array_agg(col("piece")).order_by(order).build().map_err(failed("planning"))?;
            let removed = removed.aggregate(vec![col("number")], vec![list.alias("pieces")]).map_err(plan)?;
            let text = self.function("kiln_without", vec![self.settings()?, col("text"), col("pieces")])?;
            // A document of repeated pieces alone is a duplicate too.
            let reason = when(btrim(vec![text.clone()]).eq(lit("")), lit("exact_duplicate"));
            (removed, reason.end().map_err(plan)?, lit(datafusion::common::ScalarValue::Utf8(None)), text)
        };
        // What goes is few and is held; documents pass by.
        let joined =
            removed.join(documents, JoinType::Right, &["number"], &["number_here"], None).map_err(plan)?;
        let columns = columns.into_iter().map(|column| match &column {
            Expr::Column(name) if name.name == "reason" => reason.clone().alias("reason"),
            Expr::Column(name) if name.name == "detail" => detail.clone().alias("detail"),
            Expr::Column(name) if name.name == "text" => text.clone().alias("text"),
            _ => column,
        });
        let frame = joined.select(columns.collect::<Vec<_>>()).map_err(plan)?;
        let frame = frame.sort(vec![col("row").sort(true, false)]).map_err(plan)?;
        let path = self.folder.file(&self.inputs[part].1.file);
        self.engine.write(frame, &path).await?;
        Part::of_file(&path, span)
    }
}

/// Gives all batches of a plan's result to `each`, in order.
pub(super) async fn each_batch(
    frame: DataFrame,
    mut each: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let mut stream = frame.execute_stream().await.map_err(failed("running a plan"))?;
    while let Some(batch) = stream.next().await {
        each(&batch.map_err(failed("running a plan"))?)?;
    }
    Ok(())
}

/// The numbers of a file of them.
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
