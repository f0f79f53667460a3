//! Finds personal data (e-mail addresses, public IP addresses, telephone, card and bank account numbers) and
//! replaces it by tags. Every rule examines a bounded stretch of text around a sign that such data always has
//! (`@`, `:`, a digit), so that time is linear in the length of the text.

use super::{
    addresses::{email, ipv4, ipv6},
    numbers::{card, digits, iban},
    phones::phone,
};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Settings of the personal data to find and replace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PiiConfig {
    /// Tag that replaces each e-mail address; data of a kind without a tag is kept.
    pub email: Option<String>,
    pub ip: Option<String>,
    pub phone: Option<String>,
    pub card: Option<String>,
    pub iban: Option<String>,
    /// Maximum number of finds; documents with more are dropped.
    pub drop_above: Option<usize>,
}

impl Default for PiiConfig {
    fn default() -> Self {
        let tag = |name: &str| Some(format!("[{name}]"));
        Self {
            email: tag("EMAIL"),
            ip: tag("IP"),
            phone: tag("PHONE"),
            card: tag("CARD"),
            iban: tag("IBAN"),
            drop_above: None,
        }
    }
}

/// A kind of personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Email,
    Ip,
    Phone,
    Card,
    /// An international bank account number.
    Iban,
}

/// Number of finds of each kind in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    pub email: usize,
    pub ip: usize,
    pub phone: usize,
    pub card: usize,
    pub iban: usize,
}

impl Counts {
    pub fn total(&self) -> usize {
        self.email + self.ip + self.phone + self.card + self.iban
    }
}

/// Result of cleaning a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    pub counts: Counts,
    /// Text with tags; `None` if nothing was found or the document is dropped.
    pub text: Option<String>,
    pub is_dropped: bool,
}

impl PiiConfig {
    /// Replaces personal data by tags.
    pub fn clean(&self, text: &str) -> Cleaned {
        let found = self.find(text);
        let mut counts = Counts::default();
        for (kind, _) in &found {
            *match kind {
                Kind::Email => &mut counts.email,
                Kind::Ip => &mut counts.ip,
                Kind::Phone => &mut counts.phone,
                Kind::Card => &mut counts.card,
                Kind::Iban => &mut counts.iban,
            } += 1;
        }
        let is_dropped = self.drop_above.is_some_and(|most| counts.total() > most);
        if found.is_empty() || is_dropped {
            return Cleaned { counts, text: None, is_dropped };
        }
        let mut out = String::with_capacity(text.len());
        let mut end = 0;
        for (kind, range) in found {
            out.push_str(&text[end..range.start]);
            out.push_str(self.tag(kind).unwrap_or_default());
            end = range.end;
        }
        out.push_str(&text[end..]);
        Cleaned { counts, text: Some(out), is_dropped }
    }

    /// Finds personal data, as byte ranges in ascending order that do not overlap.
    pub fn find(&self, text: &str) -> Vec<(Kind, Range<usize>)> {
        let bytes = text.as_bytes();
        let mut found = Vec::new();
        if self.email.is_some() {
            let mut end = 0;
            for at in memchr::memchr_iter(b'@', bytes) {
                if let Some(range) = email(bytes, at, end) {
                    end = range.end;
                    found.push((Kind::Email, range));
                }
            }
        }
        let emails = found.len();
        if self.ip.is_some() {
            let mut end = 0;
            for at in memchr::memchr_iter(b':', bytes) {
                if at >= end {
                    let (range, is_public) = ipv6(text, at, end);
                    end = range.end.max(end);
                    if is_public {
                        found.push((Kind::Ip, range));
                    }
                }
            }
        }
        // What is found by its digits must leave alone what was found so far.
        found.sort_unstable_by_key(|(_, range)| range.start);
        let taken = found.len();
        let mut next_taken = 0;
        let mut at = 0;
        while let Some(start) = bytes[at..].iter().position(|&byte| NUMBER_START[usize::from(byte)]) {
            let start = at + start;
            while next_taken < taken && found[next_taken].1.end <= start {
                next_taken += 1;
            }
            let limit =
                if next_taken < taken { found[next_taken].1.clone() } else { bytes.len()..bytes.len() };
            if limit.contains(&start) {
                at = limit.end;
                continue;
            }
            let number = &text[..limit.start];
            match self.account(number, start, at).or_else(|| self.number(number, start)) {
                Some((kind, start, end)) => {
                    found.push((kind, start..end));
                    at = end;
                }
                // The rest of a run of digits begins nothing, as a digit is before it.
                None if bytes[start].is_ascii_digit() => at = start + digits(bytes, start),
                None => at = start + 1,
            }
        }
        if emails < found.len() {
            found.sort_unstable_by_key(|(_, range)| range.start);
        }
        found
    }

    fn tag(&self, kind: Kind) -> Option<&str> {
        match kind {
            Kind::Email => self.email.as_deref(),
            Kind::Ip => self.ip.as_deref(),
            Kind::Phone => self.phone.as_deref(),
            Kind::Card => self.card.as_deref(),
            Kind::Iban => self.iban.as_deref(),
        }
    }

    /// Finds data that begins at `start` with a digit, `+` or `(`: its kind, and where it begins and ends.
    fn number(&self, text: &str, start: usize) -> Option<(Kind, usize, usize)> {
        let bytes = text.as_bytes();
        if start > 0 && is_inside(bytes[start - 1]) {
            return None;
        }
        let (ip, card_number) = (|| ipv4(text, start), || card(bytes, start));
        let found = self.ip.as_ref().and_then(|_| ip()).map(|end| (Kind::Ip, end));
        let found =
            found.or_else(|| self.card.as_ref().and_then(|_| card_number()).map(|end| (Kind::Card, end)));
        let found = found
            .or_else(|| self.phone.as_ref().and_then(|_| phone(bytes, start)).map(|end| (Kind::Phone, end)));
        found.map(|(kind, end)| (kind, start, end))
    }

    /// Finds the account number whose check digits begin at `digits` and which begins at `least` or later.
    fn account(&self, text: &str, digits: usize, least: usize) -> Option<(Kind, usize, usize)> {
        let bytes = text.as_bytes();
        let start = digits.checked_sub(2).filter(|start| *start >= least && self.iban.is_some())?;
        if start > 0 && is_inside(bytes[start - 1]) {
            return None;
        }
        iban(bytes, start).map(|end| (Kind::Iban, start, end))
    }
}

const NUMBER_START: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'0'..=b'9' | b'+' | b'(');
        byte += 1;
    }
    table
};

/// Returns whether text after the byte `before` is in the middle of a word or number. Characters beyond ASCII
/// belong to neither.
fn is_inside(before: u8) -> bool {
    before.is_ascii_alphanumeric() || matches!(before, b'.' | b'_' | b'-' | b'$' | b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        PiiConfig::default().clean(text).text.unwrap_or_else(|| text.into())
    }

    #[test]
    fn replaces_each_kind() {
        for (text, clean) in [
            ("Mail jane.doe+x@mail.example.co.uk.", "Mail [EMAIL]."),
            ("<a@b.org>, 'c@d.net'; mailto:e-f@g-h.io?x", "<[EMAIL]>, '[EMAIL]'; mailto:[EMAIL]?x"),
            ("from 8.8.8.8, 1.1.1.1:53 and 93.184.216.34/24", "from [IP], [IP]:53 and [IP]/24"),
            ("at 2606:4700:4700::1111. Or [2001:4860:4860:0:0:0:0:8888]:80", "at [IP]. Or [[IP]]:80"),
            ("call (212) 555-0123 or 1-800-555-0199.", "call [PHONE] or [PHONE]."),
            ("tel: +44 20 7946 0958, +49 (30) 901820; 415.555.2671", "tel: [PHONE], [PHONE]; [PHONE]"),
            (
                "+1 212 555 0123, +1(212)555-0123 +12125550123 ip=8.8.4.4 http://8.8.4.4/",
                "[PHONE], [PHONE] [PHONE] ip=[IP] http://[IP]/",
            ),
            ("card 4111 1111 1111 1111 12/25", "card [CARD] 12/25"),
            ("5500-0000-0000-0004, 378282246310005", "[CARD], [CARD]"),
            ("é@x.de ü8.8.8.8", "é@x.de ü[IP]"),
        ] {
            assert_eq!(cleaned(text), clean);
        }
    }

    #[test]
    fn leaves_what_only_looks_like_it() {
        for text in [
            "@user, a@b, a@b.c, x@.com, @@ a..@b.com, foo@1.2, user@host.1a",
            "10.0.0.1 192.168.1.1 172.16.0.1 127.0.0.1 169.254.1.1 255.255.255.255 192.0.2.7 100.64.0.1",
            "v1.2.3.4 1.2.3.4.5 1.2.3 256.1.1.1 01.2.3.4 1.2.3.4a",
            "std::fs a::b 12:30:45 ::1 fe80::1 fc00::1 2001:db8::1 dead::beef: ab:cd:ef:01:23:45",
            "4111 1111 1111 1112 1234567890123456 order 41111111111111110",
            "2125550123 212-555-01234 3.1415926535 1999-2000 (1984) 555-0123 120-555-0123 + 5",
            "+1 +12345 2026-11-24 12:00",
            "",
        ] {
            assert_eq!(cleaned(text), text);
        }
    }

    #[test]
    fn counts_and_drops() {
        let text = "a@b.org 8.8.8.8 +44 20 7946 0958 4111111111111111 c@d.org";
        let config = PiiConfig { drop_above: Some(4), ip: None, ..PiiConfig::default() };
        let clean = config.clean(text);
        assert_eq!(clean.counts, Counts { email: 2, ip: 0, phone: 1, card: 1, iban: 0 });
        assert_eq!(clean.text.as_deref(), Some("[EMAIL] 8.8.8.8 [PHONE] [CARD] [EMAIL]"));
        assert!(!clean.is_dropped);
        assert!(PiiConfig { drop_above: Some(3), ..config }.clean(text).is_dropped);
        let tag = PiiConfig { email: Some("email@example.com".into()), ..PiiConfig::default() };
        assert_eq!(tag.clean("x@y.zz!").text.as_deref(), Some("email@example.com!"));
    }

    /// Examples of each kind, separated by `|`, each found alone in a sentence.
    const FINDS: &[(Kind, &str)] = &[
        (Kind::Email, "jane@example.org|j.doe+news@mail.example.co.uk|O'Brien@example.ie|a_b-c@x-y.museum"),
        (Kind::Email, "123@example.com|first.last@sub.domain.info|x@xn--bcher-kva.example|USER@EXAMPLE.COM"),
        (Kind::Email, "me@empresa.com.py"),
        (Kind::Ip, "8.8.8.8|1.1.1.1|93.184.216.34|203.0.114.9|172.32.0.1|100.128.0.1|2606:4700:4700::1111"),
        (Kind::Ip, "2001:4860:4860:0:0:0:0:8888|2a00:1450:4001:81b::200e"),
        (Kind::Phone, "+1 212 555 0123|+12125550123|+1 (212) 555-0123|+1.212.555.0123|(212) 555-0123"),
        (Kind::Phone, "212-555-0123|212.555.0123|1-800-555-0199|+44 20 7946 0958|+44 (0)20 7946 0958"),
        (Kind::Phone, "+49 30 901820|+49-171-1234567|+33 1 23 45 67 89|+33123456789|+86 138 0013 8000"),
        (Kind::Phone, "+91 98765 43210|+61 2 9374 4000|+55 11 91234-5678|0044 20 7946 0958|00 49 30 901820"),
        (
            Kind::Phone,
            "020 7946 0958|0161 496 0000|01632 960001|(020) 7946 0958|01 23 45 67 89|01.23.45.67.89",
        ),
        (
            Kind::Phone,
            "030 901820|030/901820|(030) 901820|089 / 1234567|0171-1234567|06 12345678|02 123 45 67",
        ),
        (Kind::Phone, "0471 12 34 56|044 668 18 00"),
        (Kind::Card, "4111111111111111|4012 8888 8888 1881|5555-5555-5555-4444|5105105105105100"),
        (Kind::Card, "2223003122003222|378282246310005|3714 496353 98431|30569309025904|6011111111111117"),
        (Kind::Card, "3530111333300000|6759649826438453"),
        (Kind::Iban, "DE89370400440532013000|DE89 3704 0044 0532 0130 00|GB29 NWBK 6016 1331 9268 19"),
        (Kind::Iban, "FR14 2004 1010 0505 0001 3M02 606|NL91ABNA0417164300|ES91 2100 0418 4502 0005 1332"),
        (Kind::Iban, "CH93 0076 2011 6238 5295 7|IT60 X054 2811 1010 0000 0123 456|NO93 8601 1117 947"),
        (Kind::Iban, "MT84MALT011000012345MTLCAST001S"),
    ];

    const NONE: &[&str] = &[
        "@user|a@b|a@b.c|x@.com|a..@b.com|foo@1.2|icon@2x.png|git@github.com|lodash@4.17.21",
        "user@localhost",
        "10.0.0.1|192.168.1.1|172.16.0.1|127.0.0.1|169.254.1.1|255.255.255.255|192.0.2.7|198.51.100.7",
        "100.64.0.1|224.0.0.1|0.0.0.0",
        "Conf.pm,1.60.2.5|version 10.20.30.40|v1.2.3.4|release: 24.4.1.12|Chrome/120.0.6099.109|3.2.1.4|1.2.3.4.5",
        "256.1.1.1|1.2.3",
        "::1|fe80::1|fc00::1|2001:db8::1|std::fs|a::b|12:30:45|ab:cd:ef:01:23:45|dead::beef",
        "2026-11-24|24.11.2026|11/24/2026|24.11.2026 12:30|01-02-2024|01.02.2024 12:30",
        "2026-11-24 12:00:00|20261124",
        "1999-2000|1914-1918, 1939-1945|(1984) 555-0123|120-555-0123|212-555-01234|2125550123",
        "978-0-306-40615-7|0-306-40615-2|978 0 306 40615 7|ISSN 0378-5955",
        "3.1415926535|0.123456789|+0.123456789|0123.456789|1,234,567.89|-122.419416|+47.6062095|1e10",
        "$1 000 000 000|+ 5|+1|+12345|+25000000",
        "010 020 030 040|0001 0002 0003|00012345678|000 111 222|05 06 07|007|09:30 17:45",
        "4111 1111 1111 1112|1234567890123456|41111111111111110|1111 2222 3333 4444|0000 0000 0000 0000",
        "123-45-6789",
        "DE89370400440532013001|DE8937040044053201300|XX89370400440532013000|AB12CD34|GB29|RFC2616",
        "de89370400440532013000x",
    ];

    #[test]
    fn finds_in_sentences() {
        let config = PiiConfig::default();
        for (kind, text) in FINDS.iter().flat_map(|(kind, texts)| texts.split('|').map(|text| (*kind, text)))
        {
            for (before, after) in
                [("", ""), ("Ask ", " now."), ("(at: ", ")"), ("\"", "\","), ("—", "…"), ("a\n", ".\nB")]
            {
                let range = before.len()..before.len() + text.len();
                assert_eq!(
                    config.find(&format!("{before}{text}{after}")),
                    [(kind, range)],
                    "{before}{text}{after}"
                );
            }
        }
        for text in NONE.iter().flat_map(|texts| texts.split('|')) {
            for text in [
                text.to_string(),
                format!("See {text} now."),
                format!("a ({text}), b"),
                format!("\"{text}\""),
            ] {
                assert_eq!(config.find(&text), [], "{text}");
            }
        }
    }

    #[test]
    fn finds_are_in_order_and_whole() {
        // Signs that rules begin with, in every combination: no panic, no overlap, whole characters.
        let signs = ["@", ":", "1", "234", "+", "(", ")", ".", "-", " ", "a", "é", "::", "4111111111111111"];
        let mut random = super::super::super::random::SplitMix::new(5);
        for _ in 0..20_000 {
            let length = random.next() % 24;
            let text: String = (0..length).map(|_| signs[random.next() as usize % signs.len()]).collect();
            let found = PiiConfig::default().find(&text);
            assert!(found.windows(2).all(|pair| pair[0].1.end <= pair[1].1.start), "{text}: {found:?}");
            assert!(found.iter().all(|(_, range)| text.get(range.clone()).is_some_and(|t| !t.is_empty())));
        }
    }

    #[test]
    fn time_is_linear() {
        for sign in ["@", "a@", ":", "1", "1.", "(", "+1", "a:", "1 ", "11 11 ", "a.", "f:1."] {
            let text = sign.repeat(1_000_000 / sign.len());
            assert_eq!(PiiConfig::default().clean(&text).counts.card, 0);
        }
    }
}
