//! Runs a suite: reads the rows, builds all requests, asks the model, and scores what it returns.

use crate::{
    aggregation::Score,
    data::{ReadTable, Row},
    error::{Error, Origin, Result},
    fewshot::Sampler,
    model::{Likelihood, Model},
    requests::{Builder, Example, Requests},
    results::{self, TaskResults},
    scoring::{self, Outputs},
    suite::Suite,
    task::Task,
    value::{Map, Value},
};

/// Settings of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Number of rows of each task or, below 1, their share; all rows if `None`.
    pub limit: Option<f64>,
    /// Number of examples, instead of that of the tasks. A task that sets it to 0 keeps it.
    pub num_fewshot: Option<usize>,
    /// Seed of the choice of examples.
    pub seed: u64,
    /// Number of bootstrap samples for standard errors; none are estimated for 0.
    pub bootstrap_iterations: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { limit: None, num_fewshot: None, seed: 1234, bootstrap_iterations: 100_000 }
    }
}

/// Results of a suite.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Results in the form of lm-evaluation-harness.
    pub results: Map,
    /// The examples of each task, by its name.
    pub samples: Vec<(String, Vec<Map>)>,
    /// Number of tokens whose likelihood was measured for a target or a choice.
    pub scored_tokens: usize,
    /// Notes on the results for the user, a sentence each.
    pub notes: Vec<String>,
}

/// A suite whose rows are read and right, so that it can be run as often as wanted.
pub struct PreparedSuite {
    suite: Suite,
    options: Options,
    /// Rows of each task.
    rows: Vec<TaskRows>,
    /// Notes for the user before the suite runs, such as keys without an effect.
    pub notes: Vec<String>,
}

/// Rows of a task.
struct TaskRows {
    evaluated: Vec<Row>,
    /// Number of rows before the limit.
    total: usize,
    examples: Option<Vec<Row>>,
    columns: Vec<String>,
    num_fewshot: usize,
}

impl PreparedSuite {
    /// Reads the rows of a suite, and builds all requests once, so that a row that is not right is found
    /// before a model is asked. `read_table` reads files in other formats than JSON, CSV and TSV.
    ///
    /// # Errors
    /// Those of a data file or a row that is not right, with the row.
    pub fn new(suite: Suite, read_table: &ReadTable, options: Options) -> Result<Self> {
        let mut notes: Vec<String> = suite.tasks.iter().flat_map(|task| task.notes.clone()).collect();
        let mut rows = Vec::new();
        for task in &suite.tasks {
            let own = TaskRows::read(task, read_table, &options)?;
            notes.extend(own.notes(task));
            own.check(task, &options)?;
            rows.push(own);
        }
        Ok(Self { suite, options, rows, notes })
    }

    /// The tasks and groups.
    pub fn suite(&self) -> &Suite {
        &self.suite
    }

    /// Evaluates a model.
    ///
    /// # Errors
    /// [`Error::Model`].
    pub fn run(&self, model: &mut dyn Model) -> Result<Evaluation> {
        let Self { suite, options, .. } = self;
        let tasks = || suite.tasks.iter().zip(&self.rows);
        let examples = tasks()
            .map(|(task, rows)| rows.builder(task, options).build(&rows.evaluated))
            .collect::<Result<Vec<_>>>()?;
        let asked: Vec<(usize, &Example)> = suite
            .tasks
            .iter()
            .zip(&examples)
            .flat_map(|(task, examples)| examples.iter().map(|example| (task.repeats, example)))
            .collect();
        let mut outputs = ask(model, &asked)?.into_iter();
        let (mut finished, mut scored_tokens, mut notes) = (Vec::new(), 0, Vec::new());
        for ((task, rows), examples) in tasks().zip(&examples) {
            let outputs: Vec<RawOutputs> = outputs.by_ref().take(examples.len()).collect();
            scored_tokens += outputs.iter().map(RawOutputs::tokens).sum::<usize>();
            let (scores, samples) = score(task, examples, &outputs)?;
            let (total, num_fewshot) = (rows.total, rows.num_fewshot);
            finished.push(TaskResults { task, scores, samples, total, num_fewshot });
        }
        let results = results::collect(suite, &finished, options, &mut notes);
        let samples = finished.into_iter().map(|task| (task.task.name.clone(), task.samples)).collect();
        Ok(Evaluation { results, samples, scored_tokens, notes })
    }
}

impl TaskRows {
    fn read(task: &Task, read_table: &ReadTable, options: &Options) -> Result<Self> {
        let splits = &task.splits;
        let key = |names: [(&Option<String>, &str); 3], split: &str| {
            let is_named = |own: &Option<String>, key: &str| {
                own.as_deref() == Some(split) && task.keys.get(key).is_some()
            };
            let name = names.into_iter().find(|(own, key)| is_named(own, key));
            name.map_or_else(|| splits.origin.clone(), |(_, key)| task.origin_of(key))
        };
        let names = [
            (&splits.test, "test_split"),
            (&splits.validation, "validation_split"),
            (&splits.training, "training_split"),
        ];
        let mut evaluated = splits.read(splits.evaluated(), &key(names, splits.evaluated()), read_table)?;
        let columns =
            evaluated.first().map(|row| row.values.keys().map(Into::into).collect()).unwrap_or_default();
        let num_fewshot = match (task.num_fewshot, options.num_fewshot) {
            (Some(0), _) => 0,
            (own, overriding) => overriding.or(own).unwrap_or(0),
        };
        let examples = if num_fewshot == 0 {
            None
        } else if let Some(split) = &task.fewshot.split {
            Some(splits.read(split, &task.origin_of("fewshot_split"), read_table)?)
        } else if let Some(samples) = &task.fewshot.samples {
            Some(samples.clone())
        } else {
            // As in lm-evaluation-harness: the rows for training, for validation, or those that are evaluated.
            let order = [&splits.training, &splits.validation, &splits.test];
            let split = order.into_iter().flatten().next().map_or("", String::as_str);
            Some(splits.read(split, &key(names, split), read_table)?)
        };
        let total = evaluated.len();
        let limit = match options.limit {
            None => total,
            Some(share) if share < 1.0 => (total as f64 * share).ceil() as usize,
            Some(count) => count as usize,
        };
        evaluated.truncate(limit.max(1));
        Ok(Self { evaluated, total, examples, columns, num_fewshot })
    }

    /// Builds all requests, and drops them.
    fn check(&self, task: &Task, options: &Options) -> Result<()> {
        let examples = self.builder(task, options).build(&self.evaluated)?;
        examples.iter().try_for_each(|example| scoring::check(task, example))
    }

    fn builder<'a>(&'a self, task: &'a Task, options: &Options) -> Builder<'a> {
        let seed = task.fewshot.seed.unwrap_or(options.seed);
        let origin = task.origin_of("num_fewshot");
        let sampler = |rows: &'a Vec<Row>| Sampler::new(rows, task.fewshot.sampler, seed, origin);
        Builder {
            task,
            columns: self.columns.clone(),
            sampler: self.examples.as_ref().map(sampler),
            num_fewshot: self.num_fewshot,
            excludes_row: task.fewshot.split == task.splits.test,
            has_several_contexts: false,
            has_several_targets: false,
        }
    }

    /// Notes on a task that can be run but is likely not what its author wants.
    fn notes(&self, task: &Task) -> Vec<String> {
        let mut notes = Vec::new();
        let place =
            |origin: &Origin| format!("`{}` line {}: `{}`", origin.path.display(), origin.line, origin.key);
        for source in [&task.prompt.text, &task.prompt.target] {
            let text = source.constant_text(&self.columns).filter(|text| !text.trim().is_empty());
            if let Some(text) = text {
                let place = place(&source.origin);
                notes.push(format!(
                    "{place} is neither a field nor a template, so that each row gets the text `{text}`"
                ));
            }
        }
        let examples = &task.fewshot;
        let is_evaluated =
            |split: Option<&String>| split.is_some_and(|split| split == task.splits.evaluated());
        let fallback =
            task.splits.training.as_ref().or(task.splits.validation.as_ref()).or(task.splits.test.as_ref());
        let split = match (&examples.split, &examples.samples) {
            (None, Some(_)) => None,
            (split, _) => split.as_ref().or(fallback),
        };
        if self.examples.is_some() && is_evaluated(split) && examples.split != task.splits.test {
            let place = place(&task.origin_of("num_fewshot"));
            notes.push(format!(
                "{place} takes examples from the evaluated rows, so that a row may be among its own examples, as in \
                 lm-evaluation-harness; name other rows with `fewshot_split`"
            ));
        }
        notes
    }
}

/// Outputs of the requests of one example, each repeated.
enum RawOutputs {
    /// Likelihoods of the repetitions of each request.
    Likelihoods(Vec<Vec<Likelihood>>),
    Rolling(Vec<f64>),
    Texts(Vec<String>),
}

impl RawOutputs {
    fn tokens(&self) -> usize {
        match self {
            Self::Likelihoods(requests) => {
                requests.iter().flatten().map(|likelihood| likelihood.tokens).sum()
            }
            _ => 0,
        }
    }
}

/// Asks the model all requests of a kind at once.
fn ask(model: &mut dyn Model, examples: &[(usize, &Example)]) -> Result<Vec<RawOutputs>> {
    let (mut likelihoods, mut texts, mut generations) = (Vec::new(), Vec::new(), Vec::new());
    for (repeats, example) in examples {
        match &example.requests {
            Requests::Likelihoods(requests) => {
                likelihoods.extend(
                    requests.iter().flat_map(|request| std::iter::repeat_n(request.clone(), *repeats)),
                );
            }
            Requests::Rolling(text) => texts.extend(std::iter::repeat_n(text.clone(), *repeats)),
            Requests::Generation(request) => {
                generations.extend(std::iter::repeat_n(request.clone(), *repeats))
            }
        }
    }
    let mut likelihoods = answered(&likelihoods, |requests| model.loglikelihood(requests))?;
    let mut rolling = answered(&texts, |texts| model.loglikelihood_rolling(texts))?;
    let mut generated = answered(&generations, |requests| model.generate_until(requests))?;
    let output = |(repeats, example): &(usize, &Example)| match &example.requests {
        Requests::Likelihoods(requests) => RawOutputs::Likelihoods(
            requests.iter().map(|_| likelihoods.by_ref().take(*repeats).collect()).collect(),
        ),
        Requests::Rolling(_) => RawOutputs::Rolling(rolling.by_ref().take(*repeats).collect()),
        Requests::Generation(_) => RawOutputs::Texts(generated.by_ref().take(*repeats).collect()),
    };
    Ok(examples.iter().map(output).collect())
}

/// Outputs of requests, of which there must be as many. Nothing is asked without requests.
fn answered<R, O>(requests: &[R], ask: impl FnOnce(&[R]) -> Result<Vec<O>>) -> Result<std::vec::IntoIter<O>> {
    if requests.is_empty() {
        return Ok(Vec::new().into_iter());
    }
    let outputs = ask(requests)?;
    if outputs.len() == requests.len() {
        return Ok(outputs.into_iter());
    }
    let message = format!("it has returned {} outputs for {} requests", outputs.len(), requests.len());
    Err(Error::Model(message.into()))
}

/// Scores of a task: for each pipeline and metric one for each row.
type Scores = Vec<(String, Vec<Vec<Score>>)>;

/// Filters and scores the outputs of a task.
fn score(task: &Task, examples: &[Example], outputs: &[RawOutputs]) -> Result<(Scores, Vec<Map>)> {
    let (mut scores, mut samples) = (Vec::new(), Vec::new());
    for pipeline in &task.pipelines {
        let mut columns: Vec<Vec<Score>> = vec![Vec::with_capacity(examples.len()); task.metrics.len()];
        for (id, (example, outputs)) in examples.iter().zip(outputs).enumerate() {
            let (mut firsts, mut texts) = (Vec::new(), Vec::new());
            let outputs_left = match outputs {
                RawOutputs::Likelihoods(requests) => {
                    firsts.extend(requests.iter().filter_map(|repetitions| repetitions.first().copied()));
                    Outputs::Likelihoods(&firsts)
                }
                RawOutputs::Rolling(values) => Outputs::Rolling(values.first().copied().unwrap_or(f64::NAN)),
                RawOutputs::Texts(generated) => {
                    texts.extend(pipeline.apply(generated, example.row)?);
                    Outputs::Texts(&texts)
                }
            };
            let mut values = Map::default();
            for (metric, column) in task.metrics.iter().zip(&mut columns) {
                let score = metric.score(example, &outputs_left)?;
                values.set(&metric.name, score.to_value());
                column.push(score);
            }
            let raw = raw_values(outputs);
            let filtered = results::filtered_values(&outputs_left, pipeline.takes_first());
            samples.push(results::sample(id, example, raw, filtered, &pipeline.name, values));
        }
        scores.push((pipeline.name.clone(), columns));
    }
    Ok((scores, samples))
}

/// Outputs of an example for the log.
fn raw_values(outputs: &RawOutputs) -> Value {
    match outputs {
        RawOutputs::Likelihoods(requests) => {
            let repetitions =
                |request: &Vec<Likelihood>| request.iter().map(results::likelihood_value).collect();
            Value::List(requests.iter().map(|request| Value::List(repetitions(request))).collect())
        }
        RawOutputs::Rolling(values) => vec![values.clone()].into(),
        RawOutputs::Texts(texts) => vec![texts.clone()].into(),
    }
}
