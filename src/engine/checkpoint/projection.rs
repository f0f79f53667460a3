//! Determines from a checkpoint's tensors whether the output projection is tied to the token embedding.

use super::WeightFiles;
use crate::{
    config::ModelConfig,
    model::families::{Family, Projection},
};

/// Sets `model.tie_embeddings` according to the tensors in the files.
///
/// Returns a note for the user if they disagree with the configuration.
pub(super) fn settle(family: Family, model: &mut ModelConfig, files: &WeightFiles<'_>) -> Option<String> {
    let names: Vec<&str> = files.tensor_names().collect();
    let Projection { embedding, output, output_name, embedding_name, is_alike } =
        family.projection(model, &names)?;
    match (embedding, output) {
        (Some(embedding), None) if !model.tie_embeddings => {
            model.tie_embeddings = true;
            Some(format!(
                "`{output_name}` is not in the file: the token embedding, `{embedding}`, serves as output \
                 projection"
            ))
        }
        (Some(embedding), Some(output))
            if model.tie_embeddings && !files.are_equal(embedding, output, is_alike) =>
        {
            model.tie_embeddings = false;
            Some(format!(
                "`{output}` differs from `{embedding}` and is kept, although the configuration says that they \
                 are one"
            ))
        }
        (None, Some(output)) if model.tie_embeddings => Some(format!(
            "`{embedding_name}` is not in the file: the output projection, `{output}`, serves as token embedding"
        )),
        _ => None,
    }
}
