//! `kiln verify DIR`: compares a model's outputs with numbers that PyTorch computed.

use super::DeviceOption;
use crate::{
    error::Error,
    eval::verify::{Tolerances, verify},
};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// A model folder with a `fixture.safetensors`
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// One bound for all errors; default: 1e-4 logits, 1e-5 loss, 1e-3 gradients and AdamW losses
    /// on the CPU, 1e-2 elsewhere
    #[arg(long, value_name = "E")]
    tolerance: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceOption,
}

pub(super) fn run(arguments: VerifyArguments) -> anyhow::Result<()> {
    let choice = arguments.device.choice()?;
    let device = choice.open()?;
    let tolerances = match arguments.tolerance {
        Some(bound) => Tolerances::uniform(bound),
        None if choice.is_cpu() => Tolerances::strict(),
        None => Tolerances::uniform(1e-2),
    };
    let found = pollster::block_on(verify(&arguments.path, &device))?;
    let failures = found.failures(&tolerances);
    if arguments.json {
        let result = json!({
            "device": choice.to_string(),
            "errors": found,
            "tolerances": tolerances,
            "failures": failures,
        });
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        println!("device           {choice}");
        println!("logits           {:.2e} (at most {:.0e})", found.logits, tolerances.logits);
        println!("loss             {:.2e} (at most {:.0e})", found.loss, tolerances.loss);
        if let Some((name, error)) = found.worst_gradient() {
            println!("worst gradient   {error:.2e} (at most {:.0e}) {name}", tolerances.gradient);
        }
        let worst = found.adamw.iter().copied().fold(0.0, f64::max);
        println!("AdamW losses     {worst:.2e} (at most {:.0e})", tolerances.adamw);
    }
    match failures.first() {
        None => Ok(()),
        Some(first) => {
            let others = failures.len() - 1;
            let message = if others == 0 { first.clone() } else { format!("{first} (and {others} more)") };
            Err(Error::OverTolerance { message }.into())
        }
    }
}
