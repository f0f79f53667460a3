//! Properties of a tokenizer that a model's files give beside `tokenizer.json`: the chat template, and the names
//! of special tokens, by which a template writes them (`bos_token`).

use super::Tokenizer;
use std::{collections::BTreeMap, sync::Arc};

/// Names of special tokens in a `tokenizer_config.json`.
pub const TOKEN_NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl Tokenizer {
    /// Source of the model's chat template, in Jinja.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Sets the chat template, which is saved with checkpoints. It is not compiled here.
    pub fn with_chat_template(self, source: impl Into<Arc<str>>) -> Self {
        Self { chat_template: Some(source.into()), ..self }
    }

    /// Sets the texts of special tokens by their names, which are [`TOKEN_NAMES`]. Other names are dropped.
    pub fn with_named_tokens(self, tokens: BTreeMap<String, String>) -> Self {
        let is_known = |name: &String| TOKEN_NAMES.contains(&name.as_str());
        let known = tokens.into_iter().filter(|(name, _)| is_known(name)).collect();
        Self { named_tokens: Arc::new(known), ..self }
    }

    /// Texts of special tokens by the names that templates use. The end of text is `eos_token` if the model's
    /// files say nothing else.
    pub fn named_tokens(&self) -> BTreeMap<String, String> {
        let mut tokens = self.given_names().clone();
        if let Some(text) = self.end_of_text().and_then(|id| self.inner.hugging_face.id_to_token(id)) {
            tokens.entry("eos_token".into()).or_insert(text);
        }
        tokens
    }

    /// Texts of special tokens by the names that the model's files give them.
    pub(super) fn given_names(&self) -> &BTreeMap<String, String> {
        &self.named_tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TokenizerConfig, TokenizerKind};

    #[test]
    fn names_of_a_model_are_kept_and_the_end_of_text_has_one() {
        let config = TokenizerConfig { kind: TokenizerKind::Bpe, vocab_size: 300, path: None };
        let tokenizer = Tokenizer::train(&config, &["<s>".into()], ["a b"]).unwrap();
        assert_eq!(tokenizer.chat_template(), None);
        assert_eq!(tokenizer.named_tokens().get("eos_token").map(String::as_str), Some("<|endoftext|>"));
        let names = [("bos_token", "<s>"), ("eos_token", "</s>"), ("other", "x")];
        let names = names.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let tokenizer = tokenizer.with_named_tokens(names).with_chat_template("{{ messages }}");
        assert_eq!(tokenizer.chat_template(), Some("{{ messages }}"));
        assert_eq!(tokenizer.named_tokens()["eos_token"], "</s>");
        let config: serde_json::Value = serde_json::from_str(&tokenizer.to_transformers_config(8)).unwrap();
        assert_eq!((&config["bos_token"], &config["eos_token"]), (&"<s>".into(), &"</s>".into()));
        assert!(config.get("other").is_none());
    }
}
