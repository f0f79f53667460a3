"""Tar, zip, gzip and zstd files, as Python's tarfile, zipfile and gzip and zstandard read them."""

import bz2
import gzip
import io
import json
import lzma
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import zstandard

from texts import answer, sentence


def zstd_bytes(data, **options):
    return zstandard.ZstdCompressor(**options).compress(data)


def lines(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def member(rng):
    """Name, bytes and documents of a file as archives have them."""
    folder = rng.choice(["", "", "docs/", "./", "a b/ü/", "/root/"])
    name = f"{folder}{rng.choice(['note', 'Größe', 'two words', '文'])}-{rng.randrange(1000)}"
    texts = [sentence(rng) for _ in range(rng.randint(1, 3))]
    kind = rng.randrange(8)
    if kind < 3:
        return f"{name}{rng.choice(['.txt', '.md', ''])}", texts[0].encode(), texts[:1]
    if kind == 3:
        return f"{name}.jsonl", lines(texts), texts
    if kind == 4:
        return f"{name}.jsonl.gz", gzip.compress(lines(texts), mtime=0), texts
    if kind == 5:
        return f"{name}.jsonl.zst", zstd_bytes(lines(texts)), texts
    if kind == 6:
        return f"{name}.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + rng.randbytes(20), []
    return f"{name}.json", json.dumps([{"text": text} for text in texts]).encode(), texts


def members(rng):
    found = {}
    for _ in range(rng.randint(1, 4)):
        name, data, texts = member(rng)
        found[name] = data, texts
    return [(name, *rest) for name, rest in found.items()]


def of_members(found):
    return [{"text": text, "member": name} for name, _, texts in found for text in texts]


def read_tar(data, known, **options):
    """The documents of the files that tarfile finds, whose bytes it must give."""
    documents = []
    with tarfile.open(fileobj=io.BytesIO(data), **options) as archive:
        for info in archive:
            file = None if info.issym() or info.islnk() else archive.extractfile(info)
            if file is not None:
                content = file.read()
                own = next(texts for _, data, texts in known if data == content)
                documents += [{"text": text, "member": info.name} for text in own]
    return documents


def write_tar(found, format=tarfile.PAX_FORMAT, change=None, **options):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, **options) as archive:
        for name, data, _ in found:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            if change:
                change(info)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def raw_header(name, size, kind=b"0", magic=b"ustar\x0000", **fields):
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = fields.get("size_field", b"%011o\0" % size)
    block[136:148] = fields.get("time_field", b"00000000000\0")
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    if "prefix" in fields:
        block[345 : 345 + len(fields["prefix"])] = fields["prefix"]
    block[148:156] = b" " * 8
    total = sum(block)
    if fields.get("signed"):
        total = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = fields.get("checksum", b"%06o\0 ") % total
    return bytes(block)


def raw_member(name, data, **fields):
    return raw_header(name, len(data), **fields) + data + bytes(-len(data) % 512)


def gnu_tar(*arguments):
    """What GNU tar writes of a file with holes and one without."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/holes.txt", "wb") as file:
            file.write(b"start\n")
            file.seek(1 << 16)
            file.write(b"end\n")
        Path(f"{folder}/plain.txt").write_bytes(b"plain words\n")
        command = ["tar", "-C", folder, "--sparse", "--mtime=@1700000000", "--owner=0", "--group=0", *arguments]
        return subprocess.run([*command, "-cf-", "holes.txt", "plain.txt"], check=True, stdout=subprocess.PIPE).stdout


END = bytes(1024)


def pax(*fields):
    """Records of pax, each with its own length before it."""
    out = b""
    for field in fields:
        length = len(field) + 2
        length += len(str(length + len(str(length))))
        out += b"%d %s\n" % (length, field)
    return out


def tar(rng):
    number = 0

    def case(label, data, known, documents=None, extension=".tar", faults=False, **more):
        nonlocal number
        number += 1
        if documents is None:
            documents = read_tar(data, known)
        return f"{number:03}-{label}{extension}", data, answer(documents, faults, **more)

    for index in range(60):
        found = members(rng)
        format = rng.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
        change = None
        if rng.random() < 0.3 and format != tarfile.USTAR_FORMAT:
            found = [(f"{'long-folder/' * rng.randint(10, 30)}{name.strip('/')}", *rest) for name, *rest in found]
        elif rng.random() < 0.3:
            found = [(f"{'deep/' * 25}{name.strip('/')}", *rest) for name, *rest in found]
        if rng.random() < 0.2 and format == tarfile.PAX_FORMAT:
            def change(info):
                info.pax_headers = {"comment": "a = b\nc", "mtime": "1700000000.25", "VENDOR.x": "ü" * 90}
        options = {}
        if format == tarfile.PAX_FORMAT and rng.random() < 0.3:
            options["pax_headers"] = {"comment": "of all members"}
        data = write_tar(found, format, change, **options)
        if rng.random() < 0.2:
            data = data.rstrip(b"\0")
            data += bytes(-len(data) % 512) + END
        pack = rng.randrange(6)
        extension, packed = [
            (".tar", data), (".tar.gz", gzip.compress(data, mtime=0)), (".tgz", gzip.compress(data, mtime=0)),
            (".tar.zst", zstd_bytes(data)), ("", data), (".tzst", zstd_bytes(data)),
        ][pack]  # fmt: skip
        number_of = case(f"random-{format}", data, found, extension=extension or "-archive")
        yield number_of[0], packed, number_of[2]
    one, two = [("one.txt", b"one word", ["one word"])], [("two.txt", b"two words", ["two words"])]
    both = one + two
    long = b"x" * 90 + b".txt"
    a, b = raw_member(b"one.txt", b"one word"), raw_member(b"two.txt", b"two words")
    for label, data, known in [
        ("v7", raw_member(b"one.txt", b"one word", kind=b"\0", magic=b"") + END, one),
        ("v7-folder", raw_header(b"docs/", 0, kind=b"\0", magic=b"") + a + END, one),
        ("contiguous", raw_member(b"one.txt", b"one word", kind=b"7") + END, one),
        ("unknown-kind", raw_member(b"one.txt", b"one word", kind=b"Z") + b + END, both),
        ("gnu-magic", raw_member(b"one.txt", b"one word", magic=b"ustar  \0") + END, one),
        ("gnu-atime", raw_member(b"one.txt", b"one word", magic=b"ustar  \0", prefix=b"00000000000\0") + END, one),
        ("prefix", raw_member(b"one.txt", b"one word", prefix=b"folder/inner") + END, one),
        ("prefix-long", raw_member(long, b"one word", prefix=b"y" * 155) + END, one),
        ("name-full", raw_member(b"n" * 100, b"one word") + END, one),
        ("size-binary", raw_member(b"one.txt", b"one word", size_field=b"\x80" + (8).to_bytes(11, "big")) + END, one),
        ("size-spaces", raw_member(b"one.txt", b"one word", size_field=b"         10 ") + END, one),
        ("size-no-end", raw_member(b"one.txt", b"one word", size_field=b"000000000010") + END, one),
        ("size-short", raw_member(b"one.txt", b"one word", size_field=b"10\0" + b"9" * 9) + END, one),
        ("time-before-1970", raw_member(b"one.txt", b"one word", time_field=b"\xff" * 12) + END, one),
        ("checksum-spaces", raw_member(b"one.txt", b"one word", checksum=b"%6o\0 ") + END, one),
        ("checksum-long", raw_member(b"one.txt", b"one word", checksum=b"%07o\0") + END, one),
        ("checksum-signed", raw_member("größe.txt".encode(), b"one word", signed=True) + END, one),
        ("folder", raw_header(b"docs", 0, kind=b"5") + a + END, one),
        ("symlink", raw_header(b"link", 0, kind=b"2") + a + END, one),
        ("hardlink", a + raw_header(b"link", 0, kind=b"1") + END, one),
        ("fifo", raw_header(b"pipe", 0, kind=b"6") + a + END, one),
        ("device", raw_header(b"null", 0, kind=b"3") + a + END, one),
        ("volume-label", raw_header(b"label", 0, kind=b"V", magic=b"ustar  \0") + a + END, [*one, ("label", b"", [])]),
        ("solaris", raw_member(b"x", pax(b"path=folder/name"), kind=b"X") + a + END, one),
        ("global", raw_member(b"g", pax(b"comment=all of it"), kind=b"g") + a + END, one),
        ("global-path", raw_member(b"g", pax(b"path=folder/name"), kind=b"g") + a + END, one),
        ("pax-size", raw_member(b"x", pax(b"size=8"), kind=b"x") + raw_header(b"one.txt", 0) + b"one word" + bytes(504) + END, one),
        ("pax-line-in-value", raw_member(b"x", pax(b"comment=a\nb=c", b"path=b"), kind=b"x") + a + END, one),
        ("pax-empty-value", raw_member(b"x", pax(b"comment=", b"path=b"), kind=b"x") + a + END, one),
        ("pax-two", raw_member(b"x", pax(b"path=first", b"path=second"), kind=b"x") + a + END, one),
        ("long-link", raw_member(b"././@LongLink", b"target" * 30 + b"\0", kind=b"K", magic=b"ustar  \0")
         + raw_header(b"link", 0, kind=b"2", magic=b"ustar  \0") + a + END, one),
        ("one-zero-block", a + b + bytes(512), both),
        ("no-members", END, []),
    ]:  # fmt: skip
        documents = read_tar(data, known)
        if label == "gnu-atime":
            # GNU tar keeps times where POSIX keeps the start of the name, which tarfile does not tell apart.
            documents = of_members(one)
        yield case(label, data, known, documents)
    twice = write_tar(one) + write_tar(two)
    yield case("two-archives", twice, both, read_tar(twice, both, ignore_zeros=True))
    yield case("bz2", bz2.compress(write_tar(one)), one, [], ".tar.bz2", True, refused="bzip2")
    yield case("xz", lzma.compress(write_tar(one)), one, [], ".tar.xz", True, refused="xz")
    wanted = [{"text": "plain words\n", "member": "plain.txt"}]
    for label, arguments in [
        ("sparse-gnu", ["--format=gnu"]),
        ("sparse-pax-00", ["--format=posix", "--sparse-version=0.0"]),
        ("sparse-pax-01", ["--format=posix", "--sparse-version=0.1"]),
        ("sparse-pax-10", ["--format=posix", "--sparse-version=1.0"]),
    ]:
        yield case(label, gnu_tar(*arguments), [], wanted, faults=True, refused="sparse")
    for label, data, documents in [
        ("cut-header", a + b[:300], one),
        ("cut-data", a + b[:515], [*one, ("two.txt", b"two", ["two"])]),
        ("no-end", a + b, both),
        ("checksum-wrong", a + b.replace(b"0000644", b"0000640") + raw_member(b"three.txt", b"three") + END,
         [*one, ("three.txt", b"three", ["three"])]),
        ("junk", b"this is no archive at all", []),
    ]:  # fmt: skip
        yield case(label, data, [], of_members(documents), faults=True)


class Unseekable(io.RawIOBase):
    """A pipe: what is written of a member's lengths stands behind it."""

    def __init__(self):
        self.parts = []

    def writable(self):
        return True

    def write(self, data):
        self.parts.append(bytes(data))
        return len(data)


def write_zip(found, rng=None, stream=False, comment=b"", zip64=False, methods=(zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
    out = Unseekable() if stream else io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = comment
        for name, data, _ in found:
            info = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            info.compress_type = rng.choice(methods) if rng else methods[0]
            if rng and rng.random() < 0.2:
                info.extra = struct.pack("<HHBI", 0x5455, 5, 1, 1_700_000_000)
                info.comment = b"of a member"
            with archive.open(info, "w", force_zip64=zip64) as file:
                file.write(data)
    return b"".join(out.parts) if stream else out.getvalue()


def read_zip(data, known):
    documents, faults = [], False
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            try:
                found = archive.read(info)
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError):
                faults = True
                continue
            own = next(texts for _, data, texts in known if data == found)
            documents += [{"text": text, "member": info.filename} for text in own]
    return documents, faults


def zip_(rng):
    number = 0

    def case(label, data, known, expected=None, extension=".zip", **more):
        nonlocal number
        number += 1
        documents, faults = read_zip(data, known) if expected is None else expected
        return f"{number:03}-{label}{extension}", data, answer(documents, faults or not documents, **more)

    for index in range(80):
        found = [(name.lstrip("/"), *rest) for name, *rest in members(rng)]
        if rng.random() < 0.3:
            found.insert(rng.randrange(len(found)), ("folder/", b"", []))
        zip64, stream = rng.random() < 0.3, rng.random() < 0.4
        comment = rng.choice([b"", b"a comment", b"PK\x03\x04 in a comment"])
        data = write_zip(found, rng, stream, comment, zip64)
        label = ("stream" if stream else "plain") + ("-64" if zip64 else "")
        texts = any(texts for *_, texts in found)
        name, data, expected = case(label, data, found, extension=rng.choice([".zip", ".zip", ".ZIP", "-archive"]))
        expected["faults"] = False if not texts else expected["faults"]
        yield name, data, expected
    words = b"word " * 30
    known = [("one.txt", words, [words.decode()]), ("two.txt", b"two words", ["two words"])]
    deflated = (zipfile.ZIP_DEFLATED,)
    plain, packed = write_zip(known), write_zip(known, methods=deflated)
    second = of_members(known[1:])
    for label, data, expected, more in [
        ("bzip2", write_zip(known, methods=(zipfile.ZIP_BZIP2,)), ([], True), {"refused": "method 12"}),
        ("lzma", write_zip(known, methods=(zipfile.ZIP_LZMA,)), ([], True), {"refused": "method 14"}),
        ("encrypted", bytes_with(plain, 6, 1, central=8), (second, True), {}),
        ("prefix", b"#!/bin/sh\nexec unzip $0\n" + b"\0" * 40 + packed, None, {}),
        ("prefix-text", b"#!/bin/sh\nexec unzip $0\n" + packed, None, {}),
        ("checksum-stored", flip(plain, 45), None, {"broken": True}),
        ("checksum-deflated", flip(packed, packed.index(b"one.txt") + 9), None, {"broken": True}),
        ("cut", packed[:90], (of_members([known[0], ("two.txt", b"", ["two w"])]), True), {"broken": True}),
        ("no-directory", packed[: packed.index(b"PK\x01\x02")], (of_members(known), True), {"broken": True}),
        ("empty", write_zip([]), ([], False), {}),
        ("empty-member", write_zip([("empty.txt", b"", []), *known]), (of_members(known), True), {}),
        ("gap", gap(plain), None, {}),
        ("cp437", plain.replace(b"one.txt", b"\x81ne.txt"), None, {}),
        ("nested", write_zip([("inner.zip", plain, []), *known]), (of_members(known), True), {"refused": "nested"}),
        ("junk", b"PK\x03\x04 and nothing else", ([], True), {}),
    ]:  # fmt: skip
        if expected is None:
            expected = read_zip(data, known)
        if label.startswith("checksum"):
            # Kiln gives what there is, and says that it is wrong.
            assert expected == (second, True)
            damaged = data[37:187] if label == "checksum-stored" else zlib.decompress(data[37:47], -15)
            expected = of_members([("one.txt", b"", [damaged.decode()])]) + second, True
        name, data, found = case(label, data, known, expected, **more)
        found["faults"] = expected[1]
        yield name, data, found
    for index in range(8):
        found = [(f"{index}-{name.lstrip('/')}", *rest) for index, (name, *rest) in enumerate(members(rng))]
        out = io.BytesIO()
        data = write_zip(found[:1], rng)
        out.write(data)
        with zipfile.ZipFile(out, "a") as archive:
            for name, bytes_, _ in found[1:]:
                archive.writestr(zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6)), bytes_)
        name, data, expected = case("appended", out.getvalue(), found)
        expected["faults"] = False
        yield name, data, expected


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]


def bytes_with(data, at, value, central):
    """Sets a byte of the first local header and of the first entry of the directory."""
    data = bytearray(data)
    data[at] = value
    data[data.index(b"PK\x01\x02") + central] = value
    return bytes(data)


def gap(data):
    """Zeros between the last member and the directory, as some writers leave them."""
    at, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    moved = data[:at] + bytes(16) + data[at:]
    end += 16
    return moved[: end + 16] + struct.pack("<I", at + 16) + moved[end + 20 :]


def gzip_member(data, flags=0, level=6, extra=b"field", name=b"name.txt", comment=b"a comment", reserved=0, crc=None):
    header = bytearray(b"\x1f\x8b\x08") + bytes([flags | reserved]) + bytes(4) + b"\0\x03"
    if flags & 4:
        header += struct.pack("<H", len(extra)) + extra
    if flags & 8:
        header += name + b"\0"
    if flags & 16:
        header += comment + b"\0"
    if flags & 2:
        header += struct.pack("<H", (zlib.crc32(header) if crc is None else crc) & 0xFFFF)
    packer = zlib.compressobj(level, wbits=-15)
    return bytes(header) + packer.compress(data) + packer.flush() + struct.pack("<II", zlib.crc32(data), len(data))


def split(rng, data):
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(4)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])]


def lines_of(rng):
    texts = [sentence(rng) for _ in range(rng.randint(1, 5))]
    return texts, lines(texts)


def gzip_(rng):
    number = 0

    def case(label, data, texts, extension=".jsonl.gz", faults=False, **more):
        nonlocal number
        number += 1
        return f"{number:03}-{label}{extension}", data, answer(texts, faults, **more)

    for index in range(72):
        texts, data = lines_of(rng)
        parts = split(rng, data)
        # Every mixture of the flags for text, header checksum, extra field, name and comment, twice and more.
        packed = b"".join(gzip_member(part, flags=(index + 7 * at) % 32, level=rng.randrange(10)) for at, part in enumerate(parts))
        packed += bytes(rng.choice([0, 0, 0, 1, 7, 512, 2000]))
        assert gzip.decompress(packed) == data
        extension = rng.choice([".jsonl.gz", ".jsonl.gzip", ".jsonl.GZ", ".jsonl", ".json.gz", ".jsonl.bgz"])
        yield case(f"flags-{index % 32}", packed, texts, extension)
    for index in range(6):
        text = sentence(rng)
        yield case("text", gzip.compress(text.encode(), mtime=0), [text], rng.choice([".txt.gz", ".md.gz", ".gz"]))
    texts, data = lines_of(rng)
    texts, data = texts + ["last one"], data + lines(["last one"])
    good = gzip.compress(data, mtime=0)
    other = gzip.compress(lines(["other"]), mtime=0)
    name_end = gzip_member(data, 8, name=b"n" * 3000)
    for label, packed, found, more in [
        ("empty-file", b"", [], {"faults": True}),
        ("empty-member", gzip.compress(b"", mtime=0), [], {"faults": True}),
        ("empty-between", good + gzip.compress(b"", mtime=0) + other, [*texts, "other"], {}),
        ("empty-first", gzip.compress(b"", mtime=0) + good, texts, {}),
        ("long-name", name_end, texts, {}),
        ("long-extra", gzip_member(data, 4, extra=bytes(60000)), texts, {}),
        ("zeros-between", good + bytes(40) + other, [*texts, "other"], {}),
        ("latin1-name", gzip_member(data, 8, name="größe".encode("latin-1")), texts, {}),
        ("many-members", b"".join(gzip.compress(bytes([byte]), mtime=0) for byte in data), texts, {}),
        ("twice", gzip.compress(good, mtime=0), texts, {}),
        ("within-zstd", zstd_bytes(good), texts, {}),
        ("cut-trailer", good[:-4], texts, {"broken": True}),
        ("cut-checksum", good[:-8], texts, {"broken": True}),
        ("cut-half", good[: len(good) // 2], texts, {"broken": True}),
        ("cut-header", good[:7], texts, {"broken": True}),
        ("checksum-wrong", good[:-6] + b"\0\0" + good[-4:], texts, {"broken": True}),
        ("length-wrong", good[:-1] + b"\1", texts, {"broken": True}),
        ("header-checksum-wrong", gzip_member(data, 2, crc=0x1234), texts, {"broken": True}),
        ("second-cut", good + other[:-3], [*texts, "other"], {"broken": True}),
        ("junk-behind", good + b"junk", texts, {"broken": True}),
        ("method-wrong", good[:2] + b"\7" + good[3:], texts, {"broken": True}),
        ("reserved-flag", gzip_member(data, 0, reserved=0x40), texts, {"broken": True}),
        ("not-gzip", data, texts, {"broken": True}),
        ("raw-deflate", zlib.compress(data), texts, {"broken": True}),
    ]:
        faults = more.pop("faults", False) or more.get("broken", False)
        yield case(label, packed, found, faults=faults, **more)


def zstd(rng):
    number = 0

    def case(label, data, texts, extension=".jsonl.zst", faults=False, **more):
        nonlocal number
        number += 1
        return f"{number:03}-{label}{extension}", data, answer(texts, faults, **more)

    def skippable(data):
        return struct.pack("<II", 0x184D2A50 + rng.randrange(16), len(data)) + data

    for index in range(80):
        texts, data = lines_of(rng)
        packed = skippable(b"some bytes") if rng.random() < 0.2 else b""
        for part in split(rng, data):
            options = zstandard.ZstdCompressionParameters.from_level(
                rng.choice([-5, 1, 3, 9, 19]),
                write_content_size=rng.random() < 0.5,
                write_checksum=rng.random() < 0.5,
                window_log=rng.choice([10, 17, 24]),
                enable_ldm=rng.random() < 0.1,
                format=zstandard.FORMAT_ZSTD1,
            )
            compressor = zstandard.ZstdCompressor(compression_params=options)
            if rng.random() < 0.3:
                # In blocks, with the size unknown at the start.
                stream, piece = compressor.compressobj(), b""
                for at in range(0, len(part), 50):
                    piece += stream.compress(part[at : at + 50]) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
                packed += piece + stream.flush()
            else:
                packed += compressor.compress(part)
            packed += skippable(rng.randbytes(rng.randrange(30))) if rng.random() < 0.2 else b""
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        assert reader.read() == data
        extension = rng.choice([".jsonl.zst", ".jsonl.zstd", ".jsonl", ".json.zst", ".jsonl.ZST"])
        yield case("random", packed, texts, extension)
    for index in range(4):
        text = sentence(rng)
        yield case("text", zstd_bytes(text.encode()), [text], rng.choice([".txt.zst", ".md.zst", ".zst"]))
    texts, data = lines_of(rng)
    texts, data = texts + ["last one"], data + lines(["last one"])
    good, other = zstd_bytes(data), zstd_bytes(lines(["other"]))
    checked = zstd_bytes(data, write_checksum=True)
    for label, packed, found, more in [
        ("empty-file", b"", [], {"faults": True}),
        ("empty-frame", zstd_bytes(b""), [], {"faults": True}),
        ("empty-between", good + zstd_bytes(b"") + other, [*texts, "other"], {}),
        ("only-skippable", skippable(b"abc"), [], {"faults": True}),
        ("skippable-empty", skippable(b"") + good, texts, {}),
        ("skippable-last", good + skippable(b"abc"), texts, {}),
        ("skippable-large", skippable(bytes(70000)) + good, texts, {}),
        ("within-gzip", gzip.compress(good, mtime=0), texts, {}),
        ("cut-half", good[: len(good) // 2], texts, {"broken": True}),
        ("cut-checksum", checked[:-2], texts, {"broken": True}),
        ("cut-header", good[:5], texts, {"broken": True}),
        ("checksum-wrong", flip(checked, len(checked) - 1), texts, {"broken": True}),
        ("second-cut", good + other[:-3], [*texts, "other"], {"broken": True}),
        ("skippable-cut", good + skippable(bytes(30))[:20], texts, {"broken": True}),
        ("junk-behind", good + b"junk", texts, {"broken": True}),
        ("zeros-behind", good + bytes(20), texts, {}),
        ("not-zstd", data, texts, {"broken": True}),
        ("reserved-bit", good[:4] + bytes([good[4] | 8]) + good[5:], texts, {"broken": True}),
    ]:  # fmt: skip
        faults = more.pop("faults", False) or more.get("broken", False)
        yield case(label, packed, found, faults=faults, **more)
