//! Configuration of distillation: a student learns the distribution of a teacher's next token.

use super::{Config, ObjectiveKind, Range};
use crate::error::{Error, Result, hint};
use kiln_base::section;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

section! {
    /// Distillation of a teacher's predictions.
    #["distill"]
    pub struct DistillConfig {
        /// The teacher: a run or checkpoint folder, or a folder of Hugging Face's, with the student's tokenizer.
        teacher: Option<PathBuf> = None;
        /// Folder of logits that `kiln distill --save-logits` has saved, instead of a teacher.
        logits: Option<PathBuf> = None;
        /// Divergence that is minimized: 0 is KL(teacher | student), 1 is KL(student | teacher), and between them the
        /// generalized Jensen–Shannon divergence (arXiv:2306.13649).
        beta: f64 = 0.0, Range::FromZero;
        /// Share of the steps that are on answers which the student generates to the prompts of the rows, as `rollout`
        /// says (GKD's λ, arXiv:2306.13649); their loss is the divergence alone.
        lambda: f64 = 0.0, Range::FromZero;
        /// Divides the logits of both models.
        temperature: f64 = 1.0, Range::Positive;
        /// Multiply the divergence by the squared temperature (arXiv:1503.02531); TRL does not.
        temperature_squared: bool = true;
        /// Weight of the divergence; the cross entropy of the text has the rest of 1.
        weight: f64 = 1.0, Range::FromZero;
        /// Compare only the teacher's most likely tokens, this many; absent: all, or as many as were saved.
        top_k: Option<usize> = None, Range::SIZE;
        /// Distributions over the teacher's most likely tokens: `tail` has one more outcome, the rest of the
        /// vocabulary; `renormalized` divides the teacher's by their sum, `both` also the student's.
        top_k_form: TopK = TopK::Tail;
    }
}

/// Ways to compare distributions of which only the teacher's most likely tokens are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopK {
    /// All other tokens are one more outcome of both distributions.
    Tail,
    /// The teacher's probabilities are divided by their sum, the student's are as they are.
    Renormalized,
    /// The probabilities of both are divided by their sums.
    Both,
}

impl Config {
    /// Whether the student generates texts that it is trained on.
    pub fn distills_own_answers(&self) -> bool {
        self.objective_kind() == ObjectiveKind::Distill && self.distill.lambda > 0.0
    }

    /// Checks the combination of the distillation keys.
    pub(super) fn check_distill(&self) -> Result<()> {
        let DistillConfig { teacher, logits, beta, lambda, weight, .. } = &self.distill;
        for (key, value) in
            [("distill.beta", *beta), ("distill.lambda", *lambda), ("distill.weight", *weight)]
        {
            if value > 1.0 {
                return Err(Error::invalid_value(key, value, "expected a number from 0 to 1"));
            }
        }
        if self.objective_kind() != ObjectiveKind::Distill {
            return Ok(());
        }
        if let (Some(_), Some(logits)) = (teacher, logits) {
            return Err(Error::InvalidValue {
                key: "distill.logits".into(),
                value: logits.display().to_string(),
                message: "a teacher is named too, and only one of the two is used".into(),
                hint: Some(hint!["leave one out: ", hint::key("distill.teacher"), " or this"]),
            });
        }
        if logits.is_some() && self.distills_own_answers() {
            return Err(Error::InvalidValue {
                key: "distill.lambda".into(),
                value: lambda.to_string(),
                message:
                    "`distill.logits` are those of the data's texts, and answers of the student have none"
                        .into(),
                hint: Some(hint![
                    "name the ",
                    hint::key("distill.teacher"),
                    " itself, or add ",
                    hint::set("distill.lambda", 0)
                ]),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_go_up_to_one_and_there_is_one_teacher() {
        let check = |overrides: &[&str]| {
            let mut config = Config::default();
            config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
            config.validate()
        };
        check(&["objective.kind=distill", "distill.beta=1", "distill.weight=1"]).unwrap();
        assert!(check(&["distill.beta=1.1"]).unwrap_err().to_string().contains("`distill.beta`"));
        assert!(check(&["distill.lambda=1.1"]).unwrap_err().to_string().contains("`distill.lambda`"));
        let both = ["objective.kind=distill", "distill.teacher=a", "distill.logits=b"];
        assert!(check(&both).unwrap_err().to_string().contains("`b` for `distill.logits`"));
    }

    #[test]
    fn answers_of_the_student_have_no_saved_logits() {
        let refusal = |overrides: &[&str]| {
            let mut config = Config::default();
            let all = ["objective.kind=distill", "distill.lambda=0.5", "rollout.max_new_tokens=8"];
            let all = all.iter().chain(overrides).map(|text| (*text).to_owned()).collect::<Vec<_>>();
            config.apply(&all).unwrap();
            config.validate().err().map(|error| error.to_string())
        };
        let documents = "data.layout=documents";
        assert_eq!(refusal(&[documents, "distill.teacher=a", "model.dropout=0.1"]), None);
        let said = refusal(&[documents, "distill.logits=a"]).unwrap();
        assert!(said.contains("`0.5` for `distill.lambda`") && said.contains("have none"), "{said}");
        assert_eq!(refusal(&[documents, "distill.logits=a", "distill.lambda=0"]), None);
        // A prompt begins a row, and leaves room for an answer.
        assert!(refusal(&["data.layout=stream"]).unwrap().contains("`stream` for `data.layout`"));
        assert!(refusal(&[documents, "data.task=copy"]).unwrap().contains("`data.answer_after`"));
        let long = refusal(&[documents, "rollout.max_new_tokens=4096"]).unwrap();
        assert!(long.contains("`4096` for `rollout.max_new_tokens`"), "{long}");
    }
}
