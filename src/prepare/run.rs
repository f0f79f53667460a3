//! A run: stage after stage, each skipped if it is already finished, and at the end the manifest.

mod compare;
mod explain;
mod nothing;
mod tokenize;

use super::{
    engine::{Engine, EngineConfig},
    functions,
    keys::{Comparison, Groups},
    manifest::Manifest,
    parts::{Count, Counts, Part},
    pipeline::Pipeline,
    rowwise,
    sources::{self, Extracted, Input, Task},
    steps::Step,
    work::{Folder, digest_of, remove_leftovers},
    workspace::Workspace,
};
use crate::{
    error::{Error, Result},
    platform::{Instant, storage},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Events of a run, for progress displays.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress<'a> {
    /// A stage begins, with this number of tasks and bytes of input.
    Begun { name: &'a str, tasks: usize, bytes: u64 },
    /// A task of the stage is finished.
    Task { documents: u64, bytes: u64 },
    /// The stage is finished; `is_old` if an earlier run finished it.
    Ended { stage: &'a StageSummary, is_old: bool },
}

/// Summary of a finished stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    pub name: String,
    pub key: String,
    /// Folder of its files, relative to the run's folder.
    pub folder: String,
    pub read: Count,
    #[serde(rename = "tally")]
    pub counts: Counts,
    pub parts: Vec<Part>,
    /// Records without text that were skipped, such as images of a WARC file.
    #[serde(default)]
    pub skipped: u64,
    /// Bytes of text that the stage read; for the stage `extract`, bytes of files.
    pub bytes_in: u64,
    /// Seconds that its tasks took, added up.
    pub task_seconds: f64,
    /// Seconds from the beginning of the stage to its end.
    pub seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
}

/// Result of a finished task, and the seconds that it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Done<T> {
    result: T,
    seconds: f64,
}

/// The run of a pipeline in a workspace.
pub struct Run<'a> {
    pipeline: Arc<Pipeline>,
    engine: Engine,
    progress: Box<dyn FnMut(Progress) + 'a>,
    stages: Vec<StageSummary>,
}

impl<'a> Run<'a> {
    /// Prepares a run that writes everything to `workspace`.
    ///
    /// # Errors
    /// Errors of [`Engine::new`].
    pub async fn new(
        pipeline: Pipeline,
        workspace: Workspace,
        config: EngineConfig,
        progress: impl FnMut(Progress) + 'a,
    ) -> Result<Self> {
        let engine = Engine::new(config, workspace).await?;
        let pipeline = Arc::new(pipeline);
        Ok(Self { pipeline, engine, progress: Box::new(progress), stages: Vec::new() })
    }

    /// Local folder of the run.
    fn out(&self) -> &Path {
        self.engine.workspace.folder()
    }

    /// Runs all stages that are not finished and writes the manifest.
    ///
    /// # Errors
    /// Errors of reading and writing; [`Error::Preparation`] if documents were lost on the way,
    /// [`Error::RunLocked`] if another run of this rank works in the same folder,
    /// [`Error::NothingToTokenize`] if no document is left.
    pub async fn execute(mut self) -> Result<Manifest> {
        let rank = self.engine.config.rank;
        let _lock = self.engine.workspace.lock(rank.index)?;
        let inputs = self.inputs().await?;
        let folders = self.folders(&inputs)?;
        // What cannot be planned is refused before anything is read.
        for (folder, step) in folders.iter().skip(1).zip(&self.pipeline.steps) {
            self.plan(folder, step).await?;
        }
        let mut folders = folders.into_iter();
        let mut next =
            || folders.next().ok_or_else(|| Error::preparation("planning", "a stage is missing".into()));
        let mut stage = self.extract(next()?, &inputs).await?;
        for step in &self.pipeline.steps.clone() {
            stage = self.step(next()?, step, stage).await?;
        }
        let (shards, blend) = match self.pipeline.tokenize.clone() {
            Some(_) if stage.counts.kept.documents == 0 => {
                let nothing = self.nothing_to_tokenize().await?;
                // So that users can inspect what was dropped.
                let manifest = Manifest::new(&self.pipeline, &inputs, self.stages, Vec::new(), Vec::new())?;
                if rank.index == 0 {
                    manifest.write(&self.engine.workspace).await?;
                }
                return Err(nothing);
            }
            Some(config) => self.tokenize(next()?, config, &stage).await?,
            None => Default::default(),
        };
        let manifest = Manifest::new(&self.pipeline, &inputs, self.stages, shards, blend)?;
        if rank.index == 0 {
            manifest.write(&self.engine.workspace).await?;
        }
        Ok(manifest)
    }

    /// Folders of all stages: extraction, the steps, and tokenization if there is one.
    fn folders(&self, inputs: &[Input]) -> Result<Vec<Folder>> {
        let pipeline = &self.pipeline;
        let read: Vec<_> = inputs.iter().map(Input::identity).collect();
        let settings = (&pipeline.sources, pipeline.part_mb, pipeline.on_bad_record, read);
        let mut folders = vec![self.folder(1, "extract", "", &settings)?];
        let previous = |folders: &[Folder]| folders.last().map_or(String::new(), |folder| folder.key.clone());
        for (number, step) in (2..).zip(&pipeline.steps) {
            let files = step.files().into_iter().map(digest_of).collect::<Result<Vec<_>>>()?;
            folders.push(self.folder(number, step.name(), &previous(&folders), &(step, files))?);
        }
        if let Some(config) = &pipeline.tokenize {
            let has_file = !config.tokenizer.as_os_str().is_empty();
            let file = has_file.then(|| digest_of(&config.tokenizer)).transpose()?;
            let tokenizer = (&file, config.kind, config.vocab_size, config.sample_mb);
            let settings = (tokenizer, config.val_fraction, pipeline.seed);
            folders.push(self.folder(
                pipeline.steps.len() + 2,
                "tokenize",
                &previous(&folders),
                &settings,
            )?);
        }
        Ok(folders)
    }

    async fn inputs(&self) -> Result<Vec<Input>> {
        // Each rank with a folder of its own has to fetch for itself.
        let rank = if self.engine.workspace.is_mirror() { 0 } else { self.engine.config.rank.index };
        sources::find(&self.pipeline, &self.out().join("downloads"), rank).await
    }

    fn folder(&self, number: usize, name: &str, previous: &str, settings: &impl Serialize) -> Result<Folder> {
        let settings = serde_json::to_string(settings)
            .map_err(|error| Error::preparation("planning", error.to_string()))?;
        Ok(Folder::new(&self.out().join("work"), number, name, previous, &settings))
    }

    fn begin(&mut self, name: &str, tasks: usize, bytes: u64) {
        (self.progress)(Progress::Begun { name, tasks, bytes });
    }

    /// Finishes a stage: adds up its counts, checks that no document is lost, and writes its marker.
    async fn end(
        &mut self,
        folder: &Folder,
        mut summary: StageSummary,
        started: Instant,
    ) -> Result<StageSummary> {
        for part in &summary.parts {
            summary.counts.add(&part.counts);
        }
        let found = summary.counts.read();
        let is_cut = summary.name == "language" && found.documents >= summary.read.documents;
        if summary.name != "extract" && found.documents != summary.read.documents && !is_cut {
            let (read, found) = (summary.read.documents, found.documents);
            let message =
                format!("{read} documents went into `{}`, but {found} came out of it", summary.name);
            return Err(Error::preparation("counting", message));
        }
        if summary.name == "extract" {
            summary.read = found;
        }
        summary.name.clone_from(&folder.name);
        summary.key.clone_from(&folder.key);
        summary.folder = self.name_of(folder);
        summary.seconds = started.elapsed().as_secs_f64();
        functions::clear();
        // One of the ranks is enough, and two would write the same file.
        if self.engine.config.rank.index == 0 {
            remove_leftovers(&folder.path)?;
            self.engine.workspace.mark(folder, "stage", &summary).await?;
        }
        self.old(summary, false)
    }

    /// Path of a stage's folder relative to the run's folder.
    fn name_of(&self, folder: &Folder) -> String {
        folder.path.strip_prefix(self.out()).unwrap_or(&folder.path).to_string_lossy().into_owned()
    }

    /// Reports a finished stage as progress and adds it to the run's stages.
    fn old(&mut self, summary: StageSummary, is_old: bool) -> Result<StageSummary> {
        (self.progress)(Progress::Ended { stage: &summary, is_old });
        self.stages.push(summary.clone());
        Ok(summary)
    }

    /// Calls `run` on `work` for each of the `count` tasks of a stage and reports `counted` of each result as
    /// progress. Returns the results, and the seconds that all tasks took together.
    async fn tasks<W, T, F>(
        &mut self,
        folder: &Folder,
        name: &str,
        count: usize,
        work: &W,
        run: impl Fn(W, usize) -> F + Copy + Send + Sync + 'static,
        counted: impl Fn(&T) -> Count,
    ) -> Result<(Vec<T>, f64)>
    where
        W: Clone + Send + Sync + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let progress = &mut self.progress;
        let timed = |index| {
            let (engine, work) = (self.engine.clone(), work.clone());
            async move {
                let started = Instant::now();
                let result = engine.attempt(|| run(work.clone(), index)).await?;
                Ok(Done { result, seconds: started.elapsed().as_secs_f64() })
            }
        };
        let done = |done: &Done<T>| {
            let Count { documents, bytes, .. } = counted(&done.result);
            progress(Progress::Task { documents, bytes });
        };
        let results = self.engine.tasks(folder, name, count, timed, done).await?;
        let seconds = results.iter().map(|done| done.seconds).sum();
        Ok((results.into_iter().map(|done| done.result).collect(), seconds))
    }

    /// Runs a single task, as [`tasks`](Self::tasks) does, without counting its documents.
    async fn once<W, T, F>(
        &mut self,
        folder: &Folder,
        name: &str,
        work: &W,
        run: impl Fn(W) -> F + Copy + Send + Sync + 'static,
    ) -> Result<(T, f64)>
    where
        W: Clone + Send + Sync + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let run = move |work, _| run(work);
        let (results, seconds) = self.tasks(folder, name, 1, work, run, |_| Count::default()).await?;
        let result = results.into_iter().next();
        Ok((result.ok_or_else(|| Error::preparation(name, "nothing was done".into()))?, seconds))
    }

    /// Returns the summary of a stage that is finished; otherwise makes its folder.
    async fn finished(&mut self, folder: &Folder) -> Result<Option<StageSummary>> {
        storage::create_folder(&folder.path)?;
        let summary = self.engine.workspace.marked(folder, "stage").await?;
        if summary.is_some() {
            self.engine.workspace.verify(folder, self.engine.config.rank.index).await?;
        }
        summary.map(|summary| self.old(summary, true)).transpose()
    }

    async fn extract(&mut self, folder: Folder, inputs: &[Input]) -> Result<StageSummary> {
        let started = Instant::now();
        if let Some(summary) = self.finished(&folder).await? {
            return Ok(summary);
        }
        let tasks = Arc::new(sources::tasks(&self.pipeline, inputs, &folder.path));
        let bytes = inputs.iter().map(|input| input.bytes).sum();
        self.begin("extract", tasks.len(), bytes);
        let (count, work) = (tasks.len(), (self.engine.clone(), tasks));
        let run = |(engine, tasks): (Engine, Arc<Vec<Task>>), index: usize| async move {
            rowwise::extract(&engine, &tasks[index]).await
        };
        let read = |extracted: &Extracted| Count {
            documents: extracted.parts.iter().map(|part| part.counts.read().documents).sum(),
            bytes: extracted.bytes,
            ..Count::default()
        };
        let (extracted, task_seconds) = self.tasks(&folder, "part", count, &work, run, read).await?;
        let summary = StageSummary {
            name: "extract".into(),
            skipped: extracted.iter().map(|extracted| extracted.skipped).sum(),
            parts: extracted.into_iter().flat_map(|extracted| extracted.parts).collect(),
            bytes_in: bytes,
            task_seconds,
            ..StageSummary::default()
        };
        self.end(&folder, summary, started).await
    }

    /// Parts of a finished stage, with their paths.
    fn parts(&self, stage: &StageSummary) -> Arc<Vec<(PathBuf, Part)>> {
        let folder = self.out().join(&stage.folder);
        Arc::new(stage.parts.iter().map(|part| (folder.join(&part.file), part.clone())).collect())
    }

    async fn step(&mut self, folder: Folder, step: &Step, input: StageSummary) -> Result<StageSummary> {
        let started = Instant::now();
        if let Some(summary) = self.finished(&folder).await? {
            return Ok(summary);
        }
        let parts = self.parts(&input);
        let count = parts.len();
        self.begin(step.name(), count, input.counts.kept.bytes);
        let mut summary = StageSummary {
            name: step.name().into(),
            read: input.counts.kept,
            bytes_in: input.counts.kept.bytes,
            ..StageSummary::default()
        };
        let engine = self.engine.clone();
        let read = |part: &Part| part.counts.read();
        (summary.parts, summary.task_seconds) = match step {
            Step::ExactDuplicates(_) | Step::FuzzyDuplicates(_) | Step::SemanticDuplicates(_) => {
                let (folder, step) = (folder.clone(), step.clone());
                let work = Comparison { engine, folder, inputs: parts, step };
                let (parts, groups, seconds) = self.compare(work).await?;
                summary.groups = Some(groups);
                (parts, seconds)
            }
            _ => {
                let work =
                    rowwise::Work { engine, folder: folder.clone(), inputs: parts, step: step.clone() };
                self.tasks(&folder, "part", count, &work, rowwise::Work::part, read).await?
            }
        };
        self.end(&folder, summary, started).await
    }
}
