//! Explains what a run would do, without running it.

use super::{Run, StageSummary};
use crate::{
    error::{Error, Result},
    {keys::Comparison, part_writer::PartWriter, parts::Part, rowwise, sources, steps::Step, work::Folder},
};
use datafusion::dataframe::DataFrame;
use std::sync::Arc;

impl Run<'_> {
    /// Describes the run stage by stage: settings, plan, and how much of it is finished.
    ///
    /// # Errors
    /// Errors of finding files and of planning.
    pub async fn explain(self) -> Result<String> {
        let inputs = self.inputs().await?;
        let folders = self.folders(&inputs)?;
        let bytes: u64 = inputs.iter().map(|input| input.bytes).sum();
        let tasks = sources::tasks(&self.pipeline, &inputs, &folders[0].path).len();
        let mut text = format!("{} files, {} bytes, {tasks} tasks to extract\n", inputs.len(), bytes);
        let steps = std::iter::once(None).chain(self.pipeline.steps.iter().map(Some)).chain([None]);
        for (folder, step) in folders.iter().zip(steps) {
            let stage: Option<StageSummary> = self.engine.workspace.marked(folder, "stage").await?;
            let state = match stage {
                Some(stage) => {
                    format!("finished: {} of {} documents", stage.counts.kept.documents, stage.read.documents)
                }
                None => {
                    let finished = self.engine.workspace.markers(folder).await?.len();
                    format!("to do; {finished} tasks are finished")
                }
            };
            text.push_str(&format!("\n{} ({state})\n", self.name_of(folder)));
            let Some(step) = step else { continue };
            let settings = serde_json::to_string(step)
                .map_err(|error| Error::preparation("planning", error.to_string()))?;
            text.push_str(&format!("  {settings}\n"));
            let plan = self.plan(folder, step).await?;
            for line in plan.logical_plan().display_indent().to_string().lines() {
                let line: String = line.replace("?table?.", "").chars().take(240).collect();
                text.push_str(&format!("    {line}\n"));
            }
        }
        Ok(text)
    }

    /// Plans a step's first task over an empty part that stands for all parts.
    pub(super) async fn plan(&self, folder: &Folder, step: &Step) -> Result<DataFrame> {
        let scratch = self.out().join("work").join("scratch");
        // Ranks on several machines share the folder.
        let own = (std::process::id() as usize) << 12 | self.engine.config.rank.index;
        let empty = PartWriter::new(&scratch, own, 1).finish()?;
        let empty = scratch.join(&empty[0].file);
        let inputs = Arc::new(vec![(empty.clone(), Part::default())]);
        let (engine, folder, step) = (self.engine.clone(), folder.clone(), step.clone());
        let plan = match step {
            Step::ExactDuplicates(_) | Step::FuzzyDuplicates(_) | Step::SemanticDuplicates(_) => {
                Comparison { engine, folder, inputs, step }.keys_plan(0).await
            }
            _ => rowwise::Work { engine, folder, inputs, step }.plan(&empty).await,
        };
        std::fs::remove_file(&empty).map_err(|error| Error::io("remove", &empty, error))?;
        plan
    }
}
