//! Cells that are trained by the page in a browser: `web/train.mjs` opens the built page in headless Chromium.

use super::{plan::Cell, results::flat};
use crate::{
    config::{Config, presets::Preset},
    error::{Error, Result, hint},
    platform::storage,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Where the page and the browser are.
#[derive(Debug, Default, clap::Args)]
pub struct BrowserOptions {
    /// The folder `web` of a checkout with the built page; default: `web` here or in a folder above
    #[arg(long, value_name = "DIR")]
    page: Option<PathBuf>,
    /// Chromium, or a browser made of it; default: found in `PATH`
    #[arg(long, value_name = "FILE")]
    chromium: Option<PathBuf>,
}

/// The built page and the browser that opens it.
pub struct Browser {
    /// Folder `web` of a checkout.
    web: PathBuf,
    chromium: PathBuf,
}

/// Script that trains a configuration in the page, in the folder `web`.
const SCRIPT: &str = "train.mjs";
/// Preset that the page begins with: what differs from it is set, key by key.
const BASE: &str = "debug";
/// Names of Chromium and of browsers made of it, in the folders of `PATH`.
const CHROMIUM: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

impl BrowserOptions {
    /// Finds the built page and Chromium.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if one of them, or Node, is not there.
    pub fn find(&self) -> Result<Browser> {
        let web = match &self.page {
            Some(web) if is_built(web) => web.clone(),
            Some(web) => {
                let hint = hint![hint::command("npm --prefix web run build"), " in a checkout builds it"];
                return Err(missing("--page", &web.display().to_string(), "it holds no built page", hint));
            }
            None => {
                let here = std::env::current_dir().unwrap_or_default();
                let found = here.ancestors().map(|folder| folder.join("web")).find(|web| is_built(web));
                found.ok_or_else(|| {
                    let hint = hint![
                        hint::command("npm --prefix web run build"),
                        " in a checkout builds it; ",
                        hint::command("--page DIR"),
                        " names its folder `web`"
                    ];
                    missing("--device", "browser", "no folder `web` here or above holds the built page", hint)
                })?
            }
        };
        let in_path = |names: &[&str]| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let files = |name: &&str| {
                let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
                std::env::split_paths(&path).map(|folder| folder.join(&file)).collect::<Vec<_>>()
            };
            names.iter().flat_map(files).find(|file| file.is_file())
        };
        if in_path(&["node"]).is_none() {
            let hint = hint!["install Node 20 or later"];
            return Err(missing("--device", "browser", "Node, which opens the page, is not installed", hint));
        }
        let chromium = match &self.chromium {
            Some(file) if file.is_file() => file.clone(),
            Some(file) => {
                let hint = hint!["the path of the program, not of its folder"];
                return Err(missing(
                    "--chromium",
                    &file.display().to_string(),
                    "there is no such file",
                    hint,
                ));
            }
            None => in_path(&CHROMIUM).ok_or_else(|| {
                let hint = hint!["install it, or name it with ", hint::command("--chromium FILE")];
                missing("--device", "browser", "Chromium is not in `PATH`", hint)
            })?,
        };
        Ok(Browser { web, chromium })
    }
}

impl Browser {
    /// Makes the process that trains a cell. It begins anew: a page keeps no run that another can go on with.
    ///
    /// # Errors
    /// An error if the run folder cannot be written.
    pub fn command(&self, cell: &Cell, gpu: bool, run: &Path) -> Result<Command> {
        if run.exists() {
            storage::remove_folder(run)?;
        }
        storage::create_folder(run)?;
        let mut command = Command::new("node");
        command.arg(self.web.join(SCRIPT)).arg("--chromium").arg(&self.chromium);
        command.arg("--out").arg(std::path::absolute(run).unwrap_or_else(|_| run.into()));
        command.args(["--device", if gpu { "webgpu" } else { "cpu" }, "--preset", BASE]);
        let base = flat(&Preset::find(BASE)?.config()?);
        let this = flat(&cell.config);
        for key in base.keys().chain(this.keys().filter(|key| !base.contains_key(*key))) {
            let value = this.get(key).map_or("none", String::as_str);
            if base.get(key).map(String::as_str) != Some(value) {
                command.arg("--set").arg(format!("{key}={value}"));
            }
        }
        Ok(command)
    }
}

/// Checks that the page can train a configuration.
///
/// # Errors
/// [`Error::InvalidValue`] for a configuration that names files, which a page does not have.
pub fn check(config: &Config) -> Result<()> {
    let files =
        [("data.paths", config.data.paths.first()), ("tokenizer.path", config.tokenizer.path.as_ref())];
    let Some((key, path)) = files.into_iter().find_map(|(key, path)| Some((key, path?))) else {
        return Ok(());
    };
    let hint = hint!["in a browser, experiments train on the embedded text or on ", hint::key("data.task")];
    Err(missing(key, &path.display().to_string(), "a page has no files", hint))
}

fn missing(key: &str, value: &str, message: &str, hint: crate::error::Hint) -> Error {
    Error::InvalidValue { key: key.into(), value: value.into(), message: message.into(), hint: Some(hint) }
}

fn is_built(web: &Path) -> bool {
    [SCRIPT, "dist/index.html", "node_modules"].iter().all(|name| web.join(name).exists())
}
