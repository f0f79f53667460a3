//! Training: one loop for every objective, device and platform. [`Trainer::step`] is a whole step; `run.rs`
//! contains what happens between steps, `event.rs` what is reported.

mod early_stop;
pub mod event;
pub mod inspect;
pub mod memory;
mod offload;
mod overfitting;
pub mod plan;
mod pruning;
mod run;
mod step;
#[cfg(test)]
mod tests;

pub use run::{Hooks, Progress};

use crate::{
    checkpoint::{
        self, Checkpoint, Files, OverfittingState, RecentLosses, TrainedAdapter, TrainerState, Weights, names,
    },
    config::Config,
    data::{Dataset, Loader, RowLayout, random::seed_for},
    error::{Error, Result, hint},
    generate::Generator,
    kernels,
    model::{
        Model,
        parameters::{self, NamedData},
        size,
    },
    objective::{self, Metrics, Objective, Start, rollout::rewards::ScoreCommand},
    optim::{LossScale, Optimizer, ema::Ema, schedule},
    transform::{self, pruning::GradualPruning},
};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use early_stop::EarlyStop;

/// A model in training, with all state of the run.
pub struct Trainer {
    config: Config,
    dataset: Dataset,
    loader: Loader,
    /// Layout of the rows that are taken from both splits.
    layout: RowLayout,
    /// Training device, with autodiff.
    device: Device,
    model: Model,
    objective: Box<dyn Objective>,
    /// Whether the objective has prepared for the next step.
    prepared: bool,
    tasks: Option<TaskEvaluation>,
    /// Runs the commands among the rewards of sampled answers.
    score_command: Option<ScoreCommand>,
    optimizer: Optimizer,
    /// Factor of the loss in the backward pass, if it has one.
    loss_scale: Option<LossScale>,
    ema: Option<Ema>,
    /// Number of finished optimizer steps.
    step: u64,
    /// Number of tokens trained on so far.
    tokens: u64,
    skipped_steps: u64,
    early_stop: EarlyStop,
    overfitting: OverfittingState,
    /// Losses since the last evaluation.
    recent_losses: RecentLosses,
    /// Number of skipped steps in a row up to the last one that was read.
    skipped_in_a_row: u64,
    /// Adapter that is trained instead of the model.
    adapter: Option<TrainedAdapter>,
    pruning: Option<GradualPruning>,
    /// Notes for the user on how the run continues.
    notes: Vec<String>,
    /// Steps whose loss is still on the device.
    pending: Vec<PendingStep>,
}

/// Evaluates a model on the tasks of `eval.suites`, and returns the metrics. It reads files, which the engine
/// does not.
pub type TaskEvaluation = Box<dyn Fn(&Generator<'_>) -> Result<Metrics>>;

/// Metric of the factor of the loss after a step.
const LOSS_SCALE: &str = "loss_scale";

/// A step whose numbers have not been read yet.
struct PendingStep {
    /// Finished steps, this one included.
    step: u64,
    tokens: u64,
    learning_rate: f64,
    /// Name and number of values of each metric.
    metrics: Vec<(&'static str, usize)>,
    /// Loss, gradient norm, and the values of all metrics, concatenated.
    numbers: Tensor<1>,
}

impl Trainer {
    /// Starts a new run on `device` (with or without autodiff). `config` must be resolved
    /// ([`Config::resolve`]).
    pub fn new(config: Config, dataset: Dataset, device: &Device) -> Result<Self> {
        if config.adapter.is_on() {
            return Err(Error::InvalidValue {
                key: "adapter.kind".into(),
                value: config.adapter.kind.name().into(),
                message: "there is no pretrained model to adapt".into(),
                hint: Some(hint!["name one with ", hint::command("--init-from DIR")]),
            });
        }
        let device = device.clone().autodiff();
        let seed = seed_for(config.train.seed, 0, "init");
        let model = Model::init(&config.model, config.mode(), seed, &device).train();
        Self::assemble(config, dataset, device, model, None)
    }

    /// Starts a new run from the weights of `checkpoint` instead of random ones. `config` must be resolved
    /// and describe the checkpoint's model, except that the context may be shorter and settings without
    /// weights may differ. It may have another head, which is then initialized. If `config` asks for an adapter,
    /// only that is trained.
    pub fn start_from(
        config: Config,
        dataset: Dataset,
        device: &Device,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        let device = device.clone().autodiff();
        let model = if checkpoint.has_head_of(&config.model) {
            checkpoint.build_with_config(&config, Weights::Latest, &device)?
        } else {
            checkpoint.build_with_new_head(&config, seed_for(config.train.seed, 0, "init"), &device)?
        };
        let seed = seed_for(config.train.seed, 0, "adapter");
        let (model, adapter) = checkpoint.train_adapter(&config, model, seed)?;
        let mut config = config;
        if let Some(adapter) = &adapter {
            config.adapter.base = adapter.base();
        }
        Self::assemble(config, dataset, device, model.train(), adapter)
    }

    /// Continues a run from `checkpoint`. `config` may differ from the checkpoint's in everything but the
    /// model, the optimizer and the frozen parameters.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if these differ or the checkpoint is broken, and [`Error::InvalidValue`] if the
    /// data or its order differs.
    pub fn resume(
        config: Config,
        dataset: Dataset,
        device: &Device,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        let failed = |message: String| Error::Checkpoint {
            path: checkpoint.path().into(),
            message,
            hint: Some("resume with the settings and data of the run, or start a new one".into()),
        };
        if checkpoint.model != config.model {
            return Err(failed("its `[model]` differs from the configuration's".into()));
        }
        let adapter = checkpoint.config.as_ref().map(|config| &config.adapter);
        if adapter.is_some_and(|adapter| !adapter.is_same_adapter(&config.adapter)) {
            return Err(failed("its `[adapter]` differs from the configuration's".into()));
        }
        let device = device.clone().autodiff();
        let (state, saved) = checkpoint.training()?;
        if state.optimizer != config.train.optimizer {
            return Err(failed("its optimizer differs from `train.optimizer`".into()));
        }
        let model = checkpoint.build_with_config(&config, Weights::Latest, &device)?;
        let (model, adapter) = checkpoint.train_adapter(&config, model, 0)?;
        let mut trainer = Self::assemble(config, dataset, device, model.train(), adapter)?;
        trainer.loader.cursor(state.step).check(&state.data)?;
        let plain = trainer.device.clone().inner();
        let shapes = parameters::shapes(&trainer.model);
        let own = parameters::trainable_shapes(&trainer.model);
        let (mut all, mut trainable) = (shapes.clone(), own.clone());
        if let Some(companion) = trainer.objective.companion() {
            all.extend(parameters::shapes(companion));
            trainable.extend(parameters::trainable_shapes(companion));
        }
        if !state.updates.keys().eq(trainable.keys())
            && state.updates.keys().all(|name| all.contains_key(name))
        {
            let message = "the parameters that it trains are not those that `train.freeze` leaves";
            return Err(failed(message.into()));
        }
        let of_file = |name: &str, message: String| failed(format!("`{name}`: {message}"));
        trainer
            .optimizer
            .load_state(saved, &trainable, &plain)
            .map_err(|message| of_file(names::OPTIMIZER, message))?;
        if let Some((loss_scale, state)) = trainer.loss_scale.as_mut().zip(state.loss_scale) {
            *loss_scale = LossScale::restore(&trainer.config.train.loss_scale, state, &plain);
        }
        if let Some(ema) = trainer.ema.as_mut().filter(|_| checkpoint.has_average()) {
            let (averaged, expected) = match checkpoint.adapter_numbers(Weights::Averaged)? {
                Some(mut numbers) => {
                    numbers.retain(|name, _| own.contains_key(name));
                    (numbers, &own)
                }
                None => (checkpoint.weights(Weights::Averaged)?, &shapes),
            };
            parameters::check(&averaged, expected).map_err(|message| of_file(names::EMA, message))?;
            ema.weights = averaged
                .into_iter()
                .filter(|(name, _)| own.contains_key(name))
                .map(|(name, host)| (name, parameters::FlatTensor::from_host(host, &plain)))
                .collect();
        }
        trainer
            .restore_objective(checkpoint.objective_state()?)
            .map_err(|message| of_file(names::OBJECTIVE, message))?;
        trainer.step = state.step;
        trainer.tokens = state.tokens;
        trainer.skipped_steps = state.skipped_steps;
        trainer.early_stop.restore(&state);
        trainer.overfitting = state.overfitting;
        trainer.recent_losses = state.recent_losses;
        trainer.skipped_in_a_row = state.skipped_in_a_row;
        let before = checkpoint.config.as_ref().map(|config| &config.train);
        let jump = before.and_then(|before| schedule::jump(before, &trainer.config.train, state.step));
        trainer.notes.extend(jump);
        Ok(trainer)
    }

    fn assemble(
        config: Config,
        dataset: Dataset,
        device: Device,
        model: Model,
        adapter: Option<TrainedAdapter>,
    ) -> Result<Self> {
        kernels::precision::check("train.dtype", config.train.dtype, &device)?;
        let model = match &adapter {
            Some(adapter) => transform::adapter::freeze_base(model, &adapter.layout),
            None => model,
        };
        let model = transform::apply(&config, model)?;
        let train = &config.train;
        let mut roles = Model::roles(&config.model);
        // The body of a value model has the roles of a decoder.
        let of_body =
            roles.iter().map(|(name, role)| (format!("value.body.{name}"), *role)).collect::<Vec<_>>();
        roles.extend(of_body);
        let rows_per_step = train.batch_size * train.gradient_accumulation_steps;
        let layout = RowLayout::of(&config, &dataset.tokenizer)?;
        let loader =
            Loader::new(dataset.train.clone(), layout.clone(), config.data.order, rows_per_step, train.seed)?;
        let mut notes = loader.notes();
        notes.extend(adapter.iter().map(|adapter| adapter.note(&model)));
        notes.extend(kernels::precision::note(train.dtype, &device));
        notes.extend(config.dropout_note());
        let mut optimizer = Optimizer::new(train, config.kernels.mode()).with_roles(roles);
        notes.extend(offload::keep_away(train.offload, &mut optimizer, &device)?);
        let plain = device.clone().inner();
        let pruning = GradualPruning::of(&config, &model);
        notes.extend(pruning.iter().filter_map(GradualPruning::note));
        Ok(Self {
            objective: objective::build(&config, &model, &dataset.tokenizer)?,
            pruning,
            prepared: false,
            tasks: None,
            score_command: None,
            loss_scale: train.scales_loss().then(|| LossScale::new(&train.loss_scale, &plain)),
            optimizer,
            ema: train.ema_decay.map(|decay| Ema::new(decay, &model)),
            early_stop: EarlyStop::new(train.early_stopping_patience, train.early_stopping_min_delta),
            overfitting: OverfittingState::default(),
            recent_losses: RecentLosses::default(),
            skipped_in_a_row: 0,
            loader,
            layout,
            device,
            model,
            step: 0,
            tokens: 0,
            skipped_steps: 0,
            notes,
            adapter,
            pending: Vec::new(),
            dataset,
            config,
        })
    }

    /// Gives the objective the state of a checkpoint, and the modules beside the model their weights.
    fn restore_objective(&mut self, mut state: NamedData) -> Result<(), String> {
        if let Some(slot) = self.objective.companion_slot()
            && let Some(companion) = slot.take()
        {
            let (shapes, device) = (parameters::shapes(&companion), self.device.clone().inner());
            let weights: NamedData = shapes.keys().filter_map(|name| state.remove_entry(name)).collect();
            parameters::check(&weights, &shapes)?;
            let on_device = |(name, host)| (name, parameters::FlatTensor::from_host(host, &device));
            *slot = Some(parameters::with_weights(companion, &weights.into_iter().map(on_device).collect()));
        }
        self.objective.restore(state)
    }

    /// Replaces the objective of the configuration by another one.
    pub fn with_objective(self, objective: impl Objective + 'static) -> Self {
        Self { objective: Box::new(objective), prepared: false, ..self }
    }

    /// Prepares the objective for the next step, once.
    ///
    /// # Errors
    /// Errors of [`Objective::prepare`].
    pub async fn prepare(&mut self) -> Result<()> {
        if self.prepared {
            return Ok(());
        }
        let Self { objective, config, model, dataset, layout, loader, device, step, score_command, .. } =
            self;
        let score_command = score_command.as_ref();
        let start =
            Start { config, model, dataset, layout, loader, device, steps_done: *step, score_command };
        objective.prepare(start).await?;
        self.prepared = true;
        Ok(())
    }

    /// The run at its present step, as an objective sees it.
    fn start(&self) -> Start<'_> {
        let Self { config, model, dataset, layout, loader, device, step, score_command, .. } = self;
        let score_command = score_command.as_ref();
        Start { config, model, dataset, layout, loader, device, steps_done: *step, score_command }
    }

    /// Evaluates tasks every `eval.suite_interval` steps and at the end.
    pub fn with_tasks(self, tasks: TaskEvaluation) -> Self {
        Self { tasks: Some(tasks), ..self }
    }

    /// Runs the commands among the rewards of sampled answers (`rollout.rewards`).
    pub fn with_score_command(self, command: ScoreCommand) -> Self {
        Self { score_command: Some(command), ..self }
    }

    /// The device that the run trains on, with autodiff.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The model in training.
    pub fn model(&self) -> &Model {
        &self.model
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Number of finished optimizer steps.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Step of the best evaluation so far; `None` without one.
    pub fn best_step(&self) -> Option<u64> {
        self.early_stop.best_step()
    }

    /// The model for use: without autodiff, and with averaged weights if the run averages.
    pub fn trained_model(&self) -> Model {
        match &self.ema {
            Some(ema) => parameters::with_weights(self.model.valid(), &ema.weights),
            None => self.model.valid(),
        }
    }

    /// Number of parameters, including frozen ones.
    pub fn parameters(&self) -> usize {
        self.model.num_params()
    }

    /// Floating-point operations of one optimizer step. With an adapter, no gradients of the model's matrices are
    /// computed, which are a third of all.
    pub fn flops_per_step(&self) -> f64 {
        let computed = if self.adapter.is_some() { 2.0 / 3.0 } else { 1.0 };
        self.tokens_per_step() as f64 * size::flops_per_token(&self.config.model) * computed
    }

    /// Number of positions in one optimizer step, padding included.
    pub fn tokens_per_step(&self) -> usize {
        size::tokens_per_step(&self.config)
    }

    /// Encodes the whole state as checkpoint files.
    pub async fn checkpoint(&self) -> Result<Files> {
        let adapter = self.adapter.as_ref();
        let mut weights = parameters::parameters(&self.model);
        weights.retain(|name, _| adapter.is_none_or(|adapter| adapter.stores(name)));
        let weights = parameters::read(weights).await?;
        let averaged = match &self.ema {
            Some(ema) => {
                // What is frozen is its own average.
                let mut averaged = weights.clone();
                averaged.extend(parameters::read(ema.weights.clone()).await?);
                Some(averaged)
            }
            None => None,
        };
        let mut moments = self.optimizer.read_state().await?;
        let loss_scale = match &self.loss_scale {
            Some(loss_scale) => Some(loss_scale.read().await?),
            None => None,
        };
        let state = TrainerState {
            step: self.step,
            tokens: self.tokens,
            skipped_steps: self.skipped_steps,
            best_val_loss: self.early_stop.best_loss(),
            best_step: self.early_stop.best_step(),
            evaluations_without_improvement: self.early_stop.without_improvement(),
            overfitting: self.overfitting.clone(),
            recent_losses: self.recent_losses,
            skipped_in_a_row: self.skipped_in_a_row,
            optimizer: self.config.train.optimizer,
            updates: std::mem::take(&mut moments.updates),
            loss_scale,
            data: self.loader.cursor(self.step),
        };
        let tokenizer = &self.dataset.tokenizer;
        let mut files =
            checkpoint::encode(&self.config, tokenizer, adapter, weights, averaged, &moments, &state)?;
        let mut objective = self.objective.state();
        if let Some(companion) = self.objective.companion() {
            objective.extend(parameters::read(parameters::parameters(companion)).await?);
        }
        checkpoint::put_objective(&mut files, &objective)?;
        Ok(files)
    }
}
