//! Reads what the files of a model say of its tokenizer: the chat template, and the names of special tokens.

use super::{Files, names};
use crate::{
    error::{Error, Result},
    tokenizer::{TOKEN_NAMES, Tokenizer},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Puts the chat template and the names of special tokens to a tokenizer. A `chat_template.jinja` counts
/// before the template in `tokenizer_config.json`, as in transformers.
///
/// # Errors
/// [`Error::Checkpoint`] for a file that is not a JSON object, and for a template that is not UTF-8.
pub(super) fn complete(files: &Files, tokenizer: Tokenizer) -> Result<Tokenizer> {
    let config = object(files, names::TOKENIZER_CONFIG)?;
    let mut named = BTreeMap::new();
    for json in [&object(files, names::SPECIAL_TOKENS)?, &config] {
        let texts = TOKEN_NAMES.iter().filter_map(|name| Some(((*name).to_owned(), token(&json[*name])?)));
        named.extend(texts.filter(|(_, text)| tokenizer.token_id(text).is_some()));
    }
    let tokenizer = tokenizer.with_named_tokens(named);
    let own = match files.get(names::CHAT_TEMPLATE) {
        Some(bytes) => {
            let text = std::str::from_utf8(bytes);
            Some(text.map_err(|e| files.error(format!("`{}`: {e}", names::CHAT_TEMPLATE)))?.to_owned())
        }
        None => template(&config["chat_template"])
            .or(template(&object(files, names::CHAT_TEMPLATE_JSON)?["chat_template"])),
    };
    Ok(match own {
        Some(source) => tokenizer.with_chat_template(source),
        None => tokenizer,
    })
}

/// Text of a special token, which may be given with its flags.
fn token(value: &Value) -> Option<String> {
    value.as_str().or(value["content"].as_str()).map(str::to_owned)
}

/// A template, or the one named `default` of several.
fn template(value: &Value) -> Option<String> {
    let several = || value.as_array()?.iter().find(|one| one["name"] == "default")?["template"].as_str();
    value.as_str().or_else(several).map(str::to_owned)
}

/// Reads a file as a JSON object; null if the file does not exist.
fn object(files: &Files, name: &str) -> Result<Value> {
    let Some(bytes) = files.get(name) else { return Ok(Value::Null) };
    let failed = |message: String| Error::Checkpoint { path: files.path(name), message, hint: None };
    let json: Value = serde_json::from_slice(bytes).map_err(|e| failed(e.to_string()))?;
    if json.is_object() { Ok(json) } else { Err(failed("not a JSON object".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TokenizerConfig, TokenizerKind};

    fn complete(contents: &[(&str, &str)]) -> Result<Tokenizer> {
        let config = TokenizerConfig { kind: TokenizerKind::Byte, ..TokenizerConfig::default() };
        let tokenizer = Tokenizer::train(&config, &["<s>".into(), "</s>".into()], [""]).unwrap();
        let mut files = Files::new("model");
        for (name, text) in contents {
            files.contents.insert((*name).into(), text.as_bytes().to_vec().into());
        }
        super::complete(&files, tokenizer)
    }

    #[test]
    fn the_file_of_the_template_counts_before_the_configuration() {
        let config = (names::TOKENIZER_CONFIG, r#"{"chat_template": "of the configuration"}"#);
        let template =
            |contents: &[(&str, &str)]| complete(contents).unwrap().chat_template().map(str::to_owned);
        assert_eq!(template(&[]), None);
        assert_eq!(template(&[config]).as_deref(), Some("of the configuration"));
        assert_eq!(template(&[config, (names::CHAT_TEMPLATE, "own")]).as_deref(), Some("own"));
        let several =
            r#"{"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}"#;
        assert_eq!(template(&[(names::TOKENIZER_CONFIG, several)]).as_deref(), Some("d"));
        let older = (names::CHAT_TEMPLATE_JSON, r#"{"chat_template": "older"}"#);
        assert_eq!(template(&[older]).as_deref(), Some("older"));
    }

    #[test]
    fn special_tokens_are_named_if_the_tokenizer_has_them() {
        let map =
            (names::SPECIAL_TOKENS, r#"{"bos_token": "<s>", "eos_token": "<s>", "pad_token": "<none>"}"#);
        let config = (names::TOKENIZER_CONFIG, r#"{"eos_token": {"content": "</s>", "lstrip": false}}"#);
        let named = complete(&[map, config]).unwrap().named_tokens();
        assert_eq!(named["bos_token"], "<s>");
        assert_eq!(named["eos_token"], "</s>");
        assert!(!named.contains_key("pad_token"));
        let error = complete(&[(names::TOKENIZER_CONFIG, "[")]).unwrap_err();
        assert!(error.to_string().contains("tokenizer_config.json"), "{error}");
    }
}
