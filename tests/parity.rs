//! Numbers from PyTorch and transformers: the models in `tests/fixtures/models` were made with
//!
//! ```python
//! torch.manual_seed(0)
//! model = GPT2LMHeadModel(GPT2Config(vocab_size=101, n_positions=32, n_embd=48, n_layer=2, n_head=4, ...))
//! ids = torch.randint(3, 101, (2, 16)); mask = ones, mask[1, 12:] = 0; labels = ids, -100 where mask is 0
//! out = model(input_ids=ids, attention_mask=mask, labels=labels); out.loss.backward()
//! torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)  # 4 steps
//! ```
//!
//! and the same for Llama and Mixtral (torch 2.9.1, transformers 5.23.0); the others with
//! `tests/fixtures/generate.py`.

use crate::support::{fails, folder, kiln, ok};
use kiln::{
    checkpoint::{Checkpoint, Weights, tensors},
    config::SampleConfig,
    device::Choice,
    eval::verify::{Tolerances, verify_model},
    generate::{NextToken, Vocabulary, batch::generate, beam::BeamSearch, decoder::TextDecoder},
    model::{Input, Model, Side, families::Family},
};
use std::path::{Path, PathBuf};

pub fn fixture(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(family)
}

/// Copies a fixture's files into a folder, to be changed.
pub fn copy_of(family: &str, folder: &tempfile::TempDir) -> PathBuf {
    let copy = folder.path().join(family);
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(fixture(family)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::write(copy.join(path.file_name().unwrap()), std::fs::read(&path).unwrap()).unwrap();
    }
    copy
}

/// Every fixture, with its `model_type`.
const FIXTURES: [(&str, &str); 20] = [
    ("gpt2", "gpt2"),
    ("llama", "llama"),
    ("llama3", "llama"),
    ("llama-linear", "llama"),
    ("llama-left-padded", "llama"),
    ("mistral", "mistral"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("gemma2", "gemma2"),
    ("mixtral", "mixtral"),
    ("mixtral-balanced", "mixtral"),
    ("qwen2-moe", "qwen2_moe"),
    ("qwen3-moe", "qwen3_moe"),
    ("bert", "bert"),
    ("bert-classify", "bert"),
    ("bert-regression", "bert"),
    ("bert-tokens", "bert"),
    ("modernbert", "modernbert"),
    ("t5", "t5"),
    ("t5-v1_1", "t5"),
];

#[test]
fn logits_gradients_and_adamw_equal_pytorch() {
    let device = Choice::cpu().open().unwrap();
    for (fixture_name, _) in FIXTURES {
        let found = pollster::block_on(verify_model(&fixture(fixture_name), &device)).unwrap();
        assert_eq!(found.failures(&Tolerances::strict()), Vec::<String>::new(), "{fixture_name}");
        assert_eq!(found.adamw.len(), 4);
    }
}

#[test]
fn a_model_that_is_read_and_written_is_the_same() {
    for (name, model_type) in FIXTURES {
        let checkpoint = Checkpoint::open_model(&fixture(name)).unwrap();
        assert_eq!(checkpoint.family.name(), model_type);
        assert_eq!(Family::of(&checkpoint.model), checkpoint.family, "{name}");
        let ours = checkpoint.weights(Weights::Latest).unwrap();
        let written = checkpoint.family.store(&checkpoint.model, ours).unwrap();
        let bytes = std::fs::read(fixture(name).join("model.safetensors")).unwrap();
        assert_eq!(written, tensors::read(&bytes).unwrap(), "{name}");
    }
}

#[test]
fn greedy_and_beam_text_is_that_of_transformers() {
    let device = Choice::cpu().open().unwrap();
    let mut compared = 0;
    for (name, _) in FIXTURES {
        let bytes = std::fs::read(fixture(name).join("fixture.safetensors")).unwrap();
        let Ok((_, expected)) = tensors::read_i64(&bytes, "generated") else { continue };
        let expected: Vec<u32> = expected.into_iter().map(|token| token as u32).collect();
        let checkpoint = Checkpoint::open_model(&fixture(name)).unwrap();
        let model = checkpoint.build(Weights::Latest, &device).unwrap();
        let writer = || match &model {
            Model::Decoder(decoder) => TextDecoder::DecoderOnly(decoder),
            Model::EncoderDecoder(model) => {
                let (shape, ids) = tensors::read_i64(&bytes, "input_ids").unwrap();
                let source = ids[..shape[1]].iter().map(|&id| id as u32).collect();
                let memory = model.encode(Input::padded(&[source], Side::Right, &device)).0;
                TextDecoder::EncoderDecoder { model, memory: memory.into() }
            }
            Model::Encoder(_) => panic!("an encoder does not generate text"),
        };
        // A decoder beside an encoder begins with its first token.
        let given = if matches!(model, Model::Decoder(_)) { 5 } else { 1 };
        let next = || NextToken::new(writer(), &checkpoint.model, expected.len(), &device);
        let largest = |logits: Vec<f32>| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let mut cached = next();
        let mut new = expected[..given].to_vec();
        for end in given..expected.len() {
            let with = pollster::block_on(cached.logits(&new)).unwrap();
            let without = pollster::block_on(next().logits(&expected[..end])).unwrap();
            let worst = with.iter().zip(&without).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}: {worst:e} at {end}");
            assert_eq!(largest(with), Some(expected[end] as usize), "{name} at {end}");
            new = vec![expected[end]];
        }
        let (_, beam) = tensors::read_i64(&bytes, "beam").unwrap();
        let beam: Vec<u32> = beam.into_iter().map(|token| token as u32).collect();
        let search = BeamSearch { beams: 3, length_penalty: 1.0, max_new_tokens: beam.len() - given };
        let vocabulary = Vocabulary { known: checkpoint.model.vocab_size, end_tokens: &[] };
        let writer = writer();
        let found = search.run(&writer, &checkpoint.model, &beam[..given], &vocabulary, &device, &|| false);
        assert_eq!(pollster::block_on(found).unwrap().0, beam[given..], "{name}");
        compared += 1;
    }
    assert_eq!(compared, 11);
}

/// Expected tokens come from
/// `model.generate(prompt_ids, attention_mask=prompt_mask, do_sample=False, max_new_tokens=8)`.
#[test]
fn prompts_of_different_lengths_are_continued_as_by_transformers() {
    let device = Choice::cpu().open().unwrap();
    let bytes = std::fs::read(fixture("qwen2").join("fixture.safetensors")).unwrap();
    let read = |name| tensors::read_i64(&bytes, name).unwrap();
    let ((shape, ids), (_, mask)) = (read("prompt_ids"), read("prompt_mask"));
    let (whole, written) = read("generated_padded");
    let real = |row: usize| (row * shape[1]..(row + 1) * shape[1]).filter(|&place| mask[place] == 1);
    let prompts: Vec<Vec<u32>> =
        (0..shape[0]).map(|row| real(row).map(|place| ids[place] as u32).collect()).collect();
    assert!(prompts[0].len() > prompts[1].len());
    let checkpoint = Checkpoint::open_model(&fixture("qwen2")).unwrap();
    let model = checkpoint.build(Weights::Latest, &device).unwrap();
    let Model::Decoder(decoder) = &model else { panic!("qwen2 is a decoder") };
    let sample = SampleConfig { temperature: 0.0, max_new_tokens: whole[1] - shape[1], ..Default::default() };
    let writer = TextDecoder::DecoderOnly(decoder);
    let mut found = vec![Vec::new(); prompts.len()];
    let mut ends = |row: usize, token: u32, _: &[f32]| {
        found[row].push(i64::from(token));
        Ok(false)
    };
    let (model, known) = (&checkpoint.model, checkpoint.model.vocab_size);
    let generated = generate(&writer, model, prompts, known, 0, &sample, &device, &mut ends);
    pollster::block_on(generated).unwrap();
    for (row, found) in found.into_iter().enumerate() {
        let expected = &written[row * whole[1] + shape[1]..(row + 1) * whole[1]];
        assert_eq!(found, expected, "row {row}");
    }
}

#[test]
fn a_model_that_is_off_is_found_out() {
    let folder = folder();
    let copy = copy_of("gpt2", &folder);
    ok(kiln(["verify", "--device", "cpu"]).arg(&copy));
    let config = std::fs::read_to_string(copy.join("config.json")).unwrap();
    std::fs::write(copy.join("config.json"), config.replace("gelu_new", "relu")).unwrap();
    fails(kiln(["verify", "--device", "cpu"]).arg(&copy), 1, &["logits: error", "more"]);
    std::fs::remove_file(copy.join("fixture.safetensors")).unwrap();
    fails(kiln(["verify", "--device", "cpu"]).arg(&copy), 2, &["fixture.safetensors", "hint: "]);
}

#[test]
fn a_checkpoint_as_the_hub_has_it() {
    // GPT-2's own: names without `transformer.`, and attention masks as bytes or booleans.
    use safetensors::{Dtype, SafeTensors, tensor::TensorView};
    let folder = folder();
    let copy = copy_of("gpt2", &folder);
    let path = copy.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mask = [1u8; 4];
    let buffer = |dtype| TensorView::new(dtype, vec![1, 1, 2, 2], &mask).unwrap();
    let mut renamed: Vec<(String, TensorView)> = tensors
        .iter()
        .map(|(name, view)| (name.strip_prefix("transformer.").unwrap_or(name).to_owned(), view))
        .collect();
    renamed.push(("h.0.attn.bias".into(), buffer(Dtype::BOOL)));
    renamed.push(("h.1.attn.masked_bias".into(), buffer(Dtype::U8)));
    std::fs::write(&path, safetensors::serialize(renamed, None).unwrap()).unwrap();
    ok(kiln(["verify", "--device", "cpu"]).arg(&copy));

    let config = std::fs::read_to_string(copy.join("config.json")).unwrap();
    let scaled = config.replace("layer_idx\": false", "layer_idx\": true");
    std::fs::write(copy.join("config.json"), scaled).unwrap();
    let refused = ["config.json", "`scale_attn_by_inverse_layer_idx` is `true`", "hint: "];
    fails(kiln(["verify", "--device", "cpu"]).arg(&copy), 2, &refused);
}
