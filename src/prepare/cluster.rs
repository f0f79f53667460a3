//! Running plans on a Ballista cluster: a session that sends plans to the scheduler, and the scheduler and
//! executors, which know Kiln's functions. All processes see the run's folder under the same path.

use super::{
    engine::{failed, options},
    functions,
};
use crate::error::{Error, Result, hint};
use ballista::prelude::SessionContextExt;
use ballista_core::{
    config::TaskSchedulingPolicy, extension::SessionConfigExt, registry::BallistaFunctionRegistry,
    utils::default_session_builder,
};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::{
    cluster::BallistaCluster, config::SchedulerConfig, scheduler_process::start_server,
};
use datafusion::{
    execution::{FunctionRegistry, SessionState, SessionStateBuilder},
    prelude::{SessionConfig, SessionContext},
};
use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

/// Maximum bytes of a message between processes.
const MESSAGE: usize = 256 << 20;

/// Seconds without a message after which an executor counts as lost.
const EXECUTOR_TIMEOUT: u64 = 20;

/// Rows of a batch.
const ROWS: usize = 256;

fn config(rows: usize) -> SessionConfig {
    let config = SessionConfig::new_with_ballista().with_ballista_grpc_client_max_message_size(MESSAGE);
    options(config, rows)
}

fn state(config: SessionConfig) -> datafusion::common::Result<SessionState> {
    let mut state = default_session_builder(config)?;
    for function in functions::all() {
        state.register_udf(Arc::new(function))?;
    }
    Ok(state)
}

/// Opens a session whose plans run on the scheduler at `address` (`df://HOST:PORT`).
pub(super) async fn session(address: &str, rows: usize) -> Result<SessionContext> {
    let state = SessionStateBuilder::new().with_default_features().with_config(config(rows)).build();
    let session = SessionContext::remote_with_state(address, state).await;
    let session = session.map_err(|error| Error::InvalidValue {
        key: "--cluster".into(),
        value: address.into(),
        message: error.to_string(),
        hint: Some(hint![
            "start one with ",
            hint::command("kiln data scheduler"),
            "; its address is `df://HOST:PORT`"
        ]),
    })?;
    functions::all().into_iter().for_each(|function| session.register_udf(function));
    Ok(session)
}

/// Serves as the scheduler at `address` until the process ends.
///
/// # Errors
/// [`Error::Preparation`] if the address cannot be bound.
pub async fn scheduler(address: SocketAddr) -> Result<()> {
    let host = address.ip().to_string();
    let mut scheduler = SchedulerConfig::default()
        .with_hostname(host.clone())
        .with_port(address.port())
        .with_scheduler_policy(TaskSchedulingPolicy::PullStaged)
        .with_override_config_producer(Arc::new(|| config(ROWS)))
        .with_override_session_builder(Arc::new(state));
    scheduler.bind_host = host;
    scheduler.executor_timeout_seconds = EXECUTOR_TIMEOUT;
    scheduler.expire_dead_executor_interval_seconds = 1;
    scheduler.grpc_server_max_decoding_message_size = MESSAGE as u32;
    scheduler.grpc_server_max_encoding_message_size = MESSAGE as u32;
    let scheduler = Arc::new(scheduler);
    let cluster =
        BallistaCluster::new_from_config(&scheduler).await.map_err(failed("starting the scheduler"))?;
    start_server(cluster, address, scheduler).await.map_err(failed("serving as scheduler"))
}

/// Serves as an executor of the scheduler at `address` until the process ends.
///
/// # Errors
/// [`Error::Preparation`] if the scheduler cannot be reached.
pub async fn executor(
    address: SocketAddr,
    host: &str,
    workers: usize,
    memory_mb: usize,
    scratch: Option<PathBuf>,
) -> Result<()> {
    let state = state(config(ROWS)).map_err(failed("starting the executor"))?;
    let config = ExecutorProcessConfig {
        bind_host: host.into(),
        external_host: Some(host.into()),
        port: free_port(host)?,
        grpc_port: free_port(host)?,
        scheduler_host: address.ip().to_string(),
        scheduler_port: address.port(),
        scheduler_connect_timeout_seconds: 30,
        vcores: workers,
        task_scheduling_policy: TaskSchedulingPolicy::PullStaged,
        work_dir: scratch.map(|path| path.to_string_lossy().into_owned()),
        memory_pool_size: Some((memory_mb as u64) << 20),
        executor_heartbeat_interval_seconds: 5,
        job_data_clean_up_interval_seconds: 600,
        grpc_max_decoding_message_size: MESSAGE as u32,
        grpc_max_encoding_message_size: MESSAGE as u32,
        override_function_registry: Some(Arc::new(BallistaFunctionRegistry::from(&state))),
        override_config_producer: Some(Arc::new(|| config(ROWS))),
        ..ExecutorProcessConfig::default()
    };
    start_executor_process(Arc::new(config)).await.map_err(failed("serving as executor"))
}

/// Finds a port that is free at the moment.
fn free_port(host: &str) -> Result<u16> {
    let listener = TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|error| Error::preparation("finding a port", error.to_string()))
}
