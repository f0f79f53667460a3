//! Reads generation settings from the files of a model: the tokens that end a text.

use super::{Checkpoint, Files, names};
use crate::{
    config::Architecture,
    error::{Error, Result},
    tokenizer::Tokenizer,
};
use serde_json::Value;

/// Keys of a `generation_config.json` by which transformers forces or forbids tokens, and which Kiln ignores.
const TOKEN_RULES: [&str; 9] = [
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "sequence_bias",
    "no_repeat_ngram_size",
    "min_length",
    "min_new_tokens",
];

/// Tokens that end a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndTokens {
    /// End-of-text token of a document; `None` if the files name none.
    pub end_of_text: Option<u32>,
    /// Tokens that each end generation.
    pub tokens: Vec<u32>,
    /// Settings in the files that Kiln ignores, one sentence each.
    pub notes: Vec<String>,
}

impl EndTokens {
    /// Reads the end tokens from `generation_config.json` or, if that has none, from `config.json`. Leaves
    /// out those that are not in the tokenizer's vocabulary.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is not a JSON object, and for tokens that are not numbers.
    pub fn read(files: &Files, tokenizer: &Tokenizer, architecture: Architecture) -> Result<Self> {
        let mut found = Self::default();
        if architecture == Architecture::Encoder {
            return Ok(found);
        }
        let mut of_files = Vec::new();
        for name in [names::GENERATION, names::CONFIG] {
            let json = object(files, name)?;
            of_files.push(found.known(files, name, &json["eos_token_id"], tokenizer.vocab_size())?);
            if name == names::GENERATION {
                found.note_rules(&json);
            }
        }
        found.tokens = of_files.iter().find(|tokens| !tokens.is_empty()).cloned().unwrap_or_default();
        // A decoder may be made to stop at a token that does not end documents. What a decoder beside an
        // encoder learns to end by must end generation.
        let ends_documents = match architecture {
            Architecture::EncoderDecoder => found.tokens.clone(),
            _ => of_files.concat(),
        };
        let named = tokenizer.end_of_text().filter(|token| ends_documents.contains(token));
        found.end_of_text = named.or(ends_documents.first().copied());
        Ok(found)
    }

    /// Reads the distinct tokens of a value. Leaves out those that are not in the vocabulary and adds a note
    /// for each.
    fn known(&mut self, files: &Files, name: &str, value: &Value, vocab_size: usize) -> Result<Vec<u32>> {
        let values: &[Value] = match value {
            Value::Null => &[],
            Value::Array(values) => &values[..],
            one => std::slice::from_ref(one),
        };
        let mut tokens = Vec::new();
        for value in values {
            let Some(id) = value.as_i64() else {
                return Err(files.refused(
                    format!("`eos_token_id` in `{name}` is `{value}`, which is not a token number"),
                    "it should be the number of a token, or a list of such numbers",
                ));
            };
            match u32::try_from(id).ok().filter(|&token| (token as usize) < vocab_size) {
                Some(token) if tokens.contains(&token) => {}
                Some(token) => tokens.push(token),
                None => self.notes.push(format!(
                    "`eos_token_id` {id} in `{name}` is not one of the {vocab_size} tokens and does not count"
                )),
            }
        }
        Ok(tokens)
    }

    fn note_rules(&mut self, json: &Value) {
        let is_set = |value: &Value| match value {
            Value::Null => false,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        };
        // Token 0 may be forced, but no number of tokens is no rule.
        let counts =
            |key: &str, value: &Value| is_set(value) || (key.starts_with("forced") && value.is_u64());
        let rules = TOKEN_RULES.iter().filter(|key| counts(key, &json[**key]));
        let rules: Vec<String> = rules.map(|key| format!("`{key}`")).collect();
        if !rules.is_empty() {
            let rules = rules.join(", ");
            self.notes.push(format!("kiln does not follow {rules} in `{}`", names::GENERATION));
        }
    }
}

/// Reads the start token of an encoder-decoder's decoder, if `generation_config.json` has one.
pub(super) fn decoder_start(files: &Files) -> Result<Option<usize>> {
    let value = &object(files, names::GENERATION)?["decoder_start_token_id"];
    match (value, value.as_u64()) {
        (Value::Null, _) => Ok(None),
        (_, Some(token)) => Ok(Some(token as usize)),
        _ => Err(files.refused(
            format!(
                "`decoder_start_token_id` in `{}` is `{value}`, which is not a token number",
                names::GENERATION
            ),
            "kiln begins every text with the same one token",
        )),
    }
}

/// Reads a file as a JSON object; null if the file does not exist.
fn object(files: &Files, name: &str) -> Result<Value> {
    let Some(bytes) = files.get(name) else { return Ok(Value::Null) };
    let failed = |message: String| Error::Checkpoint { path: files.path(name), message, hint: None };
    let json: Value = serde_json::from_slice(bytes).map_err(|e| failed(e.to_string()))?;
    if json.is_object() { Ok(json) } else { Err(failed("not a JSON object".into())) }
}

impl Checkpoint {
    /// Reads the tokens that end a text from the model's files.
    ///
    /// # Errors
    /// Those of [`EndTokens::read`].
    pub fn end_tokens(&self, tokenizer: &Tokenizer) -> Result<EndTokens> {
        let own = self.files.get(names::GENERATION).map(|_| &self.files);
        EndTokens::read(own.unwrap_or(&self.source().files), tokenizer, self.model.architecture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TokenizerConfig, TokenizerKind};

    /// A tokenizer of 256 bytes, `<|endoftext|>` (256) and `[SEP]` (257).
    fn tokenizer() -> Tokenizer {
        let config = TokenizerConfig { kind: TokenizerKind::Byte, ..TokenizerConfig::default() };
        Tokenizer::train(&config, &["<|endoftext|>".into(), "[SEP]".into()], [""]).unwrap()
    }

    fn read(generation: &str, config: &str, architecture: Architecture) -> Result<EndTokens> {
        let mut files = Files::new("model");
        for (name, json) in [(names::GENERATION, generation), (names::CONFIG, config)] {
            if !json.is_empty() {
                files.contents.insert(name.into(), json.as_bytes().to_vec().into());
            }
        }
        EndTokens::read(&files, &tokenizer(), architecture)
    }

    #[test]
    fn the_generation_configuration_counts_before_the_model_s() {
        let tokens = |generation, config| {
            let found = read(generation, config, Architecture::Decoder).unwrap();
            assert_eq!(found.notes, Vec::<String>::new());
            (found.end_of_text, found.tokens)
        };
        assert_eq!(tokens("", "{}"), (None, vec![]));
        assert_eq!(tokens("", r#"{"eos_token_id": 9}"#), (Some(9), vec![9]));
        assert_eq!(tokens("{}", r#"{"eos_token_id": [9, 8, 9]}"#), (Some(9), vec![9, 8]));
        assert_eq!(tokens(r#"{"eos_token_id": null}"#, r#"{"eos_token_id": 9}"#), (Some(9), vec![9]));
        assert_eq!(tokens(r#"{"eos_token_id": []}"#, r#"{"eos_token_id": 0}"#), (Some(0), vec![0]));
        assert_eq!(tokens(r#"{"eos_token_id": 7}"#, r#"{"eos_token_id": 9}"#), (Some(7), vec![7]));
        // The tokenizer's own end of a document stays that, if the model ends texts by it too.
        assert_eq!(tokens(r#"{"eos_token_id": [7, 256]}"#, ""), (Some(256), vec![7, 256]));
        assert_eq!(tokens(r#"{"eos_token_id": 7}"#, r#"{"eos_token_id": 256}"#), (Some(256), vec![7]));
        let pair =
            read(r#"{"eos_token_id": 7}"#, r#"{"eos_token_id": 256}"#, Architecture::EncoderDecoder).unwrap();
        assert_eq!((pair.end_of_text, pair.tokens), (Some(7), vec![7]));
        assert_eq!(read("", r#"{"eos_token_id": 7}"#, Architecture::Encoder).unwrap(), EndTokens::default());
    }

    #[test]
    fn what_is_no_token_is_noted_or_refused() {
        let found = read(r#"{"eos_token_id": [-1, 258]}"#, r#"{"eos_token_id": 3}"#, Architecture::Decoder);
        let found = found.unwrap();
        assert_eq!((found.end_of_text, found.tokens), (Some(3), vec![3]));
        assert_eq!(
            found.notes,
            [
                "`eos_token_id` -1 in `generation_config.json` is not one of the 258 tokens and does not count",
                "`eos_token_id` 258 in `generation_config.json` is not one of the 258 tokens and does not count"
            ]
        );
        for value in [r#""</s>""#, "1.5", "[[1]]", "true"] {
            let json = format!(r#"{{"eos_token_id": {value}}}"#);
            let error = read(&json, "", Architecture::Decoder).unwrap_err();
            assert!(error.to_string().contains("`eos_token_id` in `generation_config.json`"), "{error}");
        }
        assert!(read("[", "", Architecture::Decoder).is_err());
        assert!(read("[]", "", Architecture::Decoder).is_err());
    }

    #[test]
    fn rules_that_are_not_followed_are_noted() {
        let none = r#"{"min_length": 0, "suppress_tokens": [], "forced_bos_token_id": null, "top_k": 5}"#;
        assert_eq!(read(none, "", Architecture::Decoder).unwrap().notes, Vec::<String>::new());
        let some = r#"{"min_length": 3, "suppress_tokens": [1], "forced_bos_token_id": 0}"#;
        let notes = read(some, "", Architecture::Decoder).unwrap().notes;
        let rules = "`forced_bos_token_id`, `suppress_tokens`, `min_length`";
        assert_eq!(notes, [format!("kiln does not follow {rules} in `generation_config.json`")]);
    }

    #[test]
    fn a_decoder_s_first_token_is_read() {
        let start = |json: &str| {
            let mut files = Files::new("model");
            files.contents.insert(names::GENERATION.into(), json.as_bytes().to_vec().into());
            decoder_start(&files)
        };
        assert_eq!(start("{}").unwrap(), None);
        assert_eq!(start(r#"{"decoder_start_token_id": 4}"#).unwrap(), Some(4));
        assert!(start(r#"{"decoder_start_token_id": [4, 5]}"#).is_err());
    }
}
