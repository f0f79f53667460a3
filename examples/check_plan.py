"""Holds the predictions of `kiln plan` to measurements, for sixteen configurations, and prints them side by side.

    cargo build --release
    python examples/check_plan.py --kiln target/release/kiln

For each configuration `kiln plan` predicts the memory and the time of a step before anything is trained, then
`kiln bench train` measures both, each in a process of its own. Memory is compared on the CPU only: elsewhere no tool
measures a device's memory alike. `--train` also compares the memory of whole runs with a checkpoint at their end.
Settings that this build of Kiln does not have are left out. Ends with 1 if a prediction is off by more than its bound.

    --device cpu                 of Kiln
    --only NAME ...              some of the configurations
    --memory 0.10 --time 0.20    bounds, as shares of what is measured
    --steps 10                   that are timed
    --no-time                    compare memory only, for machines on which others work
    --json FILE                  all figures
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

LLAMA = [
    "model.position=rotary",
    "model.norm=rmsnorm",
    "model.activation=swiglu",
    "model.n_kv_head=2",
]

#         name, preset or size, settings
CASES = [
    ("0.8M", "--size=0.8M", []),
    ("0.8M, 96 rows", "--size=0.8M", ["train.batch_size=96"]),
    ("10.7M", "--size=10.7M", []),
    ("10.7M, 1 row", "--size=10.7M", ["train.batch_size=1"]),
    ("10.7M, 16 rows", "--size=10.7M", ["train.batch_size=16"]),
    ("10.7M, 2 × 8 rows", "--size=10.7M", ["train.gradient_accumulation_steps=2"]),
    ("10.7M, dropout", "--size=10.7M", ["model.dropout=0.1", "train.batch_size=4"]),
    ("10.7M, Lion, average", "--size=10.7M", ["train.optimizer=lion", "train.ema_decay=0.9"]),
    ("10.7M, as Llama", "--size=10.7M", [*LLAMA, "train.batch_size=4"]),
    ("10.7M, recomputed", "--size=10.7M", ["train.recompute=blocks"]),
    ("10.7M, feed-forward recomputed", "--size=10.7M", ["train.recompute=selective"]),
    ("10.7M, moments of 8 bits", "--size=10.7M", ["train.optimizer=adamw-8bit"]),
    ("experts", "--preset=moe-tiny", []),
    ("encoder", "--preset=bert-tiny", []),
    ("encoder and decoder", "--preset=t5-tiny", []),
    ("124M", "--size=124M", []),
]

# Presets and settings behind the sizes of `kiln bench train`, which `kiln plan` does not have.
SIZES = {
    "0.8M": ("shakespeare-char-cpu", []),
    "10.7M": ("shakespeare-char", ["train.batch_size=8", "model.dropout=0"]),
    "124M": (
        "gpt2-124m",
        [
            "tokenizer.kind=char",
            "data.val_fraction=0.1",
            "model.activation=gelu",
            "train.batch_size=1",
            "train.gradient_accumulation_steps=1",
        ],
    ),
}


def words(base, settings):
    """Options that choose a configuration: its preset and all settings."""
    kind, name = base.lstrip("-").split("=")
    preset, own = SIZES[name] if kind == "size" else (name, [])
    return ["--preset", preset, *(word for key in [*own, *settings] for word in ("--set", key))]


def run(kiln, arguments, folder):
    """Runs Kiln. Returns what it prints, or None with its message if it refuses the arguments."""
    done = subprocess.run([kiln, *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode == 2:
        return None, done.stderr.strip()
    if done.returncode != 0:
        sys.exit(f"kiln {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout, ""


def peak_of_run(kiln, arguments, folder):
    """Trains, and returns the most memory of the process in bytes."""
    process = subprocess.Popen(
        [kiln, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"kiln {' '.join(arguments)} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit


def compare(kiln, case, options, folder):
    """Figures of one configuration: what is predicted, what is measured; None if it is left out."""
    name, base, settings = case
    config = [*words(base, settings), "--device", options.device]
    timing = ["--memory-only"] if options.no_time else []
    planned, problem = run(kiln, ["plan", *config, *timing, "--json"], folder)
    if planned is None:
        print(f"{name}: left out, {problem.splitlines()[0]}", file=sys.stderr)
        return None
    plan = json.loads(planned)
    steps = ["--steps", "1" if options.no_time else str(options.steps), "--warmup", "3"]
    measured, problem = run(kiln, ["bench", "train", *config, *steps, "--json"], folder)
    if measured is None:
        sys.exit(f"{name}: {problem}")
    bench = json.loads(measured)[0]
    figures = {"name": name, "parameters": bench["parameters"]}
    phases = {phase["phase"]: phase["total"] for phase in plan["phases"]}
    if options.device == "cpu":
        figures["memory"] = (phases["step"], bench["peak_memory_bytes"])
        if options.train:
            ends = ["train.max_steps=3", "train.warmup_steps=1", "train.eval_interval=0", "train.sample_interval=0"]
            more = [word for key in ends for word in ("--set", key)]
            out = os.path.join(folder, "run")
            whole = peak_of_run(kiln, ["train", *config, *more, "--out", out, "--quiet"], folder)
            subprocess.run(["rm", "-rf", out], check=True)
            figures["run"] = (max(phases.values()), whole)
    if plan["seconds_per_step"] is not None:
        figures["time"] = (plan["seconds_per_step"], 1 / bench["steps_per_second"])
    return figures


def shown(pair, unit, digits):
    """A prediction, a measurement and their difference as columns."""
    if pair is None:
        return f"{'':>10}{'':>10}{'':>8}"
    predicted, measured = pair
    difference = 100 * (predicted / measured - 1)
    return f"{predicted / unit:10.{digits}f}{measured / unit:10.{digits}f}{difference:+7.1f}%"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kiln", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--memory", type=float, default=0.10)
    parser.add_argument("--time", type=float, default=0.20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--no-time", action="store_true")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    kiln = os.path.abspath(options.kiln)
    bounds = {"memory": options.memory, "run": options.memory, "time": options.time}
    columns = ("step, MiB", "", ""), ("run, MiB", "", ""), ("time, ms", "", "")
    print(f"{'configuration':32}" + "".join(f"{title:>28}" for title, *_ in columns))
    print(f"{'':32}" + f"{'predicted':>10}{'measured':>10}{'':>8}" * 3)
    found, off = [], []
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if options.only and case[0] not in options.only:
                continue
            figures = compare(kiln, case, options, folder)
            if figures is None:
                continue
            found.append(figures)
            parts = [("memory", 2**20, 1), ("run", 2**20, 1), ("time", 1e-3, 1)]
            print(f"{case[0]:32}" + "".join(shown(figures.get(key), *form) for key, *form in parts), flush=True)
            for key, bound in bounds.items():
                predicted, measured = figures.get(key, (1, 1))
                if abs(predicted / measured - 1) > bound:
                    off.append(f"{case[0]}: {key}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=2)
    print(f"{len(found)} configurations, {len(off)} predictions beyond their bounds")
    for name in off:
        print(f"  {name}")
    return 1 if off or not found else 0


if __name__ == "__main__":
    sys.exit(main())
