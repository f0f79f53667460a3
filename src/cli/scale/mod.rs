//! `kiln scale`: scaling laws. What the losses of small runs say about a large one, and which runs to train.

mod laws;
mod outcome;
mod report;
mod run;
mod sweep;

use super::table::{Align, Table, duration, grouped};
use crate::{
    error::{Error, hint},
    platform::storage,
};
use clap::{Args, Subcommand};
use kiln_scale::{
    advice,
    bootstrap::{self, BootstrapConfig},
    error::Quantity,
    fit::{self, FitConfig},
    isoflop::{self, IsoFlopConfig},
    kaplan,
    plan::{self, PlanConfig},
    read::{self, LossColumn},
    runs::Runs,
};
use laws::significant;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ScaleArguments {
    #[command(subcommand)]
    command: ScaleCommand,
}

#[derive(Debug, Subcommand)]
enum ScaleCommand {
    /// Plan small runs, train them, fit the laws to their losses, and advise
    Run(run::RunArguments),
    /// Fit L(N, D) = E + A/N^alpha + B/D^beta (Chinchilla's approach 3), with intervals, and advise
    Fit {
        #[command(flatten)]
        runs: RunsArguments,
        /// Name the best size and number of tokens for a budget, in FLOPs (repeatable)
        #[arg(long, value_name = "C")]
        budget: Vec<f64>,
        /// Predict the loss of a run of N parameters and D tokens (repeatable)
        #[arg(long, value_name = "N,D")]
        predict: Vec<String>,
        /// Resamples of the bootstrap; 0: no intervals
        #[arg(long, default_value_t = 200, value_name = "N")]
        resamples: usize,
        /// Seed of the bootstrap
        #[arg(long, default_value_t = 0, value_name = "N")]
        seed: u64,
    },
    /// Find the best size of each budget by a parabola (Chinchilla's approach 2)
    Isoflop {
        #[command(flatten)]
        runs: RunsArguments,
        /// Relative difference of the FLOPs of runs that belong to one budget
        #[arg(long, default_value_t = 0.05, value_name = "X")]
        tolerance: f64,
    },
    /// Fit Kaplan's power laws of parameters, tokens and compute
    Kaplan {
        #[command(flatten)]
        runs: RunsArguments,
    },
    /// Propose sizes and numbers of tokens to train within a budget
    Plan {
        /// FLOPs of all runs together
        #[arg(long, value_name = "C", conflicts_with_all = ["seconds", "flops_per_second"])]
        flops: Option<f64>,
        /// Seconds of all runs together
        #[arg(long, value_name = "S", requires = "flops_per_second")]
        seconds: Option<f64>,
        /// FLOP/s that training reaches here (`kiln bench train` measures it)
        #[arg(long, value_name = "F", requires = "seconds")]
        flops_per_second: Option<f64>,
        /// Count embeddings of this many tokens among the parameters; default: leave them out
        #[arg(long, value_name = "V")]
        vocabulary: Option<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct RunsArguments {
    /// CSV, JSON or JSON Lines with columns `parameters` (or `n`), `tokens` (or `d`) and `loss`
    #[arg(value_name = "FILE")]
    runs: PathBuf,
    /// Take the column `bits_per_byte` as the loss, which runs with different tokenizers have in common
    #[arg(long)]
    bits_per_byte: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl RunsArguments {
    fn read(&self) -> crate::Result<Runs> {
        let text = storage::read_to_string(&self.runs)?;
        let column = if self.bits_per_byte { LossColumn::BitsPerByte } else { LossColumn::Loss };
        read::parse(&self.runs.display().to_string(), &text, column).map_err(refused)
    }
}

pub(super) fn run(arguments: ScaleArguments) -> anyhow::Result<()> {
    match arguments.command {
        ScaleCommand::Run(arguments) => run::run(&arguments),
        ScaleCommand::Fit { runs, budget, predict, resamples, seed } => {
            let larger = predict.iter().map(|text| size(text)).collect::<crate::Result<Vec<_>>>()?;
            show_fit(&runs, &budget, &larger, resamples, seed)
        }
        ScaleCommand::Isoflop { runs, tolerance } => {
            let found = isoflop::isoflop(&runs.read()?, &IsoFlopConfig { tolerance }).map_err(refused)?;
            match runs.json {
                true => println!("{}", serde_json::to_string_pretty(&found)?),
                false => print!("{}{}", laws::isoflop_table(&found), laws::isoflop_text(&found)),
            }
            Ok(())
        }
        ScaleCommand::Kaplan { runs } => {
            let read = runs.read()?;
            let laws = Quantity::ALL.map(|quantity| (quantity, kaplan::power_law(&read, quantity)));
            if laws.iter().all(|(_, law)| law.is_err()) {
                let [(_, law), ..] = laws;
                return Err(law.map_err(refused).err().map_or_else(|| anyhow::anyhow!("no law"), Into::into));
            }
            if runs.json {
                let rows = laws.map(|(quantity, law)| match law {
                    Ok(law) => json!(law),
                    Err(error) => json!({ "quantity": quantity, "error": error.to_string() }),
                });
                println!("{}", serde_json::to_string_pretty(&rows)?);
                return Ok(());
            }
            for (quantity, law) in laws {
                match law {
                    Ok(law) => println!("{}", laws::kaplan_text(&law)),
                    Err(error) => println!("L({}): {error}", quantity.letter()),
                }
            }
            Ok(())
        }
        ScaleCommand::Plan { flops, seconds, flops_per_second, vocabulary, json } => {
            let config = PlanConfig { flops, seconds, flops_per_second, vocabulary, ..PlanConfig::default() };
            let plan = plan::plan(&config, None).map_err(refused)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&plan)?);
                return Ok(());
            }
            let columns = ["budget", "layers", "heads", "width", "parameters", "tokens", "FLOPs", "time"];
            let mut table = Table::new(columns.map(|name| (name, Align::Right)));
            for cell in &plan.cells {
                table.row([
                    (cell.budget + 1).to_string(),
                    cell.layers.to_string(),
                    cell.heads.to_string(),
                    cell.width.to_string(),
                    grouped(cell.parameters),
                    grouped(cell.tokens),
                    significant(cell.flops),
                    cell.seconds.map_or_else(String::new, duration),
                ]);
            }
            print!("{table}");
            println!(
                "{} FLOPs in all; N is counted {} embeddings",
                significant(plan.flops),
                laws::counted(vocabulary.is_some())
            );
            Ok(())
        }
    }
}

fn show_fit(
    arguments: &RunsArguments,
    budgets: &[f64],
    larger: &[[f64; 2]],
    resamples: usize,
    seed: u64,
) -> anyhow::Result<()> {
    let runs = arguments.read()?;
    let fit = fit::fit(&runs, &FitConfig::default()).map_err(refused)?;
    let config = BootstrapConfig { resamples, seed, ..BootstrapConfig::default() };
    let draws =
        if resamples > 0 { Some(bootstrap::bootstrap(&runs, &fit, &config).map_err(refused)?) } else { None };
    let mut optima = Vec::new();
    for budget in budgets {
        optima.push(advice::optimal(&fit, draws.as_ref(), *budget).map_err(refused)?);
    }
    let mut predictions = Vec::new();
    for [parameters, tokens] in larger {
        let name = laws::size_name(*parameters, *tokens);
        predictions
            .push(advice::predict(&fit, draws.as_ref(), &name, *parameters, *tokens).map_err(refused)?);
    }
    let intervals = draws.as_ref().map(bootstrap::Bootstrap::law);
    if arguments.json {
        let all = json!({ "fit": fit, "intervals": intervals, "optima": optima, "predictions": predictions });
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    println!("{}", laws::fit_text(&fit));
    print!("{}", laws::fit_table(&fit, intervals.as_ref()));
    for advice in &optima {
        println!("\nbudget {} FLOPs:", significant(advice.budget));
        for (name, value) in laws::advice_rows(advice) {
            println!("  {name:<20}  {value}");
        }
        advice.notes.iter().for_each(|note| println!("  note: {note}"));
    }
    for prediction in &predictions {
        println!("\n{}: loss {}", prediction.name, laws::estimate(&prediction.loss));
        prediction.notes.iter().for_each(|note| println!("  note: {note}"));
    }
    super::show_notes(&fit.notes);
    Ok(())
}

/// Reads `N,D`.
fn size(text: &str) -> crate::Result<[f64; 2]> {
    let numbers: Vec<f64> = text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    match numbers[..] {
        [parameters, tokens] if text.matches(',').count() == 1 => Ok([parameters, tokens]),
        _ => Err(Error::invalid_value("--predict", text, "expected parameters and tokens, as in 7e9,1.4e12")),
    }
}

fn refused(error: kiln_scale::Error) -> Error {
    let hint = match &error {
        kiln_scale::Error::MixedTokenizers { .. } => Some(hint![
            "fit their bits per byte, which do not depend on the tokenizer, with ",
            hint::command("--bits-per-byte"),
            ", or one tokenizer at a time"
        ]),
        error => error.hint().map(Into::into),
    };
    if let kiln_scale::Error::InvalidValue { key, value, message } = error {
        return Error::InvalidValue { key: format!("--{}", key.replace('_', "-")), value, message, hint };
    }
    Error::InvalidValue {
        key: "kiln scale".into(),
        value: "its input".into(),
        message: error.to_string(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_two_numbers() {
        assert!(size("7e9,1.4e12").is_ok() && size("7e9").is_err() && size("7e9,x").is_err());
    }
}
