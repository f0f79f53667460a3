//! Plans the steps that keep documents by a condition over their statistics, in SQL.

use super::{
    engine::{Engine, failed},
    parts::COLUMNS,
    rowwise::call,
    rules::statistics::STATISTICS,
};
use crate::error::{Error, Result, hint};
use datafusion::{
    common::tree_node::{Transformed, TreeNode},
    dataframe::DataFrame,
    logical_expr::{Expr, col, lit, when},
};

/// Plans the dropping of all documents for which `condition` is not true. It may name statistics and columns.
///
/// # Errors
/// [`Error::InvalidValue`] if it is no condition or uses another name.
pub(super) fn plan(engine: &Engine, documents: DataFrame, condition: &str) -> Result<DataFrame> {
    let invalid = |message: String| Error::InvalidValue {
        key: "expression.keep".into(),
        value: condition.into(),
        message,
        hint: Some(hint![hint::command("kiln data statistics"), " lists what it may name"]),
    };
    // Statistics are columns for the parser and calls for the plan.
    let named = |frame: DataFrame| {
        STATISTICS.iter().try_fold(frame, |frame, statistic| frame.with_column(statistic.name, lit(0f64)))
    };
    let schema = named(documents.clone()).map_err(failed("planning"))?;
    let parsed = schema.parse_sql_expr(condition).map_err(|error| invalid(first_line(&error)))?;
    let parsed = parsed.transform(|node| {
        Ok(match &node {
            Expr::Column(column) if STATISTICS.iter().any(|statistic| statistic.name == column.name) => {
                let arguments = vec![lit(column.name.clone()), col("text"), col("language")];
                let call = call(engine, "kiln_statistic", arguments);
                Transformed::yes(
                    call.map_err(|error| datafusion::common::DataFusionError::External(Box::new(error)))?,
                )
            }
            _ => Transformed::no(node),
        })
    });
    let keep = parsed.map_err(failed("planning"))?.data;
    let reason = when(keep.is_not_true(), lit("expression")).end().map_err(failed("planning"))?;
    let detail = when(reason.clone().is_not_null(), lit(condition)).end().map_err(failed("planning"))?;
    let columns = COLUMNS.map(|name| match name {
        "reason" => reason.clone().alias(name),
        "detail" => detail.clone().alias(name),
        _ => col(name),
    });
    documents.select(columns.to_vec()).map_err(|error| invalid(first_line(&error)))
}

/// First line of an error's message, without the list of all valid names that follows.
fn first_line(error: &datafusion::common::DataFusionError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
