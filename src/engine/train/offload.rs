//! Where a run keeps the state of its optimizer (`train.offload`).

use super::Trainer;
use crate::{
    config::Offload,
    device::short_name,
    error::{Error, Result, hint},
    model::parameters,
    optim::Optimizer,
    platform::can_wait,
};
use burn::tensor::Device;
use std::path::Path;

/// Keeps the state away from the device, if that is asked for. Returns a note for the user if it makes no difference.
///
/// # Errors
/// [`Error::InvalidValue`] in a browser.
pub(super) fn keep_away(
    offload: Offload,
    optimizer: &mut Optimizer,
    device: &Device,
) -> Result<Option<String>> {
    let value = match offload {
        Offload::None => return Ok(None),
        Offload::Optimizer => "optimizer",
        Offload::OptimizerDisk => "optimizer-disk",
    };
    if !can_wait() {
        return Err(Error::InvalidValue {
            key: "train.offload".into(),
            value: value.into(),
            message: "a browser cannot wait for the device within a step".into(),
            hint: Some(hint!["keep the state on the device: ", hint::set("train.offload", "none")]),
        });
    }
    if offload == Offload::Optimizer && short_name(device) == "cpu" {
        return Ok(Some(
            "`train.offload = optimizer` changes nothing: on the CPU the optimizer's state is in the machine's memory \
             anyway"
                .into(),
        ));
    }
    optimizer.keep_away();
    Ok(None)
}

impl Trainer {
    /// Keeps the optimizer's state between steps in a file of `folder`, if `train.offload` asks for one. Without this call
    /// it is kept in the machine's memory.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be made, for example because the disk is full.
    pub fn offload_to(&mut self, folder: &Path) -> Result<()> {
        if self.config.train.offload != Offload::OptimizerDisk {
            return Ok(());
        }
        let mut shapes = parameters::trainable_shapes(&self.model);
        if let Some(companion) = self.objective.companion() {
            shapes.extend(parameters::trainable_shapes(companion));
        }
        self.optimizer.keep_in_file(folder, &shapes)
    }
}
