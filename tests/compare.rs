//! `kiln compare`: all cells are trained and compared; what is finished is kept, what is broken costs one cell.

use crate::support::{fails, file, folder, kiln, ok, words};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::DirEntry,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

fn compare(out: &Path, more: &str) -> Command {
    let mut command =
        kiln(words("compare --preset debug --set train.max_steps=12 --set train.eval_interval=6"));
    command.arg("--out").arg(out).args(words(more));
    command
}

fn results(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap()
}

#[test]
fn cells_are_trained_and_compared() {
    let folder = folder();
    let out = folder.path().join("experiment");
    let axes = "--device cpu --seed 1,2 --vary kernels.fused=true,false";
    let table = ok(&mut compare(&out, axes));
    assert!(table.contains("cpu, kernels.fused=false"), "{table}");
    let found = results(&out);
    assert_eq!(found["cells"].as_array().unwrap().len(), 4);
    let groups = found["groups"].as_array().unwrap();
    assert_eq!(groups[1]["changed"], serde_json::json!([["kernels.fused", "true", "false"]]));
    assert!(groups.iter().all(|group| group["final_loss_deviation"].as_f64().unwrap() > 0.0), "{groups:?}");
    for cell in found["cells"].as_array().unwrap() {
        assert_eq!(cell["losses"].as_array().unwrap().len(), 12);
        let is_first = cell["label"] == "cpu, kernels.fused=true";
        assert_eq!(cell["difference"].is_null(), is_first);
        if !is_first {
            assert!(cell["difference"]["largest"].as_f64().unwrap() < 1e-3, "{cell}");
        }
    }
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("var(--series-2)") && html.contains("kernels.fused"));
    assert!(std::fs::read_to_string(out.join("report.md")).unwrap().starts_with("| "));

    // Again: nothing is trained.
    let again = compare(&out, axes).output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(said.matches("finished before").count(), 4, "{said}");
    fails(&mut compare(&out, &format!("{axes} --set model.n_layer=3")), 2, &[]);
}

/// Names and texts of the configurations of an experiment.
fn configurations(out: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(out.join("configurations")).unwrap().map(Result::unwrap);
    let read = |entry: DirEntry| {
        (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

#[test]
fn an_experiment_file_makes_the_cells_that_flags_make() {
    let folder = folder();
    let [flags, by_file, other] = ["flags", "file", "other"].map(|name| folder.path().join(name));
    ok(&mut compare(
        &flags,
        "--device cpu --seed 1,2 --vary train.learning_rate=1e-3,3e-3 --vary train.schedule=cosine",
    ));
    let text = "preset = \"debug\"\ndevice = [\"cpu\"]\nseed = [1, 2]\njobs = 1\n\n[set.train]\nmax_steps = 12\neval_interval = 6\n\n\
                [vary]\ntrain.learning_rate = [1e-3, 3e-3]\ntrain.schedule = [\"cosine\"]\n";
    let experiment = file(&folder, "experiment.toml", format!("out = {by_file:?}\n{text}"));
    ok(kiln(["compare"]).arg(&experiment));
    let found = configurations(&by_file);
    assert_eq!(found.len(), 4);
    assert_eq!(found, configurations(&flags));

    // Flags override the file.
    let more = "--seed 3 --vary train.schedule=linear,wsd --set train.max_steps=4 --set train.learning_rate=2e-3 --out";
    ok(kiln(["compare"]).arg(&experiment).args(words(more)).arg(&other));
    let found = configurations(&other);
    let names: Vec<&String> = found.keys().collect();
    assert_eq!(names, ["cpu-train.schedule=linear.toml", "cpu-train.schedule=wsd.toml"]);
    for (name, text) in &found {
        for line in ["seed = 3", "max_steps = 4", "learning_rate = 0.002", "eval_interval = 6"] {
            assert!(text.contains(line), "{name} has no `{line}`:\n{text}");
        }
    }

    for (text, parts) in [
        (
            "devices = [\"cpu\"]",
            &["experiment.toml` line 1: unknown experiment key `devices`", "did you mean `device`?"][..],
        ),
        ("jobs = 1\nseed = 3", &["line 2: invalid value `3` for `seed`: expected a list", "`seed=[3]`"]),
        (
            "[set]\nmodel.n_haed = 2",
            &["line 2: unknown configuration key `model.n_haed`", "did you mean `model.n_head`?"],
        ),
        ("preset = \"debgu\"", &["line 1: unknown preset `debgu`", "did you mean `debug`?"]),
        ("preset = [", &["cannot parse", "line 1"]),
        ("preset = \"debug\"", &["the folder of the experiment is not named", "--out DIR"]),
    ] {
        let experiment = file(&folder, "experiment.toml", text);
        fails(kiln(["compare"]).arg(experiment), 2, parts);
    }
    fails(&mut kiln(words("compare /nonexistent/experiment.toml")), 2, &["/nonexistent/experiment.toml"]);
}

#[test]
fn other_losses_than_asserted_end_with_one() {
    let folder = folder();
    let out = folder.path().join("experiment");
    let axes = "--device cpu --vary train.learning_rate=1e-3,3e-3";
    fails(
        &mut compare(&out, &format!("{axes} --assert-loss 1e-6")),
        1,
        &["differs from the first cell at step"],
    );
    ok(&mut compare(&out, &format!("{axes} --assert-loss 10")));
}

#[test]
fn a_killed_experiment_trains_only_what_is_missing() {
    let folder = folder();
    let out = folder.path().join("experiment");
    let axes = "--device cpu --seed 1,2,3 --set train.max_steps=300 --set train.save_interval=20";
    let mut process = compare(&out, axes).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    // In the middle of the second cell.
    let second = out.join("runs/cpu-seed=2/checkpoints");
    while !std::fs::read_dir(&second).is_ok_and(|mut found| found.next().is_some()) {
        assert!(Instant::now() < until, "the second cell does not begin");
        thread::sleep(Duration::from_millis(5));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    // The cell's own process goes on, and is waited for.
    let output = compare(&out, axes).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("cpu-seed=1: finished before") && said.contains("cpu-seed=3: finished in"),
        "{said}"
    );
    for cell in results(&out)["cells"].as_array().unwrap() {
        let steps: Vec<u64> =
            cell["losses"].as_array().unwrap().iter().map(|pair| pair[0].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=300).collect::<Vec<_>>(), "{}", cell["name"]);
    }
}

#[test]
fn what_cannot_be_compared_is_told_before_anything_runs() {
    let folder = folder();
    let out = folder.path().join("experiment");
    for (arguments, reason) in [
        ("--device cpu,cuda:9", "`cuda:9`"),
        ("--device cpu,cpu", "it is there twice"),
        ("--device cpu --vary model.n_layer", "expected a key and its values"),
        ("--device cpu --vary model.n_haed=2,4", "did you mean `model.n_head`"),
        ("--device cpu --vary train.seed=1,2", "seeds are given by `--seed`"),
        ("--device cpu --jobs 0", "must be at least 1"),
    ] {
        fails(&mut compare(&out, arguments), 2, &[reason]);
        assert!(!out.exists(), "{arguments}");
    }
}

/// Nudges the numbers of a tensor in a checkpoint's `model.safetensors`.
fn nudge(checkpoint: &Path, name: &str, by: f32) {
    let path = checkpoint.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let all: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(tensor, view)| {
            let mut data = view.data().to_vec();
            if tensor == name {
                for four in data.chunks_exact_mut(4) {
                    let value = f32::from_le_bytes(four.try_into().unwrap()) + by;
                    four.copy_from_slice(&value.to_le_bytes());
                }
            }
            (tensor.to_owned(), view.shape().to_vec(), data)
        })
        .collect();
    let views = all.iter().map(|(name, shape, data)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_planted_fault_is_located() {
    let folder = folder();
    let [good, bad] = ["good", "bad"].map(|name| folder.path().join(name));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/llama");
    for copy in [&good, &bad] {
        std::fs::create_dir(copy).unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(source.join(file), copy.join(file)).unwrap();
        }
    }
    nudge(&bad, "model.layers.1.mlp.down_proj.weight", 1e-3);
    let kept = folder.path().join("kept.safetensors");
    let locate = |checkpoint: &Path, more: &str| {
        let mut command = kiln(words("compare --device cpu --locate"));
        command.arg(checkpoint).args(words(more));
        command
    };
    ok(locate(&good, "--save").arg(&kept));
    let same = ok(locate(&good, "--against").arg(&kept));
    assert!(same.contains("largest difference 0.0e0"), "{same}");
    let output = locate(&bad, "--against").arg(&kept).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("first output: blocks.1.mlp.down (linear), shape [2, "), "{said}");
    assert!(said.contains("first gradient: "), "{said}");

    // Fused and unfused kernels are the same to rounding.
    let both = ok(&mut locate(&good, "--vary kernels.fused=true,false"));
    assert!(both.contains("operations compared") && !both.contains("first output"), "{both}");
    fails(&mut locate(&good, ""), 2, &["there is one way to compute it", "--against FILE"]);
}

#[test]
fn what_a_browser_lacks_is_told_before_anything_is_trained() {
    let folder = folder();
    let out = folder.path().join("experiment");
    let text = crate::support::file(&folder, "text.txt", "the heron stood in the reeds. ".repeat(100));
    let mut nowhere = compare(&out, "--device cpu,browser");
    fails(
        nowhere.current_dir(folder.path()),
        2,
        &["no folder `web` here or above holds the built page", "npm --prefix web run build"],
    );
    let mut named = compare(&out, "--device browser-cpu --page");
    fails(named.arg(folder.path()), 2, &["it holds no built page"]);
    let mut with_files = compare(&out, "--device browser --data");
    fails(with_files.arg(&text), 2, &["`data.paths`", "a page has no files"]);
    fails(&mut compare(&out, "--device browser,browser"), 2, &["it is there twice"]);
    assert!(!out.exists());
}
