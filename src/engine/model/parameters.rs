//! A model's parameters by name. Reads them (and gradients, and averages) from a device in one go, and writes
//! them back. A name is a path of fields, for example `blocks.0.attention.qkv.weight`.

use crate::{device::device_failed, error::Result};
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData, Transaction},
};
use std::collections::BTreeMap;

/// Tensors in host memory, by name.
pub type NamedData = BTreeMap<String, HostTensor>;

/// A tensor in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub values: Vec<f32>,
}

impl HostTensor {
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self { shape: shape.into(), values }
    }
}

/// A tensor on a device, of any rank, flattened.
#[derive(Debug, Clone)]
pub struct FlatTensor {
    pub shape: Vec<usize>,
    /// Elements, `[product of shape]`.
    pub values: Tensor<1>,
}

impl FlatTensor {
    pub fn from_tensor<const D: usize>(tensor: Tensor<D>) -> Self {
        let shape = tensor.dims();
        let count = shape.iter().product::<usize>();
        Self { shape: shape.to_vec(), values: tensor.reshape([count]) }
    }

    /// Restores the shape of the tensor; `D` must be its rank.
    pub fn into_tensor<const D: usize>(self) -> Tensor<D> {
        let mut shape = [1; D];
        shape.copy_from_slice(&self.shape);
        self.values.reshape(shape)
    }

    pub fn from_host(host: HostTensor, device: &Device) -> Self {
        let count = host.values.len();
        Self { shape: host.shape, values: Tensor::from_data(TensorData::new(host.values, [count]), device) }
    }
}

/// All parameters of a model, without autodiff.
pub fn parameters<M: Module>(model: &M) -> BTreeMap<String, FlatTensor> {
    struct Collect(Path, BTreeMap<String, FlatTensor>);
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.insert(self.0.name(), FlatTensor::from_tensor(param.val().inner()));
        }
    }
    let mut collect = Collect(Path::default(), BTreeMap::new());
    model.visit(&mut collect);
    collect.1
}

/// Shapes of all parameters. Does not allocate parameters.
pub fn shapes<M: Module>(model: &M) -> BTreeMap<String, Vec<usize>> {
    list(model).map(|parameter| (parameter.name, parameter.shape)).collect()
}

/// Shapes of the trained parameters, that is, those that are not frozen. Allocates parameters that have no
/// value yet.
pub fn trainable_shapes<M: Module>(model: &M) -> BTreeMap<String, Vec<usize>> {
    let mut list = List { tells_trained: true, ..List::default() };
    model.visit(&mut list);
    let trained = list.parameters.into_iter().filter(|parameter| parameter.is_trained);
    trained.map(|parameter| (parameter.name, parameter.shape)).collect()
}

/// Converts values by parameter id to values by parameter name.
pub(crate) fn by_name<M: Module, T: Copy>(model: &M, by_id: &BTreeMap<ParamId, T>) -> BTreeMap<String, T> {
    let named = |parameter: Listed| Some((parameter.name, *by_id.get(&parameter.id)?));
    list(model).filter_map(named).collect()
}

/// A parameter of a model.
struct Listed {
    name: String,
    id: ParamId,
    shape: Vec<usize>,
    /// Whether the parameter is trained.
    is_trained: bool,
}

/// Lists every parameter of a model. Does not allocate parameters.
fn list<M: Module>(model: &M) -> impl Iterator<Item = Listed> {
    let mut list = List::default();
    model.visit(&mut list);
    list.parameters.into_iter()
}

#[derive(Default)]
struct List {
    path: Path,
    parameters: Vec<Listed>,
    /// Whether to find out which parameters are trained, for which Burn allocates them.
    tells_trained: bool,
}

impl ModuleVisitor for List {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (name, shape) = (self.path.name(), param.lazy_shape().to_vec());
        let is_trained = self.tells_trained && param.is_require_grad();
        self.parameters.push(Listed { name, id: param.id, shape, is_trained });
    }
}

/// Compares tensors with the names and shapes of a model's parameters.
///
/// # Errors
/// A message about the first tensor that is missing, has the wrong shape, or is not a parameter.
pub fn check(data: &NamedData, shapes: &BTreeMap<String, Vec<usize>>) -> Result<(), String> {
    for (name, expected) in shapes {
        match data.get(name) {
            None => return Err(format!("tensor `{name}` is missing")),
            Some(host) => check_shape(name, host, expected)?,
        }
    }
    match data.keys().find(|name| !shapes.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(format!("tensor `{name}` is not part of the model")),
    }
}

/// Compares the shape of a tensor with that of the model's parameter.
///
/// # Errors
/// A message with both shapes if they differ.
pub fn check_shape(name: &str, host: &HostTensor, expected: &[usize]) -> Result<(), String> {
    if host.shape == expected {
        return Ok(());
    }
    Err(format!("tensor `{name}` has shape {:?}, but the configuration asks for {expected:?}", host.shape))
}

/// All gradients of a model, by parameter name.
pub fn gradients<M: Module>(model: &M, gradients: &GradientsParams) -> BTreeMap<String, FlatTensor> {
    struct Collect<'a>(Path, &'a GradientsParams, BTreeMap<String, FlatTensor>);
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.1.get::<D>(param.id) {
                self.2.insert(self.0.name(), FlatTensor::from_tensor(gradient));
            }
        }
    }
    let mut collect = Collect(Path::default(), gradients, BTreeMap::new());
    model.visit(&mut collect);
    collect.2
}

/// Reads tensors into host memory, waiting for the device once.
///
/// # Errors
/// [`Error::DeviceFailed`](crate::Error::DeviceFailed).
pub async fn read(tensors: BTreeMap<String, FlatTensor>) -> Result<NamedData> {
    let Some(device) = tensors.values().next().map(|t| t.values.device()) else {
        return Ok(NamedData::new());
    };
    let mut transaction = Transaction::default();
    let mut names = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        transaction = transaction.register(tensor.values);
        names.push((name, tensor.shape));
    }
    let failed = |message: String| device_failed(&device, "reading tensors", message);
    let data = transaction.execute_async().await.map_err(|e| failed(e.to_string()))?;
    names
        .into_iter()
        .zip(data)
        .map(|((name, shape), data)| {
            let values = data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))?;
            Ok((name, HostTensor { shape, values }))
        })
        .collect()
}

/// Replaces every parameter of a model by the tensor with its name. The old values are not read, so that
/// those of [`Model::uninitialized`](super::Model::uninitialized) are never allocated.
///
/// # Errors
/// Those of [`check`], before anything is copied to the device.
pub fn load<M: Module>(model: M, data: NamedData) -> Result<M, String> {
    check(&data, &shapes(&model))?;
    Ok(put(model, data))
}

/// Replaces every parameter except those whose names begin with `kept`.
///
/// # Errors
/// Those of [`check`], for the parameters that are replaced.
pub fn load_all_but<M: Module>(model: M, data: NamedData, kept: &str) -> Result<M, String> {
    let mut shapes = shapes(&model);
    shapes.retain(|name, _| !name.starts_with(kept));
    check(&data, &shapes)?;
    Ok(put(model, data))
}

/// Replaces the parameters for which `data` has a tensor, which must have the shape of the parameter.
pub(crate) fn put<M: Module>(model: M, data: NamedData) -> M {
    struct Load(Path, NamedData);
    impl ModuleMapper for Load {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(host) = self.1.remove(&self.0.name()) else {
                return param;
            };
            let data = TensorData::new(host.values, host.shape);
            let mut loaded = Param::from_data(data, &param.lazy_device());
            loaded.id = param.id;
            loaded
        }
    }
    model.map(&mut Load(Path::default(), data))
}

/// Replaces the weights of a model by those in `weights`; parameters that it does not contain are kept.
pub fn with_weights<M: Module>(model: M, weights: &BTreeMap<String, FlatTensor>) -> M {
    struct Swap<'a>(Path, &'a BTreeMap<String, FlatTensor>);
    impl ModuleMapper for Swap<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.1.get(&self.0.name()) {
                Some(weights) => {
                    param.map(|old| GradientState::of(&old).of_new(weights.clone().into_tensor()))
                }
                None => param,
            }
        }
    }
    model.map(&mut Swap(Path::default(), weights))
}

/// Gradient state of a parameter's tensor: whether it is on an autodiff device, and whether it is tracked.
#[derive(Clone, Copy)]
pub struct GradientState {
    is_autodiff: bool,
    is_tracked: bool,
}

impl GradientState {
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        Self { is_autodiff: tensor.is_autodiff(), is_tracked: tensor.is_require_grad() }
    }

    /// Gives a tensor without autodiff this gradient state.
    pub fn of_new<const D: usize>(self, new: Tensor<D>) -> Tensor<D> {
        let new = if self.is_autodiff { Tensor::from_inner(new) } else { new };
        if self.is_tracked { new.require_grad() } else { new }
    }
}

/// Role of a parameter, by which optimizers group parameters. It is declared where the parameter is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterRole {
    /// A matrix inside a block.
    Matrix,
    /// The stacked weights of all experts of a layer, `[X, ...]`.
    Experts,
    /// Embeddings, output projections and heads.
    Embedding,
    /// Biases and norms.
    Vector,
}

/// Roles of parameters by name.
pub type ParameterRoles = BTreeMap<String, ParameterRole>;

/// Parameter names that match a pattern, in which `*` stands for any characters.
pub fn matching<'a>(
    names: impl IntoIterator<Item = &'a String>,
    pattern: &str,
) -> impl Iterator<Item = &'a String> {
    names.into_iter().filter(move |name| matches(name, pattern))
}

/// Whether a name matches a pattern, in which `*` stands for any characters.
pub(crate) fn matches(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.any(|at| matches(&rest[at..], after))
        }),
    }
}

/// Path of a visitor in the tree of modules.
#[derive(Default)]
pub struct Path(Vec<String>);

impl Path {
    /// Enters a field. The variant of an enum is not part of the path, and neither are fields that only group
    /// others.
    pub fn enter(&mut self, name: &str, container: &str) {
        let is_part = container.starts_with("Enum:")
            || ["embeddings", "stack", "distance_bias", "projection"].contains(&name);
        self.0.push(if is_part { String::new() } else { name.into() });
    }

    pub fn exit(&mut self) {
        self.0.pop();
    }

    pub fn name(&self) -> String {
        let parts: Vec<&str> = self.0.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        parts.join(".")
    }
}
