"""Trains and writes with nanoGPT's models in PyTorch and in Kiln by turns, and prints the ratios.

    cargo build --release
    python examples/compare_pytorch.py --kiln target/release/kiln

Needs PyTorch. The same sizes (`kiln bench train --size`), the same optimizer (AdamW, clipping to a norm of 1),
the same number of threads. Every round starts each side anew, one after the other; medians over the rounds are
compared. Writing is greedy, one token at a time with a cache of keys and values, 10.7M parameters.

A ratio holds for one kind of processor only: the output names it, the instructions that Kiln uses, and for each
side the share of its own peak of matrix products that training reaches (`kiln devices --measure` has Kiln's).

    --sizes 0.8M 10.7M 124M      which ones; 350M as well
    --rows N                     of a batch, in place of each size's own
    --modes eager compile        of PyTorch
    --dtypes f32 bf16            of PyTorch; Kiln computes in f32
    --rounds 5   --threads 2     how often, and on how many threads
    --no-writing                 leave out the comparison of writing
    --device cpu                 of Kiln and, if it begins with cuda, of PyTorch
    --json FILE                  all figures
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from needed import require

#        layers, heads, width, context, vocabulary, rows, bias, timed steps
SIZES = {
    "0.8M": (4, 4, 128, 64, 65, 12, False, 60),
    "10.7M": (6, 6, 384, 256, 65, 8, False, 8),
    "124M": (12, 12, 768, 1024, 50257, 1, True, 3),
    "350M": (24, 16, 1024, 1024, 50257, 1, True, 3),
}
WARMUP = 3


def build(size):
    """nanoGPT's decoder: what is read, how wide, and how many blocks of attention and MLP."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    layers, heads, width, context, vocabulary, _, bias, _ = SIZES[size]

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(width, 3 * width, bias=bias)
            self.out = nn.Linear(width, width, bias=bias)

        def forward(self, x, cache):
            rows, time_, _ = x.shape
            q, k, v = (
                part.view(rows, time_, heads, width // heads).transpose(1, 2)
                for part in self.qkv(x).split(width, dim=2)
            )
            if cache is not None:
                keys, values, seen = cache
                keys[:, :, seen : seen + time_], values[:, :, seen : seen + time_] = k, v
                k, v = keys[:, :, : seen + time_], values[:, :, : seen + time_]
            y = F.scaled_dot_product_attention(q, k, v, is_causal=time_ > 1)
            return self.out(y.transpose(1, 2).reshape(rows, time_, width))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(width, bias=bias)
            self.attention = Attention()
            self.norm2 = nn.LayerNorm(width, bias=bias)
            self.up = nn.Linear(width, 4 * width, bias=bias)
            self.down = nn.Linear(4 * width, width, bias=bias)

        def forward(self, x, cache):
            x = x + self.attention(self.norm1(x), cache)
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(vocabulary, width)
            self.places = nn.Embedding(context, width)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(width, bias=bias)
            self.head = nn.Linear(width, vocabulary, bias=False)
            self.head.weight = self.tokens.weight
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, 0.0, 0.02)

        def forward(self, tokens, targets=None, caches=None, seen=0):
            places = torch.arange(seen, seen + tokens.shape[1], device=tokens.device)
            x = self.tokens(tokens) + self.places(places)
            for i, block in enumerate(self.blocks):
                x = block(x, None if caches is None else (*caches[i], seen))
            x = self.norm(x)
            if targets is None:
                return self.head(x[:, -1:])
            return F.cross_entropy(self.head(x).flatten(0, 1), targets.flatten())

    return Decoder()


def peak_in_torch(dtype, device, seconds=1.0):
    """FLOP/s of the best of several square products, found as `kiln devices --measure` finds Kiln's."""
    import torch

    best, size = 0.0, 256
    while True:
        a, b = (torch.rand((size, size), device=device).to(dtype) for _ in range(2))
        elapsed = []
        for _ in range(5):
            start = time.perf_counter()
            (a @ b)[0, 0].item()
            elapsed.append(time.perf_counter() - start)
        fastest = min(elapsed[1:])
        best = max(best, 2 * size**3 / fastest)
        if fastest > seconds / 8 or size >= 8192:
            return best
        size *= 2


def train_in_torch(size, mode, dtype, device, rows, started):
    import torch

    torch.manual_seed(0)
    *_, context, vocabulary, _, _, steps = SIZES[size]
    rows = int(rows)
    model = build(size).to(device)
    loss_of = torch.compile(model) if mode == "compile" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    tokens = torch.randint(vocabulary, (rows, context), device=device)
    targets = torch.randint(vocabulary, (rows, context), device=device)
    seconds = []
    for _ in range(WARMUP + steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=dtype == "bf16"):
            loss = loss_of(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
        if len(seconds) == 1:
            first = time.time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.startswith("cuda"):
        memory = torch.cuda.max_memory_allocated()
    return {
        "tokens_per_second": rows * context / statistics.median(seconds[WARMUP:]),
        "peak_memory_bytes": memory,
        "seconds_to_first_step": first,
        "peak_flops": peak_in_torch(torch.bfloat16 if dtype == "bf16" else torch.float32, device),
        "torch": torch.__version__,
    }


def write_in_torch(device):
    import torch

    size = "10.7M"
    layers, heads, width, context, *_ = SIZES[size]
    model = build(size).to(device).eval()
    count = context - 1
    with torch.inference_mode():
        for _ in range(2):
            shape = (1, heads, context, width // heads)
            caches = [[torch.zeros(shape, device=device) for _ in range(2)] for _ in range(layers)]
            token = torch.zeros((1, 1), dtype=torch.long, device=device)
            start = time.perf_counter()
            for seen in range(count):
                token = model(token, caches=caches, seen=seen).argmax(-1)
                token.item()
            seconds = time.perf_counter() - start
    return {"tokens_per_second": count / seconds, "torch": torch.__version__}


def run_torch(arguments, *words):
    command = [sys.executable, os.path.abspath(__file__), "--worker", *words]
    environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads), STARTED=str(time.time()))
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(output.stdout.splitlines()[-1])


def run_kiln(arguments, *words):
    environment = dict(os.environ, RAYON_NUM_THREADS=str(arguments.threads))
    command = [arguments.kiln, "bench", *words, "--device", arguments.device, "--json"]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    figures = json.loads(output.stdout)
    return figures[0] if isinstance(figures, list) else figures


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def compare(arguments):
    on_gpu = arguments.device.startswith("cuda")
    torch_device = arguments.device if on_gpu else "cpu"
    sides = [(mode, dtype) for mode in arguments.modes for dtype in arguments.dtypes]
    result = {"training": {}, "writing": {}}
    peaks = {}
    print(f"{'':8}{'PyTorch':15}{'tokens/s: Kiln':>16}{'PyTorch':>10}{'ratio':>8}"
          f"{'of its peak: Kiln':>19}{'PyTorch':>9}"
          f"{'memory: Kiln':>15}{'PyTorch':>10}{'ratio':>8}{'first step: Kiln':>19}{'PyTorch':>10}{'ratio':>8}")
    for size in arguments.sizes:
        ours, theirs = [], {side: [] for side in sides}
        *_, own_rows, _, steps = SIZES[size]
        rows = str(arguments.rows or own_rows)
        for _ in range(arguments.rounds):
            ours.append(run_kiln(arguments, "train", "--size", size, "--steps", str(steps), "--warmup", str(WARMUP),
                                 "--set", f"train.batch_size={rows}"))
            for mode, dtype in sides:
                theirs[mode, dtype].append(run_torch(arguments, size, mode, dtype, torch_device, rows))
        result["training"][size] = {"kiln": ours}
        for (mode, dtype), runs in theirs.items():
            result["training"][size][f"{mode} {dtype}"] = runs
            speed = [median(side, "tokens_per_second") for side in (ours, runs)]
            memory = [median(side, "peak_memory_bytes") / 2**20 for side in (ours, runs)]
            first = [median(side, "seconds_to_first_step") for side in (ours, runs)]
            peaks["Kiln"], peaks[f"PyTorch {dtype}"] = (median(side, "peak_flops") for side in (ours, runs))
            flops_per_token = ours[0]["flops_per_second"] / ours[0]["tokens_per_second"]
            share = [tokens * flops_per_token / median(side, "peak_flops") for tokens, side in zip(speed, (ours, runs))]
            print(f"{size:8}{mode + ' ' + dtype:15}{speed[0]:16,.0f}{speed[1]:10,.0f}{speed[0] / speed[1]:7.2f}x"
                  f"{100 * share[0]:17.0f} %{100 * share[1]:7.0f} %"
                  f"{memory[0]:11,.0f} MiB{memory[1]:6,.0f} MiB{memory[0] / memory[1]:7.2f}x"
                  f"{first[0]:17.2f} s{first[1]:8.2f} s{first[0] / first[1]:7.3f}x", flush=True)
    if arguments.no_writing:
        save(arguments, result)
        return
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        ours.append(run_kiln(arguments, "generate", "--preset", "shakespeare-char"))
        theirs.append(run_torch(arguments, "write", torch_device))
    result["writing"] = {"kiln": ours, "eager f32": theirs}
    speed = [median(ours, "cached_tokens_per_second"), median(theirs, "tokens_per_second")]
    print(f"writing 10.7M, with a cache: Kiln {speed[0]:,.0f}, PyTorch eager {speed[1]:,.0f} tokens/s, "
          f"{speed[0] / speed[1]:.2f}x")
    print(f"device: {ours[0]['description']}" + (f", {name}" if (name := ours[0]["instruction_set"]) else ""))
    if peaks:
        all_peaks = ", ".join(f"{side} {peak / 1e9:,.0f} GFLOP/s" for side, peak in peaks.items())
        print(f"peak of matrix products: {all_peaks}")
    versions = {run["torch"] for run in theirs}
    print(f"PyTorch {', '.join(versions)}, {arguments.threads} threads, "
          f"medians of {arguments.rounds} rounds by turns")
    save(arguments, result)


def save(arguments, result):
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(result, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kiln", default="target/release/kiln")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["0.8M", "10.7M", "124M"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--no-writing", action="store_true")
    parser.add_argument("--modes", nargs="+", choices=["eager", "compile"], default=["eager", "compile"])
    parser.add_argument("--dtypes", nargs="+", choices=["f32", "bf16"], default=["f32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is None:
        require(parser, arguments.kiln, ["torch"], "pip install torch==2.9.1")
        compare(arguments)
    elif arguments.worker[0] == "write":
        print(json.dumps(write_in_torch(arguments.worker[1])))
    else:
        print(json.dumps(train_in_torch(*arguments.worker, float(os.environ["STARTED"]))))


if __name__ == "__main__":
    main()
