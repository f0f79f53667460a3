"""Records what Python's tokenizers 0.23.3 makes of texts with many `tokenizer.json` files.

    python generate.py [CASES] > cases.json

Models are those of CASES, an earlier output, for training draws where merges are equally frequent. The output holds
models, texts, and cases: a model's name, the other parts of the file, and for each text its number, ids, and the
decoded text with and without special tokens, where it is not the text, or not the one before. Ids are of
`encode(text, add_special_tokens=False)` with truncation, padding and dropout off, as Kiln has it; `null` stands for an
error. `long` is the number of ids and a digest of them for all texts, many times.
"""

import base64
import hashlib
import json
import os
import random
import struct
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Hello, world! It's 12 o'clock.",
    "the heron stood in the water and it was hungry; they'll've gone where we're going",
    "New York's cafés serve naïve crème brûlée, £3.50 or 1234567 yen.",
    "हिन्दी में लिखा हुआ पाठ है। می‌خواهم کتاب بخوانم. ภาษาไทยไม่มีช่องว่าง",
    "東京タワーは高い。日本語のテキスト 中文文本 한국어 텍스트",
    "def f(x):\n    return x**2 + __init__  # comment\r\n\tif a == b: pass",
    "👨‍👩‍👧 👍🏽 🦀🦀 ❤️ straße STRASSE ﬁne Ⅷ ½ x² ÅÅ é",
] * 3

TEXTS = [
    "",
    " ",
    "   ",
    "\n",
    "Hello, world!",
    " leading and trailing ",
    "  two  spaces   three    four",
    "line one\nline two\r\nline three\r\n\r\n\tend\n",
    "It's they'll we've I'm don't 'quoted' ''s",
    "1234567890 12,345.67 ٣٤ ½ Ⅷ x²",
    "The QUICK Brown Fox",
    "naïve café e\u0301 n\u0303 \u0301 Å Å ﬁne ß",
    "👨‍👩‍👧 family 👍🏽 ❤️‍🔥 🇩🇪🇫🇷",
    "हिन्दी में क्षि लिखा",
    "می‌خواهم کتاب بخوانم",
    "ภาษาไทยไม่มีช่องว่าง",
    "東京タワーは高い。中文文本",
    "한국어 텍스트 \u1112\u1161\u11ab",
    "a\u0000b\u0001c\u007fd\u0085e\u00a0f\u2028g\ufeffh\u200bi\u00adj",
    "<s>The fox</s>",
    "the [MASK] sat <mask> on<mask>it [SEP]",
    " [MASK]  [MASK] <s> </s>[SEP]  x",
    "New York and new york, NewYork cat category Cat cat.",
    "<|endoftext|>one<|endoftext|> <|endoftext|>\n<|endoftex",
    "supercalifragilisticexpialidocious" * 4,
    "def f(x):\n    return x**2 + __init__  # é",
    "▁under ▁▁score _ __ ##hash</w> x</w>",
    "Ġthe Ċ ĉ âĤ¬ €",
    "a-b/c\\d|e~f`g@h#i$j%k^l&m*n(o)p[q]r{s}t:u;v\"w<x>y,z?",
    "zzz qqq \u4dc0 \U0001fae8 \U00020000 \ue000",
]


def with_model(model, pre_tokenizer=None):
    tokenizer = Tokenizer(model)
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def trained(model, trainer, pre_tokenizer, corpus=CORPUS):
    tokenizer = with_model(model, pre_tokenizer)
    tokenizer.train_from_iterator(corpus, trainer)
    return json.loads(tokenizer.to_str())["model"]


def make_models():
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    quiet = {"show_progress": False}
    made = {}
    made["bytes-bpe"] = trained(models.BPE(), trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, **quiet), byte_level)
    legacy = json.loads(json.dumps(made["bytes-bpe"]))
    legacy["merges"] = ["#version: 0.2", *(" ".join(pair) for pair in legacy["merges"])]
    made["version-line"] = legacy
    ignoring = json.loads(json.dumps(made["bytes-bpe"]))
    ignoring["ignore_merges"] = True
    for word in ["Ġfox", "Hello", "hungry", "åŃĹ"]:
        ignoring["vocab"].setdefault(word, len(ignoring["vocab"]))
    made["ignore-merges"] = ignoring
    dropping = json.loads(json.dumps(made["bytes-bpe"]))
    dropping["dropout"] = 0.3
    made["dropout"] = dropping
    made["bytes-only"] = {**json.loads(json.dumps(made["bytes-bpe"])), "merges": [], "vocab": dict(sorted(made["bytes-bpe"]["vocab"].items(), key=lambda e: e[1])[:256])}
    in_order = list(pre_tokenizers_bytes())
    made["bytes-in-order"] = {**made["bytes-only"], "vocab": {c: i for i, c in enumerate(in_order)}}
    made["chars-bpe"] = trained(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=220, special_tokens=["<unk>"], **quiet), pre_tokenizers.Whitespace())
    made["chars-bpe-fused"] = {**made["chars-bpe"], "fuse_unk": True}
    made["chars-bpe-no-unk"] = {**made["chars-bpe"], "unk_token": None}
    fallback = trained(models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "<s>", "</s>", *("<0x%02X>" % b for b in range(256))], **quiet), pre_tokenizers.Metaspace(), CORPUS[:2])
    made["fallback-bpe"] = {**fallback, "byte_fallback": True, "fuse_unk": True}
    made["suffix-bpe"] = trained(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), trainers.BpeTrainer(vocab_size=260, end_of_word_suffix="</w>", special_tokens=["<unk>"], **quiet), pre_tokenizers.BertPreTokenizer())
    made["prefix-bpe"] = trained(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"), trainers.BpeTrainer(vocab_size=260, continuing_subword_prefix="##", special_tokens=["<unk>"], **quiet), pre_tokenizers.Whitespace())
    made["word-piece"] = trained(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=260, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], **quiet), pre_tokenizers.BertPreTokenizer())
    made["word-piece-short"] = {**made["word-piece"], "max_input_chars_per_word": 6}
    unigram = trained(models.Unigram(), trainers.UnigramTrainer(vocab_size=220, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", **quiet), pre_tokenizers.Metaspace())
    made["unigram"] = unigram
    made["unigram-fallback"] = {**unigram, "byte_fallback": True, "vocab": unigram["vocab"] + [["<0x%02X>" % b, 0.0] for b in range(256)]}
    made["unigram-no-unk"] = {**unigram, "unk_id": None}
    made["word-level"] = trained(models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(vocab_size=60, special_tokens=["[UNK]"], **quiet), pre_tokenizers.Whitespace())
    made["word-level-no-unk"] = {**made["word-level"], "unk_token": "<missing>"}
    characters = sorted({c for line in CORPUS for c in line})
    made["characters"] = {"type": "WordLevel", "vocab": {c: i for i, c in enumerate([*characters, "<unk>"])}, "unk_token": "<unk>"}
    return made


def pre_tokenizers_bytes():
    """The byte-level alphabet in order of the bytes."""
    others = 256
    for byte in range(256):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte:
            yield chr(byte)
        else:
            yield chr(others)
            others += 1


PATTERNS = [
    r"\w+|[^\w\s]+", r"\p{N}{1,3}+|\p{L}+", r"\s+", r"[[:alpha:]]+", r"[[:punct:]]", r"\X", r"\R", r"\h+", r"^.", r"$", r"\b", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"(?m).\w", r"\p{N}{1,3}|\p{L}+|\s*[\r\n]+", r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", r"(?<=\p{L})(?=\p{N})", r"\d", r"[\p{Han}]",
]
LITERALS = [" ", "e", "the", ".", "", "\n", "क"]
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]


def pattern(draw):
    return Regex(draw.choice(PATTERNS)) if draw.random() < 0.75 else draw.choice(LITERALS)


def charsmap():
    """A table that sentencepiece 0.2.3 made of a few rules: ① as 1, ﬁ as fi, é as e, nothing for U+200D, and others."""
    return normalizers.Precompiled(base64.b64decode(open(os.path.join(os.path.dirname(__file__), "charsmap.txt")).read()))


def normalizer(draw, depth=0):
    kinds = [
        charsmap,
        lambda: normalizers.NFC(), lambda: normalizers.NFD(), lambda: normalizers.NFKC(), lambda: normalizers.NFKD(), lambda: normalizers.Lowercase(),
        lambda: normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
        lambda: normalizers.BertNormalizer(clean_text=draw.random() < 0.7, handle_chinese_chars=draw.random() < 0.7, strip_accents=draw.choice([None, True, False]), lowercase=draw.random() < 0.5),
        lambda: normalizers.Prepend(draw.choice(["▁", "x ", " "])),
        lambda: normalizers.Replace(pattern(draw), draw.choice(["▁", "", " ", "$1", "xy"])),
        lambda: normalizers.Strip(left=draw.random() < 0.5, right=draw.random() < 0.5), lambda: normalizers.Nmt(), lambda: normalizers.ByteLevel(),
    ]
    if depth == 0 and draw.random() < 0.3:
        return normalizers.Sequence([normalizer(draw, 1) for _ in range(draw.randint(1, 3))])
    return draw.choice(kinds)()


def pre_tokenizer(draw, depth=0):
    kinds = [
        lambda: pre_tokenizers.ByteLevel(add_prefix_space=draw.random() < 0.4, use_regex=draw.random() < 0.6, trim_offsets=draw.random() < 0.5),
        lambda: pre_tokenizers.Split(pattern(draw), draw.choice(BEHAVIORS), invert=draw.random() < 0.3),
        lambda: pre_tokenizers.Split(Regex(draw.choice(PATTERNS)), draw.choice(BEHAVIORS), invert=draw.random() < 0.3),
        lambda: pre_tokenizers.Metaspace(prepend_scheme=draw.choice(["always", "never", "first"]), split=draw.random() < 0.6),
        lambda: pre_tokenizers.Whitespace(), lambda: pre_tokenizers.WhitespaceSplit(), lambda: pre_tokenizers.BertPreTokenizer(),
        lambda: pre_tokenizers.Punctuation(draw.choice(BEHAVIORS)), lambda: pre_tokenizers.Digits(individual_digits=draw.random() < 0.5),
        lambda: pre_tokenizers.CharDelimiterSplit(draw.choice(" e.")), lambda: pre_tokenizers.UnicodeScripts(), lambda: pre_tokenizers.FixedLength(length=draw.randint(1, 7)),
    ]
    if depth == 0 and draw.random() < 0.35:
        return pre_tokenizers.Sequence([pre_tokenizer(draw, 1) for _ in range(draw.randint(1, 3))])
    return draw.choice(kinds)()


def decoder(draw, depth=0):
    kinds = [
        lambda: decoders.ByteLevel(), lambda: decoders.WordPiece(prefix="##", cleanup=draw.random() < 0.5),
        lambda: decoders.Metaspace(prepend_scheme=draw.choice(["always", "never", "first"])), lambda: decoders.BPEDecoder(suffix="</w>"),
        lambda: decoders.CTC(pad_token="l", word_delimiter_token="▁", cleanup=draw.random() < 0.5), lambda: decoders.Fuse(), lambda: decoders.ByteFallback(),
        lambda: decoders.Replace(pattern(draw), draw.choice([" ", "", "_"])), lambda: decoders.Strip(content=" ", left=draw.randint(0, 2), right=draw.randint(0, 2)),
    ]
    if depth == 0 and draw.random() < 0.3:
        return decoders.Sequence([
            decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0),
        ] if draw.random() < 0.4 else [decoder(draw, 1) for _ in range(draw.randint(1, 3))])
    return draw.choice(kinds)()


def post_processor(draw):
    kinds = [
        lambda: processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]),
        lambda: processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)), lambda: processors.RobertaProcessing(("</s>", 2), ("<s>", 1), trim_offsets=True, add_prefix_space=True),
        lambda: processors.ByteLevel(trim_offsets=True),
        lambda: processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])]),
    ]
    return draw.choice(kinds)()


def added_tokens(draw):
    flag = lambda chance: draw.random() < chance
    contents = draw.sample(["<s>", "</s>", "<mask>", "[MASK]", "[SEP]", "<|endoftext|>", "New York", "cat", "the", "é", "  ", "\n", " fox"], draw.randint(1, 5))
    return [
        (AddedToken(content, single_word=flag(0.2), lstrip=flag(0.25), rstrip=flag(0.25), normalized=flag(0.4), special=(special := flag(0.6))), special)
        for content in contents
    ]


# What people's files look like, so that the fast codecs meet too.
def usual(name, made):
    model = made[name]
    tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model}))
    if name in ("bytes-bpe", "version-line", "ignore-merges", "dropout", "bytes-only", "bytes-in-order"):
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    elif name.startswith("chars-bpe"):
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    elif name == "fallback-bpe":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)])
    elif name == "suffix-bpe":
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    elif name.startswith("word-piece"):
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    elif name.startswith("unigram"):
        tokenizer.normalizer = normalizers.Sequence([charsmap() if "fallback" in name else normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    elif name == "characters":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def build(draw, name, made, plain):
    tokenizer = usual(name, made)
    if not plain:
        if draw.random() < 0.6:
            tokenizer.normalizer = normalizer(draw)
        if draw.random() < 0.75:
            tokenizer.pre_tokenizer = pre_tokenizer(draw)
        if draw.random() < 0.5:
            tokenizer.decoder = decoder(draw)
        if draw.random() < 0.4:
            tokenizer.post_processor = post_processor(draw)
        if draw.random() < 0.15:
            tokenizer.enable_truncation(draw.randint(1, 6), direction=draw.choice(["left", "right"]))
        if draw.random() < 0.15:
            tokenizer.enable_padding(length=draw.choice([None, 10]), pad_id=0, pad_token="x")
    if draw.random() < 0.6:
        for token, special in added_tokens(draw):
            (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    return tokenizer


def tried(function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except BaseException:  # a panic of the crate is none of Exception
        return None


def main():
    draw = random.Random(18)
    made = json.load(open(sys.argv[1]))["models"] if sys.argv[1:] else make_models()
    cases = []
    names = list(made)
    for index in range(300):
        name = names[index % len(names)]
        tokenizer = build(draw, name, made, plain=index < 2 * len(names))
        document = json.loads(tokenizer.to_str())
        del document["model"], document["version"]
        # As the file has it, for this may not be what the library writes.
        again = Tokenizer.from_str(json.dumps({**document, "version": "1.0", "model": {**made[name], "dropout": None} if "dropout" in made[name] else made[name]}))
        again.no_truncation()
        again.no_padding()
        results = []
        chosen = range(len(TEXTS)) if index < len(names) else sorted(draw.sample(range(len(TEXTS)), 8))
        for text in chosen:
            encoding = tried(again.encode, TEXTS[text], add_special_tokens=False)
            if encoding is None:
                results.append([text, None])
                continue
            # `skip_special_tokens` keeps those whose text the normalizer changes, which Kiln does not.
            special = {token["id"] for token in document["added_tokens"] if token["special"]}
            plain = [token for token in encoding.ids if token not in special]
            decoded = [tried(again.decode, ids, skip_special_tokens=False) for ids in (encoding.ids, plain)]
            if decoded[0] == decoded[1]:
                decoded.pop()
            if decoded == [TEXTS[text]]:
                decoded = []
            results.append([text, encoding.ids, *decoded])
        case = {"model": name, **{key: value for key, value in document.items() if value not in (None, [])}, "results": results}
        # A long text, which may be encoded in pieces.
        if index % 5 == 0:
            long = "\n".join(TEXTS) * 60
            encoding = tried(again.encode, long, add_special_tokens=False)
            if encoding is not None:
                digest = hashlib.sha256(b"".join(struct.pack("<I", token) for token in encoding.ids)).hexdigest()
                case["long"] = [len(encoding.ids), digest[:16]]
        cases.append(case)
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    print('{"texts":%s,' % dump(TEXTS))
    print('"models":{')
    print(",\n".join("%s:%s" % (dump(name), dump(model)) for name, model in made.items()))
    print('},"cases":[')
    print(",\n".join(map(dump, cases)))
    print("]}")


main()
