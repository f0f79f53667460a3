//! Recognises e-mail and public IP addresses around a sign that they always have.

use super::numbers::{digits, is_end};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

/// Extensions of file names, which are no top-level domains.
const FILES: &[&[u8]] = &[
    b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"bmp", b"tif", b"tiff", b"pdf", b"txt", b"html",
    b"htm", b"css", b"js", b"json",
];

/// Words after which numbers are a version, not an address.
const VERSIONS: &[&[u8]] = &[
    b"version",
    b"versions",
    b"ver",
    b"v",
    b"release",
    b"revision",
    b"build",
    b"firmware",
    b"section",
    b"chapter",
    b"driver",
    b"patch",
];

/// Finds the e-mail address around an `@` that begins at `least` or later. Local parts have at most 64 bytes
/// and domains at most 255.
pub(super) fn email(bytes: &[u8], at: usize, least: usize) -> Option<Range<usize>> {
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-'".contains(&byte);
    let longest = at.saturating_sub(65).max(least);
    let mut start = at;
    while start > longest && is_local(bytes[start - 1]) {
        start -= 1;
    }
    if at - start > 64 {
        return None;
    }
    // Quotes and dots before a local part are not of it.
    while start < at && b".'%+-".contains(&bytes[start]) {
        start += 1;
    }
    if start == at || matches!(bytes[at - 1], b'.' | b'\'') {
        return None;
    }
    let first = at + 1;
    let is_domain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let length = bytes[first..].iter().take(256).take_while(|byte| is_domain(byte)).count();
    let domain = &bytes[first..first + length];
    let trimmed = domain.iter().rposition(|byte| byte.is_ascii_alphanumeric()).map_or(0, |last| last + 1);
    let domain = &domain[..trimmed];
    if domain.len() > 255 {
        return None;
    }
    let mut labels = 0;
    let mut last: &[u8] = &[];
    for label in domain.split(|&byte| byte == b'.') {
        if label.is_empty() || label.len() > 63 || label[0] == b'-' || label[label.len() - 1] == b'-' {
            return None;
        }
        labels += 1;
        last = label;
    }
    let is_top = last.len() >= 2 && last[0].is_ascii_alphabetic() && !last.iter().all(u8::is_ascii_digit);
    // `icon@2x.png`, and whom one asks for a repository.
    let is_file = FILES.iter().any(|end| last.eq_ignore_ascii_case(end));
    let is_service = &bytes[start..at] == b"git";
    (labels >= 2 && is_top && !is_file && !is_service).then(|| start..first + domain.len())
}

/// Finds the end of a public IPv4 address that begins at `start`.
pub(super) fn ipv4(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut end = start;
    for part in 0..4 {
        let length = digits(&bytes[..bytes.len().min(end + 4)], end);
        if !(1..=3).contains(&length) {
            return None;
        }
        end += length;
        if part < 3 {
            if bytes.get(end) != Some(&b'.') {
                return None;
            }
            end += 1;
        }
    }
    // A port, a mask or an end of a sentence may follow.
    let is_over = matches!(bytes.get(end), Some(b'/' | b'-' | b',')) || is_end(bytes, end);
    let address: Ipv4Addr = text.get(start..end)?.parse().ok()?;
    (is_over && is_public_v4(address) && !is_version(bytes, start, address)).then_some(end)
}

/// Returns whether an address is probably a version or the number of a section. It is if it follows a word
/// that says so or the name of a program or file with its sign, or if all its parts are single digits and it
/// is no well-known name server.
fn is_version(bytes: &[u8], start: usize, address: Ipv4Addr) -> bool {
    let before = &bytes[start.saturating_sub(24)..start];
    if let [.., name, b'/'] = before
        && name.is_ascii_alphanumeric()
    {
        return true;
    }
    // `file.c,1.60.2.5`, as CVS writes revisions.
    if before.ends_with(b",") && address.octets()[0] < 10 {
        return true;
    }
    let is_name_server = matches!(address.octets(), [1, 1, 1, 1] | [8, 8, 8 | 4, 8 | 4] | [9, 9, 9, 9]);
    if address.octets().iter().all(|&part| part < 10) && !is_name_server {
        return true;
    }
    let before = before.trim_ascii_end();
    let before = before.strip_suffix(b":").or(before.strip_suffix(b"=")).unwrap_or(before).trim_ascii_end();
    let word = before.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = &before[before.len() - word..];
    VERSIONS.iter().any(|version| word.eq_ignore_ascii_case(version))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_reserved =
        matches!((a, b, c), (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _) | (240..=255, ..));
    !(is_reserved
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast())
}

/// Finds the run of hexadecimal digits, colons and dots around a colon that begins at `least` or later, and
/// whether the run is a public IPv6 address.
pub(super) fn ipv6(text: &str, colon: usize, least: usize) -> (Range<usize>, bool) {
    /// Maximum length of an address in bytes.
    const LONGEST: usize = 45;
    let bytes = text.as_bytes();
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
    let mut start = colon;
    while start > least && colon - start <= 4 && is_part(bytes[start - 1]) {
        start -= 1;
    }
    let is_part = |byte: &&u8| is_part(**byte) || **byte == b'.';
    let run = bytes[colon..].iter().take_while(is_part).count();
    let mut end = colon + run;
    while end > colon
        && (bytes[end - 1] == b'.' || text[start..end].ends_with(':') && !text[start..end].ends_with("::"))
    {
        end -= 1;
    }
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_alone =
        (start == 0 || !is_word(bytes[start - 1])) && bytes.get(end).is_none_or(|&byte| !is_word(byte));
    let whole = colon + run;
    if !is_alone || end - start > LONGEST {
        return (start..whole, false);
    }
    match text.get(start..end).map(str::parse::<Ipv6Addr>) {
        Some(Ok(address)) if is_public_v6(address) => (start..end, true),
        _ => (start..whole, false),
    }
}

/// Returns whether an address is global unicast (2000::/3) and not reserved for documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let is_documentation = (first, second) == (0x2001, 0x0db8) || (first == 0x3fff && second < 0x1000);
    first >> 13 == 1 && !is_documentation
}
