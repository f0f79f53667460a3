//! One file of a subject with the model that it is about, which most comparisons begin with, and the comparison of a
//! model's training, which most of them end with.

use super::{
    Case, Tolerances,
    fixture::{Fixture, FixtureModel, adamw_losses, relative},
};
use crate::{error::Result, model::Model};
use burn::tensor::{Device, Tensor};
use std::path::Path;

/// Learning rate of the AdamW steps in all subjects but `sft` and `lora`.
pub(super) const LEARNING_RATE: f64 = 1e-3;

/// The numbers of one file of a subject, for example `grpo/llama`, and the model that they are about.
pub(super) struct Files {
    pub name: String,
    pub fixture: Fixture,
    pub model: FixtureModel,
    pub tolerances: Tolerances,
}

impl Files {
    /// Opens all files of a subject, each with the model `models/NAME`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::error::Error::Checkpoint) if a file is missing or broken, and those of loading a
    /// model.
    pub fn of_subject(folder: &Path, subject: &str, device: &Device) -> Result<Vec<Self>> {
        let open = |name: String| -> Result<Self> {
            Ok(Self {
                fixture: Fixture::open(folder, subject, &name)?,
                model: FixtureModel::open(folder, &name, device)?,
                tolerances: Tolerances::of_device(device),
                name,
            })
        };
        Fixture::names(folder, subject)?.into_iter().map(open).collect()
    }

    /// Opens `models/NAME-ref`: the reference policy, the teacher, or the body of the value model.
    ///
    /// # Errors
    /// Those of loading a model.
    pub fn second_model(&self, folder: &Path) -> Result<FixtureModel> {
        FixtureModel::open(folder, &format!("{}-ref", self.name), &self.model.device.clone().inner())
    }

    /// Makes a case of this file.
    pub fn case(&self, what: &str) -> Case {
        Case::new(format!("{} {what}", self.name))
    }

    /// Compares a loss of the model, which should be `expected`, its gradients, and the losses before AdamW steps.
    /// The gradients of the variant `whole` are in the file as a whole.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::error::Error::Checkpoint) if a number is missing, and
    /// [`Error::DeviceFailed`](crate::error::Error::DeviceFailed).
    pub fn compare_training(
        &self,
        case: &mut Case,
        variant: &str,
        expected: f64,
        whole: &str,
        loss: impl Fn(&Model) -> Tensor<1>,
    ) -> Result<()> {
        let bounds = self.tolerances;
        let (found, gradients) = self.model.loss_and_gradients(&loss)?;
        case.add("loss", relative(found, expected), bounds.loss);
        let whole = (variant == whole).then_some("grad.");
        self.fixture.compare_gradients(case, &gradients, variant, whole, bounds.gradient)?;
        let found = adamw_losses(&self.model.model, LEARNING_RATE, self.fixture.adamw_steps(variant)?, loss)?;
        self.fixture.compare_adamw(case, &found, variant, bounds.adamw)
    }
}
