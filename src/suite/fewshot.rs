//! Few-shot examples: which rows stand as examples before each evaluated row.

use crate::{
    data::Row,
    entries::{Entry, Unsupported},
    error::{Origin, Result, RowOrigin},
    prompt::{Prompt, Source},
    python_random::PythonRandom,
    splits::SplitConfig,
    value::Value,
};
use std::sync::Arc;

/// Rules by which examples are chosen and formatted.
#[derive(Debug, Clone)]
pub struct FewshotConfig {
    pub sampler: SamplerKind,
    /// Seed of this task, instead of that of the run.
    pub seed: Option<u64>,
    /// Split that the examples come from.
    pub split: Option<String>,
    /// Examples in the task file itself. They count only without a split.
    pub samples: Option<Vec<Row>>,
    /// Prompt of an example.
    pub prompt: Prompt,
}

/// Choice of examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerKind {
    /// Random rows, other ones for each evaluated row.
    Random,
    /// The first rows.
    FirstN,
}

const KEYS: [&str; 10] = [
    "sampler",
    "seed",
    "split",
    "samples",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "gen_prefix",
    "fewshot_delimiter",
    "target_delimiter",
];

const UNSUPPORTED: [Unsupported; 2] = [
    ("process_docs", "prepare the rows with Python once, and save them as JSON lines"),
    ("fewshot_indices", "write the examples as `samples`, or put them first and set `sampler: first_n`"),
];

impl FewshotConfig {
    /// Reads `fewshot_config`. What it lacks is that of the task.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::error::Error::UnknownKey),
    /// [`Error::UnknownName`](crate::error::Error::UnknownName) and
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey).
    pub fn new(entry: Option<&Entry>, prompt: &Prompt, splits: &SplitConfig) -> Result<Self> {
        let entries = entry.map(Entry::map).transpose()?.unwrap_or_default();
        entries.check(&KEYS, &UNSUPPORTED)?;
        let source =
            |name: &str, own: &Source| entries.get(name).map_or_else(|| Ok(own.clone()), Source::new);
        let sampler = match entries.get("sampler") {
            None => SamplerKind::Random,
            Some(entry) => match entry.text()?.as_str() {
                "default" => SamplerKind::Random,
                "first_n" => SamplerKind::FirstN,
                name => return Err(entry.origin.unknown("sampler", name, &["default", "first_n"])),
            },
        };
        let mut example_prompt = Prompt {
            text: source("doc_to_text", &prompt.text)?,
            target: source("doc_to_target", &prompt.target)?,
            ..prompt.clone()
        };
        if let Some(entry) = entries.get("doc_to_choice") {
            example_prompt.choices = Some(Source::choices(entry)?);
        }
        if let Some(entry) = entries.get("gen_prefix") {
            example_prompt.gen_prefix = Some(Source::new(entry)?);
        }
        if let Some(delimiter) = entries.text("fewshot_delimiter")? {
            example_prompt.fewshot_delimiter = delimiter;
        }
        if let Some(delimiter) = entries.text("target_delimiter")? {
            example_prompt.target_delimiter = delimiter;
        }
        Ok(Self {
            sampler,
            seed: entries.get("seed").map(Entry::count).transpose()?.map(|seed| seed as u64),
            split: entries.text("split")?.or_else(|| splits.fewshot.clone()),
            samples: entries.get("samples").map(samples).transpose()?,
            prompt: example_prompt,
        })
    }
}

/// Reads the examples of the task file.
fn samples(entry: &Entry) -> Result<Vec<Row>> {
    let row = |(index, entry): (usize, &Entry)| {
        let origin = RowOrigin { path: Arc::clone(&entry.origin.path), row: index + 1 };
        match entry.node.to_value() {
            Value::Map(values) => Ok(Row { values, origin }),
            other => {
                Err(entry.origin.invalid(format!("has an example that is {} instead of a map", other.kind())))
            }
        }
    };
    let rows = entry.list()?.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?;
    if rows.is_empty() { Err(entry.origin.invalid("has no examples")) } else { Ok(rows) }
}

/// Chooses the examples of one evaluated row after the other.
pub struct Sampler<'a> {
    rows: &'a [Row],
    kind: SamplerKind,
    random: PythonRandom,
    /// Key that names the number of examples, for messages.
    origin: Origin,
}

impl<'a> Sampler<'a> {
    pub fn new(rows: &'a [Row], kind: SamplerKind, seed: u64, origin: Origin) -> Self {
        Self { rows, kind, random: PythonRandom::new(seed), origin }
    }

    /// Chooses examples, among which `excluded` is not.
    ///
    /// # Errors
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey) if there are not enough rows.
    pub fn sample(&mut self, count: usize, excluded: Option<&Row>) -> Result<Vec<&'a Row>> {
        let rows = self.rows;
        let is_other = |row: &&'a Row| excluded.is_none_or(|excluded| row.values != excluded.values);
        let too_few = || {
            let others = if excluded.is_some() { " apart from the evaluated one" } else { "" };
            self.origin.invalid_with(
                format!("asks for {count} examples, but there are only {} rows for them{others}", rows.len()),
                "ask for fewer, or add rows",
            )
        };
        if count == 0 {
            return Ok(Vec::new());
        }
        if self.kind == SamplerKind::FirstN {
            let first: Vec<&Row> = rows.iter().filter(is_other).take(count).collect();
            return if first.len() == count { Ok(first) } else { Err(too_few()) };
        }
        // One more is drawn, because the evaluated row may be among them.
        let drawn =
            self.random.sample(rows.len(), count + usize::from(excluded.is_some())).ok_or_else(too_few)?;
        let sampled: Vec<&Row> =
            drawn.into_iter().map(|index| &rows[index]).filter(is_other).take(count).collect();
        if sampled.len() == count {
            return Ok(sampled);
        }
        // Copies of the evaluated row were drawn.
        let others: Vec<&Row> = rows.iter().filter(is_other).collect();
        let drawn = self.random.sample(others.len(), count).ok_or_else(too_few)?;
        Ok(drawn.into_iter().map(|index| others[index]).collect())
    }
}
