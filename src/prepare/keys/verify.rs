//! Verifies by their texts that documents with a common key are as similar as requested. Texts are joined to
//! the pairs part by part, and the two sides of each pair meet by sorting, so that neither all texts nor all
//! pairs need to fit in memory.

use super::Comparison;
use crate::{
    error::Result,
    {engine::failed, steps::Step},
};
use datafusion::{
    functions_nested::expr_fn::make_array,
    functions_window::expr_fn::{first_value, lag},
    logical_expr::{Expr, ExprFunctionExt, JoinType, SortExpr, col, lit},
};

/// Rows of a row group of sorted texts; a part reads only the row groups that it needs.
const ROW_GROUP: usize = 512;

fn ascending(columns: &[&str]) -> Vec<SortExpr> {
    columns.iter().map(|name| col(*name).sort(true, false)).collect()
}

fn window(function: Expr, partition: &[&str], order: &[&str]) -> Result<Expr> {
    let function = function.partition_by(partition.iter().map(|name| col(*name)).collect());
    function.order_by(ascending(order)).build().map_err(failed("planning"))
}

impl Comparison {
    /// Minimum similarity of documents with a common key; `None` if their texts are not compared.
    pub(in super::super) fn verified_at(&self) -> Option<f64> {
        match &self.step {
            Step::FuzzyDuplicates(config) if config.verify > 0.0 => Some(config.verify),
            _ => None,
        }
    }

    /// Writes the pairs to compare, each once for each of its two documents: `number`, `a`, `b`, sorted.
    /// Among the documents with the same key, each is compared with the first one and with the one before it.
    pub(in super::super) async fn pairs(self) -> Result<()> {
        let plan = |error| failed("planning")(error);
        let keys = self.engine.keys(&self.files("keys")).await?;
        let first = window(first_value(col("number")), &["key"], &["number"])?;
        let before = window(lag(col("number"), Some(1), None), &["key"], &["number"])?;
        let pairs = keys
            .window(vec![first.alias("first"), before.alias("before")])
            .and_then(|keys| {
                let others = make_array(vec![col("first"), col("before")]);
                keys.select(vec![others.alias("a"), col("number").alias("b")])
            })
            .and_then(|pairs| pairs.unnest_columns(&["a"]))
            .and_then(|pairs| pairs.filter(col("a").is_not_null().and(col("a").lt(col("b")))))
            .and_then(|pairs| pairs.distinct())
            .and_then(|pairs| {
                let both = make_array(vec![col("a"), col("b")]);
                pairs.select(vec![both.alias("number"), col("a"), col("b")])
            })
            .and_then(|pairs| pairs.unnest_columns(&["number"]))
            .and_then(|pairs| pairs.sort(ascending(&["number", "a", "b"])))
            .map_err(plan)?;
        self.engine.write(pairs, &self.folder.file("pairs.parquet")).await
    }

    /// Writes the pairs of a part's documents together with their texts.
    pub(in super::super) async fn sides(self, part: usize) -> Result<()> {
        let plan = |error| failed("planning")(error);
        let (first, last) = self.numbers_of(part);
        // Of documents' batches: those of a join are as large as its first side's.
        let pairs = self.engine.documents(&[self.folder.file("pairs.parquet")]).await?;
        let pairs = pairs.filter(col("number").between(lit(first), lit(last))).map_err(plan)?;
        let columns = vec![self.number(part).alias("own"), col("text"), col("language")];
        let texts = self.part(part).await?.select(columns).map_err(plan)?;
        let sides = pairs
            .join(texts, JoinType::Inner, &["number"], &["own"], None)
            .and_then(|sides| sides.select(["number", "a", "b", "text", "language"].map(col).to_vec()))
            .map_err(plan)?;
        self.engine.write(sides, &self.file("sides", part)).await
    }

    /// Sorts the sides of all pairs, so that the two sides of a pair follow each other.
    pub(in super::super) async fn in_pairs(self) -> Result<()> {
        let sides = self.engine.documents(&self.files("sides")).await?;
        let sides = sides.sort(ascending(&["a", "b", "number"])).map_err(failed("planning"))?;
        self.engine.write_in_groups(sides, &self.folder.file("sides.parquet"), ROW_GROUP).await
    }

    /// Writes the pairs `a`, `b` whose first document is in this part and that are similar enough.
    pub(in super::super) async fn similar(self, part: usize) -> Result<()> {
        let plan = |error| failed("planning")(error);
        let (first, last) = self.numbers_of(part);
        let sides = self.engine.documents(&[self.folder.file("sides.parquet")]).await?;
        let sides = sides.filter(col("a").between(lit(first), lit(last))).map_err(plan)?;
        let other = |name: &str| {
            let other = window(lag(col(name), Some(1), None), &["a", "b"], &["number"]);
            other.map(|other| other.alias(format!("{name}_a")))
        };
        let both = sides.window(vec![other("number")?, other("text")?, other("language")?]).map_err(plan)?;
        let columns = ["text_a", "language_a", "text", "language"].map(col);
        let arguments = [self.settings()?].into_iter().chain(columns).collect();
        let similarity = self.function("kiln_jaccard", arguments)?;
        let threshold = self.verified_at().unwrap_or_default();
        let similar = both
            .filter(col("number_a").is_not_null())
            .and_then(|both| both.filter(similarity.gt_eq(lit(threshold))))
            .and_then(|similar| similar.select(vec![col("a"), col("b")]))
            .map_err(plan)?;
        self.engine.write(similar, &self.file("similar", part)).await
    }
}
