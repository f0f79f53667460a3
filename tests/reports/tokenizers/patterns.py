"""Records where Oniguruma, through Python's tokenizers 0.23.3, finds the matches of patterns.

    python patterns.py PROPERTIES > patterns.json

PROPERTIES is `doc/UNICODE_PROPERTIES` of https://github.com/kkos/oniguruma (6.9.11). The output holds texts, for each
pattern its pieces in each text (characters of each, below zero where it is no match) or null where the pattern is
refused, and for each property how many characters of a sample have it and the sum of their code points.
"""

import json
import random
import sys

from tokenizers import Regex, normalizers, pre_tokenizers

TEXTS = [
    "Hello, world! It's 12 o'clock; THEY'LL'VE gone, I'd say we're 'right'.",
    "  two  spaces   \n\n\tand\r\n tabs \n\r x\u2028y\x85z\x1c\x1d.  ",
    "na\u00efve caf\u00e9 e\u0301 \u2014 \u6771\u4eac\u3000\u30bf\u30ef\u30fc \u00bd\u2167\u0663 x\u00b2y\u00b3 \u24b6\u24d0 \u00a0z",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7\U0001f1ef \u2764\ufe0f\u200d\U0001f525 \U0001f44d\U0001f3fd!",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u094d\u0937\u093f \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "stra\u00dfe STRASSE \u1e9e \ufb06op \ufb03 \u017f\u017f \u212a k K \u0130\u0131 \u03a3\u03c3\u03c2 \u01c5 \u0345\u03b9",
    "aaaa abab aabbcc abcabc aAbB a1b22c333d4444 0xFF gG [x]-^&&{2} a{1,} $5+6<7|~`@#",
    "line one\nline two\n\nend\n",
    "def f(x):\n    return x**2 + __init__  # \u00e9t\u00e9\n\n\n\tif a==b: pass\n",
    "",
]

# Of models that people use.
MODELS = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r" ?[^(\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+",
    r"\p{N}{1,3}", r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", r"\s?\p{L}+", r"\s?\p{N}+", r"[\r\n]",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293]+",
    r"(\p{N})", r"\d", r"(?:\r?\n)+", r"[0-9][0-9][0-9]", r" {2,}", r"\w+|[^\w\s]+", r"\p{N}{1,3}+|\p{L}+", r"\s+$", r"^\s+",
    r"\p{L}+|\p{N}{1,3}|[^\s\p{L}\p{N}]+|\s+", r"(?=(\d{3})+(?!\d))", r"\d{1,3}(?=(?:\d{3})*\b)", r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])",
    r"(?<=[a-z])(?=[A-Z])", r"(?<=\p{L})(?=\p{N})|(?<=\p{N})(?=\p{L})", r"\p{Han}|\p{Hiragana}+|\p{Katakana}+", r"</?\w+>",
]

# One construct each.
CONSTRUCTS = [
    r"\w+", r"\W+", r"[\w]+", r"[^\w]+", r"[^\W]+", r"[\W]+", r"\p{Word}+", r"[\p{Word}]+", r"[[:word:]]+", r"[[:^word:]]+",
    r"\d+", r"\D+", r"\s+", r"\S+", r"\h+", r"\H+", r"[\h]+", r"[\H]+", r"[^\d\s]+", r"[\D\S]+", r"\bx", r"\b", r"\B", r"\b\w+\b",
    r"[\b]", r"^", r"$", r"^.", r".$", r"^.*$", r"\A.", r".\z", r".\Z", r"\s\Z", r"\s+\z", r"\Z", r"\z", r"\A", r"\G\w", r"\G.",
    r"\Ga", r"a\Kb", r"\w\K\s", r"(?<=a)\Kb", r"\X", r"\X+", r"\X{2}", r"a\X", r"\R", r"\R+", r"\R\s", r"\r\R", r"\N+", r"\O+",
    r"(?m:.+)", r"(?m).+", r".+", r"(?-m:.+)", r"(?m:a.)b", r"(?im-x:A.)", r"(?x) a b # c", "(?x: a\\ b )", "(?x)a # no\nb",
    "(?x:[a b]+)", r"a(?#no)b", r"a(?#no)+", r"a(?i)b|c", r"(?:a(?i)b|c)d", r"(?i)k", r"(?i)[k]", r"(?i)ss", r"(?i)\u00df", "(?i)\u00df",
    "(?i)[\u00df]", "(?i)[^\u00df]+", r"(?i)st", r"(?i)ffi", r"(?i)ff", r"(?i)s+", r"(?i)stras", r"(?i)\p{Lu}+", r"(?i)[\p{Lu}]+",
    r"(?i)[\p{Ll}]+", r"(?i)[A-Z]+", r"(?i)[^A-Z]+", r"(?i)\x61", r"(?i)[[:upper:]]+", r"(?i)[[:lower:]_]+", "(?i)\u03c3+", r"(?i)i+",
    r"(?i:[^\s\d]+)", r"(?i)[\S]+", r"(?i)[^\P{N}]+", r"(?i)[a-z&&[^aeiou]]+", r"(?i)[[^a]]+", r"(?i)[\P{Lu}]+", r"(?i)the|they'll",
    r"a?", r"a*", r"a+", r"a??", r"a*?", r"a+?", r"a?+b", r"a*+b", r"a++b", r"a{2}", r"a{2,}", r"a{1,2}", r"a{,2}", r"a{2}?", r"a{2}?b",
    r"a{1,2}?", r"a{2,}?b", r"a{2}+", r"a{1,3}+", r"a{1,3}+b", r"a{3,1}", r"a{3,1}a", r"a{3,1}+", r"a{,}", r"a{", r"a{1", r"{", r"}", r"a{1,", r"a{a}",
    r"a{0}b", r"a{1}", r"a**", r"a+*", r"(?:ab)+", r"(?:ab){1,2}+", r"(?:ab)*?c", r"(?>a+)b", r"(?>a|ab)c", r"(a)\1", r"(a)(b)\2", r"(?:(a)|b)\1",
    r"(?<n>a)(b)\k<n>", r"(?<n>a)\k'n'", r"(?'n'a)b", r"(a)\k<1>", r"(a)\k<-1>", r"(.)(.)\k<-2>", r"(?i)(a)\1", r"(?<n>a)\1", r"(a)\2", r"(?<n>a)(?<n>b)",
    r"\k<n>", r"\g<1>(a)", r"(?<n>a|b\g<n>c)", r"(?(1)a|b)", r"(a)?(?(1)b|c)", r"(?=a)ab", r"(?!a)\w", r"(?<=a)b", r"(?<!a)b", r"(?<=a|bc)\w",
    r"(?<=\bx)", r"(?<=a+)b", r"(?<!\w)\w", r"(?=\w)(?!a)", r"(?~ab)", r"(?~|ab|\w*)", r"(?{a})", r"(*FAIL)", r"\y", r"\Y", r"(?y{w})\X", r"(?y{g})\X",
    r"(?W)\w+", r"(?W)\b\w", r"(?D)\d+", r"(?S)\s+", r"(?P)[[:alpha:]]+", r"(?P)\w+\s", r"(?P:\p{Alpha}+)", r"(?W)[^\w]+", r"(?I)a", r"(?C)(a)b", r"(?L)a|ab",
    r"[[:alpha:]]+", r"[[:^alpha:]]+", r"[[:alnum:]]+", r"[[:digit:]]+", r"[[:punct:]]+", r"[^[:punct:]]+", r"[[:space:]]+", r"[[:blank:]]+",
    r"[[:upper:]]+", r"[[:lower:]]+", r"[[:cntrl:]]+", r"[[:graph:]]+", r"[[:print:]]+", r"[[:xdigit:]]+", r"[[:ascii:]]+", r"[[:foo:]]", r"[:alpha:]+",
    r"[[:alpha]+", r"[[:alpha]]+", r"[[:alpha:][:digit:]_]+", r"\p{Punct}+", r"\P{Punct}+", r"[\p{Punct}]+", r"\p{^L}+", r"\P{^L}+", r"\pL+", r"\PL+",
    r"[\pL]+", r"\p{ l }+", r"\p{Lu}+", r"\p{Greek}+", r"\p{greek}", r"\p{Script=Greek}", r"\p{sc=Greek}", r"\p{Letter}+", r"\p{Emoji}+", r"\p{is_L}",
    r"\p{Nope}", r"\p{InBasicLatin}+", r"\p{In_Cyrillic}", r"\p{Any}+", r"\p{Assigned}+", r"\p{LC}+", r"\p{ASCII}+", r"\p{L", r"\p{}", r"\p{Cn}", r"\p{Extended_Pictographic}+",
    r"[a-w&&[^c-g]z]+", r"[a&&]", r"[&&a]", r"[^a&&b]+", r"[a-z&&[^aeiou]]+", r"[\w&&[^\d_]]+", r"[\w&&[\p{L}\p{N}]&&[^a]]+", r"[^[a-c]d]+", r"[[a-c][x-z]]+",
    r"[[^a]b]+", r"[]a]+", r"[]", r"[^]a]+", r"[a\]b]+", r"[-a]+", r"[a-]+", r"[a-c-e]+", r"[--a]", r"[a--]", r"[!--]+", r"[\d-a]", r"[a-\d]", r"[a-[b]]", r"[z-a]",
    r"[\d-]+", r"[&]+", r"[a&b]+", r"[a~~b]+", r"[~~]+", r"[*--b]+", r"[\[\]]+", r"[[]+", r"[a[b]+", r"[.]", r"[$^|]+", r"[(?:)]+", r"[\\]", r"[#-'/]+",
    r"\xE3\x81\x82", r"\xE6\x9D\xB1", r"[\xE6\x9D\xB1-\xE6\x9D\xB5]", r"\xE9", r"[\xE9]", r"\x{E9}", r"\x{6771 4EAC}", r"\x{61 61}+", r"[\x{61}-\x{63}]+", r"[\x{61 62}]",
    r"\x41", r"\x4", r"\x", r"\x{}", r"\x{110000}", r"\x{D800}", r"\u00e9", r"\u{e9}", r"\u12", r"\o{141}", r"\141", r"\60", r"\0", r"\8", r"\1", r"\ca", r"\C-a", r"\M-a", r"\c",
    r"\t|\n|\r|\f|\v|\a|\e", r"[\t\n\r]+", r"\q", r"\Q.\E", r"\<a\>", r"\-", r"\ ", r"\'", r"\`", r"\_", r"\!", r"\#", r"\\", r"\/", r"\U", r"\E", r"\l", r"\i",
    r"(", r")", r"a)", r"(a", r"(?", r"(?a)", r"(?:", r"(?<", r"(?<n", r"(?<>a)", r"(?z)a", r"(?s).", r"(?P<n>a)", r"(?-i:a)", r"(?i-i:a)", r"*", r"+a", r"a|*", r"(?=a)*", r"^*", r"\b+",
    r"|a", r"a||b", r"()", r"(?:)", r"()a", r"a|", r"", r"(|a)b", r"\\\w", r"a\\", "a\\", r"[\s\S]", r"[^\n]+", r"\S+\s*", r"\s*\S+", r"[ \t]+", "\u00e9+", "[\u00e9\u00ef]",
    r"\w+(?=\s)", r"\w+(?!\S)", r"(?:\w|\s)+?x", r"\d+(?:\.\d+)?", r"[+-]?\d+", r"(\w)\1", r"(?i)(\w)\1", r"#+|-+", r"(?<![\r\n])\s+", r"\s{2,}(?=\S)", r"[^\S\n]+", r"[^\S\r\n]+|\n",
]

ATOMS = [
    "a", "b", "ab", " ", "1", "\u00e9", "\u6771", "x", "s", ".", r"\w", r"\W", r"\d", r"\s", r"\S", r"\h", r"\R", r"\X", r"\N", r"\p{L}", r"\p{Lu}",
    r"\p{N}", r"\P{L}", r"\p{M}", r"\p{P}", r"[a-c]", r"[^a-c]", r"[\w']", r"[^\w\s]", r"[[:alpha:]]", r"[[:punct:]]", r"[^[:space:]]", r"[\p{L}\p{M}]",
    r"[a-z&&[^b]]", r"[\r\n]", r"\.", r"\n", r"'",
]
ANCHORS = [r"^", r"$", r"\b", r"\B", r"\A", r"\z", r"\Z", r"(?=a)", r"(?!\s)", r"(?<=\w)", r"(?<!a)", r"(?!\S)", r"(?<=[ab])"]
QUANTIFIERS = ["", "", "", "", "+", "*", "?", "+?", "*?", "??", "++", "*+", "?+", "{2}", "{1,2}", "{1,3}+", "{2}?", "{1,2}?", "{3,1}", "{,2}", "{2,}"]


def random_pattern(draw, depth=0):
    def branch():
        parts = []
        for _ in range(draw.randint(1, 3)):
            roll = draw.random()
            if roll < 0.15:
                parts.append(draw.choice(ANCHORS))
            elif roll < 0.32 and depth < 2:
                opening = draw.choice(["(?:", "(", "(?>", "(?i:", "(?m:", "(?:"])
                parts.append(opening + random_pattern(draw, depth + 1) + ")" + draw.choice(QUANTIFIERS[:14]))
            else:
                parts.append(draw.choice(ATOMS) + draw.choice(QUANTIFIERS))
        return "".join(parts)

    return "|".join(branch() for _ in range(draw.choice([1, 1, 2, 3])))


def pieces(pattern, text):
    split = lambda behavior: pre_tokenizers.Split(Regex(pattern), behavior).pre_tokenize_str(text)
    kept = {offsets for _, offsets in split("removed")}
    return [(start - end) if (start, end) in kept else end - start for _, (start, end) in split("isolated")]


def recorded(pattern):
    try:
        Regex(pattern)
    except Exception:
        return None
    return [pieces(pattern, text) for text in TEXTS]


def main():
    draw = random.Random(18)
    patterns = dict.fromkeys(MODELS + CONSTRUCTS)
    for pattern in patterns:
        patterns[pattern] = recorded(pattern)
    while len(patterns) < 800:
        pattern = random_pattern(draw)
        try:
            patterns[pattern] = recorded(pattern)
        except BaseException:
            pass  # Oniguruma gives up after ten million steps, and Python's tokenizers panic.
    sample = [c for c in [*range(0x3400), *range(0x3400, 0x110000, 61)] if not 0xD800 <= c < 0xE000]
    text = "".join(map(chr, sample))
    properties = {}
    names = [line.strip() for line in open(sys.argv[1]) if ":" not in line and line.strip()]
    for name in [*names, "Alnum", "Alpha", "Blank", "Cntrl", "Digit", "Graph", "Lower", "Print", "Punct", "Space", "Upper", "XDigit", "Word", "ASCII"]:
        if name.startswith("In_"):
            continue
        without = set(normalizers.Replace(Regex(r"\p{%s}+" % name), "").normalize_str(text))
        having = [c for c in sample if chr(c) not in without]
        properties[name] = [len(having), sum(having)]
    record = {"texts": TEXTS, "patterns": patterns, "properties": properties}
    dump = lambda value: json.dumps(value, separators=(",", ":"))
    print('{"texts":%s,' % dump(record["texts"]))
    print('"properties":%s,' % dump(record["properties"]))
    print('"patterns":[')
    print(",\n".join(dump([p, found]) for p, found in record["patterns"].items()))
    print("]}")


main()
