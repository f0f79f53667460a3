//! `kiln compare --locate`: names the first operation whose output differs between two ways to compute a checkpoint, and
//! going backward the first whose gradient does.

use super::plan::Place;
use crate::{
    error::{Error, hint},
    eval::locate::{Differing, Located, Pass, run},
    kernels::Mode,
};
use std::path::{Path, PathBuf};

/// Checkpoint, and the ways in which it is computed and compared.
pub struct Ways<'a> {
    pub checkpoint: &'a Path,
    pub places: &'a [Place],
    /// Keys that are varied: `kernels.fused` is the one that a checkpoint can be computed with both ways.
    pub varied: &'a [(String, Vec<String>)],
    pub save: Option<&'a Path>,
    pub against: Option<&'a PathBuf>,
    pub bound: f64,
}

pub fn locate(ways: &Ways) -> anyhow::Result<()> {
    let modes = modes(ways.varied)?;
    let mut passes = Vec::new();
    for place in ways.places {
        let Place::Device(choice) = place else {
            return Err(Error::invalid_value("--device", place.name(), "a page cannot be looked into").into());
        };
        let device = choice.open()?;
        for (mode, label) in &modes {
            let label = format!("{}{label}", place.name());
            passes.push((label, pollster::block_on(run(ways.checkpoint, *mode, &device))?));
        }
    }
    if let (Some(path), Some((_, pass))) = (ways.save, passes.first()) {
        pass.save(path)?;
    }
    if let Some(path) = ways.against {
        passes.insert(0, (format!("`{}`", path.display()), Pass::open(path)?));
    }
    if passes.len() < 2 {
        if ways.save.is_some() {
            return Ok(());
        }
        return Err(Error::InvalidValue {
            key: "--locate".into(),
            value: ways.checkpoint.display().to_string(),
            message: "there is one way to compute it, and nothing to compare it with".into(),
            hint: Some(hint![
                "name two devices, vary ",
                hint::key("kernels.fused"),
                ", or keep one pass with ",
                hint::command("--save FILE"),
                " and compare another with ",
                hint::command("--against FILE")
            ]),
        }
        .into());
    }
    let (first_label, first) = &passes[0];
    let mut differs = None;
    for (label, pass) in &passes[1..] {
        let located = first.locate(pass, ways.bound).map_err(|message| Error::OverTolerance { message })?;
        println!("{first_label} and {label}: {}", summary(&located, ways.bound));
        for (what, found) in [("output", &located.output), ("gradient", &located.gradient)] {
            if let Some(found) = found {
                println!("  first {what}: {}", line(found, [first_label, label]));
                differs.get_or_insert_with(|| {
                    format!("{label} differs from {first_label} in the {what} of {}", name(found))
                });
            }
        }
    }
    differs.map_or(Ok(()), |message| Err(Error::OverTolerance { message }.into()))
}

/// Modes that the varied keys ask for, with what is added to a label.
fn modes(varied: &[(String, Vec<String>)]) -> crate::Result<Vec<(Option<Mode>, String)>> {
    let mut modes = Vec::new();
    for (key, values) in varied {
        if key != "kernels.fused" {
            return Err(Error::invalid_value(
                "--vary",
                key,
                "a checkpoint is computed with `kernels.fused` on or off only",
            ));
        }
        for value in values {
            let mode = match value.as_str() {
                "true" => Mode::Fused,
                "false" => Mode::Reference,
                _ => return Err(Error::invalid_value("kernels.fused", value, "expected true or false")),
            };
            modes.push((Some(mode), format!(", kernels.fused={value}")));
        }
    }
    if modes.is_empty() {
        modes.push((None, String::new()));
    }
    Ok(modes)
}

fn summary(located: &Located, bound: f64) -> String {
    let Located { operations, largest, .. } = located;
    format!("{operations} operations compared, largest difference {largest:.1e}, bound {bound:.0e}")
}

fn name(found: &Differing) -> String {
    let Differing { layer, operation, .. } = found;
    if layer.is_empty() { operation.clone() } else { format!("{layer} ({operation})") }
}

fn line(found: &Differing, labels: [&String; 2]) -> String {
    let Differing { shape, difference, index, values, .. } = found;
    let [first, second] = labels;
    format!(
        "{}, shape {shape:?}: {difference:.1e} apart; at {index:?} {first} has {} and {second} has {}",
        name(found),
        values[0],
        values[1]
    )
}
