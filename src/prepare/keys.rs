//! Steps that compare documents with each other, as plans over keys: the first pass computes the keys of each
//! part, the second reads all keys in order and finds the duplicates, the third writes the parts without
//! them. Keys that do not fit in memory are sorted in files.

mod groups;
mod verify;

use super::{
    duplicates::exact::Level,
    engine::{Engine, failed},
    parts::{COLUMNS, Part},
    steps::Step,
    work::Folder,
};
use crate::error::{Error, Result};
use datafusion::{
    arrow::{array::RecordBatch, datatypes::DataType},
    dataframe::DataFrame,
    functions::string::expr_fn::{btrim, concat},
    functions_aggregate::expr_fn::array_agg,
    logical_expr::{Expr, ExprFunctionExt, JoinType, cast, col, lit, when},
};
use futures::StreamExt;
use std::{path::PathBuf, sync::Arc};

pub use groups::Groups;

/// A step that compares documents, with all that its tasks need.
#[derive(Clone)]
pub(super) struct Comparison {
    pub engine: Engine,
    pub folder: Folder,
    /// Parts of the stage before, with their paths.
    pub inputs: Arc<Vec<(PathBuf, Part)>>,
    pub step: Step,
}

impl Comparison {
    /// Number of a part's first document. Documents are numbered by their rows, counted through all parts.
    fn offset(&self, part: usize) -> u64 {
        self.inputs[..part].iter().map(|(_, part)| part.span).sum()
    }

    /// First and last number that documents of a part may have.
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

    /// Reads the kept documents of a part.
    async fn part(&self, part: usize) -> Result<DataFrame> {
        let frame = self.engine.documents(&[self.inputs[part].0.clone()]).await?;
        frame.filter(col("reason").is_null()).map_err(failed("planning"))
    }

    fn file(&self, name: &str, part: usize) -> PathBuf {
        self.folder.file(&format!("{name}-{part:05}.parquet"))
    }

    /// Returns whether whole documents are dropped, not paragraphs or lines of them.
    fn is_of_documents(&self) -> bool {
        !matches!(&self.step, Step::ExactDuplicates(config) if config.level != Level::Document)
    }

    /// Writes the keys of a part to a file.
    pub(super) async fn keys(self, part: usize) -> Result<()> {
        let keys = self.keys_plan(part).await?;
        self.engine.write(keys, &self.file("keys", part)).await
    }

    /// Plans the keys of a part: columns `number`, `key` and, if paragraphs or lines are compared, `piece`.
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

    /// Paths of the files of this name of all parts.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        (0..self.inputs.len()).map(|part| self.file(name, part)).collect()
    }

    /// Writes a part of this stage: that of the stage before with duplicate documents marked, or duplicate
    /// paragraphs or lines removed.
    pub(super) async fn apply(self, part: usize) -> Result<Part> {
        let plan = |error| failed("planning")(error);
        let span = self.inputs[part].1.span;
        let (first, last) = self.numbers_of(part);
        // Batches of a join are as large as those of its first side: as documents', not as keys'.
        let removed = self.engine.documents(&[self.folder.file("removed.parquet")]).await?;
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
        // What goes is few and is held; documents pass by, in their order.
        let joined =
            removed.join(documents, JoinType::Right, &["number"], &["number_here"], None).map_err(plan)?;
        let columns = columns.into_iter().map(|column| match &column {
            Expr::Column(name) if name.name == "reason" => reason.clone().alias("reason"),
            Expr::Column(name) if name.name == "detail" => detail.clone().alias("detail"),
            Expr::Column(name) if name.name == "text" => text.clone().alias("text"),
            _ => column,
        });
        let frame = joined.select(columns.collect::<Vec<_>>()).map_err(plan)?;
        let path = self.folder.file(&self.inputs[part].1.file);
        self.engine.write(frame, &path).await?;
        Part::of_file(&path, span)
    }
}

/// Runs a plan and passes its batches to `each`, in order.
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
