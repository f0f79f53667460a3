"""Generates small files of each data format, and what the format's Python counterpart reads of each.

    python tests/reports/formats/generate.py            # writes cases.zst beside this file
    python tests/reports/formats/generate.py FOLDER     # also FOLDER/FORMAT/NAME and FOLDER/answers.jsonl

Counterparts: Python 3's codecs, json, csv, gzip, tarfile and zipfile, html5lib 1.1, pyarrow 26.0, warcio 1.8,
zstandard 0.25. `cases.zst` is one zstd frame of cases: a line of JSON (`format`, `name`, `length`, `answer`),
then `length` bytes of the file. An answer has

- `documents`: the records that have a text, in order; each with `text`, and with `id`, `url` and `metadata`
  where the format has them and the counterpart tells them apart;
- `faults`: whether there are records without a text, or bytes that the counterpart refuses;
- `broken`: the file is damaged, so that some of `documents` may be missing;
- `refused`: words of Kiln's reason where Kiln reads less than the counterpart, and says so;
- `words`: only the words are compared, as the layout of pages differs.
"""

import json
import random
import sys
import zlib
from pathlib import Path

import zstandard

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import archives  # noqa: E402
import columnar  # noqa: E402
import pages  # noqa: E402
import records  # noqa: E402
import texts  # noqa: E402

MAKERS = {
    "text": texts.text,
    "html": pages.html,
    "json": records.json_files,
    "jsonl": records.jsonl_files,
    "csv": records.csv_files,
    "tsv": records.tsv_files,
    "parquet": columnar.parquet,
    "arrow": columnar.arrow,
    "feather": columnar.feather,
    "warc": pages.warc,
    "wet": pages.wet,
    "tar": archives.tar,
    "zip": archives.zip_,
    "gzip": archives.gzip_,
    "zstd": archives.zstd,
}


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    out, answers = bytearray(), []
    for format, make in MAKERS.items():
        rng = random.Random(zlib.crc32(format.encode()))
        names = set()
        for name, data, answer in make(rng):
            assert name not in names, name
            names.add(name)
            case = {"format": format, "name": name, "length": len(data), "answer": answer}
            out += json.dumps(case, ensure_ascii=False).encode() + b"\n" + data
            if folder:
                (folder / format).mkdir(parents=True, exist_ok=True)
                (folder / format / name).write_bytes(data)
                answers.append(json.dumps(case) + "\n")
        assert len(names) >= 100, (format, len(names))
        print(format, len(names))
    if folder:
        (folder / "answers.jsonl").write_text("".join(answers))
    packed = zstandard.ZstdCompressor(level=19).compress(bytes(out))
    (HERE / "cases.zst").write_bytes(packed)
    print(len(out), "bytes,", len(packed), "packed")


if __name__ == "__main__":
    main()
