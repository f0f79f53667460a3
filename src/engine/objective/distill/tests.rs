//! Tests of the objective on small models; its values are compared with PyTorch's by `kiln verify`.

use super::*;
use crate::{
    config::{ModelConfig, TopK},
    data::{HostBatch, IGNORE_INDEX},
    kernels::Mode,
    model::parameters::{NamedData, gradients, read},
};
use burn::{optim::GradientsParams, tensor::Device};

fn device() -> Device {
    crate::device::Choice::cpu().open().unwrap().autodiff()
}

fn model(seed: u64, n_embd: usize, tie_embeddings: bool, softcap: Option<f64>) -> Model {
    let config = ModelConfig {
        vocab_size: 13,
        n_embd,
        n_head: 2,
        n_layer: 1,
        block_size: 80,
        init_std: 0.4,
        tie_embeddings,
        logit_softcap: softcap,
        ..Default::default()
    };
    Model::init(&config, Mode::Fused, seed, &device())
}

/// Two rows with few targets, or with nothing but targets.
fn host(is_sparse: bool) -> HostBatch {
    let tokens: Vec<i32> = (0..160).map(|i| i * 5 % 13).collect();
    let target = |i: i32| if is_sparse && i % 9 != 0 { IGNORE_INDEX } else { i * 7 % 13 };
    HostBatch::new(tokens, (0..160).map(target).collect(), 2, 80)
}

fn loss_and_gradients(
    objective: &Distill,
    model: &Model,
    host: &HostBatch,
    is_direct: bool,
) -> (f32, NamedData) {
    let (batch, totals) = (Batch::new(host, &device()), StepTotals::of([host]));
    let total = if is_direct {
        // With all logits at once, differentiated by Burn.
        let selected = objective.selected(&batch);
        let logits = batch.logits(model);
        let logits = match batch.target_rows() {
            Some(rows) => logits.select(0, rows.clone()),
            None => logits,
        };
        let count = logits.dims()[0];
        objective.loss_of(logits, &selected, 0..count).0.div_scalar(totals.divisor())
    } else {
        objective.loss(model, &batch, totals).total
    };
    let found = GradientsParams::from_grads(total.backward(), model);
    let found = pollster::block_on(read(gradients(model, &found))).unwrap();
    (total.inner().into_scalar::<f32>(), found)
}

#[test]
fn chunks_give_the_loss_and_gradients_of_the_whole() {
    for (tied, softcap, is_sparse) in
        [(true, None, true), (false, None, false), (true, Some(3.0), false), (false, Some(3.0), true)]
    {
        let (student, teacher) = (model(3, 16, tied, softcap), model(4, 24, true, None));
        for (beta, weight, top_k) in [(0.0, 1.0, None), (0.4, 0.6, None), (1.0, 0.5, Some(4))] {
            let config = DistillConfig { beta, weight, top_k, temperature: 1.5, ..Default::default() };
            let objective = Distill::new(&config, Frozen::new(&teacher));
            let host = host(is_sparse);
            let chunked = loss_and_gradients(&objective, &student, &host, false);
            let whole = loss_and_gradients(&objective, &student, &host, true);
            assert!((chunked.0 - whole.0).abs() < 1e-5, "{} {}", chunked.0, whole.0);
            assert_eq!(chunked.1.len(), whole.1.len());
            for (name, gradient) in &whole.1 {
                let pairs = gradient.values.iter().zip(&chunked.1[name].values);
                let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest < 1e-5, "{name}: {largest}");
            }
        }
    }
}

#[test]
fn a_student_that_is_its_teacher_has_nothing_to_learn() {
    let model = model(3, 16, true, None);
    let objective = Distill::new(&DistillConfig::default(), Frozen::new(&model));
    let (loss, gradients) = loss_and_gradients(&objective, &model, &host(true), false);
    assert!(loss.abs() < 1e-6);
    assert!(gradients.values().flat_map(|tensor| &tensor.values).all(|value| value.abs() < 1e-5));
}

#[test]
fn saved_logits_give_the_loss_of_the_live_teacher() {
    let (student, teacher) = (model(3, 16, true, None), Frozen::new(&model(4, 24, true, None)));
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    let device = device();
    let mut writer = LogitWriter::create(folder.path(), 5, 2.0, 13, &tokenizer, &device).unwrap();
    for host in [host(true), host(false), host(true)] {
        pollster::block_on(writer.add(&teacher, &host)).unwrap();
    }
    // Rows that come twice are saved once.
    assert_eq!(writer.finish().unwrap(), (4, 18 + 160));
    let config = |form| DistillConfig { temperature: 2.0, top_k_form: form, ..Default::default() };
    for (form, top_k) in
        [(TopK::Tail, None), (TopK::Renormalized, Some(3)), (TopK::Both, Some(5)), (TopK::Tail, Some(2))]
    {
        let saved = DistillConfig { top_k, ..config(form) };
        let logits = SavedLogits::open(folder.path(), &saved, &tokenizer, 13).unwrap();
        let live = DistillConfig { top_k: Some(top_k.unwrap_or(5)), ..config(form) };
        let live = Distill::new(&live, teacher.clone());
        for host in [host(true), host(false)] {
            logits.check(&host).unwrap();
            let objective = Distill::with_source(
                &saved,
                Source::Saved(SavedLogits::open(folder.path(), &saved, &tokenizer, 13).unwrap()),
            );
            let (found, gradients) = loss_and_gradients(&objective, &student, &host, false);
            let (expected, of_live) = loss_and_gradients(&live, &student, &host, false);
            assert!((found - expected).abs() < 1e-5, "{form:?}: {found} {expected}");
            for (name, gradient) in &of_live {
                let pairs = gradient.values.iter().zip(&gradients[name].values);
                assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-5, "{form:?} {name}");
            }
        }
    }
    let refused = |config: &DistillConfig, vocab_size| {
        SavedLogits::open(folder.path(), config, &tokenizer, vocab_size)
            .err()
            .expect("it is refused")
            .to_string()
    };
    assert!(refused(&DistillConfig::default(), 13).contains("temperature of 2"));
    assert!(refused(&config(TopK::Tail), 14).contains("vocabulary of 13"));
    assert!(refused(&DistillConfig { top_k: Some(6), ..config(TopK::Both) }, 13).contains("5 tokens"));
    let logits = SavedLogits::open(folder.path(), &config(TopK::Tail), &tokenizer, 13).unwrap();
    let mut other = host(true);
    other.inputs[0] = 12;
    assert!(logits.check(&other).unwrap_err().to_string().contains("not among the saved ones"));
    drop(logits);

    let file = folder.path().join(saved::file_name(0));
    let bytes = crate::platform::storage::read(&file).unwrap();
    crate::platform::storage::write_atomic(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refused(&config(TopK::Tail), 13).contains("is no file of logits"));
    let empty = tempfile::tempdir().unwrap();
    let error = SavedLogits::open(empty.path(), &config(TopK::Tail), &tokenizer, 13).err().unwrap();
    assert!(error.to_string().contains("distill.json") && error.hint().is_some());
}

fn tokenizer() -> Tokenizer {
    use crate::config::{TokenizerConfig, TokenizerKind};
    let config = TokenizerConfig { kind: TokenizerKind::Char, ..Default::default() };
    Tokenizer::train(&config, &[], ["abcdefghijklm"]).unwrap()
}
