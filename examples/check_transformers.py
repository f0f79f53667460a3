"""Loads a Kiln checkpoint with Hugging Face transformers and holds Kiln to what it computes.

    pip install torch==2.9.1 transformers==5.23.0
    kiln train --preset debug --out RUN
    python examples/check_transformers.py RUN/checkpoints/latest kiln

Takes decoders, encoders and encoder-decoders. Fails if transformers reports weights as missing or left over, if
tokens or greedy text differ, or if `kiln verify` finds logits, gradients or AdamW losses out of tolerance.
"""

import argparse
import json
import logging
import os
import shutil
import subprocess
import tempfile

from needed import require

TEXT = "To be, or not to be, that is the question: whether it is nobler"
# For these, AutoTokenizer passes over the class that tokenizer_config.json names.
OWN_CLASS = ("qwen2", "t5")


class Messages(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def labels(model, ids):
    """Something to learn for each kind of model."""
    import torch

    kind = type(model).__name__
    if kind.endswith("ForSequenceClassification"):
        regression = model.config.problem_type == "regression"
        return torch.randn(len(ids)) if regression else torch.arange(len(ids)) % model.config.num_labels
    if kind.endswith(("ForMaskedLM", "ForTokenClassification")):
        choices = model.config.num_labels if "Token" in kind else model.config.vocab_size
        return torch.randint(0, choices, ids.shape).masked_fill(torch.rand(ids.shape) < 0.5, -100)
    return ids[:, :9].clone() if model.config.is_encoder_decoder else ids.clone()


def reference(model, context):
    """Reference numbers as `kiln verify` reads them (see src/engine/eval/verify.rs)."""
    import torch

    torch.manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (2, min(16, context)))
    batch = dict(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels(model, ids))
    out = model(**batch)
    out.loss.backward()
    tensors = dict(batch, logits=out.logits.detach(), loss=out.loss.detach().reshape(1))
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


def check(folder, kiln, text):
    import torch
    import transformers
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    def run(*arguments):
        return subprocess.run([kiln, *arguments], capture_output=True, text=True, check=True).stdout

    messages = Messages()
    transformers.logging.get_logger("transformers").addHandler(messages)
    with open(os.path.join(folder, "config.json")) as file:
        kind = getattr(transformers, json.load(file)["architectures"][0])
    model, loading = kind.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    tokenizers = PreTrainedTokenizerFast if model.config.model_type in OWN_CLASS else AutoTokenizer
    tokenizer = tokenizers.from_pretrained(folder)
    model.eval()
    # transformers 5 says the last of every T5 of version 1.1, its own included.
    own = "we will NOT tie them"
    about_weights = [text for text in messages.texts if "weight" in text.lower() and own not in text]
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), loading
    assert not about_weights, about_weights

    ids = tokenizer.encode(text, add_special_tokens=False)
    ours = run("tokenizer", "encode", text, "--tokenizer", os.path.join(folder, "tokenizer.json"))
    assert ids == [int(token) for token in ours.split()] and tokenizer.decode(ids) == text

    context = getattr(model.config, "max_position_embeddings", None) or getattr(model.config, "n_positions", 512)
    if model.can_generate():
        whole = model.config.is_encoder_decoder
        end = tokenizer.eos_token_id
        prompt_ids = ids[: context - 1] + [end] if whole else ids[: max(2, context // 2)]
        prompt = text if whole else tokenizer.decode(prompt_ids)
        count = min(20, context - 1 if whole else context - len(prompt_ids))
        greedy = model.generate(torch.tensor([prompt_ids]), max_new_tokens=count, do_sample=False)[0]
        written = run("generate", "--json", "--device", "cpu", "--temperature", "0", "--prompt", prompt,
                      "--max-new-tokens", str(count), folder)
        # What a decoder beside an encoder writes follows its start, and stops before the end.
        greedy = [token for token in greedy.tolist()[1:] if token != end] if whole else greedy
        assert tokenizer.decode(greedy) == ("" if whole else prompt) + json.loads(written)["text"]

    with tempfile.TemporaryDirectory() as copy:
        for name in ("model.safetensors", "config.json"):
            shutil.copy(os.path.join(folder, name), copy)
        tensors = {name: tensor.contiguous() for name, tensor in reference(model, context).items()}
        save_file(tensors, os.path.join(copy, "fixture.safetensors"))
        print(type(model).__name__, folder)
        print(run("verify", "--device", "cpu", copy), end="")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a checkpoint folder")
    parser.add_argument("kiln", nargs="?", default="target/release/kiln", help="the binary")
    parser.add_argument("text", nargs="?", default=TEXT, help="what is tokenized and continued")
    arguments = parser.parse_args()
    if not os.path.isfile(os.path.join(arguments.folder, "config.json")):
        parser.error(f"`{arguments.folder}` is no checkpoint: it has no config.json (RUN/checkpoints/latest is one)")
    packages = ["torch", "transformers", "safetensors"]
    require(parser, arguments.kiln, packages, "pip install torch==2.9.1 transformers==5.23.0")
    check(arguments.folder, arguments.kiln, arguments.text)


if __name__ == "__main__":
    main()
