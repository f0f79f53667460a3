"""Loads a Kiln checkpoint with Hugging Face transformers and holds Kiln to what it computes.

    pip install torch==2.9.1 transformers==5.23.0
    kiln train --preset debug --out RUN
    python examples/check_transformers.py RUN/checkpoints/latest kiln

Fails if transformers reports weights as missing or left over, if tokens or greedy text differ, or if
`kiln verify` finds logits, gradients or AdamW losses out of tolerance.
"""
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

TEXT = "To be, or not to be, that is the question: whether it is nobler"


class Messages(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def reference(model):
    """Reference numbers as `kiln verify` reads them (see src/eval/verify.rs)."""
    torch.manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (2, min(16, model.config.max_position_embeddings)))
    batch = dict(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
    out = model(**batch)
    out.loss.backward()
    tensors = dict(batch, labels=ids.clone(), logits=out.logits.detach(), loss=out.loss.detach().reshape(1))
    tensors |= {"grad." + name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(**batch).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return tensors | {"adamw_losses": torch.tensor(losses)}


def main(folder, kiln):
    def run(*arguments):
        return subprocess.run([kiln, *arguments], capture_output=True, text=True, check=True).stdout

    messages = Messages()
    transformers.logging.get_logger("transformers").addHandler(messages)
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    # For qwen2, AutoTokenizer passes over the class that tokenizer_config.json names.
    tokenizers = PreTrainedTokenizerFast if model.config.model_type == "qwen2" else AutoTokenizer
    tokenizer = tokenizers.from_pretrained(folder)
    model.eval()
    about_weights = [text for text in messages.texts if "weight" in text.lower()]
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), loading
    assert not about_weights, about_weights

    ids = tokenizer.encode(TEXT)
    ours = run("tokenizer", "encode", TEXT, "--tokenizer", os.path.join(folder, "tokenizer.json"))
    assert ids == [int(token) for token in ours.split()] and tokenizer.decode(ids) == TEXT

    context = model.config.max_position_embeddings
    prompt_ids = ids[: max(2, context // 2)]
    prompt, count = tokenizer.decode(prompt_ids), context - len(prompt_ids)
    greedy = model.generate(torch.tensor([prompt_ids]), max_new_tokens=count, do_sample=False)[0]
    written = run("generate", "--json", "--device", "cpu", "--temperature", "0", "--prompt", prompt,
                  "--max-new-tokens", str(count), folder)
    assert tokenizer.decode(greedy) == prompt + json.loads(written)["text"]

    with tempfile.TemporaryDirectory() as copy:
        for name in ("model.safetensors", "config.json"):
            shutil.copy(os.path.join(folder, name), copy)
        tensors = {name: tensor.contiguous() for name, tensor in reference(model).items()}
        save_file(tensors, os.path.join(copy, "fixture.safetensors"))
        print(type(model).__name__, folder)
        print(run("verify", "--device", "cpu", copy), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
