//! An optimizer of a whole model, with a state that can be read, saved by parameter name and restored on a chosen
//! device.
//!
//! Parameters are grouped by their declared role, as usual for transformers: matrices and embeddings decay,
//! vectors (biases and norms) do not. Muon updates the matrices inside blocks and leaves the rest to AdamW.

use super::{
    offload::Away,
    rule::Rules,
    state::{HostState, OptimizerState, ParameterState},
};
use crate::{
    config::{OptimizerKind, TrainConfig},
    error::{Error, Result},
    kernels::Mode,
    model::parameters::{FlatTensor, GradientState, ParameterRoles, Path},
};
use burn::{
    module::{Module, ModuleMapper, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use std::{collections::BTreeMap, path};

/// An optimizer of a whole model.
pub struct Optimizer {
    rules: Rules,
    /// State that is on the device.
    pub state: OptimizerState,
    /// State that is not on the device, if that is where it is kept between steps.
    away: Option<Away>,
    /// The first failure to move a state, after which the optimizer must not be used.
    failure: Option<Error>,
}

impl Optimizer {
    /// Makes the optimizer that `config` describes, without any state. `mode` selects the fused kernels or
    /// their references.
    pub fn new(config: &TrainConfig, mode: Mode) -> Self {
        Self::of(Rules::new(config, 0.0, mode))
    }

    /// Makes the optimizer that `config` describes, which decays every parameter alike, as those of PyTorch do
    /// by default.
    pub fn uniform(config: &TrainConfig, mode: Mode) -> Self {
        Self::of(Rules::new(config, config.weight_decay, mode))
    }

    /// Makes an AdamW that decays every parameter alike.
    pub fn uniform_adamw(config: &TrainConfig, mode: Mode) -> Self {
        Self::uniform(&TrainConfig { optimizer: OptimizerKind::Adamw, ..config.clone() }, mode)
    }

    fn of(rules: Rules) -> Self {
        Self { rules, state: BTreeMap::new(), away: None, failure: None }
    }

    /// Sets the declared roles of the parameters. A parameter without a role is grouped by its rank.
    pub fn with_roles(mut self, roles: ParameterRoles) -> Self {
        self.rules.roles = roles;
        self
    }

    /// Keeps the state in the machine's memory between steps. One parameter's state at a time is on the device.
    pub fn keep_away(&mut self) {
        self.away.get_or_insert_with(Away::in_memory);
    }

    /// Whether the state is kept in the machine's memory or in a file between steps.
    pub fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// Keeps the state between steps in a file of `folder`, which is removed when the process ends. `shapes` are those
    /// of all trained parameters.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be made, for example because the disk is full.
    pub fn keep_in_file(&mut self, folder: &path::Path, shapes: &BTreeMap<String, Vec<usize>>) -> Result<()> {
        let forms = shapes.iter().map(|(name, shape)| (name, self.rules.of(name, shape.len()).form(), shape));
        let before = self.away.take();
        self.away = Some(Away::in_file(folder, forms, before)?);
        Ok(())
    }

    /// Restores a saved state: tensors with the names of [`state_tensors`](super::state_tensors), and the number of
    /// updates of each parameter. Both must have exactly the parameters in `shapes`.
    ///
    /// # Errors
    /// A message about the first tensor that is missing, has the wrong shape or belongs to no parameter.
    pub fn load_state(
        &mut self,
        mut saved: HostState,
        shapes: &BTreeMap<String, Vec<usize>>,
        device: &Device,
    ) -> Result<(), String> {
        if let Some(name) = saved.updates.keys().find(|name| !shapes.contains_key(*name)) {
            return Err(format!("updates of `{name}` are counted, which is not part of the model"));
        }
        let (mut state, mut away) = (OptimizerState::new(), self.away.take());
        for (name, shape) in shapes {
            let form = self.rules.of(name, shape.len()).form();
            let updates = saved.updates.get(name).copied();
            let updates = updates.ok_or_else(|| format!("updates of `{name}` are not counted"))?;
            match &mut away {
                Some(away) => {
                    for stored in form.stored(shape) {
                        let numbers = saved.take(name, &stored)?;
                        away.put(name, updates, stored, numbers);
                    }
                }
                None => {
                    let moments = form.build(shape, device, |stored| saved.take(name, stored))?;
                    state.insert(name.clone(), ParameterState { updates, moments });
                }
            }
        }
        if let Some(name) = saved.any() {
            return Err(format!("tensor `{name}` belongs to no parameter"));
        }
        (self.state, self.away) = (state, away);
        Ok(())
    }

    /// Reads the whole state into host memory.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`].
    pub async fn read_state(&self) -> Result<HostState> {
        let mut read = HostState::read(&self.state).await?;
        if let Some(away) = &self.away {
            away.copy_into(&mut read);
        }
        Ok(read)
    }

    /// Updates every parameter that has a gradient, in place if nothing else shares its buffer.
    pub fn step<M: Module>(&mut self, model: M, gradients: GradientsParams, update: Update) -> M {
        let model = model.map(&mut Updater { optimizer: self, gradients, update, path: Path::default() });
        if let Some(away) = &mut self.away {
            let finished = away.finish();
            self.failure = self.failure.take().or(finished.err());
        }
        model
    }

    /// Returns the failure of a step to move a state between the device and the machine's memory. Weights and state
    /// are then those of different steps.
    ///
    /// # Errors
    /// [`Error::DeviceFailed`].
    pub fn check(&mut self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

/// Settings of one update of all parameters.
#[derive(Debug, Clone)]
pub struct Update {
    pub learning_rate: f64,
    /// Factor that the gradients are multiplied by first, `[1]`.
    pub scale: Tensor<1>,
    /// Whether to skip the whole update if `scale` is not finite: weights and moments then stay unchanged.
    pub skip_non_finite: bool,
}

struct Updater<'a> {
    optimizer: &'a mut Optimizer,
    gradients: GradientsParams,
    update: Update,
    path: Path,
}

impl ModuleMapper for Updater<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let name = self.path.name();
        let Optimizer { rules, state: states, away, failure } = &mut *self.optimizer;
        let rule = rules.of(&name, D);
        param.map(|old| {
            let gradient_state = GradientState::of(&old);
            // Flat, so that all that happens to a parameter has one shape and fuses on a GPU.
            let weights = FlatTensor::from_tensor(old.inner());
            let gradient = FlatTensor::from_tensor(gradient);
            let shape = weights.shape.clone();
            let old_state = match away {
                None => states.remove(&name),
                Some(away) => away.fetch(&name, rule.form(), &shape, &weights.values.device()),
            };
            let (new, state) = rule.update::<D>(&self.update, weights, gradient, old_state);
            match away {
                None => drop(states.insert(name, state)),
                Some(away) => {
                    let moved = away.store(name, rule.form(), shape, state);
                    *failure = failure.take().or(moved.err());
                }
            }
            gradient_state.of_new(new.into_tensor())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::state_tensors, *};
    use crate::model::parameters::{HostTensor, NamedData};

    #[test]
    fn a_saved_state_is_held_to_the_models_parameters() {
        let device = crate::device::Choice::cpu().open().unwrap();
        let shapes = BTreeMap::from([("blocks.0.x".to_owned(), vec![2, 3]), ("y".to_owned(), vec![4])]);
        let updates = BTreeMap::from([("blocks.0.x".to_owned(), 5), ("y".to_owned(), 5)]);
        let tensor = |shape: &[usize]| HostTensor::new(shape, vec![0.5; shape.iter().product()]);
        let good = NamedData::from([
            ("blocks.0.x.moment_1".to_owned(), tensor(&[2, 3])),
            ("blocks.0.x.moment_2".to_owned(), tensor(&[2, 3])),
            ("y.moment_1".to_owned(), tensor(&[4])),
            ("y.moment_2".to_owned(), tensor(&[4])),
        ]);
        let load = |kind: OptimizerKind, tensors: &NamedData, updates: &BTreeMap<String, usize>| {
            let mut optimizer =
                Optimizer::new(&TrainConfig { optimizer: kind, ..Default::default() }, Mode::Fused);
            let (floats, updates) = (tensors.clone(), updates.clone());
            let saved = HostState { floats, updates, ..Default::default() };
            optimizer.load_state(saved, &shapes, &device).map(|()| optimizer)
        };
        let adamw = OptimizerKind::Adamw;
        assert_eq!(state_tensors(&load(adamw, &good, &updates).unwrap().state).len(), 4);
        let refused = |kind: OptimizerKind, tensors: &NamedData, part: &str| {
            let error = load(kind, tensors, &updates).err().unwrap();
            assert!(error.contains(part), "{error}");
        };

        let mut tensors = good.clone();
        tensors.insert("y.moment_1".into(), tensor(&[2, 2]));
        refused(adamw, &tensors, "`y.moment_1` has shape [2, 2]");
        tensors = good.clone();
        tensors.remove("y.moment_2");
        refused(adamw, &tensors, "`y.moment_2` is missing");
        // Muon keeps one moment of matrices inside blocks, and two of the rest.
        refused(OptimizerKind::Muon, &good, "`blocks.0.x.moment_2` belongs to no parameter");
        tensors = good.clone();
        tensors.insert("z.moment_1".into(), tensor(&[1]));
        refused(adamw, &tensors, "`z.moment_1` belongs to no parameter");

        let mut counted = updates.clone();
        counted.remove("y");
        assert!(load(adamw, &good, &counted).err().unwrap().contains("`y`"));
        counted.extend([("y".to_owned(), 5), ("z".to_owned(), 5)]);
        assert!(load(adamw, &good, &counted).err().unwrap().contains("`z`"));
    }
}
