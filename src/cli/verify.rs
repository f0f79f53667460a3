//! `kiln verify DIR`: compares what Kiln computes with numbers of other programs: a model with those of PyTorch, a
//! folder of fixtures subject by subject, or the metrics of `kiln score` with those of sacrebleu, rouge-score, SQuAD's
//! scripts, scikit-learn and lm-evaluation-harness.

mod chat;
mod subjects;

use super::DeviceOption;
use crate::{
    error::Error,
    eval::verify::{Tolerances, verify_model},
};
use serde_json::json;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// A model folder with a `fixture.safetensors`, a folder of fixtures by subject (`sft`, `chat` and so on, beside
    /// `models`), or a folder of metrics with a `texts.json`
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// One bound for all errors; default for a model: 1e-4 logits, 1e-5 loss, 1e-3 gradients and AdamW losses
    /// on the CPU, 1e-2 elsewhere; for fixtures 1e-4, 1e-5 of losses, on the CPU, 1e-3 elsewhere
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
    if subjects::holds_any(&arguments.path) {
        return subjects::run(&arguments.path, &choice, &device, arguments.tolerance, arguments.json);
    }
    let tolerances = match arguments.tolerance {
        Some(bound) => Tolerances::uniform(bound),
        None if choice.is_cpu() => Tolerances::strict(),
        None => Tolerances::uniform(1e-2),
    };
    let found = pollster::block_on(verify_model(&arguments.path, &device))?;
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
    over_tolerance(&failures)
}

/// Fails with the first of the failures and the number of the others, if there are any.
fn over_tolerance(failures: &[String]) -> anyhow::Result<()> {
    let Some(first) = failures.first() else { return Ok(()) };
    let message = match failures.len() - 1 {
        0 => first.clone(),
        others => format!("{first} (and {others} more)"),
    };
    Err(Error::OverTolerance { message }.into())
}

/// Makes the error for a folder of metrics that cannot be read.
fn broken_metrics(folder: &Path, error: &kiln_score::Error) -> Error {
    Error::InvalidValue {
        key: "kiln verify".into(),
        value: folder.display().to_string(),
        message: error.to_string(),
        hint: None,
    }
}

/// Prints each number of the folder's files beside the one that Kiln computes.
fn verify_metrics(folder: &Path) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let outcomes = kiln_score::fixture::evaluate(folder, &mut out).map_err(|e| broken_metrics(folder, &e))?;
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
