//! Tests of `kiln data` on a cluster whose executor is killed in the middle of a task.

use crate::{
    data::{PIPELINE, run, shards, workplace},
    support::{kiln, ok, words},
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{TcpListener, TcpStream},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A process that ends with the test, and its log.
struct Running {
    process: Child,
    log: PathBuf,
}

impl Running {
    fn start(mut command: Command, log: PathBuf) -> Self {
        command.env("RUST_LOG", "error,ballista_executor=info").stdout(Stdio::null());
        let process = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        Self { process, log }
    }

    fn executor(scheduler: &str, log: PathBuf) -> Self {
        Self::start(kiln(words(&format!("data executor --scheduler {scheduler} --workers 1"))), log)
    }

    /// Tasks that it has begun, as `JOB/STAGE`, and those of them that it has not finished.
    fn tasks(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let log = fs::read_to_string(&self.log).unwrap();
        let named = |what: &str| -> BTreeSet<&str> {
            // `Received task: [TID JOB/STAGE.ATTEMPT/TASK.ATTEMPT]`
            let rest = log.lines().filter_map(|line| line.split_once(what)).map(|(_, rest)| rest);
            rest.filter_map(|rest| rest.split_once("[TID ")?.1.split_once(']').map(|(name, _)| name))
                .collect()
        };
        let stage = |name: &str| name.split_once('.').unwrap().0.to_owned();
        let (begun, finished) = (named("Received task"), named("Finished task"));
        (
            begun.iter().copied().map(stage).collect(),
            begun.difference(&finished).copied().map(stage).collect(),
        )
    }

    fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait() {
    thread::sleep(Duration::from_millis(1));
}

/// Kills the only executor while it works on a task, and returns that task. If the task was finished just
/// before, the kill proves nothing, and another executor is killed.
fn kill_at_work(scheduler: &str, folder: &Path, run: &mut Running) -> String {
    for attempt in 0..20 {
        let mut executor = Running::executor(scheduler, folder.join(format!("killed-{attempt}.log")));
        // Not its first: what it has made is lost with it as well.
        while executor.tasks().0.len() < 3 || executor.tasks().1.is_empty() {
            assert!(executor.is_running(), "the executor ended by itself");
            assert!(run.is_running(), "the run ended before an executor was killed");
            wait();
        }
        executor.process.kill().unwrap();
        assert_eq!(executor.process.wait().unwrap().signal(), Some(9));
        if let Some(task) = executor.tasks().1.pop_first() {
            return task;
        }
    }
    panic!("no executor was killed while it had a task");
}

#[test]
fn a_cluster_whose_executor_dies_at_work_gives_the_same_bytes() {
    let folder = workplace(PIPELINE, 1500);
    let path = folder.path();
    ok(&mut run(path, "here", ""));
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let scheduler = kiln(words(&format!("data scheduler --listen {address}")));
    let mut scheduler = Running::start(scheduler, path.join("scheduler.log"));
    while TcpStream::connect(&address).is_err() {
        assert!(scheduler.is_running());
        wait();
    }
    let cluster = run(path, "cluster", &format!("--cluster df://{address}"));
    let mut running = Running::start(cluster, path.join("run.log"));
    let task = kill_at_work(&address, path, &mut running);

    // The run is in its midst, and nobody is left to work for it.
    assert!(running.is_running());
    assert!(!path.join("cluster/manifest.json").exists());
    let others = ["b", "c"].map(|name| Running::executor(&address, path.join(format!("{name}.log"))));
    let ended = running.process.wait().unwrap();
    assert!(ended.success(), "{}", fs::read_to_string(&running.log).unwrap());
    let taken_over = others.iter().flat_map(|other| other.tasks().0).collect::<BTreeSet<_>>();
    assert!(taken_over.contains(&task), "`{task}` is not among {taken_over:?}");
    assert!(shards(path, "cluster") == shards(path, "here"));
}
