//! Finds the token embedding and the output projection of a language model in a file. They may be tied.
//!
//! Like in transformers, the tensors decide, not `tie_word_embeddings` alone: if the projection is missing,
//! it is tied to the embedding; if the embedding is missing, it is the projection that it is tied to; if the
//! two differ, both are kept.

use super::{Family, HEAD, transform::Transform};
use crate::{
    config::{Head, ModelConfig, MoeConfig},
    model::parameters::NamedData,
};

/// Token embedding and output projection of a file, by their names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection<'a> {
    pub embedding: Option<&'a str>,
    pub output: Option<&'a str>,
    /// Name that the output projection has in files of this family.
    pub output_name: String,
    pub embedding_name: String,
    /// Whether the projection is stored like the embedding, `[vocab_size, n_embd]`, rather than transposed.
    pub is_alike: bool,
}

impl Family {
    /// Finds embedding and projection among the names in a file; `None` if the model has no language-model
    /// head.
    pub fn projection<'a>(self, config: &ModelConfig, names: &[&'a str]) -> Option<Projection<'a>> {
        let (embedding_name, output_name, is_alike) = self.projection_names(config)?;
        let in_files = |name: &str| (self.0.name_in_files)(name.to_owned());
        let all: Vec<String> = names.iter().map(|name| in_files(name)).collect();
        let bare = self.lacks_prefix(all.iter().map(String::as_str));
        let find = |wanted: &str| {
            let is_wanted =
                |name: &String| if bare { self.with_prefix(name) == wanted } else { name == wanted };
            all.iter().position(is_wanted).map(|index| names[index])
        };
        let mut embeddings = std::iter::once(&*embedding_name).chain(self.0.embedding_copies.iter().copied());
        Some(Projection {
            embedding: embeddings.find_map(find),
            output: find(&output_name),
            output_name,
            embedding_name,
            is_alike,
        })
    }

    /// Names of embedding and projection, and whether they are stored in the same orientation.
    fn projection_names(self, config: &ModelConfig) -> Option<(String, String, bool)> {
        if config.head != Head::LanguageModel {
            return None;
        }
        // Their names do not depend on the layers, of which a file may claim any number.
        let small = ModelConfig {
            n_layer: 1,
            n_decoder_layer: config.n_decoder_layer.map(|_| 1),
            moe: MoeConfig { n_experts: config.moe.n_experts.min(1), ..config.moe },
            tie_embeddings: false,
            ..config.clone()
        };
        let entries = (self.0.entries)(&small);
        let stored = |ours: &[&str]| {
            let entry = entries.iter().find(|entry| ours.contains(&entry.name.as_str()))?;
            let part = entry.groups.first()?.first()?;
            Some((part.name.clone(), part.transform))
        };
        let (embedding, _) = stored(&["embedding"])?;
        let (output, transform) = stored(&["head.weight", "head.output.weight"])?;
        Some((embedding, output, transform == Transform::Transpose))
    }

    /// Keeps only the first name of the embedding, and removes a tied projection. If the embedding is
    /// missing, the tied projection takes its place.
    ///
    /// # Errors
    /// A message if copies of the embedding differ.
    pub(super) fn keep_one_embedding(
        self,
        config: &ModelConfig,
        tensors: &mut NamedData,
    ) -> Result<(), String> {
        let Some((embedding, output, is_alike)) = self.projection_names(config) else { return Ok(()) };
        for copy in self.0.embedding_copies {
            let Some(tensor) = tensors.remove(*copy) else { continue };
            match tensors.get(&embedding) {
                None => drop(tensors.insert(embedding.clone(), tensor)),
                Some(own) if *own == tensor => {}
                Some(_) => {
                    return Err(format!(
                        "tensor `{copy}` differs from `{embedding}`, but kiln has one embedding for both"
                    ));
                }
            }
        }
        if config.tie_embeddings
            && let Some(tensor) = tensors.remove(&output)
            && !tensors.contains_key(&embedding)
        {
            let tensor = if is_alike { Some(tensor) } else { Transform::Transpose.load(tensor) };
            tensors.extend(tensor.map(|tensor| (embedding, tensor)));
        }
        Ok(())
    }

    /// Whether a file lacks the prefix, because it was saved from the model without its output projection.
    pub(super) fn lacks_prefix<'a>(self, mut names: impl Iterator<Item = &'a str>) -> bool {
        !names.any(|name| name.starts_with(self.0.prefix))
    }

    /// Adds the prefix to the name of a tensor, which it has in other files.
    pub(super) fn with_prefix(self, name: &str) -> String {
        if name == HEAD { name.into() } else { format!("{}{name}", self.0.prefix) }
    }
}
