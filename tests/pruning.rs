//! Pruning by the command line: compared with PyTorch's numbers, weights that become zero and stay so, smaller models,
//! and pruning during training that goes on after a stop as if nothing had happened.

use crate::{
    adapter::{base, latest},
    support::{debug_train, fails, folder, kiln, ok, words},
};
use kiln::{
    checkpoint::{Checkpoint, Weights, tensors},
    device::Choice,
    eval::verify::SUBJECTS,
    transform::pruning::sparsity,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A model of Llama's kind, with two heads a key.
const LLAMA: &str = "--set model.position=rotary --set model.norm=rmsnorm --set model.activation=swiglu \
                     --set model.n_head=4 --set model.n_kv_head=2 --set model.n_layer=3 --set model.n_inner=48";

/// A file of text that is not all of the runs' own.
fn text(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("text.txt");
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tinyshakespeare.txt");
    fs::write(&path, &fs::read_to_string(whole).unwrap()[..20_000]).unwrap();
    path
}

fn prune(model: &Path, out: &Path, more: &str) -> Command {
    let mut command = kiln(words("prune --device cpu"));
    command.arg(model).arg("--out").arg(out).args(words(more));
    command
}

fn sparsity_of(model: &Path) -> f64 {
    let checkpoint = Checkpoint::open_model(model).unwrap();
    sparsity(&checkpoint.weights(Weights::Latest).unwrap(), &checkpoint.model)
}

fn loss(folder: &TempDir, model: &Path) -> f64 {
    let printed = ok(kiln(words("eval --json --device cpu --data")).arg(text(folder)).arg(model));
    serde_json::from_str::<serde_json::Value>(&printed).unwrap()["loss"].as_f64().unwrap()
}

fn trained(folder: &TempDir, steps: u64, more: &str) -> PathBuf {
    let more = format!("{more} --set train.max_steps={steps} --set train.learning_rate=3e-3");
    base(folder, "base", &more)
}

#[test]
fn pruning_agrees_with_pytorch() {
    let subject = SUBJECTS.iter().find(|subject| subject.name == "prune").unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/post");
    let cases = (subject.verify)(&fixtures, &Choice::cpu().open().unwrap()).unwrap();
    assert_eq!(cases.len(), 7);
    for case in cases {
        assert_eq!(case.failures().count(), 0, "{}: {:?}", case.name, case.failures().collect::<Vec<_>>());
    }
}

#[test]
fn single_weights_become_zero_by_every_method() {
    let folder = folder();
    // So long that half of the weights are missed.
    let base = trained(&folder, 600, LLAMA);
    let text = text(&folder).display().to_string();
    let mut losses = Vec::new();
    for (name, more) in [
        ("magnitude", "--sparsity 0.5"),
        ("global", "--sparsity 0.5 --global"),
        ("wanda", "--sparsity 0.5 --method wanda --rows 8"),
        ("sparsegpt", "--sparsity 0.5 --method sparsegpt --rows 8"),
        ("two-of-four", "--pattern 2:4"),
        ("two-of-four-wanda", "--pattern 2:4 --method wanda --rows 8"),
        ("two-of-four-sparsegpt", "--pattern 2:4 --method sparsegpt --rows 8"),
    ] {
        let out = folder.path().join(name);
        let printed = ok(&mut prune(&base, &out, &format!("{more} --calibrate {text}")));
        assert!(printed.contains("before") && printed.contains("perplexity"), "{printed}");
        let share = sparsity_of(&out);
        assert!((share - 0.5).abs() < 0.01, "{name}: {share}");
        // transformers finds a whole model, under the names that it had.
        let names = |model: &Path| {
            let file = fs::read(model.join("model.safetensors")).unwrap();
            tensors::read(&file).unwrap().into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names(&out), names(&latest(&base)));
        losses.push((name, loss(&folder, &out)));
    }
    // The weights that are left make up for those that went.
    let of = |name: &str| losses.iter().find(|(other, _)| *other == name).unwrap().1;
    assert!(of("sparsegpt") < of("magnitude"), "{losses:?}");
    assert!(of("two-of-four-sparsegpt") < of("two-of-four"), "{losses:?}");
}

#[test]
fn heads_neurons_and_layers_leave_a_smaller_model() {
    let folder = folder();
    let base = trained(&folder, 60, LLAMA);
    let out = folder.path().join("small");
    let mut command = prune(&base, &out, "--heads 2 --neurons 0.25 --layers 1 --rows 8 --calibrate");
    let printed = ok(command.arg(text(&folder)));
    assert!(printed.contains("removed     layers"), "{printed}");
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    for (key, size) in [
        ("num_hidden_layers", 2),
        ("num_attention_heads", 2),
        ("num_key_value_heads", 1),
        ("head_dim", 8),
        ("intermediate_size", 36),
    ] {
        assert_eq!(config[key], size, "{key}: {config}");
    }
    let size = |model: &Path| fs::metadata(model.join("model.safetensors")).unwrap().len();
    assert!(size(&out) < size(&latest(&base)));
    assert!(loss(&folder, &out).is_finite());
    // It is trained further as any other model.
    let tuned = folder.path().join("tuned");
    ok(debug_train(&tuned, "").arg("--init-from").arg(&out));

    // GPT-2 has no heads whose widths do not add up to the model's, but it has fewer neurons.
    let gpt2 = self::base(&folder, "gpt2", "");
    ok(&mut prune(&gpt2, &folder.path().join("neurons"), "--neurons 0.5"));
    let config = fs::read_to_string(folder.path().join("neurons/config.json")).unwrap();
    assert!(config.contains("\"n_inner\": 64") && config.contains("\"gpt2\""), "{config}");
    ok(&mut prune(&gpt2, &folder.path().join("heads"), "--heads 1"));
    let config = fs::read_to_string(folder.path().join("heads/config.json")).unwrap();
    assert!(config.contains("\"model_type\": \"kiln\""), "{config}");
    assert!(loss(&folder, &folder.path().join("heads")).is_finite());
}

#[test]
fn zeros_are_kept_through_fine_tuning() {
    let folder = folder();
    let base = trained(&folder, 60, "");
    let pruned = folder.path().join("pruned");
    ok(&mut prune(&base, &pruned, "--pattern 2:4"));
    let tune = |name: &str, more: &str| {
        let run = folder.path().join(name);
        ok(debug_train(&run, more).arg("--init-from").arg(&pruned));
        run
    };
    let settings = "--set pruning.keep_zeros=true --set train.ema_decay=0.9";
    let kept = tune("kept", settings);
    assert_eq!(sparsity_of(&latest(&kept)), 0.5);
    assert!(loss(&folder, &kept) < loss(&folder, &pruned));
    assert!(sparsity_of(&tune("lost", "")) < 0.01);
    // The zeros are the mask, so that a resumed run has it too.
    let part = tune("part", &format!("{settings} --set train.stop_after=7"));
    ok(kiln(words("train --device cpu --set train.stop_after=0 --resume")).arg(&part));
    assert_same(&kept, &part);
}

fn assert_same(a: &Path, b: &Path) {
    for name in ["model.safetensors", "optimizer.safetensors", "ema.safetensors"] {
        let read = |run: &Path| fs::read(latest(run).join(name)).unwrap();
        assert!(read(a) == read(b), "{name} differs");
    }
}

#[test]
fn weights_are_pruned_little_by_little_during_training() {
    let folder = folder();
    let settings = "--set pruning.sparsity=0.6 --set pruning.interval=4 --set train.save_interval=6 \
                    --set train.keep_checkpoints=10 --set train.ema_decay=0.9 --set train.learning_rate=3e-3";
    for (scope, optimizer) in [("layer", "adamw"), ("global", "muon")] {
        let settings = format!("{settings} --set pruning.scope={scope} --set train.optimizer={optimizer}");
        let (whole, part) = (folder.path().join(scope), folder.path().join(format!("{scope}-part")));
        ok(&mut debug_train(&whole, &settings));
        let share = |step: u64| sparsity_of(&whole.join(format!("checkpoints/step-{step:06}")));
        let shares = [6, 12, 18, 20].map(share);
        assert!(0.0 < shares[0] && shares[0] < shares[1] && shares[1] < shares[2], "{shares:?}");
        // Pruning ends at three quarters of the run.
        assert!((shares[2] - 0.6).abs() < 1e-3 && shares[2] == shares[3], "{shares:?}");
        let averaged = Checkpoint::open_model(&whole).unwrap();
        let averaged = sparsity(&averaged.weights(Weights::Averaged).unwrap(), &averaged.model);
        assert_eq!(averaged, shares[3]);

        ok(&mut debug_train(&part, &format!("{settings} --set train.stop_after=10")));
        ok(kiln(words("train --device cpu --set train.stop_after=0 --resume")).arg(&part));
        assert_same(&whole, &part);
    }
}

#[test]
fn bad_pruning_is_refused() {
    let folder = folder();
    let base = base(&folder, "base", "");
    let out = folder.path().join("out");
    for (more, parts) in [
        ("", ["there is nothing to prune", "--sparsity 0.5"]),
        ("--heads 0 --neurons 0", ["there is nothing to prune", "--sparsity 0.5"]),
        ("--sparsity 0.5 --method wanda", ["`wanda` for `--method`", "--calibrate TEXT"]),
        ("--layers 1", ["`1` for `--layers`", "--calibrate TEXT"]),
        ("--sparsity 0.5 --global --method sparsegpt", ["`sparsegpt` for `--method`", "leave it out"]),
        ("--heads 2", ["`2` for `heads`", "some must be left"]),
        ("--neurons 0.999", ["`128` for `neurons`", "some must be left"]),
    ] {
        fails(&mut prune(&base, &out, more), 2, &parts);
        assert!(!out.exists(), "{more}");
    }
    let short = folder.path().join("short.txt");
    fs::write(&short, "To be, or not to be, or not.").unwrap();
    let mut command = prune(&base, &out, "--sparsity 0.5 --method wanda --calibrate");
    fails(command.arg(&short), 2, &["short.txt` for `--calibrate`", "a row has 32", "--row-tokens N"]);
    let mut command = prune(&base, &out, "--layers 2 --calibrate");
    fails(command.arg(text(&folder)), 2, &["`2` for `layers`", "some must be left"]);
    let output = prune(&base, &out, "--sparsity 1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("something must be left"), "{said}");

    let mut command = prune(&base, &out, "--sparsity 0.5");
    ok(&mut command);
    fails(&mut command, 2, &["something is there already"]);
    // A model that is not finite.
    let broken = folder.path().join("broken");
    fs::create_dir(&broken).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(latest(&base).join(name), broken.join(name)).unwrap();
    }
    let mut weights = tensors::read(&fs::read(latest(&base).join("model.safetensors")).unwrap()).unwrap();
    let matrix = weights.iter_mut().find(|(name, _)| name.ends_with("c_fc.weight")).unwrap().1;
    matrix.values[3] = f32::NAN;
    let bytes = tensors::write(&weights, tensors::FloatType::F32).unwrap();
    fs::write(broken.join("model.safetensors"), bytes).unwrap();
    let out = folder.path().join("of-broken");
    fails(
        &mut prune(&broken, &out, "--sparsity 0.5"),
        2,
        &["`NaN` for `blocks.0.mlp.up.weight`", "not finite"],
    );
}
