//! Every mistake of a user gives a one-line error with a hint and the right exit code, and destroys nothing.

use crate::support::{debug_train, fails, file, folder, kiln, ok, words};
use std::fs;

fn train(more: &[&str]) -> std::process::Command {
    let out = std::env::temp_dir().join("kiln-never-made");
    let mut command = debug_train(&out, "");
    command.args(more);
    command
}

#[test]
fn data_that_cannot_be_read() {
    let folder = folder();
    fails(&mut train(&["--data", "no/such/file.txt"]), 2, &["no/such/file.txt", "does not exist", "hint: "]);
    let text = file(&folder, "text.txt", "some text");
    let inside = text.join("child.txt");
    fails(&mut train(&["--data", inside.to_str().unwrap()]), 2, &["child.txt"]);
    let empty = file(&folder, "empty.txt", "");
    fails(&mut train(&["--data", empty.to_str().unwrap()]), 2, &["empty.txt", "no text"]);
    let short = file(&folder, "short.txt", "too short for a block");
    fails(&mut train(&["--data", short.to_str().unwrap()]), 2, &["tokens", "`model.block_size`", "hint: "]);
}

#[cfg(unix)]
#[test]
fn data_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let secret = file(&folder, "secret.txt", "text");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&secret).is_ok() {
        // The superuser may read everything, so it is another user who tries.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = folder.path().join("kiln");
        fs::copy(env!("CARGO_BIN_EXE_kiln"), &copy).unwrap();
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups"]).arg(copy);
        command
            .args(words("train --device cpu --preset debug --data"))
            .arg(&secret)
            .current_dir(folder.path());
        fails(&mut command, 2, &["secret.txt", "ermission denied", "hint: "]);
    } else {
        fails(
            &mut train(&["--data", secret.to_str().unwrap()]),
            2,
            &["secret.txt", "ermission denied", "hint: "],
        );
    }
}

#[test]
fn invalid_utf8_is_refused_unless_asked_for() {
    let folder = folder();
    let mut text = "to be or not to be, that is the question. ".repeat(50).into_bytes();
    text[1000] = 0xff;
    let path = file(&folder, "latin.txt", text);
    let path = path.to_str().unwrap();
    fails(&mut train(&["--data", path]), 2, &["latin.txt", "UTF-8", "1000", "data.lossy"]);
    let run = folder.path().join("run");
    ok(debug_train(&run, "--set data.lossy=true --set train.max_steps=5").args(["--data", path]));
}

#[test]
fn keys_and_values() {
    let set = |text: &str| train(&["--set", text]);
    fails(&mut set("train.learning_rat=1"), 2, &["`train.learning_rat`", "`train.learning_rate`"]);
    fails(&mut set("model.n_layer=two"), 2, &["`model.n_layer`", "`two`"]);
    fails(&mut set("train.schedule=sine"), 2, &["`train.schedule`", "`sine`", "cosine"]);
    fails(&mut set("model.n_layer"), 2, &["model.n_layer"]);
    fails(&mut set("model.n_head=5"), 2, &["`model.n_head`", "`model.n_embd`", "hint: "]);
    fails(&mut set("model.dropout=1.5"), 2, &["`model.dropout`"]);

    let folder = folder();
    let unknown = file(&folder, "unknown.toml", "[train]\nlearning_rat = 1.0\n");
    fails(
        &mut kiln(["train", "--config", unknown.to_str().unwrap()]),
        2,
        &["learning_rat", "`train.learning_rate`"],
    );
    let wrong = file(&folder, "wrong.toml", "[model]\nn_layer = \"four\"\n");
    fails(&mut kiln(["train", "--config", wrong.to_str().unwrap()]), 2, &["n_layer", "four"]);
    let broken = file(&folder, "broken.toml", "[model\n");
    fails(&mut kiln(["train", "--config", broken.to_str().unwrap()]), 2, &["broken.toml"]);
    fails(&mut kiln(["train", "--config", "no.toml"]), 2, &["no.toml"]);
    fails(&mut kiln(["train", "--preset", "shakespear"]), 2, &["`shakespear`", "shakespeare-char"]);
}

#[test]
fn a_batch_that_cannot_fit() {
    fails(&mut train(&["--set", "train.batch_size=9999999"]), 2, &["MiB", "--set train.batch_size="]);
}

#[test]
fn devices_that_are_not_there() {
    let device = |name: &str| kiln(["train", "--preset", "debug", "--device", name]);
    fails(&mut device("cuda:7"), 2, &["`cuda:7`", "cpu"]);
    fails(&mut device("wgpu:99"), 2, &["`wgpu:99`", "present here: ", "cpu"]);
    fails(&mut device("cpu:3"), 2, &["`cpu:3`", "one CPU device", "present here: "]);
    fails(&mut device("gpu"), 2, &["`gpu`", "cuda"]);
}

#[test]
fn a_damaged_checkpoint() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, ""));
    let checkpoint = run.join("checkpoints/step-000020");
    let model = checkpoint.join("model.safetensors");
    let good = fs::read(&model).unwrap();
    let generate = || kiln(["generate", "--device", "cpu", run.to_str().unwrap()]);
    ok(&mut generate());

    fs::write(&model, &good[..good.len() / 2]).unwrap();
    fails(&mut generate(), 2, &["step-000020", "`model.safetensors`", "truncated", "hint: "]);
    let mut tampered = good.clone();
    *tampered.last_mut().unwrap() ^= 1;
    fs::write(&model, &tampered).unwrap();
    fails(&mut generate(), 2, &["`model.safetensors`", "checksum"]);
    let resume = || {
        kiln(["train", "--device", "cpu", "--set", "train.max_steps=30", "--resume", run.to_str().unwrap()])
    };
    fails(&mut resume(), 2, &["`model.safetensors`", "checksum"]);
    fs::remove_file(&model).unwrap();
    fails(&mut generate(), 2, &["`model.safetensors` is missing"]);
    fs::write(&model, &good).unwrap();
    ok(&mut generate());

    // Without its manifest a checkpoint is not complete, so there is nothing to resume.
    fs::remove_file(checkpoint.join("manifest.json")).unwrap();
    fs::remove_dir_all(run.join("checkpoints/step-000010")).unwrap();
    fails(&mut resume(), 2, &["no complete checkpoint"]);
    fails(&mut kiln(["generate", "no/such/run"]), 2, &["no/such/run", "does not exist"]);
}

#[test]
fn a_tokenizer_that_does_not_fit() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, ""));
    // Text with characters that the run's tokenizer has never seen.
    let greek = file(&folder, "greek.txt", "μῆνιν ἄειδε θεά ".repeat(100));
    let mut eval =
        kiln(["eval", "--device", "cpu", "--data", greek.to_str().unwrap(), run.to_str().unwrap()]);
    fails(&mut eval, 2, &["tokenizer", "μ", "hint: "]);
    // A tokenizer of another size in place of the checkpoint's, put there with its manifest gone.
    let checkpoint = run.join("checkpoints/step-000020");
    fs::remove_file(checkpoint.join("manifest.json")).unwrap();
    let other = checkpoint.join("tokenizer.json");
    ok(kiln(["tokenizer", "train", "--kind", "byte", "--out"]).arg(&other));
    let mut generate = kiln(["generate", "--device", "cpu", checkpoint.to_str().unwrap()]);
    fails(&mut generate, 2, &["tokenizer.json", "256 tokens", "hint: "]);
}

#[test]
fn a_second_run_on_the_same_folder() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, ""));
    let before = fs::read(run.join("log.jsonl")).unwrap();
    fails(&mut debug_train(&run, ""), 2, &["already holds a run", "--resume", "--out"]);
    assert_eq!(fs::read(run.join("log.jsonl")).unwrap(), before);

    // And while it is still running.
    let running = folder.path().join("running");
    let mut process = debug_train(&running, "--set train.max_steps=1000000 --quiet")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !running.join("log.jsonl").exists() {
        assert!(process.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    fails(&mut debug_train(&running, ""), 2, &["in use by another kiln process"]);
    let mut resume = kiln(["train", "--device", "cpu", "--resume", "--out", running.to_str().unwrap()]);
    fails(&mut resume, 2, &["in use by another kiln process"]);
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn resuming_what_cannot_be_resumed() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, ""));
    let resume = |more: &[&str]| {
        let mut command = kiln(["train", "--device", "cpu", "--out", run.to_str().unwrap(), "--resume"]);
        command.args(more);
        command
    };
    fails(&mut resume(&[]), 2, &["already at step 20", "train.max_steps"]);
    fails(&mut resume(&["--set", "train.max_steps=30", "--set", "model.n_layer=3"]), 2, &["[model]"]);
    fails(
        &mut resume(&["--set", "train.max_steps=30", "--set", "train.optimizer=lion"]),
        2,
        &["train.optimizer"],
    );
    fails(&mut resume(&["--set", "train.max_steps=30", "--set", "train.seed=5"]), 2, &["hint: "]);
    fails(&mut kiln(["train", "--resume"]), 2, &["--resume", "hint: "]);
    fails(&mut kiln(["train", "--resume", "no/run"]), 2, &["no/run", "does not exist"]);
}

#[test]
fn a_loss_that_is_not_finite_stops_with_step_and_batch() {
    let folder = folder();
    // The first rate spoils the loss itself, the second its gradient alone.
    for (rate, what) in
        [("1e20", "the loss became"), ("1e30", "the gradient norm became NaN, with a loss of 4.15")]
    {
        let run = folder.path().join(rate);
        let explode = format!(
            "--set train.learning_rate={rate} --set train.min_lr={rate} --set train.grad_clip=0 \
             --set train.warmup_steps=0 --set train.optimizer=sgd"
        );
        let parts = [what, "at step 2", "batch", "train.on_nan=skip"];
        fails(&mut debug_train(&run, &explode), 1, &parts);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written() {
    // Not even the superuser may write here.
    let mut command = debug_train(std::path::Path::new("/sys/kiln"), "");
    fails(&mut command, 2, &["/sys/kiln", "hint: "]);
}

#[cfg(unix)]
#[test]
fn a_full_disk_costs_no_complete_checkpoint() {
    // As any user: no file may grow beyond a limit that a checkpoint's tensors exceed.
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, "--set train.max_steps=10"));
    let script = format!(
        "trap '' XFSZ; ulimit -f 60; exec {} train --device cpu --set train.max_steps=20 --resume {}",
        env!("CARGO_BIN_EXE_kiln"),
        run.display()
    );
    fails(std::process::Command::new("bash").args(["-c", &script]), 1, &["cannot write", ".safetensors"]);
    // The checkpoint of step 10 is still whole, nothing half written is left, and the run goes on.
    let entries: Vec<_> =
        fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!entries.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{entries:?}");
    ok(kiln(["train", "--device", "cpu", "--set", "train.max_steps=20", "--resume"]).arg(&run));
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_runs_full_costs_no_complete_checkpoint() {
    use crate::support::SmallDisk;
    let folder = folder();
    let Some(disk) = SmallDisk::mount(folder.path(), "2m") else {
        eprintln!("passed over: only the superuser may mount a small disk");
        return;
    };
    let run = folder.path().join("run");
    let settings = "--set train.save_interval=1 --set train.keep_checkpoints=50";
    let full = ["cannot ", "/run/checkpoints/", "No space left on device", "free some space", "`--resume`"];
    fails(&mut debug_train(&run, settings), 1, &full);

    // The last complete checkpoint is one that works, and nothing half written takes up room.
    let entries = fs::read_dir(run.join("checkpoints")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
    let last = names.iter().rfind(|name| name.starts_with("step-")).unwrap();
    assert!(last != "step-000020" && run.join("checkpoints").join(last).join("manifest.json").is_file());
    ok(kiln(["generate", "--device", "cpu", "--max-new-tokens", "5"]).arg(&run));
    fails(kiln(["train", "--device", "cpu", "--resume"]).arg(&run), 1, &full);

    disk.resize("32m");
    ok(kiln(["train", "--device", "cpu", "--resume"]).arg(&run));
    assert!(run.join("checkpoints/step-000020/manifest.json").is_file());
}

#[test]
fn sizes_of_a_foreign_configuration_that_its_weights_do_not_have() {
    let folder = folder();
    let copy = crate::parity::copy_of("gpt2", &folder);
    let config = fs::read_to_string(copy.join("config.json")).unwrap();
    for (key, old, new) in [
        ("n_embd", "48", "16777216"),
        ("n_layer", "2", "16777216"),
        ("n_positions", "32", "16777216"),
        ("vocab_size", "101", "16777216"),
        ("n_inner", "null", "16777216"),
        ("n_embd", "48", "18446744073709551615"),
    ] {
        let changed = config.replace(&format!("\"{key}\": {old}"), &format!("\"{key}\": {new}"));
        assert_ne!(changed, config);
        fs::write(copy.join("config.json"), changed).unwrap();
        let mut verify = kiln(["verify", "--device", "cpu"]);
        let output = verify.arg(&copy).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{key}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.len() < 400, "{key}: {stderr}");
    }
}

#[test]
fn a_shard_that_would_overwrite_a_tokenizer() {
    let folder = folder();
    let text = file(&folder, "text.txt", "the cat sat on the mat. ".repeat(20));
    for name in ["tokenizer", "bytes"] {
        let tokenizer = folder.path().join(format!("{name}.json"));
        ok(kiln(["tokenizer", "train", "--kind", "byte", "--out"]).arg(&tokenizer).arg(&text));
        let before = fs::read(&tokenizer).unwrap();
        let shard = folder.path().join(format!("{name}.bin"));
        let mut encode = kiln(["tokenizer", "encode", "--tokenizer"]);
        encode.arg(&tokenizer).arg("--data").arg(&text).arg("--out").arg(&shard);
        fails(&mut encode, 2, &["--out", &format!("{name}.json`"), "hint: "]);
        assert_eq!(fs::read(&tokenizer).unwrap(), before);
        assert!(!shard.exists());
    }
    // A shard's own sidecar is written anew.
    for _ in 0..2 {
        let mut encode = kiln(["tokenizer", "encode", "--tokenizer"]);
        encode.arg(folder.path().join("bytes.json")).arg("--data").arg(&text);
        ok(encode.arg("--out").arg(folder.path().join("train.bin")));
    }
}
