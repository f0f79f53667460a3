//! Recomputation of activations changes nothing but memory and time: losses, gradients and weights are equal to the
//! bit on the CPU, for every architecture, with and without kernels, and nearly so on the adapters of `devices.rs`.

use crate::{
    adapter::{adapt, base, latest},
    devices::others,
    support::{
        debug_config, debug_train, fails, file, folder, kiln, largest_difference, losses, ok, trainer,
    },
};
use kiln::device;
use std::{fs, path::Path};

const CHOICES: [&str; 3] = ["selective", "blocks", "every 2"];

/// Bits of the losses and norms of some steps, and the bytes of weights and moments after them. The moments tell
/// gradients apart that change the weights alike.
fn outcome(overrides: &[&str]) -> (Vec<[u32; 2]>, Vec<Vec<u8>>) {
    let mut trainer = trainer(debug_config(overrides), "cpu");
    let mut step = || {
        trainer.step();
        let (loss, norm) = pollster::block_on(trainer.last_numbers()).unwrap();
        [loss.to_bits(), norm.to_bits()]
    };
    let numbers = (0..3).map(|_| step()).collect();
    let files = pollster::block_on(trainer.checkpoint()).unwrap();
    let bytes = ["model.safetensors", "optimizer.safetensors"].map(|name| files.contents[name][..].to_vec());
    (numbers, bytes.into())
}

#[test]
fn nothing_changes_to_the_bit() {
    let data = folder();
    let documents: Vec<String> = (0..40)
        .map(|i| format!("{{\"text\": \"{}\"}}", "to be or not to be ".repeat(1 + (i * i) % 3)))
        .collect();
    let paths = format!("data.paths=['{}']", file(&data, "documents.jsonl", documents.join("\n")).display());
    let both = ["model.architecture=encoder-decoder", "model.n_decoder_layer=4"];
    let balanced = ["model.moe.aux_loss=0.1", "model.moe.z_loss=0.01"];
    let experts = [&balanced[..], &["model.moe.n_experts=4", "model.activation=swiglu"]].concat();
    let llama = ["model.position=rotary", "model.norm=rmsnorm", "model.activation=swiglu"];
    let models: [&[&str]; 16] = [
        &[],
        &["model.norm_position=post", "model.bias=true"],
        &[&llama[..], &["model.n_kv_head=1", "model.tie_embeddings=false"]].concat(),
        &[&llama[..], &["model.norm_position=both", "model.attention.qk_norm=true"]].concat(),
        &["model.attention.sliding_window=5", "model.attention.softcap=30"],
        &["model.position=alibi"],
        &[&paths, "data.layout=documents", "data.packing=true"],
        &["train.gradient_accumulation_steps=2", "train.batch_size=2"],
        &["train.freeze=['embedding', 'position', 'blocks.1.*']"],
        &["train.freeze=['blocks.*']"],
        &["model.architecture=encoder"],
        &both,
        &[&both[..], &["model.position=relative", "model.activation=geglu"]].concat(),
        &experts,
        &[&experts[..], &["model.moe.shared_expert_inner=16"], &llama[..]].concat(),
        &[&experts[..], &["model.moe.capacity=0.8"], &both[..]].concat(),
    ];
    for (model, fused) in models.into_iter().flat_map(|model| [(model, true), (model, false)]) {
        let run = |recompute: &str| {
            let fused = format!("kernels.fused={fused}");
            let recompute = format!("train.recompute={recompute}");
            let own = [&fused, &recompute, "model.n_layer=3", "model.dropout=0.2", "train.warmup_steps=0"];
            outcome(&own.into_iter().chain(model.iter().copied()).collect::<Vec<_>>())
        };
        let expected = run("none");
        for choice in CHOICES {
            let found = run(choice);
            assert_eq!(found.0, expected.0, "{choice}, {model:?}, fused {fused}");
            assert!(found.1 == expected.1, "weights or moments differ: {choice}, {model:?}, fused {fused}");
        }
    }
}

/// Checks that files of two folders have the same bytes.
fn assert_same(a: &Path, b: &Path, names: &[&str]) {
    for name in names {
        assert!(fs::read(a.join(name)).unwrap() == fs::read(b.join(name)).unwrap(), "{name} differs");
    }
}

#[test]
fn adapters_train_the_same() {
    let folder = folder();
    let base = base(&folder, "base", "--set train.max_steps=2 --set model.dropout=0.1");
    let files = ["adapter_model.safetensors", "optimizer.safetensors"];
    for kind in ["lora", "dora"] {
        let more = format!("--set adapter.kind={kind} --set adapter.dropout=0.2 --set train.max_steps=4");
        let run = |choice: &str| {
            let run = folder.path().join(format!("{kind} {choice}"));
            let recompute = format!("train.recompute={choice}");
            ok(adapt(&base, &run, &more).args(["--set", &recompute]));
            latest(&run)
        };
        let expected = run("none");
        for choice in CHOICES {
            assert_same(&run(choice), &expected, &files);
        }
    }
}

#[test]
fn a_run_that_goes_on_may_choose_anew() {
    let folder = folder();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let settings = "--set model.dropout=0.2 --set train.keep_checkpoints=10";
    ok(&mut debug_train(&whole, settings));
    let first = format!("{settings} --set train.recompute=blocks --set train.stop_after=10");
    ok(&mut debug_train(&parts, &first));
    let again = ["--set", "train.stop_after=none", "--set", "train.recompute=every 2"];
    ok(kiln(["train", "--device", "cpu", "--resume"]).arg(&parts).args(again));
    let files = ["model.safetensors", "optimizer.safetensors"];
    assert_same(&latest(&whole), &latest(&parts), &files);
}

#[test]
fn other_choices_are_refused() {
    let run = folder();
    for choice in ["every 0", "layers"] {
        let value = format!("train.recompute={choice}");
        let parts = [&format!("`{choice}`"), "`train.recompute`", "`selective`, `blocks`, `every 2`"];
        fails(debug_train(&run.path().join("run"), "").args(["--set", &value]), 2, &parts);
    }
}

#[test]
#[ignore = "needs a GPU adapter"]
fn losses_are_the_same_on_other_devices() {
    let experts = ["model.moe.n_experts=4", "model.activation=swiglu"];
    let models: [&[&str]; 3] = [&[], &experts, &["model.architecture=encoder-decoder"]];
    for (name, model) in others().into_iter().flat_map(|name| models.map(|model| (name.clone(), model))) {
        let run = |choice: &str| {
            let recompute = format!("train.recompute={choice}");
            let own = [&recompute, "train.batch_size=2", "model.n_embd=16", "model.dropout=0.2"];
            let config = debug_config(&own.into_iter().chain(model.iter().copied()).collect::<Vec<_>>());
            losses(trainer(config, &name), 10)
        };
        let expected = run("none");
        for choice in CHOICES {
            let worst = largest_difference(&run(choice), &expected);
            eprintln!("{name}, {choice}: losses differ by at most {worst:.1e}");
            assert!(worst < 1e-4, "{name}, {choice}, {model:?}");
        }
    }
    device::settle();
}
