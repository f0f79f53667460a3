//! Recognises telephone numbers by their groups of digits and the signs between them.

use super::numbers::{digits, is_end};

/// Finds the end of a telephone number that begins at `start`: `+` or `00` and the digits of a country, or a
/// national number in separate groups. Ten digits together are too often something else.
pub(super) fn phone(bytes: &[u8], start: usize) -> Option<usize> {
    match bytes[start..] {
        [b'+', ..] => international(bytes, start + 1).map(|number| number.end),
        [b'0', b'0', ..] => {
            let country = start + 2 + usize::from(bytes.get(start + 2) == Some(&b' '));
            // Without groups it is a number with zeros before it.
            let number = international(bytes, country).filter(|number| number.first <= 3)?;
            Some(number.end)
        }
        [b'0', ..] | [b'(', b'0', ..] => european(bytes, start),
        _ => north_american(bytes, start),
    }
}

struct International {
    end: usize,
    /// Number of digits before the first sign.
    first: usize,
}

fn international(bytes: &[u8], start: usize) -> Option<International> {
    match bytes.get(start) {
        Some(b'1') => {
            let run = digits(&bytes[..bytes.len().min(start + 16)], start);
            if run == 11 && is_end(bytes, start + run) {
                return Some(International { end: start + run, first: run });
            }
            return north_american(bytes, start).map(|end| International { end, first: 1 });
        }
        Some(b'2'..=b'9') => {}
        _ => return None,
    }
    let (mut count, mut groups, mut first, mut points) = (0, 0, 0, 0);
    let mut end = start;
    let mut at = start;
    loop {
        let run = digits(&bytes[..bytes.len().min(at + 16)], at);
        if run == 0 || count + run > 15 {
            break;
        }
        if groups == 0 {
            first = run;
        }
        count += run;
        groups += 1;
        end = at + run;
        // At most two signs between groups, as in `+44 (0)20` or `) `.
        let signs = bytes[end..].iter().take(2).take_while(|byte| b" .-()/".contains(byte)).count();
        if signs == 0 {
            break;
        }
        points += usize::from(bytes[end..end + signs] == *b".");
        at = end + signs;
    }
    // One group and one point are a quantity and a coordinate.
    let is_quantity = groups == 2 && points == 1;
    let least = if groups == 1 { 10 } else { 9 };
    (count >= least && !is_quantity && is_end(bytes, end)).then_some(International { end, first })
}

/// Finds the end of a European number in groups, such as `020 7946 0958`, `(030) 901820`, `0171/1234567` or
/// `01 23 45 67 89`.
fn european(bytes: &[u8], start: usize) -> Option<usize> {
    // A path or an anchor.
    if start > 0 && matches!(bytes[start - 1], b'/' | b'#' | b'(') && bytes[start] != b'(' {
        return None;
    }
    let is_bracketed = bytes[start] == b'(';
    let first = start + usize::from(is_bracketed);
    let area = digits(&bytes[..bytes.len().min(first + 6)], first);
    if !(2..=5).contains(&area) || !bytes.get(first + 1).is_some_and(|byte| (b'1'..=b'9').contains(byte)) {
        return None;
    }
    let mut at = first + area;
    let after: &[&[u8]] = match is_bracketed {
        true => &[b") ", b")"],
        false => &[b" / ", b" - ", b" ", b"/", b"-", b"."],
    };
    let sign = after.iter().find(|sign| bytes[at..].starts_with(sign))?;
    at += sign.len();
    let mut groups = [0usize; 5];
    let mut count = 0;
    let mut separator = None;
    loop {
        groups[count] = digits(&bytes[..bytes.len().min(at + 10)], at);
        at += groups[count];
        if groups[count] < 2 {
            return None;
        }
        count += 1;
        let next = bytes.get(at).copied().filter(|byte| b" .-".contains(byte));
        let goes_on = bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        let is_same = separator.is_none_or(|before| Some(before) == next);
        if count == groups.len() || next.is_none() || !goes_on || !is_same {
            break;
        }
        separator = next;
        at += 1;
    }
    let is_pointed = sign == b".";
    let is_shape = match (area, &groups[..count]) {
        (2, [2, 2, 2, 2]) => true,
        // Points without a fifth group are a date, a version or a decimal.
        _ if is_pointed || separator == Some(b'.') => false,
        (_, [5..=8]) => (9..=12).contains(&(area + groups[0])),
        (_, [3 | 4, 3 | 4]) => (10..=11).contains(&(area + groups[0] + groups[1])),
        (2..=3, [3, 2, 2]) | (4, [2, 2, 2]) => true,
        _ => false,
    };
    (is_shape && is_end(bytes, at)).then_some(at)
}

/// Finds the end of a North American number: `(212) 555-0123`, `212-555-0123`, `212.555.0123` or
/// `212 555 0123`, with or without `1` before it.
fn north_american(bytes: &[u8], start: usize) -> Option<usize> {
    let group = |at: usize, length: usize| {
        let group = bytes.get(at..at + length)?;
        group.iter().all(u8::is_ascii_digit).then_some(at + length)
    };
    let sign = |at: usize| bytes.get(at).copied().filter(|byte| b" .-".contains(byte));
    let mut at = start;
    if bytes[at] == b'1' {
        at += 1 + usize::from(sign(at + 1).is_some());
        if at == start + 1 && bytes.get(at) != Some(&b'(') {
            return None;
        }
    }
    let is_bracketed = bytes.get(at) == Some(&b'(');
    at += usize::from(is_bracketed);
    // Area and exchange do not begin with 0 or 1.
    let is_area = |at: usize| matches!(bytes.get(at), Some(b'2'..=b'9'));
    if !is_area(at) {
        return None;
    }
    at = group(at, 3)?;
    if is_bracketed {
        if bytes.get(at) != Some(&b')') {
            return None;
        }
        at += 1;
        at += usize::from(sign(at).is_some());
    } else {
        sign(at)?;
        at += 1;
    }
    if !is_area(at) {
        return None;
    }
    at = group(at, 3)?;
    sign(at)?;
    let end = group(at + 1, 4)?;
    is_end(bytes, end).then_some(end)
}
