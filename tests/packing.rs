//! Packing and instruction tuning: documents that share a row are trained as if each had its own, on the CPU and on
//! the adapters of `devices.rs`, and `kiln verify` compares them with PyTorch.

use crate::{
    devices::others,
    parity::fixture,
    support::{debug_config, fails, file, folder, kiln, largest_difference, losses, ok, trainer, words},
};
use burn::{module::Module, tensor::Device};
use kiln::{
    checkpoint::{Checkpoint, Weights},
    config::Config,
    data::{Dataset, HostBatch, IGNORE_INDEX},
    device::{self, Choice},
    eval::verify::{
        SUBJECTS,
        fixture::{loss_and_gradients, relative_error},
    },
    kernels::attention::PADDING,
    model::{Model, parameters::NamedData},
    objective::{Batch, Objective, Prediction, StepTotals},
    train::Trainer,
};
use std::path::{Path, PathBuf};

/// Numbers of input tokens of some documents, and the rows that they are packed into.
const LENGTHS: [usize; 7] = [7, 3, 12, 1, 5, 9, 4];
const ROWS: [&[usize]; 2] = [&[2, 5, 1], &[0, 4, 6, 3]];
const BLOCK: usize = 24;

/// Inputs, targets and weights of a document. Targets of the first third are left out, and the last one counts half.
fn document(index: usize) -> (Vec<i32>, Vec<i32>, Vec<f32>) {
    let length = LENGTHS[index];
    let tokens: Vec<i32> = (0..=length).map(|at| ((97 * index + 31 * at * at + 5) % 64 + 3) as i32).collect();
    let mut targets = tokens[1..].to_vec();
    targets[..length / 3].fill(IGNORE_INDEX);
    let mut weights: Vec<f32> = targets.iter().map(|&target| f32::from(target != IGNORE_INDEX)).collect();
    weights[length - 1] = 0.5;
    (tokens[..length].to_vec(), targets, weights)
}

/// Batch of rows with the given documents.
fn batch(rows: &[&[usize]], time: usize) -> HostBatch {
    let (mut inputs, mut targets, mut weights, mut documents) = (vec![], vec![], vec![], vec![]);
    for (row, own) in rows.iter().enumerate() {
        for (number, &index) in own.iter().enumerate() {
            let (more_inputs, more_targets, more_weights) = document(index);
            documents.extend(vec![number as i32; more_inputs.len()]);
            inputs.extend(more_inputs);
            targets.extend(more_targets);
            weights.extend(more_weights);
        }
        let end = (row + 1) * time;
        inputs.resize(end, 0);
        targets.resize(end, IGNORE_INDEX);
        weights.resize(end, 0.0);
        documents.resize(end, PADDING);
    }
    HostBatch { weights, documents, ..HostBatch::new(inputs, targets, rows.len(), time) }
}

fn packed() -> HostBatch {
    batch(&ROWS, BLOCK)
}

/// Batch with one document a row.
fn padded() -> HostBatch {
    let rows: Vec<Vec<usize>> = (0..LENGTHS.len()).map(|index| vec![index]).collect();
    let rows: Vec<&[usize]> = rows.iter().map(Vec::as_slice).collect();
    HostBatch { documents: Vec::new(), lengths: LENGTHS.to_vec(), ..batch(&rows, 12) }
}

fn model(family: &str, fused: bool, device: &Device) -> (Config, Model) {
    let checkpoint = Checkpoint::open_model(&fixture(family)).unwrap();
    let mut config = Config { model: checkpoint.model.clone(), ..Config::default() };
    config.kernels.fused = fused;
    let model = checkpoint.build_with_config(&config, Weights::Latest, &device.clone().autodiff()).unwrap();
    (config, model.train())
}

/// Loss of a step with these micro-batches, and its gradients.
fn step(config: &Config, model: &Model, batches: &[HostBatch], device: &Device) -> (f64, NamedData) {
    let (totals, device) = (StepTotals::of(batches), device.clone().autodiff());
    let loss = |host| Prediction::new(config).loss(model, &Batch::new(host, &device), totals).total;
    let loss = batches.iter().map(loss).reduce(|sum, share| sum + share).unwrap();
    loss_and_gradients(model, loss).unwrap()
}

fn largest_error((loss, gradients): &(f64, NamedData), (expected, reference): &(f64, NamedData)) -> f64 {
    assert!(gradients.keys().eq(reference.keys()));
    let norm = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let largest = reference.values().map(|gradient| norm(&gradient.values)).fold(0.0, f64::max);
    let errors = gradients.iter().map(|(name, own)| relative_error(own, &reference[name], largest));
    let worst = errors.fold(0.0, |worst: f64, error| if error <= worst { worst } else { error });
    worst.max((loss - expected).abs() / expected)
}

/// Grouped queries, sliding windows, soft caps, norms of queries and keys, and experts.
const FAMILIES: [&str; 8] = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2", "mixtral", "qwen3-moe"];

fn compare(name: &str, device: &Device, bound: f64) {
    for family in FAMILIES {
        for fused in [true, false] {
            let (config, model) = model(family, fused, device);
            let alone = step(&config, &model, &[padded()], device);
            let together = step(&config, &model, &[packed()], device);
            let error = largest_error(&together, &alone);
            eprintln!("{family} on {name}, fused {fused}: packed and padded differ by {error:.1e}");
            assert!(error < bound, "{family} on {name}, fused {fused}: {error:e}");
        }
    }
}

#[test]
fn packed_and_padded_documents_have_the_same_loss_and_gradients() {
    compare("cpu", &Choice::cpu().open().unwrap(), 1e-5);
}

#[test]
#[ignore = "needs a GPU adapter"]
fn packed_and_padded_documents_have_the_same_loss_and_gradients_on_other_devices() {
    for name in others() {
        compare(&name, &name.parse::<Choice>().unwrap().open().unwrap(), 1e-5);
    }
    device::settle();
}

/// torchtune#1875, mlx-lm#1413: a mean over each micro-batch gives rows with few targets too much weight.
#[test]
fn accumulation_does_not_change_loss_or_gradients() {
    let device = Choice::cpu().open().unwrap();
    let (config, model) = model("llama", true, &device);
    let whole = step(&config, &model, &[packed()], &device);
    for divided in [
        ROWS.map(|row| batch(&[row], BLOCK)).to_vec(),
        (0..LENGTHS.len()).map(|index| batch(&[&[index]], 16)).collect(),
    ] {
        let error = largest_error(&step(&config, &model, &divided, &device), &whole);
        assert!(error < 1e-5, "{} micro-batches: {error:e}", divided.len());
    }

    // By the loop, whose micro-batches are divided in other ways.
    let run = |rows: usize| {
        let division =
            [format!("train.batch_size={rows}"), format!("train.gradient_accumulation_steps={}", 4 / rows)];
        losses(trainer(packing(&division.each_ref().map(String::as_str)), "cpu"), 5)
    };
    let expected = run(4);
    for rows in [2, 1] {
        let worst = largest_difference(&run(rows), &expected);
        assert!(worst < 1e-5, "{rows} rows a micro-batch: {worst:e}");
    }
}

/// trl#3067: documents of a row saw each other.
#[test]
fn packing_does_not_contaminate() {
    let device = Choice::cpu().open().unwrap();
    for fused in [true, false] {
        let (config, model) = model("mistral", fused, &device);
        let width = config.model.vocab_size;
        let logits = |host: &HostBatch| -> Vec<f32> {
            let batch = Batch::new(host, &device.clone().autodiff());
            batch.logits(&model).inner().into_data().try_into_vec_as().unwrap()
        };
        let (host, mut other) = (packed(), packed());
        // Document 5 is the second of the first row: tokens 12 to 20.
        other.inputs[12..21].fill(40);
        let (before, after) = (logits(&host), logits(&other));
        for (token, document) in host.documents.iter().enumerate().filter(|(_, number)| **number != PADDING) {
            let part = token * width..(token + 1) * width;
            let is_equal = before[part.clone()] == after[part];
            assert_eq!(is_equal, token >= BLOCK || *document != 1, "token {token}, fused {fused}");
        }
    }
}

/// Configuration of sums as documents, several in each row.
fn packing(overrides: &[&str]) -> Config {
    let sums = ["data.task=addition", "data.layout=documents", "data.answer_after==", "data.packing=true"];
    debug_config(&[&sums[..], &["data.order=shuffled", "model.block_size=40"], overrides].concat())
}

#[test]
fn a_packed_run_resumes_byte_for_byte() {
    let config = packing(&["model.dropout=0.1", "objective.neftune_alpha=5"]);
    let advance = |trainer: &mut Trainer, steps| (0..steps).for_each(|_| trainer.step());
    let files = |trainer: &Trainer| pollster::block_on(trainer.checkpoint()).unwrap();
    let mut whole = trainer(config.clone(), "cpu");
    let notes = whole.info("cpu", None).notes;
    assert!(notes.iter().any(|note| note.contains("documents are packed into")), "{notes:?}");
    advance(&mut whole, 3);
    let middle = Checkpoint::from_files(files(&whole)).unwrap();
    advance(&mut whole, 3);

    let resume = |config: Config| {
        let dataset = Dataset::prepare(&config, None).unwrap();
        let config = config.resolve(&dataset).unwrap();
        Trainer::resume(config, dataset, &Choice::cpu().open().unwrap(), &middle)
    };
    let mut resumed = resume(config.clone()).unwrap();
    advance(&mut resumed, 3);
    let (whole, resumed) = (files(&whole), files(&resumed));
    for name in ["model.safetensors", "optimizer.safetensors"] {
        assert!(whole.get(name) == resumed.get(name), "{name}");
    }

    let mut unpacked = config;
    unpacked.data.packing = false;
    let error = resume(unpacked).err().unwrap().to_string();
    assert!(error.contains("`false` for `data.packing`") && error.contains("trained with `true`"), "{error}");
}

#[test]
fn neftune_is_of_training_only_and_does_not_depend_on_micro_batches() {
    let noisy = |more: &[&str]| trainer(packing(&[&["objective.neftune_alpha=5"][..], more].concat()), "cpu");
    let plain = losses(trainer(packing(&[]), "cpu"), 1);
    let with = losses(noisy(&["train.batch_size=4"]), 3);
    assert!((with[0] - plain[0]).abs() > 1e-5, "{with:?}, {plain:?}");
    let divided = losses(noisy(&["train.batch_size=1", "train.gradient_accumulation_steps=4"]), 3);
    assert!(largest_difference(&with, &divided) < 1e-5, "{with:?}, {divided:?}");
}

#[test]
fn packing_that_cannot_be_is_refused() {
    for (settings, parts) in [
        ("", ["`true` for `data.packing`", "data.layout=documents"]),
        ("--set data.layout=documents --set model.attention.prefix=true", ["`data.packing`", "one prefix"]),
        ("--set model.architecture=encoder", ["`data.packing`", "data.packing=false"]),
    ] {
        let folder = folder();
        let mut command = kiln(words("train --preset debug --device cpu --set data.packing=true"));
        fails(command.arg("--out").arg(folder.path().join("run")).args(words(settings)), 2, &parts);
    }
}

#[test]
fn the_preset_tunes_a_pretrained_model() {
    let folder = folder();
    let line = |i: usize| format!("{{\"text\": \"What is {i}? It is {} more.\"}}\n", i % 7);
    let data = file(&folder, "talk.jsonl", (10..60).map(line).collect::<String>());
    let run = |name: &str| folder.path().join(name);
    let mut base = kiln(words("train --preset debug --device cpu --set data.layout=documents"));
    ok(base.arg("--data").arg(&data).arg("--out").arg(run("base")));
    let mut tuning =
        kiln(words("train --preset sft --device cpu --set train.max_steps=4 --set data.answer_after=?"));
    ok(tuning.arg("--data").arg(&data).arg("--init-from").arg(run("base")).arg("--out").arg(run("tuned")));
    let toml = std::fs::read_to_string(run("tuned").join("checkpoints/latest/kiln.toml")).unwrap();
    assert!(toml.contains("kind = \"sft\"") && toml.contains("packing = true"), "{toml}");
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/post")
}

#[test]
fn fixtures_of_post_training_are_verified() {
    let printed = ok(kiln(["verify", "--device", "cpu"]).arg(fixtures()));
    for case in ["sft/gpt2 logits", "sft/llama all", "sft/llama-tied assistant"] {
        assert!(printed.contains(case), "{printed}");
    }
    assert!(!printed.contains("FAILED") && printed.contains(" 0 failures"), "{printed}");
}

#[test]
fn a_number_that_differs_fails_the_verification() {
    let folder = folder();
    let copy = |name: &str| {
        let (from, to) = (fixtures().join(name), folder.path().join(name));
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    };
    ["sft", "models/gpt2", "models/llama", "models/llama-tied"].into_iter().for_each(copy);
    let path = folder.path().join("sft/llama.json");
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    json["assistant"]["loss"] = (json["assistant"]["loss"].as_f64().unwrap() + 0.01).into();
    std::fs::write(&path, json.to_string()).unwrap();
    let verify = |more: &str| {
        let mut command = kiln(words(&format!("verify --device cpu {more}")));
        command.arg(folder.path());
        command
    };
    fails(&mut verify(""), 1, &["sft/llama assistant: loss", "is over 1e-5"]);
    ok(&mut verify("--tolerance 0.1"));
    let output = verify("--json").output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(found["subjects"][0]["subject"], "sft");
    assert_eq!(found["subjects"][0]["cases"].as_array().unwrap().len(), 9);
    // A subject that cannot be read is named.
    std::fs::remove_file(folder.path().join("models/llama/config.json")).unwrap();
    fails(&mut verify(""), 1, &["sft: ", "models/llama`: there is no complete checkpoint here"]);
}

#[test]
#[ignore = "needs a GPU adapter"]
fn fixtures_of_post_training_are_verified_on_other_devices() {
    for name in others() {
        let device = name.parse::<Choice>().unwrap().open().unwrap();
        for subject in SUBJECTS.iter().filter(|subject| fixtures().join(subject.name).is_dir()) {
            for case in (subject.verify)(&fixtures(), &device).unwrap() {
                let failures: Vec<_> = case.failures().collect();
                assert!(failures.is_empty(), "{}/{} on {name}: {failures:?}", subject.name, case.name);
            }
        }
    }
    device::settle();
}
