//! Templates by name, for models that bring none. They mark answers with `{% generation %}`.

use crate::{
    error::{Error, Result, hint},
    template::Template,
    tokenizer::END_OF_TEXT,
};
use kiln_base::{error::nearest, platform::storage};
use std::path::Path;

/// A template that Kiln has itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Builtin {
    pub name: &'static str,
    pub source: &'static str,
    /// Special tokens that it writes, beside those that a template names, such as `eos_token`.
    tokens: &'static [&'static str],
}

const BUILTINS: [Builtin; 6] = [
    Builtin {
        name: "chatml",
        source: include_str!("templates/chatml.jinja"),
        tokens: &["<|im_start|>", "<|im_end|>"],
    },
    Builtin { name: "llama2", source: include_str!("templates/llama2.jinja"), tokens: &[] },
    Builtin {
        name: "llama3",
        source: include_str!("templates/llama3.jinja"),
        tokens: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    },
    Builtin { name: "zephyr", source: include_str!("templates/zephyr.jinja"), tokens: &[] },
    Builtin { name: "alpaca", source: include_str!("templates/alpaca.jinja"), tokens: &[] },
    Builtin { name: "plain", source: include_str!("templates/plain.jinja"), tokens: &[] },
];

/// Name of the template that a model without one of its own learns by default.
pub const DEFAULT: &str = "chatml";

impl Builtin {
    /// The template of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        BUILTINS.iter().find(|builtin| builtin.name == name)
    }

    /// Names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTINS.iter().map(|builtin| builtin.name)
    }

    /// Special tokens that a tokenizer needs for it, by their texts.
    pub fn special_tokens(&self) -> Vec<String> {
        self.tokens.iter().copied().chain([END_OF_TEXT]).map(str::to_owned).collect()
    }
}

/// Opens the template that `chat.template` names: one of Kiln's own, or a file in Jinja.
///
/// # Errors
/// [`Error::UnknownName`] with the nearest name if it is neither, and errors of reading and compiling.
pub fn open(name: &str, now: i64) -> Result<Template> {
    if let Some(builtin) = Builtin::find(name) {
        return Template::new(builtin.source, &format!("`{name}`"), now);
    }
    let path = Path::new(name);
    if storage::exists(path) && !storage::is_folder(path) {
        return Template::new(&storage::read_to_string(path)?, &format!("`{name}`"), now);
    }
    let meant =
        nearest(name, Builtin::names()).map_or(String::new(), |meant| format!("did you mean `{meant}`? "));
    let names = Builtin::names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Err(Error::UnknownName {
        what: "chat template",
        name: name.into(),
        hint: hint![meant, "templates: ", names, ", or the path of a file in Jinja"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conversation::{Conversation, Message},
        encode::ChatTokenizer,
        template::Ending,
        tokenizer::{Tokenizer, TokenizerConfig, TokenizerKind},
    };

    fn chat(name: &str) -> ChatTokenizer {
        let builtin = Builtin::find(name).unwrap();
        let mut special = builtin.special_tokens();
        special.push("<s>".into());
        let config = TokenizerConfig { kind: TokenizerKind::Byte, vocab_size: 0, path: None };
        let tokenizer = Tokenizer::train(&config, &special, ["x"]).unwrap();
        let named = [("bos_token", "<s>"), ("eos_token", END_OF_TEXT)];
        let named = named.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        ChatTokenizer::new(open(name, 0).unwrap(), tokenizer.with_named_tokens(named))
    }

    fn conversation() -> Conversation {
        let messages = [("system", "Be brief."), ("user", "2+2?"), ("assistant", "4."), ("user", "Sure?")];
        Conversation::of(messages.iter().map(|(role, text)| Message::new(role, text)).collect())
    }

    #[test]
    fn they_render_as_the_models_do_that_they_are_named_after() {
        for (name, text) in [
            (
                "chatml",
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n\
                 <|im_start|>assistant\n4.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n",
            ),
            (
                "llama2",
                "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n2+2? [/INST] 4. <|endoftext|><s>[INST] Sure? [/INST]",
            ),
            (
                "llama3",
                "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user\
                 <|end_header_id|>\n\n2+2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n4.<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nSure?<|eot_id|><|start_header_id|>assistant\
                 <|end_header_id|>\n\n",
            ),
            (
                "zephyr",
                "<|system|>\nBe brief.<|endoftext|>\n<|user|>\n2+2?<|endoftext|>\n<|assistant|>\n4.<|endoftext|>\n\
                 <|user|>\nSure?<|endoftext|>\n<|assistant|>\n",
            ),
            (
                "alpaca",
                "Be brief.\n\n### Instruction:\n2+2?\n\n### Response:\n4.<|endoftext|>\n\n### Instruction:\nSure?\n\n\
                 ### Response:\n",
            ),
            (
                "plain",
                "System:\nBe brief.\n\nUser:\n2+2?\n\nAssistant:\n4.<|endoftext|>\n\nUser:\nSure?\n\nAssistant:\n",
            ),
        ] {
            let chat = chat(name);
            chat.check_tokens().unwrap();
            let rendered = chat.render(&conversation(), Ending::Prompt).unwrap();
            assert_eq!(rendered.text, text, "{name}");
            let [answer] = &rendered.generated[..] else { panic!("{name}: {:?}", rendered.generated) };
            let end = match name {
                "chatml" => "4.<|im_end|>",
                "llama2" => " 4. <|endoftext|>",
                "llama3" => "4.<|eot_id|>",
                _ => "4.<|endoftext|>",
            };
            assert_eq!(&text[answer.clone()], end, "{name}");
        }
    }

    #[test]
    fn a_tokenizer_without_the_tokens_of_the_template_is_refused() {
        let config = TokenizerConfig { kind: TokenizerKind::Byte, vocab_size: 0, path: None };
        let bare = Tokenizer::train(&config, &[], ["x"]).unwrap();
        let refusal = |name: &str| {
            let chat = ChatTokenizer::new(open(name, 0).unwrap(), bare.clone());
            chat.check_tokens().err().map(|error| error.to_string())
        };
        assert_eq!(
            refusal("chatml").unwrap(),
            "chat template `chatml`: writes `<|im_start|>`, but the tokenizer has no such token"
        );
        assert!(refusal("zephyr").unwrap().contains("writes `eos_token`"));
        assert!(refusal("llama3").unwrap().contains("writes `<|start_header_id|>`"));
        assert_eq!(refusal("plain"), None);
        let error = open("chat-ml", 0).unwrap_err();
        assert_eq!(error.to_string(), "unknown chat template `chat-ml`");
        assert!(
            error.hint().unwrap().to_string().starts_with("did you mean `chatml`? templates: `chatml`, ")
        );
    }
}
