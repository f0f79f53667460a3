//! `kiln data`: runs a pipeline, explains it, inspects its output, trains its filters, serves a cluster.

mod bars;
mod card;
#[cfg(feature = "cluster")]
mod cluster;
mod documents;
mod figures;
mod files;
mod filter;
mod inspect;
mod report;
mod samples;

use super::table::grouped;
use crate::{
    memory, platform,
    prepare::{EngineConfig, Pipeline, Rank, Run, Workspace, rules::statistics::STATISTICS},
};
use files::Files;
use std::{path::PathBuf, time::Duration};

/// Documents of each stage and reason that the report shows.
const SAMPLES: usize = 5;

#[derive(Debug, clap::Args)]
pub struct DataArguments {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, clap::Subcommand)]
enum DataCommand {
    /// Run a pipeline: from raw files to token shards
    Run(RunArguments),
    /// Show the stages of a pipeline, their plans, and what of them is finished
    Explain(RunArguments),
    /// Show counts of a run, examples of its documents, or the trace of one document
    Inspect(inspect::InspectArguments),
    /// Train a quality classifier of good and bad samples, or a model of characters
    TrainFilter(filter::FilterArguments),
    /// List the statistics that `expression` steps may name
    Statistics,
    /// Serve as the scheduler of a cluster
    #[cfg(feature = "cluster")]
    Scheduler(cluster::SchedulerArguments),
    /// Serve as an executor of a cluster
    #[cfg(feature = "cluster")]
    Executor(cluster::ExecutorArguments),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// The pipeline file (TOML)
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,
    /// Folder for everything that is made, also `s3://`, `gs://` or `az://`; what is finished there is not done again
    #[arg(long, value_name = "DIR|URL", default_value = "prepared")]
    out: String,
    /// Folder for what this process reads and writes of an object store; default: one for temporary files
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Change a setting: `--set seed=7`, `--set step.3.min_words=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Tasks at a time; default: the processor's threads
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// MB that sorting may hold before it goes on in files; default: 32 for each worker
    #[arg(long, value_name = "MB")]
    memory_mb: Option<usize>,
    /// Run the plans on the Ballista cluster of this scheduler
    #[arg(long, value_name = "df://HOST:PORT", conflicts_with = "rank")]
    cluster: Option<String>,
    /// Which of several processes over one shared folder or object store this is, from 0
    #[arg(long, value_name = "I", requires = "world_size")]
    rank: Option<usize>,
    /// Number of processes
    #[arg(long, value_name = "N", requires = "rank")]
    world_size: Option<usize>,
    /// Remove what earlier settings left in the folder, once all is finished
    #[arg(long)]
    prune: bool,
    /// No progress bars
    #[arg(long)]
    quiet: bool,
}

impl RunArguments {
    fn workspace(&self) -> anyhow::Result<Workspace> {
        Ok(Workspace::open(&self.out, self.cache.as_deref(), self.rank.unwrap_or(0))?)
    }

    fn engine(&self) -> anyhow::Result<EngineConfig> {
        let workers = self.workers.unwrap_or_else(platform::threads);
        let config = EngineConfig {
            workers,
            memory_mb: self.memory_mb.unwrap_or(EngineConfig::memory_of(workers)),
            rank: Rank { index: self.rank.unwrap_or(0), count: self.world_size.unwrap_or(1) },
            cluster: self.cluster.clone(),
        };
        config.check()?;
        Ok(config)
    }
}

pub(super) fn run(arguments: DataArguments) -> anyhow::Result<()> {
    match arguments.command {
        DataCommand::Run(arguments) => prepare(&arguments),
        DataCommand::Explain(arguments) => explain(&arguments),
        DataCommand::Inspect(arguments) => inspect::run(&arguments),
        DataCommand::TrainFilter(arguments) => filter::run(&arguments),
        DataCommand::Statistics => {
            for statistic in STATISTICS {
                println!("{:<28} {}", statistic.name, statistic.meaning);
            }
            Ok(())
        }
        #[cfg(feature = "cluster")]
        DataCommand::Scheduler(arguments) => cluster::scheduler(&arguments),
        #[cfg(feature = "cluster")]
        DataCommand::Executor(arguments) => cluster::executor(&arguments),
    }
}

fn prepare(arguments: &RunArguments) -> anyhow::Result<()> {
    let pipeline = Pipeline::load(&arguments.pipeline, &arguments.overrides)?;
    let mut bars = bars::Bars::new(arguments.quiet);
    let engine = arguments.engine()?;
    // Reading of files only, in short pieces: more threads than these would wait for the disk, each with its memory.
    let runtime = runtime(engine.workers).max_blocking_threads(2 * engine.workers).build()?;
    let workspace = arguments.workspace()?;
    let is_mirror = workspace.is_mirror();
    let files = Files::new(workspace.clone())?;
    let manifest = runtime.block_on(async {
        let run = Run::new(pipeline, workspace, engine, |event| bars.show(event)).await?;
        run.execute().await
    })?;
    // Ranks share the folder: one of them writes.
    if arguments.rank.unwrap_or(0) == 0 {
        let samples = samples::collect(&files, &manifest, SAMPLES)?;
        report::write(&files, &manifest, &samples)?;
        card::write(&files, &manifest)?;
        if arguments.prune {
            files.prune(&manifest)?;
        }
        println!("report: {}", files.address(report::FILE_NAME));
    }
    if manifest.stages.last().is_some_and(|stage| stage.counts.kept.documents == 0) {
        let address = files.address("");
        let address = address.trim_end_matches('/');
        super::show_notes(&[format!("no document was kept: `kiln data inspect {address}` shows why")]);
    }
    let tokens: u64 = manifest.shards.iter().map(|shard| shard.tokens).sum();
    if !manifest.shards.is_empty() {
        let shards = files.address("shards");
        println!("{} tokens in {} shards: {shards}", grouped(tokens), manifest.shards.len());
        match is_mirror {
            true => println!("copy them to where they are trained on, then: kiln train --data SHARDS"),
            false => println!("train on them: kiln train --data {shards}"),
        }
    }
    Ok(())
}

fn explain(arguments: &RunArguments) -> anyhow::Result<()> {
    let pipeline = Pipeline::load(&arguments.pipeline, &arguments.overrides)?;
    let engine = arguments.engine()?;
    let text = runtime(engine.workers).build()?.block_on(async {
        let run = Run::new(pipeline, arguments.workspace()?, engine, |_| {}).await?;
        Ok::<_, anyhow::Error>(run.explain().await?)
    })?;
    print!("{text}");
    Ok(())
}

/// Builds the threads that plans run on. Documents vary much in size: after some hours, the memory that each
/// thread keeps for its next document would add up to twice the memory needed, so idle threads give it back.
fn runtime(workers: usize) -> tokio::runtime::Builder {
    memory::keep_nothing();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(workers + 1)
        .thread_stack_size(16 << 20)
        .on_thread_park(memory::collect)
        .thread_keep_alive(Duration::from_millis(100))
        .enable_all();
    builder
}
