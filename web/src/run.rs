//! One run, trained in short stretches so that the worker can handle messages in between.

use crate::{
    device::device,
    files,
    problem::{Result, problem, refusal, to_js},
    protocol::{AttentionMaps, OwnText, RunSpec, SavedCheckpoint, Target},
    spec::dataset,
};
use burn::tensor::Device;
use js_sys::{Array, Function, Object, Reflect};
use kiln::{
    checkpoint::{Checkpoint, Files},
    config::{Config, SampleConfig},
    error::hint,
    generate::Generator,
    model::size,
    platform::Instant,
    train::{
        Hooks, Progress, Trainer,
        event::Event,
        memory::{MemoryKind, ModelsBeside},
        plan::{self, Limits},
    },
};
use std::path::PathBuf;
use wasm_bindgen::prelude::*;

/// A model in training, as JavaScript sees it.
#[wasm_bindgen]
pub struct Run {
    trainer: Trainer,
    progress: Option<Progress>,
    device: Device,
    outside: Outside,
}

/// State that the loop's hooks share.
struct Outside {
    device_name: String,
    /// JavaScript function that is called with each event.
    observe: Function,
    /// Checkpoints that the worker has not fetched yet.
    saved: Vec<Saved>,
}

struct Saved {
    checkpoint: SavedCheckpoint,
    files: Object,
}

impl Outside {
    /// Calls `work` with hooks that report to JavaScript and collect checkpoints.
    async fn with_hooks<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Hooks<'_>) -> kiln::Result<T>,
    ) -> Result<T> {
        let Self { device_name, observe, saved } = self;
        let mut hooks = Hooks {
            observe: &mut |event: &Event| {
                // An observer that throws is not a reason to stop training.
                let _ = observe.call1(&JsValue::NULL, &to_js(event));
                Ok(())
            },
            save: &mut |step: u64, checkpoint: &Files, is_best: bool| {
                let files = files::to_js(checkpoint);
                saved.push(Saved { checkpoint: SavedCheckpoint { step, is_best }, files });
                Ok(PathBuf::from(format!("step-{step:06}")))
            },
            interrupted: &|| false,
            device: device_name.clone(),
            peak_flops: None,
        };
        work(&mut hooks).await.map_err(problem)
    }
}

#[wasm_bindgen]
impl Run {
    /// Starts a new run of a `RunSpec` on a `Target`.
    pub fn start(spec: JsValue, target: JsValue, observe: Function) -> Result<Run> {
        let (spec, target) = (RunSpec::from_js(spec)?, Target::from_js(target)?);
        let device = device(&target.name).map_err(problem)?;
        let (config, dataset) = spec.resolve().map_err(problem)?;
        let config = target.fit(config).map_err(problem)?;
        let trainer = Trainer::new(config, dataset, &device).map_err(problem)?;
        Ok(Self::new(trainer, device, target.description, observe))
    }

    /// Continues from a checkpoint's files with the changes in `set`. `text` is the visitor's own text, if
    /// the run had one, and `origin` names the checkpoint in messages.
    pub fn resume(
        checkpoint: &Object,
        origin: &str,
        text: JsValue,
        set: Vec<String>,
        target: JsValue,
        observe: Function,
    ) -> Result<Run> {
        let text: Option<OwnText> =
            serde_wasm_bindgen::from_value(text).map_err(|error| refusal(&error.to_string(), ""))?;
        let target = Target::from_js(target)?;
        let device = device(&target.name).map_err(problem)?;
        let files = files::from_js(checkpoint, origin)?;
        let resume = || -> kiln::Result<Trainer> {
            let checkpoint = Checkpoint::from_files(files)?;
            let mut config = checkpoint.config.clone().ok_or_else(|| kiln::Error::Checkpoint {
                path: checkpoint.path().into(),
                message: "it was not made by `kiln train`, so there is nothing to resume".into(),
                hint: None,
            })?;
            config.apply(&set)?;
            // Where the desktop read its text is of no use here, and the tokenizer comes along.
            config.data.paths.clear();
            config.eval.suites.clear();
            let config = target.fit(config)?;
            let dataset = dataset(&config, text.as_ref(), Some(checkpoint.tokenizer()?))?;
            let config = config.resolve(&dataset)?;
            Trainer::resume(config, dataset, &device, &checkpoint)
        };
        let trainer = resume().map_err(problem)?;
        Ok(Self::new(trainer, device, target.description, observe))
    }

    fn new(trainer: Trainer, device: Device, device_name: String, observe: Function) -> Self {
        let outside = Outside { device_name, observe, saved: Vec::new() };
        Self { trainer, progress: None, device, outside }
    }

    /// Trains for about this long, but at least one step. Returns the reason if the run has ended.
    pub async fn advance(&mut self, milliseconds: f64) -> Result<JsValue> {
        let Self { trainer, progress, outside, .. } = self;
        let started = Instant::now();
        let reason = outside.with_hooks(async |hooks| {
            if progress.is_none() {
                *progress = Some(trainer.begin(hooks)?);
            }
            let Some(progress) = progress.as_mut() else { return Ok(None) };
            loop {
                if let Some(reason) = trainer.advance(progress, hooks).await? {
                    trainer.finish(progress, reason, hooks)?;
                    return Ok(Some(reason));
                }
                if started.elapsed().as_secs_f64() * 1e3 >= milliseconds {
                    return Ok(None);
                }
            }
        });
        Ok(to_js(&reason.await?))
    }

    /// Reports the losses that are still on the device, before a pause.
    pub async fn settle(&mut self) -> Result<()> {
        let Self { trainer, progress, outside, .. } = self;
        let Some(progress) = progress.as_mut() else { return Ok(()) };
        outside.with_hooks(async |hooks| trainer.settle(progress, hooks).await).await
    }

    /// Restarts the clock after a pause, so that the pause does not count as training time.
    pub fn restart_clock(&mut self) {
        if let Some(progress) = self.progress.as_mut() {
            self.trainer.restart_clock(progress);
        }
    }

    /// Checkpoints saved since the last call, as a list of [`SavedCheckpoint`], each with its `files`.
    pub fn take_saved(&mut self) -> Array {
        let saved = std::mem::take(&mut self.outside.saved);
        let entries = saved.into_iter().map(|saved| {
            let entry = to_js(&saved.checkpoint);
            // Setting a property of a plain object does not fail.
            let _ = Reflect::set(&entry, &"files".into(), &saved.files);
            entry
        });
        entries.collect()
    }

    /// Makes a checkpoint of the current state.
    pub async fn checkpoint(&self) -> Result<Object> {
        self.trainer.checkpoint().await.map(|files| files::to_js(&files)).map_err(problem)
    }

    /// Lets the device compile the kernels that a step needs. Does not change the run.
    pub async fn warm_up(&mut self) -> Result<()> {
        self.trainer.warm_up().await.map_err(problem)
    }

    /// Measures the time of one step, in seconds. The step changes the model, so use a run that is not
    /// continued.
    pub async fn time_step(&mut self) -> Result<f64> {
        let started = Instant::now();
        self.trainer.step();
        self.trainer.last_numbers().await.map_err(problem)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Number of finished steps.
    pub fn step(&self) -> f64 {
        self.trainer.steps_done() as f64
    }

    /// Number of the step after which the run ends.
    pub fn last_step(&self) -> f64 {
        self.trainer.config().train.last_step() as f64
    }

    /// Description of the run that is about to start, as a `RunInfo`.
    pub fn info(&self, device: &str) -> JsValue {
        to_js(&self.trainer.info(device, None))
    }

    /// Memory that the device's allocator holds, in bytes; `None` on the CPU.
    pub fn gpu_bytes(&self) -> Option<f64> {
        self.device.memory_pool_usage().map(|usage| usage.bytes_reserved as f64)
    }

    /// Generates text after a prompt and returns it.
    pub async fn generate(
        &self,
        prompt: String,
        max_new_tokens: usize,
        temperature: f64,
        top_k: usize,
        seed: f64,
    ) -> Result<String> {
        let config = self.trainer.config();
        let sample = SampleConfig {
            prompt,
            max_new_tokens,
            temperature,
            top_k,
            seed: seed as u64,
            ..config.sample.clone()
        };
        sample.validate().map_err(problem)?;
        let model = self.trainer.trained_model();
        let tokenizer = &self.trainer.dataset().tokenizer;
        let generator = Generator { model: &model, config: &config.model, tokenizer, device: &self.device };
        let written = generator.generate(&sample, &mut |_| {}, &|| false).await;
        written.map(|written| written.text).map_err(problem)
    }

    /// Attention weights of a layer for a text, as [`AttentionMaps`].
    pub async fn attention(&self, text: &str, layer: usize) -> Result<JsValue> {
        let tokenizer = &self.trainer.dataset().tokenizer;
        let mut tokens = tokenizer.encode(text).map_err(problem)?;
        tokens.truncate(self.trainer.config().model.block_size);
        let weights = self.trainer.attention(&tokens, layer).await.map_err(problem)?;
        let name = |token: &u32| tokenizer.decode(&[*token]).unwrap_or_else(|_| format!("#{token}"));
        Ok(to_js(&AttentionMaps { tokens: tokens.iter().map(name).collect(), layer, weights }))
    }

    /// Every parameter and its gradient, as a list of `ParameterReport`.
    pub async fn parameters(&self) -> Result<JsValue> {
        self.trainer.inspect().await.map(|reports| to_js(&reports)).map_err(problem)
    }
}

impl Target {
    fn from_js(value: JsValue) -> Result<Self> {
        serde_wasm_bindgen::from_value(value)
            .map_err(|error| refusal(&format!("the device is not described completely: {error}"), ""))
    }

    /// Divides an automatic batch, and refuses a run that cannot fit before anything is allocated.
    fn fit(&self, config: Config) -> kiln::Result<Config> {
        const MIB: u64 = 1 << 20;
        let nothing = ModelsBeside::default();
        let limits = Limits { kind: MemoryKind::Device, bytes: self.available as u64, dtypes: &[] };
        let config = plan::fit_batch(config, &nothing, &limits, &self.name)?;
        plan::check(&config, &nothing, &limits, &self.name)?;
        let largest = size::largest_tensor_bytes(&config);
        if largest as f64 > self.largest {
            return Err(kiln::Error::OutOfMemory {
                device: self.name.clone(),
                needed_mib: largest.div_ceil(MIB),
                available_mib: self.largest as u64 / MIB,
                hint: hint![
                    "lower ",
                    hint::key("train.batch_size"),
                    ", ",
                    hint::key("model.block_size"),
                    " or the size of the model"
                ],
            });
        }
        Ok(config)
    }
}
