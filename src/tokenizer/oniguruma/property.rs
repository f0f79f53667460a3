//! Sets of characters that have a name: `\w`, `[[:alpha:]]`, `\p{Greek}`.

use super::{Options, class::Item};
use tokenizers::utils::SysRegex;

/// Characters that are part of a word in `fancy-regex` but not in Oniguruma.
const JOINERS: &str = r"\x{200C}\x{200D}";

/// Characters below U+0100, `²³¹¼½¾`, that Oniguruma's `\w` matches outside of classes but not inside.
const LATIN_NUMBERS: &str = r"\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE}";

/// Set of word characters, as one unit.
pub(super) fn word(options: Options, in_class: bool) -> String {
    if options.ascii_word || options.ascii_posix {
        "[0-9A-Za-z_]".into()
    } else if in_class {
        format!(r"[\w&&[^{JOINERS}]]")
    } else {
        format!(r"[[\w&&[^{JOINERS}]]{LATIN_NUMBERS}]")
    }
}

/// Set with a POSIX name (`[[:alpha:]]`), which some escapes such as `\d` stand for too.
pub(super) fn kind(kind: &str, is_negated: bool, options: Options, in_class: bool) -> Item {
    let is_ascii = options.ascii_posix
        || match kind {
            "word" => options.ascii_word,
            "digit" => options.ascii_digit,
            "space" => options.ascii_space,
            _ => false,
        };
    let word = word(options, in_class);
    let (unicode, ascii) = match kind {
        "word" => (&*word, "[0-9A-Za-z_]"),
        "digit" => (r"\d", "[0-9]"),
        "space" => (r"\s", r"[\t-\r ]"),
        "xdigit" => ("[0-9A-Fa-f]", "[0-9A-Fa-f]"),
        "alnum" => (r"[\p{Alphabetic}\p{Nd}]", "[0-9A-Za-z]"),
        "alpha" => (r"\p{Alphabetic}", "[A-Za-z]"),
        "blank" => (r"[\p{Zs}\t]", r"[ \t]"),
        "cntrl" => (r"\p{Cc}", r"[\x00-\x1F\x7F]"),
        "graph" => (r"[^\s\p{Cc}\p{Cn}]", r"[\x21-\x7E]"),
        "lower" => (r"\p{Lowercase}", "[a-z]"),
        "print" => (r"[[^\s\p{Cc}\p{Cn}]\p{Zs}]", r"[\x20-\x7E]"),
        "punct" => (r"[\p{P}\p{S}]", r"[\x21-\x2F\x3A-\x40\x5B-\x60\x7B-\x7E]"),
        "upper" => (r"\p{Uppercase}", "[A-Z]"),
        _ => (r"[\x00-\x7F]", r"[\x00-\x7F]"),
    };
    let has_case = matches!(kind, "alnum" | "alpha" | "graph" | "lower" | "print" | "upper" | "ascii");
    Item::new(if is_ascii { ascii } else { unicode }, is_negated, has_case || is_ascii)
}

/// Whether `name` is the POSIX name of a set.
pub(super) fn is_kind(name: &str) -> bool {
    const KINDS: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
        "upper", "word", "xdigit",
    ];
    KINDS.contains(&name)
}

/// Set of characters with a Unicode property, `\p{name}`.
pub(super) fn named(name: &str, is_negated: bool, options: Options, in_class: bool) -> Result<Item, String> {
    let plain: String = name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).collect();
    let plain = plain.to_ascii_lowercase();
    // In brackets it is more than that.
    if plain == "punct" {
        return Ok(Item::new(r"\p{P}", is_negated, false));
    }
    if is_kind(&plain) {
        return Ok(kind(&plain, is_negated, options, in_class));
    }
    let text = format!(r"\p{{{plain}}}");
    // Oniguruma knows no `Script=`, no `is…`, and under `InCB` something else.
    let is_other =
        plain.starts_with("is") || plain == "incb" || !plain.bytes().all(|b| b.is_ascii_alphanumeric());
    if plain.starts_with("in") && !matches!(&*plain, "incb" | "inherited") && SysRegex::new(&text).is_err() {
        return Err(format!("blocks of characters (`{name}`) are not supported"));
    }
    if is_other || SysRegex::new(&text).is_err() {
        return Err(format!("characters of the property `{name}` are not known"));
    }
    // General categories without letters and marks.
    let has_case =
        !["n", "p", "s", "z", "c"].iter().any(|first| plain.len() <= 2 && plain.starts_with(first));
    Ok(Item::new(&text, is_negated, has_case))
}
