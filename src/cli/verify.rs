//! `kiln verify DIR`: compares a model's outputs with numbers that PyTorch computed, or the metrics of `kiln score` with
//! those of sacrebleu, rouge-score, SQuAD's scripts, scikit-learn and lm-evaluation-harness.

use super::DeviceOption;
use crate::{
    error::Error,
    eval::verify::{Tolerances, verify},
};
use serde_json::json;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// A model folder with a `fixture.safetensors`, or a folder of metrics with a `texts.json`
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
    if arguments.path.join("texts.json").exists() {
        return verify_metrics(&arguments.path);
    }
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

/// Prints each number of the folder's files beside the one that Kiln computes.
fn verify_metrics(folder: &Path) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let outcomes = kiln_score::fixture::evaluate(folder, &mut out).map_err(|error| Error::InvalidValue {
        key: "kiln verify".into(),
        value: folder.display().to_string(),
        message: error.to_string(),
        hint: None,
    })?;
    let mut failures = Vec::new();
    for outcome in outcomes {
        let (file, cases, equal) = (outcome.file, outcome.cases, outcome.equal);
        writeln!(out, "{file}: {equal} of {cases} cases are equal")?;
        if cases == 0 || equal < cases {
            failures.push(format!("{file}: {} of {cases} cases differ", cases - equal));
        }
    }
    out.flush()?;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::OverTolerance { message: failures.join(", ") }.into())
    }
}
