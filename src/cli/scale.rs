//! `kiln scale`: scaling laws. What the losses of small runs say about a large one, and which runs to train.

use super::table::{Align, Table, duration, grouped};
use crate::{error::Error, platform::storage};
use clap::{Args, Subcommand};
use kiln_scale::{
    advice::{self, Estimate},
    bootstrap::{self, BootstrapConfig, Interval},
    error::Quantity,
    fit::{self, FitConfig},
    isoflop::{self, IsoFlopConfig},
    kaplan,
    plan::{self, PlanConfig},
    read,
    runs::Runs,
};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ScaleArguments {
    #[command(subcommand)]
    command: ScaleCommand,
}

#[derive(Debug, Subcommand)]
enum ScaleCommand {
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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl RunsArguments {
    fn read(&self) -> crate::Result<Runs> {
        let text = storage::read_to_string(&self.runs)?;
        read::parse(&self.runs.display().to_string(), &text).map_err(refused)
    }
}

pub(super) fn run(arguments: ScaleArguments) -> anyhow::Result<()> {
    match arguments.command {
        ScaleCommand::Fit { runs, budget, predict, resamples, seed } => {
            let larger = predict.iter().map(|text| size(text)).collect::<crate::Result<Vec<_>>>()?;
            show_fit(&runs, &budget, &larger, resamples, seed)
        }
        ScaleCommand::Isoflop { runs, tolerance } => {
            let found = isoflop::isoflop(&runs.read()?, &IsoFlopConfig { tolerance }).map_err(refused)?;
            if runs.json {
                println!("{}", serde_json::to_string_pretty(&found)?);
                return Ok(());
            }
            let columns = ["budget", "runs", "best parameters", "best tokens", "loss"];
            let mut table = Table::new(columns.map(|name| (name, Align::Right)));
            for group in &found.minima {
                let [compute, parameters, tokens] =
                    [group.compute, group.parameters, group.tokens].map(significant);
                table.row([
                    compute,
                    group.runs.to_string(),
                    parameters,
                    tokens,
                    format!("{:.4}", group.loss),
                ]);
            }
            print!("{table}");
            for refused in &found.refused {
                println!("left out: {}: {}", refused.name, refused.reason);
            }
            println!("best parameters = {:.3e} C^{:.4}", found.parameters.factor, found.parameters.exponent);
            println!("best tokens     = {:.3e} C^{:.4}", found.tokens.factor, found.tokens.exponent);
            Ok(())
        }
        ScaleCommand::Kaplan { runs } => {
            let read = runs.read()?;
            let laws = [Quantity::Parameters, Quantity::Tokens, Quantity::Compute]
                .map(|quantity| (quantity, kaplan::power_law(&read, quantity)));
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
                let letter = quantity.letter();
                match law {
                    Ok(law) => println!(
                        "L({letter}) = ({:.3e} / {letter})^{:.4} ± {:.4}, {} runs, {:.2} % apart",
                        law.scale,
                        law.exponent,
                        law.exponent_error,
                        law.runs,
                        100.0 * law.relative_error
                    ),
                    Err(error) => println!("L({letter}): {error}"),
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
                counted(vocabulary)
            );
            Ok(())
        }
    }
}

fn counted(vocabulary: Option<u64>) -> &'static str {
    if vocabulary.is_some() { "with" } else { "without" }
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
        let name = format!("N = {}, D = {}", significant(*parameters), significant(*tokens));
        predictions
            .push(advice::predict(&fit, draws.as_ref(), &name, *parameters, *tokens).map_err(refused)?);
    }
    let intervals = draws.as_ref().map(bootstrap::Bootstrap::law);
    if arguments.json {
        let all = json!({ "fit": fit, "intervals": intervals, "optima": optima, "predictions": predictions });
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    println!(
        "L(N, D) = E + A/N^alpha + B/D^beta over {} runs, {:.2} % apart",
        fit.runs,
        100.0 * fit.relative_error
    );
    let law = &fit.law;
    let rows = [
        ("E", law.e, intervals.as_ref().map(|i| i.e)),
        ("A", law.a, intervals.as_ref().map(|i| i.a)),
        ("alpha", law.alpha, intervals.as_ref().map(|i| i.alpha)),
        ("B", law.b, intervals.as_ref().map(|i| i.b)),
        ("beta", law.beta, intervals.as_ref().map(|i| i.beta)),
    ];
    let mut table = Table::new([("", Align::Left), ("", Align::Right), ("", Align::Left)]);
    for (name, value, interval) in rows {
        table.row([name.to_owned(), format!("{value:.4}"), interval.map_or_else(String::new, between)]);
    }
    print!("{table}");
    for advice in &optima {
        println!("\nbudget {} FLOPs:", significant(advice.budget));
        println!("  parameters            {}", estimate(&advice.parameters));
        println!("  tokens                {}", estimate(&advice.tokens));
        println!("  tokens per parameter  {}", estimate(&advice.tokens_per_parameter));
        println!("  loss                  {}", estimate(&advice.loss));
        advice.notes.iter().for_each(|note| println!("  note: {note}"));
    }
    for prediction in &predictions {
        println!("\n{}: loss {}", prediction.name, estimate(&prediction.loss));
        prediction.notes.iter().for_each(|note| println!("  note: {note}"));
    }
    super::show_notes(&fit.notes);
    Ok(())
}

fn estimate(estimate: &Estimate) -> String {
    let interval =
        estimate.interval.map_or_else(String::new, |interval| format!("  ({})", between(interval)));
    format!("{}{interval}", significant(estimate.value))
}

fn between(interval: Interval) -> String {
    format!("{} to {}", significant(interval.low), significant(interval.high))
}

/// Formats a number of any size with four significant digits.
fn significant(value: f64) -> String {
    match value.abs() {
        0.001..10_000.0 => {
            let decimals = 3 - value.abs().log10().floor().min(3.0) as i32;
            format!("{value:.*}", decimals.max(0) as usize)
        }
        _ => format!("{value:.3e}"),
    }
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
    Error::InvalidValue {
        key: "kiln scale".into(),
        value: "its input".into(),
        message: error.to_string(),
        hint: error.hint().map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        let shown = [0.0, 0.34567, 1.8172, 406.41, 1.0e11].map(significant);
        assert_eq!(shown, ["0.000e0", "0.3457", "1.817", "406.4", "1.000e11"]);
        assert!(size("7e9,1.4e12").is_ok() && size("7e9").is_err() && size("7e9,x").is_err());
    }
}
