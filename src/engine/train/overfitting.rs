//! Watches evaluations for overfitting: the validation loss rises while the training loss still falls.

use super::event::OverfittingReport;
use crate::{checkpoint::OverfittingState, config::TrainConfig};

/// Losses of an evaluation, and the best validation loss before it with its step.
pub(super) struct Losses {
    pub step: u64,
    pub validation: f64,
    pub training: Option<f64>,
    pub best: Option<(f64, u64)>,
}

/// Records an evaluation. Returns a warning, once in a run.
pub(super) fn observe(
    state: &mut OverfittingState,
    losses: &Losses,
    train: &TrainConfig,
) -> Option<OverfittingReport> {
    let Losses { step, validation, training, best } = *losses;
    let Some((best_val_loss, best_step)) = best.filter(|(best, _)| validation >= *best) else {
        (state.train_loss_at_best, state.evaluations) = (training, 0);
        return None;
    };
    let (train_loss, train_loss_at_best) = training.zip(state.train_loss_at_best)?;
    let limit = best_val_loss + train.overfitting_margin * best_val_loss.abs();
    let overfits = validation > limit && train_loss < train_loss_at_best;
    state.evaluations = if overfits { state.evaluations + 1 } else { 0 };
    let is_due = train.overfitting_patience > 0 && state.evaluations >= train.overfitting_patience;
    if !is_due || std::mem::replace(&mut state.has_warned, true) {
        return None;
    }
    Some(OverfittingReport {
        step,
        evaluations: state.evaluations,
        val_loss: validation,
        best_val_loss,
        best_step,
        train_loss,
        train_loss_at_best,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps at which a series of training and validation losses gives a warning.
    fn warnings(series: &[(f64, f64)], train: &TrainConfig) -> Vec<u64> {
        let (mut watch, mut best, mut steps) = (OverfittingState::default(), None::<(f64, u64)>, Vec::new());
        for (step, &(training, validation)) in (1..).zip(series) {
            let losses = Losses { step, validation, training: Some(training), best };
            steps.extend(observe(&mut watch, &losses, train).map(|report| report.step));
            if best.is_none_or(|(loss, _)| validation < loss) {
                best = Some((validation, step));
            }
            // As a checkpoint between two evaluations does.
            watch = serde_json::from_str(&serde_json::to_string(&watch).unwrap()).unwrap();
        }
        steps
    }

    #[test]
    fn a_rising_validation_loss_beside_a_falling_training_loss_warns_once() {
        let train = TrainConfig::default();
        let overfits =
            [(3.0, 3.0), (2.0, 2.0), (1.5, 1.8), (1.2, 1.9), (0.9, 2.0), (0.7, 2.2), (0.5, 2.4), (0.4, 2.6)];
        assert_eq!(warnings(&overfits, &train), [6]);
        assert_eq!(warnings(&overfits, &TrainConfig { overfitting_patience: 5, ..train.clone() }), [8]);
        let never = TrainConfig { overfitting_patience: 0, ..train.clone() };
        assert!(warnings(&overfits, &never).is_empty());
        let wide = TrainConfig { overfitting_margin: 0.5, ..train };
        assert!(warnings(&overfits, &wide).is_empty());
    }

    #[test]
    fn healthy_runs_do_not_warn() {
        let train = TrainConfig::default();
        // Falling; noisy around the best; both rising, as after a learning rate that is too high.
        let falling: Vec<_> = (1..20).map(|i| (3.0 / f64::from(i), 3.1 / f64::from(i))).collect();
        let noisy: Vec<_> =
            (0..20).map(|i| (1.5 - 0.01 * f64::from(i), 1.8 + 0.01 * f64::from(i % 3))).collect();
        let diverging: Vec<_> =
            (0..20).map(|i| (2.0 + 0.1 * f64::from(i), 2.0 + 0.1 * f64::from(i))).collect();
        for series in [falling, noisy, diverging] {
            assert!(warnings(&series, &train).is_empty(), "{series:?}");
        }
        // Two evaluations above the best, then a better one.
        let recovers = [(2.0, 2.0), (1.5, 2.3), (1.4, 2.3), (1.3, 1.9), (1.2, 2.2), (1.1, 2.2), (1.0, 1.8)];
        assert!(warnings(&recovers, &train).is_empty());
    }
}
