//! Where spaCy splits a word that is no exception: at the prefixes, suffixes and infixes of its
//! language-independent rules with the English infixes (`lang/punctuation.py`, `lang/en/punctuation.py`,
//! MIT).

use super::characters::{
    ALPHA, ALPHA_LOWER, ALPHA_UPPER, BEFORE_PERIOD, Classes, ICON, PREFIX, QUOTE, SUFFIX,
};
use rustc_hash::FxHashSet;
use std::sync::LazyLock;

/// Units that are cut off after a digit.
const UNITS: &str = "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz \
    m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ \
    мм мм² мм³ нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тбكم كم² كم³ م م² م³ سم سم² \
    سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب \
    $ £ € ¥ ฿ US$ C$ A$ ₽ ﷼ ₴ ₠ ₡ ₢ ₣ ₤ ₥ ₦ ₧ ₨ ₩ ₪ ₫ ₭ ₮ ₯ ₰ ₱ ₲ ₳ ₵ ₶ ₷ ₸ ₹ ₺ ₻ ₼ ₾ ₿ +";

static UNIT_SET: LazyLock<FxHashSet<&'static str>> = LazyLock::new(|| UNITS.split_whitespace().collect());

/// Length of the longest unit, in bytes.
static LONGEST_UNIT: LazyLock<usize> =
    LazyLock::new(|| UNITS.split_whitespace().map(str::len).max().unwrap_or(0));

/// Length in bytes of the prefix that is cut from the start of a word, or 0.
pub(super) fn prefix(classes: &Classes, word: &str) -> usize {
    let dots = word.bytes().take_while(|&byte| byte == b'.').count();
    if dots >= 2 {
        return dots;
    }
    if word.starts_with("US$") {
        return 3;
    }
    if word.starts_with("C$") || word.starts_with("A$") {
        return 2;
    }
    let mut characters = word.chars();
    match characters.next() {
        Some('+') => usize::from(!characters.next().is_some_and(|next| next.is_ascii_digit())),
        Some(first) if classes.is(first, PREFIX) => first.len_utf8(),
        _ => 0,
    }
}

/// Length in bytes of the longest suffix that can be cut from the end of a word, or 0.
pub(super) fn suffix(classes: &Classes, word: &str) -> usize {
    let mut characters = word.chars().rev();
    let Some(last) = characters.next() else { return 0 };
    let mut longest = if classes.is(last, SUFFIX) { last.len_utf8() } else { 0 };
    let dots = word.bytes().rev().take_while(|&byte| byte == b'.').count();
    if dots >= 2 {
        longest = longest.max(dots);
    }
    if word.ends_with("……") {
        longest = longest.max(2 * '…'.len_utf8());
    }
    if matches!(last, 's' | 'S') {
        longest = match characters.clone().next() {
            Some('\'') => longest.max(2),
            Some('’') => longest.max(1 + '’'.len_utf8()),
            _ => longest,
        };
    }
    let from = word.len().saturating_sub(*LONGEST_UNIT + 1);
    if let Some(digit) = word.as_bytes()[from..].iter().rposition(u8::is_ascii_digit) {
        let tail = &word[from + digit + 1..];
        if UNIT_SET.contains(tail) {
            longest = longest.max(tail.len());
        }
    }
    if last == '.' && is_before_period(classes, characters) {
        longest = longest.max(1);
    }
    longest
}

/// Returns whether a full stop is cut off after these characters, of which the last comes first.
fn is_before_period(classes: &Classes, mut before: std::iter::Rev<std::str::Chars>) -> bool {
    let Some(last) = before.next() else { return false };
    let upper = |character| classes.is(character, ALPHA_UPPER);
    let second = before.next();
    classes.is(last, BEFORE_PERIOD)
        || (upper(last) && second.is_some_and(upper))
        || (matches!(last, 'F' | 'f' | 'C' | 'c' | 'K' | 'k') && second == Some('°'))
}

/// Splits a word at its infixes and appends the lengths in bytes of the pieces.
pub(super) fn split_infixes(classes: &Classes, word: &str, lengths: &mut Vec<u32>) {
    let mut piece = 0;
    let mut at = 0;
    let mut before = None;
    while let Some(character) = word[at..].chars().next() {
        let length = infix(classes, before, character, &word[at..]);
        if length == 0 {
            at += character.len_utf8();
            before = Some(character);
            continue;
        }
        // An infix at the start stays with what follows.
        if at > 0 {
            if at > piece {
                lengths.push((at - piece) as u32);
            }
            lengths.push(length as u32);
            piece = at + length;
        }
        at += length;
        before = word[..at].chars().next_back();
    }
    if piece < word.len() {
        lengths.push((word.len() - piece) as u32);
    }
}

const HYPHENS: [&str; 7] = ["-", "–", "—", "--", "---", "——", "~"];

/// Length in bytes of the infix at the start of `rest`, whose first character is `character`, or 0.
fn infix(classes: &Classes, before: Option<char>, character: char, rest: &str) -> usize {
    let length = character.len_utf8();
    if rest.starts_with("..") {
        return rest.bytes().take_while(|&byte| byte == b'.').count();
    }
    if character == '…' || classes.is(character, ICON) {
        return length;
    }
    let (Some(before), Some(after)) = (before, rest[length..].chars().next()) else { return 0 };
    let between = |left, right| classes.is(before, left) && classes.is(after, right);
    let after_word = before.is_ascii_digit() || classes.is(before, ALPHA);
    let cut = match character {
        '+' | '-' | '*' | '^' if before.is_ascii_digit() && (after.is_ascii_digit() || after == '-') => true,
        '.' => between(ALPHA_LOWER | QUOTE, ALPHA_UPPER | QUOTE),
        ',' => between(ALPHA, ALPHA),
        ':' | '<' | '>' | '=' | '/' => after_word && classes.is(after, ALPHA),
        '-' | '–' | '—' | '~' if after_word => {
            let followed = |hyphen: &&&str| {
                let behind = rest.strip_prefix(**hyphen).and_then(|behind| behind.chars().next());
                behind.is_some_and(|character| classes.is(character, ALPHA))
            };
            return HYPHENS.iter().find(followed).map_or(0, |hyphen| hyphen.len());
        }
        _ => false,
    };
    if cut { length } else { 0 }
}
