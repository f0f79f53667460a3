//! Early stopping: keeps track of the best evaluation, and of the number of evaluations without improvement.

use crate::checkpoint::TrainerState;

/// State of early stopping on the validation loss.
#[derive(Debug, Clone)]
pub(super) struct EarlyStop {
    /// Number of evaluations without improvement after which the run ends.
    patience: Option<u64>,
    min_delta: f64,
    best: Option<(f64, u64)>,
    without_improvement: u64,
}

impl EarlyStop {
    pub fn new(patience: Option<u64>, min_delta: f64) -> Self {
        Self { patience, min_delta, best: None, without_improvement: 0 }
    }

    pub fn restore(&mut self, state: &TrainerState) {
        self.best = state.best_val_loss.zip(state.best_step);
        self.without_improvement = state.evaluations_without_improvement;
    }

    /// Records an evaluation. Returns true if it is the best one so far.
    pub fn observe(&mut self, loss: f64, step: u64) -> bool {
        let improved = self.best.is_none_or(|(best, _)| loss < best - self.min_delta);
        let is_best = loss.is_finite() && self.best.is_none_or(|(best, _)| loss < best);
        if improved {
            self.without_improvement = 0;
        } else {
            self.without_improvement += 1;
        }
        if is_best {
            self.best = Some((loss, step));
        }
        is_best
    }

    pub fn exhausted(&self) -> bool {
        self.patience.is_some_and(|patience| self.without_improvement >= patience)
    }

    pub fn best_loss(&self) -> Option<f64> {
        self.best.map(|(loss, _)| loss)
    }

    pub fn best_step(&self) -> Option<u64> {
        self.best.map(|(_, step)| step)
    }

    pub fn without_improvement(&self) -> u64 {
        self.without_improvement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_after_patience_evaluations_without_the_asked_decrease() {
        let mut early_stop = EarlyStop::new(Some(2), 0.1);
        assert!(early_stop.observe(3.0, 1));
        assert!(early_stop.observe(2.95, 2), "better, though not by the minimum");
        assert!(!early_stop.exhausted());
        assert!(early_stop.observe(2.5, 3));
        assert!(!early_stop.observe(2.6, 4));
        assert!(!early_stop.exhausted());
        assert!(!early_stop.observe(f64::NAN, 5));
        assert!(early_stop.exhausted());
        assert_eq!(early_stop.best_step(), Some(3));
    }
}
