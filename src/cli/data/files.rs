//! Files of a run for the commands that inspect them, in a folder or an object store.

use crate::{
    platform::storage,
    prepare::{Manifest, Part, StageSummary, Workspace},
};
use anyhow::Result;
use std::path::PathBuf;
use tokio::runtime::{Builder, Runtime};

/// Access to the files in a run's folder.
pub(super) struct Files {
    workspace: Workspace,
    runtime: Runtime,
}

impl Files {
    pub fn new(workspace: Workspace) -> Result<Self> {
        Ok(Self { workspace, runtime: Builder::new_current_thread().enable_all().build()? })
    }

    /// Name of the folder, without its path.
    pub fn name(&self) -> String {
        let address = self.address("");
        address.trim_end_matches('/').rsplit('/').next().unwrap_or_default().into()
    }

    /// Path of a file in the folder as users find it, which may be an address.
    pub fn address(&self, name: &str) -> String {
        self.workspace.address(&self.workspace.folder().join(name))
    }

    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.workspace.folder().join(Manifest::FILE_NAME);
        self.runtime.block_on(self.workspace.refresh(&path))?;
        Ok(Manifest::read(self.workspace.folder())?)
    }

    /// Path of a stage's part on this machine; the part is fetched if it is not here.
    pub fn part(&self, stage: &StageSummary, part: &Part) -> Result<PathBuf> {
        let path = self.workspace.folder().join(&stage.folder).join(&part.file);
        self.runtime.block_on(self.workspace.have(std::slice::from_ref(&path)))?;
        Ok(path)
    }

    /// Writes a file atomically, and sends it to the object store if there is one.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.workspace.folder().join(name);
        storage::write_atomic(&path, content.as_bytes())?;
        Ok(self.runtime.block_on(self.workspace.send(&path))?)
    }

    /// Removes the stages that earlier settings left.
    pub fn prune(&self, manifest: &Manifest) -> Result<()> {
        let kept: Vec<&str> = manifest.stages.iter().map(|stage| stage.folder.as_str()).collect();
        Ok(self.runtime.block_on(self.workspace.prune(&kept))?)
    }

    /// Opens a folder on this machine.
    #[cfg(test)]
    pub fn of_folder(folder: &std::path::Path) -> Self {
        let workspace = Workspace::open(&folder.to_string_lossy(), None, 0).unwrap();
        Self::new(workspace).unwrap()
    }
}
