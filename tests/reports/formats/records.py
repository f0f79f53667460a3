"""JSON, JSON lines, CSV and TSV, as Python's json and csv read them."""

import csv
import io
import json

from texts import answer, sentence

NAMES = ("text", "id", "url")


def rounded(value):
    """A value with whole numbers as floating-point numbers where 64 bits do not hold them, as in Kiln's metadata."""
    if isinstance(value, dict):
        return {key: rounded(own) for key, own in value.items()}
    if isinstance(value, list):
        return [rounded(own) for own in value]
    is_large = type(value) is int and not -(2**63) <= value < 2**64
    return float(value) if is_large else value


def document(record):
    """What becomes of a record; `None` for one without text."""
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str) or not text.strip():
        return None
    # A number that was rounded identifies nothing.
    id, url = record.get("id"), record.get("url")
    id = id if rounded(id) is id else None
    is_number = isinstance(id, (int, float)) and not isinstance(id, bool)
    return {
        "text": text,
        "id": id if isinstance(id, str) and id else str(id) if is_number else None,
        "url": url if isinstance(url, str) and url else None,
        "metadata": {key: rounded(value) for key, value in record.items() if key not in NAMES},
    }


def answer_of(records, faults=False, **more):
    documents = [document(record) for record in records]
    faults = faults or None in documents or not documents
    return answer([document for document in documents if document], faults, **more)


def value(rng, depth=0):
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.choice([0, -1, 7, 2**31, 2**53 + 1, -(2**63), 2**63 - 1, 2**64 - 1, rng.randrange(10**9)])
    if kind == 2:
        return rng.choice([0.5, -0.0, 1e300, 5e-324, 0.1 + 0.2, 1 / 3, rng.random(), rng.uniform(-1e9, 1e9)])
    if kind < 6:
        return rng.choice(["", sentence(rng), '"quoted" \\ / \b\f\n\r\t', "\x7f\u2028\u2029\ufeff", "{[}],:"])
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(["a", "b c", "é", "", "text", '"']): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def record(rng):
    fields = {"text": sentence(rng)}
    if rng.random() < 0.5:
        fields["id"] = rng.choice([f"r{rng.randrange(10**6)}", rng.randrange(10**12)])
    if rng.random() < 0.3:
        fields["url"] = f"https://example.org/{rng.randrange(1000)}?a=b&c=d"
    for _ in range(rng.randrange(3)):
        fields[rng.choice(["score", "tags", "meta", "größe", "a.b"])] = value(rng)
    items = list(fields.items())
    rng.shuffle(items)
    return dict(items)


def dumps(rng, fields):
    style = rng.randrange(5)
    if style == 0:
        return json.dumps(fields)
    if style == 1:
        return json.dumps(fields, ensure_ascii=False)
    if style == 2:
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    if style == 3:
        return " " + json.dumps(fields, separators=(" ,\t", " : ")) + "  "
    return json.dumps(fields).replace("/", "\\/")


# A record each, or what is none: as lines, and as elements of arrays. The second of a pair says why Kiln refuses
# what Python reads.
ODD = [
    ('{"text": "a", "text": "b"}', None),
    ('{"text": "b", "\\u0074ext": "c"}', None),
    ('{"text": null}', None),
    ('{"text": ""}', None),
    ('{"text": " \\n\\t"}', None),
    ('{"text": 5}', None),
    ('{"text": ["a", "b"]}', None),
    ('{"text": {"text": "a"}}', None),
    ('{"Text": "a"}', None),
    ("{}", None),
    ("[]", None),
    ('["text", "a"]', None),
    ('"text"', None),
    ("17", None),
    ("null", None),
    ('{"text": "\\ud83e\\udd86 duck"}', None),
    ('{"text": "a\\u0000b"}', None),
    ('{"text": "\\ud83e alone"}', "not JSON"),
    ('{"text": "\\udd86 alone"}', "surrogate"),
    ('{"text": "a", "score": NaN}', "not JSON"),
    ('{"text": "a", "score": Infinity}', "not JSON"),
    ('{"text": "a", "score": -Infinity}', "not JSON"),
    ('{"text": "a", "score": 1e400}', "out of range"),
    ('{"text": "a", "score": 1e-400}', None),
    ('{"text": "a", "score": -0}', None),
    ('{"text": "a", "score": 01}', None),
    ('{"text": "a", "score": .5}', None),
    ('{"text": "a", "score": 5.}', None),
    ('{"text": "a", "score": +5}', None),
    ('{"text": "a", "score": 0x10}', None),
    ('{"text": "a",}', None),
    ('{"text": "a", "tags": [1,]}', None),
    ("{'text': 'a'}", None),
    ('{text: "a"}', None),
    ('{"text": "a"} // comment', None),
    ('{"text": "a" /* comment */}', None),
    ('{"text": "a\tb"}', None),
    ('{"text": "a\x01b"}', None),
    ('{"text": "a\x7fb"}', None),
    ('{"text": "a\\xb"}', None),
    ('{"text": "a\\u12"}', None),
    ('{"text": "a\\/b"}', None),
    ('{"text": "a"', None),
    ('{"text": "a}', None),
    ('{"text": "a"}}', None),
    ('{"text": True}', None),
    ('{"text": "a", "id": ""}', None),
    ('{"text": "a", "id": null}', None),
    ('{"text": "a", "id": 12345678901234567890}', None),
    ('{"text": "a", "id": 18446744073709551615}', None),
    ('{"text": "a", "id": -9223372036854775808}', None),
    ('{"text": "a", "id": 1180591620717411303424}', None),
    ('{"text": "a", "id": 1.5}', None),
    ('{"text": "a", "id": true}', None),
    ('{"text": "a", "id": ["x"]}', None),
    ('{"text": "a", "url": ""}', None),
    ('{"text": "a", "url": 5}', None),
    ('{"text": "a", "n": 1180591620717411303424}', None),
    ('{"text": "a", "n": -1180591620717411303424}', None),
    ('{"text": "a", "n": 0.1000000000000000055511151231257827}', None),
    ('{"text": "a", "n": 9007199254740993.0}', None),
    ('{"text": "a", "n": 7.2057594037927933e16}', None),
    ('{"text": "a", "n": 123456789012345678901234567890.5}', None),
    ('{"text": "a", "n": [' + "[" * 60 + "]" * 60 + "]}", None),
    ('{"text": "a", "n": [' + "[" * 300 + "]" * 300 + "]}", "recursion limit"),
    ('{"text": "a\u0085b\u2028c"}', None),
    ('{"text": "a", "": 1}', None),
    ('\u00a0{"text": "a"}', None),
    ('\x0c{"text": "a"}', None),
    ('{"text": "a"}\x00', None),
]


def loads(text):
    """A record, or `Ellipsis` for what Python refuses, or what no UTF-8 can hold."""
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, UnicodeEncodeError):
        return ...


def read_lines(text):
    return [loads(line) for line in text.split("\n") if line.strip(" \t\r\n")]


def jsonl_files(rng):
    number = 0

    def case(label, data, records, extension=None, **more):
        nonlocal number
        number += 1
        extension = rng.choice([".jsonl", ".ndjson", ".json", "", ".JSONL"]) if extension is None else extension
        return f"{number:03}-{label}{extension}", data, answer_of(records, **more)

    for index in range(40):
        text = ""
        mark = "\ufeff" if rng.random() < 0.2 else ""
        end = rng.choice(["\n", "\r\n"])
        for _ in range(rng.randint(1, 6)):
            text += dumps(rng, record(rng)).strip(" ") + end * rng.choice([1, 1, 1, 2, 3])
        text = text.rstrip("\r\n") if rng.random() < 0.3 else text
        extension = rng.choice([".jsonl", ".ndjson", ".json", "", ".JSONL"])
        # `read_lines` does not count the mark as part of a record.
        yield case("random", (mark + text).encode(), read_lines(text), extension)
    for index, (line, refused) in enumerate(ODD):
        before, after = json.dumps({"text": "before"}), json.dumps({"text": "after"})
        text = f"{before}\n{line}\n{after}\n"
        records = read_lines(text)
        more = {}
        if refused:
            records[1] = ...
            more["refused"] = refused
        yield case(f"odd-{index}", text.encode(), records, ".jsonl", **more)
    two = '{"text": "one"}\n{"text": "two ü"}\n'
    for label, data, records in [
        ("invalid-utf8", two.encode() + b'{"text": "\xff"}\n', [*read_lines(two), ...]),
        ("latin1", two.encode("latin-1"), [{"text": "one"}, ...]),
        ("surrogate-bytes", two.encode() + b'{"text": "\xed\xa0\xbe"}\n', [*read_lines(two), ...]),
        ("utf16", two.encode("utf-16"), read_lines(two)),
        ("utf16-be", "\ufeff".encode("utf-16-be") + two.encode("utf-16-be"), read_lines(two)),
        ("utf32", two.encode("utf-32"), read_lines(two)),
        ("blank", b"\n\n  \n", []),
        ("empty", b"", []),
        ("only-mark", b"\xef\xbb\xbf", []),
        ("record-separator", b'\x1e{"text": "a"}\n', [...]),
    ]:
        yield case(label, data, records, ".jsonl")


def json_files(rng):
    """Arrays of records, and records spread over lines."""
    number = 0

    def case(label, data, records, extension=None, **more):
        nonlocal number
        number += 1
        return f"{number:03}-{label}{extension or '.json'}", data, answer_of(records, **more)

    for index in range(20):
        fields = [record(rng) for _ in range(rng.randint(1, 5))]
        indent = rng.choice([None, 1, 2, "\t", 0])
        text = json.dumps(fields, indent=indent, ensure_ascii=rng.random() < 0.5)
        text = text.replace("\n", "\r\n") if rng.random() < 0.3 else text
        mark = "\ufeff" if rng.random() < 0.2 else ""
        extension = rng.choice([".json", ".JSON", "", ".json"]) or "-records"
        yield case("array", (mark + text + rng.choice(["", "\n"])).encode(), json.loads(text), extension)
    for index in range(10):
        fields = [record(rng) for _ in range(rng.randint(1, 4))]
        parts = [json.dumps(one, indent=rng.choice([1, 2, "\t"])) for one in fields]
        text = rng.choice(["\n", "\n\n", "\r\n"]).join(parts)
        decoder, at, found = json.JSONDecoder(), 0, []
        while at < len(text):
            one, at = decoder.raw_decode(text, at)
            found.append(one)
            while at < len(text) and text[at].isspace():
                at += 1
        yield case("values", text.encode(), found)
    for index, (line, refused) in enumerate(ODD):
        before, after = json.dumps({"text": "before"}), json.dumps({"text": "after"})
        text = f"[{before}, {line},\n{after}]"
        whole = loads(text)
        # Python refuses the whole array for one element: then what is around it may be read or not.
        if line.startswith("\x0c"):
            # Kiln passes over a form feed between records, which is no white space of JSON.
            continue
        if whole is ...:
            records = [{"text": "before"}, {"text": "a"}, ..., {"text": "after"}]
            yield case(f"odd-{index}", text.encode(), records, broken=True)
        elif refused:
            yield case(f"odd-{index}", text.encode(), [whole[0], ..., whole[2]], refused=refused)
        else:
            yield case(f"odd-{index}", text.encode(), whole)
    array = [{"text": "one"}, {"text": "two ü"}]
    text = json.dumps(array, ensure_ascii=False)
    for label, data, records, more in [
        ("utf16", text.encode("utf-16"), array, {}),
        ("utf32", text.encode("utf-32"), array, {}),
        ("latin1", text.encode("latin-1"), [{"text": "one"}, ...], {}),
        ("empty-array", b"[]", [], {}),
        ("cut", text.encode()[:-9], [array[0], ...], {"broken": True}),
        ("cut-behind", text.encode()[:-1], [*array, ...], {"broken": True}),
        ("more-behind", text.encode() + b" more", [*array, ...], {"broken": True}),
        ("two-arrays", text.encode() + b"\n" + text.encode(), [*array, *array], {}),
        ("one-record", b'{"text": "one"}', [{"text": "one"}], {}),
        ("string", b'"text"', [...], {}),
        ("nested-array", b'[[{"text": "one"}]]', [[{"text": "one"}]], {}),
        ("empty", b"", [], {}),
        ("padded", b" \r\n\t[ \n" + json.dumps(array[0]).encode() + b" ]\n\n", array[:1], {}),
    ]:
        yield case(label, data, records, **more)


def read_table(text, delimiter=","):
    """The records of Python's csv, by the names of the first line; `Ellipsis` for those of another length."""
    # A field may have any length here.
    csv.field_size_limit(1 << 30)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    if not rows:
        return [], False
    names = rows[0]
    if "text" not in names:
        return [], True
    return [dict(zip(names, row)) if len(row) == len(names) else ... for row in rows[1:]], False


def table_files(rng, delimiter):
    extension = ".csv" if delimiter == "," else ".tsv"
    number = 0

    def case(label, text, data=None, extension=extension, **more):
        nonlocal number
        number += 1
        records, lacks = read_table(text, delimiter)
        data = text.encode() if data is None else data
        name = f"{number:03}-{label}{extension}"
        found = answer_of(records, lacks, **more)
        # A head without rows is a table of no rows.
        if not lacks and not records and text.strip():
            found["faults"] = False
        return name, data, found

    for index in range(60):
        names = ["text"] + rng.sample(["id", "url", "score", "größe", "a b", "", "Text"], rng.randrange(5))
        rng.shuffle(names)
        out = io.StringIO(newline="")
        writer = csv.writer(
            out,
            delimiter=delimiter,
            quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
            lineterminator=rng.choice(["\r\n", "\n", "\r"]),
        )
        writer.writerow(names)
        for _ in range(rng.randint(1, 6)):
            cell = lambda: rng.choice(
                [
                    "",
                    sentence(rng),
                    'say "quoted" words',
                    '"',
                    '""',
                    "a,b;c\td|e",
                    "line\nbreak",
                    "line\r\nbreak\r",
                    " space around ",
                    "\\n \\\" backslash",
                    "#comment",
                    rng.randrange(1000),
                    "\u2028\u0085",
                    "'single'",
                ]
            )
            row = [cell() if name != "text" or rng.random() < 0.4 else sentence(rng) for name in names]
            writer.writerow(row)
        text = out.getvalue()
        mark = b"\xef\xbb\xbf" if rng.random() < 0.2 else b""
        text = text.rstrip("\r\n") if rng.random() < 0.2 and text.endswith(("\n", "\r")) else text
        yield case("random", text, mark + text.encode())
    d = delimiter
    head = f"id{d}text\n"
    for label, text in [
        ("quote-within", head + f'1{d}a"b"c\n2{d}plain\n'),
        ("quote-then-more", head + f'1{d}"a"b\n2{d}plain\n'),
        ("quote-then-quote", head + f'1{d}"a"b"c"\n2{d}plain\n'),
        ("space-then-quote", head + f'1{d} "a{d}b"\n2{d}plain\n'),
        ("quote-then-space", head + f'1{d}"a" \n2{d}plain\n'),
        ("open-quote", head + f'1{d}plain\n2{d}"open\nand on\n'),
        ("open-quote-ends", head + f'1{d}plain\n2{d}"'),
        ("doubled-at-end", head + f'1{d}"a"""\n2{d}plain'),
        ("too-few", head + f"1\n2{d}plain\n"),
        ("too-many", head + f"1{d}a{d}b\n2{d}plain\n"),
        ("blank-lines", f"\n\n{head}\n1{d}a\n\n\r\n2{d}b\n\n"),
        ("spaces-line", head + f"  \n2{d}b\n"),
        ("crlf", head.replace("\n", "\r\n") + f"1{d}a\r\n2{d}b\r\n"),
        ("cr", head.replace("\n", "\r") + f"1{d}a\r2{d}b\r"),
        ("mixed-ends", head + f"1{d}a\r\n2{d}b\r3{d}c\n4{d}d"),
        ("cr-in-quotes", head + f'1{d}"a\rb"\n2{d}"a\r\nb"\n'),
        ("empty-fields", head + f"{d}a\n2{d}\n{d}\n"),
        ("empty-quoted", head + f'""{d}"a"\n""{d}""\n'),
        ("one-column", "text\na\nb\n\nc"),
        ("one-column-quoted", 'text\n"a\n\nb"\n""\nc'),
        ("head-only", head),
        ("head-only-no-end", head.strip()),
        ("no-text-column", f"id{d}body\n1{d}a\n"),
        ("same-name-twice", f"text{d}text\na{d}b\n"),
        ("other-case", f"id{d}TEXT\n1{d}a\n"),
        ("quoted-head", f'"id"{d}"text"\n"1"{d}"a"\n'),
        ("head-with-break", f'"i\nd"{d}text\n1{d}a\n'),
        ("spaces-in-cells", head + f"1{d}  a  \n2{d}\u00a0b\u00a0\n"),
        ("zero-byte", head + f"1{d}a\x00b\n2{d}c\n"),
        ("backslash", head + f'1{d}a\\{d}\n2{d}"a\\"\n'),
        ("comment", f"# a comment\n{head}1{d}a\n"),
        ("semicolons", "id;text\n1;a\n"),
        ("no-end", head + f"1{d}last"),
        ("trailing-delimiter", f"id{d}text{d}\n1{d}a{d}\n2{d}b{d}\n"),
        ("long", head + f"1{d}{'word ' * 4000}\n2{d}b\n"),
        ("many-columns", d.join(["text", *map(str, range(300))]) + "\n" + d.join(["a"] * 301) + "\n"),
        ("many-rows", head + "".join(f"{n}{d}row {n}\n" for n in range(700))),
        ("id-zero", head + f"0{d}a\n00{d}b\n"),
        ("url", f"text{d}url\na{d}https://example.org/a\nb{d}\n"),
    ]:
        yield case(label, text)
    text = head + f"1{d}grün\n2{d}b\n"
    yield case("utf16", text, text.encode("utf-16"))
    yield case("utf16-be", text, b"\xfe\xff" + text.encode("utf-16-be"))
    yield case("utf32", text, text.encode("utf-32"))
    # As Python reads UTF-8: the record is refused.
    name, _, found = case("latin1", text)
    yield name, text.encode("latin-1"), {**found, "documents": found["documents"][1:], "faults": True}


def csv_files(rng):
    return table_files(rng, ",")


def tsv_files(rng):
    return table_files(rng, "\t")
