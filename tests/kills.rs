//! Every stage of post-training goes on after kills as if nothing had happened: while it trains, in the middle of a
//! rollout, and between the files of a checkpoint. On the CPU the last checkpoint then has the very bytes of the run
//! that nobody killed, in all of its files: model or adapter, moving average, optimizer, objective (rollout, value
//! model and coefficient of the divergence), trainer, configuration, tokenizer, and the manifest with their checksums.
//! So has the log, but for times: metrics of steps and evaluations, and sampled texts with their rewards.

use crate::{
    chat, preference, rollouts,
    support::{debug_train, folder, kiln, ok, words},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// Last step, and one whose checkpoint is in the middle.
const LAST: u64 = 26;
const MIDDLE: u64 = 12;

/// Kills while a run trains.
const KILLS: u64 = 2;

const RUN: &str = "--set train.max_steps=26 --set train.save_interval=3 --set train.eval_batches=1 \
                   --set train.sample_interval=4 --set train.keep_checkpoints=50 --set train.ema_decay=0.9 \
                   --set train.warmup_steps=0 --set sample.max_new_tokens=4";

/// A command among the rewards that waits for as long as a file exists, and then scores answers.
struct Hold {
    file: PathBuf,
    /// File that exists once the command has begun to wait.
    begun: PathBuf,
}

impl Hold {
    fn new(folder: &TempDir) -> Self {
        Self { file: folder.path().join("hold"), begun: folder.path().join("begun") }
    }

    /// Table of `rollout.rewards`.
    fn reward(&self) -> String {
        let (file, begun) = (self.file.display(), self.begun.display());
        format!(
            "{{kind='command',weight=0.1,command='while [ -e {file} ]; do : > {begun}; sleep 0.02; done; \
             while read -r line; do echo $(( ${{#line}} % 5 )); done'}}"
        )
    }
}

/// Trains once to the end and once with kills at random moments and in the middle of writing a checkpoint, then
/// compares both. With a `hold`, another kill is in the middle of a rollout. Returns the run without kills.
fn compare_with_killed(
    folder: &TempDir,
    name: &str,
    seed: u64,
    hold: Option<&Hold>,
    start: impl Fn(&Path) -> Command,
) -> PathBuf {
    let out = |kind: &str| folder.path().join(format!("{name}-{kind}"));
    let (whole, killed) = (out("whole"), out("killed"));
    ok(&mut start(&whole));
    let mut random = seed;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };

    for kill in 0..KILLS {
        let target = (last_logged(&killed) + 1 + below(7)).min(LAST);
        let mut process = spawn(&mut going_on(&killed, &start));
        wait(&mut process, || last_logged(&killed) >= target);
        thread::sleep(Duration::from_micros(below(5_000)));
        end(process);
        if let Some(hold) = hold.filter(|_| kill + 1 == KILLS) {
            fs::write(&hold.file, "").unwrap();
            let mut process = spawn(&mut going_on(&killed, &start));
            wait(&mut process, || hold.begun.exists());
            end(process);
            fs::remove_file(&hold.file).unwrap();
            assert!(hold.begun.exists(), "{name}: there was no rollout");
        }
    }

    // The system kills who writes more than a part of the largest file.
    let last = |run: &Path| checkpoint(run, LAST);
    let largest = files(&last(&whole)).values().map(Vec::len).max().unwrap();
    let status = limited(&going_on(&killed, &start), largest / 3).status().unwrap();
    assert!(status.signal().is_some(), "{name}: {status}");
    let entries = fs::read_dir(killed.join("checkpoints")).unwrap();
    let mut unfinished = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".tmp")));
    let unfinished = unfinished.next().expect("a checkpoint that is not complete");
    assert!(!unfinished.join("manifest.json").exists());

    ok(&mut going_on(&killed, &start));
    assert!(!unfinished.exists());
    let (expected, found) = (files(&last(&whole)), files(&last(&killed)));
    assert!(found.keys().eq(expected.keys()), "{name}: {:?}, {:?}", found.keys(), expected.keys());
    for (file, bytes) in &expected {
        assert!(found[file] == *bytes, "{name}: {file} differs");
    }
    let (expected, found) = (log(&whole), log(&killed));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(found.len(), expected.len(), "{name}");
    whole
}

fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(format!("checkpoints/step-{step:06}"))
}

/// The command by which a run begins, or by which it goes on from its newest checkpoint. A run that was too fast to be
/// killed goes on from the middle.
fn going_on(run: &Path, start: impl Fn(&Path) -> Command) -> Command {
    let is_complete = |step: &u64| checkpoint(run, *step).join("manifest.json").exists();
    let from = match (0..=LAST).rev().find(is_complete) {
        None => return start(run),
        Some(LAST) => checkpoint(run, MIDDLE),
        Some(_) => run.to_path_buf(),
    };
    let mut command = kiln(words("train --device cpu --resume"));
    command.arg(from);
    command
}

/// The command with files limited to a size in bytes.
fn limited(command: &Command, bytes: usize) -> Command {
    let mut limited = Command::new("sh");
    let script = format!("ulimit -c 0; ulimit -f {}; exec \"$@\"", bytes / 512);
    limited.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    limited.stdout(Stdio::null()).stderr(Stdio::null());
    limited
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until something has happened, or the process has ended.
fn wait(process: &mut Child, has_happened: impl Fn() -> bool) {
    while !has_happened() && process.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Kills a process, unless it has ended, as one that has done all its work.
fn end(mut process: Child) {
    process.kill().unwrap();
    let status = process.wait().unwrap();
    assert!(status.success() || status.signal() == Some(9), "{status}");
}

/// Events of a run's log.
fn events(run: &Path) -> Vec<Value> {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap_or_default();
    // The last line may be incomplete.
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Last step whose metrics are in the log.
fn last_logged(run: &Path) -> u64 {
    let steps = events(run).into_iter().filter(|event| event["type"] == "step");
    steps.filter_map(|event| event["step"].as_u64()).max().unwrap_or(0)
}

/// What the log says of the model, without times.
fn log(run: &Path) -> Vec<Value> {
    const KINDS: [&str; 5] = ["step", "evaluation", "overfitting", "sample", "skipped"];
    let is_of_model = |event: &Value| KINDS.iter().any(|kind| event["type"] == *kind);
    let mut events: Vec<Value> = events(run).into_iter().filter(is_of_model).collect();
    for event in &mut events {
        let fields = event.as_object_mut().unwrap();
        for time in ["time", "seconds", "tokens_per_second", "mfu"] {
            fields.remove(time);
        }
    }
    events
}

/// Names and contents of a checkpoint's files.
fn files(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = fs::read_dir(checkpoint).unwrap().map(|entry| entry.unwrap().path());
    let file =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
    paths.map(file).collect()
}

#[test]
fn packed_dialogues_and_an_adapter_go_on_after_kills_to_the_same_bytes() {
    let folder = folder();
    let data = chat::dialogues(&folder);
    let packed = format!("{RUN} --set data.packing=true --set train.eval_interval=7");
    let whole = compare_with_killed(&folder, "sft", 1, None, |run| {
        let more = "--set model.block_size=128 --set model.dropout=0.1 --set objective.neftune_alpha=5";
        chat::train(run, &data, &format!("{packed} {more}"))
    });
    let adapted = compare_with_killed(&folder, "lora", 2, None, |run| {
        let adapter = "--set objective.kind=sft --set data.order=shuffled --set train.learning_rate=1e-2 \
                       --set adapter.kind=lora --set adapter.r=16 --set adapter.dropout=0.2";
        let mut command = debug_train(run, &format!("{packed} {adapter}"));
        command.arg("--init-from").arg(&whole).arg("--data").arg(&data);
        command
    });
    assert!(checkpoint(&adapted, LAST).join("adapter_model.safetensors").is_file());
}

#[test]
fn dpo_goes_on_after_kills_to_the_same_bytes() {
    let folder = folder();
    let (base, pairs) = (preference::base(&folder), preference::pairs(&folder));
    let settings = format!("{RUN} --set objective.kind=dpo --set train.eval_interval=7");
    compare_with_killed(&folder, "dpo", 3, None, |run| {
        let more = "--set train.learning_rate=1e-3 --set model.dropout=0.1";
        preference::from(&base, run, &pairs, &format!("{settings} {more}"))
    });
    // The reference is the model without its adapter.
    compare_with_killed(&folder, "dpo-lora", 4, None, |run| {
        let more = "--set train.learning_rate=1e-2 --set adapter.kind=lora --set adapter.r=16 \
                    --set preference.cache_reference=false";
        preference::from(&base, run, &pairs, &format!("{settings} {more}"))
    });
}

/// Settings of four steps on each rollout. Evaluations are so rare that a rollout is the next to be held.
fn rollouts_of(base: &Path, kind: &str, more: &str) -> String {
    let all = "--set train.eval_interval=13 --set rollout.minibatches=2 --set rollout.epochs=2 \
               --set rollout.samples=4";
    rollouts::settings(base, kind, &format!("{RUN} {all} {more}"))
}

/// trl#2657: PPO did not go on at all.
#[test]
fn ppo_goes_on_after_kills_in_the_middle_of_a_rollout_to_the_same_bytes_trl_2657() {
    let folder = folder();
    let base = rollouts::base(&folder);
    let reward = rollouts::reward_model(&folder, &base);
    let hold = Hold::new(&folder);
    let rewards = format!(
        "rollout.rewards=[{{kind='model',weight=0.5,path='{}'}},{{kind='exact'}},{}]",
        reward.display(),
        hold.reward()
    );
    // With a value model from the reward model, and a coefficient that follows the divergence.
    let more = "--set ppo.kl_target=0.1 --set ppo.kl_horizon=50 --set ppo.entropy_coefficient=0.01";
    let settings = rollouts_of(&base, "ppo", more);
    let whole = compare_with_killed(&folder, "ppo", 5, Some(&hold), |run| {
        let mut command = debug_train(run, &settings);
        command.args(["--set", &rewards]);
        command
    });
    let coefficients = log(&whole).into_iter().filter(|event| event["type"] == "step");
    let mut coefficients = coefficients.map(|step| step["metrics"]["kl_coefficient"].to_string());
    let first = coefficients.next();
    assert!(coefficients.any(|other| Some(other) != first));
}

/// A value model beside an adapter is no part of the moving average.
#[test]
fn ppo_of_an_adapter_goes_on_after_kills_to_the_same_bytes() {
    let folder = folder();
    let base = rollouts::base(&folder);
    let more = "--set adapter.kind=lora --set adapter.r=16";
    let settings = rollouts_of(&base, "ppo", more);
    compare_with_killed(&folder, "ppo-lora", 7, None, |run| debug_train(run, &settings));
}

#[test]
fn grpo_goes_on_after_kills_in_the_middle_of_a_rollout_to_the_same_bytes() {
    let folder = folder();
    let base = rollouts::base(&folder);
    let hold = Hold::new(&folder);
    let rewards = format!("rollout.rewards=[{{kind='exact'}},{}]", hold.reward());
    let settings = rollouts_of(&base, "grpo", "--set grpo.kl_coefficient=0.04");
    let whole = compare_with_killed(&folder, "grpo", 6, Some(&hold), |run| {
        let mut command = debug_train(run, &settings);
        command.args(["--set", &rewards]);
        command
    });
    let is_answer = |event: &Value| event["type"] == "sample" && event["reward"].is_number();
    assert_eq!(log(&whole).into_iter().filter(is_answer).count(), 7 * 4);
}
