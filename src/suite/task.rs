//! A task: which rows it evaluates, what the model is asked, and how its outputs are scored.

use crate::{
    entries::{Entries, Entry, Unsupported},
    error::{Origin, Result},
    fewshot::FewshotConfig,
    filters::{Filter, Pipeline},
    generation::Generation,
    metrics::MetricConfig,
    prompt::{Prompt, Source},
    splits::SplitConfig,
    value::Value,
};

/// Kind of request that the model gets for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputType {
    /// The likelihood of each choice.
    MultipleChoice,
    /// The likelihood of the target.
    LogLikelihood,
    /// The likelihood of the target without a context.
    LogLikelihoodRolling,
    /// A text.
    GenerateUntil,
}

/// A task that can be run.
#[derive(Debug, Clone)]
pub struct Task {
    pub name: String,
    /// Place where the task begins.
    pub origin: Origin,
    pub alias: Option<String>,
    pub splits: SplitConfig,
    pub prompt: Prompt,
    /// Text at the beginning of each context.
    pub description: Option<Source>,
    pub fewshot: FewshotConfig,
    /// Number of examples in each context.
    pub num_fewshot: Option<usize>,
    pub output_type: OutputType,
    /// Settings of generation, of use only for [`OutputType::GenerateUntil`].
    pub generation: Generation,
    /// Number of outputs for each row.
    pub repeats: usize,
    pub pipelines: Vec<Pipeline>,
    pub metrics: Vec<MetricConfig>,
    /// Version of the task, from its metadata.
    pub version: Value,
    /// The keys of the task file.
    pub keys: Entries,
    /// Notes for the user, such as keys without an effect.
    pub notes: Vec<String>,
}

/// Keys of a task.
pub const KEYS: [&str; 35] = [
    "task",
    "task_alias",
    "tag",
    "group",
    "include",
    "data",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "fewshot_config",
    "num_fewshot",
    "output_type",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "metric_list",
    "gen_prefix",
    "metadata",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "unsafe_code",
    "process_docs",
    "process_results",
    "custom_dataset",
    "use_prompt",
];

/// Hint for keys that hold Python code.
const PREPARE: &str = "prepare the rows with Python once, save them as JSON lines, name the file with `data`, and \
                       leave this key empty";

const UNSUPPORTED: [Unsupported; 8] = [
    ("process_docs", PREPARE),
    ("custom_dataset", PREPARE),
    ("process_results", "use a metric of `metric_list`, and filters for the outputs"),
    ("class", "only tasks without Python code can be run"),
    ("use_prompt", "write the prompt as `doc_to_text` and `doc_to_target`"),
    ("doc_to_image", "only text can be evaluated"),
    ("doc_to_audio", "only text can be evaluated"),
    ("task_list", "write one file for each task, and name the tasks in a file with `group`"),
];

impl OutputType {
    const NAMES: [&'static str; 4] =
        ["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"];

    fn new(entry: Option<&Entry>) -> Result<Self> {
        let Some(entry) = entry else { return Ok(Self::GenerateUntil) };
        let name = entry.text()?;
        Ok(match name.as_str() {
            "multiple_choice" => Self::MultipleChoice,
            "loglikelihood" => Self::LogLikelihood,
            "loglikelihood_rolling" => Self::LogLikelihoodRolling,
            "generate_until" => Self::GenerateUntil,
            _ => return Err(entry.origin.unknown("output type", &name, &Self::NAMES)),
        })
    }

    /// Name in a task file.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultipleChoice => "multiple_choice",
            Self::LogLikelihood => "loglikelihood",
            Self::LogLikelihoodRolling => "loglikelihood_rolling",
            Self::GenerateUntil => "generate_until",
        }
    }

    /// Name of its metrics, for messages.
    pub fn metric_kind(self) -> &'static str {
        match self {
            Self::MultipleChoice => "metric of `multiple_choice`",
            Self::LogLikelihood => "metric of `loglikelihood`",
            Self::LogLikelihoodRolling => "metric of `loglikelihood_rolling`",
            Self::GenerateUntil => "metric of `generate_until`",
        }
    }
}

impl Task {
    /// Reads the keys of a task.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::error::Error::UnknownKey),
    /// [`Error::UnknownName`](crate::error::Error::UnknownName) and
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey).
    pub fn new(name: String, origin: Origin, keys: Entries) -> Result<Self> {
        keys.check(&KEYS, &UNSUPPORTED)?;
        if let Some(entry) = keys.get("unsafe_code").filter(|entry| entry.boolean().ok() != Some(false)) {
            return Err(entry
                .origin
                .invalid_with("is set: the task runs generated code", "choose another task"));
        }
        let output_type = OutputType::new(keys.get("output_type"))?;
        let prompt = prompt(&keys, &origin, output_type)?;
        let count = |name: &str| keys.get(name).map(Entry::count).transpose();
        let generation = Generation::new(keys.get("generation_kwargs"), &prompt.fewshot_delimiter)?;
        let repeats = count("repeats")?.unwrap_or(1);
        let pipelines = match keys.get("filter_list") {
            Some(list) => pipelines(list, output_type)?,
            None => vec![Pipeline::take_first(&origin)],
        };
        let metrics = MetricConfig::list(keys.get("metric_list"), &origin, output_type)?;
        let splits = SplitConfig::new(&keys, &origin)?;
        let fewshot = FewshotConfig::new(keys.get("fewshot_config"), &prompt, &splits)?;
        let num_fewshot = count("num_fewshot")?;
        let metadata = keys.get("metadata").map(|entry| entry.node.to_value());
        let version = match &metadata {
            Some(Value::Map(metadata)) => metadata.get("version").cloned(),
            _ => None,
        };
        let mut task = Self {
            alias: keys.text("task_alias")?,
            description: keys.get("description").map(Source::new).transpose()?,
            version: version.unwrap_or_else(|| "Yaml".into()),
            notes: Vec::new(),
            name,
            origin,
            splits,
            prompt,
            fewshot,
            num_fewshot,
            output_type,
            generation,
            repeats,
            pipelines,
            metrics,
            keys,
        };
        task.check()?;
        Ok(task)
    }

    /// Refuses keys that do not fit each other, and notes those that have no effect.
    fn check(&mut self) -> Result<()> {
        if self.repeats == 0 {
            return Err(self.origin_of("repeats").invalid("must be at least 1"));
        }
        for step in self.pipelines.iter().flat_map(|pipeline| &pipeline.steps) {
            if let Filter::TakeFirstK(k) = step.filter
                && k > self.repeats
            {
                let message = format!("takes {k} outputs of each row, but there are {}", self.repeats);
                return Err(step.origin.invalid_with(message, format!("set `repeats: {k}`")));
            }
        }
        if self.output_type == OutputType::MultipleChoice && self.prompt.choices.is_none() {
            let hint = "add a list of texts, the name of a field with one, or a template that prints one";
            return Err(self.origin_of("output_type").invalid_with("needs `doc_to_choice`", hint));
        }
        let is_generated = self.output_type == OutputType::GenerateUntil;
        if self.keys.get("should_decontaminate").map_or(Ok(false), Entry::boolean)? {
            self.note("should_decontaminate", "is ignored: nothing is decontaminated");
        }
        if self.keys.get("generation_kwargs").is_some() && !is_generated {
            self.note("generation_kwargs", "is ignored: the task generates no text");
        }
        Ok(())
    }

    /// Place of a key or, if it is absent, of the task.
    pub fn origin_of(&self, key: &str) -> Origin {
        let absent = || Origin { key: key.into(), ..self.origin.clone() };
        self.keys.get(key).map_or_else(absent, |entry| entry.origin.clone())
    }

    /// Adds a note about a key.
    pub fn note(&mut self, key: &str, message: &str) {
        let origin = self.origin_of(key);
        self.notes.push(format!("`{}` line {}: `{key}` {message}", origin.path.display(), origin.line));
    }
}

/// Reads the parts of the prompt.
fn prompt(keys: &Entries, origin: &Origin, output_type: OutputType) -> Result<Prompt> {
    let missing = |name: &str| {
        let origin = Origin { key: name.into(), ..origin.clone() };
        origin.invalid_with("is missing", "add a template such as `\"{{question}}\"`, or the name of a field")
    };
    let text = match keys.get("doc_to_text") {
        Some(entry) => Source::new(entry)?,
        // A whole text has no context, and many tasks leave the key out.
        None if output_type == OutputType::LogLikelihoodRolling => {
            let origin = Origin { key: "doc_to_text".into(), ..origin.clone() };
            Source::empty(&origin)?
        }
        None => return Err(missing("doc_to_text")),
    };
    let target = keys.get("doc_to_target").ok_or_else(|| missing("doc_to_target"))?;
    Ok(Prompt {
        text,
        target: Source::new(target)?,
        choices: keys.get("doc_to_choice").map(Source::choices).transpose()?,
        gen_prefix: keys.get("gen_prefix").map(Source::new).transpose()?,
        target_delimiter: keys.text("target_delimiter")?.unwrap_or_else(|| " ".into()),
        fewshot_delimiter: keys.text("fewshot_delimiter")?.unwrap_or_else(|| "\n\n".into()),
    })
}

/// Reads `filter_list`.
fn pipelines(list: &Entry, output_type: OutputType) -> Result<Vec<Pipeline>> {
    let are_texts = output_type == OutputType::GenerateUntil;
    let pipelines =
        list.list()?.iter().map(|entry| Pipeline::new(entry, are_texts)).collect::<Result<Vec<_>>>()?;
    for (index, pipeline) in pipelines.iter().enumerate() {
        if pipelines[..index].iter().any(|other| other.name == pipeline.name) {
            return Err(list.origin.invalid(format!("has two items with the name `{}`", pipeline.name)));
        }
    }
    if pipelines.is_empty() {
        return Err(list.origin.invalid_with("has no item", "leave it out to take the first output"));
    }
    Ok(pipelines)
}
