//! What an encoder says of a text: its class, the class of each word, a number, or what stands behind its
//! masks.

use crate::{
    config::{Head, ModelConfig},
    device::device_failed,
    error::{Error, Result},
    model::{Encoder, Input, Model, Side},
    objective::rows::{CLASSIFY, SEPARATE},
    tokenizer::Tokenizer,
};
use burn::tensor::{Device, activation::softmax};
use serde::Serialize;

/// An encoder, with all that belongs to it.
#[derive(Clone, Copy)]
pub struct Predictor<'a> {
    encoder: &'a Encoder,
    config: &'a ModelConfig,
    tokenizer: &'a Tokenizer,
    device: &'a Device,
}

/// What a classifier says of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Prediction {
    /// The classes, the most likely first.
    Classes(Vec<Guess>),
    /// Of each word, as far as the context reaches, the most likely class.
    Words(Vec<WordClass>),
    /// Of a regression.
    Number { value: f32 },
}

/// Something and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    pub label: String,
    pub probability: f32,
}

/// The class of a word.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WordClass {
    pub word: String,
    #[serde(flatten)]
    pub class: Guess,
}

impl<'a> Predictor<'a> {
    /// `model` is without autodiff and lives on `device`.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a model that is no encoder.
    pub fn new(
        model: &'a Model,
        config: &'a ModelConfig,
        tokenizer: &'a Tokenizer,
        device: &'a Device,
    ) -> Result<Self> {
        match model {
            Model::Encoder(encoder) => Ok(Self { encoder, config, tokenizer, device }),
            Model::Decoder(_) | Model::EncoderDecoder(_) => Err(Error::InvalidValue {
                key: "model.architecture".into(),
                value: if matches!(model, Model::Decoder(_)) { "decoder" } else { "encoder-decoder" }.into(),
                message: "only an encoder classifies and fills masks".into(),
                hint: Some("`kiln generate` lets it write".into()),
            }),
        }
    }

    /// What a classifier, or a regression, says of each text; of each, as much as the context holds is read.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for an encoder that fills masks, [`Error::Tokenizer`] for a text that has no
    /// tokens, and [`Error::DeviceFailed`].
    pub async fn classify(&self, texts: &[&str]) -> Result<Vec<Prediction>> {
        if self.config.head == Head::LanguageModel {
            return Err(Error::InvalidValue {
                key: "model.head".into(),
                value: "language-model".into(),
                message: "the model fills masks and does not classify".into(),
                hint: Some("`kiln fill`, or train a classifier on it with `kiln train --init-from`".into()),
            });
        }
        let by_word = self.config.head == Head::TokenClassification;
        let read = texts.iter().map(|text| if by_word { self.words(text) } else { self.whole(text) });
        let read = read.collect::<Result<Vec<_>>>()?;
        let rows: Vec<Vec<u32>> = read.iter().map(|(tokens, _)| tokens.clone()).collect();
        let (outputs, width) = self.outputs(&rows).await?;
        let per_row = outputs.len() / rows.len().max(1);
        let rows = outputs.chunks(per_row.max(1)).zip(texts.iter().zip(read));
        Ok(rows
            .map(|(outputs, (text, (_, firsts)))| self.prediction(outputs, width, text, &firsts))
            .collect())
    }

    fn prediction(&self, outputs: &[f32], width: usize, text: &str, firsts: &[usize]) -> Prediction {
        let guess =
            |(label, probability): (&String, &f32)| Guess { label: label.clone(), probability: *probability };
        let guesses = |outputs: &[f32]| {
            let mut guesses: Vec<Guess> = self.config.labels.iter().zip(outputs).map(guess).collect();
            guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            guesses
        };
        match self.config.head {
            Head::Regression => Prediction::Number { value: outputs.first().copied().unwrap_or(f32::NAN) },
            Head::TokenClassification => {
                let class = |(word, first): (&str, &usize)| {
                    let of_token = outputs.get(first * width..(first + 1) * width)?;
                    let class = guesses(of_token).into_iter().next()?;
                    Some(WordClass { word: word.into(), class })
                };
                Prediction::Words(text.split_whitespace().zip(firsts).filter_map(class).collect())
            }
            _ => Prediction::Classes(guesses(outputs)),
        }
    }

    /// What may stand behind each mask of a text, the most likely first, `count` of it.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a classifier and for a text without a mask within the context, and those
    /// of [`classify`](Self::classify).
    pub async fn fill(&self, text: &str, count: usize) -> Result<Vec<Vec<Guess>>> {
        let invalid = |key: &str, value: &str, message: &str, hint: String| Error::InvalidValue {
            key: key.into(),
            value: value.into(),
            message: message.into(),
            hint: Some(hint),
        };
        if self.config.head != Head::LanguageModel {
            let hint = "`kiln classify`".into();
            return Err(invalid("model.head", "a classifier", "the model does not fill masks", hint));
        }
        let mask = self.tokenizer.mask_token();
        let (tokens, _) = self.whole(text)?;
        let places: Vec<usize> = (0..tokens.len()).filter(|&place| Some(tokens[place]) == mask).collect();
        if places.is_empty() {
            let name =
                mask.and_then(|mask| self.tokenizer.token_text(mask)).unwrap_or_else(|| "[MASK]".into());
            let message = format!("there is no mask within the first {} tokens", self.config.block_size);
            return Err(invalid(
                "TEXT",
                text,
                &message,
                format!("write `{name}` where something is to be filled in"),
            ));
        }
        let (outputs, width) = self.outputs(&[tokens]).await?;
        let guesses = |place: usize| {
            let probabilities = &outputs[place * width..(place + 1) * width];
            let known = width.min(self.tokenizer.vocab_size());
            let mut order: Vec<usize> = (0..known).collect();
            order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
            let named = order.into_iter().take(count).map(|token| Guess {
                label: self.tokenizer.token_text(token as u32).unwrap_or_default(),
                probability: probabilities[token],
            });
            named.collect()
        };
        Ok(places.into_iter().map(guesses).collect())
    }

    /// The tokens of a text, between the marks that the tokenizer has for its ends.
    fn whole(&self, text: &str) -> Result<(Vec<u32>, Vec<usize>)> {
        Ok((self.between_marks(self.tokenizer.encode(text)?)?, Vec::new()))
    }

    /// The same word by word, and where each begins.
    fn words(&self, text: &str) -> Result<(Vec<u32>, Vec<usize>)> {
        let (mut tokens, mut firsts) = (Vec::new(), Vec::new());
        let before = usize::from(self.marks().is_some());
        for (number, word) in text.split_whitespace().enumerate() {
            let (word, spaces) = self.tokenizer.encode_word(word, number == 0)?;
            firsts.push(before + tokens.len() + spaces);
            tokens.extend(word);
        }
        Ok((self.between_marks(tokens)?, firsts))
    }

    fn marks(&self) -> Option<(u32, u32)> {
        self.tokenizer.token_id(CLASSIFY).zip(self.tokenizer.token_id(SEPARATE))
    }

    fn between_marks(&self, mut tokens: Vec<u32>) -> Result<Vec<u32>> {
        if let Some((first, last)) = self.marks() {
            tokens.truncate(self.config.block_size.saturating_sub(2));
            tokens.insert(0, first);
            tokens.push(last);
        }
        tokens.truncate(self.config.block_size);
        if tokens.is_empty() {
            return Err(Error::invalid_value("TEXT", "", "there is no token in it"));
        }
        Ok(tokens)
    }

    /// Probabilities, or a regression's numbers, and how many belong together.
    async fn outputs(&self, rows: &[Vec<u32>]) -> Result<(Vec<f32>, usize)> {
        let device = self.device.clone().inner();
        let (logits, _) = self.encoder.forward(Input::padded(rows, Side::Right, &device));
        let width = logits.dims()[2];
        let outputs = if self.config.head == Head::Regression { logits } else { softmax(logits, 2) };
        let failed = |message| device_failed(&device, "predicting", message);
        let data = outputs.into_data_async().await.map_err(|e| failed(e.to_string()))?;
        Ok((data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))?, width))
    }
}
