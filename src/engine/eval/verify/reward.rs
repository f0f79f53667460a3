//! Reward models: a scalar head on the last token of a decoder, trained on pairs. The reference is `reward/NAME` in
//! a folder of fixtures, with the head's weight; everything else is `models/NAME`.

use super::{
    Case,
    files::Files,
    fixture::{FixtureModel, Integers, largest_difference, number, relative, to_host},
    preference::{in_order, interleaved, metric_of},
};
use crate::{
    checkpoint::Weights,
    config::{Config, Head},
    data::HostBatch,
    error::{Error, Result},
    model::{
        Input, Model, mask,
        parameters::{self, HostTensor},
    },
    objective::{Batch, Objective, Reward, StepTotals},
};
use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use std::path::Path;

/// Compares everything in `reward` with Kiln.
///
/// # Errors
/// [`Error::Checkpoint`] if a file is missing or broken, and those of loading a model.
pub(super) fn verify(folder: &Path, device: &Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for files in Files::of_subject(folder, "reward", device)? {
        let model = with_head(files.model, files.fixture.floats("score.weight")?)?;
        let scored = Scored { files: Files { model, ..files } };
        cases.push(scored.rewards()?);
        for variant in scored.files.fixture.cases() {
            cases.push(scored.losses(&variant)?);
        }
    }
    Ok(cases)
}

/// Makes a reward model of a language model, with the weight `[1, n_embd]` of its head.
fn with_head(model: FixtureModel, score: &HostTensor) -> Result<FixtureModel> {
    let FixtureModel { mut checkpoint, device, .. } = model;
    let mut weights = checkpoint.weights(Weights::Latest)?;
    checkpoint.model.head = Head::Regression;
    let shape = [score.values.len(), 1];
    weights.insert("head.weight".into(), HostTensor::new(shape, score.values.clone()));
    let uninitialized = Model::uninitialized(&checkpoint.model, checkpoint.mode(), &device);
    let model = parameters::load(uninitialized, weights).map_err(|message| Error::Checkpoint {
        path: checkpoint.path().into(),
        message,
        hint: None,
    })?;
    Ok(FixtureModel { model: model.train(), checkpoint, device })
}

/// A reward model with the numbers.
struct Scored {
    files: Files,
}

impl Scored {
    /// Compares the rewards of texts that are padded on the right and on the left.
    fn rewards(&self) -> Result<Case> {
        let mut case = self.files.case("rewards");
        let reference = &self.files.fixture.floats("rewards")?.values;
        let reference = interleaved(reference, reference.len());
        for side in ["right", "left"] {
            let batch = self.batch(side, false)?;
            let own = to_host(batch.logits(&self.files.model.model))?.values;
            let difference = largest_difference(&own, &reference);
            case.add(format!("rewards, padded `{side}`"), difference, self.files.tolerances.logits);
        }
        Ok(case)
    }

    /// Compares the loss of a case, its gradients and its AdamW losses.
    fn losses(&self, variant: &str) -> Result<Case> {
        let (mut case, bounds) = (self.files.case(variant), self.files.tolerances);
        let mut config = Config::default();
        config.reward.center = self.files.fixture.get(&format!("{variant}/center"))?;
        let objective = Reward::new(&config);
        let has_margin: bool = self.files.fixture.get(&format!("{variant}/margin"))?;
        let (right, left) = (self.batch("right", has_margin)?, self.batch("left", has_margin)?);
        let totals = StepTotals::of([&*right.host]);
        let get = |key: &str| self.files.fixture.get::<f64>(&format!("{variant}/{key}"));
        let reference = get("loss")?;
        let found = objective.loss(&self.files.model.model, &right, totals);
        for (metric, key) in [("rewards/accuracy", "accuracy"), ("rewards/margin", "mean_margin")] {
            case.add(key, relative(metric_of(&found, metric)?, get(key)?), bounds.loss);
        }
        let of_left = number(objective.loss(&self.files.model.model, &left, totals).total)?;
        case.add("loss, padded `left`", relative(of_left, reference), bounds.loss);

        let loss = |model: &Model| objective.loss(model, &right, totals).total;
        self.files.compare_training(&mut case, variant, reference, "margin", loss)?;
        Ok(case)
    }

    /// Batch of pairs, each preferred text before the rejected one.
    fn batch(&self, side: &str, has_margin: bool) -> Result<Batch> {
        let name = if side == "left" { "left.input_ids" } else { "input_ids" };
        let tokens = self.files.fixture.tokens(name, self.files.model.checkpoint.model.vocab_size)?;
        let &[rows, time] = &tokens.shape[..] else {
            return Err(self.files.fixture.error(format!("`{name}` is no matrix")));
        };
        let order = interleaved(&(0..rows).collect::<Vec<_>>(), rows);
        let real = self.real(side, &tokens)?;
        let lengths = real.chunks(time).map(|row| row.iter().filter(|&&real| real).count());
        let lengths: Vec<usize> = lengths.collect();
        let (ids, device) = (tokens.to_i32(), &self.files.model.device);
        let inputs = order.iter().flat_map(|row| ids[row * time..(row + 1) * time].to_vec()).collect();
        let mut host = HostBatch::new(inputs, vec![0; rows], rows, time);
        host.rows_per_example = 2;
        host.lengths = order.iter().map(|&row| lengths[row]).collect();
        if has_margin {
            let margins = &self.files.fixture.floats("margin")?.values;
            host.values = margins.iter().flat_map(|&margin| [margin, 0.0]).collect();
        }
        let mut batch = Batch::new(&host, device);
        if side == "left" {
            let positions = real.chunks(time).zip(&lengths).flat_map(|(row, length)| {
                let first = row.len() - length;
                (0..row.len()).map(move |column| column.saturating_sub(first) as i32)
            });
            let positions = TensorData::new(positions.collect::<Vec<_>>(), [rows, time]);
            let input = Input {
                padding: Some(mask(real.iter().map(|real| !real).collect(), rows, device)),
                positions: Some(Tensor::from_data(positions, device)),
                ..Input::from(Tensor::from_data(TensorData::new(ids, [rows, time]), device))
            };
            batch.input = in_order(input, &order, device);
        }
        Ok(batch)
    }

    /// Flags of the tokens that are no padding. Where the padding is on the left, it is the token 0.
    fn real(&self, side: &str, tokens: &Integers) -> Result<Vec<bool>> {
        if side == "left" {
            return Ok(tokens.values.iter().map(|&token| token != 0).collect());
        }
        let mask = self.files.fixture.integers("attention_mask")?;
        match mask.shape == tokens.shape {
            true => Ok(mask.values.iter().map(|&real| real != 0).collect()),
            false => Err(self.files.fixture.error("`input_ids` and `attention_mask` differ in shape")),
        }
    }
}
