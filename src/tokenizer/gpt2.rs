//! GPT-2's tokenizer from the pair of files that OpenAI published.

use super::{END_OF_TEXT, Tokenizer, json};
use crate::error::{Error, Result};
use serde_json::Value;

impl Tokenizer {
    /// Reads `encoder.json` (token to id) and `vocab.bpe` (one merge a line, after a version line).
    pub fn from_gpt2(encoder_json: &[u8], vocab_bpe: &[u8]) -> Result<Self> {
        let refused = |message: &str| Error::Tokenizer {
            origin: "`encoder.json` and `vocab.bpe`".into(),
            message: message.into(),
            hint: Some("they are GPT-2's files as OpenAI published them".into()),
        };
        let vocabulary: Value = serde_json::from_slice(encoder_json)
            .map_err(|e| refused(&format!("`encoder.json` is not JSON: {e}")))?;
        let end_of_text = vocabulary
            .get(END_OF_TEXT)
            .and_then(json::id)
            .ok_or_else(|| refused("`encoder.json` has no id for `<|endoftext|>`"))?;
        let merges = std::str::from_utf8(vocab_bpe).map_err(|_| refused("`vocab.bpe` is not UTF-8"))?;
        let merges = merges
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with("#version"))
            .map(|line| {
                let pair =
                    line.split_once(' ').ok_or_else(|| refused("`vocab.bpe` has a line that is no pair"))?;
                Ok(Value::from(vec![pair.0, pair.1]))
            })
            .collect::<Result<Value>>()?;
        let document = json::gpt2(vocabulary, merges, &[END_OF_TEXT.into()], end_of_text);
        Self::from_bytes(document.to_string().as_bytes(), "`encoder.json` and `vocab.bpe`")
    }
}
