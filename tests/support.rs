//! Helpers that run the binary, and small models to run it with.

use kiln::{
    config::{Config, presets::Preset},
    data::Dataset,
    device::Choice,
    train::Trainer,
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// Makes a command of the binary with these arguments, on the CPU unless the arguments say otherwise.
pub fn kiln<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.args(arguments);
    command
}

/// Splits a command line for the binary into words.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs a command that must succeed, and returns its standard output.
#[track_caller]
pub fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", describe(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail with this exit code. Its message must be one line with all of `parts`,
/// followed by at most a hint.
#[track_caller]
pub fn fails(command: &mut Command, code: i32, parts: &[&str]) {
    let output = command.output().unwrap();
    let text = describe(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{text}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    assert!((1..=2).contains(&lines.len()), "an error and a hint:\n{text}");
    assert!(lines.get(1).is_none_or(|hint| hint.starts_with("hint: ")), "{text}");
    for part in parts {
        assert!(lines.iter().any(|line| line.contains(part)), "`{part}` is not in\n{text}");
    }
    assert!(!stderr.contains("panicked"), "{text}");
}

fn describe(output: &Output) -> String {
    format!(
        "{}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Makes a folder that is removed at the end of the test.
pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a file in a folder.
pub fn file(folder: &TempDir, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, contents).unwrap();
    path
}

/// Makes a command that runs `kiln train` with the smallest preset on the CPU into `run`.
pub fn debug_train(run: &Path, more: &str) -> Command {
    let mut command = kiln(words("train --preset debug --device cpu"));
    command.arg("--out").arg(run).args(words(more));
    command
}

/// Configuration of the smallest preset with some keys changed.
pub fn debug_config(overrides: &[&str]) -> Config {
    let mut config = Preset::find("debug").unwrap().config().unwrap();
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    config.apply(&overrides).unwrap();
    config
}

/// Makes a trainer for a configuration, on a device given by name.
pub fn trainer(config: Config, device: &str) -> Trainer {
    let dataset = Dataset::prepare(&config, None).unwrap();
    let config = config.resolve(&dataset).unwrap();
    let device = device.parse::<Choice>().unwrap().open().unwrap();
    Trainer::new(config, dataset, &device).unwrap()
}

/// Largest difference between two lists; infinite if their lengths differ or a value is not a number.
pub fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() || found.iter().chain(expected).any(|value| !value.is_finite()) {
        return f32::INFINITY;
    }
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Runs the first steps and returns their losses.
pub fn losses(mut trainer: Trainer, steps: usize) -> Vec<f32> {
    let mut step = || {
        trainer.step();
        pollster::block_on(trainer.last_numbers()).unwrap().0
    };
    (0..steps).map(|_| step()).collect()
}

/// A file system that is mounted on a folder until the value is dropped.
#[cfg(target_os = "linux")]
pub struct SmallDisk<'a>(&'a Path);

#[cfg(target_os = "linux")]
impl<'a> SmallDisk<'a> {
    /// Mounts it; `None` if the user may not mount.
    pub fn mount(path: &'a Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path);
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(path))
    }

    pub fn resize(&self, size: &str) {
        let mut mount = Command::new("mount");
        ok(mount.args(["-o", &format!("remount,size={size}")]).arg(self.0));
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily, so that it also goes where a failed test left a file open.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
