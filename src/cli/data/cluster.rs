//! `kiln data scheduler` and `kiln data executor`: run the processes of a Ballista cluster.

use super::runtime;
use crate::{
    platform,
    prepare::{EngineConfig, cluster},
};
use std::{net::SocketAddr, path::PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct SchedulerArguments {
    /// Where to listen; executors and `kiln data run --cluster df://HOST:PORT` come here
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50050")]
    listen: SocketAddr,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExecutorArguments {
    /// The scheduler's address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50050")]
    scheduler: SocketAddr,
    /// This machine's address, as the others reach it
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: String,
    /// Tasks at a time; default: the processor's threads
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// MB that sorting may hold before it goes on in files
    #[arg(long, value_name = "MB", default_value_t = 512)]
    memory_mb: usize,
    /// Folder for what passes between stages; default: one that is removed at the end
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

pub(super) fn scheduler(arguments: &SchedulerArguments) -> anyhow::Result<()> {
    eprintln!("scheduler at df://{}", arguments.listen);
    Ok(runtime(platform::threads()).build()?.block_on(cluster::scheduler(arguments.listen))?)
}

pub(super) fn executor(arguments: &ExecutorArguments) -> anyhow::Result<()> {
    let workers = arguments.workers.unwrap_or_else(platform::threads);
    EngineConfig { workers, memory_mb: arguments.memory_mb, ..EngineConfig::default() }.check()?;
    eprintln!("executor of df://{}, {workers} tasks at a time", arguments.scheduler);
    let (host, scratch) = (arguments.host.as_str(), arguments.scratch.clone());
    let executor = cluster::executor(arguments.scheduler, host, workers, arguments.memory_mb, scratch);
    Ok(runtime(workers).build()?.block_on(executor)?)
}
