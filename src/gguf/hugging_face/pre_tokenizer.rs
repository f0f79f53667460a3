//! Rules by which a byte-level BPE splits texts into words, by the name in `tokenizer.ggml.pre`. A `tokenizer.json`
//! spells it out.

use serde_json::{Value, json};

/// Pattern of GPT-2's words.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

/// Patterns that llama.cpp uses for a file that names none, one after another.
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Llama 3's with single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The parts of a `tokenizer.json` that a name stands for.
pub(super) struct Splitting {
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    /// Whether a word that is a token needs no merges.
    pub ignore_merges: bool,
    /// Whether a text begins with the first token where the metadata do not say.
    pub adds_bos: bool,
}

/// Names that are known.
const NAMES: [&str; 5] = ["gpt-2", "smollm", "llama-bpe", "qwen2", "default"];

impl Splitting {
    /// The splitting with a name.
    ///
    /// # Errors
    /// A message for an unknown name.
    pub fn named(name: &str) -> Result<Self, String> {
        let plain = |pre_tokenizer| Self {
            normalizer: Value::Null,
            pre_tokenizer,
            ignore_merges: false,
            adds_bos: false,
        };
        Ok(match name {
            "gpt-2" => plain(byte_level(true)),
            "smollm" => plain(sequence(vec![digits(), byte_level(true)])),
            // llama.cpp knows it by three names.
            "llama-bpe" | "llama3" | "llama-v3" => {
                Self { ignore_merges: true, adds_bos: true, ..plain(split_by(&[LLAMA3])) }
            }
            "qwen2" => Self { normalizer: json!({ "type": "NFC" }), ..plain(split_by(&[QWEN2])) },
            "default" => plain(split_by(&DEFAULT)),
            _ => {
                let known = NAMES.join(", ");
                return Err(format!("`tokenizer.ggml.pre` is `{name}`, but kiln knows {known}"));
            }
        })
    }

    /// Name of the splitting of a `tokenizer.json`; `None` if it has no name here.
    pub fn name_of(document: &Value) -> Option<&'static str> {
        NAMES.into_iter().find(|name| {
            Self::named(name).is_ok_and(|known| {
                essence(&known.pre_tokenizer) == essence(&document["pre_tokenizer"])
                    && known.normalizer == document["normalizer"]
                    && document["model"]["ignore_merges"].as_bool().unwrap_or(false) == known.ignore_merges
            })
        })
    }
}

fn byte_level(splits: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": splits })
}

fn digits() -> Value {
    json!({ "type": "Digits", "individual_digits": true })
}

fn sequence(parts: Vec<Value>) -> Value {
    json!({ "type": "Sequence", "pretokenizers": parts })
}

fn split_by(patterns: &[&str]) -> Value {
    let split = |pattern: &&str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    sequence(patterns.iter().map(split).chain([byte_level(false)]).collect())
}

/// A pre-tokenizer without what decides no tokens.
fn essence(pre_tokenizer: &Value) -> Value {
    let mut essence = pre_tokenizer.clone();
    if let Some(parts) = essence.get_mut("pretokenizers").and_then(Value::as_array_mut) {
        for part in parts.iter_mut() {
            *part = self::essence(part);
        }
        if let [_] = &parts[..] {
            return parts.swap_remove(0);
        }
    } else if let Some(fields) = essence.as_object_mut() {
        fields.remove("trim_offsets");
        if fields.get("type").is_some_and(|kind| kind == "ByteLevel") {
            fields.entry("use_regex").or_insert(true.into());
        }
    }
    essence
}
