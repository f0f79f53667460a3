"""Parquet, Arrow and Feather files, as pyarrow reads them."""

import datetime
import decimal
import io

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq

from texts import answer, sentence


def answer_of(table, **more):
    """The rows with a text, which is a string or bytes that are one."""
    if "text" not in table.column_names or table.column_names.count("text") > 1:
        return answer([], True, **more)
    kind = table.schema.field("text").type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = any(
        test(kind) for test in [pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
                                pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view]
    )  # fmt: skip
    if not is_text:
        return answer([], table.num_rows > 0, **more)
    documents, faults = [], False
    columns = {name: table.column(name).to_pylist() for name in ("text", "id", "url") if name in table.column_names}
    for row in range(table.num_rows):
        value = columns["text"][row]
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError:
                value = None
        if value is None:
            faults = True
        elif value.strip():
            id, url = columns.get("id", {}), columns.get("url", {})
            documents.append({
                "text": value,
                "id": str(id[row]) if id and isinstance(id[row], (str, int)) and id[row] != "" else None,
                "url": url[row] if url and url[row] else None,
            })  # fmt: skip
    return answer(documents, faults, **more)


TEXTS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "dictionary8": pa.dictionary(pa.int8(), pa.large_string()),
}

OTHERS = {
    "bool": (pa.bool_(), lambda rng: rng.random() < 0.5),
    "int8": (pa.int8(), lambda rng: rng.randrange(-128, 128)),
    "uint64": (pa.uint64(), lambda rng: rng.randrange(2**64)),
    "int96": (pa.timestamp("ns"), lambda rng: datetime.datetime(2026, 1, 1 + rng.randrange(28))),
    "float16": (pa.float16(), lambda rng: 0.5),
    "float32": (pa.float32(), lambda rng: rng.random()),
    "float64": (pa.float64(), lambda rng: rng.random()),
    "decimal": (pa.decimal128(10, 2), lambda rng: decimal.Decimal(rng.randrange(10000)) / 100),
    "decimal256": (pa.decimal256(50, 2), lambda rng: decimal.Decimal(rng.randrange(10000)) / 100),
    "date": (pa.date32(), lambda rng: datetime.date(2026, 1, 1)),
    "time": (pa.time64("us"), lambda rng: datetime.time(1, 2, 3)),
    "duration": (pa.duration("s"), lambda rng: datetime.timedelta(seconds=5)),
    "zoned": (pa.timestamp("us", "Europe/Berlin"), lambda rng: datetime.datetime(2026, 1, 1)),
    "fixed": (pa.binary(4), lambda rng: b"abcd"),
    "list": (pa.list_(pa.string()), lambda rng: [sentence(rng) for _ in range(rng.randrange(3))]),
    "large_list": (pa.large_list(pa.int32()), lambda rng: [1, 2]),
    "fixed_list": (pa.list_(pa.int32(), 2), lambda rng: [1, 2]),
    "struct": (pa.struct([("text", pa.string()), ("n", pa.int32())]), lambda rng: {"text": "inner", "n": 1}),
    "map": (pa.map_(pa.string(), pa.int32()), lambda rng: [("a", 1)]),
    "deep": (pa.list_(pa.struct([("a", pa.list_(pa.int32()))])), lambda rng: [{"a": [1, None]}, None]),
    "null": (pa.null(), lambda rng: None),
}

NOT_TEXTS = {
    "int": pa.array([1, 2]),
    "float": pa.array([0.5, 1.5]),
    "bool": pa.array([True, False]),
    "null": pa.nulls(2),
    "date": pa.array([datetime.date(2026, 1, 1)] * 2),
    "timestamp": pa.array([datetime.datetime(2026, 1, 1)] * 2),
    "decimal": pa.array([decimal.Decimal("1.5")] * 2),
    "list": pa.array([["a", "b"], []]),
    "struct": pa.array([{"text": "a"}, {"text": "b"}]),
    "map": pa.array([[("a", "b")], []], pa.map_(pa.string(), pa.string())),
    "list-of-int": pa.array([[1], [2]]),
    "dictionary-of-int": pa.array([1, 2]).dictionary_encode(),
}


def random_table(rng, rows=None, kinds=TEXTS):
    rows = rng.randint(1, 12) if rows is None else rows
    kind = rng.choice(list(kinds))

    def text():
        return rng.choice([sentence(rng)] * 8 + ["", " \n", None, "a\x00b", "same words"])

    values = [text() for _ in range(rows)]
    if "binary" in kind:
        values = [value and value.encode() for value in values]
    columns = {"text": pa.array(values, TEXTS[kind])}
    if rng.random() < 0.4:
        columns["id"] = rng.choice([
            pa.array([f"r{row}" for row in range(rows)]),
            pa.array([row * 10**15 for row in range(rows)]),
            pa.array([f"r{row}" for row in range(rows)]).dictionary_encode(),
            pa.array([f"r{row}" for row in range(rows)], pa.large_string()),
        ])  # fmt: skip
    if rng.random() < 0.3:
        urls = [rng.choice([None, f"https://example.org/{row}"]) for row in range(rows)]
        columns["url"] = pa.array(urls, rng.choice([pa.string(), pa.string_view()]))
    for name in rng.sample(list(OTHERS), rng.randrange(4)):
        type, make = OTHERS[name]
        columns[name] = pa.array([None if rng.random() < 0.2 else make(rng) for _ in range(rows)], type)
    names = list(columns)
    rng.shuffle(names)
    return kind, pa.table({name: columns[name] for name in names})


def two(text=pa.array(["one", "two"]), **more):
    return pa.table({"text": text, **more})


def read_parquet(data):
    file = pq.ParquetFile(io.BytesIO(data))
    try:
        return file.read()
    except pa.ArrowInvalid:
        # pyarrow 26 cannot join the row groups of some nested columns: those that Kiln looks at are enough.
        return file.read([name for name in ("text", "id", "url") if name in file.schema_arrow.names])


def parquet(rng):
    number = 0

    def case(label, table, extension=".parquet", expected=None, data=None, **options):
        nonlocal number
        number += 1
        if data is None:
            sink = io.BytesIO()
            pq.write_table(table, sink, **options)
            data = sink.getvalue()
        found = answer_of(read_parquet(data)) if expected is None else expected
        return f"{number:03}-{label}{extension}", data, found

    for index in range(60):
        kind, table = random_table(rng)
        options = {
            "compression": rng.choice(["none", "snappy", "gzip", "brotli", "lz4", "zstd"]),
            "version": rng.choice(["1.0", "2.4", "2.6"]),
            "data_page_version": rng.choice(["1.0", "2.0"]),
            "use_dictionary": rng.random() < 0.5,
            "row_group_size": rng.choice([None, 1, 3]),
            "data_page_size": rng.choice([None, 1]),
            "write_statistics": rng.random() < 0.5,
            "write_page_checksum": rng.random() < 0.5,
            "write_page_index": rng.random() < 0.5,
            "store_schema": rng.random() < 0.7,
            "use_deprecated_int96_timestamps": "int96" in table.column_names,
        }
        if "duration" in table.column_names or "float16" in table.column_names:
            options["store_schema"] = True
        yield case(f"{kind}-{options['compression']}", table, rng.choice([".parquet", ".PARQUET"]), **options)
    for encoding in ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"]:
        for page in ["1.0", "2.0"]:
            table = two(pa.array([f"text {row}" for row in range(40)] + [None, "last"]))
            yield case(f"encoding-{encoding.lower()}", table, use_dictionary=False, data_page_version=page,
                       column_encoding={"text": encoding})  # fmt: skip
    table = two(n=pa.array([1.5, 2.5]), i=pa.array([1, 2]))
    yield case("byte-stream-split", table, use_dictionary=False, use_byte_stream_split=["n"])
    yield case("delta-packed", table, use_dictionary=False, column_encoding={"i": "DELTA_BINARY_PACKED"})
    for label, column in NOT_TEXTS.items():
        yield case(f"no-text-{label}", two(column))
    for label, table in [
        ("no-rows", pa.table({"text": pa.array([], pa.string())})),
        ("no-columns", pa.table({})),
        ("other-column", pa.table({"body": ["one"]})),
        ("other-case", pa.table({"Text": ["one"]})),
        ("all-null", two(pa.array([None, None], pa.string()))),
        ("all-empty", two(pa.array(["", ""]))),
        ("same-name", pa.Table.from_arrays([pa.array(["one"]), pa.array(["two"])], names=["text", "text"])),
        ("dots", two(**{"a.b": pa.array([1, 2]), "": pa.array([1, 2])})),
        ("struct-id", two(id=pa.array([{"a": 1}, {"a": 2}]))),
        ("null-id", two(id=pa.array(["a", None]))),
        ("empty-id", two(id=pa.array(["", "b"]))),
        ("null-url", two(url=pa.array(["", None]))),
        ("metadata", two().replace_schema_metadata({"a": "b" * 1000})),
        ("many-rows", pa.table({"text": [f"row {row}" for row in range(700)]})),
        ("many-columns", two(**{f"c{index}": pa.array([index, None]) for index in range(60)})),
        ("invalid-bytes", two(pa.array([b"one", b"\xff\xfe"]))),
        ("long", two(pa.array(["word " * 5000, "two"]))),
    ]:
        yield case(label, table)
    data = io.BytesIO()
    pq.write_table(two(), data)
    data, found = data.getvalue(), answer(["one", "two"])
    broken = answer([], True)
    yield case("pq", None, ".pq", found, data)
    yield case("parq", None, ".parq", found, data)
    yield case("no-extension", None, "-part", found, data)
    for label, damaged in [
        ("empty", b""),
        ("magic-only", b"PAR1"),
        ("cut", data[:-10]),
        ("cut-half", data[: len(data) // 2]),
        ("head-cut", data[4:]),
        ("footer-length", data[:-8] + b"\xff\xff\xff\x7f" + data[-4:]),
        ("encrypted-magic", b"PARE" + data[4:-4] + b"PARE"),
        ("text", b"this is no Parquet file"),
    ]:
        yield case(label, None, ".parquet", broken, damaged)


def write_ipc(table, make, options, rows):
    sink = io.BytesIO()
    with make(sink, table.schema, options=options) as writer:
        for batch in table.to_batches(max_chunksize=rows):
            writer.write_batch(batch)
    return sink.getvalue()


def arrow(rng):
    number = 0

    def case(label, extension, data, found):
        nonlocal number
        number += 1
        return f"{number:03}-{label}{extension}", data, found

    def both(data):
        try:
            return pa.ipc.open_file(io.BytesIO(data)).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_stream(io.BytesIO(data)).read_all()

    for index in range(60):
        kind, table = random_table(rng)
        make = rng.choice([pa.ipc.new_file, pa.ipc.new_stream])
        compression = rng.choice([None, "lz4", "zstd"])
        options = pa.ipc.IpcWriteOptions(
            compression=compression,
            use_legacy_format=make is pa.ipc.new_stream and rng.random() < 0.2,
            emit_dictionary_deltas=rng.random() < 0.5,
            unify_dictionaries=make is pa.ipc.new_file,
        )
        data = write_ipc(table, make, options, rng.choice([None, 1, 4]))
        shape = "file" if make is pa.ipc.new_file else "stream"
        extension = rng.choice([".arrow", ".ipc", ".ARROW"])
        yield case(f"{shape}-{kind}-{compression}", extension, data, answer_of(both(data)))
    plain = pa.ipc.IpcWriteOptions()
    for make in [pa.ipc.new_file, pa.ipc.new_stream]:
        for label, column in NOT_TEXTS.items():
            table = two(column)
            yield case(f"no-text-{label}", ".arrow", write_ipc(table, make, plain, None), answer_of(table))
    for label, table in [
        ("no-rows", pa.table({"text": pa.array([], pa.string())})),
        ("other-column", pa.table({"body": ["one"]})),
        ("all-null", two(pa.array([None, None], pa.string()))),
        ("run-ends", two(pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["one", "two"])))),
        ("union", two(u=pa.UnionArray.from_sparse(
            pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]))),
        ("list-view", two(v=pa.array([[1], [2]], pa.list_view(pa.int32())))),
        ("extension", two(u=pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 2, pa.binary(16))))),
        ("sliced", pa.table({"text": [f"row {row}" for row in range(9)]}).slice(3, 4)),
        ("many-rows", pa.table({"text": [f"row {row}" for row in range(700)]})),
        ("invalid-bytes", two(pa.array([b"one", b"\xff\xfe"]))),
    ]:  # fmt: skip
        found = answer_of(table) if label != "run-ends" else answer(["one", "two"])
        yield case(label, ".arrow", write_ipc(table, pa.ipc.new_stream, plain, None), found)
    # Dictionaries that change from batch to batch.
    schema = pa.schema([("text", pa.dictionary(pa.int32(), pa.string()))])
    for deltas in [False, True]:
        sink = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
        with pa.ipc.new_stream(sink, schema, options=options) as writer:
            for words in [["one", "two"], ["one", "two", "three"], ["four"]]:
                writer.write_batch(pa.record_batch([pa.array(words).dictionary_encode()], schema=schema))
        data = sink.getvalue()
        yield case(f"dictionaries-{deltas}", ".arrow", data, answer_of(both(data)))
    table = pa.table({"text": [f"row {row}" for row in range(9)]})
    file = write_ipc(table, pa.ipc.new_file, plain, 3)
    stream = write_ipc(table, pa.ipc.new_stream, plain, 3)
    yield case("no-extension", "-part", file, answer_of(table))
    yield case("stream-no-end", ".arrow", stream[:-8], answer_of(table))
    some = {"broken": True}
    for label, data, found in [
        ("empty", b"", answer([], True)),
        ("magic-only", b"ARROW1\0\0", answer([], True)),
        ("text", b"this is no Arrow file", answer([], True)),
        ("file-cut", file[:-30], answer_of(table, **some)),
        ("file-half", file[: len(file) // 2], answer_of(table, **some)),
        ("stream-cut", stream[:-100], answer_of(table, **some)),
    ]:
        yield case(label, ".arrow", data, {**found, "faults": True})


def feather(rng):
    number = 0
    for index in range(102):
        number += 1
        version = 1 if index % 10 == 9 else 2
        kind, table = random_table(rng, kinds=["string"] if version == 1 else TEXTS)
        sink = io.BytesIO()
        if version == 1:
            names = [name for name in table.column_names if name in ("text", "id", "url", "float64", "bool")]
            table = table.select([n for n in names if table.schema.field(n).type in (pa.string(), pa.float64(), pa.bool_())])
            pyarrow.feather.write_feather(table, sink, version=1)
        else:
            compression = rng.choice(["lz4", "zstd", "uncompressed", None])
            pyarrow.feather.write_feather(table, sink, compression=compression, chunksize=rng.choice([None, 1, 4]))
        found = answer_of(pyarrow.feather.read_table(io.BytesIO(sink.getvalue())))
        if version == 1:
            found = answer([], True, refused="Feather")
        yield f"{number:03}-v{version}-{kind}.feather", sink.getvalue(), found
