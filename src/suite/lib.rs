//! Evaluates a model on tasks in lm-evaluation-harness's YAML over local data.
//!
//! ```no_run
//! # use kiln_suite::{error::Result, evaluate::{Options, PreparedSuite}, model::Model, suite::Suite};
//! # fn run(model: &mut dyn Model) -> Result<()> {
//! let suite = Suite::load(&["tasks/arc.yaml"])?;
//! let evaluation = PreparedSuite::new(suite, &|_| Ok(None), Options::default())?.run(model)?;
//! # Ok(())
//! # }
//! ```
//!
//! Requests, scores and standard errors are those of lm-evaluation-harness 0.4.13 (Gao and others, 2024);
//! `tests/fixtures/suite/golden.py` made those that the tests compare.

pub mod error; // What can be wrong with task files, rows and models.
pub mod files; // Files beside a task file.
pub mod value; // Values of rows, files and templates.
pub mod text; // Classes of characters as in Python.
pub mod yaml; // YAML with lines.
pub mod entries; // Keys of a file, with `include`.
pub mod python_literal; // Lists that templates print.
pub mod python_regex; // Regular expressions.
pub mod python_random; // Random numbers.
pub mod data; // Rows of data files.
pub mod splits; // Which file is which split.
pub mod template; // Jinja.
pub mod prompt; // Text, target and choices of a row.
pub mod fewshot; // Examples before a row.
pub mod generation; // Settings of generation.
pub mod filters; // What is taken of an output.
pub mod text_metrics; // Metrics of `kiln-score`.
pub mod metrics; // Scores of a row.
pub mod task; // A task file.
pub mod groups; // Groups of tasks.
pub mod suite; // All tasks and groups of some files.
pub mod model; // The model as a suite sees it.
pub mod requests; // What a model is asked for each row.
pub mod filtering; // Application of filters.
pub mod scoring; // Outputs to scores.
pub mod aggregation; // Scores to one number, with its standard error.
pub mod results; // lm-evaluation-harness's JSON.
pub mod evaluate; // All of it.

#[cfg(test)]
mod tests;
