//! Canaries: made-up secrets in the training text, whose exposure tells what a model memorizes
//! (arXiv:1802.08232).

use crate::error::{Error, Result, hint};
use serde::{Deserialize, Serialize};

/// Text that is put into the training split, with a secret that is drawn at random.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CanaryConfig {
    /// Text of one line, with `{}` where the secret stands.
    pub text: String,
    /// Characters that the secret consists of.
    pub format: SecretFormat,
    /// Number of characters of the secret.
    pub length: usize,
    /// Number of times that the text is put into the training split.
    pub repeat: usize,
}

/// Characters that a secret consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretFormat {
    /// The digits 0 to 9.
    Digits,
    /// The letters a to z.
    Letters,
}

/// Placeholder of the secret in the text of a canary.
pub const PLACEHOLDER: &str = "{}";

/// Largest number of times that a canary may be repeated.
const MOST_REPEATS: usize = 1_000_000;

impl Default for CanaryConfig {
    fn default() -> Self {
        Self { text: String::new(), format: SecretFormat::Digits, length: 6, repeat: 1 }
    }
}

impl SecretFormat {
    /// All characters, in the order of their values.
    pub fn alphabet(self) -> &'static str {
        match self {
            Self::Digits => "0123456789",
            Self::Letters => "abcdefghijklmnopqrstuvwxyz",
        }
    }
}

impl CanaryConfig {
    /// Number of secrets that are possible; `None` if it exceeds 2⁶³.
    pub fn secrets(&self) -> Option<u64> {
        let length = u32::try_from(self.length).ok()?;
        let base = self.format.alphabet().len() as u64;
        base.checked_pow(length).filter(|&secrets| secrets <= 1 << 63)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a text without exactly one placeholder or with several lines, for a length
    /// of 0 or of too many secrets, and for a number of repetitions that is 0 or too large.
    pub(super) fn check(&self) -> Result<()> {
        let refused = |value: String, message: String, hint| {
            Err(Error::InvalidValue { key: "data.canaries".into(), value, message, hint: Some(hint) })
        };
        if self.text.matches(PLACEHOLDER).count() != 1 || self.text.contains(['\n', '\r']) {
            return refused(
                self.text.clone(),
                "the text of a canary is one line, with `{}` once, where the secret stands".into(),
                "for example `text = \"The code of the safe is {}.\"`".into(),
            );
        }
        if self.length == 0 || self.secrets().is_none() {
            return refused(
                format!("length = {}", self.length),
                "a secret has at least 1 character, and there are at most 2⁶³ secrets".into(),
                "6 digits are a million secrets".into(),
            );
        }
        if self.repeat == 0 || self.repeat > MOST_REPEATS {
            return refused(
                format!("repeat = {}", self.repeat),
                format!("a canary is repeated 1 to {MOST_REPEATS} times"),
                hint!["leave the canary out of ", hint::key("data.canaries"), " to train without it"],
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn refusal(canary: &str) -> String {
        let mut config = Config::default();
        let applied = config.apply(&[format!("data.canaries=[{{{canary}}}]")]);
        let error = applied.and_then(|_| config.validate()).unwrap_err();
        assert!(matches!(&error, Error::InvalidValue { key, .. } if key == "data.canaries"), "{error}");
        error.to_string()
    }

    #[test]
    fn canaries_are_tables_with_defaults() {
        let text = "[[data.canaries]]\ntext = \"a {}\"\nrepeat = 3\n\n[[data.canaries]]\ntext = \"b {}\"\n\
                    format = \"letters\"\nlength = 2\n";
        let config = Config::from_toml(text, "here").unwrap();
        config.validate().unwrap();
        let [first, second] = &config.data.canaries[..] else { panic!("{config:?}") };
        assert_eq!((first.format, first.length, first.repeat), (SecretFormat::Digits, 6, 3));
        assert_eq!((first.secrets(), second.secrets()), (Some(1_000_000), Some(676)));
        assert_eq!(Config::from_toml(&config.to_toml().unwrap(), "here").unwrap(), config);
        assert_eq!(Config::from_toml(&config.to_annotated_toml().unwrap(), "here").unwrap(), config);
    }

    #[test]
    fn bad_canaries_are_refused() {
        assert!(refusal("text='no secret'").contains("`no secret`"));
        assert!(refusal("text='{} and {}'").contains("with `{}` once"));
        assert!(refusal("text='{}', length=0").contains("`length = 0`"));
        assert!(refusal("text='{}', length=20").contains("at most 2⁶³"));
        assert!(refusal("text='{}', repeat=0").contains("`repeat = 0`"));
        assert!(refusal("text='{}', format='hex'").contains("expected `digits` or `letters`"));
        assert!(refusal("text='{}', often=3").contains("data.canaries"));
    }
}
