//! Class names of transformers' models for each head, and the names of their labels.

use super::{Entry, Fields, HEAD, transform::Transform::Transpose};
use crate::{
    config::{Architecture, Head, ModelConfig},
    error::Result,
};
use serde_json::{Map, Value};

/// Suffixes of the family's name in `architectures`, by head.
const ARCHITECTURES: [(Head, &str); 4] = [
    (Head::LanguageModel, "ForMaskedLM"),
    (Head::TokenClassification, "ForTokenClassification"),
    (Head::SequenceClassification, OF_SEQUENCES),
    (Head::Regression, OF_SEQUENCES),
];

/// Suffix of the class names of models that give a text a class or a number.
const OF_SEQUENCES: &str = "ForSequenceClassification";

/// Suffixes of the class names of decoders that generate text.
const OF_TEXT: [&str; 2] = ["ForCausalLM", "LMHeadModel"];

/// Entry of a decoder's output projection: of the vocabulary unless it is tied to the embedding, or of a reward
/// model's number.
pub(super) fn decoder_output(config: &ModelConfig) -> Option<Entry> {
    let entry = |stored_as, width| Some(Entry::whole("head.weight", stored_as, width, Transpose));
    match config.head {
        Head::LanguageModel if config.tie_embeddings => None,
        Head::LanguageModel => entry(HEAD, config.vocab_size),
        _ => entry("score.weight", config.classes()),
    }
}

/// Changes the `config.json` of a decoder to that of a reward model, if it is one.
pub(super) fn write_of_decoder(json: &mut Value, config: &ModelConfig) {
    if config.architecture != Architecture::Decoder || config.head != Head::Regression {
        return;
    }
    let class = json["architectures"][0].as_str().unwrap_or_default().to_owned();
    if let Some(family) = OF_TEXT.iter().find_map(|suffix| class.strip_suffix(suffix)) {
        write(json, config, family);
    }
}

/// Reads from the `config.json` of a decoder whether it is a reward model.
///
/// # Errors
/// [`Error::Checkpoint`](crate::Error::Checkpoint) for a decoder that gives classes or several numbers.
pub(super) fn read_of_decoder(fields: &Fields, config: &mut ModelConfig) -> Result<()> {
    let listed = fields.get("architectures").and_then(Value::as_array);
    let class = listed.and_then(|names| names.first()).and_then(Value::as_str).unwrap_or_default();
    if config.architecture != Architecture::Decoder || !class.ends_with(OF_SEQUENCES) {
        return Ok(());
    }
    let count = labels(fields)?.len();
    if count != 1 {
        return Err(fields.failed(format!(
            "`{class}` with {count} classes; kiln reads decoders that generate text or give it one number"
        )));
    }
    config.head = Head::Regression;
    Ok(())
}

/// Adds the architecture and the class names to a `config.json`.
pub(super) fn write(json: &mut Value, config: &ModelConfig, family: &str) {
    let suffix = ARCHITECTURES.iter().find(|(head, _)| *head == config.head).map_or("", |(_, name)| name);
    json["architectures"] = vec![format!("{family}{suffix}")].into();
    match config.head {
        Head::LanguageModel => {}
        Head::Regression => {
            json["problem_type"] = "regression".into();
            json["id2label"] = serde_json::json!({ "0": "LABEL_0" });
            json["label2id"] = serde_json::json!({ "LABEL_0": 0 });
        }
        Head::SequenceClassification | Head::TokenClassification => {
            if config.head == Head::SequenceClassification {
                json["problem_type"] = "single_label_classification".into();
            }
            let numbered = || config.labels.iter().enumerate();
            let by_id = numbered().map(|(id, label)| (id.to_string(), Value::from(label.as_str())));
            json["id2label"] = by_id.collect::<Map<_, _>>().into();
            let by_label = numbered().map(|(id, label)| (label.clone(), Value::from(id)));
            json["label2id"] = by_label.collect::<Map<_, _>>().into();
        }
    }
}

/// Reads only the head and the class names from a `config.json`. A model without a head is treated as one
/// that fills masks; its weights determine whether it can.
pub(super) fn read(fields: &Fields, family: &str) -> Result<ModelConfig> {
    let listed = fields.get("architectures").and_then(Value::as_array);
    let name = listed.and_then(|names| names.first()).and_then(Value::as_str).unwrap_or(family);
    let bare = name.strip_prefix(family).unwrap_or(name);
    let head = match bare {
        "" | "Model" | "ForPreTraining" => Head::LanguageModel,
        _ => match ARCHITECTURES.iter().find(|(_, suffix)| *suffix == bare) {
            Some((head, _)) => *head,
            None => {
                let known = "language models, classifiers of sequences or tokens, and regression";
                return Err(fields.unsupported("architectures", &name.into(), known));
            }
        },
    };
    if head == Head::LanguageModel {
        return Ok(ModelConfig { head, ..Default::default() });
    }
    let labels = labels(fields)?;
    let problem = fields.get("problem_type").and_then(Value::as_str);
    match (head, problem) {
        (Head::SequenceClassification, Some("multi_label_classification")) => {
            Err(fields.unsupported("problem_type", &"multi_label_classification".into(), "one class a text"))
        }
        // As transformers decides where nothing is said.
        (Head::SequenceClassification, problem) if problem == Some("regression") || labels.len() == 1 => {
            if labels.len() != 1 {
                return Err(fields.failed("a regression to several numbers, which kiln does not have".into()));
            }
            Ok(ModelConfig { head: Head::Regression, ..Default::default() })
        }
        _ => Ok(ModelConfig { head, labels, ..Default::default() }),
    }
}

/// Reads the names of classes by id; two default names if there are none, like in transformers.
fn labels(fields: &Fields) -> Result<Vec<String>> {
    let Some(named) = fields.get("id2label") else {
        let count = fields.integer_or("num_labels", 2)?;
        if count > MOST_LABELS {
            return Err(fields.failed(format!("`num_labels` is {count}, more than {MOST_LABELS}")));
        }
        return Ok((0..count).map(|id| format!("LABEL_{id}")).collect());
    };
    let named = named.as_object().ok_or_else(|| fields.failed("`id2label` is not an object".into()))?;
    (0..named.len())
        .map(|id| {
            let label = named.get(&id.to_string()).and_then(Value::as_str);
            label
                .map(str::to_owned)
                .ok_or_else(|| fields.failed(format!("`id2label` does not name class {id}")))
        })
        .collect()
}

/// Largest number of classes. It is more than any classifier has, and limits the default names that are made
/// for a file.
const MOST_LABELS: usize = 1 << 16;
