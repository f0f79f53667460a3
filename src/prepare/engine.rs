//! Runs tasks: in this process, as one of several ranks that share a folder, or on a Ballista cluster.

use super::{
    functions,
    memory_pool::{FAN_IN, LenientPool},
    parts::REPEATED,
    work::{Folder, unfinished},
    workspace::Workspace,
};
use crate::error::{Error, Result, hint};
use datafusion::{
    common::config::{ParquetColumnOptions, TableParquetOptions},
    dataframe::{DataFrame, DataFrameWriteOptions},
    execution::{
        cache::cache_manager::CacheManagerConfig,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        runtime_env::RuntimeEnvBuilder,
    },
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Rows of a batch: of documents, which may be large, and of keys, which are small.
const DOCUMENTS: usize = 256;
const KEYS: usize = 8192;

/// Rows of a row group, which is the least that a reader loads.
const ROW_GROUP: usize = 4096;

/// Minimum memory for sorting, in MB.
const LEAST_MEMORY: usize = 64;

/// Maximum number of tasks at a time, each with a thread; more of them make no machine faster.
const MOST_WORKERS: usize = 1024;

/// Time without a newly finished task of another rank after which the user is told.
const PATIENCE: Duration = Duration::from_secs(60);

/// Maximum attempts at a task on a cluster, where executors come and go.
const ATTEMPTS: usize = 5;

/// Index of this process, and the number of processes that work on the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    pub index: usize,
    pub count: usize,
}

impl Default for Rank {
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

/// Configuration of how a pipeline is run, which does not change its output.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Number of tasks that run at the same time.
    pub workers: usize,
    /// Memory, in MB, that the sorting and joining of all tasks together may hold before data goes to files.
    pub memory_mb: usize,
    pub rank: Rank,
    /// Address of a Ballista scheduler, `df://HOST:PORT`.
    pub cluster: Option<String>,
}

impl EngineConfig {
    /// Default memory, in MB, for this number of workers.
    pub fn memory_of(workers: usize) -> usize {
        workers.saturating_mul(32).max(LEAST_MEMORY)
    }

    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a rank that is not below the world size, and for too few or too many
    /// workers or MB.
    pub fn check(&self) -> Result<()> {
        if self.rank.index >= self.rank.count {
            let message = format!("must be below the world size, {}", self.rank.count);
            return Err(Error::invalid_value("--rank", self.rank.index, message));
        }
        if self.workers == 0 {
            return Err(Error::invalid_value("--workers", 0, "nobody would work"));
        }
        if self.workers > MOST_WORKERS {
            let message = format!("more than {MOST_WORKERS} tasks at a time are of no use");
            return Err(Error::invalid_value("--workers", self.workers, message));
        }
        if self.memory_mb < LEAST_MEMORY {
            let message = format!("is less than the {LEAST_MEMORY} that sorting needs");
            return Err(Error::invalid_value("--memory-mb", self.memory_mb, message));
        }
        if self.memory_mb > usize::MAX >> 20 {
            return Err(Error::invalid_value("--memory-mb", self.memory_mb, "no machine has as much"));
        }
        Ok(())
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        let workers = crate::platform::threads();
        Self { workers, memory_mb: Self::memory_of(workers), rank: Rank::default(), cluster: None }
    }
}

/// Runs plans: in this process or on a cluster.
#[derive(Clone)]
pub struct Engine {
    documents: SessionContext,
    keys: SessionContext,
    pub(super) config: EngineConfig,
    pub(super) workspace: Workspace,
}

impl Engine {
    /// Opens an engine. Data that does not fit in memory goes to `work/scratch` of the workspace.
    ///
    /// # Errors
    /// Errors of [`EngineConfig::check`]; [`Error::InvalidValue`] if the cluster cannot be reached, if this
    /// build supports none, or if the workspace is in an object store.
    pub async fn new(config: EngineConfig, workspace: Workspace) -> Result<Self> {
        config.check()?;
        let scratch = workspace.folder().join("work").join("scratch");
        crate::platform::storage::create_folder(&scratch)?;
        if let Some(address) = &config.cluster {
            if workspace.is_mirror() {
                let message = "executors need a folder that all of them see, not an object store";
                return Err(Error::invalid_value("--cluster", address, message));
            }
            let documents = remote(address, DOCUMENTS).await?;
            let keys = remote(address, KEYS).await?;
            return Ok(Self { documents, keys, config, workspace });
        }
        let runtime = RuntimeEnvBuilder::new()
            // Every file is read once or twice: what is remembered of it would only take memory.
            .with_cache_manager(
                CacheManagerConfig::default()
                    .with_metadata_cache_limit(0)
                    .with_list_files_cache_limit(0)
                    .with_file_statistics_cache_limit(0),
            )
            .with_memory_pool(Arc::new(LenientPool::new(config.memory_mb << 20, config.workers)))
            .with_disk_manager_builder(
                DiskManagerBuilder::default()
                    .with_mode(DiskManagerMode::Directories(vec![scratch]))
                    .with_max_temp_directory_size(u64::MAX >> 1)
                    .with_max_spill_merge_fan_in(FAN_IN),
            )
            .build_arc()
            .map_err(failed("starting"))?;
        let session = |rows| {
            let session =
                SessionContext::new_with_config_rt(options(SessionConfig::new(), rows), Arc::clone(&runtime));
            functions::all().into_iter().for_each(|function| session.register_udf(function));
            session
        };
        Ok(Self { documents: session(DOCUMENTS), keys: session(KEYS), config, workspace })
    }

    /// Reads Parquet files of documents, in the order of `files`.
    pub(super) async fn documents(&self, files: &[PathBuf]) -> Result<DataFrame> {
        self.workspace.have(files).await?;
        read(&self.documents, files).await
    }

    /// Reads Parquet files with small rows, in larger batches than [`documents`](Self::documents).
    pub(super) async fn keys(&self, files: &[PathBuf]) -> Result<DataFrame> {
        self.workspace.have(files).await?;
        read(&self.keys, files).await
    }

    /// Reads one Parquet file in this process, even if plans run on a cluster.
    pub(super) async fn read_here(&self, path: &Path) -> Result<DataFrame> {
        read(&SessionContext::new_with_config(options(SessionConfig::new(), DOCUMENTS)), &[path.into()]).await
    }

    pub(super) fn session(&self) -> &SessionContext {
        &self.documents
    }

    /// Runs a plan and writes its rows, in order, to one file, which appears only when it is complete.
    pub(super) async fn write(&self, frame: DataFrame, path: &Path) -> Result<()> {
        self.write_in_groups(frame, path, ROW_GROUP).await
    }

    /// As [`write`](Self::write), with row groups of `rows` rows.
    pub(super) async fn write_in_groups(&self, frame: DataFrame, path: &Path, rows: usize) -> Result<()> {
        let beside = unfinished(path);
        let mut parquet = TableParquetOptions::default();
        parquet.global.compression = Some("zstd(1)".into());
        parquet.global.max_row_group_size = rows;
        parquet.global.dictionary_enabled = Some(false);
        let with_dictionary = ParquetColumnOptions { dictionary_enabled: Some(true), ..Default::default() };
        for column in REPEATED {
            parquet.column_specific_options.insert(column.into(), with_dictionary.clone());
        }
        parquet.global.created_by = concat!("kiln ", env!("CARGO_PKG_VERSION")).into();
        let write = DataFrameWriteOptions::new().with_single_file_output(true);
        let result = frame.write_parquet(&beside.to_string_lossy(), write, Some(parquet)).await;
        result.map_err(failed("writing"))?;
        if !beside.exists() {
            // A plan without rows writes no file on some paths.
            return Err(Error::preparation("writing", format!("`{}` was not written", path.display())));
        }
        crate::platform::storage::rename(&beside, path)
    }

    /// Runs those of `count` tasks that are not finished, writes a marker `NAME-00000.json` for each into the
    /// stage's folder, and returns the results of all tasks. With several ranks, each runs the tasks whose
    /// index modulo the number of ranks is its own and waits for the others. `done` is called for each
    /// finished task, also for those finished in an earlier run.
    pub(super) async fn tasks<T, F>(
        &self,
        folder: &Folder,
        name: &str,
        count: usize,
        run: impl Fn(usize) -> F,
        mut done: impl FnMut(&T),
    ) -> Result<Vec<T>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let Rank { index: rank, count: ranks } = self.config.rank;
        let markers: Vec<String> = (0..count).map(|index| format!("{name}-{index:05}")).collect();
        let mut results: Vec<Option<T>> = self.workspace.all_marked(folder, &markers).await?;
        results.iter().flatten().for_each(&mut done);
        let unfinished = (0..count).filter(|&index| results[index].is_none());
        let (mut own, mut others): (Vec<usize>, Vec<usize>) =
            unfinished.partition(|index| index % ranks == rank);
        own.reverse();
        let mut running = JoinSet::new();
        loop {
            while running.len() < self.config.workers
                && let Some(index) = own.pop()
            {
                let work = run(index);
                running.spawn(async move { (index, work.await) });
            }
            let Some(joined) = running.join_next().await else { break };
            let (index, result) = joined.map_err(failed("running a task"))?;
            let result = result?;
            self.workspace.mark(folder, &markers[index], &result).await?;
            done(&result);
            results[index] = Some(result);
        }
        let mut news = Instant::now();
        while !others.is_empty() {
            let names: Vec<String> = others.iter().map(|&index| markers[index].clone()).collect();
            let found = self.workspace.all_marked(folder, &names).await?;
            let before = others.len();
            others = (others.into_iter().zip(found))
                .filter_map(|(index, found)| {
                    let Some(found) = found else { return Some(index) };
                    done(&found);
                    results[index] = Some(found);
                    None
                })
                .collect();
            if others.len() < before {
                news = Instant::now();
            } else if news.elapsed() > PATIENCE {
                let waited: BTreeSet<usize> = others.iter().map(|index| index % ranks).collect();
                tracing::warn!(
                    "`{}` waits for ranks {waited:?}: all need the same pipeline, inputs and --world-size",
                    folder.name
                );
                news = Instant::now();
            }
            if !others.is_empty() {
                tokio::time::sleep(self.workspace.poll()).await;
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Runs a task; on a cluster, where an executor may be lost, a failed task is tried again.
    pub(super) async fn attempt<T, F: Future<Output = Result<T>>>(&self, run: impl Fn() -> F) -> Result<T> {
        let mut attempts = if self.config.cluster.is_some() { ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match run().await {
                Err(error) if attempts > 0 => {
                    tracing::warn!("{error}; trying again");
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                result => return result,
            }
        }
    }
}

/// Settings that plans depend on, the same for all engines.
pub(super) fn options(config: SessionConfig, rows: usize) -> SessionConfig {
    let mut config = config.with_target_partitions(1).with_batch_size(rows).with_information_schema(false);
    let options = config.options_mut();
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // Sorting keeps so much aside for merging; the default is meant for machines with much more memory.
    options.execution.sort_spill_reservation_bytes = 4 << 20;
    options.execution.collect_statistics = false;
    config
}

/// Reads files that all have the columns of the first; the others are opened one after another, when they are
/// read.
async fn read(session: &SessionContext, files: &[PathBuf]) -> Result<DataFrame> {
    let files: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let first = files.first().cloned().unwrap_or_default();
    let frame =
        session.read_parquet(first, ParquetReadOptions::default()).await.map_err(failed("reading"))?;
    if files.len() < 2 {
        return Ok(frame);
    }
    let schema = frame.schema().as_arrow().clone();
    let options = ParquetReadOptions::default().schema(&schema);
    session.read_parquet(files, options).await.map_err(failed("reading"))
}

#[cfg(feature = "cluster")]
async fn remote(address: &str, rows: usize) -> Result<SessionContext> {
    super::cluster::session(address, rows).await
}

#[cfg(not(feature = "cluster"))]
async fn remote(address: &str, _rows: usize) -> Result<SessionContext> {
    Err(Error::InvalidValue {
        key: "--cluster".into(),
        value: address.into(),
        message: "this build knows no clusters".into(),
        hint: Some(hint!["build it with ", hint::command("--features cluster")]),
    })
}

/// Turns an error of a library into [`Error::Preparation`]; the message and hint of an [`Error`] that passed
/// through the library are kept.
pub(super) fn failed<E: std::error::Error + 'static>(action: &'static str) -> impl Fn(E) -> Error {
    move |error| {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = source {
            if let Some(known) = inner.downcast_ref::<Error>() {
                return Error::Preparation {
                    action: action.into(),
                    message: known.to_string(),
                    hint: known.hint(),
                };
            }
            source = inner.source();
        }
        let message = error.to_string().replace('\n', " ");
        let is_full = message.contains("os error 28") || message.contains("No space left");
        let is_short = message.contains("Resources exhausted");
        let hint = match (is_full, is_short) {
            (true, _) => Some("free some space and run again: what is finished is kept".into()),
            (_, true) => Some(hint![
                "give sorting more with ",
                hint::command("--memory-mb"),
                ", or use fewer ",
                hint::command("--workers")
            ]),
            _ => None,
        };
        Error::Preparation { action: action.into(), message, hint }
    }
}
