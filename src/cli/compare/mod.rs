//! `kiln compare`: the same experiment over devices, seeds and keys, on one picture.

pub(super) mod browser;
pub(super) mod cells;
mod experiment;
mod locate;
pub(super) mod plan;
mod report;
mod results;

use super::{config::ConfigSource, interrupt};
use crate::error::{self, Error, hint};
use browser::BrowserOptions;
use plan::{Axes, Place};
use results::Results;
use std::{collections::BTreeSet, path::PathBuf};

#[derive(Debug, clap::Args)]
pub struct CompareArguments {
    /// Experiment: a TOML file with these flags as keys, `set` and `vary` as tables. A flag overrides the file
    #[arg(value_name = "FILE")]
    experiment: Option<PathBuf>,
    #[command(flatten)]
    source: ConfigSource,
    /// Text, JSON, CSV or token files or folders of them (repeatable); default: the embedded corpus
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Devices, and `browser` (WebGPU) and `browser-cpu` for the page in headless Chromium; default: auto
    #[arg(long, value_name = "D,..", value_delimiter = ',')]
    device: Vec<String>,
    /// Seeds; default: the configuration's
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    seed: Vec<u64>,
    /// Values that a key has in turn, for example model.n_layer=2,4 (repeatable)
    #[arg(long, value_name = "KEY=V,..")]
    vary: Vec<String>,
    /// Keys that the experiment file varies.
    #[arg(skip)]
    varied: Vec<(String, Vec<String>)>,
    /// Folder of the experiment. The same command goes on with what is not finished
    #[arg(long, value_name = "DIR", required_unless_present_any = ["locate", "experiment"])]
    out: Option<PathBuf>,
    /// Cells that are trained at once, each on another device; default: 1
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Difference from which on something differs: of losses (the report names the step), and with --locate of
    /// outputs and gradients, relative to the largest; default: 1e-3, with --locate 1e-4
    #[arg(long, value_name = "E")]
    bound: Option<f32>,
    /// End with exit code 1 if a loss differs from the first cell's by more than this
    #[arg(long, value_name = "E")]
    assert_loss: Option<f32>,
    #[command(flatten)]
    browser: BrowserOptions,
    /// Name the first operation of a checkpoint whose output, and whose gradient, differs between two devices or
    /// between `--vary kernels.fused=true,false`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["experiment", "out", "seed", "preset", "config", "data", "assert_loss"])]
    locate: Option<PathBuf>,
    /// With --locate: keep the numbers of the first way
    #[arg(long, value_name = "FILE", requires = "locate")]
    save: Option<PathBuf>,
    /// With --locate: compare with numbers that were kept, such as another commit's
    #[arg(long, value_name = "FILE", requires = "locate")]
    against: Option<PathBuf>,
}

pub(super) fn run(arguments: CompareArguments) -> anyhow::Result<()> {
    let arguments = arguments.with_experiment()?;
    let axes = axes(&arguments)?;
    if let Some(checkpoint) = &arguments.locate {
        return locate::locate(&locate::Ways {
            checkpoint,
            places: &axes.places,
            varied: &axes.varied,
            save: arguments.save.as_deref(),
            against: arguments.against.as_ref(),
            bound: arguments.bound.map_or(1e-4, f64::from),
        });
    }
    // Clap requires the folder where there is no experiment file.
    let out = arguments.out.clone().ok_or_else(|| Error::InvalidValue {
        key: "out".into(),
        value: "none".into(),
        message: "the folder of the experiment is not named".into(),
        hint: Some(hint![
            "write `out = \"DIR\"` in the file, or name it ",
            error::Place::Out.by_argument("with", "DIR")
        ]),
    })?;
    let cells = plan::cells(&axes)?;
    for place in &axes.places {
        if let Place::Device(choice) = place
            && choice.info().is_none_or(|info| info.problem.is_some())
        {
            // Opening says what is wrong.
            choice.open()?;
        }
    }
    for cell in cells.iter().filter(|cell| matches!(cell.place, Place::Browser { .. })) {
        browser::check(&cell.config)?;
        arguments.browser.find()?;
    }
    plan::write_configurations(&cells, &out)?;
    interrupt::listen()?;
    let ended = cells::train(&cells, &out, arguments.jobs.unwrap_or(1), &arguments.browser)?;
    let results = results::read(&cells, &out, arguments.bound.unwrap_or(1e-3));
    report::write(&results, &out)?;
    print!("{}", report::table(&results));
    results.notes.iter().for_each(|note| eprintln!("note: {note}"));
    println!("{}", out.join(report::HTML).display());
    if ended.interrupted {
        eprintln!("interrupted: the same command goes on with what is not finished");
        return Ok(());
    }
    if !ended.failures.is_empty() {
        return Err(cells::failed(&ended, &out).into());
    }
    arguments.assert_loss.map_or(Ok(()), |bound| assert_losses(&results, bound))
}

fn axes(arguments: &CompareArguments) -> crate::Result<Axes> {
    let at_least_one = |key: &str, count: usize| match count {
        0 => Err(Error::invalid_value(key, 0, "must be at least 1")),
        _ => Ok(()),
    };
    at_least_one("--jobs", arguments.jobs.unwrap_or(1))?;
    for (key, bound) in [("--bound", arguments.bound), ("--assert-loss", arguments.assert_loss)] {
        if let Some(bound) = bound.filter(|bound| *bound < 0.0 || bound.is_nan()) {
            return Err(Error::invalid_value(key, bound, "must be at least 0"));
        }
    }
    let mut places =
        arguments.device.iter().map(|name| Place::parse(name)).collect::<crate::Result<Vec<_>>>()?;
    if places.is_empty() {
        places.push(Place::parse("auto")?);
    }
    let names: Vec<String> = places.iter().map(Place::name).collect();
    all_different("--device", &names)?;
    all_different("--seed", &arguments.seed.iter().map(u64::to_string).collect::<Vec<_>>())?;
    let mut varied = arguments.vary.iter().map(|text| varied(text)).collect::<crate::Result<Vec<_>>>()?;
    drop(varied.splice(0..0, arguments.varied.iter().cloned()));
    all_different("--vary", &varied.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>())?;
    Ok(Axes {
        source: arguments.source.clone(),
        data: arguments.data.clone(),
        places,
        seeds: arguments.seed.clone(),
        varied,
    })
}

fn all_different(key: &str, values: &[String]) -> crate::Result<()> {
    let mut seen = BTreeSet::new();
    match values.iter().find(|value| !seen.insert(*value)) {
        Some(value) => Err(Error::invalid_value(key, value, "it is there twice")),
        None => Ok(()),
    }
}

/// Reads `KEY=V,..`. A value with commas of its own stands in brackets or quotes.
fn varied(text: &str) -> crate::Result<(String, Vec<String>)> {
    let refused = |message: &str| Error::InvalidValue {
        key: "--vary".into(),
        value: text.into(),
        message: message.into(),
        hint: Some(hint!["as in ", hint::command("--vary model.n_layer=2,4")]),
    };
    let (key, values) = text.split_once('=').ok_or_else(|| refused("expected a key and its values"))?;
    let key = key.trim();
    if ["train.seed", "seed"].contains(&key) {
        return Err(refused("seeds are given by `--seed`"));
    }
    let (mut parts, mut depth, mut quoted) = (vec![String::new()], 0, false);
    for c in values.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        match parts.last_mut() {
            Some(_) if c == ',' && depth == 0 && !quoted => parts.push(String::new()),
            Some(part) => part.push(c),
            None => {}
        }
    }
    let parts: Vec<String> = parts.into_iter().map(|part| part.trim().to_owned()).collect();
    if parts.iter().any(String::is_empty) {
        return Err(refused("a value is missing"));
    }
    all_different("--vary", &parts)?;
    Ok((key.into(), parts))
}

fn assert_losses(results: &Results, bound: f32) -> anyhow::Result<()> {
    for cell in &results.cells {
        let Some(difference) = &cell.difference else { continue };
        let over = difference.by_step.iter().find(|(_, apart)| apart.abs() > bound || apart.is_nan());
        if let Some((step, apart)) = over {
            let message = format!(
                "`{}` differs from the first cell at step {step}: its loss is {:.1e} away, and the bound is {bound:.0e}",
                cell.name,
                apart.abs()
            );
            return Err(Error::OverTolerance { message }.into());
        }
        if difference.by_step.is_empty() {
            let message = format!("`{}` has no step in common with the first cell", cell.name);
            return Err(Error::OverTolerance { message }.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_split_at_commas_outside_of_brackets() {
        let read = |text: &str| varied(text).map(|(key, values)| (key, values.join("|")));
        assert_eq!(read("model.n_layer=2, 4").unwrap(), ("model.n_layer".into(), "2|4".into()));
        assert_eq!(read(r#"train.freeze=["a","b"],[]"#).unwrap().1, r#"["a","b"]|[]"#);
        for text in
            ["model.n_layer", "model.n_layer=", "model.n_layer=2,,4", "model.n_layer=2,2", "train.seed=1,2"]
        {
            assert!(varied(text).is_err(), "{text}");
        }
    }
}
