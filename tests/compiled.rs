//! Compiles the kernels of training steps for a GPU that is not there, and checks them with its maker's tools.

use crate::{
    kernels,
    support::{file, folder, ok, trainer, words},
};
use burn::tensor::FloatDType;
use kiln::{
    config::{Config, presets::Preset},
    device::{self, Choice},
};
use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tempfile::TempDir;

/// The models whose steps are compiled, as a preset and what is changed, so that each kind of layer is there once and
/// of the width that tensor cores want.
const SHAPES: [(&str, &str); 3] = [
    ("shakespeare-char", "model.n_layer=1 train.batch_size=8"),
    ("moe-tiny", "model.n_layer=1 model.n_head=8 model.n_kv_head=2 model.n_embd=512 train.batch_size=8"),
    ("t5-tiny", "model.n_layer=1 model.n_decoder_layer=1 model.n_embd=256 train.batch_size=8"),
];

/// All fused kernels, over the sizes at which `kernels.rs` compares them.
const ALL_KERNELS: &str = "kernels";

fn config(preset: &str) -> Config {
    let (_, changes) = SHAPES.into_iter().find(|(name, _)| *name == preset).unwrap();
    let mut config = Preset::find(preset).unwrap().config().unwrap();
    config.apply(&words(changes)).unwrap();
    config
}

/// Compiles a C file of `tests/` to a shared library in a folder of its own.
pub fn shared_library(source: &str, name: &str) -> TempDir {
    let folder = folder();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(folder.path().join(name)).arg(source);
    ok(&mut compiler);
    folder
}

/// Compiles what `KILN_TEST_COMPILE` names, in a process that [`Works::refused`] starts.
#[test]
#[ignore = "a part of the tests that check compiled kernels"]
fn compiled_in_this_process() {
    let work =
        std::env::var("KILN_TEST_COMPILE").expect("KILN_TEST_COMPILE is a device, a preset and a type");
    let [name, what, float] = words(&work).try_into().unwrap();
    let mut device = name.parse::<Choice>().unwrap().open().unwrap();
    if what == ALL_KERNELS {
        // Nothing is computed, so what comes out does not matter.
        kernels::compare("a device that is not there", &device, [f32::INFINITY; 2]);
        return;
    }
    let mut config = config(&what);
    if float != "f32" {
        device.configure(if float == "bf16" { FloatDType::BF16 } else { FloatDType::F16 }).unwrap();
        // Kiln's own kernels are for f32.
        config.apply(&words("kernels.fused=false")).unwrap();
    }
    let mut trainer = trainer(config, &name);
    for _ in 0..2 {
        trainer.step();
    }
    pollster::block_on(trainer.last_numbers()).unwrap();
    device::settle();
}

/// Steps of all shapes on one device.
pub struct Works<'a> {
    pub device: &'a str,
    /// What the kernels are for, as it is printed.
    pub name: &'a str,
    /// Types in which the steps are computed.
    pub types: &'a [&'a str],
}

impl Works<'_> {
    /// Compiles all works, each in a process that `compile` has keep its kernels in a folder, and checks each distinct
    /// kernel by `check`. Prints the counts. Returns what is said about those that are refused.
    pub fn refused(
        &self,
        compile: impl Fn(Command, &str) -> Command + Sync,
        check: impl Fn(&Path) -> Command + Sync,
    ) -> Vec<String> {
        let steps = SHAPES.iter().flat_map(|(shape, _)| self.types.iter().map(move |float| (*shape, *float)));
        let works: Vec<_> = steps.chain([(ALL_KERNELS, "f32")]).collect();
        let (next, seen, all_refused) =
            (AtomicUsize::new(0), Mutex::new(BTreeSet::new()), Mutex::new(Vec::new()));
        let work = || {
            while let Some((what, float)) = works.get(next.fetch_add(1, Ordering::Relaxed)) {
                let kernels = self.compiled(what, float, &compile);
                let is_new = |kernel: &Vec<u8>| seen.lock().unwrap().insert(kernel.clone());
                let new: Vec<Vec<u8>> = kernels.iter().filter(|kernel| is_new(kernel)).cloned().collect();
                let refused: Vec<String> = new.iter().filter_map(|kernel| refusal(kernel, &check)).collect();
                let (name, all, new, bad) = (self.name, kernels.len(), new.len(), refused.len());
                eprintln!("{name}, {what} in {float}: {all} kernels, {new} of them new, {bad} refused");
                all_refused.lock().unwrap().extend(refused);
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().unwrap().get() {
                scope.spawn(work);
            }
        });
        let (seen, all_refused) = (seen.into_inner().unwrap(), all_refused.into_inner().unwrap());
        eprintln!("{}: {} different kernels, {} refused", self.name, seen.len(), all_refused.len());
        all_refused
    }

    /// Kernels of one work.
    fn compiled(
        &self,
        what: &str,
        float: &str,
        compile: impl Fn(Command, &str) -> Command,
    ) -> BTreeSet<Vec<u8>> {
        let [kept, work] = [folder(), folder()];
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(words("--ignored --exact compiled::compiled_in_this_process --nocapture"));
        child.env("KILN_TEST_COMPILE", format!("{} {what} {float}", self.device));
        // Everything is tuned, whatever an earlier process kept.
        child.current_dir(&work).env("XDG_CACHE_HOME", work.path()).env("CUBECL_AUTOTUNE_LEVEL", "full");
        if std::env::var_os("CUDA_PATH").is_none() {
            // Where `examples/cuda.sh` puts NVIDIA's mathematical functions.
            child.env("CUDA_PATH", Path::new(env!("CARGO_BIN_EXE_kiln")).parent().unwrap());
        }
        ok(&mut compile(child, kept.path().to_str().unwrap()));
        let files = std::fs::read_dir(kept.path()).unwrap();
        let kernels: BTreeSet<Vec<u8>> =
            files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(kernels.len() > 10, "{what} in {float} has more kernels than {}", kernels.len());
        kernels
    }
}

/// Returns the checker's output for a kernel that it refuses.
fn refusal(kernel: &[u8], check: impl Fn(&Path) -> Command) -> Option<String> {
    let folder = folder();
    let output = check(&file(&folder, "kernel", kernel)).output().unwrap();
    let said = || String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { None } else { Some(said()) }
}
