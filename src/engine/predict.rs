//! Predictions of a model for a text: its class, the class of each word, its masked tokens, or a number, which a
//! reward model gives too.

use crate::{
    config::{Architecture, Head, ModelConfig},
    data::{CLS_TOKEN, SEP_TOKEN},
    device::read_numbers,
    error::{Error, Hint, Result, hint},
    model::{Input, Model, Side},
    tokenizer::Tokenizer,
};
use burn::tensor::{Device, activation::softmax};
use serde::Serialize;

/// An encoder or a reward model with its configuration, tokenizer and device.
#[derive(Clone, Copy)]
pub struct Predictor<'a> {
    model: &'a Model,
    config: &'a ModelConfig,
    tokenizer: &'a Tokenizer,
    device: &'a Device,
}

/// Prediction of a classifier or a regression for a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Prediction {
    /// All classes, the most likely first.
    Classes(Vec<Guess>),
    /// The most likely class of each word in the context.
    Words(Vec<WordClass>),
    /// The number that a regression predicts.
    Number { value: f32 },
}

/// A prediction, and the number of tokens that it does not take into account.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    pub prediction: Prediction,
    /// Number of the text's tokens that were not read, because the context is full.
    pub tokens_cut: usize,
}

/// Predictions for each mask of a text, the most likely first.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    pub masks: Vec<Vec<Guess>>,
    /// Number of the text's tokens that were not read, because the context is full.
    pub tokens_cut: usize,
}

/// A text's tokens as an encoder reads them.
struct Reading {
    tokens: Vec<u32>,
    /// Position of each word's first token, for a classifier of tokens.
    firsts: Vec<usize>,
    tokens_cut: usize,
}

/// A label and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    pub label: String,
    pub probability: f32,
}

/// A word and its most likely class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WordClass {
    pub word: String,
    #[serde(flatten)]
    pub class: Guess,
}

impl<'a> Predictor<'a> {
    /// Makes a predictor. `model` must be without autodiff and on `device`.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a model that generates text.
    pub fn new(
        model: &'a Model,
        config: &'a ModelConfig,
        tokenizer: &'a Tokenizer,
        device: &'a Device,
    ) -> Result<Self> {
        if !config.supports_generation() {
            return Ok(Self { model, config, tokenizer, device });
        }
        Err(Error::InvalidValue {
            key: "model.architecture".into(),
            value: if matches!(model, Model::Decoder(_)) { "decoder" } else { "encoder-decoder" }.into(),
            message: "only an encoder classifies and fills masks".into(),
            hint: Some(hint![hint::command("kiln generate"), " generates text with it"]),
        })
    }

    /// Predicts a class or a number for each text. Texts are truncated to the context.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for an encoder that fills masks and for a text without tokens,
    /// [`Error::Tokenizer`] for a text that cannot be encoded, [`Error::NonFiniteOutput`] and
    /// [`Error::DeviceFailed`].
    pub async fn classify(&self, texts: &[&str]) -> Result<Vec<Classified>> {
        if self.config.head == Head::LanguageModel {
            return Err(Error::InvalidValue {
                key: "model.head".into(),
                value: "language-model".into(),
                message: "the model fills masks and does not classify".into(),
                hint: Some(hint![
                    hint::command("kiln fill"),
                    ", or train a classifier on it with ",
                    hint::command("kiln train --init-from")
                ]),
            });
        }
        let by_word = self.config.head == Head::TokenClassification;
        let read = texts.iter().map(|text| if by_word { self.words(text) } else { self.whole(text) });
        let read = read.collect::<Result<Vec<_>>>()?;
        let rows: Vec<Vec<u32>> = read.iter().map(|reading| reading.tokens.clone()).collect();
        let (outputs, width) = self.outputs(&rows).await?;
        let per_row = outputs.len() / rows.len().max(1);
        let rows = outputs.chunks(per_row.max(1)).zip(texts.iter().zip(read));
        let classified = rows.map(|(outputs, (text, reading))| {
            let prediction = self.prediction(outputs, width, text, &reading.firsts)?;
            Ok(Classified { prediction, tokens_cut: reading.tokens_cut })
        });
        classified.collect()
    }

    fn prediction(&self, outputs: &[f32], width: usize, text: &str, firsts: &[usize]) -> Result<Prediction> {
        let guess =
            |(label, probability): (&String, &f32)| Guess { label: label.clone(), probability: *probability };
        let guesses = |outputs: &[f32]| -> Result<Vec<Guess>> {
            Error::check_finite("the probabilities", outputs)?;
            let mut guesses: Vec<Guess> = self.config.labels.iter().zip(outputs).map(guess).collect();
            guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            Ok(guesses)
        };
        Ok(match self.config.head {
            Head::Regression => {
                let value = outputs.first().copied().unwrap_or(f32::NAN);
                Error::check_finite("the predicted numbers", &[value])?;
                Prediction::Number { value }
            }
            Head::TokenClassification => {
                let mut words = Vec::new();
                // Words beyond the context have no outputs.
                for (word, first) in text.split_whitespace().zip(firsts) {
                    if let Some(of_token) = outputs.get(first * width..(first + 1) * width)
                        && let Some(class) = guesses(of_token)?.into_iter().next()
                    {
                        words.push(WordClass { word: word.into(), class });
                    }
                }
                Prediction::Words(words)
            }
            _ => Prediction::Classes(guesses(outputs)?),
        })
    }

    /// Predicts the `count` most likely tokens for each mask of a text, the most likely first.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a classifier and for a text without a mask in the context, and those of
    /// [`classify`](Self::classify).
    pub async fn fill(&self, text: &str, count: usize) -> Result<Filled> {
        let invalid = |key: &str, value: &str, message: &str, hint: Hint| Error::InvalidValue {
            key: key.into(),
            value: value.into(),
            message: message.into(),
            hint: Some(hint),
        };
        if self.config.head != Head::LanguageModel {
            let hint = hint![hint::command("kiln classify")];
            return Err(invalid("model.head", "a classifier", "the model does not fill masks", hint));
        }
        let mask = self.tokenizer.mask_token();
        let Reading { tokens, tokens_cut, .. } = self.whole(text)?;
        let places: Vec<usize> = (0..tokens.len()).filter(|&place| Some(tokens[place]) == mask).collect();
        if places.is_empty() {
            let name =
                mask.and_then(|mask| self.tokenizer.token_text(mask)).unwrap_or_else(|| "[MASK]".into());
            let message = match tokens_cut {
                0 => "there is no mask in it".into(),
                _ => format!("there is no mask within the first {} tokens", tokens.len()),
            };
            return Err(invalid(
                "TEXT",
                text,
                &message,
                format!("write `{name}` where something is to be filled in").into(),
            ));
        }
        let (outputs, width) = self.outputs(&[tokens]).await?;
        let guesses = |place: usize| -> Result<Vec<Guess>> {
            let known = width.min(self.tokenizer.vocab_size());
            let probabilities = &outputs[place * width..][..known];
            Error::check_finite("the probabilities", probabilities)?;
            let mut order: Vec<usize> = (0..known).collect();
            order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
            let named = order.into_iter().take(count).map(|token| Guess {
                label: self.tokenizer.token_text(token as u32).unwrap_or_default(),
                probability: probabilities[token],
            });
            Ok(named.collect())
        };
        Ok(Filled { masks: places.into_iter().map(guesses).collect::<Result<_>>()?, tokens_cut })
    }

    /// Encodes a text, between `[CLS]` and `[SEP]` if the tokenizer has them.
    fn whole(&self, text: &str) -> Result<Reading> {
        self.with_special_ends(self.tokenizer.encode(text)?, Vec::new())
    }

    /// Encodes a text word by word, and finds the position at which each word begins.
    fn words(&self, text: &str) -> Result<Reading> {
        let (mut tokens, mut firsts) = (Vec::new(), Vec::new());
        let before = usize::from(self.special_ends().is_some());
        for (number, word) in text.split_whitespace().enumerate() {
            let (word, spaces) = self.tokenizer.encode_word(word, number == 0)?;
            firsts.push(before + tokens.len() + spaces);
            tokens.extend(word);
        }
        self.with_special_ends(tokens, firsts)
    }

    fn special_ends(&self) -> Option<(u32, u32)> {
        let is_encoder = self.config.architecture == Architecture::Encoder;
        self.tokenizer.token_id(CLS_TOKEN).zip(self.tokenizer.token_id(SEP_TOKEN)).filter(|_| is_encoder)
    }

    fn with_special_ends(&self, mut tokens: Vec<u32>, mut firsts: Vec<usize>) -> Result<Reading> {
        let limit = self.config.context_limit().unwrap_or(usize::MAX);
        let special_ends = self.special_ends();
        let whole = tokens.len();
        tokens.truncate(limit.saturating_sub(if special_ends.is_some() { 2 } else { 0 }));
        let tokens_cut = whole - tokens.len();
        // A word that is cut off has no output: `[SEP]` stands there.
        let before = usize::from(special_ends.is_some());
        firsts.retain(|first| *first < before + tokens.len());
        if let Some((first, last)) = special_ends {
            tokens.insert(0, first);
            tokens.push(last);
            tokens.truncate(limit);
        }
        if tokens.is_empty() {
            return Err(Error::invalid_value("TEXT", "", "there is no token in it"));
        }
        Ok(Reading { tokens, firsts, tokens_cut })
    }

    /// Computes probabilities, or a regression's numbers, of padded rows, and the number of outputs at each
    /// position.
    async fn outputs(&self, rows: &[Vec<u32>]) -> Result<(Vec<f32>, usize)> {
        let device = self.device.clone().inner();
        let (logits, _) = self.model.forward(Input::padded(rows, Side::Right, &device)); // [N, width]
        let width = logits.dims()[1];
        let outputs = if self.config.head == Head::Regression { logits } else { softmax(logits, 1) };
        Ok((read_numbers(outputs, "predicting").await?, width))
    }
}
