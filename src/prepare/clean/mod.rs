//! Cleans text without changing what it says. Each cleaning step has a switch and a file; [`clean`] runs the
//! steps in an order in which none undoes another.

pub mod characters;
pub mod encoding;
pub mod language;
pub mod mojibake;
pub(crate) mod panics;
mod prescan;
pub mod unicode;
pub mod whitespace;
pub(crate) mod wide;

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Switches of the cleaning steps. Decoding is not one of them: a file is decoded while it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CleanConfig {
    /// Repair text that was decoded with a wrong encoding.
    pub mojibake: bool,
    /// Unicode normalization form.
    pub unicode: unicode::Form,
    /// Remove control and zero-width characters.
    pub invisible: bool,
    /// Changes to white space.
    pub whitespace: whitespace::WhitespaceConfig,
}

impl Default for CleanConfig {
    fn default() -> Self {
        Self {
            mojibake: true,
            unicode: unicode::Form::default(),
            invisible: true,
            whitespace: whitespace::WhitespaceConfig::default(),
        }
    }
}

/// Cleans a text with the steps that are switched on.
pub fn clean<'a>(text: &'a str, config: &CleanConfig) -> Cow<'a, str> {
    // Mojibake first: its traces are control characters and no-break spaces, which later steps remove.
    let mut text = Cow::Borrowed(text);
    if config.mojibake {
        text = then(text, mojibake::repair);
    }
    text = then(text, |text| unicode::normalize(text, config.unicode));
    if config.invisible {
        text = then(text, characters::remove_invisible);
    }
    then(text, |text| whitespace::tidy(text, &config.whitespace))
}

/// Runs a cleaning step. A text that the step does not change is not copied, and if the step panics the text
/// stays as it was.
fn then<'a>(text: Cow<'a, str>, step: impl for<'b> Fn(&'b str) -> Cow<'b, str>) -> Cow<'a, str> {
    fn kept<'b>(text: &'b str, step: impl FnOnce(&'b str) -> Cow<'b, str>) -> Cow<'b, str> {
        panics::catch(|| step(text)).unwrap_or(Cow::Borrowed(text))
    }
    match text {
        Cow::Borrowed(text) => kept(text, step),
        Cow::Owned(text) => match kept(&text, step) {
            Cow::Borrowed(same) if same.len() == text.len() => Cow::Owned(text),
            changed => Cow::Owned(changed.into_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_work_together_and_once() {
        let config = CleanConfig::default();
        let text = "\u{feff}Le cafÃ©\u{200b} est\u{a0} bon\r\n\r\n\r\n\r\ne\u{301}t é ";
        let cleaned = clean(text, &config);
        assert_eq!(cleaned, "Le café est bon\n\nét é");
        assert!(matches!(clean(&cleaned, &config), Cow::Borrowed(_)));
    }

    #[test]
    fn a_step_that_panics_keeps_the_text() {
        for text in [Cow::Borrowed("text"), Cow::Owned("text".to_string())] {
            assert_eq!(then(text, |_| panic!("of a test")), "text");
        }
    }

    #[test]
    fn each_step_can_be_left_out_and_unknown_fields_are_refused() {
        let config: CleanConfig = serde_json::from_str(
            r#"{"mojibake": false, "unicode": "none", "invisible": false, "whitespace": {"enabled": false}}"#,
        )
        .unwrap();
        let text = "cafÃ© e\u{301}\u{200b}  \r\n";
        assert_eq!(clean(text, &config), text);
        assert!(serde_json::from_str::<CleanConfig>(r#"{"mojibakes": false}"#).is_err());
        assert!(serde_json::from_str::<CleanConfig>(r#"{"whitespace": {"tabs": 1}}"#).is_err());
        assert_eq!(serde_json::from_str::<CleanConfig>("{}").unwrap(), CleanConfig::default());
    }
}
