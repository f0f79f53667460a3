//! Frozen parameters: they have no gradient and no optimizer state, and keep their values.

use crate::{
    error::{Error, Result},
    model::{
        Model,
        parameters::{Path, matching, shapes},
    },
};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::Tensor,
};
use std::collections::BTreeSet;

const KEY: &str = "train.freeze";

/// Freezes the parameters whose names match one of the patterns, in which `*` stands for any characters.
///
/// # Errors
/// [`Error::InvalidValue`] for a pattern that no parameter matches, or if nothing is left to train.
pub(super) fn freeze(model: Model, patterns: &[String]) -> Result<Model> {
    if patterns.is_empty() {
        return Ok(model);
    }
    let shapes = shapes(&model);
    let mut frozen = BTreeSet::new();
    for pattern in patterns {
        let mut matched = matching(shapes.keys(), pattern).peekable();
        if matched.peek().is_none() {
            let example = shapes.keys().next().cloned().unwrap_or_default();
            return Err(Error::InvalidValue {
                key: KEY.into(),
                value: pattern.clone(),
                message: "no parameter has such a name".into(),
                hint: Some(format!("names are like `{example}`, and `*` stands for any characters").into()),
            });
        }
        frozen.extend(matched.cloned());
    }
    if frozen.len() == shapes.len() {
        return Err(Error::invalid_value(KEY, patterns.join(", "), "nothing is left to train"));
    }
    Ok(model.map(&mut Freeze { path: Path::default(), frozen }))
}

/// Freezes all parameters but those whose names are `trained`.
pub(super) fn freeze_all_but(model: Model, trained: impl Fn(&str) -> bool) -> Model {
    let frozen = shapes(&model).into_keys().filter(|name| !trained(name)).collect();
    model.map(&mut Freeze { path: Path::default(), frozen })
}

struct Freeze {
    path: Path,
    frozen: BTreeSet<String>,
}

impl ModuleMapper for Freeze {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.frozen.contains(&self.path.name()) { param.set_require_grad(false) } else { param }
    }
}
