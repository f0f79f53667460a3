//! Every device computes the same as the CPU. These tests are ignored unless they are requested, so that none
//! passes without having compared anything:
//!
//!     cargo test --release --test integration -- --ignored on_other_devices
//!
//! They fail on a machine without an adapter. With `KILN_TEST_WGPU` set, software adapters count as well:
//! `check.sh` sets it and lets SwiftShader's Vulkan driver stand in (`VK_ICD_FILENAMES`).

use crate::{
    parity::fixture,
    support::{debug_config, kiln, largest_difference, losses, ok, trainer, words},
};
use kiln::{
    device::{self, DeviceInfo},
    eval::verify::{Tolerances, verify_model},
};
use serde_json::Value;

/// Lists the names of all devices but the CPU; there is at least one.
pub fn others() -> Vec<String> {
    let with_software = std::env::var_os("KILN_TEST_WGPU").is_some();
    // An emulated adapter is one path, whatever its name is.
    let counts = |info: &DeviceInfo| !info.software || (with_software && info.name.starts_with("wgpu"));
    let others = device::list().into_iter().filter(|info| !info.choice().is_cpu() && counts(info));
    let names: Vec<String> = others.map(|info| info.name).collect();
    assert!(
        !names.is_empty(),
        "there is no adapter to compare with the CPU: set KILN_TEST_WGPU to let a software one count"
    );
    eprintln!("devices compared with the CPU: {names:?}");
    names
}

#[test]
#[ignore = "needs a GPU adapter"]
fn the_same_run_gives_the_same_losses_on_other_devices() {
    let config = ["train.batch_size=2", "model.n_embd=16", "train.learning_rate=3e-3"];
    let expected = losses(trainer(debug_config(&config), "cpu"), 20);
    for name in others() {
        let found = losses(trainer(debug_config(&config), &name), 20);
        let worst = largest_difference(&found, &expected);
        eprintln!("{name}: losses differ by at most {worst:.1e}");
        assert!(worst < 1e-3, "{name}: {found:?} instead of {expected:?}");
    }
    device::settle();
}

#[test]
#[ignore = "needs a GPU adapter"]
fn logits_gradients_and_adamw_equal_pytorchs_on_other_devices() {
    for name in others() {
        let device = name.parse::<device::Choice>().unwrap().open().unwrap();
        for family in ["gpt2", "llama", "mixtral", "gemma2", "bert", "bert-classify", "modernbert", "t5"] {
            let found = pollster::block_on(verify_model(&fixture(family), &device)).unwrap();
            let failures = found.failures(&Tolerances::uniform(1e-2));
            assert_eq!(failures, Vec::<String>::new(), "{family} on {name}");
        }
    }
    device::settle();
}

/// The CPU's entry in the output of `kiln devices --json`.
fn cpu(more: &str) -> Value {
    let devices: Value =
        serde_json::from_str(&ok(&mut kiln(words(&format!("devices --json {more}"))))).unwrap();
    devices.as_array().unwrap().iter().find(|device| device["name"] == "cpu").unwrap().clone()
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn the_cpu_names_its_instructions_and_its_measured_peak() {
    let listed = cpu("");
    let instructions = listed["instruction_set"].as_str().unwrap();
    assert!(["AVX-512", "AVX2+FMA", "AVX+FMA", "SSE2", "NEON"].contains(&instructions), "{listed}");
    assert!(listed["description"].as_str().unwrap().contains("thread"), "{listed}");
    assert!(listed["peak_flops"].is_null(), "{listed}");

    let measured = cpu("--measure");
    assert_eq!(measured["instruction_set"], instructions);
    assert!(measured["peak_flops"].as_f64().unwrap() > 1e8, "{measured}");
    let table = ok(&mut kiln(words("devices --measure")));
    let row = table.lines().find(|line| line.starts_with("cpu ")).unwrap();
    assert!(row.contains(instructions) && row.contains("GFLOP/s"), "{table}");
}
