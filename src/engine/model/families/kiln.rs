//! Kiln's own format, for configurations that no Hugging Face family can express.

use super::{Entry, Fields, Spec, transform::Transform::AsIs};
use crate::{
    config::{Architecture, Config, ModelConfig},
    error::Result,
    model::layout,
};
use serde_json::{Value, json};

pub(super) const SPEC: Spec = Spec {
    name: "kiln",
    prefix: "",
    always_biased: false,
    to_json,
    from_json,
    is_ignored: |_, _| false,
    entries,
    embedding_copies: &[],
    settle: |_, _| {},
    name_in_files: |name| name,
};

fn to_json(config: &ModelConfig) -> Value {
    let architecture = match config.architecture {
        Architecture::Decoder => "KilnDecoder",
        Architecture::Encoder => "KilnEncoder",
        Architecture::EncoderDecoder => "KilnEncoderDecoder",
    };
    json!({ "architectures": [architecture], "model": config })
}

fn from_json(fields: &Fields) -> Result<ModelConfig> {
    let model = fields.get("model").cloned().unwrap_or_default();
    Config::model_from_json(model).map_err(|e| fields.failed(format!("`model`: {e}")))
}

fn entries(config: &ModelConfig) -> Vec<Entry> {
    let parameters = layout::parameters(config).into_iter();
    let same = |shape: layout::Shape| {
        let width = shape.dims.last().copied().unwrap_or(1);
        Entry::whole(shape.name.clone(), shape.name, width, AsIs)
    };
    parameters.map(same).collect()
}
