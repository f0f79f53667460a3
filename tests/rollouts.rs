//! Reinforcement learning by the binary, on tiny models that answer the questions of a procedural task. Its numbers
//! are compared with PyTorch's in the fixtures of post-training.

use crate::support::{debug_train, fails, file, folder, kiln, ok, words};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};
use tempfile::TempDir;

const TASK: &str = "--set data.task=addition --set data.layout=documents";

/// A model that has read some sums.
pub fn base(folder: &TempDir) -> PathBuf {
    let run = folder.path().join("base");
    ok(&mut debug_train(&run, &format!("{TASK} --set train.learning_rate=3e-3")));
    run
}

/// Settings of a run of reinforcement learning from a model.
pub fn settings(base: &Path, kind: &str, more: &str) -> String {
    format!(
        "{TASK} --init-from {} --set objective.kind={kind} --set data.answer_after== --set rollout.max_new_tokens=5 \
         --set rollout.stop=[\"\\n\"] --set train.batch_size=8 --set grpo.group_size=4 --set train.eval_interval=0 \
         --set train.warmup_steps=0 --set train.learning_rate=1e-3 {more}",
        base.display()
    )
}

/// Events of one type in the log of a run.
fn events(run: &Path, kind: &str) -> Vec<Value> {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let all = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["type"] == kind).collect()
}

fn assert_same(a: &Path, b: &Path) {
    for name in ["model.safetensors", "optimizer.safetensors", "objective.safetensors", "trainer.json"] {
        assert!(fs::read(a.join(name)).unwrap() == fs::read(b.join(name)).unwrap(), "{name} differs");
    }
}

#[test]
fn grpo_and_ppo_learn_from_rules_without_any_file() {
    let folder = folder();
    let base = base(&folder);
    for (kind, more) in [
        ("grpo", "--set grpo.kl_coefficient=0.04"),
        ("rloo", "--set grpo.kl_coefficient=0.04"),
        ("ppo", ""),
        ("ppo", "--set ppo.value=shared --set ppo.entropy_coefficient=0.01 --set ppo.kl=k3"),
        ("grpo", "--set grpo.loss=cispo --set grpo.ratio=sequence --set rollout.temperature=0.7"),
    ] {
        let run = folder.path().join(format!("{kind}-{}", more.len()));
        ok(&mut debug_train(&run, &settings(&base, kind, more)));
        let steps = events(&run, "step");
        assert_eq!(steps.len(), 20);
        let metrics = steps[19]["metrics"].as_object().unwrap();
        for name in
            ["reward", "reward/exact", "entropy", "answer_length", "ended", "clip_fraction", "approx_kl"]
        {
            assert!(metrics[name].is_number(), "{kind} {name}: {metrics:?}");
        }
        assert_eq!(metrics.contains_key("explained_variance"), kind == "ppo");
        assert_eq!(metrics.contains_key("kl"), !more.contains("cispo"), "{more}");
        // Another run goes on from the trained policy.
        ok(kiln(["generate", "--device", "cpu"]).arg(&run).args(["--prompt", "12+34="]));
    }
}

#[test]
fn reinforcement_learning_goes_on_after_a_kill_to_the_same_bytes() {
    let folder = folder();
    let base = base(&folder);
    for (kind, more) in [
        ("ppo", "--set rollout.minibatches=2 --set rollout.epochs=2"),
        ("grpo", "--set rollout.epochs=3 --set grpo.kl_coefficient=0.04"),
    ] {
        let out = |name: &str| folder.path().join(format!("{kind}-{name}"));
        let all = settings(
            &base,
            kind,
            &format!("{more} --set train.max_steps=40 --set train.keep_checkpoints=20"),
        );
        ok(&mut debug_train(&out("whole"), &all));
        let killed = format!("{all} --set train.save_interval=1 --set train.keep_checkpoints=100");
        let mut process = debug_train(&out("killed"), &killed).stderr(Stdio::null()).spawn().unwrap();
        // In the middle of a rollout's steps, wherever that is by then.
        while !out("killed").join("checkpoints/step-000006/manifest.json").exists() {
            assert!(process.try_wait().unwrap().is_none(), "ended before step 6");
            thread::sleep(Duration::from_millis(1));
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let last = "checkpoints/step-000040";
        let was_fast = out("killed").join(last).join("manifest.json").exists();
        let from = if was_fast { out("killed").join("checkpoints/step-000006") } else { out("killed") };
        let mut resume = kiln(words("train --device cpu --set train.save_interval=0 --resume"));
        ok(resume.arg(from));
        assert_same(&out("whole").join(last), &out("killed").join(last));
    }
}

/// A reward model of the tokens that a model knows.
pub fn reward_model(folder: &TempDir, base: &Path) -> PathBuf {
    let score = |i: usize| format!("{{\"text\": \"{:02}+{:02}=\", \"score\": {}}}\n", i, 99 - i, i % 5);
    let data = file(folder, "scores.jsonl", (10..60).map(score).collect::<String>());
    let run = folder.path().join("reward");
    let settings = "--set model.head=regression --set data.label_field=score --set train.eval_interval=0";
    ok(debug_train(&run, settings).arg("--init-from").arg(base).arg("--data").arg(data));
    run
}

#[test]
fn ppo_begins_with_the_value_head_of_its_reward_model() {
    let folder = folder();
    let base = base(&folder);
    let reward = reward_model(&folder, &base);
    let run = folder.path().join("ppo");
    let rewards = format!("rollout.rewards=[{{kind='model',path='{}'}}]", reward.display());
    // Nothing is learned, so that the value model stays what it began with.
    let settings = settings(
        &base,
        "ppo",
        "--set train.learning_rate=1e-30 --set train.schedule=constant --set train.max_steps=2",
    );
    ok(debug_train(&run, &settings).args(["--set", &rewards]));
    let tensors = |path: PathBuf| kiln::checkpoint::tensors::read(&fs::read(path).unwrap()).unwrap();
    let value = tensors(run.join("checkpoints/latest/objective.safetensors"));
    let own = tensors(reward.join("checkpoints/latest/model.safetensors"));
    let close =
        |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(close(&value["value.head"].values, &own["score.weight"].values));
    assert!(close(&value["value.body.embedding"].values, &own["transformer.wte.weight"].values));
    // What the run goes on with, though the reward model's own goes on too.
    let toml = fs::read_to_string(run.join("checkpoints/latest/kiln.toml")).unwrap();
    assert!(toml.contains(&reward.join("checkpoints/step-000020").display().to_string()), "{toml}");
    let steps = events(&run, "step");
    assert!(steps[0]["metrics"]["reward/model"].is_number(), "{}", steps[0]);
    assert!(steps[0]["metrics"]["value_loss"].as_f64().unwrap() > 0.0);
}

#[cfg(unix)]
#[test]
fn a_command_scores_answers() {
    let folder = folder();
    let base = base(&folder);
    let train = |name: &str, command: &str, more: &str| {
        let rewards = format!("rollout.rewards=[{{kind='command',command='{command}'}}]");
        let mut train = debug_train(&folder.path().join(name), &settings(&base, "grpo", more));
        train.args(["--set", &rewards]);
        train
    };
    ok(&mut train("scored", "while read -r line; do echo 0.5; done", ""));
    let steps = events(&folder.path().join("scored"), "step");
    assert_eq!(steps[0]["metrics"]["reward"], 0.5);
    fails(
        &mut train("dead", "echo no memory >&2; exit 3", ""),
        1,
        &["`rollout.rewards`", "exit code 3: no memory"],
    );
    fails(&mut train("nan", "yes nan | head -8", ""), 1, &["no finite reward", "rollout.on_bad_answer=skip"]);
    fails(&mut train("short", "echo 1", ""), 1, &["it wrote 1 numbers for 8 answers"]);
}

#[cfg(unix)]
#[test]
fn a_score_command_that_dies_leaves_a_checkpoint_to_go_on_from() {
    let folder = folder();
    let base = base(&folder);
    // It dies at the fourth rollout, until the file `mended` is there.
    let place = folder.path().display();
    let command = format!(
        "test -e {place}/mended || (echo >> {place}/calls; test $(wc -l < {place}/calls) -lt 4) || exit 3; \
         while read -r line; do echo 0.5; done"
    );
    let rewards = format!("rollout.rewards=[{{kind='command',command='{command}'}}]");
    let run = folder.path().join("run");
    let mut train = debug_train(&run, &settings(&base, "grpo", ""));
    fails(train.args(["--set", &rewards]), 1, &["the rollout of step 4 fails", "exit code 3", "`--resume`"]);
    assert!(run.join("checkpoints/step-000003/manifest.json").exists());
    assert_eq!(events(&run, "step").len(), 3);
    file(&folder, "mended", "");
    ok(kiln(["train", "--device", "cpu", "--resume"]).arg(&run));
    assert!(run.join("checkpoints/step-000020/manifest.json").exists());
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = folder();
    let base = base(&folder);
    let mut count = 0;
    let mut refused = |kind: &str, more: &str, parts: &[&str]| {
        count += 1;
        let run = folder.path().join(format!("refused-{count}"));
        fails(&mut debug_train(&run, &settings(&base, kind, more)), 2, parts);
    };
    refused(
        "grpo",
        "--set grpo.group_size=3",
        &["`grpo.group_size`", "no whole number of groups", "train.batch_size=9"],
    );
    refused("grpo", "--set rollout.rewards=[{kind='model'}]", &["`rollout.rewards`", "it needs `path`"]);
    refused("grpo", "--set rollout.rewards=[{kind='model',path='nowhere'}]", &["nowhere", "does not exist"]);
    let language_model = format!("--set rollout.rewards=[{{kind='model',path='{}'}}]", base.display());
    refused("ppo", &language_model, &["it is no reward model", "kiln train --preset reward"]);
    refused(
        "grpo",
        "--set rollout.answer_field=result",
        &["`result` for `rollout.answer_field`", "no text or number"],
    );
    refused(
        "ppo",
        "--set rollout.max_new_tokens=32",
        &["`rollout.max_new_tokens`", "rollout.max_new_tokens=16"],
    );

    // Without a model to begin from there is no reference.
    let run = folder.path().join("no-reference");
    let settings =
        format!("{TASK} --set data.answer_after== --set objective.kind=ppo --set rollout.max_new_tokens=5");
    fails(
        &mut debug_train(&run, &settings),
        2,
        &["`ppo` compares the model with a reference", "--init-from"],
    );
}

#[test]
fn the_presets_train_a_model_that_adds() {
    let folder = folder();
    let adding = folder.path().join("adding");
    let mut train = kiln(words(
        "train --preset addition --device cpu --set train.max_steps=20 --set train.eval_interval=0",
    ));
    ok(train.arg("--out").arg(&adding));
    for preset in ["grpo", "ppo"] {
        let run = folder.path().join(preset);
        let mut train =
            kiln(words("train --device cpu --set train.max_steps=3 --set train.eval_batches=1 --preset"));
        ok(train.arg(preset).arg("--init-from").arg(&adding).arg("--out").arg(&run));
        let evaluation = events(&run, "evaluation");
        assert!(evaluation[0]["metrics"]["reward"].is_number(), "{evaluation:?}");
        assert!(events(&run, "sample").iter().any(|sample| sample["reward"].is_number()));
    }
}
