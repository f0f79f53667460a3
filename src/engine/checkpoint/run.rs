//! The folder of a run: `RUN/checkpoints/step-000030/`, with `best` and `latest` beside the steps.

use super::{Files, names};
use crate::{
    error::{Error, Place, Result, hint},
    platform::storage,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A run folder, locked by this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: storage::Lock,
}

/// Checkpoint that a run continues from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    Latest,
    Best,
    /// Path of a checkpoint or run folder, which may belong to another run.
    Folder(PathBuf),
}

impl FromStr for Resume {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "latest" => Self::Latest,
            "best" => Self::Best,
            folder => Self::Folder(folder.into()),
        })
    }
}

impl fmt::Display for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str(LATEST),
            Self::Best => f.write_str(BEST),
            Self::Folder(folder) => write!(f, "{}", folder.display()),
        }
    }
}

const LATEST: &str = "latest";
const BEST: &str = "best";
const CHECKPOINTS: &str = "checkpoints";
const LOCK: &str = ".lock";
const LOG: &str = "log.jsonl";

impl RunFolder {
    /// Takes a folder for a new run. It must not contain a checkpoint yet. If it contains the log of a run
    /// that ended before its first checkpoint, the log is renamed.
    ///
    /// # Errors
    /// [`Error::RunExists`], [`Error::RunLocked`] and [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self> {
        let run = Self::lock(path)?;
        // Anything at all: a checkpoint that is damaged or was superseded is not ours to write over.
        if !storage::list(&path.join(CHECKPOINTS))?.is_empty() {
            return Err(Error::RunExists { path: path.into() });
        }
        if path.join(LOG).exists() {
            let (aside, _) = superseded(path, LOG);
            storage::rename(&path.join(LOG), &aside)?;
        }
        Ok(run)
    }

    /// Takes `parent/name` for a new run, or the first of `parent/name-2`, `-3`, … that is free.
    pub fn create_numbered(parent: &Path, name: &str) -> Result<Self> {
        let mut candidates =
            std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
        loop {
            let candidate = candidates.next().unwrap_or_default();
            match Self::create(&parent.join(candidate)) {
                Err(Error::RunExists { .. } | Error::RunLocked { .. }) => {}
                result => return result,
            }
        }
    }

    /// Takes the folder of a run that is to be continued. If there is no run, nothing is created.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Checkpoint`] if there is no complete checkpoint, [`Error::RunLocked`]
    /// and [`Error::Io`].
    pub fn reopen(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::NotFound {
                path: path.into(),
                hint: hint![
                    Place::Out,
                    " names the folder of the run to resume; start a new run without ",
                    Place::Resume
                ],
            });
        }
        // A run that has just begun has no checkpoint yet either, but it is locked.
        if !path.join(LOCK).exists() && complete_steps(path)?.is_empty() {
            return Err(no_checkpoint(path));
        }
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self> {
        storage::create_folder(&path.join(CHECKPOINTS))?;
        let lock = storage::lock(&path.join(LOCK))?.ok_or_else(|| Error::RunLocked { path: path.into() })?;
        let run = Self { path: path.into(), _lock: lock };
        run.sweep()?;
        Ok(run)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes incomplete checkpoints that a killed process has left.
    fn sweep(&self) -> Result<()> {
        for path in storage::list(&self.path.join(CHECKPOINTS))? {
            let name = file_name(&path);
            if name.starts_with('.') && name.ends_with(".tmp") && path.is_dir() {
                storage::remove_folder(&path)?;
            }
        }
        Ok(())
    }

    /// Writes a checkpoint and points `latest` (and `best`) to it, then removes the oldest checkpoints beyond
    /// `keep`, except those that `best` or `latest` point to. Returns the new folder.
    pub fn save(&self, step: u64, files: &Files, is_best: bool, keep: usize) -> Result<PathBuf> {
        let name = format!("step-{step:06}");
        let folder = self.path.join(CHECKPOINTS).join(&name);
        if folder.exists() {
            // Left by an earlier process that had come further before it was resumed from before.
            storage::remove_folder(&folder)?;
        }
        files.write_folder(&folder)?;
        self.point(LATEST, &name)?;
        if is_best {
            self.point(BEST, &name)?;
        }
        self.rotate(keep)?;
        Ok(folder)
    }

    /// Points `best` or `latest` to a checkpoint.
    fn point(&self, pointer: &str, name: &str) -> Result<()> {
        storage::set_link(&self.path.join(CHECKPOINTS).join(pointer), name)
    }

    /// Points `best` to the checkpoint of a step, if the run has it. A process may be killed after writing its best
    /// checkpoint and before updating the pointer, and the checkpoint would then be removed as an old one.
    pub fn mark_best(&self, step: u64) -> Result<()> {
        match self.steps()?.into_iter().find(|(saved, _)| *saved == step) {
            Some((_, path)) => self.point(BEST, &file_name(&path)),
            None => Ok(()),
        }
    }

    fn rotate(&self, keep: usize) -> Result<()> {
        let pointed: Vec<Option<String>> =
            [LATEST, BEST].iter().map(|pointer| self.pointed(pointer)).collect();
        let mut steps = self.steps()?;
        steps.retain(|(_, path)| !pointed.contains(&Some(file_name(path))));
        // `latest` is one of those kept.
        let excess = steps.len().saturating_sub(keep.saturating_sub(1));
        for (_, path) in &steps[..excess] {
            storage::remove_folder(path)?;
        }
        Ok(())
    }

    fn pointed(&self, pointer: &str) -> Option<String> {
        storage::read_link(&self.path.join(CHECKPOINTS).join(pointer))
    }

    /// Complete checkpoints, sorted by step.
    fn steps(&self) -> Result<Vec<(u64, PathBuf)>> {
        complete_steps(&self.path)
    }

    /// Finds the checkpoint to continue from. `latest` means the newest complete checkpoint rather than the
    /// target of the pointer, since a process may be killed after writing one and before updating the other.
    pub fn find(&self, resume: &Resume) -> Result<PathBuf> {
        match resume {
            Resume::Latest => resolve(&self.path),
            Resume::Best => resolve(&self.path.join(CHECKPOINTS).join(BEST)),
            Resume::Folder(folder) => resolve(folder),
        }
    }

    /// Renames the checkpoints after `step`, when a run resumes from an earlier one, so that they no longer
    /// count as its newest.
    pub fn set_aside_after(&self, step: u64) -> Result<()> {
        let folder = self.path.join(CHECKPOINTS);
        for (_, path) in self.steps()?.into_iter().filter(|(saved, _)| *saved > step) {
            let name = file_name(&path);
            let (aside, new_name) = superseded(&folder, &name);
            storage::rename(&path, &aside)?;
            if self.pointed(BEST).is_some_and(|best| best == name) {
                self.point(BEST, &new_name)?;
            }
        }
        match self.steps()?.pop() {
            Some((_, newest)) => self.point(LATEST, &file_name(&newest)),
            None => Ok(()),
        }
    }
}

/// Finds the checkpoint that a path stands for: the checkpoint itself, a run's newest one, or the target of
/// `best` or `latest`.
///
/// # Errors
/// [`Error::NotFound`], and [`Error::Checkpoint`] if there is no complete checkpoint.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let missing = |hint: &str| Error::NotFound { path: path.into(), hint: hint.into() };
    if let Some(name) = storage::read_link(path)
        && matches!(file_name(path).as_str(), BEST | LATEST)
    {
        let target = path.with_file_name(name);
        return if target.is_dir() { Ok(target) } else { Err(missing("its checkpoint is gone")) };
    }
    if !path.exists() {
        return Err(missing("name a run folder or a checkpoint folder"));
    }
    if path.is_file() {
        return Err(Error::Checkpoint {
            path: path.into(),
            message: "it is a file, not the folder of a model".into(),
            hint: Some("name its folder; a file that is a model ends with `.gguf` or `.safetensors`".into()),
        });
    }
    if [names::CONFIG, names::ADAPTER_CONFIG].iter().any(|name| path.join(name).is_file()) {
        return Ok(path.into());
    }
    match complete_steps(path)?.pop() {
        Some((_, newest)) => Ok(newest),
        None => Err(no_checkpoint(path)),
    }
}

fn no_checkpoint(path: &Path) -> Error {
    Error::Checkpoint {
        path: path.into(),
        message: "there is no complete checkpoint here".into(),
        hint: Some(hint![
            "name a run folder or a checkpoint folder; a run saves its first checkpoint at ",
            hint::key("train.save_interval")
        ]),
    }
}

/// A free path and name in `folder`, to which `name` can be renamed.
fn superseded(folder: &Path, name: &str) -> (PathBuf, String) {
    let mut number = 1;
    loop {
        let aside = format!("superseded-{number}-{name}");
        let path = folder.join(&aside);
        if !path.exists() {
            return (path, aside);
        }
        number += 1;
    }
}

fn complete_steps(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let folder = run.join(CHECKPOINTS);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut steps: Vec<(u64, PathBuf)> = storage::list(&folder)?
        .into_iter()
        .filter_map(|path| Some((file_name(&path).strip_prefix("step-")?.parse().ok()?, path)))
        .filter(|(_, path)| path.join(names::MANIFEST).is_file())
        .collect();
    steps.sort();
    Ok(steps)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
