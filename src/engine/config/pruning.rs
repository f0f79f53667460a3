//! Configuration of pruning during training: weights that become zero and stay so.

use super::Config;
use crate::{
    error::{Error, Result, hint},
    section::Range,
};
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// Pruning during training. Weights of the blocks' matrices that are zero stay zero.
    #["pruning"]
    pub struct PruningConfig {
        /// Keep the zeros of a pruned model (`--init-from`), while its other weights are trained.
        keep_zeros: bool = false;
        /// Share of the weights that is zero in the end, taken by magnitude, little by little; 0: nothing is pruned.
        sparsity: f64 = 0.0, Range::Share;
        /// The share is that of each matrix (`layer`), or of all matrices together (`global`).
        scope: PruningScope = PruningScope::Layer;
        /// Step from which weights are pruned.
        start_step: u64 = 0;
        /// Step at which the share is reached; absent: three quarters of `train.max_steps`.
        end_step: Option<u64> = None;
        /// Steps from one pruning to the next.
        interval: u64 = 100, Range::AT_LEAST_ONE;
    }
}

/// Weights that are compared with each other to find the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PruningScope {
    /// Those of each matrix.
    Layer,
    /// Those of all matrices.
    Global,
}

impl PruningConfig {
    /// Whether zeros are kept or made.
    pub fn is_on(&self) -> bool {
        self.keep_zeros || self.sparsity > 0.0
    }
}

impl Config {
    /// Step at which the share of zeros is reached.
    pub fn pruning_end(&self) -> u64 {
        let three_quarters = self.train.max_steps / 4 * 3 + self.train.max_steps % 4 * 3 / 4;
        self.pruning.end_step.unwrap_or(three_quarters.max(self.pruning.start_step).max(1))
    }

    /// Refuses steps of pruning that are not steps of the run, and adapters, below which no weight changes.
    pub(super) fn check_pruning(&self) -> Result<()> {
        let pruning = &self.pruning;
        if !pruning.is_on() {
            return Ok(());
        }
        let refused = |key: &str, value: String, message: String, hint| {
            Err(Error::InvalidValue { key: key.into(), value, message, hint: Some(hint) })
        };
        if self.adapter.is_on() {
            let key = if pruning.keep_zeros { "pruning.keep_zeros" } else { "pruning.sparsity" };
            let value = if pruning.keep_zeros {
                pruning.keep_zeros.to_string()
            } else {
                pruning.sparsity.to_string()
            };
            let message = "with an adapter the weights of the model do not change".to_owned();
            return refused(
                key,
                value,
                message,
                hint!["leave it out, or add ", hint::set("adapter.kind", "none")],
            );
        }
        if pruning.sparsity == 0.0 {
            return Ok(());
        }
        let (start, max_steps) = (pruning.start_step, self.train.max_steps);
        if start > max_steps {
            let message = format!("the run ends before, at `train.max_steps` = {max_steps}");
            return refused("pruning.start_step", start.to_string(), message, hint!["name an earlier step"]);
        }
        match pruning.end_step {
            Some(end) if end < start.max(1) || end > max_steps => {
                let message = format!(
                    "it is no step between `pruning.start_step`, {start}, and the last one, {max_steps}"
                );
                let hint = hint!["without it pruning ends after three quarters of the run"];
                refused("pruning.end_step", end.to_string(), message, hint)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> Result<Config> {
        let mut config = Config::default();
        config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn pruning_ends_within_the_run() {
        let end = |overrides: &[&str]| config(overrides).unwrap().pruning_end();
        assert_eq!(end(&["pruning.sparsity=0.5", "train.max_steps=1000"]), 750);
        assert_eq!(end(&["pruning.sparsity=0.5", "train.max_steps=1002"]), 751);
        assert_eq!(end(&["pruning.sparsity=0.5", "train.max_steps=1000", "pruning.start_step=900"]), 900);
        assert_eq!(end(&["pruning.sparsity=0.5", "train.max_steps=1000", "pruning.end_step=10"]), 10);
    }

    #[test]
    fn impossible_pruning_is_refused() {
        let cases: [(&[&str], &str, &str); 6] = [
            (&["pruning.sparsity=1"], "pruning.sparsity", "below 1"),
            (&["pruning.interval=0"], "pruning.interval", "1 or more"),
            (&["pruning.sparsity=0.5", "adapter.kind=lora"], "pruning.sparsity", "do not change"),
            (&["pruning.keep_zeros=true", "adapter.kind=lora"], "pruning.keep_zeros", "do not change"),
            (
                &["pruning.sparsity=0.5", "train.max_steps=9", "pruning.start_step=10"],
                "pruning.start_step",
                "ends before",
            ),
            (
                &["pruning.sparsity=0.5", "pruning.start_step=5", "pruning.end_step=4"],
                "pruning.end_step",
                "no step between",
            ),
        ];
        for (overrides, key, part) in cases {
            let error = config(overrides).unwrap_err();
            assert!(matches!(&error, Error::InvalidValue { key: found, .. } if found == key), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
