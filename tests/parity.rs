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
//! and the same for Llama (torch 2.9.1, transformers 5.23.0).

use crate::support::{fails, folder, kiln, ok};
use kiln::{
    device::Choice,
    eval::verify::{Tolerances, verify},
};
use std::path::{Path, PathBuf};

pub fn fixture(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(family)
}

/// A copy of a fixture's files, to be changed.
pub fn copy_of(family: &str, folder: &tempfile::TempDir) -> PathBuf {
    let copy = folder.path().join(family);
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(fixture(family)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::write(copy.join(path.file_name().unwrap()), std::fs::read(&path).unwrap()).unwrap();
    }
    copy
}

#[test]
fn logits_gradients_and_adamw_equal_pytorch() {
    let device = Choice::cpu().open().unwrap();
    for family in ["gpt2", "llama", "mixtral"] {
        let found = pollster::block_on(verify(&fixture(family), &device)).unwrap();
        assert_eq!(found.failures(&Tolerances::strict()), Vec::<String>::new(), "{family}");
        assert_eq!(found.adamw.len(), 4);
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
