//! Named metrics that an objective reports beside its loss.

use super::{Batch, StepTotals};
use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Metrics of a step or an evaluation, by name.
pub type Metrics = BTreeMap<String, MetricValue>;

/// A figure, or several of a kind, such as one for each expert. NaN where the log has no number.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(untagged)]
pub enum MetricValue {
    One(f32),
    Each(Vec<f32>),
}

impl MetricValue {
    /// The numbers, of which there is at least one.
    pub fn values(&self) -> &[f32] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Each(values) => values,
        }
    }

    pub(crate) fn new(values: &[f32]) -> Self {
        match values {
            [value] => Self::One(*value),
            values => Self::Each(values.to_vec()),
        }
    }
}

impl<'de> Deserialize<'de> for MetricValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Values in JSON, where `null` stands for a number that is not finite.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Nullable {
            One(Option<f32>),
            Each(Vec<Option<f32>>),
        }
        let number = |value: Option<f32>| value.unwrap_or(f32::NAN);
        Ok(match Nullable::deserialize(deserializer)? {
            Nullable::One(value) => Self::One(number(value)),
            Nullable::Each(values) => Self::Each(values.into_iter().map(number).collect()),
        })
    }
}

/// Rule by which the values of several micro-batches become the value of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Average {
    /// The values are added, since each is already a share.
    Sum,
    /// The values are averaged, weighted by the micro-batch's targets.
    OverTargets,
    /// The values are averaged, weighted by the number of rows.
    OverRows,
    /// The values are added, and the sum of their magnitudes is reported as one value.
    Magnitudes,
}

/// A named metric of one micro-batch.
#[derive(Debug, Clone)]
pub struct Metric {
    pub name: &'static str,
    /// Values, `[K]`, without autodiff.
    pub value: Tensor<1>,
    pub average: Average,
}

impl Metric {
    pub(super) fn new<const D: usize>(name: &'static str, value: Tensor<D>, average: Average) -> Self {
        let count = value.dims().iter().product::<usize>();
        let value = value.reshape([count]);
        Self { name, value: if value.is_autodiff() { value.inner() } else { value }, average }
    }
}

/// Metrics of a step, accumulated over its micro-batches on the device.
#[derive(Default)]
pub(crate) struct MetricSums(Vec<(&'static str, Average, Tensor<1>)>);

impl MetricSums {
    /// Adds the metrics of one micro-batch.
    pub fn add(&mut self, metrics: Vec<Metric>, batch: &Batch, step: StepTotals) {
        for Metric { name, value, average } in metrics {
            let share = match average {
                Average::Sum | Average::Magnitudes => value,
                Average::OverTargets => value.mul_scalar(batch.target_weight / step.divisor()),
                Average::OverRows => value.mul_scalar(batch.rows() as f64 / step.rows.max(1) as f64),
            };
            match self.0.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, _, sum)) => sum.inplace(|sum| sum + share),
                None => self.0.push((name, average, share)),
            }
        }
    }

    /// Name and number of values of each metric, and the accumulated values.
    pub fn into_parts(self) -> (Vec<(&'static str, usize)>, Vec<Tensor<1>>) {
        let named = self.0.into_iter().map(|(name, average, sum)| {
            let sum = if average == Average::Magnitudes { sum.abs().sum() } else { sum };
            ((name, sum.dims()[0]), sum)
        });
        named.unzip()
    }
}

/// Names values, given the names and counts that [`MetricSums::into_parts`] returns.
pub(crate) fn named(layout: &[(&'static str, usize)], mut numbers: &[f32]) -> Metrics {
    let mut metrics = Metrics::new();
    for &(name, count) in layout {
        let (values, rest) = numbers.split_at(count.min(numbers.len()));
        metrics.insert(name.into(), MetricValue::new(values));
        numbers = rest;
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_with_nan_for_what_json_cannot_hold() {
        let metrics: Metrics =
            serde_json::from_str(r#"{"a": 1.5, "b": null, "c": [1, null, 0.25]}"#).unwrap();
        assert_eq!(metrics["a"], MetricValue::One(1.5));
        assert!(metrics["b"].values()[0].is_nan());
        assert!(matches!(metrics["c"].values(), [a, b, c] if *a == 1.0 && b.is_nan() && *c == 0.25));
        assert_eq!(serde_json::to_string(&metrics).unwrap(), r#"{"a":1.5,"b":null,"c":[1.0,null,0.25]}"#);
    }
}
