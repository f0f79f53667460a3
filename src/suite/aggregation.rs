//! Makes one number of the scores of all rows, with its standard error.

use crate::{
    entries::Entry,
    error::Result,
    metrics::Metric,
    python_random::PythonRandom,
    text_metrics::{self, TextMetric},
    value::Value,
};

/// A score of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Score {
    Number(f64),
    /// Indices of the right and of the most likely choice.
    Choice {
        target: usize,
        predicted: usize,
    },
    /// A log-likelihood in nats and the number of words or bytes that it is of.
    Weighted {
        loglikelihood: f64,
        weight: usize,
    },
    /// A generated text and what it should be, with the counts of the metric.
    Texts {
        pair: TextPair,
        counts: Vec<f64>,
    },
}

/// A generated text and the texts of which it should be one.
#[derive(Debug, Clone, PartialEq)]
pub struct TextPair {
    pub targets: Vec<String>,
    pub generated: String,
}

/// A function of all scores.
#[derive(Debug, Clone)]
pub enum Aggregation {
    Mean,
    /// The upper of the two middle scores of an even number.
    Median,
    /// `exp` of the negative mean.
    Perplexity,
    /// `exp` of the negative log-likelihood per unit.
    WeightedPerplexity,
    /// Negative log-likelihood per unit, in bits.
    BitsPerByte,
    /// F1 of choice 1, if there are two choices.
    F1,
    /// Matthews correlation coefficient.
    MatthewsCorrelation,
    Texts(TextMetric),
}

/// Standard error of an aggregate, if it can be estimated.
pub type StandardError = Option<f64>;

/// Number of bootstrap samples that are drawn with one seed.
const CHUNK: usize = 1000;
/// Maximum number of bootstrap samples of a metric of texts, which takes long.
const MAX_TEXT_ITERATIONS: usize = 100;

const NAMES: [&str; 7] =
    ["mean", "median", "perplexity", "weighted_perplexity", "bits_per_byte", "f1", "matthews_corrcoef"];

impl Aggregation {
    /// Reads the aggregation of a metric.
    ///
    /// # Errors
    /// [`Error::UnknownName`](crate::error::Error::UnknownName), or
    /// [`Error::InvalidKey`](crate::error::Error::InvalidKey) if it does not fit the metric.
    pub fn new(entry: &Entry, metric: &Metric) -> Result<Self> {
        let name = entry.text()?;
        let aggregation = match name.as_str() {
            "mean" => Self::Mean,
            "median" => Self::Median,
            "perplexity" => Self::Perplexity,
            "weighted_perplexity" => Self::WeightedPerplexity,
            "bits_per_byte" => Self::BitsPerByte,
            "f1" => Self::F1,
            "matthews_corrcoef" => Self::MatthewsCorrelation,
            _ => match TextMetric::from_name(&name) {
                Some(metric) => Self::Texts(metric),
                None => {
                    let known: Vec<&str> = NAMES.into_iter().chain(text_metrics::NAMES).collect();
                    return Err(entry.origin.unknown("aggregation", &name, &known));
                }
            },
        };
        let fits = match aggregation {
            Self::Mean | Self::Median | Self::Perplexity => {
                !matches!(metric, Metric::Choice | Metric::PerWord | Metric::PerByte | Metric::Texts)
            }
            Self::WeightedPerplexity | Self::BitsPerByte => {
                matches!(metric, Metric::PerWord | Metric::PerByte)
            }
            Self::F1 | Self::MatthewsCorrelation => matches!(metric, Metric::Choice),
            Self::Texts(_) => matches!(metric, Metric::Texts),
        };
        if fits {
            Ok(aggregation)
        } else {
            Err(entry
                .origin
                .invalid_with(format!("`{name}` does not fit the metric"), "leave `aggregation` out"))
        }
    }

    /// The number of all scores, which are at least one, and its standard error from `iterations` bootstrap
    /// samples where there is no formula.
    pub fn apply(&self, scores: &[Score], iterations: usize) -> (f64, StandardError) {
        let scores: Vec<&Score> = scores.iter().collect();
        let error = match self {
            _ if scores.len() < 2 || iterations == 0 => None,
            Self::Mean => Some(mean_error(&numbers(&scores))),
            Self::WeightedPerplexity | Self::BitsPerByte => None,
            Self::Texts(_) => Some(self.bootstrap_error(&scores, iterations.min(MAX_TEXT_ITERATIONS))),
            _ => Some(self.bootstrap_error(&scores, iterations)),
        };
        (self.value(&scores), error)
    }

    fn value(&self, scores: &[&Score]) -> f64 {
        match self {
            Self::Mean => mean(&numbers(scores)),
            Self::Median => {
                let mut numbers = numbers(scores);
                numbers.sort_by(f64::total_cmp);
                numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
            }
            Self::Perplexity => (-mean(&numbers(scores))).exp(),
            Self::WeightedPerplexity => (-weighted_mean(scores)).exp(),
            Self::BitsPerByte => -weighted_mean(scores) / std::f64::consts::LN_2,
            Self::F1 => f1(scores),
            Self::MatthewsCorrelation => matthews_correlation(scores),
            Self::Texts(metric) => {
                let mut sums = Vec::new();
                for score in scores {
                    let Score::Texts { counts, .. } = score else { continue };
                    sums.resize(counts.len(), 0.0);
                    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                }
                metric.score(&sums, scores.len())
            }
        }
    }

    /// Standard deviation over bootstrap samples, which are drawn as in lm-evaluation-harness.
    fn bootstrap_error(&self, scores: &[&Score], iterations: usize) -> f64 {
        let chunk = CHUNK.min(iterations);
        let mut values = Vec::with_capacity(iterations);
        let mut sample = scores.to_vec();
        for seed in 0..iterations / chunk {
            let mut random = PythonRandom::new(seed as u64);
            for _ in 0..chunk {
                sample.iter_mut().for_each(|score| *score = scores[random.choice(scores.len())]);
                values.push(self.value(&sample));
            }
        }
        sample_deviation(&values)
    }
}

impl Score {
    /// The score as it stands in the log of examples.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Number(number) => Value::Float(*number),
            Self::Choice { target, predicted } => vec![*target, *predicted].into(),
            Self::Weighted { loglikelihood, weight } => {
                vec![Value::Float(*loglikelihood), (*weight).into()].into()
            }
            Self::Texts { pair, .. } => {
                let target = if let [one] = pair.targets.as_slice() {
                    one.clone().into()
                } else {
                    pair.targets.clone().into()
                };
                Value::List(vec![target, pair.generated.clone().into()])
            }
        }
    }
}

fn numbers(scores: &[&Score]) -> Vec<f64> {
    scores
        .iter()
        .filter_map(|score| if let Score::Number(number) = score { Some(*number) } else { None })
        .collect()
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Standard deviation of a sample, with `n - 1` below the fraction.
fn sample_deviation(numbers: &[f64]) -> f64 {
    let mean = mean(numbers);
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    (squares / (numbers.len() as f64 - 1.0)).sqrt()
}

fn mean_error(numbers: &[f64]) -> f64 {
    sample_deviation(numbers) / (numbers.len() as f64).sqrt()
}

fn weighted_mean(scores: &[&Score]) -> f64 {
    let (mut sum, mut weights) = (0.0, 0);
    for score in scores {
        if let Score::Weighted { loglikelihood, weight } = score {
            sum += loglikelihood;
            weights += weight;
        }
    }
    sum / weights as f64
}

fn choices<'a>(scores: &'a [&Score]) -> impl Iterator<Item = (usize, usize)> + Clone + 'a {
    scores.iter().filter_map(|score| match score {
        Score::Choice { target, predicted } => Some((*target, *predicted)),
        _ => None,
    })
}

fn f1(scores: &[&Score]) -> f64 {
    let (mut hits, mut positives) = (0, 0);
    for (target, predicted) in choices(scores) {
        hits += usize::from(target == 1 && predicted == 1);
        positives += usize::from(target == 1) + usize::from(predicted == 1);
    }
    if positives == 0 { 0.0 } else { 2.0 * hits as f64 / positives as f64 }
}

/// Gorodkin's correlation of a confusion matrix (2004), which for two choices is that of Matthews.
fn matthews_correlation(scores: &[&Score]) -> f64 {
    let size = choices(scores).map(|(target, predicted)| target.max(predicted) + 1).max().unwrap_or(0);
    let (mut targets, mut predictions, mut hits) = (vec![0.0; size], vec![0.0; size], 0.0);
    for (target, predicted) in choices(scores) {
        targets[target] += 1.0;
        predictions[predicted] += 1.0;
        hits += if target == predicted { 1.0 } else { 0.0 };
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let count = scores.len() as f64;
    let covariance = hits * count - dot(&targets, &predictions);
    let predicted_variance = count * count - dot(&predictions, &predictions);
    let target_variance = count * count - dot(&targets, &targets);
    let product = predicted_variance * target_variance;
    if product == 0.0 { 0.0 } else { covariance / product.sqrt() }
}
