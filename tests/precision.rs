//! Mixed precision: products of small types are about as near to f32 as PyTorch's, runs learn the same and resume
//! exactly, and text is generated with a cache of the small type.

use crate::{
    devices::others,
    support::{
        debug_config, debug_train, fails, folder, kiln, largest_difference, losses, ok, trainer, words,
    },
};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln::{
    config::{Config, ModelConfig, Norm, Position},
    device::{self, Choice},
    eval::verify::SUBJECTS,
    kernels::{
        Mode, Precision,
        cases::{CASES, Sizes},
        precision::{check, is_supported},
    },
    model::{KvCache, Model},
    transform::reduce_weights,
};
use std::path::Path;

fn cpu() -> Device {
    Choice::cpu().open().unwrap()
}

/// Small types that a device computes in.
fn small(device: &Device) -> impl Iterator<Item = Precision> {
    [Precision::Bf16, Precision::F16].into_iter().filter(move |precision| is_supported(*precision, device))
}

/// Compares the model of the fixtures on a device with PyTorch.
fn verify(device: &Device, expected: usize) {
    let subject = SUBJECTS.iter().find(|subject| subject.name == "precision").unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/post");
    let cases = (subject.verify)(&folder, device).unwrap();
    assert_eq!(cases.len(), expected);
    for case in cases {
        let failures: Vec<_> = case.failures().collect();
        assert!(failures.is_empty(), "{}: {failures:?}", case.name);
    }
}

/// Compares every operation in a small type with its reference in f32.
fn operations(name: &str, device: &Device) {
    for precision in small(device) {
        // Errors of logits are those of probabilities too.
        let bound = if precision == Precision::Bf16 { 0.15 } else { 0.03 };
        for case in CASES {
            let found = pollster::block_on(case.compare(device, Sizes::SMALL, precision)).unwrap();
            let worst = found.forward.max(found.gradient);
            assert!(worst < bound, "{} on {name} in {precision}: {worst:.1e}", case.name);
        }
    }
}

/// Generates with a cache, and compares the logits with those of the whole text at once.
fn cached(name: &str, device: &Device) {
    let config = ModelConfig {
        vocab_size: 11,
        block_size: 16,
        n_embd: 32,
        n_head: 4,
        n_kv_head: Some(2),
        n_layer: 2,
        norm: Norm::Rmsnorm,
        position: Position::Rotary,
        ..Default::default()
    };
    for precision in small(device) {
        let model = Model::init(&config, Mode::Fused.with_precision(precision), 3, device);
        let Model::Decoder(decoder) = reduce_weights(model, precision) else { unreachable!() };
        let tokens: Vec<i32> = (0..12).map(|i| i * 7 % 11).collect();
        let input = |part: &[i32]| {
            Tensor::<2, Int>::from_data(TensorData::new(part.to_vec(), [1, part.len()]), device)
        };
        let whole = decoder.forward(input(&tokens), None);
        let mut cache = KvCache::new(&config, 1, 12, device);
        let parts = [&tokens[..7], &tokens[7..8], &tokens[8..]];
        let parts = parts.map(|part| decoder.forward(input(part), Some(&mut cache))).to_vec();
        let values = |logits: Tensor<3>| logits.into_data().try_into_vec_as::<f32>().unwrap();
        let apart = largest_difference(&values(Tensor::cat(parts, 1)), &values(whole));
        assert!(apart < 2e-2, "{name} in {precision}: {apart:.1e}");
    }
}

#[test]
fn small_types_are_as_near_to_f32_as_pytorchs() {
    // Six schedules of the factor of the loss, and two models: f32, and bf16 and f16 against two ways to round.
    verify(&cpu(), 16);
    operations("cpu", &cpu());
}

#[test]
fn keys_and_values_are_cached_in_the_small_type() {
    cached("cpu", &cpu());
}

#[test]
#[ignore = "needs a GPU adapter"]
fn small_types_are_as_near_to_f32_as_pytorchs_on_other_devices() {
    for name in others() {
        let device = name.parse::<Choice>().unwrap().open().unwrap();
        let types: Vec<Precision> = small(&device).collect();
        eprintln!("{name} computes in {types:?}");
        verify(&device, 8 + 4 * types.len());
        operations(&name, &device);
        cached(&name, &device);
        if let Some(precision) = Precision::ALL.into_iter().find(|kind| !is_supported(*kind, &device)) {
            let error = check("train.dtype", precision, &device).unwrap_err().to_string();
            assert!(error.contains(precision.name()) && error.contains("train.dtype"), "{error}");
        }
    }
    device::settle();
}

#[test]
fn a_run_learns_the_same_in_small_types() {
    let run = |more: &[&str]| losses(trainer(debug_config(more), "cpu"), 30);
    let expected = run(&[]);
    for dtype in ["bf16", "f16", "tf32"] {
        for fused in ["kernels.fused=true", "kernels.fused=false"] {
            let found = run(&[&format!("train.dtype={dtype}"), fused]);
            let apart = largest_difference(&found, &expected);
            assert!(apart < 0.05, "{dtype}, {fused}: {apart}");
        }
    }
}

#[test]
fn a_run_in_bf16_resumes_exactly() {
    let folder = folder();
    let [whole, cut] = ["whole", "cut"].map(|name| folder.path().join(name));
    let common = "--set train.dtype=bf16 --set train.max_steps=20";
    ok(&mut debug_train(&whole, common));
    ok(&mut debug_train(&cut, &format!("{common} --set train.stop_after=9")));
    let mut resume = kiln(words("train --device cpu --set train.stop_after=0 --resume"));
    ok(resume.arg(&cut));
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let read = |run: &Path| std::fs::read(run.join("checkpoints/latest").join(file)).unwrap();
        assert!(read(&whole) == read(&cut), "{file}");
    }
    let toml = std::fs::read_to_string(cut.join("checkpoints/latest/kiln.toml")).unwrap();
    assert_eq!(Config::from_toml(&toml, "kiln.toml").unwrap().train.dtype, Precision::Bf16);
}

#[test]
fn commands_take_a_type() {
    let folder = folder();
    let run = folder.path().join("run");
    ok(&mut debug_train(&run, ""));
    let command = |line: &str, dtype: &str| {
        let mut command = kiln(words(line));
        command.arg(&run).args(["--device", "cpu", "--json", "--dtype", dtype]);
        command
    };
    let loss =
        |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap()["loss"].as_f64().unwrap();
    let [exact, rounded] = ["f32", "bf16"].map(|dtype| loss(ok(&mut command("eval", dtype))));
    assert!((exact - rounded).abs() < 0.02, "{exact} and {rounded}");
    ok(&mut command("generate --max-new-tokens 5", "f16"));
    let refused = command("generate", "half").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message.contains("half") && message.contains("expected one of f32, tf32, bf16, f16"),
        "{message}"
    );

    let unknown = &mut debug_train(&folder.path().join("other"), "--set train.dtype=int8");
    fails(unknown, 2, &["train.dtype", "int8"]);
    let bench =
        "bench train --json --preset debug --steps 1 --warmup 1 --device cpu --dtype f32 --dtype bf16";
    let figures: serde_json::Value = serde_json::from_str(&ok(&mut kiln(words(bench)))).unwrap();
    assert!(figures[0]["dtype"] == "f32" && figures[1]["dtype"] == "bf16", "{figures}");
    let generated = "bench generate --json --preset debug --tokens 4 --device cpu --dtype bf16";
    let generated: serde_json::Value = serde_json::from_str(&ok(&mut kiln(words(generated)))).unwrap();
    assert_eq!(generated["dtype"], "bf16");
}
