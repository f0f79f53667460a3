//! `kiln config`: shows the configuration that a command would use, and the presets. Also defines the
//! arguments by which every command chooses its configuration ([`ConfigSource`]).

use crate::{
    config::{
        Config,
        overrides::Reading,
        presets::{Preset, presets},
    },
    platform::storage,
};
use clap::{Args, Subcommand};
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// Show configurations
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every key with its value and meaning, as TOML
    Show {
        #[command(flatten)]
        source: ConfigSource,
        /// Print JSON instead
        #[arg(long)]
        json: bool,
    },
    /// List the presets
    Presets {
        /// Print JSON instead
        #[arg(long)]
        json: bool,
    },
}

/// Arguments that choose a configuration: a preset or a file, then single keys that override it.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigSource {
    /// Start from a preset (`kiln config presets` lists them)
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub preset: Option<String>,
    /// Start from a TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, for example train.learning_rate=3e-4 (repeatable; `kiln config show` lists the keys)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigSource {
    /// Reads the configuration that the arguments name, or else `default_preset`, and validates it.
    ///
    /// # Errors
    /// An error for an unknown preset, a file that cannot be read, and a key or value that is refused.
    pub fn resolve(&self, default_preset: &str) -> crate::Result<Config> {
        let config = self.read(default_preset)?;
        config.validate()?;
        Ok(config)
    }

    /// Reads the configuration without validating it as a whole.
    ///
    /// # Errors
    /// An error for an unknown preset, a file that cannot be read, and a key or value that is unknown or of
    /// the wrong type.
    pub fn read(&self, default_preset: &str) -> crate::Result<Config> {
        Ok(self.read_with_keys(default_preset)?.0)
    }

    /// As [`ConfigSource::read`]; also returns the keys that the user set, in a file or one by one, without
    /// those of a preset. The file is read once, since it may be a pipe.
    ///
    /// # Errors
    /// Errors of [`ConfigSource::read`].
    pub fn read_with_keys(&self, default_preset: &str) -> crate::Result<(Config, Vec<String>)> {
        let Reading { mut config, keys, mut notes } = match self.file()? {
            Some(reading) => reading,
            None => Reading {
                config: Preset::find(self.preset.as_deref().unwrap_or(default_preset))?.config()?,
                keys: Vec::new(),
                notes: Vec::new(),
            },
        };
        notes.extend(config.apply(&self.set)?);
        super::show_notes(&notes);
        let set = self.set.iter().filter_map(|text| text.split_once('='));
        let set = set.map(|(key, _)| Config::current_name(key.trim()));
        Ok((config, set.chain(keys).map(str::to_owned).collect()))
    }

    fn file(&self) -> crate::Result<Option<Reading>> {
        let Some(path) = &self.config else { return Ok(None) };
        let text = storage::read_to_string(path)?;
        Ok(Some(Reading::of(&text, &format!("`{}`", path.display()))?))
    }
}

/// Runs `kiln config`.
pub fn run(args: ConfigArgs) -> anyhow::Result<()> {
    let text = match args.command {
        ConfigCommand::Show { source, json } => {
            let config = source.resolve(presets()[0].name)?;
            if json { json_text(&config)? } else { config.to_annotated_toml()? }
        }
        ConfigCommand::Presets { json: true } => {
            let rows =
                presets().iter().map(|p| serde_json::json!({"name": p.name, "description": p.description}));
            json_text(&rows.collect::<Vec<_>>())?
        }
        ConfigCommand::Presets { json: false } => {
            let width = presets().iter().map(|preset| preset.name.len()).max().unwrap_or(0);
            presets().iter().map(|p| format!("{:<width$}  {}\n", p.name, p.description)).collect()
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough (`kiln config show | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn json_text(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ConfigArgs,
    }

    fn source(arguments: &[&str]) -> ConfigSource {
        match Cli::try_parse_from(["config", "show"].iter().chain(arguments)).unwrap().args.command {
            ConfigCommand::Show { source, .. } => source,
            ConfigCommand::Presets { .. } => unreachable!("the arguments begin with show"),
        }
    }

    #[test]
    fn presets_files_and_single_keys_stack() {
        assert_eq!(source(&[]).resolve("debug").unwrap().model.n_embd, 32);
        let config = source(&["--preset", "llama-tiny", "--set", "train.seed=3", "--set", "model.n_layer=2"])
            .resolve("debug")
            .unwrap();
        assert_eq!((config.model.n_kv_head, config.train.seed, config.model.n_layer), (Some(2), 3, 2));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        storage::write_synced(&path, b"[train]\nseed = 5\nbatch_size = 2\n").unwrap();
        let path = path.to_str().unwrap();
        let config = source(&["--config", path, "--set", "train.seed=6"]).resolve("debug").unwrap();
        assert_eq!((config.train.batch_size, config.train.seed), (2, 6));
        assert_eq!(config.model, Config::default().model);
        let keys = source(&["--config", path, "--set", "train.seed=6"]).read_with_keys("debug").unwrap().1;
        assert_eq!(keys, ["train.seed", "train.batch_size", "train.seed"]);
        assert!(source(&["--preset", "debug"]).read_with_keys("debug").unwrap().1.is_empty());
    }

    #[test]
    fn mistakes_are_found_before_anything_runs() {
        assert!(Cli::try_parse_from(["config", "show", "--preset", "debug", "--config", "x"]).is_err());
        for arguments in [
            ["--preset", "debgu"],
            ["--config", "/nonexistent/kiln.toml"],
            ["--set", "train.stop_after=9999999"],
            ["--set", "model.n_heads=3"],
        ] {
            let error = source(&arguments).resolve("debug").unwrap_err();
            assert!(error.is_user_error(), "{error}");
        }
    }
}
