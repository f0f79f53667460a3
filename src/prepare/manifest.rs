//! `OUT/manifest.json`: the record of a run, from its sources and settings to its shards.

use super::{
    blend::BlendedSource, pipeline::Pipeline, run::StageSummary, shards::ShardSummary, sources::Input,
    workspace::Workspace,
};
use crate::{
    error::{Error, Result, hint},
    platform::storage,
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Record of a finished run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of Kiln that ran the pipeline.
    pub kiln: String,
    pub seed: u64,
    /// Name of the pipeline file.
    #[serde(default)]
    pub pipeline_file: String,
    /// The pipeline with all settings, as JSON.
    pub pipeline: serde_json::Value,
    pub sources: Vec<SourceSummary>,
    pub stages: Vec<StageSummary>,
    pub blend: Vec<BlendedSource>,
    pub shards: Vec<ShardSummary>,
}

/// A source, with the number and bytes of its files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceSummary {
    pub name: String,
    pub license: String,
    pub version: String,
    pub files: usize,
    pub bytes: u64,
}

impl Manifest {
    /// Name of the manifest in a run's folder.
    pub const FILE_NAME: &str = "manifest.json";

    pub(super) fn new(
        pipeline: &Pipeline,
        inputs: &[Input],
        stages: Vec<StageSummary>,
        shards: Vec<ShardSummary>,
        blend: Vec<BlendedSource>,
    ) -> Result<Self> {
        let sources = (0..).zip(&pipeline.sources).map(|(number, source)| {
            let own = inputs.iter().filter(|input| input.source == number);
            SourceSummary {
                name: source.name.clone(),
                license: source.license.clone(),
                version: source.version.clone(),
                files: own.clone().count(),
                bytes: own.map(|input| input.bytes).sum(),
            }
        });
        let json = |error: serde_json::Error| Error::preparation("writing the manifest", error.to_string());
        Ok(Self {
            kiln: env!("CARGO_PKG_VERSION").into(),
            seed: pipeline.seed,
            pipeline_file: pipeline.file.clone(),
            pipeline: serde_json::to_value(pipeline).map_err(json)?,
            sources: sources.collect(),
            stages,
            blend,
            shards,
        })
    }

    pub(super) async fn write(&self, workspace: &Workspace) -> Result<()> {
        let json = serde_json::to_vec_pretty(self);
        let json = json.map_err(|error| Error::preparation("writing the manifest", error.to_string()))?;
        let path = workspace.folder().join(Self::FILE_NAME);
        storage::write_atomic(&path, &json)?;
        workspace.send(&path).await
    }

    /// Reads the manifest of a run's folder.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, [`Error::Io`], [`Error::Preparation`] if it is invalid.
    pub fn read(out: &Path) -> Result<Self> {
        let path = out.join(Self::FILE_NAME);
        if !storage::exists(&path) {
            let hint = hint!["name the folder that ", hint::command("kiln data run"), " has written"];
            return Err(Error::NotFound { path, hint });
        }
        serde_json::from_slice(&storage::read(&path)?).map_err(|error| {
            Error::preparation("reading the manifest", format!("`{}`: {error}", path.display()))
        })
    }
}
