//! Results and the log of examples in the form of lm-evaluation-harness.

use crate::{
    aggregation::Score,
    evaluate::Options,
    model::Likelihood,
    requests::{Example, Requests},
    scoring::Outputs,
    suite::Suite,
    task::{OutputType, Task},
    value::{Map, Value},
};

/// Scores of a task and its log.
pub struct TaskResults<'a> {
    pub task: &'a Task,
    /// Scores of each metric, by pipeline.
    pub scores: Vec<(String, Vec<Vec<Score>>)>,
    pub samples: Vec<Map>,
    /// Number of rows of the split.
    pub total: usize,
    pub num_fewshot: usize,
}

/// Collects the results of all tasks and groups.
pub fn collect(suite: &Suite, tasks: &[TaskResults], options: &Options, notes: &mut Vec<String>) -> Map {
    let (mut results, mut configs, mut versions) = (Map::default(), Map::default(), Map::default());
    let (mut shots, mut directions, mut sizes) = (Map::default(), Map::default(), Map::default());
    for own in tasks {
        let name = &own.task.name;
        results.set(name, own.results(options));
        configs.set(name, config(own.task, own.num_fewshot));
        versions.set(name, own.task.version.clone());
        shots.set(name, own.num_fewshot);
        let direction = own.task.metrics.iter().map(|metric| (metric.name.as_str(), metric.higher_is_better));
        directions.set(name, direction.collect::<Map>());
        let size = Map::from_iter([("original", own.total), ("effective", own.evaluated())]);
        sizes.set(name, size);
    }
    let (mut groups, mut members) = (Map::default(), Map::default());
    for group in &suite.groups {
        let own = group.results(&results, notes);
        if !group.means.is_empty() {
            groups.set(&group.name, own.clone());
        }
        results.set(&group.name, own);
        versions.set(&group.name, group.version.clone());
        members.set(&group.name, group.children.clone());
    }
    // As in lm-evaluation-harness, a group looks at its own tasks and not at the groups in it.
    for group in suite.groups.iter().rev() {
        inherit(&group.name, &group.children, &mut shots, &mut directions);
    }
    let mut all = Map::from_iter([("results", results)]);
    if !groups.is_empty() {
        all.set("groups", groups);
    }
    all.set("group_subtasks", members);
    all.set("configs", sorted(configs));
    all.set("versions", sorted(versions));
    all.set("n-shot", sorted(shots));
    all.set("higher_is_better", sorted(directions));
    all.set("n-samples", sizes);
    all
}

/// Gives a group the number of examples and the directions of metrics that its children share.
fn inherit(group: &str, children: &[String], shots: &mut Map, directions: &mut Map) {
    let mut own: Vec<Value> = children.iter().filter_map(|child| shots.get(child).cloned()).collect();
    own.dedup();
    if let [shared] = own.as_slice() {
        shots.set(group, shared.clone());
    }
    let mut merged = Map::default();
    for child in children {
        let Some(Value::Map(child)) = directions.get(child) else { continue };
        for (metric, direction) in child.iter() {
            let differs = merged.get(metric).is_some_and(|own| own != direction);
            merged.set(metric, if differs { Value::Null } else { direction.clone() });
        }
    }
    if !merged.is_empty() {
        directions.set(group, merged);
    }
}

fn sorted(map: Map) -> Map {
    let mut entries: Vec<(String, Value)> =
        map.iter().map(|(key, value)| (key.into(), value.clone())).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries.into_iter().collect()
}

impl TaskResults<'_> {
    /// Number of rows that were evaluated.
    fn evaluated(&self) -> usize {
        self.scores.iter().flat_map(|(_, metrics)| metrics.iter().map(Vec::len)).max().unwrap_or(0)
    }

    fn results(&self, options: &Options) -> Map {
        let task = self.task;
        let mut results = Map::from_iter([
            ("name", Value::from(task.name.clone())),
            ("alias", task.alias.clone().unwrap_or_else(|| task.name.clone()).into()),
            ("sample_len", self.evaluated().into()),
        ]);
        for (filter, metrics) in &self.scores {
            for (metric, scores) in task.metrics.iter().zip(metrics) {
                let name = &metric.name;
                let (value, error) = metric.aggregation.apply(scores, options.bootstrap_iterations);
                results.set(format!("{name},{filter}"), value);
                results
                    .set(format!("{name}_stderr,{filter}"), error.map_or_else(|| "N/A".into(), Value::from));
            }
        }
        results
    }
}

/// The keys of a task with the defaults of lm-evaluation-harness.
fn config(task: &Task, num_fewshot: usize) -> Map {
    let mut keys = task.keys.to_map();
    let prompt = &task.prompt;
    let mut config = Map::from_iter([("task", Value::from(task.name.clone()))]);
    for key in ["tag", "group"] {
        keys.take(key);
    }
    let examples = keys.take("fewshot_config").unwrap_or_default();
    let default = |key: &str, value: Value, keys: &mut Map| {
        if keys.get(key).is_none_or(|own| *own == Value::Null) {
            keys.set(key, value);
        }
    };
    default("unsafe_code", false.into(), &mut keys);
    default("description", "".into(), &mut keys);
    default("target_delimiter", prompt.target_delimiter.clone().into(), &mut keys);
    default("fewshot_delimiter", prompt.fewshot_delimiter.clone().into(), &mut keys);
    keys.set("num_fewshot", num_fewshot);
    default("output_type", task.output_type.name().into(), &mut keys);
    default("repeats", task.repeats.into(), &mut keys);
    default("should_decontaminate", false.into(), &mut keys);
    if task.output_type == OutputType::GenerateUntil {
        keys.set("generation_kwargs", task.generation.keys.clone());
    }
    let mut fewshot = Map::default();
    for (key, of_task) in [
        ("sampler", None),
        ("split", Some("fewshot_split")),
        ("process_docs", None),
        ("fewshot_indices", None),
        ("samples", None),
        ("doc_to_text", Some("doc_to_text")),
        ("doc_to_choice", Some("doc_to_choice")),
        ("doc_to_target", Some("doc_to_target")),
        ("gen_prefix", Some("gen_prefix")),
        ("fewshot_delimiter", Some("fewshot_delimiter")),
        ("target_delimiter", Some("target_delimiter")),
    ] {
        let own = if let Value::Map(examples) = &examples { examples.get(key).cloned() } else { None };
        let value = own.or_else(|| keys.get(of_task?).cloned()).unwrap_or_default();
        fewshot.set(key, if key == "sampler" && value == Value::Null { "default".into() } else { value });
    }
    keys.set("fewshot_config", fewshot);
    let mut metadata = match keys.take("metadata") {
        Some(Value::Map(metadata)) => metadata,
        Some(Value::Null) | None => Map::default(),
        Some(other) => Map::from_iter([("_metadata", other)]),
    };
    metadata.set("config_source", task.origin.path.display().to_string());
    keys.set("metadata", metadata);
    for (key, value) in keys.iter().filter(|(key, value)| *key != "task" && **value != Value::Null) {
        config.set(key, value.clone());
    }
    config
}

/// A likelihood for the log.
pub fn likelihood_value(likelihood: &Likelihood) -> Value {
    Value::List(vec![likelihood.logprob_sum.into(), likelihood.is_greedy.into()])
}

/// Outputs for the log, after the filters.
pub fn filtered_values(outputs: &Outputs, takes_first: bool) -> Value {
    match outputs {
        Outputs::Likelihoods(likelihoods) => Value::List(likelihoods.iter().map(likelihood_value).collect()),
        Outputs::Rolling(value) => vec![*value].into(),
        Outputs::Texts(texts) if takes_first => Value::List(texts.to_vec()),
        Outputs::Texts(texts) => Value::List(vec![Value::List(texts.to_vec())]),
    }
}

/// An entry of the log of examples. `values` are the scores by metric.
pub fn sample(id: usize, example: &Example, raw: Value, filtered: Value, filter: &str, values: Map) -> Map {
    let arguments = match &example.requests {
        Requests::Likelihoods(requests) => {
            let pair = |request: &crate::model::LikelihoodRequest| {
                Value::from(vec![request.context.clone(), request.continuation.clone()])
            };
            requests.iter().map(pair).collect()
        }
        Requests::Rolling(text) => vec![vec![text.clone()].into()],
        Requests::Generation(request) => {
            let keys = request.generation.keys.clone();
            vec![Value::List(vec![request.context.clone().into(), keys.into()])]
        }
    };
    let metrics: Vec<String> = values.keys().map(Into::into).collect();
    let mut sample = Map::from_iter([
        ("doc_id", Value::from(id)),
        ("doc", example.row.values.clone().into()),
        ("target", example.target.clone()),
        ("arguments", Value::List(arguments)),
        ("resps", raw),
        ("filtered_resps", filtered),
        ("filter", filter.into()),
        ("metrics", metrics.into()),
    ]);
    for (name, value) in values.iter() {
        sample.set(name, value.clone());
    }
    sample
}
