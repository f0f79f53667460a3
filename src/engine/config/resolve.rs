//! Completes a configuration with what depends on the data: the vocabulary and the classes.

use super::{Config, Head};
use crate::error::{Error, Result, hint};

/// Properties of a run's data that a configuration depends on.
pub trait RunData {
    /// Number of tokens of the tokenizer.
    fn vocab_size(&self) -> usize;
    /// Names of the classes in the data.
    fn labels(&self) -> &[String];
    /// Whether there is a validation split.
    fn has_validation(&self) -> bool;
    /// Checks that the tokenizer can encode a text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] with the first character that it has no token for.
    fn check_text(&self, text: &str) -> Result<()>;
    /// Number of tokens of the longest canary in the training split; 0 if there is none.
    fn longest_canary(&self) -> usize;
}

impl Config {
    /// Completes the configuration with what depends on the data, and validates it as a whole. A trainer
    /// takes the result unchanged.
    ///
    /// # Errors
    /// Those of [`Config::validate`], those of [`RunData::check_text`], and [`Error::InvalidValue`] for a key
    /// that does not suit the data.
    pub fn resolve(mut self, data: &impl RunData) -> Result<Self> {
        let vocab = data.vocab_size();
        if self.model.vocab_size == 0 {
            self.model.vocab_size = vocab;
        }
        if self.model.vocab_size < vocab {
            return Err(Error::InvalidValue {
                key: "model.vocab_size".into(),
                value: self.model.vocab_size.to_string(),
                message: format!("the tokenizer has {vocab} tokens"),
                hint: Some("leave it at 0 to take the tokenizer's".into()),
            });
        }
        if self.model.labels.is_empty() {
            self.model.labels = data.labels().to_vec();
        }
        self.validate()?;
        if data.labels().len() < 2
            && matches!(self.model.head, Head::SequenceClassification | Head::TokenClassification)
        {
            return Err(Error::invalid_value(
                "model.labels",
                data.labels().join(", "),
                "a classifier needs at least two classes",
            ));
        }
        // A prompt that cannot be encoded would otherwise end the run at its first sample.
        if self.model.supports_generation() {
            data.check_text(&self.sample.prompt)?;
        }
        let (longest, block_size) = (data.longest_canary(), self.model.block_size);
        if longest > block_size {
            return Err(Error::InvalidValue {
                key: "data.canaries".into(),
                value: format!("{longest} tokens"),
                message: format!("a canary does not fit into a block of {block_size} tokens"),
                hint: Some(hint!["shorten its text, or raise ", hint::key("model.block_size")]),
            });
        }
        if let Some(patience) = self.train.early_stopping_patience.filter(|_| !data.has_validation()) {
            let message = "there is no validation split to watch";
            return Err(Error::invalid_value("train.early_stopping_patience", patience, message));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Letters {
        labels: Vec<String>,
        has_validation: bool,
    }

    impl RunData for Letters {
        fn vocab_size(&self) -> usize {
            26
        }

        fn labels(&self) -> &[String] {
            &self.labels
        }

        fn has_validation(&self) -> bool {
            self.has_validation
        }

        fn check_text(&self, text: &str) -> Result<()> {
            if text.bytes().all(|byte| byte.is_ascii_lowercase()) {
                return Ok(());
            }
            Err(Error::invalid_value("sample.prompt", text, "not a letter"))
        }

        fn longest_canary(&self) -> usize {
            40
        }
    }

    fn resolve(overrides: &[&str], labels: &[&str], has_validation: bool) -> Result<Config> {
        let mut config = Config::default();
        config.apply(&overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        config.resolve(&Letters { labels, has_validation })
    }

    #[test]
    fn the_data_decides_vocabulary_and_classes() {
        assert_eq!(resolve(&[], &[], true).unwrap().model.vocab_size, 26);
        assert_eq!(resolve(&["model.vocab_size=32"], &[], true).unwrap().model.vocab_size, 32);
        let classifier = ["model.architecture=encoder", "model.head=sequence-classification"];
        assert_eq!(resolve(&classifier, &["a", "b"], true).unwrap().model.labels, ["a", "b"]);
        let refused = |overrides: &[&str], labels: &[&str], has_validation, key| {
            let error = resolve(overrides, labels, has_validation).unwrap_err();
            assert!(matches!(&error, Error::InvalidValue { key: found, .. } if found == key), "{error}");
        };
        refused(&["model.vocab_size=25"], &[], true, "model.vocab_size");
        refused(&classifier, &["a"], true, "model.labels");
        refused(&["sample.prompt=A"], &[], true, "sample.prompt");
        refused(&["train.early_stopping_patience=2"], &[], false, "train.early_stopping_patience");
        refused(&["model.n_layer=0"], &[], true, "model.n_layer");
        refused(&["model.block_size=39"], &[], true, "data.canaries");
        // An encoder generates no text.
        resolve(&["model.architecture=encoder", "sample.prompt=A"], &[], true).unwrap();
    }
}
