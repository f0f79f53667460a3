//! A run that is killed continues as if nothing had happened.

use crate::support::{debug_train, fails, folder, kiln, ok, words};
use kiln::checkpoint::{
    Files,
    tensors::{self, FloatType},
};
use std::{fs, path::Path, process::Stdio, thread, time::Duration};

fn assert_same(a: &Path, b: &Path) {
    for name in ["model.safetensors", "optimizer.safetensors", "ema.safetensors"] {
        if name == "ema.safetensors" && !a.join(name).exists() {
            continue;
        }
        assert!(fs::read(a.join(name)).unwrap() == fs::read(b.join(name)).unwrap(), "{name} differs");
    }
}

fn resume(run: &Path) -> std::process::Command {
    let mut command = kiln(["train", "--device", "cpu", "--resume"]);
    command.arg(run);
    command
}

const SETTINGS: &str = "--set train.max_steps=60 --set model.dropout=0.2 --set train.eval_interval=10 \
                        --set train.ema_decay=0.9 --set train.keep_checkpoints=10";

#[test]
fn resuming_after_a_kill_gives_the_same_bytes() {
    let folder = folder();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    ok(&mut debug_train(&whole, SETTINGS));

    // Killed for good once the checkpoint of step 30 is there; every one is kept, so that it is found
    // however far the run has come when this process is woken.
    let (middle, last) = (killed.join("checkpoints/step-000030"), "checkpoints/step-000060");
    let settings = format!("{SETTINGS} --set train.save_interval=30");
    let mut process = debug_train(&killed, &settings).stderr(Stdio::null()).spawn().unwrap();
    while !middle.join("manifest.json").exists() {
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none() || middle.join("manifest.json").exists(), "ended before step 30");
        thread::sleep(Duration::from_millis(1));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    // From wherever it was killed; if it was too fast to be killed, from step 30.
    let was_fast = killed.join(last).join("manifest.json").exists();
    ok(resume(if was_fast { &middle } else { &killed }).args(["--set", "train.save_interval=0"]));
    assert_same(&whole.join(last), &killed.join(last));

    // And once more from the step in the middle, whose later ones are set aside.
    ok(resume(&middle).args(["--set", "train.save_interval=0"]));
    assert!(killed.join("checkpoints/superseded-1-step-000060").is_dir());
    assert_same(&whole.join(last), &killed.join(last));
}

/// Events of a run's log.
fn events(run: &Path) -> Vec<serde_json::Value> {
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_evaluation_after_a_resume_reports_the_training_loss_since_the_one_before_it() {
    let folder = folder();
    let (run, new) = (folder.path().join("run"), folder.path().join("new"));
    ok(&mut debug_train(&run, "--set train.save_interval=5 --set train.keep_checkpoints=10"));
    ok(resume(&run.join("checkpoints/step-000015")).arg("--out").arg(&new));
    let last = |run: &Path| {
        let mut evaluations = events(run).into_iter().filter(|event| event["type"] == "evaluation");
        evaluations.next_back().unwrap()
    };
    let (expected, found) = (last(&run), last(&new));
    assert!(expected["train_loss"].is_number());
    for key in ["step", "train_loss", "gap", "val_loss", "is_best"] {
        assert_eq!(found[key], expected[key], "{key}");
    }
    let trainer = "checkpoints/step-000020/trainer.json";
    assert_eq!(fs::read(run.join(trainer)).unwrap(), fs::read(new.join(trainer)).unwrap());
}

#[test]
fn what_is_reported_up_to_a_checkpoint_is_in_the_log_before_it() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.sample_interval=10"));
    let of_step = events(&run).into_iter().filter(|event| event["step"] == 10);
    let kinds: Vec<String> = of_step.map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["step", "evaluation", "sample", "checkpoint"]);
}

#[test]
fn a_kill_before_the_best_checkpoint_is_pointed_to_does_not_lose_it() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.stop_after=10"));
    let best = run.join("checkpoints/best");
    fs::remove_file(&best).unwrap();
    let without_evaluations = "--set train.stop_after=0 --set train.eval_interval=0 --set train.save_interval=2 \
                               --set train.keep_checkpoints=1";
    ok(resume(&run).args(words(without_evaluations)));
    assert!(best.join("model.safetensors").is_file());
    assert_eq!(fs::read_link(&best).unwrap().to_str(), Some("step-000010"));
}

#[test]
fn resuming_where_there_is_no_run_leaves_nothing() {
    let folder = folder();
    let out = folder.path();
    let mut resume = kiln(["train", "--device", "cpu", "--resume", "--out"]);
    fails(resume.arg(out), 2, &["no complete checkpoint", "hint: "]);
    assert_eq!(fs::read_dir(out).unwrap().count(), 0);
    let mut resume = kiln(["train", "--device", "cpu", "--resume", "no/run", "--out"]);
    fails(resume.arg(out.join("new")), 2, &["no/run", "does not exist"]);
    assert_eq!(fs::read_dir(out).unwrap().count(), 0);
}

#[test]
fn a_run_killed_before_its_first_checkpoint_starts_anew() {
    let folder = folder();
    let run = folder.path().join("run");
    let settings = "--set train.max_steps=1000000 --set train.eval_interval=0 --set train.log_interval=1";
    let mut process = debug_train(&run, settings).stderr(Stdio::null()).spawn().unwrap();
    let log = run.join("log.jsonl");
    while fs::read_to_string(&log).unwrap_or_default().lines().count() < 3 {
        assert!(process.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(2));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let old = fs::read(&log).unwrap();
    fails(&mut resume(&run), 2, &["no complete checkpoint"]);
    ok(&mut debug_train(&run, ""));
    assert!(run.join("checkpoints/step-000020/manifest.json").is_file());
    assert_eq!(fs::read(run.join("superseded-1-log.jsonl")).unwrap(), old);
    assert!(fs::read_to_string(&log).unwrap().contains("\"last_step\":20,"));
}

#[test]
fn a_checkpoint_goes_on_from_inside_its_folder() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.stop_after=10"));
    let checkpoint = run.join("checkpoints/step-000010");
    ok(resume(Path::new(".")).args(["--set", "train.stop_after=0"]).current_dir(&checkpoint));
    assert!(run.join("checkpoints/step-000020/manifest.json").is_file());
}

#[test]
fn tensors_of_another_model_are_named() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.stop_after=10 --set train.ema_decay=0.9"));
    let checkpoint = run.join("checkpoints/step-000010");
    let whole = Files::read_folder(&checkpoint, |_| true).unwrap();
    for (file, tensor, told) in [
        (
            "optimizer.safetensors",
            "blocks.1.mlp.up.weight.moment_2",
            "`blocks.1.mlp.up.weight.moment_2` has shape",
        ),
        ("ema.safetensors", "transformer.wpe.weight", "`position` has shape"),
        ("model.safetensors", "transformer.wpe.weight", "`transformer.wpe.weight` has shape"),
    ] {
        let mut tampered = whole.clone();
        let mut named = tensors::read(&whole.contents[file]).unwrap();
        // Half as high, with a manifest that says so.
        let changed = named.get_mut(tensor).unwrap();
        changed.shape[0] /= 2;
        changed.values.truncate(changed.values.len() / 2);
        tampered.contents.insert(file.into(), tensors::write(&named, FloatType::F32).unwrap().into());
        fs::remove_dir_all(&checkpoint).unwrap();
        tampered.write_folder(&checkpoint).unwrap();
        let mut command = resume(&run);
        fails(command.args(["--set", "train.stop_after=0"]), 2, &["step-000010", told]);
    }
}

#[test]
fn every_optimizer_resumes_exactly() {
    for settings in [
        "train.optimizer=adamw",
        "train.optimizer=adamw-8bit",
        "train.optimizer=adam",
        "train.optimizer=adafactor",
        "train.optimizer=sgd",
        "train.optimizer=lion",
        "train.optimizer=muon",
        "train.offload=optimizer-disk",
        "train.optimizer=adamw-8bit --set train.offload=optimizer-disk --set train.freeze=['blocks.0.*']",
        // It overflows at first, and grows again.
        "train.loss_scale.scaling=on --set train.loss_scale.initial=1e21 --set train.loss_scale.interval=3 \
         --set train.ema_decay=0.9",
    ] {
        let folder = folder();
        let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
        let settings = format!("--set {settings} --set model.dropout=0.1");
        ok(&mut debug_train(&whole, &settings));
        ok(&mut debug_train(&stopped, &format!("{settings} --set train.stop_after=10")));
        ok(resume(&stopped).args(["--set", "train.stop_after=0"]));
        let last = "checkpoints/step-000020";
        assert_same(&whole.join(last), &stopped.join(last));
        let state = |run: &Path| -> serde_json::Value {
            serde_json::from_str(&fs::read_to_string(run.join(last).join("trainer.json")).unwrap()).unwrap()
        };
        let (whole, stopped_state) = (state(&whole), state(&stopped));
        for key in ["updates", "skipped_steps", "loss_scale"] {
            assert_eq!(whole[key], stopped_state[key], "{settings}: {key}");
        }
        assert!(!stopped.join("optimizer-states.tmp").exists() || !cfg!(unix));
    }
}

#[test]
#[ignore = "takes a minute: `check.sh` has a step for it"]
fn fifty_kills_never_leave_a_run_that_cannot_go_on() {
    let folder = folder();
    let run = folder.path().join("run");
    let settings = "--set train.max_steps=100000 --set train.save_interval=2 --set train.eval_interval=0 \
                    --set train.log_interval=1";
    let mut process = debug_train(&run, settings).stderr(Stdio::null()).spawn().unwrap();
    let mut delay = 1u64;
    let mut step = 0;
    for kill in 0..50 {
        // Wait until it trains, then an arbitrary moment of up to 60 ms.
        let before = newest(&run);
        while newest(&run) <= before {
            assert!(process.try_wait().unwrap().is_none(), "kill {kill}: the run did not go on");
            thread::sleep(Duration::from_millis(2));
        }
        delay = delay.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(Duration::from_micros((delay >> 33) % 60_000));
        process.kill().unwrap();
        process.wait().unwrap();
        let now = newest(&run);
        assert!(now >= step, "kill {kill}: lost steps");
        step = now;
        process = resume(&run).stderr(Stdio::null()).spawn().unwrap();
    }
    process.kill().unwrap();
    process.wait().unwrap();
    ok(resume(&run).args(["--set", &format!("train.stop_after={}", newest(&run) + 2)]));
    let leftovers = fs::read_dir(run.join("checkpoints")).unwrap();
    let leftovers =
        leftovers.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".tmp"));
    assert_eq!(leftovers.count(), 0);
}

/// Step of the newest complete checkpoint.
fn newest(run: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else { return 0 };
    let steps = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        path.join("manifest.json").exists().then_some(step)
    });
    steps.max().unwrap_or(0)
}

#[test]
fn best_and_latest_and_rotation() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.save_interval=2 --set train.keep_checkpoints=3"));
    let latest = fs::read_link(run.join("checkpoints/latest")).unwrap();
    assert_eq!(latest.to_str(), Some("step-000020"));
    assert!(run.join("checkpoints/best/model.safetensors").is_file());
    let count = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("step-"));
    assert!((3..=4).contains(&count.count()));

    // Going back to an earlier step sets the later ones aside, and loses none.
    let earlier = run.join("checkpoints/step-000018");
    let out =
        ok(kiln(["train", "--device", "cpu", "--set", "train.stop_after=19", "--resume"]).arg(&earlier));
    assert!(run.join("checkpoints/superseded-1-step-000020/model.safetensors").is_file(), "{out}");
    assert_eq!(fs::read_link(run.join("checkpoints/latest")).unwrap().to_str(), Some("step-000019"));
}

#[test]
fn a_checkpoint_goes_on_in_a_new_run() {
    let folder = folder();
    let (run, copy, new) = (folder.path().join("run"), folder.path().join("copy"), folder.path().join("new"));
    ok(&mut debug_train(&run, "--set train.stop_after=10"));
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(run.join("checkpoints/step-000010")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    // Copied out of its run, and straight from it.
    let resume_into = |from: &Path, out: &Path| {
        ok(resume(from).arg("--out").arg(out).args(["--set", "train.stop_after=0"]));
        assert!(out.join("checkpoints/step-000020/manifest.json").is_file());
    };
    resume_into(&copy, &new);
    resume_into(&run, &folder.path().join("other"));
    assert_same(&new.join("checkpoints/step-000020"), &folder.path().join("other/checkpoints/step-000020"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_ends_cleanly() {
    let folder = folder();
    let run = folder.path().join("run");
    let mut process = debug_train(&run, "--set train.max_steps=100000 --set train.save_interval=5")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while newest(&run) == 0 {
        assert!(process.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(2));
    }
    std::process::Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    assert!(process.wait().unwrap().success());
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    assert!(log.lines().last().unwrap().contains("\"reason\":\"interrupted\""), "{log}");
    assert!(run.join("report.html").is_file());
}

#[test]
fn a_checkpoint_of_an_earlier_version_goes_on_as_it_did() {
    // Made before the keys of `model` were nested: names that have changed, 0 for what is absent now. Its run
    // went on with these losses; other processors round differently, hence the tolerance.
    let recorded = [2.4655464, 2.4579537];
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/old/checkpoint");
    let folder = folder();
    let run = folder.path().join("run");
    ok(resume(&checkpoint).arg("--out").arg(&run));
    let log = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let losses: Vec<f64> =
        events.filter(|event| event["type"] == "step").map(|event| event["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), recorded.len(), "{log}");
    for (found, recorded) in losses.iter().zip(recorded) {
        assert!((found - recorded).abs() < 1e-4, "{losses:?}");
    }
    let saved = fs::read_to_string(run.join("checkpoints/latest/kiln.toml")).unwrap();
    assert!(saved.contains("[model.rope]") && !saved.contains("rope_theta"), "{saved}");
}
