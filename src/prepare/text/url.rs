//! Recognises words that are addresses, as spaCy's `URL_MATCH` does (`lang/tokenizer_exceptions.py`, MIT).
//! The parts of an address are separated by characters that no part may contain, so that no backtracking is
//! needed.

use super::characters::{ALPHA_LOWER, Classes, DECIMAL, WORD};

/// Returns whether a whole word, which has no white space, is an address: `a.bc`, `x@y.org`,
/// `ftp://8.8.8.8/z`.
pub(super) fn is_url(word: &str) -> bool {
    if !word.contains('.') {
        return false;
    }
    let classes = Classes::get();
    // A host may begin at the start, after a scheme, or after a user's name, which may hold anything.
    let users = word.match_indices('@').map(|(at, _)| at).filter(|&at| at > 0);
    let starts = [Some(0), scheme(classes, word)].into_iter().flatten().chain(users.map(|at| at + 1));
    starts.into_iter().any(|start| is_host_and_rest(classes, &word[start..]))
}

/// Position after `scheme://` at the beginning of a word, if there is one.
fn scheme(classes: &Classes, word: &str) -> Option<usize> {
    let allowed = |character| matches!(character, '+' | '-' | '.') || classes.is(character, WORD);
    let end = word.find(|character| !allowed(character))?;
    let (name, rest) = word.split_at(end);
    (name.chars().nth(1).is_some() && rest.starts_with("://")).then_some(end + 3)
}

fn is_host_and_rest(classes: &Classes, text: &str) -> bool {
    // No host has an `@`, so that a word of many users is still looked at once.
    let end = text.find([':', '/', '?', '#', '@']).unwrap_or(text.len());
    let (host, rest) = text.split_at(end);
    is_rest(classes, rest) && (is_address(classes, host) || is_name(classes, host))
}

/// Returns whether the text after a host is an optional port and an optional path.
fn is_rest(classes: &Classes, rest: &str) -> bool {
    let path = match rest.strip_prefix(':') {
        Some(port) => {
            let digits = port.chars().take_while(|&character| classes.is(character, DECIMAL)).take(6);
            let (count, bytes) =
                digits.fold((0, 0), |(count, bytes), digit| (count + 1, bytes + digit.len_utf8()));
            if !(2..=5).contains(&count) {
                return false;
            }
            &port[bytes..]
        }
        None => rest,
    };
    path.is_empty() || path.starts_with(['/', '?', '#'])
}

/// Returns whether a host is labels, each followed by a dot, and a top-level domain of 2 to 63 lower-case
/// letters.
fn is_name(classes: &Classes, host: &str) -> bool {
    let Some((labels, top)) = host.rsplit_once('.') else { return false };
    let length = top.chars().take(64).count();
    (2..=63).contains(&length)
        && top.chars().all(|character| classes.is(character, ALPHA_LOWER))
        && labels.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || ('\u{a1}'..='\u{ffff}').contains(&character);
    label.starts_with(plain)
        && label.ends_with(plain)
        && label.chars().take(65).count() <= 64
        && label.chars().all(|character| plain(character) || matches!(character, '_' | '-'))
}

/// Returns whether a host is a public IPv4 address.
fn is_address(classes: &Classes, host: &str) -> bool {
    let mut octets = host.split('.');
    let (Some(a), Some(b), Some(c), Some(d), None) =
        (octets.next(), octets.next(), octets.next(), octets.next(), octets.next())
    else {
        return false;
    };
    let any = |character: char| classes.is(character, DECIMAL);
    let shape = |octet: &str, tests: &[&dyn Fn(char) -> bool]| {
        octet.chars().take(4).count() == tests.len()
            && octet.chars().zip(tests).all(|(character, test)| test(character))
    };
    let range = |first: char, last: char| move |character: char| (first..=last).contains(&character);
    let one = |wanted: char| move |character: char| character == wanted;
    // 1 to 9, with another digit or without; then 1xx, 2xx as far as they go.
    let small = |octet| shape(octet, &[&range('1', '9')]) || shape(octet, &[&range('1', '9'), &any]);
    let hundred = |octet| shape(octet, &[&one('1'), &any, &any]);
    let two = |octet, last: char| shape(octet, &[&one('2'), &range('0', last), &any]);
    let twenty = |octet, tens: char, last: char| shape(octet, &[&one('2'), &one(tens), &range('0', last)]);
    let first = small(a) || hundred(a) || two(a, '1') || twenty(a, '2', '3');
    let middle = |octet| {
        shape(octet, &[&any])
            || shape(octet, &[&any, &any])
            || hundred(octet)
            || two(octet, '4')
            || twenty(octet, '5', '5')
    };
    let last = small(d) || hundred(d) || two(d, '4') || twenty(d, '5', '4');
    let private = matches!(a, "10" | "127")
        || (a == "169" && b == "254")
        || (a == "192" && b == "168")
        || (a == "172"
            && (shape(b, &[&one('1'), &range('6', '9')])
                || shape(b, &[&one('2'), &any])
                || shape(b, &[&one('3'), &range('0', '1')])));
    first && middle(b) && middle(c) && last && !private
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_words() {
        for word in [
            "foo.bar",
            "a@b.com",
            "http://a.b.cde/x?y#z",
            "www.a-b_c.org:8080/",
            "8.8.8.8",
            "x@@y.org",
            "ftp://u:p@1.2.3.4:21",
            "ünï.de",
            "例.中国",
            "a.b@c@d.ef",
        ] {
            assert!(is_url(word), "{word}");
        }
        for word in [
            "foo",
            "a.b",
            "foo.Bar",
            "-a.com",
            "a..com",
            "a.com:1",
            "a.com:123456",
            "192.168.1.1",
            "10.0.0.1",
            "1.2.3.0",
            "256.1.1.1",
            "a.com!",
            "@a",
            ".com",
            "x:/a.com",
        ] {
            assert!(!is_url(word), "{word}");
        }
    }
}
