//! Accuracy of multiple choice by log-likelihoods, as lm-evaluation-harness computes it.
//!
//! Rules: `process_results` of multiple-choice tasks and `mean_stderr` in lm-eval 0.4.13.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Question with a log-likelihood of each choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub choices: Vec<String>,
    /// Natural logarithm of the probability of each choice.
    pub loglikelihoods: Vec<f64>,
    /// Index of the right choice.
    pub gold: usize,
}

/// Number by which a log-likelihood is divided before choices are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// 1, for `acc`.
    None,
    /// Number of characters of the choice, for `acc_norm`.
    Characters,
    /// Number of UTF-8 bytes of the choice, for `acc_bytes`.
    Bytes,
}

impl Normalization {
    /// Normalizations with the names of their accuracies in lm-evaluation-harness.
    pub const NAMED: [(&str, Self); 3] =
        [("acc", Self::None), ("acc_norm", Self::Characters), ("acc_bytes", Self::Bytes)];
}

impl Question {
    /// Index of the choice with the highest normalized log-likelihood, of equal ones the first.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::UnequalLengths`] or [`Error::InvalidValue`].
    pub fn pick(&self, normalization: Normalization) -> Result<usize> {
        if self.choices.is_empty() {
            return Err(Error::Empty { what: "choices" });
        }
        if self.choices.len() != self.loglikelihoods.len() {
            return Err(Error::UnequalLengths {
                left: "choices",
                left_len: self.choices.len(),
                right: "log-likelihoods",
                right_len: self.loglikelihoods.len(),
            });
        }
        if self.loglikelihoods.iter().any(|value| value.is_nan()) {
            return Err(Error::invalid("loglikelihoods", f64::NAN, "must be a number"));
        }
        let mut best = (0, f64::NEG_INFINITY);
        for (index, (choice, loglikelihood)) in self.choices.iter().zip(&self.loglikelihoods).enumerate() {
            let length = match normalization {
                Normalization::None => 1,
                Normalization::Characters => choice.chars().count(),
                Normalization::Bytes => choice.len(),
            };
            let value = loglikelihood / length as f64;
            if value.is_nan() {
                // An empty choice with log-likelihood 0: numpy's argmax takes the first that is no number.
                return Ok(index);
            }
            if value > best.1 {
                best = (index, value);
            }
        }
        Ok(best.0)
    }

    /// Whether the right choice is picked.
    ///
    /// # Errors
    /// Those of [`Question::pick`]; [`Error::InvalidValue`] if there is no choice `gold`.
    pub fn is_right(&self, normalization: Normalization) -> Result<bool> {
        if self.gold >= self.choices.len() {
            return Err(Error::invalid("gold", self.gold, "must be the index of a choice"));
        }
        Ok(self.pick(normalization)? == self.gold)
    }
}

/// Mean of an accuracy over questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChoiceSummary {
    /// Share of the questions that are answered correctly.
    pub mean: f64,
    /// Standard error of the mean; `None` for a single question.
    pub stderr: Option<f64>,
}

/// Accuracy over questions.
///
/// # Errors
/// [`Error::Empty`] and those of [`Question::is_right`].
pub fn accuracy(questions: &[Question], normalization: Normalization) -> Result<ChoiceSummary> {
    if questions.is_empty() {
        return Err(Error::Empty { what: "questions" });
    }
    let mut right = 0;
    for question in questions {
        right += usize::from(question.is_right(normalization)?);
    }
    let (count, mean) = (questions.len() as f64, right as f64 / questions.len() as f64);
    let variance = count * mean * (1.0 - mean) / (count - 1.0);
    Ok(ChoiceSummary { mean, stderr: (questions.len() > 1).then(|| (variance / count).sqrt()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(choices: &[&str], loglikelihoods: &[f64], gold: usize) -> Question {
        let choices = choices.iter().map(ToString::to_string).collect();
        Question { choices, loglikelihoods: loglikelihoods.to_vec(), gold }
    }

    /// `numpy.argmax(loglikelihoods / lengths)`.
    #[test]
    fn lengths_are_in_characters_or_bytes() {
        let question = question(&["北京市", "Rome"], &[-3.0, -3.4], 0);
        assert_eq!(question.pick(Normalization::None), Ok(0));
        assert_eq!(question.pick(Normalization::Characters), Ok(1));
        assert_eq!(question.pick(Normalization::Bytes), Ok(0));
    }

    #[test]
    fn the_first_of_equals_wins() {
        let tie = question(&["tie", "tie"], &[-1.0, -1.0], 1);
        assert_eq!(tie.pick(Normalization::Bytes), Ok(0));
        assert_eq!(question(&["x", "y"], &[f64::NEG_INFINITY; 2], 0).pick(Normalization::None), Ok(0));
        // The log-likelihood of an empty choice is divided by 0.
        assert_eq!(question(&["", "y"], &[-1.0, -5.0], 0).pick(Normalization::Bytes), Ok(1));
        assert_eq!(question(&["y", ""], &[-1.0, 0.0], 0).pick(Normalization::Bytes), Ok(1));
    }

    /// `numpy.std([1, 0, 1], ddof=1) / 3 ** 0.5` is 0.3333333333333333.
    #[test]
    fn the_mean_has_a_standard_error() {
        let right = question(&["a", "b"], &[-1.0, -2.0], 0);
        let wrong = question(&["a", "b"], &[-1.0, -2.0], 1);
        let found = accuracy(&[right.clone(), wrong, right.clone()], Normalization::None).unwrap();
        assert!((found.mean - 2.0 / 3.0).abs() < 1e-12);
        assert!((found.stderr.unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(accuracy(&[right], Normalization::None).unwrap().stderr, None);
    }

    #[test]
    fn wrong_questions_are_refused() {
        assert!(accuracy(&[], Normalization::None).is_err());
        assert!(question(&[], &[], 0).pick(Normalization::None).is_err());
        assert!(question(&["a"], &[], 0).pick(Normalization::None).is_err());
        assert!(question(&["a"], &[f64::NAN], 0).pick(Normalization::None).is_err());
        assert!(question(&["a"], &[0.0], 1).is_right(Normalization::None).is_err());
    }
}
