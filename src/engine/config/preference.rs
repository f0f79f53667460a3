//! Configuration of the objectives that learn from preferred and rejected answers: DPO, ORPO, SimPO and KTO.

use super::{Config, ObjectiveKind, Range};
use crate::error::{Error, Result, hint};
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// Losses of pairs of answers, and of single answers that are desirable or not.
    #["preference"]
    pub struct PreferenceConfig {
        /// Loss of DPO: `sigmoid`, `robust`, `hinge` or `ipo`.
        loss: PreferenceLoss = PreferenceLoss::Sigmoid;
        /// Factor of the log-probabilities, or of their ratios to the reference's; absent: 2 for SimPO, 0.1 otherwise.
        beta: Option<f64> = None, Range::Positive;
        /// Margin that SimPO's preferred answer has to lead by, as a multiple of `beta`.
        gamma_beta_ratio: f64 = 0.5, Range::FromZero;
        /// Share of the pairs that are taken to be the wrong way round, with `sigmoid` (conservative DPO) and `robust`.
        label_smoothing: f64 = 0.0, Range::Share;
        /// Divide the log-ratios of DPO by the number of the answer's tokens, as TRL's IPO does.
        average: bool = false;
        /// Compare the answers' log-probabilities as they are, without a reference.
        reference_free: bool = false;
        /// Weight of the preferred answers' cross entropy, which is added to DPO's and SimPO's loss; 1 with
        /// `reference_free` is CPO.
        sft_weight: f64 = 0.0, Range::FromZero;
        /// The likelihood in ORPO's loss is of prompt and answer, as in TRL, instead of the answer alone.
        nll_of_prompt: bool = false;
        /// Weight of desirable answers in KTO.
        desirable_weight: f64 = 1.0, Range::FromZero;
        /// Weight of undesirable answers in KTO.
        undesirable_weight: f64 = 1.0, Range::FromZero;
        /// Compute the reference's log-probabilities once, before the first step, and keep them. DPO then needs no second
        /// model in memory.
        cache_reference: bool = true;
        /// Apply the model's dropout in training, also that of a reward model. The reference has none, and TRL's
        /// trainers have none in the model either.
        dropout: bool = false;
    }
}

/// Losses of a pair in DPO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreferenceLoss {
    /// Negative log-likelihood of the preference (DPO, arXiv:2305.18290).
    Sigmoid,
    /// Unbiased under flipped preferences (robust DPO, arXiv:2403.00409).
    Robust,
    /// Hinge (SLiC, arXiv:2305.10425).
    Hinge,
    /// Squared distance of the log-ratios' difference from a target (IPO, arXiv:2310.12036).
    Ipo,
}

impl Config {
    /// Factor of the log-probabilities in the objective's loss.
    pub fn preference_beta(&self) -> f64 {
        let usual = if self.objective_kind() == ObjectiveKind::Simpo { 2.0 } else { 0.1 };
        self.preference.beta.unwrap_or(usual)
    }

    /// Whether the model's dropout is applied in training. Preferences are learned without it unless the user wants it,
    /// and sampled answers in any case, since their probabilities are those without dropout.
    pub fn applies_dropout(&self) -> bool {
        let kind = self.objective_kind();
        !kind.samples_answers() && (!kind.takes_preferences() || self.preference.dropout)
    }

    /// Note on dropout that the model has, but that is not applied.
    pub fn dropout_note(&self) -> Option<String> {
        let has_dropout = self.model.dropout > 0.0 || (self.adapter.is_on() && self.adapter.dropout > 0.0);
        let kind = self.objective_kind();
        let way = if kind.takes_preferences() { " (`preference.dropout = true` applies it)" } else { "" };
        (has_dropout && !self.applies_dropout())
            .then(|| format!("`{}` trains without the model's dropout{way}", kind.name()))
    }

    /// Checks the combination of the preference keys.
    pub(super) fn check_preference(&self) -> Result<()> {
        let PreferenceConfig { loss, label_smoothing, .. } = self.preference;
        if label_smoothing >= 0.5 {
            let message = "from a half on, the rejected answers would be the preferred ones";
            return Err(Error::invalid_value("preference.label_smoothing", label_smoothing, message));
        }
        if label_smoothing > 0.0 && matches!(loss, PreferenceLoss::Hinge | PreferenceLoss::Ipo) {
            return Err(Error::InvalidValue {
                key: "preference.label_smoothing".into(),
                value: label_smoothing.to_string(),
                message: "only the losses `sigmoid` and `robust` take it into account".into(),
                hint: Some(hint!["add ", hint::set("preference.loss", "sigmoid")]),
            });
        }
        let rows = self.train.batch_size.saturating_mul(self.train.gradient_accumulation_steps);
        if self.objective_kind() == ObjectiveKind::Kto && rows < 2 {
            return Err(Error::InvalidValue {
                key: "train.batch_size".into(),
                value: self.train.batch_size.to_string(),
                message: "KTO estimates the divergence from answers to other prompts of the step".into(),
                hint: Some(hint!["add ", hint::set("train.batch_size", 2), " or more"]),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(overrides: &[&str]) -> Result<()> {
        let mut config = Config::default();
        config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
        config.validate()
    }

    #[test]
    fn defaults_depend_on_the_kind() {
        let mut config = Config::default();
        config.apply(&["objective.kind=simpo".into()]).unwrap();
        assert_eq!(config.preference_beta(), 2.0);
        config.apply(&["objective.kind=dpo".into()]).unwrap();
        assert_eq!(config.preference_beta(), 0.1);
        config.apply(&["preference.beta=0.3".into()]).unwrap();
        assert_eq!(config.preference_beta(), 0.3);
    }

    #[test]
    fn preferences_and_sampled_answers_are_learned_without_dropout() {
        let config = |overrides: &[&str]| {
            let mut config = Config::default();
            config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
            config
        };
        for kind in ["dpo", "orpo", "simpo", "kto", "reward", "ppo", "grpo", "rloo"] {
            let kind = format!("objective.kind={kind}");
            assert!(!config(&[&kind]).applies_dropout());
            assert_eq!(config(&[&kind, "adapter.dropout=0.1"]).dropout_note(), None);
            for dropout in ["model.dropout=0.1", "adapter.dropout=0.1"] {
                assert!(config(&[&kind, "adapter.kind=lora", dropout]).dropout_note().is_some());
            }
        }
        for overrides in [&["objective.kind=sft"][..], &["objective.kind=dpo", "preference.dropout=true"]] {
            let config = config(&[overrides, &["model.dropout=0.1"]].concat());
            assert!(config.applies_dropout() && config.dropout_note().is_none());
        }
        assert!(!config(&["objective.kind=ppo", "preference.dropout=true"]).applies_dropout());
    }

    #[test]
    fn combinations_that_mean_nothing_are_refused() {
        let key = |overrides: &[&str]| match check(overrides).unwrap_err() {
            Error::InvalidValue { key, .. } => key,
            other => panic!("{other}"),
        };
        check(&["objective.kind=dpo", "preference.label_smoothing=0.1"]).unwrap();
        assert_eq!(key(&["preference.label_smoothing=0.5"]), "preference.label_smoothing");
        let hinge = ["preference.label_smoothing=0.1", "preference.loss=hinge"];
        assert_eq!(key(&hinge), "preference.label_smoothing");
        assert_eq!(key(&["objective.kind=kto", "train.batch_size=1"]), "train.batch_size");
        let two = ["objective.kind=kto", "train.batch_size=1", "train.gradient_accumulation_steps=2"];
        check(&two).unwrap();
        assert_eq!(key(&["objective.kind=dpo", "model.architecture=encoder"]), "objective.kind");
        assert_eq!(key(&["objective.kind=reward"]), "objective.kind");
        assert_eq!(key(&["objective.kind=dpo", "objective.z_loss=0.1"]), "objective.z_loss");
        check(&["objective.kind=reward", "model.head=regression"]).unwrap();
    }
}
