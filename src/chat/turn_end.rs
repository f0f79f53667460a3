//! Finds what ends an answer, so that generation stops there: a special token, or a text.

use crate::{
    answers::Wanted,
    conversation::{Conversation, Message},
    encode::ChatTokenizer,
};

/// Text that a template puts at the end of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnEnd {
    /// The special token that ends an answer.
    pub token: Option<u32>,
    /// The text that ends an answer, if no special token does.
    pub text: Option<String>,
}

/// Answer that is rendered to see what follows it. Templates change it in no way.
const ANSWER: &str = "answer";

impl ChatTokenizer {
    /// Finds what ends an answer by rendering a short conversation; nothing if the template refuses it or
    /// writes nothing there.
    pub fn turn_end(&self) -> TurnEnd {
        let Ok(found) = self.parts(&answered(), Wanted::Answers { from: 1 }) else {
            return TurnEnd::default();
        };
        let (Some(part), Ok(tokens)) = (found.parts.last(), self.encode(&found.rendered)) else {
            return TurnEnd::default();
        };
        let text = &found.rendered.text[part.bytes.clone()];
        let Some(start) = text.rfind(ANSWER).map(|at| at + ANSWER.len()) else { return TurnEnd::default() };
        let (end, bytes) = (&text[start..], part.bytes.start + start..part.bytes.end);
        let is_end = |token: &&crate::tokenizer::TokenRange| {
            token.bytes.start >= bytes.start && token.bytes.end <= bytes.end && self.is_special(token.id)
        };
        if let Some(token) = tokens.iter().find(is_end) {
            return TurnEnd { token: Some(token.id), text: None };
        }
        // White space alone may be all that ends an answer.
        let shown = if end.trim().is_empty() { end } else { end.trim() };
        TurnEnd { token: None, text: (!shown.is_empty()).then(|| shown.to_owned()) }
    }

    /// Whether nothing ends an answer in the part of it that is trained; false if the template refuses a short
    /// conversation.
    pub(crate) fn has_endless_answers(&self) -> bool {
        let Ok(found) = self.parts(&answered(), Wanted::Answers { from: 1 }) else { return false };
        found.parts.last().is_some_and(|part| found.rendered.text[part.bytes.clone()].ends_with(ANSWER))
    }
}

/// A short conversation with an answer.
fn answered() -> Conversation {
    Conversation::of(vec![Message::new("user", "question"), Message::new(Message::ASSISTANT, ANSWER)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        builtin,
        template::Template,
        tokenizer::{Tokenizer, TokenizerConfig, TokenizerKind},
    };

    fn chat(template: Template, special: &[&str]) -> ChatTokenizer {
        let config = TokenizerConfig { kind: TokenizerKind::Byte, vocab_size: 0, path: None };
        let special: Vec<String> = special.iter().map(|&text| text.to_owned()).collect();
        ChatTokenizer::new(template, Tokenizer::train(&config, &special, ["x"]).unwrap())
    }

    fn end(template: Template, special: &[&str]) -> TurnEnd {
        chat(template, special).turn_end()
    }

    /// axolotl#3754.
    #[test]
    fn a_terminator_that_is_never_trained_is_warned_of() {
        let source = |text: &str| {
            format!(
                "{{% for m in messages %}}{{% if m.role == 'assistant' %}}{text}{{% else %}}{{{{ m.content }}}}{{% endif %}}{{% endfor %}}"
            )
        };
        let warnings =
            |text: &str| chat(Template::new(&source(text), "`t`", 0).unwrap(), &["<|end|>"]).warnings();
        let outside = "{% generation %}{{ m.content }}{% endgeneration %}<|end|>";
        assert_eq!(
            warnings(outside),
            [
                "chat template `t`: no end of the turn is among what is trained of an answer, so that a model does not learn to stop"
            ]
        );
        assert_eq!(warnings("{{ m.content }}").len(), 1);
        let none: [&str; 0] = [];
        assert_eq!(warnings("{% generation %}{{ m.content }}<|end|>{% endgeneration %}"), none);
        assert_eq!(warnings("{{ raise_exception('no') }}"), none);
    }

    #[test]
    fn answers_end_with_a_token_or_with_a_text() {
        let token = |id| TurnEnd { token: Some(id), text: None };
        let text = |text: &str| TurnEnd { token: None, text: Some(text.into()) };
        let chatml = || builtin::open("chatml", 0).unwrap();
        assert_eq!(end(chatml(), &["<|im_start|>", "<|im_end|>"]), token(257));
        assert_eq!(end(builtin::open("plain", 0).unwrap(), &["<|endoftext|>"]), token(256));
        assert_eq!(end(builtin::open("plain", 0).unwrap(), &[]), text("\n\n"));
        let own = "{% for m in messages %}[{{ m.role }}] {{ m.content }} <end>\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}";
        assert_eq!(end(Template::new(own, "`t`", 0).unwrap(), &[]), text("<end>"));
        let none = "{% for m in messages %}{{ m.content }}{% endfor %}";
        assert_eq!(end(Template::new(none, "`t`", 0).unwrap(), &[]), TurnEnd::default());
        let refuses = "{{ raise_exception('no') }}";
        assert_eq!(end(Template::new(refuses, "`t`", 0).unwrap(), &[]), TurnEnd::default());
    }
}
