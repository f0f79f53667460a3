"""Loads a Kiln checkpoint with Hugging Face transformers and compares logits and tokens.

    pip install torch==2.9.1 transformers==5.23.0
    kiln train --preset debug --out RUN
    python examples/check_transformers.py RUN/checkpoints/latest path/to/kiln

Prints the largest difference of the logits that transformers computes from those of Kiln (through
`kiln eval`'s loss on the same text) and fails if anything was reported as missing or left over.
"""
import json
import logging
import math
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = "To be, or not to be, that is the question: whether it is nobler"


class Warnings(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def main(folder, kiln):
    warnings = Warnings()
    transformers.logging.get_logger("transformers").addHandler(warnings)
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    about_weights = [message for message in warnings.messages if "weight" in message.lower()]
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not loading[kind], (kind, loading[kind])
    assert not about_weights, about_weights

    context = model.config.max_position_embeddings
    ids = tokenizer.encode(TEXT)
    expected = subprocess.run([kiln, "tokenizer", "encode", TEXT, "--tokenizer", folder + "/tokenizer.json"],
                              capture_output=True, text=True, check=True).stdout.split()
    assert ids == [int(token) for token in expected], "transformers and kiln disagree about the tokens"
    assert tokenizer.decode(ids) == TEXT

    ids = torch.tensor(ids[:context])
    with torch.no_grad():
        logits = model(input_ids=ids[None, :]).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], ids[1:]).item()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
        text.write(tokenizer.decode(ids))
        text.flush()
        command = [kiln, "eval", "--json", "--device", "cpu", "--data", text.name, folder]
        ours = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    difference = abs(loss - ours["loss"])
    # Generation at temperature 0 follows the largest logit at each position.
    kept = ids[: max(2, context // 2)]
    prompt = tokenizer.decode(kept)
    count = context - len(kept)
    greedy = model.generate(kept[None, :], max_new_tokens=count, do_sample=False)[0]
    command = [kiln, "generate", "--json", "--device", "cpu", "--temperature", "0", "--prompt", prompt,
               "--max-new-tokens", str(count), folder]
    written = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    same = tokenizer.decode(greedy) == prompt + written["text"]
    print(f"{type(model).__name__}: loss differs by {difference:.1e}, greedy text of {count} tokens "
          f"{'equal' if same else 'differs'}")
    assert difference < 1e-5 and same and math.isfinite(loss)


if __name__ == "__main__":
    main(*sys.argv[1:])
