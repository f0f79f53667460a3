//! CUDA on a machine without a GPU: `cuda/driver.c` stands in for NVIDIA's driver. What goes wrong before a run and
//! in a step is told, and NVIDIA's assembler accepts every kernel. The tests that compile kernels need the files of
//! `examples/cuda.sh`, and are ignored unless they are requested:
//!
//!     bash examples/cuda.sh
//!     bash examples/cuda.sh ptxas target/ptxas
//!     KILN_TEST_PTXAS=target/ptxas/ptxas cargo test --release --features cuda --test integration -- --ignored for_cuda

use crate::{
    compiled::{Works, shared_library},
    support::{fails, file, folder, kiln, ok, words},
};
use serde_json::Value;
use std::{path::PathBuf, process::Command, sync::LazyLock, thread, time::Duration};
use tempfile::TempDir;

/// Folder with the stand-in for `libcuda.so`.
static DRIVER: LazyLock<TempDir> = LazyLock::new(|| shared_library("cuda/driver.c", "libcuda.so"));

/// Has a process find the stand-in, with some of its settings. What it tunes is not kept for a real card.
fn on_stand_in(mut command: Command, settings: &[(&str, &str)]) -> Command {
    command.env("LD_LIBRARY_PATH", DRIVER.path()).envs(settings.iter().copied());
    command.current_dir(DRIVER.path()).env("XDG_CACHE_HOME", DRIVER.path());
    command
}

/// Makes a folder like a CUDA toolkit whose mathematical functions have this content.
fn toolkit(functions: &[u8]) -> TempDir {
    let folder = folder();
    std::fs::create_dir_all(folder.path().join("nvvm/libdevice")).unwrap();
    file(&folder, "nvvm/libdevice/libdevice.10.bc", functions);
    folder
}

/// Enough of the functions for what is looked at before a kernel is compiled.
const FUNCTIONS: &[u8] = b"BC\xc0\xde";

const TRAIN: &str = "train --preset debug --set train.max_steps=2";

/// The entry of `cuda` in the output of `kiln devices --json`, and which device `auto` is.
fn listed(devices: Command) -> (Option<Value>, String) {
    let mut devices = devices;
    let listed: Vec<Value> = serde_json::from_str(&ok(devices.args(words("devices --json")))).unwrap();
    let auto = listed.iter().find(|row| row["auto"] == true).unwrap()["name"].as_str().unwrap().to_owned();
    (listed.into_iter().find(|row| row["name"] == "cuda"), auto)
}

#[test]
fn without_a_driver_cuda_is_refused_and_auto_is_another_device() {
    let broken = folder();
    for name in ["libcuda.so", "libcuda.so.1"] {
        file(&broken, name, "hides the driver of a machine that has one");
    }
    let without = |arguments: &str| {
        let mut command = kiln(words(arguments));
        command.env("LD_LIBRARY_PATH", broken.path());
        command
    };
    let run = broken.path().join("run");
    let mut train = without(&format!("{TRAIN} --device cuda"));
    fails(
        train.arg("--out").arg(&run),
        2,
        &["device `cuda` is not available: no NVIDIA driver", "present here: cpu"],
    );
    assert!(!run.exists());
    let (cuda, auto) = listed(without(""));
    assert_eq!(cuda, None);
    assert_ne!(auto, "cuda");
    let output = without(TRAIN).arg("--out").arg(&run).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(output.status.success() && !text.contains("cuda") && !text.contains("driver"), "{text}");
}

#[test]
fn a_card_is_named_with_its_memory() {
    let toolkit = toolkit(FUNCTIONS);
    let found = toolkit.path().to_str().unwrap();
    let (cuda, auto) = listed(on_stand_in(kiln([""; 0]), &[("CUDA_PATH", found)]));
    let cuda = cuda.unwrap();
    assert_eq!(auto, "cuda");
    assert_eq!(cuda["description"], "Stand-in, no GPU");
    assert_eq!(cuda["memory_bytes"], 141u64 << 30);
    assert_eq!(cuda["dtypes"], serde_json::json!(["f64", "f32", "f16", "bf16"]));
}

#[test]
fn what_a_card_lacks_is_told_before_the_run() {
    let [good, bad, empty] = [toolkit(FUNCTIONS), toolkit(b"no bitcode"), folder()];
    let path = |folder: &TempDir| folder.path().to_str().unwrap().to_owned();
    let cases = [
        (&empty, "", "", "`libdevice.10.bc`, are missing; `bash examples/cuda.sh` fetches it"),
        (&bad, "", "", "nvvm/libdevice/libdevice.10.bc` is not NVIDIA's library of mathematical functions"),
        (&good, "STAND_IN_DRIVER", "12040", "its driver supports CUDA 12.4, and Kiln needs 12.8; install"),
        (&good, "STAND_IN_FAULT", "no-card", "the driver finds no card"),
        (&good, "STAND_IN_FAULT", "exclusive", "another process has it for itself"),
        (&good, "STAND_IN_FAULT", "full", "its memory is full; end what else runs there"),
        (&good, "STAND_IN_MEMORY", "100", "only 100 of its 100 MiB of memory are free"),
    ];
    for (toolkit, setting, value, reason) in cases {
        let run = folder();
        let settings = [("CUDA_PATH", &*path(toolkit)), (setting, value)];
        let settings = &settings[..if setting.is_empty() { 1 } else { 2 }];
        let mut train = on_stand_in(kiln(words(&format!("{TRAIN} --device cuda"))), settings);
        fails(train.arg("--out").arg(run.path().join("run")), 2, &["device `cuda` is not available", reason]);
        assert_eq!(std::fs::read_dir(run.path()).unwrap().count(), 0, "{reason}");
        let (cuda, _) = listed(on_stand_in(kiln([""; 0]), settings));
        let told = cuda.map(|cuda| cuda["problem"].as_str().unwrap().to_owned());
        assert!(told.is_none_or(|told| told.contains(reason)), "{reason}");
    }
    // What no context needs to be made for is known to `auto` as well.
    for settings in
        [[("CUDA_PATH", &*path(&empty)); 2], [("CUDA_PATH", &path(&good)), ("STAND_IN_DRIVER", "12040")]]
    {
        assert_ne!(listed(on_stand_in(kiln([""; 0]), &settings)).1, "cuda");
    }
}

#[test]
fn memory_that_runs_out_loses_nothing() {
    let [folder, toolkit] = [folder(), toolkit(FUNCTIONS)];
    let run = folder.path().join("run");
    ok(kiln(words("train --preset debug --device cpu --set train.max_steps=3 --out")).arg(&run));
    let checkpoint = || ok(kiln(words("eval --device cpu --json")).arg(&run));
    let before = checkpoint();
    let settings = [
        ("CUDA_PATH", toolkit.path().to_str().unwrap()),
        ("STAND_IN_FULL", toolkit.path().to_str().unwrap()),
    ];
    let mut resumed = kiln(words("train --device cuda --set train.max_steps=6 --resume"));
    resumed.arg(&run);
    fails(
        &mut on_stand_in(resumed, &settings),
        1,
        &["device `cuda` failed while training: out of device memory", "lower `train.batch_size`"],
    );
    let loss = |json: &str| serde_json::from_str::<Value>(json).unwrap()["loss"].clone();
    assert_eq!(loss(&checkpoint()), loss(&before));
    ok(kiln(words("train --device cpu --set train.max_steps=6 --resume")).arg(&run));
}

#[test]
fn the_mathematical_functions_may_lie_beside_the_binary() {
    let toolkit = toolkit(FUNCTIONS);
    let binary = toolkit.path().join("kiln");
    let built = env!("CARGO_BIN_EXE_kiln");
    std::fs::hard_link(built, &binary).or_else(|_| std::fs::copy(built, &binary).map(drop)).unwrap();
    let mut command = Command::new(binary);
    for name in ["CUDA_PATH", "CUDA_HOME", "CONDA_PREFIX"] {
        command.env_remove(name);
    }
    let (cuda, auto) = listed(on_stand_in(command, &[]));
    assert_eq!((cuda.unwrap()["problem"].clone(), &*auto), (Value::Null, "cuda"));
}

#[test]
#[ignore = "needs the files of examples/cuda.sh"]
fn a_card_that_fails_in_a_step_loses_nothing_for_cuda() {
    let folder = folder();
    let run = folder.path().join("run");
    let lost = folder.path().join("lost");
    let mut train = kiln(words("train --preset debug --device cuda --set train.max_steps=100000"));
    train.args(words("--set train.save_interval=5 --set train.eval_interval=0")).arg("--out").arg(&run);
    let mut train = on_stand_in(train, &[("STAND_IN_LOST", lost.to_str().unwrap())]);
    let loses = thread::spawn({
        let (log, lost) = (run.join("log.jsonl"), lost.clone());
        move || {
            let saved =
                || std::fs::read_to_string(&log).is_ok_and(|log| log.contains(r#""type":"checkpoint""#));
            while !saved() {
                thread::sleep(Duration::from_millis(5));
            }
            std::fs::write(lost, "").unwrap();
        }
    });
    fails(&mut train, 1, &["device `cuda` failed while training: ", "with `--resume`"]);
    loses.join().unwrap();
    ok(kiln(words("eval --device cpu")).arg(&run));
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    let saved = log.lines().rev().find(|line| line.contains(r#""type":"checkpoint""#)).unwrap();
    let step = serde_json::from_str::<Value>(saved).unwrap()["step"].as_u64().unwrap();
    let mut resumed = kiln(words("train --device cpu --resume"));
    ok(resumed.arg(&run).arg("--set").arg(format!("train.stop_after={}", step + 5)));
}

#[test]
#[ignore = "needs the files of examples/cuda.sh, and takes minutes"]
fn every_kernel_is_assembled_for_cuda() {
    let ptxas = std::env::var_os("KILN_TEST_PTXAS").map(PathBuf::from);
    let ptxas = ptxas.expect("KILN_TEST_PTXAS is the path of ptxas: `bash examples/cuda.sh ptxas DIR`");
    let mut failures = Vec::new();
    for (arch, assembled_for) in [("80", "sm_80"), ("90", "sm_90a")] {
        let compile =
            |command, kept: &str| on_stand_in(command, &[("STAND_IN_PTX", kept), ("STAND_IN_ARCH", arch)]);
        let check = |kernel: &std::path::Path| {
            let mut assemble = Command::new(&ptxas);
            assemble
                .arg(format!("-arch={assembled_for}"))
                .arg("-o")
                .arg(kernel.with_extension("o"))
                .arg(kernel);
            assemble
        };
        let works = Works { device: "cuda", name: assembled_for, types: &["f32", "bf16", "f16"] };
        failures.extend(works.refused(compile, check));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
