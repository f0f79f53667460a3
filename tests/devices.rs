//! Every device computes the same as the CPU. These tests are ignored unless they are requested, so that none
//! passes without having compared anything:
//!
//!     cargo test --release --test integration -- --ignored on_other_devices
//!
//! They fail on a machine without an adapter. With `KILN_TEST_WGPU` set, software adapters count as well:
//! `check.sh` sets it and lets SwiftShader's Vulkan driver stand in (`VK_ICD_FILENAMES`).

use crate::{
    parity::fixture,
    support::{debug_config, kiln, largest_difference, losses, ok, trainer, trainer_on, words},
};
use burn::tensor::Device;
use kiln::{
    device,
    eval::verify::{Tolerances, verify},
};
use serde_json::Value;
use std::sync::OnceLock;

/// All devices but the CPU by their names; there is at least one.
pub fn others() -> &'static [(String, Device)] {
    static DEVICES: OnceLock<Vec<(String, Device)>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let with_software = std::env::var_os("KILN_TEST_WGPU").is_some();
        let devices = device::list().into_iter();
        let others = devices.filter(|info| !info.choice().is_cpu() && (with_software || !info.software));
        let opened = others.map(|info| {
            #[cfg(feature = "wgpu")]
            if info.software {
                return (info.name, emulated());
            }
            let device = info.choice().open().unwrap();
            (info.name, device)
        });
        let devices: Vec<_> = opened.collect();
        assert!(
            !devices.is_empty(),
            "there is no adapter to compare with the CPU: set KILN_TEST_WGPU to let a software one count"
        );
        let names: Vec<_> = devices.iter().map(|(name, _)| name).collect();
        eprintln!("devices compared with the CPU: {names:?}");
        devices
    })
}

/// Opens an emulated adapter with small buffers. Before CubeCL tunes kernels it measures how fast memory is, with
/// buffers as large as the device allows; with SwiftShader's that takes half a minute each time.
#[cfg(feature = "wgpu")]
fn emulated() -> Device {
    use burn::tensor::wgpu::{WgpuSetup, wgpu};
    const BUFFER_BYTES: u64 = 16 << 20;
    device::configure_fusion();
    let backend = wgpu::Backend::Vulkan;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backend.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(backend.into()));
    let is_emulated = |adapter: &wgpu::Adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu;
    let adapter = adapters.into_iter().find(is_emulated).expect("a Vulkan driver for the CPU");
    let required_limits = wgpu::Limits {
        max_buffer_size: BUFFER_BYTES,
        max_storage_buffer_binding_size: BUFFER_BYTES,
        ..adapter.limits()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features().difference(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS),
        required_limits,
        // SAFETY: all shaders are Burn's and Kiln's, which also run with these features.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..Default::default()
    }))
    .unwrap();
    Device::wgpu_options().setup(WgpuSetup { instance, adapter, device, queue, backend }).init().unwrap()
}

/// Waits until all devices have finished their work: unloading a driver that still works can crash.
pub fn settle() {
    others().iter().for_each(|(_, device)| device.sync().unwrap());
    device::settle();
}

#[test]
#[ignore = "needs a GPU adapter"]
fn the_same_run_gives_the_same_losses_on_other_devices() {
    let config = ["train.batch_size=2", "model.n_embd=16", "train.learning_rate=3e-3"];
    let expected = losses(trainer(debug_config(&config), "cpu"), 20);
    for (name, device) in others() {
        let found = losses(trainer_on(debug_config(&config), device), 20);
        let worst = largest_difference(&found, &expected);
        eprintln!("{name}: losses differ by at most {worst:.1e}");
        assert!(worst < 1e-3, "{name}: {found:?} instead of {expected:?}");
    }
    settle();
}

#[test]
#[ignore = "needs a GPU adapter"]
fn logits_gradients_and_adamw_equal_pytorchs_on_other_devices() {
    for (name, device) in others() {
        for family in ["gpt2", "llama", "mixtral", "gemma2", "bert", "bert-classify", "modernbert", "t5"] {
            let found = pollster::block_on(verify(&fixture(family), device)).unwrap();
            let failures = found.failures(&Tolerances::uniform(1e-2));
            assert_eq!(failures, Vec::<String>::new(), "{family} on {name}");
        }
    }
    settle();
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
