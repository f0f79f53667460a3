//! Metrics of a task (`metric_list`): what is scored of each row, and how the scores become one number.

use crate::{
    aggregation::Aggregation,
    entries::Entry,
    error::{Origin, Result},
    filters::patterns,
    python_regex::Pattern,
    task::OutputType,
    text_metrics::{self, TextMetric},
};

/// A metric, and how its scores are aggregated.
#[derive(Debug, Clone)]
pub struct MetricConfig {
    pub origin: Origin,
    pub name: String,
    pub metric: Metric,
    pub aggregation: Aggregation,
    pub higher_is_better: bool,
}

/// A score of one row.
#[derive(Debug, Clone)]
pub enum Metric {
    /// Whether the most likely choice, or each token of the continuation, is right.
    Accuracy,
    /// Whether the choice with the highest log-likelihood per character is right.
    AccuracyPerCharacter,
    /// Whether the choice with the highest log-likelihood per byte is right.
    AccuracyPerByte,
    /// Whether the target is what greedy decoding generates.
    ExactMatch(ExactMatch),
    /// The right and the most likely choice.
    Choice,
    /// Log-likelihood of the target.
    LogLikelihood,
    /// Log-likelihood of the text, and the number of its words.
    PerWord,
    /// Log-likelihood of the text, and the number of its bytes.
    PerByte,
    /// The generated text and the targets.
    Texts,
}

/// Differences that a comparison of texts ignores.
#[derive(Debug, Clone, Default)]
pub struct ExactMatch {
    pub regexes_to_ignore: Vec<Pattern>,
    pub ignore_case: bool,
    pub ignore_punctuation: bool,
    pub ignore_numbers: bool,
}

/// Names of the metrics that an output type has, apart from those of texts.
fn names(output_type: OutputType) -> &'static [&'static str] {
    match output_type {
        OutputType::MultipleChoice => &["acc", "acc_norm", "acc_bytes", "exact_match", "f1", "mcc"],
        OutputType::LogLikelihood => &["perplexity", "acc"],
        OutputType::LogLikelihoodRolling => &["word_perplexity", "byte_perplexity", "bits_per_byte"],
        OutputType::GenerateUntil => &["exact_match"],
    }
}

/// Metrics of a task that names none.
fn default_names(output_type: OutputType) -> &'static [&'static str] {
    match output_type {
        OutputType::MultipleChoice => &["acc", "acc_norm"],
        _ => names(output_type),
    }
}

impl MetricConfig {
    /// Reads `metric_list`, or takes the metrics that the output type has by default. `origin` is the place
    /// of the task.
    ///
    /// # Errors
    /// [`Error::UnknownKey`](crate::error::Error::UnknownKey),
    /// [`Error::UnknownName`](crate::error::Error::UnknownName) and
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey).
    pub fn list(list: Option<&Entry>, origin: &Origin, output_type: OutputType) -> Result<Vec<Self>> {
        let Some(list) = list else {
            let origin = Origin { key: "metric_list".into(), ..origin.clone() };
            let metric = |name: &&str| Self::named(name, &origin, output_type);
            return default_names(output_type).iter().map(metric).collect();
        };
        let metrics =
            list.list()?.iter().map(|entry| Self::new(entry, output_type)).collect::<Result<Vec<_>>>()?;
        if metrics.is_empty() {
            return Err(list.origin.invalid("has no metric"));
        }
        Ok(metrics)
    }

    fn new(entry: &Entry, output_type: OutputType) -> Result<Self> {
        let entries = entry.map()?;
        let name = entries.text("metric")?.ok_or_else(|| entry.origin.invalid("has no `metric`"))?;
        let origin = entries.get("metric").map_or(&entry.origin, |metric| &metric.origin);
        let mut config = Self::named(&name, origin, output_type)?;
        let mut known = vec!["metric", "aggregation", "higher_is_better", "hf_evaluate"];
        let boolean = |name: &str| entries.get(name).map_or(Ok(false), Entry::boolean);
        if let (Metric::ExactMatch(settings), OutputType::GenerateUntil) = (&mut config.metric, output_type) {
            known.extend(["regexes_to_ignore", "ignore_case", "ignore_punctuation", "ignore_numbers"]);
            *settings = ExactMatch {
                regexes_to_ignore: patterns(entries.get("regexes_to_ignore"))?,
                ignore_case: boolean("ignore_case")?,
                ignore_punctuation: boolean("ignore_punctuation")?,
                ignore_numbers: boolean("ignore_numbers")?,
            };
        }
        let misplaced = ("weight_by_size", "it belongs to the `aggregate_metric_list` of a group");
        entries.check(&known, &[misplaced])?;
        if boolean("hf_evaluate")? {
            return Err(entry.origin.invalid_with(
                "has `hf_evaluate`, which loads Python code",
                "remove it if the metric is built in",
            ));
        }
        if let Some(aggregation) = entries.get("aggregation") {
            config.aggregation = Aggregation::new(aggregation, &config.metric)?;
        }
        if let Some(entry) = entries.get("higher_is_better") {
            config.higher_is_better = entry.boolean()?;
        }
        Ok(config)
    }

    /// The metric with a name and its default aggregation.
    fn named(name: &str, origin: &Origin, output_type: OutputType) -> Result<Self> {
        use OutputType::{GenerateUntil, LogLikelihoodRolling};
        let has_texts = output_type == GenerateUntil;
        let of_texts = if has_texts { TextMetric::from_name(name) } else { None };
        if !names(output_type).contains(&name) && of_texts.is_none() {
            let mut known = names(output_type).to_vec();
            known.extend(text_metrics::NAMES.into_iter().filter(|_| has_texts));
            return Err(origin.unknown(output_type.metric_kind(), name, &known));
        }
        let (metric, aggregation) = match name {
            "acc" => (Metric::Accuracy, Aggregation::Mean),
            "acc_norm" => (Metric::AccuracyPerCharacter, Aggregation::Mean),
            "acc_bytes" => (Metric::AccuracyPerByte, Aggregation::Mean),
            "exact_match" => (Metric::ExactMatch(ExactMatch::default()), Aggregation::Mean),
            "f1" if !has_texts => (Metric::Choice, Aggregation::F1),
            "mcc" if !has_texts => (Metric::Choice, Aggregation::MatthewsCorrelation),
            "perplexity" => (Metric::LogLikelihood, Aggregation::Perplexity),
            "word_perplexity" => (Metric::PerWord, Aggregation::WeightedPerplexity),
            "byte_perplexity" => (Metric::PerByte, Aggregation::WeightedPerplexity),
            "bits_per_byte" => (Metric::PerByte, Aggregation::BitsPerByte),
            _ => (Metric::Texts, of_texts.map_or(Aggregation::Mean, Aggregation::Texts)),
        };
        let higher_is_better = match &aggregation {
            Aggregation::Perplexity => false,
            _ => output_type != LogLikelihoodRolling,
        };
        Ok(Self { origin: origin.clone(), name: name.into(), metric, aggregation, higher_is_better })
    }
}
