//! Weights in the type of a small precision, in which they take half the memory, for models that are not trained. On
//! the CPU, whose kernels read f32, they stay as they are.

use crate::{
    kernels::{Precision, precision::stored},
    model::{Model, parameters::Path},
};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::Tensor,
};

/// Converts the weights of linear layers and experts, and the token embeddings, to the type of a precision. Norms,
/// biases and embeddings of positions stay f32.
pub fn reduce_weights(model: Model, precision: Precision) -> Model {
    if !precision.is_small() {
        return model;
    }
    model.map(&mut Reduce { path: Path::default(), precision })
}

struct Reduce {
    path: Path,
    precision: Precision,
}

impl ModuleMapper for Reduce {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let is_read_by_products = D == 3 || D == 2 && (name.ends_with(".weight") || name == "embedding");
        if is_read_by_products { param.map(|weight| stored(weight, self.precision)) } else { param }
    }
}
