//! Burn's optimizers, with a state that can be read, saved by parameter name and restored on a chosen device.
//!
//! Parameters are grouped by their declared role, as usual for transformers: matrices and embeddings decay,
//! vectors (biases and norms) do not. Muon updates the matrices inside blocks and leaves the rest to AdamW.

use crate::{
    config::{OptimizerKind, TrainConfig},
    kernels::{
        Mode,
        adamw::{AdamWSpec, Updated, adamw},
    },
    model::parameters::{
        FlatTensor, GradientState, NamedData, ParameterRole, ParameterRoles, Path, check_shape,
    },
};
use burn::{
    module::{Module, ModuleMapper, Param},
    optim::{
        Adam, AdamConfig, AdamState, AdaptiveMomentumState, AdjustLrFn, GradientsParams, Lion, LionConfig,
        LionState, Muon, MuonConfig, MuonState, Optimizer as _,
        decay::WeightDecayConfig,
        momentum::{Momentum, MomentumConfig, MomentumState},
    },
    tensor::{Bool, Device, Tensor},
};
use std::collections::BTreeMap;

/// Optimizer state of one parameter.
#[derive(Debug, Clone)]
pub struct ParameterState {
    /// Number of updates so far.
    pub updates: usize,
    /// First moment (Adam, AdamW), momentum (SGD, Lion, Muon).
    pub first: FlatTensor,
    /// Second moment (Adam, AdamW).
    pub second: Option<FlatTensor>,
}

/// Optimizer states by parameter name.
pub type OptimizerState = BTreeMap<String, ParameterState>;

/// An optimizer of a whole model.
pub struct Optimizer {
    rules: Rules,
    pub state: OptimizerState,
}

/// Update rules of the parameters.
struct Rules {
    decayed: Rule,
    undecayed: Rule,
    /// Rule of matrices inside blocks, if it differs from `decayed`.
    matrices: Option<Rule>,
    roles: ParameterRoles,
}

impl Rules {
    /// The rule of a parameter, by its declared role, or by its rank if it has none.
    fn of(&self, name: &str, rank: usize) -> &Rule {
        let role = self.roles.get(name).copied().unwrap_or(match rank {
            0 | 1 => ParameterRole::Vector,
            2 => ParameterRole::Matrix,
            _ => ParameterRole::Experts,
        });
        match (role, &self.matrices) {
            (ParameterRole::Vector, _) => &self.undecayed,
            (ParameterRole::Matrix, Some(rule)) => rule,
            _ => &self.decayed,
        }
    }
}

/// Update rule of one parameter.
enum Rule {
    AdamW(AdamWSpec, Mode),
    Adam(Adam),
    Sgd { momentum: Momentum, weight_decay: f64 },
    Lion(Lion),
    Muon { muon: Muon, momentum: Momentum },
}

impl Optimizer {
    /// Makes the optimizer that `config` describes, without any state. `mode` selects the fused AdamW kernel
    /// or its reference.
    pub fn new(config: &TrainConfig, mode: Mode) -> Self {
        let rule = |weight_decay: f64| match config.optimizer {
            OptimizerKind::Adamw | OptimizerKind::Muon => Rule::adamw(config, weight_decay, mode),
            OptimizerKind::Adam => Rule::Adam(
                AdamConfig::new()
                    .with_beta_1(config.beta1 as f32)
                    .with_beta_2(config.beta2 as f32)
                    .with_epsilon(config.epsilon as f32)
                    .with_weight_decay(penalty(weight_decay))
                    .build(),
            ),
            OptimizerKind::Sgd => Rule::Sgd { momentum: momentum(config, false), weight_decay },
            OptimizerKind::Lion => Rule::Lion(
                LionConfig::new()
                    .with_beta_1(config.beta1 as f32)
                    .with_beta_2(config.beta2 as f32)
                    .with_weight_decay(weight_decay as f32)
                    .build(),
            ),
        };
        let matrices = (config.optimizer == OptimizerKind::Muon).then(|| Rule::Muon {
            muon: MuonConfig::new()
                .with_momentum(momentum_config(config, true))
                .with_weight_decay(penalty(config.weight_decay))
                // Matches the size of AdamW's updates, so that one learning rate serves both.
                .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
                .build(),
            momentum: momentum(config, false),
        });
        let rules = Rules {
            decayed: rule(config.weight_decay),
            undecayed: rule(0.0),
            matrices,
            roles: BTreeMap::new(),
        };
        Self { rules, state: BTreeMap::new() }
    }

    /// Sets the declared roles of the parameters. A parameter without a role is grouped by its rank.
    pub fn with_roles(mut self, roles: ParameterRoles) -> Self {
        self.rules.roles = roles;
        self
    }

    /// Makes an AdamW that decays every parameter alike, as `torch.optim.AdamW` does by default.
    pub fn uniform_adamw(config: &TrainConfig, mode: Mode) -> Self {
        let rule = || Rule::adamw(config, config.weight_decay, mode);
        let rules = Rules { decayed: rule(), undecayed: rule(), matrices: None, roles: BTreeMap::new() };
        Self { rules, state: BTreeMap::new() }
    }

    /// Restores a saved state: tensors with the names of [`state_tensors`], and the number of updates of each
    /// parameter. Both must have exactly the parameters in `shapes`.
    ///
    /// # Errors
    /// A message about the first tensor that is missing, has the wrong shape or belongs to no parameter.
    pub fn load_state(
        &mut self,
        mut tensors: NamedData,
        updates: &BTreeMap<String, usize>,
        shapes: &BTreeMap<String, Vec<usize>>,
        device: &Device,
    ) -> Result<(), String> {
        if let Some(name) = updates.keys().find(|name| !shapes.contains_key(*name)) {
            return Err(format!("updates of `{name}` are counted, which is not part of the model"));
        }
        let mut state = OptimizerState::new();
        for (name, shape) in shapes {
            let mut moment = |suffix: &str| {
                let tensor = format!("{name}{suffix}");
                let host = tensors.remove(&tensor).ok_or_else(|| format!("tensor `{tensor}` is missing"))?;
                check_shape(&tensor, &host, shape)?;
                Ok::<_, String>(FlatTensor::from_host(host, device))
            };
            let first = moment(FIRST)?;
            let has_second = self.rules.of(name, shape.len()).has_second_moment();
            let second = if has_second { Some(moment(SECOND)?) } else { None };
            let updates = *updates.get(name).ok_or_else(|| format!("updates of `{name}` are not counted"))?;
            state.insert(name.clone(), ParameterState { updates, first, second });
        }
        match tensors.into_keys().next() {
            None => self.state = state,
            Some(name) => return Err(format!("tensor `{name}` belongs to no parameter")),
        }
        Ok(())
    }

    /// Updates every parameter that has a gradient, in place if nothing else shares its buffer.
    pub fn step<M: Module>(&mut self, model: M, gradients: GradientsParams, update: Update) -> M {
        model.map(&mut Updater { optimizer: self, gradients, update, path: Path::default() })
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
        let old_state = self.optimizer.state.remove(&name);
        let Optimizer { rules, state: states } = &mut *self.optimizer;
        let rule = rules.of(&name, D);
        param.map(|old| {
            let gradient_state = GradientState::of(&old);
            // Flat, so that all that happens to a parameter has one shape and fuses on a GPU.
            let weights = FlatTensor::from_tensor(old.inner());
            let gradient = FlatTensor::from_tensor(gradient);
            let (new, state) = rule.update::<D>(&self.update, weights, gradient, old_state);
            states.extend(state.map(|state| (name, state)));
            gradient_state.of_new(new.into_tensor())
        })
    }
}

/// Returns `new` if `keep_if` is true, otherwise `old`.
fn keep(keep_if: &Tensor<1, Bool>, new: Tensor<1>, old: Tensor<1>) -> Tensor<1> {
    let mask = keep_if.clone().expand(new.dims());
    old.mask_where(mask, new)
}

impl Rule {
    fn adamw(config: &TrainConfig, weight_decay: f64, mode: Mode) -> Self {
        let spec = AdamWSpec {
            learning_rate: 0.0,
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            epsilon: config.epsilon as f32,
            weight_decay: weight_decay as f32,
            updates: 0,
            skip_non_finite: false,
        };
        Self::AdamW(spec, mode)
    }

    fn has_second_moment(&self) -> bool {
        matches!(self, Self::AdamW(..) | Self::Adam(_))
    }

    /// Computes the new weights and state of a parameter of rank `D`.
    fn update<const D: usize>(
        &self,
        update: &Update,
        weights: FlatTensor,
        mut gradient: FlatTensor,
        old_state: Option<ParameterState>,
    ) -> (FlatTensor, Option<ParameterState>) {
        if let Self::AdamW(spec, mode) = self {
            return adamw_step(*spec, *mode, update, weights, gradient, old_state);
        }
        gradient.values = gradient.values * update.scale.clone();
        if !update.skip_non_finite {
            return self.step::<D>(update.learning_rate, weights, gradient, old_state);
        }
        let (old, kept) = (weights.values.clone(), old_state.clone());
        let (mut new, state) = self.step::<D>(update.learning_rate, weights, gradient, old_state);
        let keep_if = &update.scale.clone().is_finite();
        new.values = keep(keep_if, new.values, old);
        (new, state.map(|state| state.keep_moments(keep_if, kept)))
    }

    /// Takes a step with a gradient that is already scaled, by a rule other than AdamW.
    fn step<const D: usize>(
        &self,
        learning_rate: f64,
        weights: FlatTensor,
        gradient: FlatTensor,
        state: Option<ParameterState>,
    ) -> (FlatTensor, Option<ParameterState>) {
        let updates = state.as_ref().map_or(0, |state| state.updates) + 1;
        let shape = weights.shape.clone();
        let flat = |values| FlatTensor { shape: shape.clone(), values };
        let single = |first| ParameterState { updates, first: flat(first), second: None };
        let adaptive = |state: AdaptiveMomentumState<1>| ParameterState {
            updates: state.time,
            first: flat(state.moment_1),
            second: Some(flat(state.moment_2)),
        };
        match self {
            Self::AdamW(..) => (weights, state),
            Self::Adam(adam) => {
                let state = state.map(|state| AdamState::new(state.into_adaptive()));
                let (weights, state) = adam.step(learning_rate, weights.values, gradient.values, state);
                (flat(weights), state.map(|state| adaptive(state.momentum)))
            }
            Self::Sgd { momentum, weight_decay } => {
                let gradient = gradient.values + weights.values.clone().mul_scalar(*weight_decay);
                let state = state.map(|state| MomentumState::new(state.first.values));
                let (velocity, _) = momentum.transform(gradient, state);
                let weights = weights.values - velocity.clone().mul_scalar(learning_rate);
                (flat(weights), Some(single(velocity)))
            }
            Self::Lion(lion) => {
                let state = state.map(|state| LionState::new(state.first.values));
                let (weights, state) = lion.step(learning_rate, weights.values, gradient.values, state);
                (flat(weights), state.map(|state| single(state.momentum)))
            }
            // Not element by element, so in its own shape.
            Self::Muon { muon, momentum } => {
                let (weights, gradient) = (weights.into_tensor::<D>(), gradient.into_tensor::<D>());
                let state = state.map(|state| MomentumState::new(state.first.into_tensor()));
                // Burn's momentum state hides its velocity, so it is followed alongside.
                let (velocity, _) = momentum.transform(gradient.clone(), state.clone());
                let (weights, _) = muon.step(learning_rate, weights, gradient, state.map(MuonState::new));
                let velocity = FlatTensor::from_tensor(velocity);
                (FlatTensor::from_tensor(weights), Some(single(velocity.values)))
            }
        }
    }
}

fn adamw_step(
    spec: AdamWSpec,
    mode: Mode,
    update: &Update,
    weights: FlatTensor,
    gradient: FlatTensor,
    state: Option<ParameterState>,
) -> (FlatTensor, Option<ParameterState>) {
    let shape = weights.shape;
    let state = state.map(|state| (state.updates, state.first.values, state.second));
    let (updates, first, second) = state.unwrap_or_else(|| (0, weights.values.zeros_like(), None));
    let second = second.map_or_else(|| weights.values.zeros_like(), |second| second.values);
    let spec = AdamWSpec {
        learning_rate: update.learning_rate as f32,
        updates: updates + 1,
        skip_non_finite: update.skip_non_finite,
        ..spec
    };
    let old = Updated { weights: weights.values, first, second };
    let new = adamw(old, gradient.values, update.scale.clone(), spec, mode);
    let flat = |values| FlatTensor { shape: shape.clone(), values };
    let state =
        ParameterState { updates: spec.updates, first: flat(new.first), second: Some(flat(new.second)) };
    (flat(new.weights), Some(state))
}

fn penalty(weight_decay: f64) -> Option<WeightDecayConfig> {
    (weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay as f32))
}

fn momentum_config(config: &TrainConfig, nesterov: bool) -> MomentumConfig {
    MomentumConfig { momentum: config.momentum, dampening: 0.0, nesterov }
}

fn momentum(config: &TrainConfig, nesterov: bool) -> Momentum {
    Momentum::new(&momentum_config(config, nesterov))
}

impl ParameterState {
    fn into_adaptive(self) -> AdaptiveMomentumState<1> {
        let second = self.second.unwrap_or_else(|| self.first.clone());
        AdaptiveMomentumState::new(self.updates, self.first.values, second.values)
    }

    fn keep_moments(self, keep_if: &Tensor<1, Bool>, old: Option<Self>) -> Self {
        let moment = |new: FlatTensor, old: Option<FlatTensor>| {
            let old = old.map_or_else(|| new.values.zeros_like(), |old| old.values);
            FlatTensor { shape: new.shape, values: keep(keep_if, new.values, old) }
        };
        let (first, second) = old.map_or((None, None), |old| (Some(old.first), old.second));
        Self {
            updates: self.updates,
            first: moment(self.first, first),
            second: self.second.map(|new| moment(new, second)),
        }
    }
}

const FIRST: &str = ".moment_1";
const SECOND: &str = ".moment_2";

/// Tensors of an optimizer state, with the names `PARAMETER.moment_1` and `PARAMETER.moment_2`.
pub fn state_tensors(state: &OptimizerState) -> BTreeMap<String, FlatTensor> {
    let mut tensors = BTreeMap::new();
    for (name, state) in state {
        tensors.insert(format!("{name}{FIRST}"), state.first.clone());
        tensors.extend(state.second.clone().map(|second| (format!("{name}{SECOND}"), second)));
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::HostTensor;

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
            optimizer.load_state(tensors.clone(), updates, &shapes, &device).map(|()| optimizer)
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
