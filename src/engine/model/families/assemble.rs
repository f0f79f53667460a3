//! Makes Kiln's tensors of the stored ones, on all threads of the CPU.

use super::{Entry, Family, Part, transform};
use crate::{
    config::ModelConfig,
    model::parameters::{HostTensor, NamedData},
    platform,
};
use std::collections::BTreeMap;
use transform::Transform;

/// A stored tensor, which is converted to f32 when it is needed.
pub trait Stored: Send {
    fn shape(&self) -> &[usize];
    fn into_host(self) -> HostTensor;
}

impl Stored for HostTensor {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn into_host(self) -> HostTensor {
        self
    }
}

/// One of Kiln's tensors, with the stored tensors that it consists of.
struct Assembly<T> {
    name: String,
    groups: Vec<Vec<(Part, T)>>,
    is_stacked: bool,
}

impl Family {
    /// Converts tensors that are stored in the family's names and forms to Kiln's. Each is converted to f32
    /// when it is put into its place, so that the model is in memory once.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn load_stored<T: Stored>(
        self,
        config: &ModelConfig,
        mut theirs: BTreeMap<String, T>,
    ) -> Result<NamedData, String> {
        theirs.retain(|name, _| !self.is_ignored(config, name));
        if config.tie_embeddings {
            let names: Vec<&str> = theirs.keys().map(String::as_str).collect();
            let projection = self.projection(config, &names);
            if let Some(output) =
                projection.filter(|found| found.embedding.is_some()).and_then(|found| found.output)
            {
                let output = output.to_owned();
                theirs.remove(&output);
            }
        }
        self.assemble(config, theirs)
    }

    /// Joins and transposes tensors whose names are those of the family's entries.
    pub(super) fn assemble<T: Stored>(
        self,
        config: &ModelConfig,
        theirs: BTreeMap<String, T>,
    ) -> Result<NamedData, String> {
        // The list of entries is as long as the configuration says, which comes from a file too.
        // Kiln's own layout has the experts of a layer in one tensor.
        let experts = if self == Self::KILN { 0 } else { config.moe.n_experts };
        let (layers, tensors) = (config.n_layer, theirs.len());
        let layers = layers.max(config.n_decoder_layer.unwrap_or(0));
        if layers.saturating_mul(experts.max(1)) > tensors {
            let of_experts = if experts > 0 { format!(" of {experts} experts") } else { String::new() };
            return Err(format!(
                "it has {tensors} tensors, too few for the {layers} layers{of_experts} of its configuration"
            ));
        }
        assemble_entries((self.0.entries)(config), theirs)
    }
}

/// Makes the tensors of these entries of all the stored ones.
pub(super) fn assemble_entries<T: Stored>(
    entries: Vec<Entry>,
    mut theirs: BTreeMap<String, T>,
) -> Result<NamedData, String> {
    let assemblies = entries
        .into_iter()
        .map(|entry| Assembly::collect(entry, &mut theirs))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = theirs.into_keys().next() {
        return Err(format!("tensor `{name}` is not part of the model"));
    }
    let built = platform::map_in_parallel(assemblies, Assembly::build).into_iter();
    built.filter_map(Result::transpose).collect()
}

impl<T: Stored> Assembly<T> {
    /// Takes the stored tensors of an entry.
    fn collect(entry: Entry, theirs: &mut BTreeMap<String, T>) -> Result<Self, String> {
        let Entry { name, groups, stacked: is_stacked } = entry;
        let mut collected = Vec::new();
        for group in groups {
            let mut parts = Vec::new();
            for part in group {
                let stored = theirs.remove(&part.name);
                // A bias that only the family has.
                if matches!(part.transform, Transform::Zeros(_)) {
                    continue;
                }
                let stored = stored.ok_or_else(|| format!("tensor `{}` is missing", part.name))?;
                parts.push((part, stored));
            }
            if !parts.is_empty() {
                collected.push(parts);
            }
        }
        Ok(Self { name, groups: collected, is_stacked })
    }

    /// Converts, joins and stacks the stored tensors. `None` if Kiln does not have the tensor.
    fn build(self) -> Result<Option<(String, HostTensor)>, String> {
        let Self { name, groups, is_stacked } = self;
        let mut matrices = Vec::new();
        for group in groups {
            let mut parts = Vec::new();
            for (part, stored) in group {
                let (width, shape) = (part.columns.len(), stored.shape());
                let loaded = part.transform.loaded_shape(shape);
                if loaded.is_none_or(|loaded| loaded.last() != Some(&width)) {
                    let name = &part.name;
                    return Err(format!(
                        "tensor `{name}` has shape {shape:?}, but the configuration asks for a width of {width}"
                    ));
                }
                parts.push((part.transform, stored));
            }
            let joined = transform::join(parts);
            matrices.push(joined.ok_or_else(|| format!("the parts of `{name}` differ in shape"))?);
        }
        let whole = if is_stacked { transform::stack(matrices) } else { matrices.pop() };
        match whole {
            Some(tensor) => Ok(Some((name, tensor))),
            None if is_stacked => Err(format!("the parts of `{name}` differ in shape")),
            None => Ok(None),
        }
    }
}
