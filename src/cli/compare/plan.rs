//! The cells of an experiment: every combination of its axes, each with a configuration of its own.

use crate::{
    cli::{config::ConfigSource, train::use_data},
    config::Config,
    device::Choice,
    error::{Error, Result, hint},
    platform::storage,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where a cell is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A device of this machine.
    Device(Choice),
    /// The page in a browser, on WebGPU or on the CPU by WebAssembly.
    Browser { gpu: bool },
}

impl Place {
    /// Reads a name as `--device` has it, or `browser` and `browser-cpu`.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "browser" => Ok(Self::Browser { gpu: true }),
            "browser-cpu" => Ok(Self::Browser { gpu: false }),
            _ => Ok(Self::Device(name.parse()?)),
        }
    }

    /// Name, as [`Place::parse`] reads it.
    pub fn name(&self) -> String {
        match self {
            Self::Device(choice) => choice.to_string(),
            Self::Browser { gpu: true } => "browser".into(),
            Self::Browser { gpu: false } => "browser-cpu".into(),
        }
    }
}

/// The axes of an experiment and what its cells share.
pub struct Axes {
    pub source: ConfigSource,
    pub data: Vec<PathBuf>,
    pub places: Vec<Place>,
    /// Seeds; without one, that of the configuration.
    pub seeds: Vec<u64>,
    /// Keys and the values that they have in turn.
    pub varied: Vec<(String, Vec<String>)>,
}

/// One run of an experiment.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Name of its run folder.
    pub name: String,
    /// Device and varied keys, which tell its curve from others; the seed is left out.
    pub label: String,
    pub place: Place,
    pub seed: u64,
    pub config: Config,
}

/// Lists all cells: those of the first device and the first values come first.
///
/// # Errors
/// Errors of the configurations: an unknown preset, key or value, or values that do not go together.
pub fn cells(axes: &Axes) -> Result<Vec<Cell>> {
    let mut combinations: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    for (key, values) in &axes.varied {
        let longer = combinations.iter().flat_map(|combination| {
            values.iter().map(|value| [&combination[..], &[(key.as_str(), value.as_str())]].concat())
        });
        combinations = longer.collect();
    }
    let mut cells = Vec::new();
    for place in &axes.places {
        for combination in &combinations {
            let mut set: Vec<String> = axes
                .source
                .set
                .iter()
                .cloned()
                .chain(combination.iter().map(|(k, v)| format!("{k}={v}")))
                .collect();
            // Every step is compared, unless the user says otherwise.
            if !set.iter().any(|text| text.trim_start().starts_with("train.log_interval")) {
                set.push("train.log_interval=1".into());
            }
            let source = ConfigSource { set, ..axes.source.clone() };
            let mut config = source.read(DEFAULT_PRESET)?;
            use_data(&mut config, &axes.data)?;
            let seeds = if axes.seeds.is_empty() { vec![config.train.seed] } else { axes.seeds.clone() };
            for seed in seeds {
                let mut config = config.clone();
                config.train.seed = seed;
                config.validate()?;
                cells.push(cell(axes, place, combination, seed, config));
            }
        }
    }
    tell_apart(&mut cells);
    Ok(cells)
}

/// Preset of an experiment that names none.
const DEFAULT_PRESET: &str = "debug";

fn cell(axes: &Axes, place: &Place, varied: &[(&str, &str)], seed: u64, config: Config) -> Cell {
    // Axes of one value tell nothing apart.
    let telling = varied.iter().zip(&axes.varied).filter(|(_, (_, values))| values.len() > 1);
    let varied: Vec<String> = telling.map(|((key, value), _)| format!("{key}={value}")).collect();
    let label: Vec<String> = std::iter::once(place.name()).chain(varied).collect();
    let name = label.iter().cloned().chain((axes.seeds.len() > 1).then(|| format!("seed={seed}")));
    let name: String = name.collect::<Vec<_>>().join("-").chars().map(in_file_name).collect();
    Cell { name, label: label.join(", "), place: place.clone(), seed, config }
}

fn in_file_name(c: char) -> char {
    if c.is_alphanumeric() || "._=-".contains(c) { c } else { '_' }
}

/// Makes the names of run folders different where only what a file name cannot hold differs.
fn tell_apart(cells: &mut [Cell]) {
    let mut counts = BTreeMap::<String, usize>::new();
    for cell in cells {
        let count = counts.entry(cell.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            cell.name = format!("{}-{count}", cell.name);
        }
    }
}

/// Writes the configuration of each cell into the folder of the experiment, where its process reads it.
///
/// # Errors
/// An error if the folder holds an experiment whose cell of the same name is another, or cannot be written.
pub fn write_configurations(cells: &[Cell], folder: &Path) -> Result<()> {
    storage::create_folder(&folder.join("configurations"))?;
    for cell in cells {
        let (path, text) = (configuration_of(cell, folder), cell.config.to_toml()?);
        if path.exists() && storage::read_to_string(&path)? != text {
            return Err(Error::InvalidValue {
                key: "--out".into(),
                value: folder.display().to_string(),
                message: format!(
                    "it holds another experiment: `{}` differs from its configuration",
                    path.display()
                ),
                hint: Some(hint!["choose another folder, or delete this one"]),
            });
        }
        storage::write_atomic(&path, text.as_bytes())?;
    }
    Ok(())
}

/// File with the configuration of a cell.
pub fn configuration_of(cell: &Cell, folder: &Path) -> PathBuf {
    folder.join("configurations").join(format!("{}.toml", cell.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes() -> Axes {
        Axes {
            source: ConfigSource { preset: Some("debug".into()), ..ConfigSource::default() },
            data: Vec::new(),
            places: ["cpu", "browser"].map(|name| Place::parse(name).unwrap()).into(),
            seeds: vec![1, 2],
            varied: vec![
                ("kernels.fused".into(), vec!["true".into(), "false".into()]),
                ("model.n_layer".into(), vec!["2".into()]),
            ],
        }
    }

    #[test]
    fn cells_are_all_combinations_in_order() {
        let cells = cells(&axes()).unwrap();
        let names: Vec<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "cpu-kernels.fused=true-seed=1",
                "cpu-kernels.fused=true-seed=2",
                "cpu-kernels.fused=false-seed=1",
                "cpu-kernels.fused=false-seed=2",
                "browser-kernels.fused=true-seed=1",
                "browser-kernels.fused=true-seed=2",
                "browser-kernels.fused=false-seed=1",
                "browser-kernels.fused=false-seed=2",
            ]
        );
        assert_eq!(cells[2].label, "cpu, kernels.fused=false");
        assert!(
            cells.iter().all(|cell| cell.config.model.n_layer == 2 && cell.config.train.log_interval == 1)
        );
        assert!(!cells[3].config.kernels.fused && cells[3].config.train.seed == 2);
    }

    #[test]
    fn a_wrong_value_is_found_before_anything_runs() {
        let mut axes = axes();
        axes.varied.push(("model.n_haed".into(), vec!["2".into()]));
        assert!(cells(&axes).unwrap_err().is_user_error());
    }

    #[test]
    fn an_experiment_is_not_mixed_with_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut axes = axes();
        write_configurations(&cells(&axes).unwrap(), folder.path()).unwrap();
        write_configurations(&cells(&axes).unwrap(), folder.path()).unwrap();
        axes.source.set.push("train.max_steps=7".into());
        let error = write_configurations(&cells(&axes).unwrap(), folder.path()).unwrap_err();
        assert!(error.to_string().contains("it holds another experiment"), "{error}");
    }
}
