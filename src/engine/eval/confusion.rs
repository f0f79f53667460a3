//! Confusion matrix of a classifier: precision, recall and F1.

use crate::objective::Batch;
use burn::tensor::{Int, Tensor};
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Number of targets of each class that were predicted as each class.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    classes: usize,
    /// Counts, `[classes * classes]`, with one row for each true class.
    counts: Vec<f64>,
}

/// Precision, recall and F1 of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Share of the predictions of this class that are correct; 0 if there are none.
    pub precision: f64,
    /// Share of the targets of this class that are predicted correctly; 0 if there are none.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Number of targets of the class.
    pub support: u64,
}

impl Confusion {
    pub(super) fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0.0; classes * classes] }
    }

    /// Adds the result of [`counts`].
    pub(super) fn add(&mut self, counts: &[f32]) {
        self.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += f64::from(*count));
    }

    /// Precision, recall and F1 of a class.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn of_class(&self, class: usize) -> ClassFigures {
        let count = |of: usize, taken_for: usize| self.counts[of * self.classes + taken_for];
        let hits = count(class, class);
        let taken: f64 = (0..self.classes).map(|other| count(other, class)).sum();
        let support: f64 = (0..self.classes).map(|other| count(class, other)).sum();
        let share = |whole: f64| if whole > 0.0 { hits / whole } else { 0.0 };
        ClassFigures {
            precision: share(taken),
            recall: share(support),
            f1: if taken + support > 0.0 { 2.0 * hits / (taken + support) } else { 0.0 },
            support: support as u64,
        }
    }

    pub fn all(&self) -> Vec<ClassFigures> {
        (0..self.classes).map(|class| self.of_class(class)).collect()
    }

    /// Unweighted mean of all classes' F1.
    pub fn macro_f1(&self) -> f64 {
        self.all().iter().map(|class| class.f1).sum::<f64>() / self.classes.max(1) as f64
    }
}

impl Serialize for Confusion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Confusion", 2)?;
        fields.serialize_field("macro_f1", &self.macro_f1())?;
        fields.serialize_field("classes", &self.all())?;
        fields.end()
    }
}

/// Confusion matrix of a batch, `[classes * classes]`, given predictions `[N, 1]`.
pub(super) fn counts(predicted: Tensor<2, Int>, batch: &Batch, classes: usize) -> Tensor<1> {
    let all: Tensor<2, Int> =
        Tensor::<1, Int>::arange(0..classes as i64, &batch.targets.weights.device()).unsqueeze();
    let one_hot = |classes: Tensor<2, Int>| classes.equal(all.clone()).float(); // [N, classes]
    let of = one_hot(batch.targets.tokens.clone()) * batch.targets.weights.clone();
    of.transpose().matmul(one_hot(predicted)).reshape([classes * classes])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{HostBatch, IGNORE_INDEX};

    /// The expected numbers are `sklearn.metrics.precision_recall_fscore_support([0, 0, 0, 1, 1, 2], [0, 0,
    /// 1, 1, 0, 0])`.
    #[test]
    fn figures_are_those_of_scikit_learn() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let targets = vec![0, 0, 0, 1, 1, 2, IGNORE_INDEX];
        let batch = Batch::new(&HostBatch::new(vec![0; 7], targets, 7, 1), &device);
        let predicted = Tensor::<2, Int>::from_data([[0], [0], [1], [1], [0], [0], [2]], &device);
        let mut confusion = Confusion::new(3);
        confusion.add(&counts(predicted, &batch, 3).into_data().try_into_vec_as::<f32>().unwrap());
        let close = |found: ClassFigures, expected: [f64; 3], support| {
            for (a, b) in [found.precision, found.recall, found.f1].iter().zip(expected) {
                assert!((a - b).abs() < 1e-9, "{found:?}");
            }
            assert_eq!(found.support, support);
        };
        close(confusion.of_class(0), [0.5, 2.0 / 3.0, 4.0 / 7.0], 3);
        close(confusion.of_class(1), [0.5, 0.5, 0.5], 2);
        close(confusion.of_class(2), [0.0, 0.0, 0.0], 1);
        assert!((confusion.macro_f1() - (4.0 / 7.0 + 0.5) / 3.0).abs() < 1e-9);
    }
}
