//! Update rules of single parameters, by Burn's optimizers and by kernels.

use super::{
    optimizer::Update,
    state::{Form, Moments, ParameterState, select},
};
use crate::{
    config::{MuonScale, Nesterov, OptimizerKind, TrainConfig},
    kernels::{
        Mode,
        adafactor::{self, AdafactorSpec, Sizes, adafactor},
        adamw::{self, AdamWSpec, adamw},
        adamw_8bit::{self, AdamW8BitSpec, adamw_8bit},
    },
    model::parameters::{FlatTensor, ParameterRole, ParameterRoles},
};
use burn::{
    optim::{
        Adam, AdamConfig, AdamState, AdaptiveMomentumState, AdjustLrFn, Lion, LionConfig, LionState, Muon,
        MuonConfig, MuonState, Optimizer as _,
        decay::WeightDecayConfig,
        momentum::{Momentum, MomentumConfig, MomentumState},
    },
    tensor::Tensor,
};

/// Update rules of the parameters.
pub(super) struct Rules {
    decayed: Rule,
    undecayed: Rule,
    /// Rule of matrices inside blocks, if it differs from `decayed`.
    matrices: Option<Rule>,
    pub roles: ParameterRoles,
}

impl Rules {
    /// Makes the rules that `config` describes, with this decay of vectors.
    pub fn new(config: &TrainConfig, vector_decay: f64, mode: Mode) -> Self {
        Self {
            decayed: Rule::new(config, config.weight_decay, mode),
            undecayed: Rule::new(config, vector_decay, mode),
            matrices: (config.optimizer == OptimizerKind::Muon).then(|| Rule::muon(config)),
            roles: ParameterRoles::new(),
        }
    }

    /// The rule of a parameter, by its declared role, or by its rank if it has none.
    pub fn of(&self, name: &str, rank: usize) -> &Rule {
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
pub(super) enum Rule {
    AdamW(AdamWSpec, Mode),
    AdamW8Bit(AdamW8BitSpec, Mode),
    Adafactor(AdafactorSpec, Mode),
    Adam(Adam),
    /// Momentum, the share of it that a step looks ahead (Nesterov's), and the decay.
    Sgd {
        momentum: Momentum,
        ahead: Option<f64>,
        weight_decay: f64,
    },
    Lion(Lion),
    Muon {
        muon: Muon,
        momentum: Momentum,
    },
}

impl Rule {
    fn new(config: &TrainConfig, weight_decay: f64, mode: Mode) -> Self {
        match config.optimizer {
            OptimizerKind::Adamw | OptimizerKind::Muon => Self::AdamW(
                AdamWSpec {
                    learning_rate: 0.0,
                    beta1: config.beta1 as f32,
                    beta2: config.beta2 as f32,
                    epsilon: config.epsilon as f32,
                    weight_decay: weight_decay as f32,
                    updates: 0,
                    skip_non_finite: false,
                },
                mode,
            ),
            OptimizerKind::Adamw8Bit => Self::AdamW8Bit(
                AdamW8BitSpec {
                    learning_rate: 0.0,
                    beta1: config.beta1,
                    beta2: config.beta2,
                    epsilon: config.epsilon,
                    weight_decay,
                    updates: 0,
                    skip_non_finite: false,
                },
                mode,
            ),
            OptimizerKind::Adafactor => Self::Adafactor(
                AdafactorSpec {
                    sizes: Sizes::Vector,
                    learning_rate: 0.0,
                    beta2_decay: -config.adafactor.decay_exponent,
                    epsilon1: config.adafactor.epsilon1,
                    epsilon2: config.adafactor.epsilon2,
                    clip_threshold: config.adafactor.clip_threshold,
                    weight_decay,
                    updates: 0,
                    skip_non_finite: false,
                },
                mode,
            ),
            OptimizerKind::Adam => Self::Adam(
                AdamConfig::new()
                    .with_beta_1(config.beta1 as f32)
                    .with_beta_2(config.beta2 as f32)
                    .with_epsilon(config.epsilon as f32)
                    .with_weight_decay(penalty(weight_decay))
                    .build(),
            ),
            OptimizerKind::Sgd => {
                let ahead = (config.nesterov == Nesterov::All).then_some(config.momentum);
                let momentum = Momentum::new(&momentum(config, config.dampening, false));
                Self::Sgd { momentum, ahead, weight_decay }
            }
            OptimizerKind::Lion => Self::Lion(
                LionConfig::new()
                    .with_beta_1(config.beta1 as f32)
                    .with_beta_2(config.beta2 as f32)
                    .with_weight_decay(weight_decay as f32)
                    .build(),
            ),
        }
    }

    fn muon(config: &TrainConfig) -> Self {
        let nesterov = config.nesterov != Nesterov::Never;
        Self::Muon {
            muon: MuonConfig::new()
                .with_momentum(momentum(config, 0.0, nesterov))
                .with_weight_decay(penalty(config.weight_decay))
                .with_adjust_lr_fn(match config.muon_scale {
                    MuonScale::MatchRmsAdamw => AdjustLrFn::MatchRmsAdamW,
                    MuonScale::Original => AdjustLrFn::Original,
                })
                .build(),
            momentum: Momentum::new(&momentum(config, 0.0, false)),
        }
    }

    /// Form of the moments that this rule keeps.
    pub fn form(&self) -> Form {
        match self {
            Self::AdamW(..) | Self::Adam(_) => Form::Two,
            Self::AdamW8Bit(..) => Form::EightBit,
            Self::Adafactor(..) => Form::Factored,
            Self::Sgd { .. } | Self::Lion(_) | Self::Muon { .. } => Form::One,
        }
    }

    /// Computes the new weights and state of a parameter of rank `D`.
    pub fn update<const D: usize>(
        &self,
        update: &Update,
        weights: FlatTensor,
        mut gradient: FlatTensor,
        old: Option<ParameterState>,
    ) -> (FlatTensor, ParameterState) {
        let updates = old.as_ref().map_or(0, |state| state.updates) + 1;
        let moments = old.map(|state| state.moments);
        let (new, moments) = match *self {
            Self::AdamW(spec, mode) => adamw_step(spec, mode, update, updates, weights, gradient, moments),
            Self::AdamW8Bit(spec, mode) => {
                adamw_8bit_step(spec, mode, update, updates, weights, gradient, moments)
            }
            Self::Adafactor(spec, mode) => {
                adafactor_step(spec, mode, update, updates, weights, gradient, moments)
            }
            _ => {
                gradient.values = gradient.values * update.scale.clone();
                let kept = update.skip_non_finite.then(|| (weights.values.clone(), moments.clone()));
                let (mut new, moments) =
                    self.step::<D>(update.learning_rate, updates, weights, gradient, moments);
                match kept {
                    None => (new, moments),
                    Some((old, kept)) => {
                        let keep_if = &update.scale.clone().is_finite();
                        new.values = select(keep_if, new.values, old);
                        (new, moments.keep(keep_if, kept))
                    }
                }
            }
        };
        (new, ParameterState { updates, moments })
    }

    /// Takes a step with a gradient that is already scaled, by a rule without a kernel.
    fn step<const D: usize>(
        &self,
        learning_rate: f64,
        updates: usize,
        weights: FlatTensor,
        gradient: FlatTensor,
        moments: Option<Moments>,
    ) -> (FlatTensor, Moments) {
        let shape = weights.shape.clone();
        let flat = |values| FlatTensor { shape: shape.clone(), values };
        let first = |moments: Option<Moments>| match moments {
            Some(Moments::One(first)) => Some(first),
            _ => None,
        };
        match self {
            Self::AdamW(..) | Self::AdamW8Bit(..) | Self::Adafactor(..) => {
                unreachable!("these have kernels")
            }
            Self::Adam(adam) => {
                let state = match moments {
                    Some(Moments::Two(first, second)) => {
                        let state = AdaptiveMomentumState::new(updates - 1, first.values, second.values);
                        Some(AdamState::new(state))
                    }
                    _ => None,
                };
                let (weights, state) = adam.step(learning_rate, weights.values, gradient.values, state);
                let none = || Moments::Two(flat(weights.zeros_like()), flat(weights.zeros_like()));
                let moments = state.map_or_else(none, |state| {
                    Moments::Two(flat(state.momentum.moment_1), flat(state.momentum.moment_2))
                });
                (flat(weights), moments)
            }
            Self::Sgd { momentum, ahead, weight_decay } => {
                let gradient = gradient.values + weights.values.clone().mul_scalar(*weight_decay);
                let state = first(moments).map(|first| MomentumState::new(first.values));
                let (velocity, _) = momentum.transform(gradient.clone(), state);
                let change = match *ahead {
                    None => velocity.clone(),
                    Some(share) => velocity.clone().mul_scalar(share) + gradient,
                };
                let weights = weights.values - change.mul_scalar(learning_rate);
                (flat(weights), Moments::One(flat(velocity)))
            }
            Self::Lion(lion) => {
                let state = first(moments).map(|first| LionState::new(first.values));
                let (weights, state) = lion.step(learning_rate, weights.values, gradient.values, state);
                let none = || Moments::One(flat(weights.zeros_like()));
                let moments = state.map_or_else(none, |state| Moments::One(flat(state.momentum)));
                (flat(weights), moments)
            }
            // Not element by element, so in its own shape.
            Self::Muon { muon, momentum } => {
                let (weights, gradient) = (weights.into_tensor::<D>(), gradient.into_tensor::<D>());
                let state = first(moments).map(|first| MomentumState::new(first.into_tensor()));
                // Burn's momentum state hides its velocity, so it is followed alongside.
                let (velocity, _) = momentum.transform(gradient.clone(), state.clone());
                let (weights, _) = muon.step(learning_rate, weights, gradient, state.map(MuonState::new));
                (FlatTensor::from_tensor(weights), Moments::One(FlatTensor::from_tensor(velocity)))
            }
        }
    }
}

fn adamw_step(
    spec: AdamWSpec,
    mode: Mode,
    update: &Update,
    updates: usize,
    weights: FlatTensor,
    gradient: FlatTensor,
    moments: Option<Moments>,
) -> (FlatTensor, Moments) {
    let shape = weights.shape;
    let (first, second) = match moments {
        Some(Moments::Two(first, second)) => (first.values, second.values),
        _ => (weights.values.zeros_like(), weights.values.zeros_like()),
    };
    let spec = AdamWSpec {
        learning_rate: update.learning_rate as f32,
        updates,
        skip_non_finite: update.skip_non_finite,
        ..spec
    };
    let old = adamw::Updated { weights: weights.values, first, second };
    let new = adamw(old, gradient.values, update.scale.clone(), spec, mode);
    let flat = |values| FlatTensor { shape: shape.clone(), values };
    (flat(new.weights), Moments::Two(flat(new.first), flat(new.second)))
}

fn adamw_8bit_step(
    spec: AdamW8BitSpec,
    mode: Mode,
    update: &Update,
    updates: usize,
    weights: FlatTensor,
    gradient: FlatTensor,
    moments: Option<Moments>,
) -> (FlatTensor, Moments) {
    let old = match moments {
        Some(Moments::EightBit { codes, largest }) => {
            adamw_8bit::Updated { weights: weights.values, codes, largest: largest.values }
        }
        _ => adamw_8bit::Updated::begin(weights.values),
    };
    let spec = AdamW8BitSpec {
        learning_rate: update.learning_rate,
        updates,
        skip_non_finite: update.skip_non_finite,
        ..spec
    };
    let new = adamw_8bit(old, gradient.values, update.scale.clone(), spec, mode);
    let blocks = new.largest.dims()[0] / 2;
    let largest = FlatTensor { shape: vec![2, blocks], values: new.largest };
    let moments = Moments::EightBit { codes: new.codes, largest };
    (FlatTensor { shape: weights.shape, values: new.weights }, moments)
}

fn adafactor_step(
    spec: AdafactorSpec,
    mode: Mode,
    update: &Update,
    updates: usize,
    weights: FlatTensor,
    gradient: FlatTensor,
    moments: Option<Moments>,
) -> (FlatTensor, Moments) {
    let FlatTensor { shape, values } = weights;
    let sizes = Sizes::of(&shape);
    let device = values.device();
    let old = match moments {
        Some(Moments::Factored { rows, columns }) => {
            adafactor::Updated { weights: values, rows: rows.values, columns: columns.values }
        }
        Some(Moments::Second(second)) => {
            adafactor::Updated { weights: values, rows: second.values, columns: Tensor::zeros([1], &device) }
        }
        _ => adafactor::Updated::begin(values, sizes),
    };
    let spec = AdafactorSpec {
        sizes,
        learning_rate: update.learning_rate,
        updates,
        skip_non_finite: update.skip_non_finite,
        ..spec
    };
    let new = adafactor(old, gradient.values, update.scale.clone(), spec, mode);
    let moments = match sizes {
        Sizes::Vector => Moments::Second(FlatTensor { shape: shape.clone(), values: new.rows }),
        Sizes::Matrices { count, rows, columns } => Moments::Factored {
            rows: FlatTensor { shape: vec![count, rows], values: new.rows },
            columns: FlatTensor { shape: vec![count, columns], values: new.columns },
        },
    };
    (FlatTensor { shape, values: new.weights }, moments)
}

fn penalty(weight_decay: f64) -> Option<WeightDecayConfig> {
    (weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay as f32))
}

fn momentum(config: &TrainConfig, dampening: f64, nesterov: bool) -> MomentumConfig {
    MomentumConfig { momentum: config.momentum, dampening, nesterov }
}
