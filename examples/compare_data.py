"""Compares what `kiln data run` decides with what datatrove 0.10.1 decides about the same documents.

    pip install datatrove==0.10.1 spacy regex "xxhash<4" orjson tokenizers pyarrow
    node examples/corpora.mjs raw corpora
    python examples/compare_data.py agree --kiln target/release/kiln --raw corpora
    python examples/compare_data.py duplicates --kiln target/release/kiln --raw corpora

`agree` puts varied documents through FineWeb's filters, together in its order and each alone, lists every
document about which the two differ, and fails if one of them is not explained by a known cause. `duplicates`
counts the pairs that MinHash finds among the plays of the Folio and among texts of known similarity, and
compares clusters with datatrove's. Both run datatrove's own code and give the same on every run; the documents
come from `--raw` (texts, HTML, JSON lines with `text`), from the packages installed beside datatrove, and from
generators.

    --documents 3000    how many
    --seed 1            of all that is drawn
    --work DIR          keeps all files there instead of in a temporary folder
"""

import argparse
import collections
import glob
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata

from data_documents import documents
from needed import require

#   the name of each profile in Kiln, with the settings that FineWeb changes
FILTERS = {"gopher-repetition": "", "gopher-quality": "", "c4": "require_end_mark = false", "fineweb": ""}
FUZZY = '[[step]]\nkind = "fuzzy-duplicates"\n'
BANDS, ROWS = 14, 8


# --- Kiln ---------------------------------------------------------------------------------------------------


def filter_step(profile):
    return f'[[step]]\nkind = "filter"\nprofile = "{profile}"\n{FILTERS[profile]}\n'


def pipeline(folder, name, steps, paths):
    """Writes a pipeline file over `paths` (relative to `folder`); all is said to be English, as datatrove assumes."""
    path = os.path.join(folder, f"{name}.toml")
    with open(path, "w") as file:
        file.write(
            f'seed = 1337\n[[source]]\nname = "documents"\nlanguage = "en"\npaths = {json.dumps(paths)}\n{steps}'
        )
    return path


def run_kiln(kiln, toml, out, workers=2):
    """Runs a pipeline anew and gives the seconds of the whole process."""
    shutil.rmtree(out, ignore_errors=True)
    command = [kiln, "data", "run", toml, "--out", out, "--workers", str(workers)]
    environment = dict(os.environ, RAYON_NUM_THREADS=str(workers))
    start = time.perf_counter()
    outcome = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if outcome.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{outcome.stdout.decode(errors='replace')[-4000:]}")
    return time.perf_counter() - start


def rows(out):
    """The last row of every document, by its id: the stage that dropped it, or the last one of all."""
    import pyarrow.parquet as parquet

    last = {}
    for folder in sorted(glob.glob(os.path.join(out, "work", "[0-9][0-9]-*"))):
        for part in sorted(glob.glob(os.path.join(folder, "part-*.parquet"))):
            columns = ["id", "text", "reason", "detail"]
            if set(columns) <= set(parquet.read_schema(part).names):
                last.update((row["id"], row) for row in parquet.read_table(part, columns=columns).to_pylist())
    if not last:
        sys.exit(f"`{out}/work` holds no documents; has the layout changed?")
    return last


def kiln_clusters(last):
    """The representative of every document's cluster. What a duplicate is one of stands in its detail."""
    representative = {}
    for name, row in last.items():
        found = name
        if row["reason"] is not None:
            detail = row["detail"] or ""
            named = [word for word in re.split(r"[\s`'\",;()]+", detail) if word in last]
            named = named or [other for other in sorted(last, key=len, reverse=True) if other in detail]
            if not named:
                sys.exit(f"the detail of the duplicate `{name}` names no document: {detail!r}")
            found = named[0]
        representative[name] = found

    def root(name):
        while representative[name] != name:
            name = representative[name]
        return name

    return {name: root(name) for name in representative}


def write_jsonl(path, records):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


# --- datatrove ----------------------------------------------------------------------------------------------


def fineweb_filters():
    from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

    filters = [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False)]
    return dict(zip(FILTERS, [*filters, FineWebQualityFilter()]))


def datatrove_verdict(filters, text):
    """The reason for dropping it, or none and the text that is left."""
    from datatrove.data import Document

    document = Document(text=text, id="")
    for step in filters:
        outcome = step.filter(document)
        if outcome is not True:
            return outcome[1], None
    return None, document.text


def datatrove_minhash(source, out, workers, save_clusters=False):
    """datatrove's four stages of MinHash over the JSON lines of a folder."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    at = lambda name: os.path.join(out, name)
    write = lambda name: JsonlWriter(at(name), compression=None)
    removal = MinhashDedupFilter(at("cluster"), exclusion_writer=write("removed"), load_cluster_ids=save_clusters)
    stages = [
        (workers, [JsonlReader(source), MinhashDedupSignature(at("signatures"))]),
        (BANDS, [MinhashDedupBuckets(at("signatures"), at("buckets"))]),
        (1, [MinhashDedupCluster(at("buckets"), at("cluster"), save_cluster_id=save_clusters)]),
        (workers, [JsonlReader(source), removal, write("kept")]),
    ]
    for number, (tasks, steps) in enumerate(stages):
        LocalPipelineExecutor(steps, tasks=tasks, workers=min(tasks, workers), logging_dir=at(f"log{number}")).run()


def quietly(call):
    """Runs datatrove without what it logs, which its workers write to standard error."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        return call()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


# --- agree --------------------------------------------------------------------------------------------------


def explanation(text, ours):
    """Why Kiln may differ about a text, if there is a reason beside the rules."""
    if ours is None:
        return "no text: a bad record for Kiln" if not text.strip() else None
    unassigned = [c for c in text if unicodedata.category(c) == "Cn" and ord(c) & 0xFFFE != 0xFFFE]
    return f"U+{ord(unassigned[0]):04X} is newer than Python's Unicode" if unassigned else None


def agree(arguments, work):
    records = documents(arguments.documents, arguments.raw, arguments.seed)
    write_jsonl(os.path.join(work, "documents", "documents.jsonl"), records)
    kinds = collections.Counter(record["id"].rsplit("-", 1)[0] for record in records)
    size = sum(len(record["text"].encode()) for record in records)
    print(
        f"{len(records):,} documents, {size / 1e6:.1f} MB: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    )
    filters = fineweb_filters()
    runs = {"all four": list(filters)} | {name: [name] for name in filters}
    table, differences, reasons = [], [], collections.Counter()
    for title, names in runs.items():
        out = os.path.join(work, title.replace(" ", "-"))
        toml = pipeline(work, title.replace(" ", "-"), "".join(map(filter_step, names)), ["documents"])
        run_kiln(arguments.kiln, toml, out)
        last = rows(out)
        counts = collections.Counter()
        for record in records:
            reason, text = datatrove_verdict([filters[name] for name in names], record["text"])
            row = last.get(record["id"])
            ours = None if row is None else (row["reason"], None if row["reason"] else row["text"])
            counts["kept"] += reason is None
            reasons[reason or "kept"] += title != "all four"
            if ours != (reason, text):
                said = [
                    word[0] or f"kept, {len(word[1])} characters" if word else "no row"
                    for word in ((reason, text), ours)
                ]
                why = explanation(record["text"], ours)
                counts["explained" if why else "unexplained"] += 1
                counts["verdict"] += ours is None or ours[0] != reason
                differences.append((title, record["id"], *said, why or "unexplained"))
        table.append(
            (title, len(records), counts["kept"], counts["verdict"], counts["explained"], counts["unexplained"])
        )
    print("\n| filters | documents | kept by datatrove | other verdict | differences explained | unexplained |")
    print("| --- | --- | --- | --- | --- | --- |")
    for line in table:
        print("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in line) + " |")
    print("\nReasons that the filters gave alone: " + ", ".join(f"{name} {n}" for name, n in sorted(reasons.items())))
    if differences:
        print("\n| filters | document | datatrove | Kiln | cause |\n| --- | --- | --- | --- | --- |")
        for line in differences:
            print("| " + " | ".join(line) + " |")
    return sum(line[-1] for line in table) == 0


# --- duplicates ---------------------------------------------------------------------------------------------


def found_share(similarity, bands=BANDS, rows_=ROWS):
    return 1 - (1 - similarity**rows_) ** bands


def shingles(text, count=5):
    """datatrove's pieces of so many words."""
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    made = MinhashDedupSignature(tempfile.gettempdir(), MinhashConfig(n_grams=count)).get_shingles(text)
    return set(made.flatten().tolist())


def jaccard(a, b):
    return len(a & b) / max(len(a | b), 1)


def table_of_pairs(title, pairs):
    """`pairs`: similarity, probability of being found, found. Whether the number found can be chance."""
    found, expected = sum(pair[2] for pair in pairs), sum(pair[1] for pair in pairs)
    spread = math.sqrt(sum(pair[1] * (1 - pair[1]) for pair in pairs))
    is_likely = abs(found - expected) <= 4 * spread + 1
    verdict = "yes" if is_likely else "**no**"
    low, high = (f"{edge(pair[0] for pair in pairs):.3f}" for edge in (min, max))
    print(f"| {title} | {len(pairs)} | {low}–{high} | {expected:.1f} ± {spread:.1f} | {found} | {verdict} |")
    return is_likely


HEADER = "| pairs | number | Jaccard | expected | found | within 4 deviations |\n" + "| --- " * 6 + "|"


def folio(arguments, work):
    """Plays in the Folio's spelling and in a later one, by datatrove's settings and by looser ones."""
    with open(os.path.join(arguments.raw, "folio-pairs.json")) as file:
        listed = json.load(file)
    listed = listed.get("pairs", listed) if isinstance(listed, dict) else listed
    names = []
    for entry in listed:
        values = entry.values() if isinstance(entry, dict) else entry
        names.append(
            [re.sub(r"\.html?$", "", os.path.basename(value)) for value in values if isinstance(value, str)][:2]
        )
    is_good = True
    print(f"\n### The Folio: {len(names)} plays in two spellings\n")
    loose = f"shingle = {{ words = 3 }}\nbands = {arguments.bands}\nrows = {arguments.rows}\n"
    for words, bands, rows_, settings in [(5, BANDS, ROWS, ""), (3, arguments.bands, arguments.rows, loose)]:
        out = os.path.join(work, f"folio-{words}")
        toml = pipeline(
            work, f"folio-{words}", FUZZY + settings, [os.path.abspath(os.path.join(arguments.raw, "plays"))]
        )
        run_kiln(arguments.kiln, toml, out)
        last = rows(out)
        cluster = kiln_clusters(last)
        play = {name: re.sub(r"\.html?(#\d+)?$", "", os.path.basename(name)) for name in last}
        by_play = {value: name for name, value in play.items()}
        missing = [pair for pair in names if not set(pair) <= set(by_play)]
        if missing:
            sys.exit(f"no document of Kiln's is of {missing[0]}; there are {sorted(by_play)[:3]} …")
        made = {name: shingles(row["text"], words) for name, row in last.items()}
        true = {tuple(sorted(by_play[name] for name in pair)) for pair in names}
        share = lambda pair: jaccard(made[pair[0]], made[pair[1]])
        every = [(a, b) for a in sorted(last) for b in sorted(last) if a < b]
        others = [pair for pair in every if pair not in true]
        found = [pair for pair in every if cluster[pair[0]] == cluster[pair[1]]]
        print(f"{words} words, {bands} bands of {rows_} rows\n\n{HEADER}")
        for title, group in (("the same play", sorted(true)), ("other plays", others)):
            similar = [(share(pair), found_share(share(pair), bands, rows_), pair in set(found)) for pair in group]
            is_good &= table_of_pairs(title, similar)
        right = len(true & set(found))
        precision = f"{right / len(found):.3f}" if found else "none found"
        print(f"\nRecall {right / len(true):.3f}, precision {precision}\n")
    return is_good


def synthetic(seed, each=500):
    """Pairs of texts of known similarity, in three bands of it, with its exact value in words."""
    draw = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    vocabulary = ["".join(draw.choices(syllables, k=draw.randint(3, 5))) for _ in range(20_000)]
    cut = lambda words: {tuple(words[at : at + 5]) for at in range(len(words) - 4)}
    for low, high in ((0.9, 1.0), (0.4, 0.9), (0.0, 0.4)):
        made = 0
        while made < each:
            words = draw.choices(vocabulary, k=draw.randint(200, 400))
            # Of `(1 - share)^5` of the pieces no word is changed.
            target = draw.uniform(max(low, 0.02), high)
            share = 1 - (2 * target / (1 + target)) ** (1 / 5)
            edited = [draw.choice(vocabulary) if draw.random() < share else word for word in words]
            similarity = jaccard(cut(words), cut(edited))
            if low <= similarity < high or similarity == high == 1.0:
                yield (low, high), made, similarity, " ".join(words), " ".join(edited)
                made += 1


def families(records, seed):
    """Copies that only normalization makes equal, and chains whose ends are not alike."""
    draw = random.Random(seed)
    for record in [record for record in records if len(record["text"]) > 400][:60]:
        text = record["text"]
        variants = [text.upper(), re.sub(r"\d+", "7", text), text.replace(" ", "  "), re.sub("[,;]", " ", text)]
        words = text.split(" ")
        for _ in range(6):
            words[draw.randrange(len(words))] = "otherwise"
            variants.append(" ".join(words))
        for number, variant in enumerate(variants):
            yield {"id": f"family-{record['id']}-{number}", "text": variant}


def partition(cluster):
    groups = collections.defaultdict(set)
    for name, root in cluster.items():
        groups[root].add(name)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def duplicates(arguments, work):
    is_good = folio(arguments, work) if arguments.raw else True
    pairs = list(synthetic(arguments.seed))
    records = [
        {"id": f"pair-{low}-{number:03}-{side}", "text": text}
        for (low, _), number, _, *texts in pairs
        for side, text in zip("ab", texts)
    ]
    others = [
        record for record in documents(arguments.documents, arguments.raw, arguments.seed) if record["text"].strip()
    ]
    others += list(families(others, arguments.seed))
    every = records + others
    random.Random(arguments.seed).shuffle(every)
    source = os.path.join(work, "pairs")
    for number in range(4):
        write_jsonl(os.path.join(source, f"{number}.jsonl"), every[number::4])
    out = os.path.join(work, "pairs-kiln")
    run_kiln(arguments.kiln, pipeline(work, "pairs-kiln", FUZZY, ["pairs"]), out)
    last = rows(out)
    cluster = kiln_clusters(last)
    print(f"### {len(pairs):,} pairs of known similarity among {len(every):,} documents\n\n{HEADER}")
    for band in sorted({pair[0] for pair in pairs}, reverse=True):
        group = [
            (
                similarity,
                found_share(similarity),
                cluster[f"pair-{low}-{number:03}-a"] == cluster[f"pair-{low}-{number:03}-b"],
            )
            for (low, high), number, similarity, *_ in pairs
            if (low, high) == band
        ]
        is_good &= table_of_pairs(f"{band[0]} to {band[1]}", group)
    theirs = os.path.join(work, "pairs-datatrove")
    shutil.rmtree(theirs, ignore_errors=True)
    quietly(lambda: datatrove_minhash(source, theirs, 2, save_clusters=True))
    trove, kept = {}, collections.Counter()
    for part in glob.glob(os.path.join(theirs, "kept", "*")) + glob.glob(os.path.join(theirs, "removed", "*")):
        is_kept = os.path.basename(os.path.dirname(part)) == "kept"
        with open(part) as file:
            for record in map(json.loads, file):
                number = record["metadata"]["minhash_cluster_id"]
                trove[record["id"]] = record["id"] if number == -1 else number
                kept["datatrove"] += is_kept
                kept["both"] += is_kept and cluster.get(record["id"]) == record["id"]
    kept["Kiln"] = sum(name == root for name, root in cluster.items())
    ours, other = partition(cluster), partition(trove)
    print("\n### Clusters beside datatrove's\n\n| | documents | clusters | kept |\n| --- | --- | --- | --- |")
    print(f"| Kiln | {len(cluster):,} | {len(ours):,} | {kept['Kiln']:,} |")
    print(f"| datatrove | {len(trove):,} | {len(other):,} | {kept['datatrove']:,} |")
    print(f"| the same in both | {len(cluster.keys() & trove.keys()):,} | {len(ours & other):,} | {kept['both']:,} |")
    for title, only in (("Kiln", ours - other), ("datatrove", other - ours)):
        for group in sorted(map(sorted, only)):
            print(f"\nonly {title}: {' '.join(group)}")
    return is_good and ours == other and cluster.keys() == trove.keys()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("agree", "duplicates"):
        command = commands.add_parser(name)
        command.add_argument("--kiln", default="target/release/kiln")
        command.add_argument("--raw", help="folder that `corpora.mjs raw` made")
        command.add_argument("--documents", type=int, default=3000)
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("--work")
        if name == "duplicates":
            command.add_argument("--bands", type=int, default=200, help="of the looser settings for the Folio")
            command.add_argument("--rows", type=int, default=3)
    arguments = parser.parse_args()
    require(parser, arguments.kiln, ["datatrove", "pyarrow", "tokenizers"], "the first lines of --help name all")
    with tempfile.TemporaryDirectory(prefix="kiln-compare-") as temporary:
        work = os.path.abspath(arguments.work or temporary)
        os.makedirs(work, exist_ok=True)
        sys.exit(0 if {"agree": agree, "duplicates": duplicates}[arguments.command](arguments, work) else 1)


if __name__ == "__main__":
    main()
