//! Letters that become several letters in another case, such as `ß` and `SS`. Oniguruma's `(?i)` matches
//! them; the engine used here matches only one letter with one letter.

use super::escape;

/// Appends a pattern that matches the characters in either case. With `one_for_one` a letter only matches a
/// single letter.
pub(super) fn write(characters: &[char], one_for_one: bool, out: &mut String) {
    if characters.is_empty() {
        return;
    }
    let mut folded: Vec<char> = Vec::new();
    for &character in characters {
        match several(character) {
            Some(letters) if !one_for_one => folded.extend(letters.chars()),
            _ => folded.push(character),
        }
    }
    *out += "(?i:";
    let mut rest = folded.as_slice();
    while let Some((&first, after)) = rest.split_first() {
        // Of two that begin here, the longer one.
        let found = (2..=3).rev().filter_map(|length| rest.get(..length)).find(|letters| is_several(letters));
        match found {
            Some(letters) if !one_for_one => {
                *out += "(?:";
                letters.iter().for_each(|&letter| escape::write(letter, out));
                *out += "|[";
                let text = fold(letters);
                for (single, _) in SEVERAL.iter().filter(|(_, letters)| **letters == *text) {
                    escape::write(*single, out);
                }
                *out += "])";
                rest = &rest[letters.len()..];
            }
            _ => {
                escape::write(first, out);
                rest = after;
            }
        }
    }
    out.push(')');
}

/// The letters that a character becomes in another case, if they are several.
pub(super) fn several(character: char) -> Option<&'static str> {
    SEVERAL.iter().find(|(single, _)| *single == character).map(|(_, letters)| *letters)
}

fn is_several(letters: &[char]) -> bool {
    let text = fold(letters);
    SEVERAL.iter().any(|(_, letters)| *letters == text)
}

/// Folds the case of letters, as in the table [`SEVERAL`].
fn fold(letters: &[char]) -> String {
    let fold = |letter: &char| match letter {
        'ſ' => 's',
        'ς' => 'σ',
        '\u{345}' | '\u{1FBE}' => 'ι',
        letter => letter.to_lowercase().next().unwrap_or(*letter),
    };
    letters.iter().map(fold).collect()
}

/// Full case foldings of Unicode that have more than one letter
/// (<https://www.unicode.org/Public/16.0.0/ucd/CaseFolding.txt>, status F).
#[rustfmt::skip]
const SEVERAL: [(char, &str); 104] = [
    ('\u{DF}', "ss"), ('\u{130}', "i\u{307}"), ('\u{149}', "\u{2BC}n"),
    ('\u{1F0}', "j\u{30C}"), ('\u{390}', "\u{3B9}\u{308}\u{301}"), ('\u{3B0}', "\u{3C5}\u{308}\u{301}"),
    ('\u{587}', "\u{565}\u{582}"), ('\u{1E96}', "h\u{331}"), ('\u{1E97}', "t\u{308}"),
    ('\u{1E98}', "w\u{30A}"), ('\u{1E99}', "y\u{30A}"), ('\u{1E9A}', "a\u{2BE}"),
    ('\u{1E9E}', "ss"), ('\u{1F50}', "\u{3C5}\u{313}"), ('\u{1F52}', "\u{3C5}\u{313}\u{300}"),
    ('\u{1F54}', "\u{3C5}\u{313}\u{301}"), ('\u{1F56}', "\u{3C5}\u{313}\u{342}"), ('\u{1F80}', "\u{1F00}\u{3B9}"),
    ('\u{1F81}', "\u{1F01}\u{3B9}"), ('\u{1F82}', "\u{1F02}\u{3B9}"), ('\u{1F83}', "\u{1F03}\u{3B9}"),
    ('\u{1F84}', "\u{1F04}\u{3B9}"), ('\u{1F85}', "\u{1F05}\u{3B9}"), ('\u{1F86}', "\u{1F06}\u{3B9}"),
    ('\u{1F87}', "\u{1F07}\u{3B9}"), ('\u{1F88}', "\u{1F00}\u{3B9}"), ('\u{1F89}', "\u{1F01}\u{3B9}"),
    ('\u{1F8A}', "\u{1F02}\u{3B9}"), ('\u{1F8B}', "\u{1F03}\u{3B9}"), ('\u{1F8C}', "\u{1F04}\u{3B9}"),
    ('\u{1F8D}', "\u{1F05}\u{3B9}"), ('\u{1F8E}', "\u{1F06}\u{3B9}"), ('\u{1F8F}', "\u{1F07}\u{3B9}"),
    ('\u{1F90}', "\u{1F20}\u{3B9}"), ('\u{1F91}', "\u{1F21}\u{3B9}"), ('\u{1F92}', "\u{1F22}\u{3B9}"),
    ('\u{1F93}', "\u{1F23}\u{3B9}"), ('\u{1F94}', "\u{1F24}\u{3B9}"), ('\u{1F95}', "\u{1F25}\u{3B9}"),
    ('\u{1F96}', "\u{1F26}\u{3B9}"), ('\u{1F97}', "\u{1F27}\u{3B9}"), ('\u{1F98}', "\u{1F20}\u{3B9}"),
    ('\u{1F99}', "\u{1F21}\u{3B9}"), ('\u{1F9A}', "\u{1F22}\u{3B9}"), ('\u{1F9B}', "\u{1F23}\u{3B9}"),
    ('\u{1F9C}', "\u{1F24}\u{3B9}"), ('\u{1F9D}', "\u{1F25}\u{3B9}"), ('\u{1F9E}', "\u{1F26}\u{3B9}"),
    ('\u{1F9F}', "\u{1F27}\u{3B9}"), ('\u{1FA0}', "\u{1F60}\u{3B9}"), ('\u{1FA1}', "\u{1F61}\u{3B9}"),
    ('\u{1FA2}', "\u{1F62}\u{3B9}"), ('\u{1FA3}', "\u{1F63}\u{3B9}"), ('\u{1FA4}', "\u{1F64}\u{3B9}"),
    ('\u{1FA5}', "\u{1F65}\u{3B9}"), ('\u{1FA6}', "\u{1F66}\u{3B9}"), ('\u{1FA7}', "\u{1F67}\u{3B9}"),
    ('\u{1FA8}', "\u{1F60}\u{3B9}"), ('\u{1FA9}', "\u{1F61}\u{3B9}"), ('\u{1FAA}', "\u{1F62}\u{3B9}"),
    ('\u{1FAB}', "\u{1F63}\u{3B9}"), ('\u{1FAC}', "\u{1F64}\u{3B9}"), ('\u{1FAD}', "\u{1F65}\u{3B9}"),
    ('\u{1FAE}', "\u{1F66}\u{3B9}"), ('\u{1FAF}', "\u{1F67}\u{3B9}"), ('\u{1FB2}', "\u{1F70}\u{3B9}"),
    ('\u{1FB3}', "\u{3B1}\u{3B9}"), ('\u{1FB4}', "\u{3AC}\u{3B9}"), ('\u{1FB6}', "\u{3B1}\u{342}"),
    ('\u{1FB7}', "\u{3B1}\u{342}\u{3B9}"), ('\u{1FBC}', "\u{3B1}\u{3B9}"), ('\u{1FC2}', "\u{1F74}\u{3B9}"),
    ('\u{1FC3}', "\u{3B7}\u{3B9}"), ('\u{1FC4}', "\u{3AE}\u{3B9}"), ('\u{1FC6}', "\u{3B7}\u{342}"),
    ('\u{1FC7}', "\u{3B7}\u{342}\u{3B9}"), ('\u{1FCC}', "\u{3B7}\u{3B9}"), ('\u{1FD2}', "\u{3B9}\u{308}\u{300}"),
    ('\u{1FD3}', "\u{3B9}\u{308}\u{301}"), ('\u{1FD6}', "\u{3B9}\u{342}"), ('\u{1FD7}', "\u{3B9}\u{308}\u{342}"),
    ('\u{1FE2}', "\u{3C5}\u{308}\u{300}"), ('\u{1FE3}', "\u{3C5}\u{308}\u{301}"), ('\u{1FE4}', "\u{3C1}\u{313}"),
    ('\u{1FE6}', "\u{3C5}\u{342}"), ('\u{1FE7}', "\u{3C5}\u{308}\u{342}"), ('\u{1FF2}', "\u{1F7C}\u{3B9}"),
    ('\u{1FF3}', "\u{3C9}\u{3B9}"), ('\u{1FF4}', "\u{3CE}\u{3B9}"), ('\u{1FF6}', "\u{3C9}\u{342}"),
    ('\u{1FF7}', "\u{3C9}\u{342}\u{3B9}"), ('\u{1FFC}', "\u{3C9}\u{3B9}"), ('\u{FB00}', "ff"),
    ('\u{FB01}', "fi"), ('\u{FB02}', "fl"), ('\u{FB03}', "ffi"),
    ('\u{FB04}', "ffl"), ('\u{FB05}', "st"), ('\u{FB06}', "st"),
    ('\u{FB13}', "\u{574}\u{576}"), ('\u{FB14}', "\u{574}\u{565}"), ('\u{FB15}', "\u{574}\u{56B}"),
    ('\u{FB16}', "\u{57E}\u{576}"), ('\u{FB17}', "\u{574}\u{56D}"),
];
