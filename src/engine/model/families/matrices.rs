//! Matrices of a model by the names of their modules in transformers, which is how adapters name them.

use super::{Entry, Family, Part, transform::Transform};
use crate::{
    config::ModelConfig,
    model::{layout, parameters::HostTensor},
};
use std::{collections::BTreeMap, ops::Range};

/// A matrix that transformers has in a module of its own, and its place in Kiln's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedMatrix {
    /// Name of the module, for example `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Kiln's parameter that the matrix is a part of.
    pub parameter: String,
    /// Number of the matrix in a stack of experts.
    pub expert: Option<usize>,
    /// Columns of the matrix in the parameter.
    pub columns: Range<usize>,
    /// Inputs and outputs of the parameter's matrix, `[I, O]`; for an embedding, `[vocab_size, n_embd]`.
    pub sizes: [usize; 2],
    /// Whether it is the token embedding.
    pub is_embedding: bool,
    transform: Transform,
}

/// Kiln's name of the token embedding.
const EMBEDDING: &str = "embedding";

impl Family {
    /// Lists the matrices of all linear layers and of the token embedding, in the order of their columns.
    pub fn matrices(self, config: &ModelConfig) -> Vec<NamedMatrix> {
        let shapes: BTreeMap<String, Vec<usize>> =
            layout::parameters(config).into_iter().map(|shape| (shape.name, shape.dims)).collect();
        let mut matrices = Vec::new();
        for Entry { name, groups, stacked } in (self.0.entries)(config) {
            let is_embedding = name == EMBEDDING;
            let (stack, sizes) = match *shapes.get(&name).map_or(&[][..], Vec::as_slice) {
                [inputs, outputs] if is_embedding || name.ends_with(".weight") => (None, [inputs, outputs]),
                [experts, inputs, outputs] => (Some(experts), [inputs, outputs]),
                _ => continue,
            };
            for (index, group) in groups.into_iter().enumerate() {
                for Part { name: stored_as, columns, transform } in group {
                    let module = stored_as.strip_suffix(".weight").unwrap_or(&stored_as).to_owned();
                    let modules = match stack {
                        None => vec![(None, module)],
                        Some(_) if stacked => vec![(Some(index), module)],
                        // Kiln's own format has the experts of a layer in one tensor.
                        Some(count) => {
                            (0..count).map(|expert| (Some(expert), format!("{module}.{expert}"))).collect()
                        }
                    };
                    matrices.extend(modules.into_iter().map(|(expert, module)| NamedMatrix {
                        module,
                        parameter: name.clone(),
                        expert,
                        columns: columns.clone(),
                        sizes,
                        is_embedding,
                        transform,
                    }));
                }
            }
        }
        matrices
    }

    /// Adds the prefix to the name of a module, which it has in a model with an output projection.
    pub fn with_module_prefix(self, module: &str) -> String {
        self.with_prefix(module)
    }
}

impl NamedMatrix {
    /// Whether transformers stores the matrix as `[inputs, outputs]` (GPT-2's `Conv1D`).
    pub fn is_conv1d(&self) -> bool {
        self.transform == Transform::AsIs && !self.is_embedding
    }

    /// Whether the matrix is the whole of Kiln's parameter.
    pub fn is_whole(&self) -> bool {
        self.expert.is_none() && self.columns == (0..self.sizes[1])
    }

    /// Converts a factor of the inputs, `[R, I]`, to Kiln's form, `[I, R]`; `None` if it has another shape.
    pub fn load_inputs(&self, stored: HostTensor) -> Option<HostTensor> {
        let fits = matches!(stored.shape[..], [_, inputs] if inputs == self.sizes[0]);
        fits.then_some(stored).and_then(|stored| Transform::Transpose.load(stored))
    }

    /// Converts a factor of the inputs to the form of files.
    pub fn store_inputs(&self, ours: HostTensor) -> HostTensor {
        Transform::Transpose.store(ours)
    }

    /// Converts a factor of the outputs, `[columns, R]`, to Kiln's form, `[R, columns]`, or numbers of the outputs,
    /// `[columns]`; `None` if they have another shape.
    pub fn load_outputs(&self, stored: HostTensor) -> Option<HostTensor> {
        let fits = matches!(stored.shape[..], [outputs] | [outputs, _] if outputs == self.columns.len());
        fits.then_some(stored).and_then(|stored| self.of_outputs().load(stored))
    }

    /// Converts what [`load_outputs`](Self::load_outputs) loads to the form of files.
    pub fn store_outputs(&self, ours: HostTensor) -> HostTensor {
        self.of_outputs().store(ours)
    }

    /// Conversion of tensors whose first dimension is the outputs, in every layout of the matrix.
    fn of_outputs(&self) -> Transform {
        match self.transform {
            Transform::AsIs | Transform::Zeros(_) => Transform::Transpose,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Activation, MoeConfig, Position, RopeConfig, RopeLayout};

    fn modules(family: Family, config: &ModelConfig) -> Vec<(String, String, Range<usize>)> {
        let matrices = family.matrices(config).into_iter();
        matrices.map(|matrix| (matrix.module, matrix.parameter, matrix.columns)).collect()
    }

    #[test]
    fn fused_matrices_are_listed_by_the_modules_of_transformers() {
        let config = ModelConfig { vocab_size: 11, n_layer: 1, n_embd: 8, n_head: 2, ..Default::default() };
        let found = modules(Family::GPT2, &config);
        assert_eq!(
            found[1],
            ("transformer.h.0.attn.c_attn".into(), "blocks.0.attention.qkv.weight".into(), 0..24)
        );
        assert_eq!(found.len(), 5);
        let llama = ModelConfig {
            position: Position::Rotary,
            activation: Activation::Swiglu,
            n_kv_head: Some(1),
            ..config.clone()
        };
        let names: Vec<_> =
            modules(Family::LLAMA, &llama)[1..4].iter().map(|m| (m.0.clone(), m.2.clone())).collect();
        let attention = "model.layers.0.self_attn";
        let expected = [("q_proj", 0..8), ("k_proj", 8..12), ("v_proj", 12..16)];
        assert_eq!(names, expected.map(|(part, columns)| (format!("{attention}.{part}"), columns)));
        let experts = ModelConfig { moe: MoeConfig { n_experts: 2, ..Default::default() }, ..llama };
        for family in [Family::QWEN3_MOE, Family::MIXTRAL, Family::KILN] {
            let matrices = family.matrices(&experts);
            let of_experts = || matrices.iter().filter(|matrix| matrix.expert.is_some());
            assert!(of_experts().all(|matrix| matrix.parameter.starts_with("blocks.0.mlp.")));
            let mut names: Vec<_> = of_experts().map(|matrix| &matrix.module).collect();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{names:?}");
            assert_eq!(of_experts().filter(|matrix| matrix.expert == Some(1)).count(), count / 2);
        }
    }

    #[test]
    fn factors_follow_the_columns_of_rotary_heads() {
        let config = ModelConfig {
            vocab_size: 11,
            n_layer: 1,
            n_embd: 4,
            n_head: 1,
            position: Position::Rotary,
            rope: RopeConfig { layout: RopeLayout::Interleaved, ..Default::default() },
            activation: Activation::Swiglu,
            ..Default::default()
        };
        let matrices = Family::LLAMA.matrices(&config);
        let query = matrices.iter().find(|matrix| matrix.module.ends_with("q_proj")).unwrap();
        let stored = HostTensor::new([4, 1], vec![0.0, 1.0, 2.0, 3.0]);
        let ours = query.load_outputs(stored.clone()).unwrap();
        assert_eq!(ours, HostTensor::new([1, 4], vec![0.0, 2.0, 1.0, 3.0]));
        assert_eq!(query.store_outputs(ours), stored);
        let norms = HostTensor::new([4], vec![0.0, 1.0, 2.0, 3.0]);
        let ours = query.load_outputs(norms.clone()).unwrap();
        assert_eq!(ours.values, [0.0, 2.0, 1.0, 3.0]);
        assert_eq!(query.store_outputs(ours), norms);
        assert!(query.load_outputs(HostTensor::new([3], vec![0.0; 3])).is_none());
        assert!(query.load_inputs(HostTensor::new([4, 1], vec![0.0; 4])).is_none());
    }
}
