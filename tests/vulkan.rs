//! SPIR-V on a machine without a GPU: Khronos' validator accepts every kernel that CubeCL makes for a driver with an
//! explicit layout of shared memory, as drivers of GPUs have. SwiftShader lacks that; `vulkan/layer.c` says otherwise in
//! its name. Needs `spirv-val` (Debian's package spirv-tools), the headers of libvulkan-dev and SwiftShader:
//!
//!     VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json \
//!         cargo test --release --features vulkan --test integration -- --ignored for_vulkan

use crate::{
    compiled::{Works, shared_library},
    support::{fails, folder, kiln, words},
};
use std::{path::Path, process::Command};

#[test]
#[ignore = "needs spirv-val and SwiftShader, and takes a minute"]
fn every_module_is_valid_for_vulkan() {
    let layer = shared_library("vulkan/layer.c", "layer.so");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vulkan/layer.json");
    std::fs::copy(manifest, layer.path().join("layer.json")).unwrap();
    let compile = |mut command: Command, kept: &str| {
        command.env("VK_LAYER_PATH", layer.path()).env("VK_INSTANCE_LAYERS", "VK_LAYER_KILN_stand_in");
        command.env("STAND_IN_SPIRV", kept);
        command
    };
    let check = |module: &Path| {
        let mut validate = Command::new("spirv-val");
        validate.args(["--target-env", "vulkan1.3"]).arg(module);
        validate
    };
    let works = Works { device: "vulkan", name: "SPIR-V", types: &["f32"] };
    let refused = works.refused(compile, check);
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
#[ignore = "needs SwiftShader"]
fn a_driver_that_would_compute_wrong_results_is_refused_for_vulkan() {
    let run = folder();
    for device in ["vulkan", "wgpu"] {
        let mut train = kiln(words(&format!("train --preset debug --device {device}")));
        // Without the layer that `check.sh` has the other tests run with.
        train.env_remove("VK_INSTANCE_LAYERS").arg("--out").arg(run.path().join("run"));
        fails(
            &mut train,
            2,
            &["lacks VK_KHR_workgroup_memory_explicit_layout", "without the feature `vulkan`"],
        );
    }
}
