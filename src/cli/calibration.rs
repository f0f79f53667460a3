//! Calibration text of commands that change a model by what its layers make of a text.

use super::model::of_model;
use crate::{
    checkpoint::Checkpoint,
    config::{Architecture, Config, Layout, ModelConfig},
    data::{Dataset, RowLayout, TokenSplit, evaluation_batches},
    error::{Error, hint},
    eval::{Evaluation, evaluate},
    model::Model,
};
use burn::tensor::Device;
use std::{path::PathBuf, sync::Arc};

/// Share of the calibration text that is held out for the perplexity.
const HELD_OUT: f64 = 0.1;

/// Number of rows that are evaluated together.
const BATCH: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct CalibrationOption {
    /// Text to calibrate with; its last tenth is for the perplexity before and after (repeatable)
    #[arg(long, value_name = "TEXT")]
    calibrate: Vec<PathBuf>,
    /// Number of rows of the calibration text that are used
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub(super) rows: usize,
    /// Number of tokens in a row, at most the model's context
    #[arg(long, default_value_t = 512, value_name = "N")]
    row_tokens: usize,
}

/// Calibration text as tokens, and how rows are cut of it.
pub(super) struct CalibrationText {
    pub calibration: Arc<TokenSplit>,
    pub held_out: Arc<TokenSplit>,
    pub layout: RowLayout,
}

impl CalibrationOption {
    /// Reads the text with the checkpoint's tokenizer; `None` if none is named.
    ///
    /// # Errors
    /// Those of [`Dataset::prepare`], and [`Error::InvalidValue`] for a text shorter than a row and for a model that
    /// generates no text.
    pub(super) fn read(&self, checkpoint: &Checkpoint) -> crate::Result<Option<CalibrationText>> {
        let Some(first) = self.calibrate.first() else { return Ok(None) };
        for (key, value) in [("--rows", self.rows), ("--row-tokens", self.row_tokens)] {
            if value == 0 {
                return Err(Error::invalid_value(key, 0, "must be at least 1"));
            }
        }
        let refused = |message: String, hint| Error::InvalidValue {
            key: "--calibrate".into(),
            value: first.display().to_string(),
            message,
            hint: Some(hint),
        };
        let is_decoder = checkpoint.model.architecture == Architecture::Decoder;
        if !is_decoder || !checkpoint.model.supports_generation() {
            let hint = hint!["leave ", hint::command("--calibrate"), " out"];
            return Err(refused("it is for decoders that generate text".into(), hint));
        }
        // The whole text, however short: rows are cut from it later.
        let model = ModelConfig { block_size: 1, ..checkpoint.model.clone() };
        let mut config = Config { model, ..Default::default() };
        config.data.paths.clone_from(&self.calibrate);
        config.data.val_fraction = HELD_OUT;
        config.data.layout = Layout::Stream;
        let dataset = Dataset::prepare(&config, Some(checkpoint.tokenizer()?))?;
        super::show_notes(&dataset.notes);
        let block_size = self.row_tokens.min(checkpoint.model.context_limit().unwrap_or(usize::MAX));
        let (tokens, held_out) = (dataset.train.len(), dataset.val.len());
        if tokens <= block_size || held_out < 2 {
            let message =
                format!("the text has {tokens} tokens, and {held_out} held out, but a row has {block_size}");
            let hint = hint!["take a longer text, or shorter rows with ", hint::command("--row-tokens N")];
            return Err(refused(message, hint));
        }
        let layout = RowLayout { block_size, ..RowLayout::of(&config, &dataset.tokenizer)? };
        Ok(Some(CalibrationText {
            calibration: dataset.train.clone(),
            held_out: dataset.val.clone(),
            layout,
        }))
    }
}

impl CalibrationText {
    /// Measures the loss of a model on the text that is held out.
    ///
    /// # Errors
    /// [`Error::NonFiniteOutput`] and [`Error::DeviceFailed`].
    pub(super) fn held_out_loss(
        &self,
        checkpoint: &Checkpoint,
        model: &Model,
        config: &ModelConfig,
        device: &Device,
    ) -> crate::Result<Evaluation> {
        let batches = evaluation_batches(self.held_out.clone(), self.layout.clone(), BATCH, 0);
        let result = pollster::block_on(evaluate(model, config, batches, device))?;
        Error::check_finite("the losses", &[result.loss as f32]).map_err(of_model(checkpoint))?;
        Ok(result)
    }
}
