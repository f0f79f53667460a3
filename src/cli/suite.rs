//! Suites of tasks in lm-evaluation-harness's YAML: `kiln eval --suite`, and `eval.suites` during training.

mod model;
mod results;
mod rows;

use crate::{
    config::{Config, ModelConfig},
    error::{Error, Result},
    eval::scorer::{Scorer, check_architecture, context_length},
    generate::Generator,
    objective::{MetricValue, Metrics},
    train::Trainer,
};
use kiln_suite::{
    evaluate::{Evaluation, Options, PreparedSuite},
    suite::Suite,
    task::OutputType,
    value::Value,
};
use model::SuiteModel;
use std::path::{Path, PathBuf};

/// Rows of a batch during training.
const TRAINING_BATCH: usize = 16;

/// Options of `kiln eval` for task files.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Suites of tasks")]
pub(super) struct SuiteOptions {
    /// Evaluate the tasks of a file in lm-evaluation-harness's YAML, or of a folder of them (repeatable)
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["data", "split", "generate"])]
    suite: Vec<PathBuf>,
    /// Rows of each task, from its beginning; below 1, their share
    #[arg(long, value_name = "N", requires = "suite")]
    limit: Option<f64>,
    /// Examples before each row, instead of the tasks' own number
    #[arg(long, value_name = "N", requires = "suite")]
    num_fewshot: Option<usize>,
    /// Seed of the choice of examples
    #[arg(long, value_name = "N", default_value_t = 1234, requires = "suite")]
    seed: u64,
    /// Bootstrap samples for standard errors that have no formula; 0: no standard errors
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "suite")]
    bootstrap_iterations: usize,
    /// Folder for `results.json` and, for each task, `samples_TASK.jsonl`
    #[arg(long, value_name = "DIR", requires = "suite")]
    out: Option<PathBuf>,
}

impl SuiteOptions {
    /// Whether a suite is to be evaluated.
    pub(super) fn is_given(&self) -> bool {
        !self.suite.is_empty()
    }

    /// Reads the task files and their rows.
    ///
    /// # Errors
    /// [`Error::InvalidTask`], [`Error::InvalidValue`] and errors of reading.
    pub(super) fn prepare(&self, model: &ModelConfig) -> Result<PreparedSuite> {
        if let Some(limit) = self.limit.filter(|limit| !(limit.is_finite() && *limit > 0.0)) {
            return Err(Error::invalid_value("--limit", limit, "must be a number above 0"));
        }
        let options = Options {
            limit: self.limit,
            num_fewshot: self.num_fewshot,
            seed: self.seed,
            bootstrap_iterations: self.bootstrap_iterations,
        };
        prepare(&self.suite, options, model)
    }

    /// Evaluates a model, and shows or writes the results.
    ///
    /// # Errors
    /// Errors of the model and of writing.
    pub(super) fn run(
        &self,
        suite: &PreparedSuite,
        scorer: Scorer<'_>,
        checkpoint: &Path,
        json: bool,
    ) -> anyhow::Result<()> {
        let mut evaluation = evaluate(suite, scorer)?;
        super::show_notes(&evaluation.notes);
        results::describe(&mut evaluation.results, checkpoint, self);
        if let Some(folder) = &self.out {
            results::write(folder, &evaluation)?;
        }
        if json {
            println!("{}", serde_json::to_string_pretty(&evaluation.results)?);
        } else {
            print!("{}", results::table(&evaluation.results));
        }
        Ok(())
    }
}

/// Reads and checks the tasks of `eval.suites`; `None` if there are none.
///
/// # Errors
/// [`Error::InvalidTask`], [`Error::InvalidValue`] and errors of reading.
pub(super) fn of_config(config: &Config) -> Result<Option<PreparedSuite>> {
    let eval = &config.eval;
    if eval.suites.is_empty() {
        return Ok(None);
    }
    // Only the figures are shown, so that standard errors are not needed.
    let limit = eval.suite_limit.map(|limit| limit as f64);
    let options = Options { limit, bootstrap_iterations: 0, ..Options::default() };
    prepare(&eval.suites, options, &config.model).map(Some)
}

/// Lets a trainer evaluate tasks.
pub(super) fn with_tasks(trainer: Trainer, tasks: Option<PreparedSuite>) -> Trainer {
    let Some(suite) = tasks else { return trainer };
    trainer.with_tasks(Box::new(move |generator: &Generator<'_>| {
        let scorer = Scorer::new(*generator, TRAINING_BATCH)?;
        Ok(metrics(&evaluate(&suite, scorer)?))
    }))
}

/// Reads task files and their rows, and shows notes on them.
fn prepare(paths: &[PathBuf], options: Options, model: &ModelConfig) -> Result<PreparedSuite> {
    check_architecture(model)?;
    let suite = Suite::load(paths).map_err(refused)?;
    let limit = context_length(model);
    for task in suite.tasks.iter().filter(|task| task.output_type == OutputType::GenerateUntil) {
        let tokens = task.generation.max_gen_toks;
        if tokens >= limit {
            let message =
                format!("has no room in a context of {limit} tokens: up to {tokens} tokens are generated");
            let hint = "set `max_gen_toks` in `generation_kwargs` to fewer";
            return Err(refused(task.origin_of("generation_kwargs").invalid_with(message, hint)));
        }
    }
    let prepared = PreparedSuite::new(suite, &rows::read, options).map_err(refused)?;
    super::show_notes(&prepared.notes);
    Ok(prepared)
}

fn evaluate(suite: &PreparedSuite, scorer: Scorer<'_>) -> Result<Evaluation> {
    suite.run(&mut SuiteModel(scorer)).map_err(refused)
}

/// Metrics of tasks and groups as `TASK/METRIC`, or `TASK/METRIC,FILTER` if there is a filter with a name.
fn metrics(evaluation: &Evaluation) -> Metrics {
    let mut metrics = Metrics::new();
    let Some(Value::Map(results)) = evaluation.results.get("results") else { return metrics };
    for (task, figures) in results.iter() {
        let Value::Map(figures) = figures else { continue };
        for (name, value) in figures.iter() {
            let (Some((metric, filter)), Value::Float(value)) = (name.split_once(','), value) else {
                continue;
            };
            if !metric.ends_with("_stderr") {
                let name = if filter == "none" { metric } else { name };
                metrics.insert(format!("{task}/{name}"), MetricValue::One(*value as f32));
            }
        }
    }
    metrics
}

/// The error of a suite as one of the library: that of the model or of a file itself, or a message.
fn refused(error: kiln_suite::error::Error) -> Error {
    match error {
        kiln_suite::error::Error::File(error) => error,
        kiln_suite::error::Error::Model(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::InvalidTask { message: error.to_string(), hint: None },
        },
        other => Error::InvalidTask { message: other.to_string(), hint: other.hint().map(Into::into) },
    }
}
