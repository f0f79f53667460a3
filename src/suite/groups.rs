//! Groups of tasks, whose metrics are means over the tasks.

use crate::{
    entries::{Entries, Entry},
    error::Result,
    value::{Map, Value},
};

/// A group of tasks and of other groups.
#[derive(Debug, Clone)]
pub struct Group {
    pub name: String,
    pub alias: Option<String>,
    /// Names of its tasks and groups.
    pub children: Vec<String>,
    /// Names of its tasks and of those of its groups.
    pub tasks: Vec<String>,
    pub means: Vec<MeanConfig>,
    pub version: Value,
}

/// A metric of a group.
#[derive(Debug, Clone)]
pub struct MeanConfig {
    pub metric: String,
    /// Filters whose results are averaged; all if `None`.
    pub filters: Option<Vec<String>>,
    /// Whether a task counts as often as it has rows.
    pub weight_by_size: bool,
}

/// Keys of a group itself. Others belong to all of its tasks.
pub const KEYS: [&str; 6] = ["group", "group_alias", "task", "aggregate_metric_list", "metadata", "include"];

impl MeanConfig {
    /// Reads `aggregate_metric_list`.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::error::Error::UnknownKey),
    /// [`Error::UnknownName`](crate::error::Error::UnknownName) and
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey).
    pub fn list(keys: &Entries) -> Result<Vec<Self>> {
        let list = keys.get("aggregate_metric_list").map(Entry::one_or_list).unwrap_or_default();
        list.iter().map(Self::new).collect()
    }

    fn new(entry: &Entry) -> Result<Self> {
        let entries = entry.map()?;
        entries.check(&["metric", "filter_list", "aggregation", "weight_by_size"], &[])?;
        let aggregation = entries.get("aggregation");
        if let Some(aggregation) = aggregation.filter(|entry| entry.text().ok().as_deref() != Some("mean")) {
            return Err(aggregation.origin.unknown("aggregation", &aggregation.text()?, &["mean"]));
        }
        let filters =
            entries.get("filter_list").map(|list| list.one_or_list().iter().map(Entry::text).collect());
        Ok(Self {
            metric: entries.text("metric")?.ok_or_else(|| entry.origin.invalid("has no `metric`"))?,
            filters: filters.transpose()?,
            weight_by_size: entries.get("weight_by_size").map_or(Ok(true), Entry::boolean)?,
        })
    }
}

/// Result of a task in a mean.
struct Part {
    value: f64,
    /// Standard error, if there is one.
    error: Option<f64>,
    /// Number of rows.
    size: f64,
}

impl Group {
    /// Results of the group from those of its tasks, by name, and notes on tasks that lack a metric.
    pub fn results(&self, tasks: &Map, notes: &mut Vec<String>) -> Map {
        let mut results = Map::from_iter([
            ("alias", Value::from(self.alias.clone().unwrap_or_else(|| self.name.clone()))),
            ("name", self.name.clone().into()),
        ]);
        if self.means.is_empty() {
            return results;
        }
        let own: Vec<&Map> = self
            .tasks
            .iter()
            .filter_map(|name| if let Some(Value::Map(task)) = tasks.get(name) { Some(task) } else { None })
            .collect();
        let size = |task: &Map| task.get("sample_len").and_then(number).unwrap_or(0.0);
        results.set("sample_len", own.iter().map(|task| size(task)).sum::<f64>() as i64);
        let mut counts = Map::default();
        for mean in &self.means {
            for filter in mean.filters.clone().unwrap_or_else(|| filters_of(&mean.metric, &own)) {
                let key = format!("{},{filter}", mean.metric);
                let error_key = format!("{}_stderr,{filter}", mean.metric);
                let part = |task: &&Map| {
                    let value = task.get(&key).and_then(number)?;
                    Some(Part { value, error: task.get(&error_key).and_then(number), size: size(task) })
                };
                let parts: Vec<Part> = own.iter().filter_map(part).collect();
                if parts.len() < own.len() {
                    let missing = own.len() - parts.len();
                    notes.push(format!(
                        "group `{}`: {missing} of {} tasks have no `{key}`",
                        self.name,
                        own.len()
                    ));
                }
                if parts.is_empty() {
                    continue;
                }
                results.set(&key, mean.value(&parts));
                results.set(error_key, mean.error(&parts).map_or_else(|| Value::from("N/A"), Value::from));
                counts.set(&key, parts.iter().map(|part| part.size).sum::<f64>() as i64);
            }
        }
        if !counts.is_empty() {
            results.set("sample_count", counts);
        }
        results
    }
}

impl MeanConfig {
    fn value(&self, parts: &[Part]) -> f64 {
        let weight = |part: &Part| if self.weight_by_size { part.size } else { 1.0 };
        let sum: f64 = parts.iter().map(|part| part.value * weight(part)).sum();
        sum / parts.iter().map(weight).sum::<f64>()
    }

    /// Standard error: of the pooled rows or, if each task counts once, of the mean of independent tasks.
    /// `None` if a task has none.
    fn error(&self, parts: &[Part]) -> Option<f64> {
        let errors: Vec<f64> = parts.iter().map(|part| part.error).collect::<Option<_>>()?;
        let tasks = parts.len() as f64;
        if !self.weight_by_size {
            return Some(errors.iter().map(|error| error * error).sum::<f64>().sqrt() / tasks);
        }
        let total: f64 = parts.iter().map(|part| part.size).sum();
        let pooled: f64 = parts
            .iter()
            .zip(&errors)
            .map(|(part, error)| (part.size - 1.0) * error.powi(2) * part.size)
            .sum();
        Some((pooled / (total - tasks) / total).sqrt())
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// Names of the filters under which tasks have a metric, in order.
fn filters_of(metric: &str, tasks: &[&Map]) -> Vec<String> {
    let prefix = format!("{metric},");
    let filter = |key: &str| key.strip_prefix(&prefix).map(Into::into);
    let mut filters: Vec<String> = tasks.iter().flat_map(|task| task.keys().filter_map(filter)).collect();
    filters.sort();
    filters.dedup();
    filters
}
