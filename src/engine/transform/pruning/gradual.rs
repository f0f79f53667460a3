//! Pruning during training. A weight of the blocks' matrices that is zero stays zero, so that the zeros are the mask:
//! nothing else is saved, and a resumed run goes on as if it had not stopped. By a schedule more weights become zero
//! (arXiv:1710.01878).

use super::{matrices, one_shot::by_magnitude};
use crate::{
    config::{Config, PruningConfig},
    error::Result,
    model::{
        Model,
        parameters::{self, FlatTensor, GradientState, NamedData, Path},
    },
};
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Bool, Tensor},
};
use kiln_prune::{Pattern, schedule::share_at};
use std::collections::{BTreeMap, BTreeSet};

/// Pruning of a model in training.
#[derive(Debug, Clone)]
pub struct GradualPruning {
    config: PruningConfig,
    /// Step at which the share is reached.
    end: u64,
    /// Names of the trained matrices that are pruned.
    names: BTreeSet<String>,
}

impl GradualPruning {
    /// The pruning that a configuration describes; `None` if nothing is pruned.
    pub fn of(config: &Config, model: &Model) -> Option<Self> {
        if !config.pruning.is_on() {
            return None;
        }
        let trained = parameters::trainable_shapes(model);
        let names = matrices(&config.model).into_iter().filter(|name| trained.contains_key(name)).collect();
        Some(Self { config: config.pruning.clone(), end: config.pruning_end(), names })
    }

    /// Note for the user on the share that will be zero; `None` if no more weights become zero.
    pub fn note(&self) -> Option<String> {
        let (share, end) = (100.0 * self.config.sparsity, self.end);
        (share > 0.0)
            .then(|| format!("{share} % of the weights of the blocks' matrices are zero from step {end} on"))
    }

    /// Zeros that the next step must leave as they are; `None` if it may change all weights. `done` is the number of
    /// finished steps.
    pub fn zeros(&self, model: &Model, done: u64) -> Option<Zeros> {
        let is_pruned = self.config.sparsity > 0.0 && done >= self.config.start_step;
        if !(self.config.keep_zeros || is_pruned) {
            return None;
        }
        let mut collect = Collect { names: &self.names, path: Path::default(), zeros: BTreeMap::new() };
        model.visit(&mut collect);
        Some(Zeros(collect.zeros))
    }

    /// Share of zeros that is due after `done` steps; `None` if nothing more is pruned then.
    fn due(&self, done: u64) -> Option<f64> {
        let PruningConfig { sparsity, start_step: start, interval, .. } = self.config;
        let is_due = done == self.end || (done > start && (done - start).is_multiple_of(interval));
        if sparsity == 0.0 || done < start || done > self.end || !is_due {
            return None;
        }
        let progress = if self.end > start { (done - start) as f64 / (self.end - start) as f64 } else { 1.0 };
        Some(share_at(sparsity, progress))
    }

    /// Prunes the model as far as it is due after `done` steps. Returns the new values of the pruned matrices;
    /// `None` if nothing is due.
    ///
    /// # Errors
    /// [`Error::InvalidValue`](crate::Error::InvalidValue) if nothing of a matrix would be left, or weights are not
    /// finite, and [`Error::DeviceFailed`](crate::Error::DeviceFailed).
    pub async fn prune(&self, model: &Model, done: u64) -> Result<Option<NamedData>> {
        let Some(share) = self.due(done) else { return Ok(None) };
        let mut weights = parameters::parameters(model);
        weights.retain(|name, _| self.names.contains(name));
        let mut weights = parameters::read(weights).await?;
        by_magnitude(&mut weights, &self.names, Pattern::Share(share), self.config.scope)?;
        Ok(Some(weights))
    }
}

/// Weights that are zero, by the names of their matrices; true where a weight is zero, flattened.
pub struct Zeros(BTreeMap<String, Tensor<1, Bool>>);

impl Zeros {
    /// Removes the gradients of the zeros.
    pub fn mask_gradients(&self, model: &Model, gradients: GradientsParams) -> GradientsParams {
        let mut mask = MaskGradients { zeros: self, path: Path::default(), gradients };
        model.visit(&mut mask);
        mask.gradients
    }

    /// Sets the weights of a model to zero again that were zero.
    pub fn restore(&self, model: Model) -> Model {
        model.map(&mut Restore { zeros: self, path: Path::default() })
    }
}

struct Collect<'a> {
    names: &'a BTreeSet<String>,
    path: Path,
    zeros: BTreeMap<String, Tensor<1, Bool>>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        if self.names.contains(&name) {
            self.zeros.insert(name, FlatTensor::from_tensor(param.val().inner()).values.equal_elem(0.0));
        }
    }
}

struct MaskGradients<'a> {
    zeros: &'a Zeros,
    path: Path,
    gradients: GradientsParams,
}

impl ModuleVisitor for MaskGradients<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(zeros) = self.zeros.0.get(&self.path.name()) else { return };
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let mask = zeros.clone().reshape(gradient.dims());
            self.gradients.register(param.id, gradient.mask_fill(mask, 0.0));
        }
    }
}

struct Restore<'a> {
    zeros: &'a Zeros,
    path: Path,
}

impl ModuleMapper for Restore<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(zeros) = self.zeros.0.get(&self.path.name()) else { return param };
        param.map(|old| {
            let (state, mask) = (GradientState::of(&old), zeros.clone().reshape(old.dims()));
            state.of_new(old.inner().mask_fill(mask, 0.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> Config {
        let mut config = Config::default();
        let small = ["model.n_layer=1", "model.n_embd=8", "model.n_head=2", "model.vocab_size=11"];
        config
            .apply(&small.iter().chain(overrides).map(|text| (*text).to_owned()).collect::<Vec<_>>())
            .unwrap();
        config
    }

    fn model(config: &Config) -> Model {
        let device = crate::device::Choice::cpu().open().unwrap().autodiff();
        Model::init(&config.model, crate::kernels::Mode::Fused, 3, &device).train()
    }

    #[test]
    fn shares_grow_every_interval_up_to_the_end() {
        let pruning = GradualPruning {
            config: PruningConfig { sparsity: 0.8, start_step: 10, interval: 4, ..Default::default() },
            end: 20,
            names: BTreeSet::new(),
        };
        let due: Vec<u64> = (0..30).filter(|&done| pruning.due(done).is_some()).collect();
        assert_eq!(due, [14, 18, 20]);
        assert_eq!(pruning.due(20), Some(0.8));
        assert!(pruning.due(14) < pruning.due(18));
        let once = GradualPruning { end: 10, ..pruning };
        assert_eq!((0..30).filter_map(|done| once.due(done)).collect::<Vec<_>>(), [0.8]);
    }

    #[test]
    fn nothing_is_pruned_unasked() {
        let off = config(&[]);
        assert!(GradualPruning::of(&off, &model(&off)).is_none());
        let keep = config(&["pruning.keep_zeros=true"]);
        let keep = GradualPruning::of(&keep, &model(&keep)).unwrap();
        assert!(keep.names.len() == 4 && (0..9).all(|done| keep.due(done).is_none()));
        let later = config(&["pruning.sparsity=0.5", "pruning.start_step=3"]);
        let model = model(&later);
        let later = GradualPruning::of(&later, &model).unwrap();
        assert!(later.zeros(&model, 2).is_none() && later.zeros(&model, 3).is_some());
    }

    #[test]
    fn zeros_have_no_gradient_and_stay() {
        let config = config(&["pruning.keep_zeros=true"]);
        let model = model(&config);
        let name = "blocks.0.mlp.down.weight";
        let device = crate::device::Choice::cpu().open().unwrap();
        let mut half = pollster::block_on(parameters::read(parameters::parameters(&model))).unwrap();
        half.retain(|key, _| key == name);
        half.get_mut(name).unwrap().values.iter_mut().step_by(2).for_each(|value| *value = 0.0);
        let host = half[name].clone();
        let of = |host| BTreeMap::from([(name.to_owned(), FlatTensor::from_host(host, &device))]);
        let model = parameters::with_weights(model, &of(host.clone()));
        let pruning = GradualPruning::of(&config, &model).unwrap();
        let zeros = pruning.zeros(&model, 0).unwrap();
        assert_eq!(zeros.0.len(), 4);

        let tokens = Tensor::<2, burn::tensor::Int>::from_ints([[1, 2, 3]], &device.clone().autodiff());
        let loss = model.forward(tokens.into()).0.square().sum();
        let gradients = zeros.mask_gradients(&model, GradientsParams::from_grads(loss.backward(), &model));
        let gradients =
            pollster::block_on(parameters::read(parameters::gradients(&model, &gradients))).unwrap();
        let is_zero: Vec<bool> = gradients[name].values.iter().map(|value| *value == 0.0).collect();
        assert!(is_zero.iter().enumerate().all(|(at, zero)| *zero == at.is_multiple_of(2)), "{is_zero:?}");

        let mut moved = host.clone();
        moved.values.iter_mut().for_each(|value| *value += 1.0);
        let moved = zeros.restore(parameters::with_weights(model, &of(moved)));
        let found = pollster::block_on(parameters::read(parameters::parameters(&moved))).unwrap();
        for (old, new) in host.values.iter().zip(&found[name].values) {
            assert_eq!(*new, if *old == 0.0 { 0.0 } else { old + 1.0 });
        }
        assert!(parameters::trainable_shapes(&moved).contains_key(name));
    }
}
