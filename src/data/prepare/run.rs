//! A run: stage after stage, each skipped if it is finished, and at the end what has been made of what.

mod explain;

use super::{
    blend::BlendedSource,
    engine::{Engine, EngineConfig},
    keys::{Comparison, Groups},
    manifest::Manifest,
    parts::{Count, Part, Tally},
    pipeline::Pipeline,
    rowwise,
    shards::{ShardSummary, TokenPart, Tokenizing},
    sources::{self, Extracted, Input},
    steps::Step,
    work::{Folder, digest_file},
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

/// What happens during a run, for whoever shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress<'a> {
    /// A stage begins; so many tasks and bytes of input.
    Begun { name: &'a str, tasks: usize, bytes: u64 },
    /// A task of it is finished.
    Task { documents: u64, bytes: u64 },
    /// The stage is finished, or was before.
    Ended { stage: &'a StageSummary, is_old: bool },
}

/// What a stage has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    pub name: String,
    pub key: String,
    /// Where its files are, below the run's folder.
    pub folder: String,
    pub read: Count,
    pub tally: Tally,
    pub parts: Vec<Part>,
    /// Records without text, such as images of a WARC file.
    #[serde(default)]
    pub skipped: u64,
    /// Of text that came in, or of files where it was extracted.
    pub bytes_in: u64,
    /// That the tasks took together, and the stage from beginning to end.
    pub task_seconds: f64,
    pub seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
}

/// A finished task.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Done<T> {
    result: T,
    seconds: f64,
}

/// The stages of a pipeline in a folder.
pub struct Run<'a> {
    pipeline: Arc<Pipeline>,
    out: PathBuf,
    engine: Engine,
    progress: Box<dyn FnMut(Progress) + 'a>,
    stages: Vec<StageSummary>,
}

impl<'a> Run<'a> {
    /// `out` is the folder that everything is written to.
    ///
    /// # Errors
    /// Those of [`Engine::new`].
    pub async fn new(
        pipeline: Pipeline,
        out: &Path,
        config: EngineConfig,
        progress: impl FnMut(Progress) + 'a,
    ) -> Result<Self> {
        let out = std::path::absolute(out).map_err(|error| Error::io("find", out, error))?;
        storage::create_folder(&out.join("work"))?;
        let engine = Engine::new(config, &out.join("work").join("scratch")).await?;
        Ok(Self {
            pipeline: Arc::new(pipeline),
            out,
            engine,
            progress: Box::new(progress),
            stages: Vec::new(),
        })
    }

    /// Runs what is not finished and writes the manifest.
    ///
    /// # Errors
    /// Those of reading and writing; [`Error::Preparation`] if documents were lost on the way.
    pub async fn execute(mut self) -> Result<Manifest> {
        let rank = self.engine.config.rank;
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
            Some(config) => self.tokenize(next()?, config, &stage).await?,
            None => Default::default(),
        };
        let manifest = Manifest::new(&self.pipeline, &inputs, self.stages, shards, blend)?;
        if rank.index == 0 {
            manifest.write(&self.out)?;
        }
        Ok(manifest)
    }

    /// The stages that look at documents, with where their files go, and that of tokens.
    fn folders(&self, inputs: &[Input]) -> Result<Vec<Folder>> {
        let pipeline = &self.pipeline;
        let settings = (&pipeline.sources, pipeline.part_mb, pipeline.on_fault, inputs);
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
        sources::find(&self.pipeline, &self.out.join("downloads"), self.engine.config.rank.index == 0).await
    }

    fn folder(&self, number: usize, name: &str, previous: &str, settings: &impl Serialize) -> Result<Folder> {
        let settings = serde_json::to_string(settings)
            .map_err(|error| Error::preparation("planning", error.to_string()))?;
        Ok(Folder::new(&self.out.join("work"), number, name, previous, &settings))
    }

    fn begin(&mut self, name: &str, tasks: usize, bytes: u64) {
        (self.progress)(Progress::Begun { name, tasks, bytes });
    }

    /// Closes a stage: counts, checks that nothing is lost, marks it as finished.
    fn end(&mut self, folder: &Folder, mut summary: StageSummary, started: Instant) -> Result<StageSummary> {
        for part in &summary.parts {
            summary.tally.add(&part.tally);
        }
        let found = summary.tally.read();
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
        summary.folder =
            folder.path.strip_prefix(&self.out).unwrap_or(&folder.path).to_string_lossy().into_owned();
        summary.seconds = started.elapsed().as_secs_f64();
        // One of the ranks is enough, and two would write the same file.
        if self.engine.config.rank.index == 0 {
            remove_leftovers(&folder.path)?;
            folder.mark("stage", &summary)?;
        }
        self.old(summary, false)
    }

    /// A stage that is finished.
    fn old(&mut self, summary: StageSummary, is_old: bool) -> Result<StageSummary> {
        (self.progress)(Progress::Ended { stage: &summary, is_old });
        self.stages.push(summary.clone());
        Ok(summary)
    }

    /// Runs the tasks of a stage, telling the progress what `count` makes of each.
    async fn tasks<T, F>(
        &mut self,
        folder: &Folder,
        name: &str,
        count: usize,
        run: impl Fn(usize) -> F,
        counted: impl Fn(&T) -> Count,
    ) -> Result<(Vec<T>, f64)>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let progress = &mut self.progress;
        let timed = |index| {
            let work = run(index);
            async move {
                let started = Instant::now();
                let result = work.await?;
                Ok(Done { result, seconds: started.elapsed().as_secs_f64() })
            }
        };
        let done = |done: &Done<T>| {
            let Count { documents, bytes } = counted(&done.result);
            progress(Progress::Task { documents, bytes });
        };
        let results = self.engine.tasks(folder, name, count, timed, done).await?;
        let seconds = results.iter().map(|done| done.seconds).sum();
        Ok((results.into_iter().map(|done| done.result).collect(), seconds))
    }

    /// What is known of a stage if it is finished; otherwise its folder is made.
    fn finished(&mut self, folder: &Folder) -> Result<Option<StageSummary>> {
        storage::create_folder(&folder.path)?;
        folder.marker("stage")?.map(|summary| self.old(summary, true)).transpose()
    }

    async fn extract(&mut self, folder: Folder, inputs: &[Input]) -> Result<StageSummary> {
        let started = Instant::now();
        if let Some(summary) = self.finished(&folder)? {
            return Ok(summary);
        }
        let tasks = Arc::new(sources::tasks(&self.pipeline, inputs, &folder.path));
        let bytes = inputs.iter().map(|input| input.bytes).sum();
        self.begin("extract", tasks.len(), bytes);
        let engine = self.engine.clone();
        let count = tasks.len();
        let run = |index: usize| {
            let (engine, tasks) = (engine.clone(), Arc::clone(&tasks));
            async move { engine.attempt(|| rowwise::extract(&engine, &tasks[index])).await }
        };
        let read = |extracted: &Extracted| Count {
            documents: extracted.parts.iter().map(|part| part.tally.read().documents).sum(),
            bytes: extracted.bytes,
        };
        let (extracted, task_seconds) = self.tasks(&folder, "part", count, run, read).await?;
        let summary = StageSummary {
            name: "extract".into(),
            skipped: extracted.iter().map(|extracted| extracted.skipped).sum(),
            parts: extracted.into_iter().flat_map(|extracted| extracted.parts).collect(),
            bytes_in: bytes,
            task_seconds,
            ..StageSummary::default()
        };
        self.end(&folder, summary, started)
    }

    /// Parts of a finished stage, with their paths.
    fn parts(&self, stage: &StageSummary) -> Arc<Vec<(PathBuf, Part)>> {
        let folder = self.out.join(&stage.folder);
        Arc::new(stage.parts.iter().map(|part| (folder.join(&part.file), part.clone())).collect())
    }

    async fn step(&mut self, folder: Folder, step: &Step, input: StageSummary) -> Result<StageSummary> {
        let started = Instant::now();
        if let Some(summary) = self.finished(&folder)? {
            return Ok(summary);
        }
        let parts = self.parts(&input);
        let count = parts.len();
        self.begin(step.name(), count, input.tally.kept.bytes);
        let mut summary = StageSummary {
            name: step.name().into(),
            read: input.tally.kept,
            bytes_in: input.tally.kept.bytes,
            ..StageSummary::default()
        };
        let engine = self.engine.clone();
        let read = |part: &Part| part.tally.read();
        (summary.parts, summary.task_seconds) = match step {
            Step::ExactDuplicates(_) | Step::FuzzyDuplicates(_) | Step::SemanticDuplicates(_) => {
                let work = Comparison {
                    engine: engine.clone(),
                    folder: folder.clone(),
                    inputs: parts,
                    step: step.clone(),
                };
                let run = |index| {
                    let work = work.clone();
                    async move { work.engine.attempt(|| work.clone().keys(index)).await }
                };
                let (_, key_seconds) =
                    self.tasks(&folder, "keys", count, run, |&()| Count::default()).await?;
                let run = || {
                    let work = work.clone();
                    async move { work.engine.attempt(|| work.clone().groups()).await }
                };
                summary.groups = Some(engine.once(&folder, "groups", run).await?);
                let run = |index| {
                    let work = work.clone();
                    async move { work.engine.attempt(|| work.clone().apply(index)).await }
                };
                let (parts, seconds) = self.tasks(&folder, "part", count, run, read).await?;
                (parts, key_seconds + seconds)
            }
            _ => {
                let work =
                    rowwise::Work { engine, folder: folder.clone(), inputs: parts, step: step.clone() };
                let run = |index| {
                    let work = work.clone();
                    async move { work.engine.attempt(|| work.clone().part(index)).await }
                };
                self.tasks(&folder, "part", count, run, read).await?
            }
        };
        self.end(&folder, summary, started)
    }

    async fn tokenize(
        &mut self,
        folder: Folder,
        config: super::TokenizeConfig,
        input: &StageSummary,
    ) -> Result<(Vec<ShardSummary>, Vec<BlendedSource>)> {
        let started = Instant::now();
        let old = self.finished(&folder)?;
        let work = Tokenizing {
            engine: self.engine.clone(),
            pipeline: Arc::clone(&self.pipeline),
            config: config.clone(),
            inputs: self.parts(input),
            folder: folder.clone(),
        };
        let count = input.parts.len();
        if old.is_none() {
            self.begin("tokenize", count, input.tally.kept.bytes);
        }
        let run = || {
            let work = work.clone();
            async move { work.engine.attempt(|| work.clone().tokenizer()).await }
        };
        self.engine.once(&folder, "tokenizer-made", run).await?;
        let run = |index| {
            let work = work.clone();
            async move { work.engine.attempt(|| work.clone().tokens(index)).await }
        };
        let mean = input.tally.kept.bytes / count.max(1) as u64;
        let read = |part: &TokenPart| Count { documents: part.documents, bytes: mean };
        let (tokens, task_seconds) = self.tasks(&folder, "tokens", count, run, read).await?;
        if old.is_none() {
            let part = Part {
                tally: Tally { dropped: Default::default(), ..input.tally.clone() },
                ..Part::default()
            };
            let summary = StageSummary {
                name: "tokenize".into(),
                read: input.tally.kept,
                bytes_in: input.tally.kept.bytes,
                parts: vec![part],
                task_seconds,
                ..StageSummary::default()
            };
            self.end(&folder, summary, started)?;
        }
        let mut blend = work.blend(&tokens);
        let tokenized = folder;
        let settings = (&self.pipeline.blend, &blend, config.shard_tokens, self.pipeline.seed);
        let number = self.pipeline.steps.len() + 3;
        let folder = self.folder(number, "shards", &tokenized.key, &settings)?;
        let output = folder.file("shards");
        storage::create_folder(&output)?;
        let shards = Arc::new(work.shards(&tokens, &blend));
        let passes = Arc::new(blend.clone());
        let run = |index: usize| {
            let (work, shards) = (work.clone(), Arc::clone(&shards));
            let (output, blend) = (output.clone(), Arc::clone(&passes));
            async move {
                let shard = || work.clone().shard(output.clone(), shards[index], Arc::clone(&blend));
                work.engine.attempt(shard).await
            }
        };
        let started = Instant::now();
        self.begin("shards", shards.len(), input.tally.kept.bytes);
        let counted = |shard: &ShardSummary| Count { documents: shard.documents, bytes: shard.tokens };
        let (shards, task_seconds) = self.tasks(&folder, "shard", shards.len(), run, counted).await?;
        let all: u64 = shards
            .iter()
            .filter(|shard| shard.split == super::shards::Split::Train)
            .map(|shard| shard.tokens)
            .sum();
        for source in &mut blend {
            source.tokens = shards
                .iter()
                .filter(|shard| shard.split == super::shards::Split::Train)
                .filter_map(|shard| shard.sources.get(&source.name))
                .sum();
            source.reached = source.tokens as f64 / all.max(1) as f64;
        }
        let summary = StageSummary {
            name: "shards".into(),
            key: folder.key.clone(),
            folder: folder
                .path
                .strip_prefix(&self.out)
                .unwrap_or(&folder.path)
                .to_string_lossy()
                .into_owned(),
            read: input.tally.kept,
            tally: Tally { kept: input.tally.kept, ..Tally::default() },
            bytes_in: input.tally.kept.bytes,
            task_seconds,
            seconds: started.elapsed().as_secs_f64(),
            ..StageSummary::default()
        };
        self.old(summary, false)?;
        if self.engine.config.rank.index == 0 {
            work.publish(&output, &self.out.join("shards"))?;
        }
        Ok((shards, blend))
    }
}

/// Removes what a killed process left behind in a stage's folder, once all tasks are finished.
fn remove_leftovers(folder: &Path) -> Result<()> {
    for file in storage::list(folder)? {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tmp-")) {
            std::fs::remove_file(&file).map_err(|error| Error::io("remove", &file, error))?;
        }
    }
    Ok(())
}

/// Name and digest of a file that a step reads; of a folder (a checkpoint) those of its files.
fn digest_of(path: &Path) -> Result<(PathBuf, String)> {
    if !storage::exists(path) {
        let hint = "paths of steps are relative to the pipeline file".into();
        return Err(Error::NotFound { path: path.into(), hint });
    }
    if !storage::is_folder(path) {
        return Ok((path.into(), digest_file(path)?.0));
    }
    let mut files = storage::list(path)?;
    files.sort();
    let digests = files.iter().map(|file| Ok(digest_of(file)?.1)).collect::<Result<Vec<_>>>()?;
    Ok((path.into(), digests.join(" ")))
}
