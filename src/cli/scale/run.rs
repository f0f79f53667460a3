//! `kiln scale run`: plans small runs, trains them, fits the laws to their losses, and advises. With `--verify X` it
//! then trains a run of X times the largest budget, whose loss it has predicted before, and compares the two.

use super::{
    laws::{self, significant},
    outcome::{Outcome, SweepRun, Verification},
    refused, report, size,
    sweep::{Base, SweepCell},
};
use crate::{
    cli::{
        bench,
        compare::{
            browser::BrowserOptions,
            cells::{self, Ended},
            plan::write_configurations,
        },
        config::ConfigSource,
        interrupt, show_notes,
        table::{Align, Table, grouped},
    },
    device::Choice,
    error::{Error, Result},
    platform::storage,
};
use kiln_scale::{
    fit::Fit,
    plan::{self, Plan, PlanConfig},
    runs::compute,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct RunArguments {
    #[command(flatten)]
    source: ConfigSource,
    /// Text, JSON, CSV or token files or folders of them (repeatable); default: the embedded corpus
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Devices, as `kiln train --device` has them; the runs are dealt to them in turn
    #[arg(long, value_name = "D,..", value_delimiter = ',', default_value = "auto")]
    device: Vec<String>,
    /// Folder of the sweep. The same command goes on with what is not finished
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// FLOPs of all runs together, C = 6 N D each
    #[arg(long, value_name = "C", required_unless_present = "minutes", conflicts_with = "minutes")]
    flops: Option<f64>,
    /// Minutes of all runs together; a few steps measure how fast training is
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Sizes of each budget
    #[arg(long, value_name = "N", default_value_t = 5)]
    sizes: usize,
    /// Budgets, each three times the one before
    #[arg(long, value_name = "N", default_value_t = 4)]
    budgets: usize,
    /// Tokens per parameter at which the best size of a budget is expected
    #[arg(long, value_name = "X", default_value_t = 20.0)]
    tokens_per_parameter: f64,
    /// Layers of all models; default: one for every 64 of width
    #[arg(long, value_name = "N")]
    layers: Option<u64>,
    /// Count embeddings among the parameters N; default: leave them out
    #[arg(long)]
    embeddings: bool,
    /// Name the best size and number of tokens for a budget, in FLOPs (repeatable); default: ten times the largest
    #[arg(long, value_name = "C")]
    budget: Vec<f64>,
    /// Predict the loss of a run of N parameters and D tokens (repeatable)
    #[arg(long, value_name = "N,D")]
    predict: Vec<String>,
    /// Then train a run of X times the largest budget and of the expected best size, whose loss is predicted before, and
    /// compare
    #[arg(long, value_name = "X")]
    verify: Option<f64>,
    /// Runs that are trained at once, each on another device
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
}

pub fn run(arguments: &RunArguments) -> anyhow::Result<()> {
    let out = &arguments.out;
    let larger = arguments.predict.iter().map(|text| size(text)).collect::<Result<Vec<_>>>()?;
    let devices = arguments.device.iter().map(|name| name.parse()).collect::<Result<Vec<Choice>>>()?;
    check(arguments)?;
    let base = Base::prepare(&arguments.source, &arguments.data, arguments.embeddings)?;
    for device in &devices {
        if device.info().is_none_or(|info| info.problem.is_some()) {
            // Opening says what is wrong.
            device.open()?;
        }
    }
    let first = devices.first().ok_or_else(|| Error::invalid_value("--device", "", "name a device"))?;
    let plan = match arguments.minutes {
        Some(minutes) => plan_minutes(arguments, &base, first, 60.0 * minutes)?,
        None => plan::plan(&plan_config(arguments, &base), None).map_err(refused)?,
    };
    let turns = plan.cells.iter().zip(devices.iter().cycle());
    let sweep = turns.map(|(shape, device)| base.cell(shape, device)).collect::<Result<Vec<_>>>()?;
    announce(&sweep, &base);
    interrupt::listen()?;
    let ended = train(&sweep, out, arguments.jobs)?;
    let mut outcome = Outcome::read(&sweep, &base, out, &arguments.budget, &larger).map_err(refused)?;
    outcome.write(out)?;
    let mut verified = Ended::default();
    let ready = ended.failures.is_empty() && !ended.interrupted;
    if let (Some(factor), Some(fit), true) = (arguments.verify, &outcome.fit, ready) {
        let larger = larger_cell(arguments, &base, fit, factor, first)?;
        let prediction = outcome.predict(fit, &larger).map_err(refused)?;
        eprintln!("predicted loss of {}: {}", prediction.name, laws::estimate(&prediction.loss));
        let run = SweepRun::read(&larger, &base, out);
        outcome.verification = Some(Verification { run, prediction, relative_error: None });
        // The prediction is on the disk before there is anything to compare it with.
        outcome.write(out)?;
        verified = train(std::slice::from_ref(&larger), out, 1)?;
        let run = SweepRun::read(&larger, &base, out);
        if let Some(verification) = &mut outcome.verification {
            verification.relative_error =
                run.loss.map(|loss| verification.prediction.loss.value / loss - 1.0);
            verification.run = run;
        }
        outcome.write(out)?;
    }
    report::write(&outcome, out)?;
    print!("{}", report::text(&outcome));
    show_notes(&outcome.notes);
    println!("{}", out.join(report::HTML).display());
    if ended.interrupted || verified.interrupted {
        eprintln!("interrupted: the same command goes on with what is not finished");
        return Ok(());
    }
    for ended in [&ended, &verified] {
        if !ended.failures.is_empty() {
            return Err(cells::failed(ended, out).into());
        }
    }
    outcome.refused.map_or(Ok(()), |error| Err(refused(error).into()))
}

fn check(arguments: &RunArguments) -> Result<()> {
    let invalid = |key: &str, value: String, message: &str| Err(Error::invalid_value(key, value, message));
    if arguments.jobs == 0 {
        return invalid("--jobs", "0".into(), "must be at least 1");
    }
    for (key, value) in [("--minutes", arguments.minutes), ("--verify", arguments.verify)] {
        if let Some(value) = value.filter(|value| !value.is_finite() || *value <= 0.0) {
            return invalid(key, value.to_string(), "must be a finite number above 0");
        }
    }
    Ok(())
}

/// Settings of the plan for the FLOPs that the user gave.
fn plan_config(arguments: &RunArguments, base: &Base) -> PlanConfig {
    PlanConfig {
        flops: arguments.flops,
        sizes: arguments.sizes,
        budgets: arguments.budgets,
        tokens_per_parameter: arguments.tokens_per_parameter,
        vocabulary: base.counted_vocabulary(),
        layers: arguments.layers,
        ..PlanConfig::default()
    }
}

/// A measured speed, which a sweep that goes on must not measure anew: its runs would be others.
#[derive(Debug, Serialize, Deserialize)]
struct Speed {
    seconds: f64,
    flops_per_second: f64,
}

/// Plans what can be trained in a time. Speed depends on the size, so that it is measured at the base's size first, and
/// then at the middle size of the plan that follows.
fn plan_minutes(
    arguments: &RunArguments,
    base: &Base,
    device: &Choice,
    seconds: f64,
) -> anyhow::Result<Plan> {
    let path = arguments.out.join("speed.json");
    let plan = |flops_per_second| {
        let config = PlanConfig {
            seconds: Some(seconds),
            flops_per_second: Some(flops_per_second),
            ..plan_config(arguments, base)
        };
        plan::plan(&config, None).map_err(refused)
    };
    let known = storage::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Speed>(&bytes).ok());
    if let Some(known) = known.filter(|known| known.seconds == seconds) {
        return Ok(plan(known.flops_per_second)?);
    }
    storage::create_folder(&arguments.out)?;
    let measure = |config: &crate::config::Config| -> anyhow::Result<f64> {
        let path = arguments.out.join("speed.toml");
        storage::write_atomic(&path, config.to_toml()?.as_bytes())?;
        let tokens_per_second = bench::train::tokens_per_second(&path, device)?;
        Ok(compute(base.parameters(config) as f64, tokens_per_second))
    };
    let first = plan(measure(&base.config)?)?;
    let middle = arguments.budgets / 2 * arguments.sizes + arguments.sizes / 2;
    let flops_per_second = match first.cells.get(middle) {
        Some(shape) => measure(&base.cell(shape, device)?.cell.config)?,
        None => return Ok(first),
    };
    eprintln!(
        "training reaches {} FLOP/s at the middle size, counted as 6 N D",
        significant(flops_per_second)
    );
    let speed = Speed { seconds, flops_per_second };
    storage::write_atomic(&path, serde_json::to_string_pretty(&speed)?.as_bytes())?;
    Ok(plan(flops_per_second)?)
}

/// Says what is trained.
fn announce(sweep: &[SweepCell], base: &Base) {
    let columns = ["budget", "layers", "heads", "width", "N", "D", "steps", "learning rate", "epochs"];
    let mut table = Table::new(columns.map(|name| (name, Align::Right)));
    for run in sweep {
        let (model, train) = (&run.cell.config.model, &run.cell.config.train);
        table.row([
            (run.budget + 1).to_string(),
            model.n_layer.to_string(),
            model.n_head.to_string(),
            model.n_embd.to_string(),
            grouped(run.parameters),
            grouped(run.tokens),
            grouped(train.max_steps),
            significant(train.learning_rate),
            format!("{:.2}", base.epochs(run.tokens)),
        ]);
    }
    let flops: f64 = sweep.iter().map(|run| run.flops).sum();
    eprint!("{table}");
    eprintln!(
        "{} FLOPs in all; N is counted {} embeddings",
        significant(flops),
        laws::counted(base.embeddings)
    );
}

fn train(sweep: &[SweepCell], out: &Path, jobs: usize) -> Result<Ended> {
    let all: Vec<_> = sweep.iter().map(|run| run.cell.clone()).collect();
    write_configurations(&all, out)?;
    cells::train(&all, out, jobs, &BrowserOptions::default())
}

/// The run of `factor` times the largest budget, of the size that the law says is best. A law that is far off does not
/// lead far beyond the sizes that it was fitted to.
fn larger_cell(
    arguments: &RunArguments,
    base: &Base,
    fit: &Fit,
    factor: f64,
    device: &Choice,
) -> Result<SweepCell> {
    let flops = factor * fit.extent.compute[1];
    // Of the size that the sweep's budgets lie around: far from its sizes, a law of few runs says little.
    let parameters = (flops / compute(1.0, arguments.tokens_per_parameter)).sqrt();
    let shape = plan::single(&plan_config(arguments, base), parameters, flops).map_err(refused)?;
    let mut larger = base.cell(&shape, device)?;
    let train = &larger.cell.config.train;
    // With its length, since another law makes another run.
    larger.cell.name = format!("larger-width={}-steps={}", shape.width, train.max_steps);
    larger.cell.label.clone_from(&larger.cell.name);
    Ok(larger)
}
