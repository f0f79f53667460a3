//! The files of a run for the commands that inspect them, in a folder or an object store.

use crate::{
    platform::storage,
    prepare::{Manifest, Part, StageSummary, Workspace},
};
use anyhow::Result;
use std::path::PathBuf;
use tokio::runtime::{Builder, Runtime};

/// A run's folder.
pub(super) struct Files {
    workspace: Workspace,
    runtime: Runtime,
}

impl Files {
    pub fn new(workspace: Workspace) -> Result<Self> {
        Ok(Self { workspace, runtime: Builder::new_current_thread().enable_all().build()? })
    }

    /// The folder's name, without what it is in.
    pub fn name(&self) -> String {
        let address = self.address("");
        address.trim_end_matches('/').rsplit('/').next().unwrap_or_default().into()
    }

    /// A file of the folder as users find it.
    pub fn address(&self, name: &str) -> String {
        self.workspace.address(&self.workspace.folder().join(name))
    }

    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.workspace.folder().join(Manifest::FILE_NAME);
        self.runtime.block_on(self.workspace.refresh(&path))?;
        Ok(Manifest::read(self.workspace.folder())?)
    }

    /// A part of a stage, on this machine.
    pub fn part(&self, stage: &StageSummary, part: &Part) -> Result<PathBuf> {
        let path = self.workspace.folder().join(&stage.folder).join(&part.file);
        self.runtime.block_on(self.workspace.have(std::slice::from_ref(&path)))?;
        Ok(path)
    }

    /// Writes a file, whole or not at all.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.workspace.folder().join(name);
        storage::write_atomic(&path, content.as_bytes())?;
        Ok(self.runtime.block_on(self.workspace.send(&path))?)
    }

    /// Removes the stages of other settings.
    pub fn prune(&self, manifest: &Manifest) -> Result<()> {
        let kept: Vec<&str> = manifest.stages.iter().map(|stage| stage.folder.as_str()).collect();
        Ok(self.runtime.block_on(self.workspace.prune(&kept))?)
    }

    /// Files of a folder on this machine.
    #[cfg(test)]
    pub fn of_folder(folder: &std::path::Path) -> Self {
        let workspace = Workspace::open(&folder.to_string_lossy(), None, 0).unwrap();
        Self::new(workspace).unwrap()
    }
}
