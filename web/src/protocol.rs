//! The types that cross between this crate and TypeScript. A test of the engine (`src/engine/typescript.rs`)
//! makes `page/generated.ts` from them and from the engine's own types. It compiles this file itself, since
//! this crate is only built for browsers, so this file must not use anything but `kiln` and serde.

use kiln::{
    config::{Config, Task, overrides::Field},
    error::Hint,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything about the engine that does not change.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Catalogue {
    pub version: &'static str,
    pub fields: Vec<Field>,
    /// Each earlier name of a key with its name now.
    pub renamed: Vec<(&'static str, &'static str)>,
    pub presets: Vec<PresetInfo>,
    pub tasks: Vec<TaskInfo>,
}

/// A preset with its whole configuration.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "Preset"))]
pub struct PresetInfo {
    pub name: &'static str,
    pub description: &'static str,
    /// Made for the page: small enough for a tab.
    pub browser: bool,
    /// The procedural task that it trains on, if any.
    pub task: Option<Task>,
    pub config: Config,
}

/// A procedural task.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "Task"))]
pub struct TaskInfo {
    pub name: Task,
    pub description: &'static str,
    /// One line as the model sees it, for example `12+34=46`.
    pub example: String,
}

/// A run as the visitor describes it, with the text read.
#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "EngineSpec"))]
pub struct RunSpec {
    pub preset: String,
    /// `key=value`, applied in order over the preset.
    pub set: Vec<String>,
    /// Text to train on instead of what the configuration names.
    pub text: Option<OwnText>,
}

/// Text of the visitor.
#[derive(Deserialize, Hash)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "EngineText"))]
pub struct OwnText {
    pub name: String,
    pub text: String,
}

/// A device to train on, as the worker found it.
#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Target {
    /// `cpu`, or `webgpu` once that is opened.
    pub name: String,
    /// For people.
    pub description: String,
    /// The most bytes that one buffer may have.
    pub largest: f64,
    /// The most bytes that all may have.
    pub available: f64,
}

/// A run checked and resolved, before anything is built.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Plan {
    pub config: Config,
    /// Keys whose value is not the preset's.
    pub changed: Vec<Change>,
    pub parameters: usize,
    /// The least memory that training holds, in bytes.
    pub training_bytes: u64,
    pub tokens_per_step: usize,
    /// Floating-point operations of one optimizer step, forward and backward.
    pub flops_per_step: f64,
    pub train_tokens: usize,
    pub val_tokens: usize,
    pub vocab_size: usize,
    /// Command that starts the same run on the desktop.
    pub command: String,
}

/// A key with the value of a run and that of its preset.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Change {
    pub key: &'static str,
    #[cfg_attr(test, ts(type = "unknown"))]
    pub value: Value,
    #[cfg_attr(test, ts(type = "unknown"))]
    pub preset: Value,
}

/// A refusal or a failure, for people.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Problem {
    pub message: String,
    pub hint: Option<Hint>,
    /// The worker is of no use any more: begin a new one and resume from the last saved checkpoint.
    pub fatal: bool,
}

/// A checkpoint that came due; its files go beside this.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SavedCheckpoint {
    pub step: u64,
    pub is_best: bool,
}

/// Attention of one layer on a text: `weights[head][query][key]`.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AttentionMaps {
    pub tokens: Vec<String>,
    pub layer: usize,
    pub weights: Vec<Vec<Vec<f32>>>,
}
