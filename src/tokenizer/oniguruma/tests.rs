//! Compares translated patterns with the matches of Oniguruma, which `tests/reports/tokenizers/patterns.py`
//! records.

use super::translate;
use serde_json::Value;
use tokenizers::utils::SysRegex;

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../../tests/reports/tokenizers/patterns.json")).unwrap()
}

fn compile(pattern: &str) -> Result<SysRegex, String> {
    SysRegex::new(&translate(pattern)?).map_err(|error| error.to_string())
}

/// Lengths in characters of all matches and of the pieces between them; the latter are negative.
fn pieces(pattern: &SysRegex, text: &str) -> Vec<i64> {
    let mut pieces = Vec::new();
    let mut done = 0;
    let count = |range: std::ops::Range<usize>| text[range].chars().count() as i64;
    for (start, end) in pattern.find_iter(text) {
        pieces.extend([-count(done..start), count(start..end)]);
        done = end;
    }
    pieces.push(-count(done..text.len()));
    pieces.retain(|&length| length != 0);
    pieces
}

/// Patterns that Oniguruma accepts but the translation refuses.
const REFUSED: [&str; 22] = [
    r#"\g<1>(a)"#,
    r#"(?<n>a|b\g<n>c)"#,
    r#"(a)?(?(1)b|c)"#,
    r#"(?~ab)"#,
    r#"(?~|ab|\w*)"#,
    r#"(?{a})"#,
    r#"(*FAIL)"#,
    r#"\y"#,
    r#"\Y"#,
    r#"(?y{w})\X"#,
    r#"(?I)a"#,
    r#"(?C)(a)b"#,
    r#"(?L)a|ab"#,
    r#"\p{InBasicLatin}+"#,
    r#"\p{In_Cyrillic}"#,
    r#"[a-[b]]"#,
    r#"[\x{61 62}]"#,
    r#"\x{}"#,
    r#"\x{110000}"#,
    r#"\x{D800}"#,
    r#"(?:(?=a)\X)(?<!a)(?: {2}[\w']{1,2}[\p{L}\p{M}]|(?i:(?<=\w))*?\p{N}{2}\p{L}{1,2}?|(x{2}[[:alpha:]]\R??)*)|[\p{L}\p{M}]*?[\p{L}\p{M}]{1,2}?|[^a-c]?+"#,
    r#"b+[^\w\s]{3,1}|ab{1,3}+\N{1,2}?(?i:(\z)+\A\S+?|(?i:(?<!a))*+[[:punct:]]{2,})|[\w']{,2}(\R{3,1}\z|[[:punct:]]{,2}x++|\R??\h{1,2}?\.++)"#,
];

/// Patterns that Oniguruma refuses, because a quantifier follows an anchor, but the translation accepts.
const ACCEPTED: [&str; 4] = [
    r#"\X{1,2}?(?:東+|[[:punct:]]?+(?:\W+ab)*+|$)*"#,
    r#"\p{M}{1,2}?(?m:[\r\n]{2}|\s{2,}\w)+?(?:\A)?+|^s"#,
    r#"([\p{L}\p{M}]{1,2}?\.?\w){2}\p{M}|\z[[:alpha:]]+?|[[:punct:]](?:\b(\W{1,3}+\.++\s?|\X?[\r\n]*?^)|(?<=[ab]))*+"#,
    r#"(?i:(?:^|\P{L}{1,2}[^a-c])??[\r\n]?\d*+|((?<=[ab])b[^a-c]?|\p{Lu}é{1,2}?\R|s{2}?)?+)?+(?<!a)"#,
];

/// Patterns with other matches than in Oniguruma, because of `\X` from the middle of an emoji or of a
/// repetition that may match empty text.
const DIFFERING: [&str; 2] =
    [r#"[a-z&&[^b]]{3,1}\R??\S{1,3}+|\p{M}{1,2}?\X{1,2}"#, r#"(?i:(?<=[ab])[[:punct:]]{,2}|\b){2}"#];

#[test]
fn finds_what_oniguruma_finds() {
    let recorded = recorded();
    let texts: Vec<&str> =
        recorded["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let (mut refused, mut accepted, mut differing) = (Vec::new(), Vec::new(), Vec::new());
    for record in recorded["patterns"].as_array().unwrap() {
        let pattern = record[0].as_str().unwrap();
        match (compile(pattern), record[1].as_array()) {
            (Err(_), None) => {}
            (Err(reason), Some(_)) => refused.push((pattern, reason)),
            (Ok(_), None) => accepted.push(pattern),
            (Ok(compiled), Some(found)) => {
                for (text, found) in texts.iter().zip(found) {
                    let found: Vec<i64> = serde_json::from_value(found.clone()).unwrap();
                    let here = pieces(&compiled, text);
                    if here != found {
                        let translated = translate(pattern).unwrap();
                        let seen = format!("{pattern} => {translated}\n{text:?}\n{here:?}\n{found:?}\n");
                        differing.push((pattern, seen));
                        break;
                    }
                }
            }
        }
    }
    assert_eq!(texts_of(&differing), DIFFERING, "{differing:#?}");
    assert_eq!(texts_of(&refused), REFUSED, "{refused:#?}");
    assert_eq!(accepted, ACCEPTED);
}

fn texts_of<'a>(pairs: &[(&'a str, String)]) -> Vec<&'a str> {
    pairs.iter().map(|(pattern, _)| *pattern).collect()
}

#[test]
fn properties_hold_what_they_hold_for_oniguruma() {
    let sample: Vec<u32> = (0..0x3400).chain((0x3400..0x110000).step_by(61)).collect();
    let text: String = sample.iter().filter_map(|&code| char::from_u32(code)).collect();
    let (mut refused, mut differing) = (Vec::new(), Vec::new());
    for (name, found) in recorded()["properties"].as_object().unwrap() {
        let Ok(pattern) = compile(&format!(r"\p{{{name}}}+")) else {
            refused.push(name.clone());
            continue;
        };
        let (mut count, mut sum) = (0u64, 0u64);
        for (start, end) in pattern.find_iter(&text) {
            for character in text[start..end].chars() {
                count += 1;
                sum += u64::from(character);
            }
        }
        if serde_json::json!([count, sum]) != *found {
            differing.push(name.clone());
        }
    }
    assert_eq!(differing, Vec::<String>::new());
    // Characters that text cannot hold, what Oniguruma has without its values, and those without a script.
    assert_eq!(refused, ["Cs", "InCB", "Surrogate", "Unknown", "Zzzz"]);
}

#[test]
fn deep_and_long_patterns_are_refused() {
    for pattern in ["(".repeat(100_000), "[".repeat(100_000), "(?i)".repeat(100_000), "a{100001}".into()] {
        assert!(translate(&pattern).is_err());
    }
}
