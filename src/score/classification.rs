//! Accuracy, precision, recall and F1 of predicted classes, as scikit-learn computes them.
//!
//! Rules: `sklearn.metrics` 1.9 with `zero_division=0`.

use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Precision, recall and F1, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Share of the predictions of a class that are correct; 0 if there are none.
    pub precision: f64,
    /// Share of the members of a class that are predicted correctly; 0 if there are none.
    pub recall: f64,
    /// Harmonic mean of precision and recall; 0 if both are 0.
    pub f1: f64,
}

impl Figures {
    fn new(hits: u64, predicted: u64, support: u64) -> Self {
        let share = |of: u64| if of > 0 { hits as f64 / of as f64 } else { 0.0 };
        let both = predicted + support;
        let f1 = if both > 0 { 2.0 * hits as f64 / both as f64 } else { 0.0 };
        Self { precision: share(predicted), recall: share(support), f1 }
    }

    fn mean(of: impl Iterator<Item = (Self, f64)>) -> Self {
        let (mut sum, mut weights) = (Self::default(), 0.0);
        for (figures, weight) in of {
            sum.precision += weight * figures.precision;
            sum.recall += weight * figures.recall;
            sum.f1 += weight * figures.f1;
            weights += weight;
        }
        Self { precision: sum.precision / weights, recall: sum.recall / weights, f1: sum.f1 / weights }
    }
}

/// Numbers of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassFigures {
    #[serde(flatten)]
    pub figures: Figures,
    /// Number of true members of the class.
    pub support: u64,
}

/// Comparison of predicted classes with true ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification<T> {
    /// All classes that are true or predicted somewhere, in order.
    pub classes: Vec<T>,
    /// Numbers of each class, in the order of `classes`.
    pub per_class: Vec<ClassFigures>,
    /// Number of texts by true and predicted class, as indices into `classes`. Pairs that do not occur are
    /// not in the map.
    pub confusion: BTreeMap<(usize, usize), u64>,
    /// Share of the texts that are predicted correctly.
    pub accuracy: f64,
    /// Mean of the recall of the classes that have members.
    pub balanced_accuracy: f64,
    /// Matthews correlation coefficient; 0 if all texts have one class, true or predicted.
    pub mcc: f64,
    /// Figures over all texts. Each is the accuracy.
    pub micro: Figures,
    /// Mean of the figures of all classes.
    pub macro_average: Figures,
    /// Mean of the figures of all classes, weighted by their numbers of true members.
    pub weighted: Figures,
}

impl<T: Ord + Clone> Classification<T> {
    /// Compares the predicted class of each text with the true one.
    ///
    /// # Errors
    /// [`Error::Empty`] or [`Error::UnequalLengths`].
    pub fn new(truth: &[T], predicted: &[T]) -> Result<Self> {
        if truth.len() != predicted.len() {
            return Err(Error::UnequalLengths {
                left: "true classes",
                left_len: truth.len(),
                right: "predicted classes",
                right_len: predicted.len(),
            });
        }
        if truth.is_empty() {
            return Err(Error::Empty { what: "classes" });
        }
        let classes: Vec<&T> = truth.iter().chain(predicted).collect::<BTreeSet<_>>().into_iter().collect();
        let indices: BTreeMap<&T, usize> =
            classes.iter().enumerate().map(|(index, class)| (*class, index)).collect();
        let (mut members, mut taken) = (vec![0u64; classes.len()], vec![0u64; classes.len()]);
        let mut confusion = BTreeMap::new();
        for (of, taken_for) in truth.iter().zip(predicted) {
            let pair = (indices[of], indices[taken_for]);
            members[pair.0] += 1;
            taken[pair.1] += 1;
            *confusion.entry(pair).or_default() += 1;
        }
        let hits = |class: usize| confusion.get(&(class, class)).copied().unwrap_or_default();
        let per_class: Vec<ClassFigures> = (0..classes.len())
            .map(|class| ClassFigures {
                figures: Figures::new(hits(class), taken[class], members[class]),
                support: members[class],
            })
            .collect();
        let texts = truth.len() as u64;
        let correct: u64 = (0..classes.len()).map(hits).sum();
        let with_members = per_class.iter().filter(|class| class.support > 0);
        let recalls: Vec<f64> = with_members.map(|class| class.figures.recall).collect();
        let mean = |weight: fn(&ClassFigures) -> f64| {
            Figures::mean(per_class.iter().map(|class| (class.figures, weight(class))))
        };
        Ok(Self {
            accuracy: correct as f64 / texts as f64,
            balanced_accuracy: crate::corpus::mean(&recalls),
            mcc: correlation(correct, &members, &taken),
            micro: Figures::new(correct, texts, texts),
            macro_average: mean(|_| 1.0),
            weighted: mean(|class| class.support as f64),
            classes: classes.into_iter().cloned().collect(),
            per_class,
            confusion,
        })
    }
}

/// Matthews correlation coefficient. Gorodkin, "Comparing two K-category assignments by a K-category
/// correlation coefficient", 2004.
fn correlation(correct: u64, members: &[u64], taken: &[u64]) -> f64 {
    let dot = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
    let texts = members.iter().sum::<u64>() as f64;
    let covariance = correct as f64 * texts - dot(members, taken);
    let variances = (texts * texts - dot(taken, taken)) * (texts * texts - dot(members, members));
    if variances == 0.0 { 0.0 } else { covariance / variances.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Figures, expected: [f64; 3]) {
        let found = [found.precision, found.recall, found.f1];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} {expected:?}");
    }

    /// The numbers are `precision_recall_fscore_support(truth, predicted, average=..., zero_division=0)`,
    /// `balanced_accuracy_score` and `matthews_corrcoef`. Class 0 is never predicted, and class 3 never true.
    #[test]
    fn figures_are_those_of_scikit_learn() {
        let found = Classification::new(&[0, 1, 1, 2, 2, 2], &[1, 1, 2, 2, 2, 3]).unwrap();
        assert_eq!(found.classes, [0, 1, 2, 3]);
        assert_eq!(found.per_class[3].support, 0);
        close(found.per_class[0].figures, [0.0, 0.0, 0.0]);
        close(found.per_class[2].figures, [2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0]);
        close(found.micro, [0.5, 0.5, 0.5]);
        close(found.macro_average, [0.29166666666666663, 0.29166666666666663, 0.29166666666666663]);
        close(found.weighted, [0.5, 0.5, 0.5]);
        assert!((found.balanced_accuracy - 0.38888888888888884).abs() < 1e-9);
        assert!((found.mcc - 0.22727272727272727).abs() < 1e-9);
        assert_eq!(found.confusion[&(1, 2)], 1);
    }

    #[test]
    fn classes_may_be_texts() {
        let found = Classification::new(&["yes", "no"], &["yes", "yes"]).unwrap();
        assert_eq!((found.accuracy, found.mcc), (0.5, 0.0));
        assert_eq!(found.classes, ["no", "yes"]);
    }

    #[test]
    fn lists_must_match() {
        assert_eq!(Classification::<u8>::new(&[], &[]), Err(Error::Empty { what: "classes" }));
        assert!(Classification::new(&[1], &[1, 2]).is_err());
    }
}
