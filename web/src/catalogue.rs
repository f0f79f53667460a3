//! Catalogue of the presets, tasks, configuration keys and devices that the page offers.

use crate::{
    problem::{Result, problem, to_js},
    protocol::{Catalogue, PresetInfo, TaskInfo},
};
use kiln::{
    config::{
        Config, Task,
        overrides::RENAMED,
        presets::{Preset, presets},
    },
    model::size,
};
use wasm_bindgen::prelude::*;

/// Number of floating-point operations of a whole run that a tab completes in minutes even without a GPU.
const BROWSER_FLOPS: f64 = 1.5e12;

impl PresetInfo {
    fn new(preset: &Preset) -> kiln::Result<Self> {
        let config = preset.config()?;
        let tokens = size::tokens_per_step(&config);
        let flops = tokens as f64 * config.train.max_steps as f64 * size::flops_per_token(&config.model);
        Ok(Self {
            name: preset.name,
            description: preset.description,
            browser: flops < BROWSER_FLOPS,
            task: Some(config.data.task).filter(|task| *task != Task::None),
            config,
        })
    }
}

/// Lists presets, tasks and the fields of a configuration, as a [`Catalogue`].
#[wasm_bindgen]
pub fn catalogue() -> Result<JsValue> {
    let presets = presets().iter().map(PresetInfo::new).collect::<kiln::Result<_>>().map_err(problem)?;
    let tasks = Task::ALL.into_iter().filter_map(|task| {
        let description = task.description()?;
        Some(TaskInfo { name: task, description, example: task.example() })
    });
    Ok(to_js(&Catalogue {
        version: env!("CARGO_PKG_VERSION"),
        fields: Config::fields(),
        renamed: RENAMED.to_vec(),
        presets,
        tasks: tasks.collect(),
    }))
}
