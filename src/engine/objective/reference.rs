//! The reference policy, whose log-probabilities a preference objective compares the model's with. They are
//! computed in each step, or once before the first step and kept by the rows' contents.

use super::{Batch, Frozen, Start};
use crate::{
    config::Config,
    data::HostBatch,
    device::{read_numbers, short_name},
    error::{Error, Result, hint},
    model::{Model, parameters},
    tokenizer::Tokenizer,
    transform,
};
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::HashMap;

/// Action that a device may fail at.
const ACTION: &str = "computing the reference";

/// Largest difference of log-probabilities of the same model that are computed alike, relative to those over 1.
const SAME: f64 = 1e-6;

/// Largest such difference on a device whose kernels depend on the shapes of a batch, or add in any order.
pub(super) const CLOSE: f64 = 1e-3;

/// Largest difference of two log-probabilities that should be the same on this device, relative to those over 1.
pub(super) fn identity_bound(device: &Device) -> f64 {
    if short_name(device) == "cpu" { SAME } else { CLOSE }
}

/// A reference policy.
pub struct Reference {
    /// The model; `None` once its log-probabilities are kept and it is not needed any more.
    model: Option<Frozen>,
    /// Log-probabilities of completions, by the keys of their rows.
    kept: HashMap<u64, f32>,
}

impl Reference {
    pub fn new(model: Frozen) -> Self {
        Self { model: Some(model), kept: HashMap::new() }
    }

    /// Opens the reference of a configuration; `None` if the objective needs none.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if no reference is named, and those of [`Frozen::open`].
    pub fn open(config: &Config, model: &Model, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        if !config.needs_reference() {
            return Ok(None);
        }
        if config.adapter.is_on() && config.objective.reference.is_none() {
            return Ok(Some(Self::new(Frozen::new(&transform::adapter::without(model)))));
        }
        let key = "objective.reference";
        let path = config.objective.reference.as_deref().ok_or_else(|| Error::InvalidValue {
            key: key.into(),
            value: String::new(),
            message: format!("`{}` compares the model with a reference", config.objective_kind().name()),
            hint: Some(hint![
                "start from a trained model with ",
                hint::command("--init-from"),
                ", or name one with ",
                hint::choose(key, "RUN")
            ]),
        })?;
        Ok(Some(Self::new(Frozen::open(path, key, config, model, tokenizer)?)))
    }

    /// The model, unless it was not needed any more.
    pub(super) fn into_model(self) -> Option<Frozen> {
        self.model
    }

    /// Log-probability of the completion of each row, `[B, 1]`, without autodiff. NaN for a row of which nothing
    /// is known, because the model is gone and the row was not prepared for.
    pub(crate) fn log_probabilities(&self, batch: &Batch) -> Tensor<2> {
        let kept = |row| self.kept.get(&batch.host.row_key(row)).copied();
        let all: Option<Vec<f32>> = (0..batch.rows())
            .map(|row| if batch.host.row_targets(row) == 0 { Some(0.0) } else { kept(row) })
            .collect();
        match (all, &self.model) {
            (Some(values), _) if !self.kept.is_empty() => column(values, batch),
            (_, Some(model)) => model.row_log_probabilities(batch),
            _ => column((0..batch.rows()).map(|row| kept(row).unwrap_or(f32::NAN)).collect(), batch),
        }
    }

    /// Computes and keeps the log-probabilities of all rows of a run, if the configuration says so, and frees the
    /// model unless `keeps_model`. At the beginning of a run whose model is the reference, compares the
    /// log-probabilities of both.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`], and [`Error::OverTolerance`] if the log-probabilities of the same model differ.
    pub(super) async fn prepare(&mut self, start: &Start<'_>, keeps_model: bool) -> Result<()> {
        let Some(model) = &self.model else { return Ok(()) };
        let device = start.device.clone().inner();
        let is_same = start.steps_done == 0 && is_same(start.model, model.model()).await?;
        if start.config.preference.cache_reference {
            for host in start.batches() {
                let is_new = |row| host.row_targets(row) > 0 && !self.kept.contains_key(&host.row_key(row));
                if !(0..host.rows).any(is_new) {
                    continue;
                }
                let sums = model.row_log_probabilities(&Batch::new(&host, &device));
                let sums = read_numbers(sums, ACTION).await?;
                let rows = sums.into_iter().enumerate().filter(|(row, _)| host.row_targets(*row) > 0);
                self.kept.extend(rows.map(|(row, sum)| (host.row_key(row), sum)));
            }
        }
        if is_same {
            self.check_identity(start, &device).await?;
        }
        if start.config.preference.cache_reference && !keeps_model {
            self.model = None;
        }
        Ok(())
    }

    /// Compares the log-probabilities of the first rows under the model in training with those of the reference,
    /// which is the same model.
    async fn check_identity(&self, start: &Start<'_>, device: &Device) -> Result<()> {
        let host = start.first_batch();
        // As in a step, but without dropout.
        let own = Batch::new(&host, start.device).row_log_probabilities(start.model).inner();
        let of_reference = self.log_probabilities(&Batch::new(&host, device));
        let (own, of_reference) =
            (read_numbers(own, ACTION).await?, read_numbers(of_reference, ACTION).await?);
        compare(&host, &own, &of_reference, identity_bound(device))
    }
}

/// Compares the summed log-probabilities of rows, which should be the same. `by_token` is the largest difference for
/// each token, relative to its log-probability if that is over 1.
///
/// # Errors
/// [`Error::OverTolerance`] with the first row in which they are not.
fn compare(host: &HostBatch, own: &[f32], of_reference: &[f32], by_token: f64) -> Result<()> {
    for (row, (own, other)) in own.iter().zip(of_reference).enumerate() {
        let bound = by_token * (host.row_targets(row) as f64 + f64::from(other.abs()));
        let difference = f64::from(own - other).abs();
        if difference.is_nan() || difference > bound {
            return Err(Error::OverTolerance {
                message: format!(
                    "at the first step the model is its own reference, but the log-probability of the answer \
                     in row {row} is {own} under the model and {other} under the reference"
                ),
            });
        }
    }
    Ok(())
}

/// Values of rows as a column on the device of a batch, without autodiff.
fn column(values: Vec<f32>, batch: &Batch) -> Tensor<2> {
    let rows = values.len();
    Tensor::from_data(TensorData::new(values, [rows, 1]), &batch.targets.weights.device().inner())
}

/// Whether a model computes the same as another one: it has its parameters with the same values, and adapters at
/// most, whose low-rank changes are 0.
pub(super) async fn is_same(model: &Model, other: &Model) -> Result<bool> {
    let (own, mut other) = (parameters::parameters(model), parameters::parameters(other));
    let mut differences = Vec::new();
    for (name, tensor) in &own {
        let difference = match (other.remove(name), name.rsplit_once('.')) {
            (Some(other), _) if other.shape != tensor.shape => return Ok(false),
            (Some(other), _) => (tensor.values.clone() - other.values).abs().sum(),
            (None, Some((change, "up"))) => {
                let Some(down) = own.get(&format!("{change}.down")) else { return Ok(false) };
                down.values.clone().abs().sum() * tensor.values.clone().abs().sum()
            }
            (None, Some((_, "down" | "magnitude"))) => continue,
            (None, _) => return Ok(false),
        };
        differences.push(difference);
    }
    if differences.is_empty() || !other.is_empty() {
        return Ok(false);
    }
    Ok(read_numbers(Tensor::cat(differences, 0).sum(), ACTION).await? == [0.0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IGNORE_INDEX;

    #[test]
    fn kept_log_probabilities_are_found_by_the_rows_contents() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let n = IGNORE_INDEX;
        let row = |answer: i32, time: usize| {
            let mut host = HostBatch::new(vec![0; time], vec![n; time], 1, time);
            host.inputs[..2].copy_from_slice(&[7, 8]);
            (host.targets[1], host.weights[1]) = (answer, 1.0);
            host
        };
        let kept = HashMap::from([(row(3, 2).row_key(0), -1.5)]);
        let reference = Reference { model: None, kept };
        let of = |host: &HostBatch| {
            let found = reference.log_probabilities(&Batch::new(host, &device));
            found.into_data().try_into_vec_as::<f32>().unwrap()[0]
        };
        assert_eq!((of(&row(3, 2)), of(&row(3, 6))), (-1.5, -1.5));
        assert!(of(&row(4, 2)).is_nan());
        // A row without a target only fills the batch.
        assert_eq!(of(&HostBatch::new(vec![0; 4], vec![n; 4], 1, 4)), 0.0);
    }

    #[test]
    fn log_probabilities_of_the_same_model_have_to_agree() {
        let host = HostBatch::new(vec![1, 2, 3, 4], vec![IGNORE_INDEX, 3, 4, 5], 2, 2);
        compare(&host, &[-3.0, -8.0], &[-3.000_001, -8.000_002], SAME).unwrap();
        let error = compare(&host, &[-3.0, -8.0], &[-3.0, -8.1], SAME).unwrap_err().to_string();
        assert!(error.contains("row 1") && error.contains("-8.1"), "{error}");
        assert!(compare(&host, &[f32::NAN, -8.0], &[-3.0, -8.0], CLOSE).is_err());
    }
}
