//! Recognises card and bank account numbers by their digits and the signs between them.

/// Length of the run of digits at `at`.
pub(super) fn digits(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Returns whether a number may end at `end`: no word, number or decimal continues there.
pub(super) fn is_end(bytes: &[u8], end: usize) -> bool {
    let next = |at: usize| bytes.get(end + at).copied().unwrap_or(b' ');
    match next(0) {
        b'_' => false,
        b'.' | b'-' | b',' | b'/' => !next(1).is_ascii_digit(),
        byte => !byte.is_ascii_alphanumeric(),
    }
}

/// Finds the end of a card number that begins at `start`: 13 to 19 digits, together or in groups, with the
/// first digits and length of an issuer and Luhn's check digit.
pub(super) fn card(bytes: &[u8], start: usize) -> Option<usize> {
    let mut number = [0u8; 19];
    let mut count = 0;
    let mut end = start;
    let mut separator = None;
    let mut found = None;
    loop {
        let run = digits(&bytes[..bytes.len().min(end + 20)], end);
        if run == 0 || count + run > number.len() {
            return found;
        }
        for (slot, digit) in number[count..].iter_mut().zip(&bytes[end..end + run]) {
            *slot = digit - b'0';
        }
        count += run;
        end += run;
        if is_card(&number[..count]) && is_end(bytes, end) {
            found = Some(end);
        }
        // Groups have at least two digits and the same separator.
        match (bytes.get(end), separator) {
            (Some(&byte @ (b' ' | b'-')), None) if run >= 2 => separator = Some(byte),
            (Some(&byte), Some(before)) if run >= 2 && byte == before => {}
            _ => return found,
        }
        end += 1;
    }
}

fn is_card(number: &[u8]) -> bool {
    let prefix = |digits: usize| {
        number.iter().take(digits).fold(0u32, |prefix, &digit| 10 * prefix + u32::from(digit))
    };
    let is_issued = matches!(
        (number.len(), prefix(4)),
        (13 | 16 | 19, 4000..=4999)
            | (16, 2221..=2720 | 5100..=5599)
            | (15, 3400..=3499 | 3700..=3799)
            | (14, 3000..=3059 | 3600..=3699 | 3800..=3999)
            | (16..=19, 3528..=3589 | 6011 | 6200..=6299 | 6440..=6599)
            | (13..=19, 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763)
    );
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let luhn = |(index, &digit): (usize, &u8)| u32::from(if index % 2 == 1 { doubled(digit) } else { digit });
    is_issued && number.iter().rev().enumerate().map(luhn).sum::<u32>().is_multiple_of(10)
}

/// Length of an account number in each country (SWIFT's registry of IBAN formats, release 99).
const IBANS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// Finds the end of a bank account number (IBAN) that begins at `start`: country, check digits, and digits
/// and letters in the country's length, in groups of four or together (ISO 13616).
pub(super) fn iban(bytes: &[u8], start: usize) -> Option<usize> {
    let country = bytes.get(start..start + 2)?;
    let known = IBANS.binary_search_by(|(code, _)| code.as_slice().cmp(country)).ok()?;
    let length = IBANS[known].1;
    let mut number = [0u8; 34];
    let mut count = 0;
    let mut end = start;
    while count < length {
        match *bytes.get(end)? {
            byte if byte.is_ascii_uppercase() || byte.is_ascii_digit() => {
                number[count] = byte;
                count += 1;
            }
            b' ' | b'-' if count % 4 == 0 => {}
            _ => return None,
        }
        end += 1;
    }
    // What comes first is the end of the number that is 1 modulo 97.
    let (first, rest) = number[..length].split_at(4);
    let remainder = rest.iter().chain(first).fold(0u32, |remainder, &byte| match byte {
        b'0'..=b'9' => (10 * remainder + u32::from(byte - b'0')) % 97,
        _ => (100 * remainder + u32::from(byte - b'A') + 10) % 97,
    });
    (remainder == 1 && is_end(bytes, end)).then_some(end)
}
