"""Post-training in Kiln and in PyTorch by turns: instruction tuning, LoRA, GRPO, loading a model; prints the ratios.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 gguf==0.19.0 chitchat-dataset==0.9.0
    cargo build --release
    python examples/compare_post_training.py target/release/kiln

Both sides have the same models, texts, optimizer (AdamW, fused in PyTorch, clipping to a norm of 1), f32, and number of
threads. Every round starts each side anew, one after the other, in processes of their own; medians over the rounds are
compared. Steps are timed after the first two. Peak memory is the largest resident set of the process, all of it.

    sft        instruction tuning of a llama of 10.7M parameters on answers of many lengths: tokens/s, padding not
               counted. Kiln packs 8 rows of 256; PyTorch fills up as many dialogues as have the same number of tokens
    lora       LoRA on SmolLM2-135M, rank 16, all linear layers, rows of 256 tokens, against peft: tokens/s and memory
    grpo       a step of GRPO on 10.7M parameters: 8 prompts, 8 answers each of up to 64 tokens, sampled, scored by a
               rule, trained on; against a loop over transformers' generate. With trl installed, its trainer as well
    load       from the start of the process to the first token of SmolLM2: Kiln from GGUF, transformers from the same
               file and from its f32 safetensors

    --only NAME ...            some of these
    --rounds 3   --threads 2   how often, and on how many threads
    --rows 4                   rows of a step of LoRA
    --quick                    one round of few steps, to see that everything runs: its figures say little
    --json FILE                all figures
    --folder DIR               keeps models and texts; without it they go to a temporary folder

Needs Node 20, 6 GiB of memory and 1.5 GB on disk. A ratio holds for one kind of processor only: the output names it.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import smollm2
from needed import require

CONTEXT, PACKED_ROWS = 256, 8
PROMPTS, GROUP, NEW_TOKENS = 8, 8, 64
# Letters side by side: about half of the answers of an untrained model have them.
REWARDED = "[a-z]{2}"
TARGETS, RANK, ALPHA = "all-linear", 16, 32
PROMPT = "The capital of France is"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GOALS = {
    "sft": "at least 3", "lora": "at least 1.5 (Zen 4: 1.2)", "memory": "at most 0.6", "grpo": "at least 3",
    "load": "at most 0.3",
}


# What both sides are given.


def small_model(folder):
    """Saves an untrained llama of 10.7M parameters and a tokenizer of bytes."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHATML
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
        max_position_embeddings=CONTEXT, vocab_size=len(tokenizer), tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer, sum(parameter.numel() for parameter in model.parameters())


def prepare(folder):
    """Saves the small model and all texts; returns what there is to know of them."""
    at = lambda name: os.path.join(folder, name)
    dialogues = smollm2.dialogues()
    random.Random(1).shuffle(dialogues)
    tokenizer, parameters = small_model(at("small"))
    # A question and its answer, of which both fit a row.
    pairs = [dialogue[i : i + 2] for dialogue in dialogues for i in range(0, len(dialogue), 2)]
    room = CONTEXT - len(smollm2.templated(tokenizer, [dict(m, content="") for m in pairs[0]])[0])
    fits = lambda pair: sum(len(message["content"].encode()) for message in pair) <= room
    pairs = [pair for pair in pairs if fits(pair)][:4000]
    smollm2.write_lines(at("pairs.jsonl"), [{"messages": pair} for pair in pairs])
    asked = [message["content"] for message, _ in pairs if 16 <= len(message["content"].encode()) <= 80]
    smollm2.write_lines(at("prompts.jsonl"), [{"prompt": text} for text in asked])
    with open(at("text.txt"), "w", encoding="utf-8") as file:
        file.writelines(message["content"] + "\n" for dialogue in dialogues[:2000] for message in dialogue)
    lengths = [len(smollm2.templated(tokenizer, pair)[0]) for pair in pairs[:500]]
    return {"parameters": parameters, "mean_length": statistics.mean(lengths), "pairs": len(pairs),
            "longest": max(lengths), "prompts": len(asked)}


# PyTorch's side, each in a process of its own.


def lines_of(path, count):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count), file)]


class Steps:
    """A loop of training steps, and when each of them has ended."""

    def __init__(self, model, learning_rate):
        import torch

        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        settings = {"lr": learning_rate, "betas": (0.9, 0.95), "weight_decay": 0.0, "fused": True}
        self.optimizer = torch.optim.AdamW(self.trained, **settings)
        self.clip = torch.nn.utils.clip_grad_norm_
        self.start, self.tokens, self.done, self.losses = time.perf_counter(), 0, [], []

    def take(self, loss, tokens):
        loss.backward()
        self.clip(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(loss.item())
        self.tokens += tokens
        self.done.append([self.tokens, time.perf_counter() - self.start])


def train_on_dialogues(folder, rows, steps):
    """Instruction tuning on batches that are filled up to their longest row."""
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    small = os.path.join(folder, "small")
    tokenizer, model = PreTrainedTokenizerFast.from_pretrained(small), AutoModelForCausalLM.from_pretrained(small)
    records = lines_of(os.path.join(folder, "pairs.jsonl"), rows * steps)
    examples = [smollm2.templated(tokenizer, record["messages"]) for record in records]
    batches = [examples[i : i + rows] for i in range(0, len(examples), rows)]
    batches = [smollm2.batch(batch, tokenizer.pad_token_id) for batch in batches]
    filled = sum(batch["input_ids"].numel() for batch in batches)
    real = sum(batch["attention_mask"].sum().item() for batch in batches)
    loop = Steps(model.train(), 1e-3)
    for batch in batches:
        # As Kiln counts: the last token of a dialogue is only a target.
        loop.take(model(**batch).loss, batch["attention_mask"].sum().item() - rows)
    return {"steps": loop.done, "losses": loop.losses, "padding": 1 - real / filled}


def train_lora(folder, rows, steps):
    """LoRA on SmolLM2 with peft."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    base = os.path.join(folder, "smollm2")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with open(os.path.join(folder, "text.txt"), encoding="utf-8") as file:
        tokens = torch.tensor(tokenizer.encode(file.read()[:200_000], add_special_tokens=False))
    settings = {"r": RANK, "lora_alpha": ALPHA, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    model = get_peft_model(model, LoraConfig(**settings)).train()
    generator = torch.Generator().manual_seed(0)
    loop = Steps(model, 2e-4)
    for _ in range(steps):
        starts = torch.randint(len(tokens) - CONTEXT, (rows,), generator=generator).tolist()
        ids = torch.stack([tokens[start : start + CONTEXT] for start in starts])
        loop.take(model(input_ids=ids, labels=ids).loss, rows * CONTEXT)
    trained = sum(parameter.numel() for parameter in loop.trained)
    return {"steps": loop.done, "losses": loop.losses, "trained": trained}


def reward(text):
    return float(re.search(REWARDED, text) is not None)


def train_grpo(folder, steps):
    """GRPO with DAPO's mean over tokens: answers by transformers' generate, with its cache, all of a step together."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    small = os.path.join(folder, "small")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(small, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(small)
    prompts = [record["prompt"] for record in lines_of(os.path.join(folder, "prompts.jsonl"), PROMPTS * steps)]
    torch.manual_seed(0)
    loop = Steps(model, 1e-5)
    lengths, rewards, sampling = [], [], 0.0
    for step in range(steps):
        asked = prompts[step * PROMPTS : (step + 1) * PROMPTS]
        inputs = tokenizer([prompt for prompt in asked for _ in range(GROUP)], return_tensors="pt", padding=True,
                           add_special_tokens=False, return_token_type_ids=False)
        width = inputs["input_ids"].shape[1]
        began = time.perf_counter()
        # Not `inference_mode`, whose tensors a backward pass may not use.
        with torch.no_grad():
            rows = model.generate(**inputs, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                                  max_new_tokens=NEW_TOKENS, pad_token_id=tokenizer.pad_token_id)
        sampling += time.perf_counter() - began
        answers = rows[:, width:]
        ended = (answers == tokenizer.eos_token_id).long().cumsum(1)
        # Up to the token that ends the answer, itself included.
        mask = ((ended == 0) | ((ended == 1) & (answers == tokenizer.eos_token_id))).float()
        scores = torch.tensor([reward(text) for text in tokenizer.batch_decode(answers, skip_special_tokens=True)])
        groups = scores.view(PROMPTS, GROUP)
        advantages = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
        seen = torch.cat([inputs["attention_mask"], mask.long()], 1)
        places = (seen.cumsum(1) - 1).clamp_min(0)
        out = model(input_ids=rows, attention_mask=seen, position_ids=places, use_cache=False,
                    logits_to_keep=answers.shape[1] + 1)
        log_p = torch.log_softmax(out.logits[:, :-1], -1).gather(2, answers.unsqueeze(2)).squeeze(2)
        ratio = (log_p - log_p.detach()).exp()
        gains = torch.minimum(ratio * advantages.view(-1, 1), ratio.clamp(0.8, 1.28) * advantages.view(-1, 1))
        loop.take(-(gains * mask).sum() / mask.sum(), int(seen.sum()))
        lengths.append(mask.sum(1).mean().item())
        rewards.append(scores.mean().item())
    return {"steps": loop.done, "answer_length": statistics.mean(lengths), "reward": statistics.mean(rewards),
            "sampling": sampling / steps}


def train_grpo_with_trl(folder, steps):
    """The same by trl's trainer."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    small = os.path.join(folder, "small")
    done, start = [], time.perf_counter()

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            done.append([0, time.perf_counter() - start])

    def reward_of(completions, **_):
        return [reward(text) for text in completions]

    with tempfile.TemporaryDirectory() as out:
        settings = GRPOConfig(
            output_dir=out, per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP, max_steps=steps,
            max_completion_length=NEW_TOKENS, temperature=1.0, top_k=0, beta=0.0, learning_rate=1e-5, weight_decay=0.0,
            lr_scheduler_type="constant", report_to="none", save_strategy="no", logging_steps=1000, disable_tqdm=True,
            use_cpu=True, bf16=False, gradient_checkpointing=False, seed=0,
        )
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(small), reward_funcs=reward_of, args=settings,
            processing_class=PreTrainedTokenizerFast.from_pretrained(small, padding_side="left"), callbacks=[Clock()],
            train_dataset=Dataset.from_list(lines_of(os.path.join(folder, "prompts.jsonl"), PROMPTS * (steps + 1))),
        )
        start = time.perf_counter()
        trainer.train()
    return {"steps": done}


def first_token(folder, name):
    """Loads SmolLM2 from GGUF, or else from safetensors, and generates a token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": name} if name.endswith(".gguf") else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    ids = torch.tensor([tokenizer.encode(PROMPT, add_special_tokens=False)])
    with torch.inference_mode():
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False)
    return {"text": tokenizer.decode(written[0, ids.shape[1] :])}


def versions():
    import importlib.metadata

    names = ["torch", "transformers", "peft", "trl"]
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


WORKERS = {
    "prepare": prepare, "sft": train_on_dialogues, "lora": train_lora, "grpo": train_grpo, "trl": train_grpo_with_trl,
    "load": first_token, "versions": versions,
}


# The comparison.


class Sides:
    """Starts both sides with the same number of threads, and measures them from outside."""

    def __init__(self, kiln, threads, folder):
        self.kiln_program, self.threads, self.folder = kiln, str(threads), folder

    def measured(self, command, environment):
        """What a process prints, the seconds until then, and its peak memory in bytes."""
        with tempfile.TemporaryFile("w+", errors="replace") as messages:
            start = time.perf_counter()
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=messages)
            output = process.stdout.read()
            seconds = time.perf_counter() - start
            process.stdout.close()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                messages.seek(0)
                text = messages.read()[-3000:]
                sys.exit(f"`{' '.join(command)}` ended with {process.returncode}:\n{text}")
        return output.decode(), seconds, usage.ru_maxrss * 1024

    def torch(self, name, *words):
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), self.threads)
        environment = dict(os.environ, TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", **threads)
        command = [sys.executable, os.path.abspath(__file__), self.kiln_program, "--worker", name, json.dumps(words)]
        output, seconds, memory = self.measured(command, environment)
        return dict(json.loads(output.splitlines()[-1]), seconds=seconds, memory=memory)

    def kiln(self, *words):
        command = [self.kiln_program, *map(str, words)]
        output, seconds, memory = self.measured(command, dict(os.environ, RAYON_NUM_THREADS=self.threads))
        return {"output": output, "seconds": seconds, "memory": memory}

    def kiln_training(self, preset, model, data, steps, settings):
        """Trains some steps; what the log of the run has of each is added."""
        run = os.path.join(self.folder, "run")
        shutil.rmtree(run, ignore_errors=True)
        settings = settings | {
            "train.max_steps": steps, "train.log_interval": 1, "train.eval_interval": 0, "train.sample_interval": 0,
            "train.weight_decay": 0, "train.beta2": 0.95, "train.warmup_steps": 0, "train.schedule": "constant",
            "train.save_interval": 0, "data.val_fraction": 0, "sample.max_new_tokens": 1,
        }
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        found = self.kiln("train", "--quiet", "--device", "cpu", "--preset", preset, "--init-from", model,
                          "--data", data, "--out", run, *words)
        with open(os.path.join(run, "log.jsonl"), encoding="utf-8") as file:
            events = [json.loads(line) for line in file]
        shutil.rmtree(run)
        found["events"] = [event for event in events if event["type"] == "step"]
        found["steps"] = [[event["tokens"], event["seconds"]] for event in found["events"]]
        found["losses"] = [event["loss"] for event in found["events"]]
        return found


WARMUP = 2


def tokens_per_second(run):
    (tokens, seconds), (all_tokens, all_seconds) = run["steps"][WARMUP - 1], run["steps"][-1]
    return (all_tokens - tokens) / (all_seconds - seconds)


def seconds_per_step(run):
    (_, seconds), (_, all_seconds) = run["steps"][WARMUP - 1], run["steps"][-1]
    return (all_seconds - seconds) / (len(run["steps"]) - WARMUP)


class Comparison:
    def __init__(self, sides, arguments, facts):
        self.sides, self.arguments, self.facts = sides, arguments, facts
        self.rounds = 1 if arguments.quick else arguments.rounds
        self.rows, self.runs = [], {}

    def at(self, name):
        return os.path.join(self.sides.folder, name)

    def by_turns(self, name, **sides):
        """Runs each side once a round, and returns their runs by name."""
        runs = {side: [] for side in sides}
        for round_ in range(self.rounds):
            for side, run in sides.items():
                runs[side].append(run())
                print(f"  {name}, round {round_ + 1} of {self.rounds}: {side} done", file=sys.stderr, flush=True)
        self.runs[name] = runs
        return runs

    def row(self, work, ours, theirs, figure, unit, goal, ratio_of=lambda ours, theirs: ours / theirs):
        own, other = (statistics.median(map(figure, runs)) for runs in (ours, theirs))
        self.rows.append((work, f"{own:,.4g} {unit}", f"{other:,.4g} {unit}", f"{ratio_of(own, other):.2f} x", goal))
        print(" | ".join(self.rows[-1]), flush=True)

    def sft(self):
        steps = 4 if self.arguments.quick else 12
        rows = round(PACKED_ROWS * CONTEXT / self.facts["mean_length"])
        settings = {"data.packing": "true", "data.order": "shuffled", "train.batch_size": PACKED_ROWS,
                    "train.learning_rate": 1e-3}
        runs = self.by_turns(
            "sft",
            Kiln=lambda: self.sides.kiln_training("sft", self.at("small"), self.at("pairs.jsonl"), steps, settings),
            PyTorch=lambda: self.sides.torch("sft", self.sides.folder, rows, steps),
        )
        ours, theirs = runs["Kiln"], runs["PyTorch"]
        facts = self.facts
        print(f"  sft: llama, {facts['parameters']:,} parameters; dialogues of {facts['mean_length']:.0f} tokens on "
              f"average, {facts['longest']} at most; Kiln packs {PACKED_ROWS} rows of {CONTEXT}, PyTorch fills up "
              f"{rows} dialogues, {100 * theirs[0]['padding']:.0f} % padding; losses of the first step "
              f"{ours[0]['losses'][0]:.3f} and {theirs[0]['losses'][0]:.3f}")
        self.row("SFT, llama 10.7M", ours, theirs, tokens_per_second, "tokens/s", GOALS["sft"])

    def lora(self):
        steps, rows = 4 if self.arguments.quick else 7, self.arguments.rows
        settings = {"model.block_size": CONTEXT, "train.batch_size": rows, "train.learning_rate": 2e-4,
                    "adapter.r": RANK, "adapter.alpha": ALPHA, "adapter.targets": json.dumps([TARGETS])}
        runs = self.by_turns(
            "lora",
            Kiln=lambda: self.sides.kiln_training("lora", self.facts["gguf"], self.at("text.txt"), steps, settings),
            PyTorch=lambda: self.sides.torch("lora", self.sides.folder, rows, steps),
        )
        ours, theirs = runs["Kiln"], runs["PyTorch"]
        print(f"  lora: SmolLM2-135M, r {RANK}, {TARGETS}, {theirs[0]['trained']:,} trained parameters, {rows} rows of "
              f"{CONTEXT}; losses of the first step {ours[0]['losses'][0]:.3f} and {theirs[0]['losses'][0]:.3f}")
        self.row("LoRA, SmolLM2-135M", ours, theirs, tokens_per_second, "tokens/s", GOALS["lora"])
        self.row("peak memory of it", ours, theirs, lambda run: run["memory"] / 2**20, "MiB", GOALS["memory"])

    def grpo(self):
        steps = 3 if self.arguments.quick else 6
        prompts = self.at("prompts.jsonl")
        rule = f'[{{ kind = "regex", pattern = "{REWARDED}" }}]'
        settings = {"data.task": "none", "data.order": "shuffled", "train.batch_size": PROMPTS * GROUP,
                    "train.learning_rate": 1e-5, "rollout.max_new_tokens": NEW_TOKENS, "rollout.stop": "[]",
                    "rollout.rewards": rule, "grpo.group_size": GROUP, "data.answer_after": ""}
        sides = {
            "Kiln": lambda: self.sides.kiln_training("grpo", self.at("small"), prompts, steps, settings),
            "PyTorch": lambda: self.sides.torch("grpo", self.sides.folder, steps),
        }
        if "trl" in self.facts["versions"]:
            sides["trl"] = lambda: self.sides.torch("trl", self.sides.folder, steps)
        runs = self.by_turns("grpo", **sides)
        metrics = [event["metrics"] for event in runs["Kiln"][0]["events"]]
        mean = lambda name: statistics.mean(step[name] for step in metrics)
        theirs = runs["PyTorch"][0]
        print(f"  grpo: llama, {self.facts['parameters']:,} parameters; {PROMPTS} prompts x {GROUP} answers of up to "
              f"{NEW_TOKENS} tokens, {mean('answer_length'):.1f} and {theirs['answer_length']:.1f} on average; rewards "
              f"{mean('reward'):.2f} and {theirs['reward']:.2f}; {theirs['sampling']:.2f} s of a step are PyTorch's "
              f"sampling")
        faster = lambda ours, theirs: theirs / ours
        for side in list(runs)[1:]:
            work = "GRPO step, llama 10.7M" + (" (trl)" if side == "trl" else "")
            self.row(work, runs["Kiln"], runs[side], seconds_per_step, "s", GOALS["grpo"], faster)

    def load(self):
        gguf = self.facts["gguf"]
        words = ["generate", gguf, "--device", "cpu", "--prompt", PROMPT, "--max-new-tokens", 1, "--temperature", 0]
        runs = self.by_turns(
            "load",
            Kiln=lambda: self.sides.kiln(*words, "--json"),
            safetensors=lambda: self.sides.torch("load", self.at("smollm2"), "model.safetensors"),
            GGUF=lambda: self.sides.torch("load", self.sides.folder, os.path.basename(gguf)),
        )
        texts = [json.loads(runs["Kiln"][0]["output"])["text"]]
        texts += [runs[side][0]["text"] for side in ("safetensors", "GGUF")]
        print(f"  load: the first token is {', '.join(map(repr, texts))}")
        for side in ("safetensors", "GGUF"):
            work = f"first token (transformers from {side})"
            self.row(work, runs["Kiln"], runs[side], lambda run: run["seconds"], "s", GOALS["load"])

    def table(self):
        heads = ("work", "Kiln", "PyTorch", "ratio", "goal")
        widths = [max(map(len, column)) for column in zip(heads, *self.rows)]
        for row in (heads, ["-" * width for width in widths], *self.rows):
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")


WORKS = ["sft", "lora", "grpo", "load"]


def compare(arguments, folder):
    sides = Sides(arguments.kiln, arguments.threads, folder)
    facts = sides.torch("prepare", folder) | {"versions": sides.torch("versions")}
    if {"lora", "load"} & set(arguments.only):
        facts["gguf"] = smollm2.fetch(folder)
        shutil.rmtree(os.path.join(folder, "smollm2"), ignore_errors=True)
        sides.kiln("convert", facts["gguf"], os.path.join(folder, "smollm2"), "--dtype", "f32")
    named = ", ".join(f"{name} {facts['versions'][name]}" for name in ("torch", "transformers", "peft", "trl")
                      if name in facts["versions"])
    devices = sides.kiln("devices")["output"].splitlines()
    version = sides.kiln("--version")["output"].strip()
    print(f"{version}; {named}; {arguments.threads} threads, f32\n" + "\n".join(devices))
    comparison = Comparison(sides, arguments, facts)
    for work in arguments.only:
        getattr(comparison, work)()
    print(f"\nmedians of {comparison.rounds} rounds by turns")
    comparison.table()
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"facts": facts, "runs": comparison.runs, "table": comparison.rows}, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kiln", help="the binary")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--folder")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, words = arguments.worker
        print(json.dumps(WORKERS[name](*json.loads(words))))
        return
    packages = ["torch", "transformers", "tokenizers", "peft", "gguf", "chitchat_dataset"]
    install = "pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 gguf==0.19.0 chitchat-dataset==0.9.0"
    require(parser, arguments.kiln, packages, install)
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.path.abspath(arguments.folder or temporary)
        os.makedirs(folder, exist_ok=True)
        compare(arguments, folder)


if __name__ == "__main__":
    main()
