//! An adapter in host memory, as PEFT stores it: its tensors by name, both ways.

use crate::model::parameters::{HostTensor, NamedData};
use std::collections::BTreeMap;

/// An adapter in host memory, in the layout of PEFT's files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostAdapter {
    /// Low-rank changes by module.
    pub changes: BTreeMap<String, Change>,
    /// Tensors of modules that are saved as a whole, by their names in transformers.
    pub saved: NamedData,
    /// Tables of adapted embeddings without their changes, by module. PEFT stores them with the changes.
    pub tables: NamedData,
}

/// Low-rank change of a module.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Factor of the inputs (PEFT's A), `[R, I]`.
    pub down: HostTensor,
    /// Factor of the outputs (PEFT's B), `[O, R]`.
    pub up: HostTensor,
    /// Norms of the outputs (DoRA), `[O]`.
    pub magnitude: Option<HostTensor>,
    /// Whether the module is an embedding, whose tensors have names of their own.
    pub is_embedding: bool,
}

impl Change {
    /// Rank of the change.
    pub fn rank(&self) -> usize {
        self.down.shape.first().copied().unwrap_or(0)
    }
}

/// Prefix of all names in PEFT's files.
const PREFIX: &str = "base_model.model.";
const MAGNITUDE: &str = ".lora_magnitude_vector";
const TABLE: &str = ".base_layer.weight";
/// Names of the two factors of a linear layer, and of an embedding.
const FACTORS: [[&str; 2]; 2] =
    [[".lora_A.weight", ".lora_B.weight"], [".lora_embedding_A", ".lora_embedding_B"]];

impl HostAdapter {
    /// Number of trained numbers.
    pub fn parameters(&self) -> usize {
        let of_change = |change: &Change| {
            let magnitude = change.magnitude.as_ref().map_or(0, |magnitude| magnitude.values.len());
            change.down.values.len() + change.up.values.len() + magnitude
        };
        let saved = self.saved.values().map(|tensor| tensor.values.len());
        self.changes.values().map(of_change).chain(saved).sum()
    }

    /// Gives modules other names.
    pub fn renamed(self, rename: impl Fn(&str) -> String) -> Self {
        Self {
            changes: self.changes.into_iter().map(|(module, change)| (rename(&module), change)).collect(),
            saved: self.saved.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect(),
            tables: self.tables.into_iter().map(|(module, table)| (rename(&module), table)).collect(),
        }
    }

    /// Tensors by the names of PEFT's files.
    pub fn into_tensors(self) -> NamedData {
        let mut tensors = NamedData::new();
        for (module, Change { down, up, magnitude, is_embedding }) in self.changes {
            let [a, b] = FACTORS[usize::from(is_embedding)];
            tensors.insert(format!("{PREFIX}{module}{a}"), down);
            tensors.insert(format!("{PREFIX}{module}{b}"), up);
            tensors.extend(magnitude.map(|magnitude| (format!("{PREFIX}{module}{MAGNITUDE}"), magnitude)));
        }
        tensors.extend(self.saved.into_iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor)));
        let tables = self.tables.into_iter();
        tensors.extend(tables.map(|(module, table)| (format!("{PREFIX}{module}{TABLE}"), table)));
        tensors
    }

    /// Reads the tensors of PEFT's files.
    ///
    /// # Errors
    /// A message about a tensor whose name is none of PEFT's for LoRA, or that does not go with the others of its
    /// module.
    pub fn from_tensors(tensors: NamedData) -> Result<Self, String> {
        let mut adapter = Self::default();
        let mut factors: [BTreeMap<(String, bool), HostTensor>; 2] = Default::default();
        let mut magnitudes = NamedData::new();
        for (key, tensor) in tensors {
            let name =
                key.strip_prefix(PREFIX).ok_or_else(|| format!("tensor `{key}` is not one of PEFT's"))?;
            let of_change = FACTORS.iter().enumerate().find_map(|(kind, names)| {
                let find = |(factor, end): (usize, &&str)| Some((factor, name.strip_suffix(*end)?));
                let (factor, module) = names.iter().enumerate().find_map(find)?;
                Some((factor, module, kind == 1))
            });
            if let Some((factor, module, is_embedding)) = of_change {
                factors[factor].insert((module.to_owned(), is_embedding), tensor);
            } else if let Some(module) = name.trim_end_matches(".weight").strip_suffix(MAGNITUDE) {
                // Of old its name ended with `.weight`.
                magnitudes.insert(module.to_owned(), tensor);
            } else if let Some(module) = name.strip_suffix(TABLE) {
                adapter.tables.insert(module.to_owned(), tensor);
            } else if name.contains(".lora_") {
                return Err(format!("tensor `{key}` is of a kind of LoRA that kiln does not have"));
            } else {
                adapter.saved.insert(name.to_owned(), tensor);
            }
        }
        let [downs, mut ups] = factors;
        for ((module, is_embedding), down) in downs {
            let up = ups.remove(&(module.clone(), is_embedding));
            let up = up.ok_or_else(|| format!("module `{module}` has a factor A, but no B"))?;
            let ranks = (down.shape.first(), up.shape.last());
            if down.shape.len() != 2 || up.shape.len() != 2 || ranks.0 != ranks.1 || ranks.0 == Some(&0) {
                let (a, b) = (&down.shape, &up.shape);
                return Err(format!("the factors of module `{module}` have the shapes {a:?} and {b:?}"));
            }
            let magnitude = magnitudes.remove(&module);
            adapter.changes.insert(module, Change { down, up, magnitude, is_embedding });
        }
        if let Some((module, _)) = ups.into_keys().next() {
            return Err(format!("module `{module}` has a factor B, but no A"));
        }
        match magnitudes.into_keys().next() {
            None => Ok(adapter),
            Some(module) => Err(format!("module `{module}` has a magnitude, but no factors")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<const D: usize>(shape: [usize; D]) -> HostTensor {
        HostTensor::new(shape, vec![0.5; shape.iter().product()])
    }

    #[test]
    fn names_are_those_of_peft_both_ways() {
        let names = [
            ("base_model.model.model.embed_tokens.base_layer.weight", tensor([7, 4])),
            ("base_model.model.model.embed_tokens.lora_embedding_A", tensor([2, 7])),
            ("base_model.model.model.embed_tokens.lora_embedding_B", tensor([4, 2])),
            ("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", tensor([2, 4])),
            ("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight", tensor([8, 2])),
            ("base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector", tensor([8])),
            ("base_model.model.lm_head.weight", tensor([7, 4])),
        ];
        let tensors = NamedData::from(names.map(|(name, tensor)| (name.to_owned(), tensor)));
        let adapter = HostAdapter::from_tensors(tensors.clone()).unwrap();
        assert_eq!(adapter.changes.len(), 2);
        assert_eq!(adapter.changes["model.layers.0.mlp.up_proj"].rank(), 2);
        assert!(adapter.saved.contains_key("lm_head.weight") && adapter.tables.len() == 1);
        assert_eq!(adapter.parameters(), 14 + 8 + 8 + 16 + 8 + 28);
        assert_eq!(adapter.into_tensors(), tensors);
    }

    #[test]
    fn incomplete_modules_are_refused() {
        let refused = |names: &[(&str, HostTensor)]| {
            let tensors = names.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone()));
            HostAdapter::from_tensors(tensors.collect()).unwrap_err()
        };
        let a = "base_model.model.x.lora_A.weight";
        let b = "base_model.model.x.lora_B.weight";
        assert!(refused(&[(a, tensor([2, 4]))]).contains("`x` has a factor A, but no B"));
        assert!(refused(&[(b, tensor([4, 2]))]).contains("`x` has a factor B, but no A"));
        assert!(refused(&[(a, tensor([2, 4])), (b, tensor([4, 3]))]).contains("[2, 4] and [4, 3]"));
        assert!(refused(&[("x.lora_A.weight", tensor([2, 4]))]).contains("not one of PEFT's"));
        assert!(refused(&[("base_model.model.x.lora_B.bias", tensor([4]))]).contains("does not have"));
        let magnitude = "base_model.model.x.lora_magnitude_vector";
        assert!(refused(&[(magnitude, tensor([4]))]).contains("no factors"));
    }
}
