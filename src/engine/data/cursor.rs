//! Data position in a checkpoint, to verify that a resumed run continues where the interrupted one stopped.

use crate::{
    config::{Layout, Order},
    error::{Error, Result, hint},
};
use serde::{Deserialize, Serialize};

/// Position in the order in which a run reads its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    pub seed: u64,
    /// Number of the next step.
    pub step: u64,
    /// Passes over the split before that step, including fractions.
    pub epoch: f64,
    pub order: Order,
    pub layout: Layout,
    /// Whether rows hold several documents each.
    #[serde(default)]
    pub packing: bool,
    pub block_size: usize,
    pub rows_per_step: usize,
    /// Fingerprint of the training tokens.
    pub fingerprint: String,
}

impl Cursor {
    /// Compares this run's data and row order with those of a stored cursor. `self` is a cursor of the
    /// present loader, at any step.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] that names the configuration key that differs.
    pub fn check(&self, stored: &Self) -> Result<()> {
        if self.fingerprint != stored.fingerprint {
            return Err(Error::InvalidValue {
                key: "data.paths".into(),
                value: format!("tokens {}", self.fingerprint),
                message: format!(
                    "the training data is not what the checkpoint was trained on ({})",
                    stored.fingerprint
                ),
                hint: Some(hint![
                    "restore the files, ",
                    hint::key("data.val_fraction"),
                    ", ",
                    hint::key("data.canaries"),
                    " and the tokenizer that the run began with, or begin a new run from this checkpoint"
                ]),
            });
        }
        let fields = [
            ("data.layout", format!("{:?}", self.layout), format!("{:?}", stored.layout)),
            ("data.packing", self.packing.to_string(), stored.packing.to_string()),
            ("data.order", format!("{:?}", self.order), format!("{:?}", stored.order)),
            ("train.seed", self.seed.to_string(), stored.seed.to_string()),
            ("model.block_size", self.block_size.to_string(), stored.block_size.to_string()),
            (
                "train.batch_size × train.gradient_accumulation_steps",
                self.rows_per_step.to_string(),
                stored.rows_per_step.to_string(),
            ),
        ];
        match fields.into_iter().find(|(_, now, then)| now != then) {
            Some((key, now, then)) => Err(Error::InvalidValue {
                key: key.into(),
                value: now.to_lowercase(),
                message: format!(
                    "the checkpoint was trained with `{}`, so the data would not go on where it stopped",
                    then.to_lowercase()
                ),
                hint: Some("leave it as it was".into()),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Loader, RowLayout, TokenSplit, Tokens},
        *,
    };
    use std::sync::Arc;

    fn cursor(tokens: Vec<u16>, order: Order, rows: usize, step: u64) -> Cursor {
        let split = Arc::new(TokenSplit::from_tokens("train", Tokens::U16(tokens), vec![]));
        Loader::new(split, RowLayout::causal(Layout::Stream, 4), order, rows, 1).unwrap().cursor(step)
    }

    #[test]
    fn survives_json_and_fits_itself_at_any_step() {
        let stored = cursor(vec![1; 21], Order::Shuffled, 2, 10);
        assert_eq!((stored.step, stored.epoch), (10, 4.0));
        let read: Cursor = serde_json::from_str(&serde_json::to_string(&stored).unwrap()).unwrap();
        assert_eq!(read, stored);
        cursor(vec![1; 21], Order::Shuffled, 2, 0).check(&read).unwrap();
    }

    #[test]
    fn names_what_changed() {
        let stored = cursor(vec![1; 20], Order::Random, 2, 10);
        let message = |now: Cursor| now.check(&stored).unwrap_err().to_string();
        let mut other = vec![1; 20];
        other[7] = 2;
        assert!(message(cursor(other, Order::Random, 2, 0)).contains("training data is not what"));
        assert!(message(cursor(vec![1; 20], Order::Shuffled, 2, 0)).contains("`shuffled` for `data.order`"));
        assert!(message(cursor(vec![1; 20], Order::Random, 3, 0)).contains("trained with `2`"));
    }
}
