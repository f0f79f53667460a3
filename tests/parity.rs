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

#[test]
fn logits_gradients_and_adamw_equal_pytorch() {
    let device = Choice::cpu().open().unwrap();
    for family in ["gpt2", "llama"] {
        let found = pollster::block_on(verify(&fixture(family), &device)).unwrap();
        assert_eq!(found.failures(&Tolerances::strict()), Vec::<String>::new(), "{family}");
        assert_eq!(found.adamw.len(), 4);
    }
}

#[test]
fn a_model_that_is_off_is_found_out() {
    let folder = folder();
    let copy = folder.path().join("gpt2");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(fixture("gpt2")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    ok(kiln(["verify", "--device", "cpu"]).arg(&copy));
    let config = std::fs::read_to_string(copy.join("config.json")).unwrap();
    std::fs::write(copy.join("config.json"), config.replace("gelu_new", "relu")).unwrap();
    fails(kiln(["verify", "--device", "cpu"]).arg(&copy), 1, &["logits: error", "more"]);
    std::fs::remove_file(copy.join("fixture.safetensors")).unwrap();
    fails(kiln(["verify", "--device", "cpu"]).arg(&copy), 2, &["fixture.safetensors", "hint: "]);
}
