//! Configuration of the objective: what a model is trained to do, and the settings of its loss.

use super::{Architecture, Config, Head, Range};
use crate::error::{Error, Result};
use kiln_base::section;
use serde::{Deserialize, Serialize};

section! {
    /// Task that a model is trained for, and the settings of its loss.
    #["objective"]
    pub struct ObjectiveConfig {
        /// `causal-lm`, `masked-lm`, `span-corruption`, `seq2seq`, `sequence-classification`, `token-classification` or
        /// `regression`; absent: that of the architecture, the head and the data.
        kind: Option<ObjectiveKind> = None;
        /// Share of the tokens that are masked (BERT) or cut out (T5).
        mask_fraction: f64 = 0.15, Range::OpenShare;
        /// Mask words with all their tokens.
        whole_words: bool = false;
        /// Mean length, in tokens, of a span that is cut out.
        mean_span_length: f64 = 3.0, Range::FromOne;
        /// Share of the probability that a target leaves to all tokens evenly.
        label_smoothing: f64 = 0.0, Range::Share;
        /// Weight of the square of the logarithm of the softmax's denominator.
        z_loss: f64 = 0.0, Range::FromZero;
    }
}

/// Kinds of objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// A decoder predicts each token from those before it (GPT).
    CausalLm,
    /// An encoder predicts masked tokens (BERT, arXiv:1810.04805).
    MaskedLm,
    /// An encoder-decoder predicts spans that are cut out (T5, arXiv:1910.10683).
    SpanCorruption,
    /// An encoder-decoder predicts a target text from an input text.
    Seq2seq,
    /// An encoder predicts the class of a text.
    SequenceClassification,
    /// An encoder predicts the class of each token.
    TokenClassification,
    /// An encoder predicts a number for a text.
    Regression,
}

impl ObjectiveKind {
    /// Name of the kind in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::CausalLm => "causal-lm",
            Self::MaskedLm => "masked-lm",
            Self::SpanCorruption => "span-corruption",
            Self::Seq2seq => "seq2seq",
            Self::SequenceClassification => "sequence-classification",
            Self::TokenClassification => "token-classification",
            Self::Regression => "regression",
        }
    }
}

impl Config {
    /// Kind of objective; by default the one for the architecture, the head and the data.
    pub fn objective_kind(&self) -> ObjectiveKind {
        self.objective.kind.unwrap_or_else(|| self.usual_objective())
    }

    /// Kind of objective for the architecture, the head and the data.
    fn usual_objective(&self) -> ObjectiveKind {
        match (self.model.architecture, self.model.head) {
            (Architecture::Decoder, _) => ObjectiveKind::CausalLm,
            (Architecture::Encoder, Head::LanguageModel) => ObjectiveKind::MaskedLm,
            (Architecture::Encoder, Head::SequenceClassification) => ObjectiveKind::SequenceClassification,
            (Architecture::Encoder, Head::TokenClassification) => ObjectiveKind::TokenClassification,
            (Architecture::Encoder, Head::Regression) => ObjectiveKind::Regression,
            (Architecture::EncoderDecoder, _) if self.data.target_field.is_none() => {
                ObjectiveKind::SpanCorruption
            }
            (Architecture::EncoderDecoder, _) => ObjectiveKind::Seq2seq,
        }
    }

    /// Refuses a kind that does not suit the model and the data.
    pub(super) fn check_objective_kind(&self) -> Result<()> {
        let (kind, usual) = (self.objective_kind(), self.usual_objective());
        if kind == usual {
            return Ok(());
        }
        Err(Error::InvalidValue {
            key: "objective.kind".into(),
            value: kind.name().into(),
            message: format!(
                "`model.architecture`, `model.head` and `data.target_field` as they are train `{}`",
                usual.name()
            ),
            hint: Some("leave it out, or change those keys".into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_to_go_with_the_model() {
        let mut config = Config::default();
        assert_eq!(config.objective_kind(), ObjectiveKind::CausalLm);
        config.apply(&["objective.kind=causal-lm".into()]).unwrap();
        config.validate().unwrap();
        config.apply(&["objective.kind=seq2seq".into()]).unwrap();
        let error = config.validate().unwrap_err().to_string();
        assert!(
            error.contains("`seq2seq` for `objective.kind`") && error.contains("train `causal-lm`"),
            "{error}"
        );
        config.apply(&["model.architecture=encoder-decoder".into(), "data.target_field=x".into()]).unwrap();
        assert_eq!(config.usual_objective(), ObjectiveKind::Seq2seq);
    }
}
