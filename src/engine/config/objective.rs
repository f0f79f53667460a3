//! Configuration of the objective: what a model is trained to do, and the settings of its loss.

use super::{Architecture, Config, Head, Range};
use crate::error::{Error, Result, hint};
use kiln_base::section;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

section! {
    /// Task that a model is trained for, and the settings of its loss.
    #["objective"]
    pub struct ObjectiveConfig {
        /// `causal-lm`, `sft`, `masked-lm`, `span-corruption`, `seq2seq`, `sequence-classification`,
        /// `token-classification`, `regression`, `reward`, `dpo`, `orpo`, `simpo`, `kto`, `ppo`, `grpo`, `rloo` or
        /// `distill`; absent: that of the architecture, the head and the data.
        kind: Option<ObjectiveKind> = None;
        /// Reference policy: a run or checkpoint folder, or a folder of Hugging Face's, with the model's tokenizer;
        /// absent: the model that training began with (`--init-from`).
        reference: Option<PathBuf> = None;
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
        /// Size of the uniform noise on the embeddings of a decoder in training (NEFTune, arXiv:2310.05914), such as 5;
        /// 0: none.
        neftune_alpha: f64 = 0.0, Range::FromZero;
    }
}

/// Kinds of objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// A decoder predicts each token from those before it (GPT).
    CausalLm,
    /// A decoder predicts the targets of instructions: answers, or what the data gives weight (instruction tuning).
    Sft,
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
    /// An encoder or a decoder predicts a number for a text.
    Regression,
    /// A reward model gives the preferred of two answers a higher number.
    Reward,
    /// A decoder prefers one of two answers, relative to a reference (arXiv:2305.18290).
    Dpo,
    /// A decoder prefers one of two answers by their odds, without a reference (arXiv:2403.07691).
    Orpo,
    /// A decoder prefers one of two answers by their mean log-probability, without a reference (arXiv:2405.14734).
    Simpo,
    /// A decoder learns from single answers that are desirable or not, relative to a reference (arXiv:2402.01306).
    Kto,
    /// A decoder learns from rewards of its answers, with a value model (PPO, arXiv:1707.06347).
    Ppo,
    /// A decoder learns from rewards of several answers to each prompt (GRPO, arXiv:2402.03300).
    Grpo,
    /// As GRPO, with the mean reward of the other answers as the baseline (RLOO, arXiv:2402.14740).
    Rloo,
    /// A decoder learns the predictions of a teacher.
    Distill,
}

impl ObjectiveKind {
    /// Name of the kind in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::CausalLm => "causal-lm",
            Self::Sft => "sft",
            Self::MaskedLm => "masked-lm",
            Self::SpanCorruption => "span-corruption",
            Self::Seq2seq => "seq2seq",
            Self::SequenceClassification => "sequence-classification",
            Self::TokenClassification => "token-classification",
            Self::Regression => "regression",
            Self::Reward => "reward",
            Self::Dpo => "dpo",
            Self::Orpo => "orpo",
            Self::Simpo => "simpo",
            Self::Kto => "kto",
            Self::Ppo => "ppo",
            Self::Grpo => "grpo",
            Self::Rloo => "rloo",
            Self::Distill => "distill",
        }
    }

    /// Whether the data is answers of which some are preferred to others.
    pub fn takes_preferences(self) -> bool {
        matches!(self, Self::Reward | Self::Dpo | Self::Orpo | Self::Simpo | Self::Kto)
    }

    /// Head that the model has to have for an objective of post-training; `None` for other kinds, which follow from
    /// the model and the data.
    pub fn head(self) -> Option<Head> {
        match self {
            Self::Sft | Self::Dpo | Self::Orpo | Self::Simpo | Self::Kto | Self::Distill => {
                Some(Head::LanguageModel)
            }
            Self::Ppo | Self::Grpo | Self::Rloo => Some(Head::LanguageModel),
            Self::Reward => Some(Head::Regression),
            _ => None,
        }
    }

    /// Whether the model samples answers to train on (reinforcement learning).
    pub fn samples_answers(self) -> bool {
        matches!(self, Self::Ppo | Self::Grpo | Self::Rloo)
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
            (Architecture::Decoder, Head::Regression) => ObjectiveKind::Regression,
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
        if let Some(head) = kind.head() {
            return self.check_head_for(kind, head);
        }
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

    /// Refuses a model without the head that an objective of post-training needs.
    fn check_head_for(&self, kind: ObjectiveKind, head: Head) -> Result<()> {
        let suits = match head {
            Head::LanguageModel => self.model.architecture == Architecture::Decoder,
            _ => self.model.architecture != Architecture::EncoderDecoder,
        };
        if suits && self.model.head == head {
            return Ok(());
        }
        let (message, hint) = match head {
            Head::LanguageModel => (
                "it trains decoders that generate text",
                hint!["add ", hint::set("model.architecture", "decoder").and("model.head", "language-model")],
            ),
            _ => (
                "it trains a decoder or an encoder that gives a text one number",
                hint!["add ", hint::set("model.head", "regression")],
            ),
        };
        Err(Error::InvalidValue {
            key: "objective.kind".into(),
            value: kind.name().into(),
            message: message.into(),
            hint: Some(hint),
        })
    }

    /// Whether the objective compares the model with a reference policy.
    pub fn needs_reference(&self) -> bool {
        match self.objective_kind() {
            ObjectiveKind::Dpo => !self.preference.reference_free,
            ObjectiveKind::Kto => true,
            kind if kind.samples_answers() => self.kl_coefficient() > 0.0,
            _ => false,
        }
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
        config.apply(&["objective.kind=sft".into()]).unwrap();
        config.validate().unwrap();
        assert_eq!(config.layout(), crate::config::Layout::Documents);
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
