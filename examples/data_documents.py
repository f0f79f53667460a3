"""Texts for `compare_data.py` and `bench_data.py`: from a folder, from packages and from generators.

Everything is drawn from a seed, so that the same packages and the same folder give the same texts.
"""

import csv
import glob
import gzip
import html
import io
import json
import os
import random
import re


def without_tags(page):
    return html.unescape(re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", "", page))


def raw_texts(raw):
    """All texts of a folder that `corpora.mjs raw` made, or of one with files of these kinds."""
    import pyarrow

    for folder, folders, files in os.walk(raw or ""):
        folders[:] = sorted(set(folders) - {"broken"})
        for name in sorted(files):
            path = os.path.join(folder, name)
            with gzip.open(path) if name.endswith(".gz") else pyarrow.input_stream(path) as file:
                data = file.read()
            kind = re.sub(r"\.(gz|zst)$", "", name).rsplit(".", 1)[-1].lower()
            text = data.decode("utf-8", "replace").replace("\r\n", "\n")
            if kind == "jsonl":
                yield from (json.loads(line)["text"] for line in text.split("\n") if line)
            elif kind == "csv":
                csv.field_size_limit(1 << 30)
                yield from (row["text"] for row in csv.DictReader(io.StringIO(text)))
            elif kind == "warc":
                # A record is its own headers, those of HTTP, and the page.
                for record in text.split("WARC/1.0\n")[2:]:
                    _, headers, page = (record.split("\n\n", 2) + ["", ""])[:3]
                    yield without_tags(page) if "text/html" in headers else page
            elif kind in ("html", "htm"):
                yield without_tags(text)
            elif kind in ("txt", "md"):
                yield text


def package_texts():
    """READMEs and sources of what is installed beside datatrove, with spaCy's sentences in many languages."""
    import spacy

    spacy_folder = os.path.dirname(spacy.__file__)
    packages = os.path.dirname(spacy_folder)
    patterns = ["*.dist-info/METADATA", "datatrove/**/*.py", "spacy/lang/*/examples.py", "spacy/lang/*/stop_words.py"]
    for pattern in patterns:
        for path in sorted(glob.glob(os.path.join(packages, pattern), recursive=True)):
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            if path.endswith("examples.py"):
                text = text.split("sentences = [")[-1].replace('",\n    "', "\n")
            yield text.split("\n\n", 1)[-1] if path.endswith("METADATA") else text


def pieces(texts, draw):
    """Texts cut to the length of a page, in any order."""
    cut = []
    for text in texts:
        at = 0
        while at < len(text):
            length = draw.randint(500, 5000)
            cut.append(text[at : at + length])
            at += length
    draw.shuffle(cut)
    return cut


# Where tokenizers and rules have their edges.
MARKS = list(".,;:!?'\"-–—…()[]{}<>/=+*&%$#@~^_|°“”‘’€£ \n\t  \r\x1c\x85\u2028\u3000\u00a0")
FRAGMENTS = (
    MARKS
    + """.. ... …… -- --- US$ A$ 5 10 ٣ kg km² م³ a B Foo bar U.S café 汉字 日本 http:// www.a.com x@y.org 's ’S n't
    😀 © 192.168.1.1 8.8.8.8 1٣.8.8.8 a.b A.B ، тб \u212a İ 1,000.5 [1] [edit] \u0301 क्षि :8080 ǅ 한글 \U0001f1e6
    \U00020000 \uffff \U0010ffff \0""".split()
)
SEASONING = """the be to of and that have with don't café № … ... # - • [1] [edit] { javascript lorem-ipsum use-cookies
    ٣٫٤ 한글 1,234.5 Terms-of-Use it's i'm :) a. cooKies""".split()
ENDS = [".", ".", ".", "!", "?", '"', "...", "…", "", " ", "\r", "。", " [2]", ". "]


def fuzz(draw, specials):
    """Marks, numbers and spaCy's special words in any order, with and without blanks."""
    some = lambda low, high: "".join(
        draw.choice(FRAGMENTS) if draw.random() < 0.75 else draw.choice(specials)
        for _ in range(draw.randint(low, high))
    )
    return some(2, 60) if draw.random() < 0.6 else " ".join(some(1, 4) for _ in range(draw.randint(1, 40)))


def lines_of(draw, words):
    """Lines that repeat themselves, are bullets, end in all kinds of marks."""
    spice = [word.replace("-", " ") if len(word) > 1 else word for word in SEASONING]
    word = lambda: draw.choice(spice) if draw.random() < 0.15 else draw.choice(words)
    lines = [
        " ".join(word() for _ in range(draw.randint(1, 25))) + draw.choice(ENDS) for _ in range(draw.randint(1, 25))
    ]
    lines += [draw.choice(lines) for _ in range(draw.choice([0, 0, 0, 1, 3, 9]))]
    if draw.random() < 0.2:
        lines = [draw.choice(["- ", "• ", "# "]) + line for line in lines]
    if draw.random() < 0.2:
        lines = [line + draw.choice(["...", "…", ". "]) for line in lines]
    draw.shuffle(lines)
    return draw.choice(["", "", "\n"]) + draw.choice(["\n", "\n", "\n\n", "\r\n", "\n \n", " "]).join(lines)


def threshold(draw):
    """Few different words, near the thresholds of repetition, length and symbols."""
    few = "alpha beta gamma delta of to and with the words sentence tree river stone".split()[: draw.randint(2, 14)]
    words = [draw.choice(few) for _ in range(draw.randint(45, 160))]
    odd = [".", "...", "#", "12", "incomprehensibilities", "x" * draw.randint(1, 30), "\n", "\n", "I", "lorem ipsum"]
    for _ in range(draw.randint(0, 30)):
        words.insert(draw.randrange(len(words)), draw.choice(odd))
    words += words[-draw.randint(1, 40) :] * draw.randint(0, 3)
    return " ".join(words)


def documents(count, raw, seed):
    """Documents of all kinds, `{"id", "text"}`; the kind is the id's beginning."""
    import spacy

    draw = random.Random(seed)
    specials = sorted(spacy.blank("en").tokenizer.rules)
    sources = {"raw": pieces(raw_texts(raw), draw), "package": pieces(package_texts(), draw)}
    words = [
        word for text in sources["package"][:60] + sources["raw"][:60] for word in text.split() if word.isascii()
    ]
    sources["fuzz"] = [fuzz(draw, specials) for _ in range(count // 6)]
    sources["lines"] = [lines_of(draw, words) for _ in range(count // 6)]
    sources["threshold"] = [threshold(draw) for _ in range(count // 10)]
    sources["edge"] = [
        ".",
        "a",
        "x" * 1001 + " b c.",
        "the\n" * 100,
        "a of " * 100_002,
        " ",
        "\n",
        "\r\n \u2028",
        "hello world",
    ]
    generated = sum(len(texts) for texts in sources.values()) - len(sources["raw"]) - len(sources["package"])
    wanted = max(count - generated, 0)
    sources["raw"] = sources["raw"][: wanted * 3 // 4]
    sources["package"] = sources["package"][: wanted - len(sources["raw"])]
    return [
        {"id": f"{kind}-{number:05}", "text": text}
        for kind, texts in sources.items()
        for number, text in enumerate(texts)
        if not any("\ud800" <= character <= "\udfff" for character in text)
    ]


# --- corpora of any size ------------------------------------------------------------------------------------


class Distribution:
    """Documents and pages without end, of sentences of real text with names that nobody has seen before.

    About every tenth document is nearly the same as one of the last 200; others repeat lines, are lists, are
    short, are mostly numbers, or hold what pages have beside their text, so that every rule has something to do.
    """

    def __init__(self, raw, seed):
        self.draw = random.Random(seed)
        sentences = set()
        for text in raw_texts(raw) if raw else package_texts():
            for sentence in re.split(r"(?<=[.!?])\s+", text[:200_000]):
                sentence = " ".join(sentence.split())
                if 30 < len(sentence) < 300 and sentence.isascii():
                    sentences.add(sentence)
        self.sentences = sorted(sentences)
        self.last = []

    def name(self):
        syllables = (
            self.draw.choice("bcdfghklmnprstvw") + self.draw.choice("aeiou") for _ in range(self.draw.randint(2, 4))
        )
        return "".join(syllables).capitalize()

    def paragraph(self, low=2, high=6):
        words = " ".join(self.draw.choices(self.sentences, k=self.draw.randint(low, high))).split(" ")
        for _ in range(len(words) // 40):
            words[self.draw.randrange(len(words))] = self.name()
        return " ".join(words)

    def document(self):
        draw, kind = self.draw, self.draw.random()
        if kind < 0.1 and self.last:
            words = draw.choice(self.last).split(" ")
            for _ in range(draw.randint(0, max(len(words) // 60, 1))):
                words[draw.randrange(len(words))] = self.name()
            return " ".join(words)
        paragraphs = [self.paragraph() for _ in range(draw.randint(2, 12))]
        if kind > 0.75:
            spoil = draw.choice(
                [
                    lambda: paragraphs + [draw.choice(paragraphs) for _ in range(draw.randint(2, 6))],
                    lambda: [f"- {self.paragraph(1, 1)[:40]}" for _ in range(draw.randint(5, 40))],
                    lambda: [self.paragraph(1, 2)],
                    lambda: (
                        [" ".join(str(draw.randint(0, 99_999)) for _ in range(draw.randint(60, 200)))]
                        + paragraphs[:2]
                    ),
                    lambda: (
                        paragraphs
                        + ["You must enable JavaScript to read this page.", "See our privacy policy for more."]
                    ),
                    lambda: [paragraph[:60] + "..." for paragraph in paragraphs],
                ]
            )
            paragraphs = spoil()
        text = draw.choice(["\n", "\n\n"]).join(paragraphs)
        self.last = [*self.last[-199:], text]
        return text

    def links(self, count):
        items = (
            f'<li class="item"><a href="/{self.name()}">{self.name()} {self.name()}</a></li>' for _ in range(count)
        )
        return f"<ul>{''.join(items)}</ul>"

    def page(self):
        """A page as sites make them, with code, styles, navigation, notices and comments, and its text."""
        draw = self.draw
        title = f"{self.name()} {self.name()} and {self.name()}"
        body, text = [f"<h1>{title}</h1>"], [title]
        for _ in range(draw.randint(4, 20)):
            kind = draw.random()
            if kind < 0.1:
                text.append(f"About {self.name()} {self.name()}")
                body.append(f"<h2>{text[-1]}</h2>")
            elif kind < 0.2:
                items = [self.paragraph(1, 1) for _ in range(4)]
                text += items
                body.append(f"<ul>{''.join(f'<li>{html.escape(item)}</li>' for item in items)}</ul>")
            text.append(self.paragraph())
            words = html.escape(text[-1]).split(" ")
            if draw.random() < 0.4:
                at = draw.randrange(len(words))
                words[at] = f'<a href="/{self.name()}">{words[at]}</a>'
            body.append(f"<p>{' '.join(words)}</p>")
        around = draw.choice(
            [
                "<article>{}</article>",
                '<div class="post-content">{}</div>',
                '<main><div id="content">{}</div></main>',
                '<div class="row"><div class="col-8">{}</div></div>',
            ]
        )
        navigation = draw.choice(["<nav>{}</nav>", '<div class="navbar" id="menu">{}</div>']).format(self.links(30))
        footer = draw.choice(["<footer>{}</footer>", '<div class="footer" id="footer">{}</div>'])
        footer = footer.format(self.links(12) + "<p>Copyright Example Ltd. All rights reserved. Terms of use.</p>")
        code = "\n".join(
            f'var {self.name()} = {{a: "{self.name()}", b: [{n}, 2]}}; if ({n} < 3 && 1) {{}}' for n in range(60)
        )
        style = "\n".join(f".{self.name()} {{ color: #{n:06x}; margin: {n}px }}" for n in range(60))
        comments = "".join(
            f'<div class="comment"><span class="author">{self.name()}</span><p>{html.escape(self.paragraph(1, 2))}'
            "</p></div>"
            for _ in range(draw.randint(0, 4))
        )
        page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} - Example</title><style>{style}</style>
<script>{code}</script></head>
<body><header><a href="/">Example</a>{navigation}</header>
{around.format(chr(10).join(body))}
<div class="sidebar"><h3>Related posts</h3>{self.links(15)}</div>
<div class="comments" id="comments"><h3>Comments</h3>{comments}</div>
{footer}<script>{code[:2000]}</script></body></html>
"""
        return page, "\n\n".join(text)
