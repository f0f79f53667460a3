"""Holds Kiln to what Python's own tools compute of a real model: SmolLM2-135M-Instruct, from its GGUF file.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 gguf==0.19.0 chitchat-dataset==0.9.0
    cargo build --release
    python examples/check_smollm2.py target/release/kiln

The reference is made by examples/smollm2.py: the tensors that the package `gguf` dequantizes in transformers, and a
tokenizer of `tokenizers` from the metadata. Prints a line for each check, and ends with 1 if one fails:

- tokens of 1,000 texts; tokens and trained part of dialogues by the chat template
- tensors as `kiln convert` writes them; logits, loss, gradients (`kiln verify`); greedy text; an answer of `kiln chat`
- loss on held-out dialogues, before and after a LoRA is trained on others, which lowers it and leaves the file alone
- the adapter in PEFT: logits, gradients; merged by `kiln merge`: the same logits; as GGUF: the same tensors and text

Needs Node 20 and 4 GiB of memory; takes about 15 minutes on two cores, of which training takes most.
FOLDER keeps all files; without it they go to a temporary folder. --quick trains for 4 steps and holds 8 dialogues out.
"""

import argparse
import glob
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import smollm2
from needed import require

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n",
    "Water boils at",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
]
QUESTION = "What is the capital of France?"
NEW_TOKENS = 40
# Ranges of characters that texts are made of: several alphabets, signs, white space, emoji.
RANGES = [(32, 127), (0xA0, 0x24F), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x2000, 0x206F), (0x2100, 0x2BFF),
          (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (9, 14)]
SEPARATOR = "<repo_name>"
BETWEEN = ["", " ", "  ", "\n", "\r\n", "\t", "12", "2026", "'s", "'LL", "<|im_end|>", "<|im_start|>", "<|endoftext|>"]
# Decrease of the loss on held-out dialogues, in nats for each token of an answer.
IMPROVEMENT, QUICK_IMPROVEMENT = 0.3, 0.0
STEPS, HELD_OUT = 60, 64
# Longest dialogue that is trained or held out, and tokens of which logits and gradients are compared.
CONTEXT, TOKENS = 256, 32


class Checks:
    failures = 0

    def __call__(self, passed, what, found):
        self.failures += not passed
        print(f"{'ok' if passed else 'FAILED':7}{what}: {found}", flush=True)

    def at_most(self, what, found, bound):
        self(found <= bound, what, f"{found:.2e} (at most {bound:.0e})")


class Kiln:
    def __init__(self, program):
        self.program = program

    def __call__(self, *words, stdin=None, check=True):
        command = [self.program, *map(str, words)]
        # As bytes, since Python would turn the line breaks of Windows into others.
        done = subprocess.run(command, capture_output=True, input=(stdin or "").encode())
        if check and done.returncode != 0:
            sys.exit(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stderr.decode()}")
        return done.stdout.decode()

    def generate(self, model, prompts, file):
        smollm2.write_lines(file, [{"text": prompt} for prompt in prompts])
        lines = self("generate", model, "--device", "cpu", "--prompts", file, "--temperature", "0",
                     "--max-new-tokens", NEW_TOKENS, "--json")
        return [json.loads(line)["text"] for line in lines.splitlines()]

    def loss(self, model, data):
        return json.loads(self("eval", model, "--device", "cpu", "--data", data, "--batch-size", 8, "--json"))


def varied_texts(dialogues, count=1000):
    """What people wrote, programs, and characters of many scripts at random, special tokens among them."""
    generator = random.Random(5)
    texts = generator.sample([message["content"] for dialogue in dialogues for message in dialogue], 400)
    for path in sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "*.py")))[:150]:
        with open(path, encoding="utf-8", errors="replace") as file:
            source = file.read()
        start = generator.randrange(max(1, len(source) - 500))
        texts.append(source[start : start + 500])
    while len(texts) < count:
        words = []
        for _ in range(generator.randrange(1, 60)):
            first, last = generator.choice(RANGES)
            words += [chr(generator.randrange(first, last)) for _ in range(generator.randrange(1, 6))]
            words.append(generator.choice(BETWEEN))
        texts.append("".join(words))
    return [text if text.strip() else "." for text in texts[:count]]


def check_tokens(check, kiln, gguf, tokenizer, dialogues):
    """Compares tokens of texts, which go to Kiln as one with a token between them that is in none of them."""
    texts = varied_texts(dialogues)
    between = tokenizer.convert_tokens_to_ids(SEPARATOR)
    ours = [[]]
    for token in map(int, kiln("tokenizer", "encode", "--tokenizer", gguf, stdin=SEPARATOR.join(texts)).split()):
        if token == between:
            ours.append([])
        else:
            ours[-1].append(token)
    theirs = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    equal = sum(a == b for a, b in zip(ours, theirs))
    found = f"{equal} of {len(texts)} equal, {sum(map(len, theirs)):,} tokens"
    check(len(ours) == len(texts) == equal, "tokens of texts", found)


def check_templates(check, kiln, gguf, rows, file):
    """Compares tokens and trained part of dialogues."""
    shown = json.loads(kiln("preview", file, "--model", gguf, "--rows", len(rows), "--json"))["shown"]
    ours = [[(token["id"], token["weight"] != 0) for token in row["tokens"]] for row in shown]
    equal = sum(row == list(zip(*expected)) for row, expected in zip(ours, rows))
    trained = sum(sum(trained) for _, trained in rows)
    found = f"{equal} of {len(rows)} equal, {sum(len(tokens) for tokens, _ in rows):,} tokens, {trained:,} trained"
    check(len(ours) == len(rows) == equal, "tokens and trained part of dialogues", found)


def check_same_tensors(check, what, ours, theirs):
    import numpy

    differ = [name for name in theirs if name not in ours or not numpy.array_equal(ours[name], theirs[name])]
    differ += [name for name in ours if name not in theirs]
    which = f", not {', '.join(differ[:3])}" if differ else ""
    check(not differ, what, f"{sum(name not in differ for name in theirs)} of {len(theirs)} equal{which}")


def references(model, tokenizer, dialogues, gradients_by):
    """Numbers for `kiln verify` of some dialogues: logits, computed in f64, loss and gradients. Also returns how far
    transformers' own logits in f32 are from them.
    """
    import torch

    rows = [smollm2.templated(tokenizer, messages) for messages in dialogues]
    inputs = smollm2.batch([(tokens[:TOKENS], trained[:TOKENS]) for tokens, trained in rows], tokenizer.pad_token_id)
    # All tokens count, but not padding.
    inputs["labels"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    # Otherwise the token that ends answers, with which rows are filled up, has no gradient where it is read.
    model.get_input_embeddings().padding_idx = None
    model.zero_grad()
    out = model(**inputs)
    out.loss.backward()
    tensors = dict(inputs, loss=out.loss.detach().reshape(1), adamw_losses=out.loss.detach().reshape(1))
    tensors |= {f"grad.{name}": gradient for name, gradient in gradients_by(model)}
    tensors = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    model.zero_grad()
    with torch.inference_mode():
        logits = model.double()(**inputs).logits.float()
    model.float()
    own = (out.logits.detach() - logits)[inputs["attention_mask"].bool()].abs().max().item()
    return tensors | {"logits": logits.clone().contiguous()}, own


def of_parameters(model):
    return [(name, parameter.grad) for name, parameter in model.named_parameters()]


def of_adapter(model):
    """Gradients by the names of PEFT's files."""
    changed = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [(name.replace(".default.", "."), parameter.grad) for name, parameter in changed]


def bound_of(own):
    """Largest difference of logits from those in double precision, given that of transformers in single precision. It
    grows with the logits, of which a trained model has larger ones."""
    return max(1e-4, 2 * own)


def check_model(check, kiln, what, folder, tensors, own):
    """Compares a model in a folder with reference numbers."""
    from safetensors.torch import save_file

    save_file(tensors, os.path.join(folder, "fixture.safetensors"))
    errors = json.loads(kiln("verify", folder, "--device", "cpu", "--json", check=False) or "{}").get("errors")
    if errors is None:
        check(False, what, "`kiln verify` fails")
        return
    check.at_most(f"{what}, logits ({own:.1e} in f32 in transformers)", errors["logits"], bound_of(own))
    check.at_most(f"{what}, loss", errors["loss"], 1e-5)
    check.at_most(f"{what}, gradients", max(error for _, error in errors["gradients"]), 1e-3)


def check_adapter(check, kiln, adapter, folder, tensors, own):
    """Compares an adapter with PEFT's numbers, beside its model and merged into it in memory."""
    from safetensors.torch import save_file

    place = os.path.join(folder, "adapters", "lora", "smollm2")
    os.makedirs(place, exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(os.path.join(adapter, name), place)
    save_file(tensors, os.path.join(place, "fixture.safetensors"))
    words = ("verify", os.path.join(folder, "adapters"), "--device", "cpu", "--json")
    subjects = json.loads(kiln(*words, check=False) or "{}").get("subjects") or [{"cases": [], "error": "no result"}]
    if not subjects[0]["cases"]:
        check(False, "adapter in PEFT", f"`kiln verify` fails: {subjects[0]['error']}")
        return
    differences = subjects[0]["cases"][0]["differences"]
    for what in ("logits", "logits of the merged model", "loss"):
        of_kind = [d for d in differences if d["what"] == what]
        bound = of_kind[0]["bound"] if what == "loss" else bound_of(own)
        check.at_most(f"adapter in PEFT, {what}", max(d["found"] for d in of_kind), bound)
    gradients = [d for d in differences if d["what"].startswith("gradient")]
    check.at_most(f"adapter in PEFT, {len(gradients)} gradients", max(d["found"] for d in gradients), 1e-3)
    written = [d for d in differences if d["bound"] == 0]
    check(not any(d["found"] for d in written), "adapter in PEFT, tensors and settings as Kiln writes them again",
          f"{sum(not d['found'] for d in written)} of {len(written)} equal")


def loss(model, tokenizer, rows):
    """Mean loss of the trained tokens of dialogues, one at a time."""
    import torch

    total, count = 0.0, 0
    with torch.inference_mode():
        for row in rows:
            inputs = smollm2.batch([row], tokenizer.pad_token_id)
            targets = (inputs["labels"][:, 1:] != -100).sum().item()
            total += model(**inputs).loss.item() * targets
            count += targets
    return total / count


def greedy(model, tokenizer, prompts):
    import torch

    texts = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False)])
        with torch.inference_mode():
            written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS,
                                     do_sample=False, pad_token_id=tokenizer.pad_token_id)
        texts.append(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


def check_greedy(check, what, ours, theirs):
    equal = sum(a == b for a, b in zip(ours, theirs))
    found = f"{equal} of {len(theirs)} equal"
    for prompt, own, other in zip(PROMPTS, ours, theirs):
        if own != other:
            found += f"\n       after {prompt!r}\n       Kiln  {own!r}\n       other {other!r}"
    check(len(ours) == len(theirs) == equal, what, found)


def hash_of(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def check_gguf(check, kiln, merged, folder, tokenizer):
    """Compares the merged model as GGUF, in f32 and quantized, with its tensors."""
    import numpy
    from gguf import GGMLQuantizationType, quantize
    from safetensors.numpy import load_file

    expected = load_file(os.path.join(merged, "model.safetensors"))
    paths = {kind: os.path.join(folder, f"merged-{kind}.gguf") for kind in ("f32", "q8_0")}
    for kind, path in paths.items():
        kiln("convert", merged, path, "--dtype", kind)
    written = smollm2.Gguf(paths["f32"])
    check_same_tensors(check, "merged GGUF, tensors", written.tensors(), expected)
    plain = {tensor.name: tensor.data for tensor in written.reader.tensors}
    wrong = []
    for tensor in smollm2.Gguf(paths["q8_0"]).reader.tensors:
        is_matrix = tensor.tensor_type == GGMLQuantizationType.Q8_0
        values = quantize(plain[tensor.name], tensor.tensor_type) if is_matrix else plain[tensor.name]
        wrong += [tensor.name] if is_matrix != (len(tensor.shape) == 2) else []
        wrong += [] if numpy.array_equal(values, tensor.data) else [tensor.name]
    equal = len(plain) - len(wrong)
    check(not wrong, "merged GGUF in Q8_0, tensors as `gguf` quantizes them", f"{equal} of {len(plain)} equal")
    own, text = written.tokenizer(), tokenizer.decode(range(3, 3000))
    same = own.encode(text) == tokenizer.encode(text) and own.chat_template == tokenizer.chat_template
    check(same, "merged GGUF, tokenizer and chat template", "equal" if same else "not equal")
    return paths["f32"]


def run(kiln, folder, steps, held_out_count, improvement):
    import torch
    from peft import PeftModel
    from safetensors.numpy import load_file
    from transformers import LlamaForCausalLM

    check, at = Checks(), lambda *names: os.path.join(folder, *names)
    gguf = smollm2.fetch(folder)
    before = hash_of(gguf)
    source = smollm2.Gguf(gguf)
    tokenizer = source.tokenizer()
    dialogues = smollm2.dialogues()
    random.Random(1).shuffle(dialogues)
    rows = [smollm2.templated(tokenizer, messages) for messages in dialogues[: 2 * held_out_count]]
    # Kiln would cut a longer one.
    fits = [number for number, (tokens, _) in enumerate(rows) if len(tokens) <= CONTEXT][:held_out_count]
    held_out, rows = [dialogues[number] for number in fits], [rows[number] for number in fits]
    others = dialogues[2 * held_out_count :]
    for name, part in (("held-out", held_out), ("train", others)):
        smollm2.write_lines(at(f"{name}.jsonl"), [{"messages": messages} for messages in part])

    check_tokens(check, kiln, gguf, tokenizer, dialogues)
    check_templates(check, kiln, gguf, rows, at("held-out.jsonl"))

    # The model as it is.
    kiln("convert", gguf, at("base"), "--dtype", "f32")
    check_same_tensors(check, "tensors, dequantized", load_file(at("base", "model.safetensors")), source.tensors())
    model = source.model()
    check_model(check, kiln, "SmolLM2", at("base"), *references(model, tokenizer, held_out[:2], of_parameters))
    theirs = greedy(model, tokenizer, PROMPTS)
    check_greedy(check, "greedy text", kiln.generate(gguf, PROMPTS, at("prompts.jsonl")), theirs)
    messages = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    answer = kiln("chat", gguf, "--device", "cpu", "--set", "temperature=0", "--set", f"max_new_tokens={NEW_TOKENS}",
                  stdin=QUESTION + "\n").strip()
    expected = greedy(model, tokenizer, [prompt])[0].strip()
    is_right = answer == expected and "Paris" in answer
    check(is_right, f"{QUESTION!r} in `kiln chat`, answered as by transformers", repr(answer))
    loss_before = loss(model, tokenizer, rows)
    ours = kiln.loss(gguf, at("held-out.jsonl"))
    check.at_most(f"loss on {len(rows)} held-out dialogues, {loss_before:.4f} nats",
                  abs(ours["loss"] - loss_before), 1e-4)

    # A LoRA.
    settings = {"objective.kind": "sft", "data.packing": "true", "data.order": "shuffled", "model.block_size": CONTEXT,
                "data.val_fraction": 0, "train.batch_size": 4, "train.max_steps": steps, "train.learning_rate": 5e-4,
                "train.min_lr": 5e-5, "train.warmup_steps": 5, "train.eval_interval": 0, "train.sample_interval": 0,
                "sample.max_new_tokens": 1}
    shutil.rmtree(at("lora"), ignore_errors=True)
    kiln("train", "--quiet", "--device", "cpu", "--preset", "lora", "--init-from", gguf, "--data", at("train.jsonl"),
         "--out", at("lora"), *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")))
    adapter = at("lora", "checkpoints", "latest")
    loss_after = kiln.loss(at("lora"), at("held-out.jsonl"))["loss"]
    gain = loss_before - loss_after
    check(gain > improvement, f"held-out loss after {steps} steps of LoRA",
          f"{loss_before:.4f} to {loss_after:.4f} nats, {gain:.4f} less (over {improvement})")
    check(hash_of(gguf) == before, "SHA-256 of the base", before[:16])
    peft = PeftModel.from_pretrained(model, adapter, is_trainable=True).eval()
    check.at_most("held-out loss in PEFT", abs(loss(peft, tokenizer, rows) - loss_after), 1e-4)
    numbers, own = references(peft, tokenizer, held_out[:2], of_adapter)
    check_adapter(check, kiln, adapter, folder, numbers, own)

    # Merged.
    shutil.rmtree(at("merged"), ignore_errors=True)
    kiln("merge", at("lora"), "--out", at("merged"), "--dtype", "f32")
    merged = LlamaForCausalLM.from_pretrained(at("merged"), dtype=torch.float32).eval()
    with_gradients, _ = references(merged, tokenizer, held_out[:2], of_parameters)
    # The logits of the model with the adapter beside it.
    check_model(check, kiln, "merged model", at("merged"), with_gradients | {"logits": numbers["logits"]}, own)
    found = kiln.loss(at("merged"), at("held-out.jsonl"))["loss"]
    check.at_most("held-out loss of the merged model", abs(found - loss_after), 1e-5)
    as_gguf = check_gguf(check, kiln, at("merged"), folder, tokenizer)
    tuned = kiln.generate(at("lora"), PROMPTS, at("prompts.jsonl"))
    check_greedy(check, "greedy text of the adapter and of PEFT", tuned, greedy(peft, tokenizer, PROMPTS))
    check_greedy(check, "greedy text of the merged GGUF", kiln.generate(as_gguf, PROMPTS, at("prompts.jsonl")), tuned)
    return check.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kiln", help="the binary")
    parser.add_argument("folder", nargs="?", help="where files are kept")
    parser.add_argument("--quick", action="store_true", help="train for 4 steps")
    arguments = parser.parse_args()
    packages = ["torch", "transformers", "safetensors", "peft", "gguf", "chitchat_dataset"]
    install = "pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 gguf==0.19.0 chitchat-dataset==0.9.0"
    require(parser, arguments.kiln, packages, install)
    sizes = (4, 8, QUICK_IMPROVEMENT) if arguments.quick else (STEPS, HELD_OUT, IMPROVEMENT)
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.path.abspath(arguments.folder or temporary)
        os.makedirs(folder, exist_ok=True)
        shutil.rmtree(os.path.join(folder, "base"), ignore_errors=True)
        for name in ("merged-f32.gguf", "merged-q8_0.gguf"):
            if os.path.exists(os.path.join(folder, name)):
                os.remove(os.path.join(folder, name))
        failures = run(Kiln(arguments.kiln), folder, *sizes)
    if failures:
        sys.exit(f"{failures} checks failed")


if __name__ == "__main__":
    main()
