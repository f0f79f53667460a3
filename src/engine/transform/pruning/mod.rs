//! Pruning: weights of the blocks' matrices become zero, or heads, neurons and layers go as a whole. The choice
//! itself is in the crate `kiln-prune`; here are the matrices of a model, the text that they see, and zeros that
//! stay zero in training.
//!
//! Kiln has a layer's matrix as `[in, out]`, `kiln-prune` as `[out, in]`. Where several matrices of transformers'
//! are one of Kiln's (queries, keys and values; gate and up), a share is that of all of them together.

mod calibration;
mod gradual;
mod layers;
mod one_shot;
#[cfg(test)]
mod tests;
mod units;

pub use calibration::{Calibration, CalibrationRun};
pub use gradual::{GradualPruning, Zeros};
pub use kiln_prune::Pattern;
pub use layers::{drop_layers, remove_layers};
pub use one_shot::{Method, prune, sparsity};
pub use units::{Units, remove_units};

use crate::{
    config::{Architecture, ModelConfig},
    error::{Error, Result, hint},
    model::{
        Model,
        parameters::{HostTensor, ParameterRole},
    },
};
use kiln_prune::Error as Refusal;
use std::collections::BTreeSet;

/// Ends of the names of matrices that are never pruned: they are small, and decide which experts compute.
const NEVER: [&str; 2] = ["router.weight", "shared_gate.weight"];

/// Names of the matrices that may be pruned: those in blocks.
pub fn matrices(config: &ModelConfig) -> BTreeSet<String> {
    let in_block = |role| matches!(role, ParameterRole::Matrix | ParameterRole::Experts);
    let roles = Model::roles(config).into_iter().filter(|(_, role)| in_block(*role));
    roles.map(|(name, _)| name).filter(|name| !NEVER.iter().any(|end| name.ends_with(end))).collect()
}

/// Height and width of the matrices `[.., in, out]` that a tensor consists of.
fn sizes(tensor: &HostTensor) -> [usize; 2] {
    match tensor.shape[..] {
        [.., rows, columns] => [rows, columns],
        _ => [1, tensor.values.len()],
    }
}

/// Transposes a matrix, `[rows, columns]` -> `[columns, rows]`.
fn transposed<T: Copy>(values: &[T], columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns)).copied().collect()
}

/// Makes an error of a matrix that cannot be pruned.
fn refused(name: &str, refusal: &Refusal) -> Error {
    let value = match refusal {
        Refusal::Share { share } => share.to_string(),
        Refusal::NotFinite { value, .. } => value.to_string(),
        Refusal::NothingLeft { count, .. } => count.to_string(),
        Refusal::NotPositive { damping, .. } => damping.to_string(),
        _ => String::new(),
    };
    Error::invalid_value(name, value, refusal.to_string())
}

fn check_decoder(config: &ModelConfig) -> Result<()> {
    match config.architecture {
        Architecture::Decoder => Ok(()),
        _ => Err(Error::InvalidValue {
            key: "model.architecture".into(),
            value: "encoder".into(),
            message: "heads, neurons and layers are removed from decoders only".into(),
            hint: Some(hint!["prune single weights of it instead"]),
        }),
    }
}
