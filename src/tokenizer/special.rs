//! Special tokens, which stand for no text: masks, padding, the ends of documents, T5's sentinels. They are
//! the `added_tokens` of a `tokenizer.json` that are marked as special.

use super::{END_OF_TEXT, END_OF_TEXT_NAMES, MASK, Tokenizer, json};
use crate::error::{Result, hint};
use serde_json::{Value, json};

/// Texts of the mask token in the tokenizers of other models, the preferred one first.
const MASK_NAMES: [&str; 2] = [MASK, "<mask>"];
const PADDING_NAMES: [&str; 2] = ["[PAD]", "<pad>"];

/// Text of T5's sentinel `index`, which replaces a span that was removed from a text (Raffel et al. 2020,
/// <https://arxiv.org/abs/1910.10683>).
pub fn sentinel(index: usize) -> String {
    format!("<extra_id_{index}>")
}

/// Whether a token of the document is special, by id. Shorter than the vocabulary if the last tokens are not
/// special.
pub(super) fn marks(document: &Value) -> Vec<bool> {
    let mut marks = Vec::new();
    for token in document["added_tokens"].as_array().into_iter().flatten() {
        if token["special"] == true
            && let Some(id) = json::id(&token["id"])
        {
            let id = id as usize;
            marks.resize(marks.len().max(id + 1), false);
            marks[id] = true;
        }
    }
    marks
}

impl Tokenizer {
    /// The mask token (BERT): `[MASK]` or `<mask>`.
    pub fn mask_token(&self) -> Option<u32> {
        self.find(&MASK_NAMES)
    }

    /// Ids of the tokens [`sentinel`] 0, 1, … up to the first that is missing.
    pub fn sentinels(&self) -> Vec<u32> {
        (0..).map_while(|index| self.find(&[&sentinel(index)])).collect()
    }

    /// Id of the token with exactly this text, added or not.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.hugging_face.token_to_id(text)
    }

    /// Tokens that the tokenizer's own template puts before a text, such as `<s>`; empty if there are none.
    pub fn first_tokens(&self) -> Vec<u32> {
        let encode = |special| {
            let encoding = self.inner.hugging_face.encode("a", special).ok();
            encoding.map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
        };
        let (plain, mut whole) = (encode(false), encode(true));
        let start = whole.windows(plain.len().max(1)).position(|window| window == plain);
        whole.truncate(start.unwrap_or(0));
        whole
    }

    /// The `tokenizer_config.json` with which `transformers.AutoTokenizer` loads the `tokenizer.json` beside
    /// it unchanged. `block_size` is the longest context of the model in tokens.
    pub fn to_transformers_config(&self, block_size: usize) -> String {
        let text = |id: Option<u32>| id.and_then(|id| self.inner.hugging_face.id_to_token(id));
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": block_size,
            "clean_up_tokenization_spaces": false,
            "eos_token": text(self.end_of_text()),
        });
        for (key, names) in [
            ("mask_token", &MASK_NAMES[..]),
            ("pad_token", &PADDING_NAMES),
            ("cls_token", &["[CLS]"]),
            ("sep_token", &["[SEP]"]),
        ] {
            if let Some(text) = text(self.find(names)) {
                config[key] = text.into();
            }
        }
        // Templates name some of them, and an end of text that is none of the usual ones is named only here.
        for (name, text) in self.given_names() {
            config[name] = text.as_str().into();
        }
        format!("{config:#}\n")
    }

    /// Whether a token stands for no text.
    pub(super) fn is_special(&self, id: u32) -> bool {
        Some(id) == self.end_of_text || self.inner.special.get(id as usize).copied().unwrap_or(false)
    }

    /// Id of the first of these texts that is a token.
    fn find(&self, names: &[&str]) -> Option<u32> {
        names.iter().find_map(|name| self.inner.hugging_face.token_to_id(name))
    }

    /// Refuses a tokenizer that has neither one of these tokens nor another model's name for it.
    pub(super) fn require(&self, special: &[String]) -> Result<()> {
        for text in special {
            let text = text.as_str();
            let names = match text {
                MASK => &MASK_NAMES[..],
                END_OF_TEXT => &END_OF_TEXT_NAMES,
                _ => &[text],
            };
            if self.find(names).is_none() {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                return Err(self.error(
                    format!("has no token {}", names.join(" or ")),
                    Some(hint![
                        "take a tokenizer that has it, or let kiln make one with ",
                        hint::set("tokenizer.kind", "bpe")
                    ]),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{TokenizerConfig, TokenizerKind},
        error::Error,
        platform::storage,
    };

    /// Contains the texts of special tokens, prefixes of them, and characters that the byte-level alphabet
    /// spells differently.
    const TEXT: &str = "A [MASK] b<extra_id_0>é\n[MASK<extra_id_1><|endoftext|> [MASK][MASK]\n\nend [MAS";

    fn texts() -> Vec<String> {
        ["[MASK]", "<|endoftext|>", "<extra_id_0>", "<extra_id_1>", "[PAD]"].map(str::to_owned).into()
    }

    fn train(kind: TokenizerKind, special: &[String]) -> Tokenizer {
        let config = TokenizerConfig { kind, vocab_size: 300, path: None };
        Tokenizer::train(&config, special, ["A be éM\n[MASK]<extra_id_01>|dfot end endless ends"]).unwrap()
    }

    /// Special tokens of every kind agree with Python's tokenizers 0.23.3, tried on such tokenizers of tiny
    /// Shakespeare.
    #[test]
    fn every_kind_gets_them_and_agrees_with_hugging_face() {
        for (kind, ids) in [
            (TokenizerKind::Char, [0, 1, 2, 3, 4]),
            (TokenizerKind::Byte, [256, 257, 258, 259, 260]),
            (TokenizerKind::Bpe, [1, 0, 2, 3, 4]),
        ] {
            let tokenizer = train(kind, &texts());
            assert_eq!(tokenizer.kind(), kind);
            for (text, id) in texts().iter().zip(ids) {
                assert_eq!(tokenizer.encode(text).unwrap(), [id], "{text}");
                assert_eq!(tokenizer.token_length(id), Some(0));
                assert_eq!(tokenizer.token_text(id).as_deref(), Some(text.as_str()));
            }
            assert_eq!(tokenizer.mask_token(), Some(ids[0]));
            assert_eq!(tokenizer.end_of_text(), Some(ids[1]));
            assert_eq!(tokenizer.sentinels(), &ids[2..4]);

            let tokens = tokenizer.encode(TEXT).unwrap();
            assert_eq!(tokens.iter().filter(|&&id| id == ids[0]).count(), 3);
            assert_eq!(tokens, tokenizer.inner.hugging_face.encode(TEXT, false).unwrap().get_ids());
            assert_eq!(tokenizer.decode(&tokens).unwrap(), TEXT);
            let plain = "A  bé\n[MASK \n\nend [MAS";
            let kept: Vec<u32> = tokens.iter().copied().filter(|&id| !tokenizer.is_special(id)).collect();
            assert_eq!(tokenizer.decode(&kept).unwrap(), plain);
            assert_eq!(tokenizer.inner.hugging_face.decode(&tokens, true).unwrap(), plain);

            let again = Tokenizer::from_bytes(tokenizer.to_json().unwrap().as_bytes(), "again").unwrap();
            assert_eq!((again.kind(), again.encode(TEXT).unwrap()), (kind, tokens));
            assert_eq!(again.to_json().unwrap(), tokenizer.to_json().unwrap());
            assert_eq!(again.fingerprint(), tokenizer.fingerprint());
            assert_ne!(again.fingerprint(), train(kind, &texts()[..4]).fingerprint());
        }
    }

    #[test]
    fn without_them_nothing_changes() {
        for kind in [TokenizerKind::Char, TokenizerKind::Byte, TokenizerKind::Bpe] {
            let tokenizer = train(kind, &[]);
            assert_eq!(tokenizer.mask_token(), None);
            assert!(tokenizer.sentinels().is_empty());
            let end = tokenizer.end_of_text();
            assert_eq!(end, (kind == TokenizerKind::Bpe).then_some(0));
            let config: Value = serde_json::from_str(&tokenizer.to_transformers_config(8)).unwrap();
            assert_eq!(config.as_object().unwrap().len(), 4);
            let given: Vec<String> = vec![END_OF_TEXT.into()];
            // A BPE has this one in any case.
            assert_eq!(
                train(kind, &given).fingerprint() == tokenizer.fingerprint(),
                kind == TokenizerKind::Bpe
            );
        }
    }

    #[test]
    fn an_unknown_character_is_named_at_its_place_between_them() {
        let error = train(TokenizerKind::Char, &texts()).encode("A[MASK]é[PAD] ß").unwrap_err();
        assert!(error.to_string().contains("'ß' (U+00DF) at byte 15 is"), "{error}");
    }

    #[test]
    fn transformers_is_told_of_them() {
        let special: Vec<String> = ["<mask>", "<pad>", "[CLS]", "[SEP]"].map(str::to_owned).into();
        let tokenizer = train(TokenizerKind::Char, &special);
        assert_eq!(tokenizer.mask_token(), Some(0));
        let config: Value = serde_json::from_str(&tokenizer.to_transformers_config(8)).unwrap();
        assert_eq!(config["mask_token"], "<mask>");
        assert_eq!(config["pad_token"], "<pad>");
        assert_eq!(config["cls_token"], "[CLS]");
        assert_eq!(config["sep_token"], "[SEP]");
        assert_eq!(config["eos_token"], Value::Null);
    }

    #[test]
    fn what_cannot_be_one_is_refused() {
        for text in ["", "é"] {
            let config = TokenizerConfig { kind: TokenizerKind::Byte, ..TokenizerConfig::default() };
            let error = Tokenizer::train(&config, &[text.into()], [""]).unwrap_err();
            assert!(error.to_string().contains("shorter than two characters"), "{error}");
        }
        let config = TokenizerConfig { kind: TokenizerKind::Bpe, vocab_size: 260, path: None };
        let error = Tokenizer::train(&config, &texts(), ["x"]).unwrap_err();
        assert!(error.to_string().contains("at least 261 tokens: 256 bytes, `<|endoftext|>` and 4 more"));
        // Given twice, it is one.
        let twice = vec![MASK.to_owned(); 2];
        assert_eq!(train(TokenizerKind::Byte, &twice).vocab_size(), 257);
    }

    #[test]
    fn a_file_must_have_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let given: Vec<String> = ["<mask>", "</s>", "<extra_id_0>"].map(str::to_owned).into();
        let json = train(TokenizerKind::Byte, &given).to_json().unwrap();
        storage::write_atomic(&path, json.as_bytes()).unwrap();
        let config = TokenizerConfig { kind: TokenizerKind::File, path: Some(path), ..Default::default() };
        // `<mask>` and `</s>` are other models' names of the first two.
        let tokenizer = Tokenizer::train(&config, &texts()[..3], []).unwrap();
        assert_eq!((tokenizer.mask_token(), tokenizer.end_of_text()), (Some(256), Some(257)));
        let error = Tokenizer::train(&config, &texts(), []).unwrap_err();
        assert!(matches!(error, Error::Tokenizer { .. }));
        assert!(error.to_string().ends_with("has no token `<extra_id_1>`"), "{error}");
        assert!(error.hint().unwrap().to_string().contains("--set tokenizer.kind=bpe"));
    }
}
