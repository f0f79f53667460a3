//! Compares what Kiln computes with reference numbers in files: one model with its gradients
//! ([`verify_model`]), or a folder of fixtures with one folder for each subject ([`SUBJECTS`]).

pub mod case;
mod distill;
mod files;
pub mod fixture;
mod grpo;
mod lora;
mod model;
mod optim;
mod ppo;
mod precision;
mod preference;
mod prune;
mod reward;
mod scaler;
mod sft;

pub use case::{Case, Difference, Tolerances};
pub use model::{FIXTURE, Verification, verify_model};

use crate::error::Result;
use burn::tensor::Device;
use std::path::Path;

/// A subject of a folder of fixtures.
pub struct Subject {
    /// Name of the subject's folder.
    pub name: &'static str,
    /// Compares everything in the subject's folder with Kiln. Takes the folder that holds it and `models`.
    pub verify: fn(&Path, &Device) -> Result<Vec<Case>>,
}

/// Subjects whose fixtures the engine verifies.
pub const SUBJECTS: &[Subject] = &[
    Subject { name: "sft", verify: sft::verify },
    Subject { name: "lora", verify: lora::verify },
    Subject { name: "preference", verify: preference::verify },
    Subject { name: "reward", verify: reward::verify },
    Subject { name: "ppo", verify: ppo::verify },
    Subject { name: "grpo", verify: grpo::verify },
    Subject { name: "distill", verify: distill::verify },
    Subject { name: "optim", verify: optim::verify },
    Subject { name: "precision", verify: precision::verify },
    Subject { name: "prune", verify: prune::verify },
];
