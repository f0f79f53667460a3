//! Translation of Oniguruma's escapes, and escaping of characters for `fancy-regex`.

use super::{ANY, Atom, GRAPHEME, LINE_BREAK, Options, Translator, class::Item, name_until, property};
use std::fmt::Write;

/// Appends a character so that it stands for itself, inside and outside a class.
pub(super) fn write(character: char, out: &mut String) {
    let is_plain = match character {
        '0'..='9' | 'A'..='Z' | 'a'..='z' => true,
        ' ' | '\'' | '"' | ',' | ';' | ':' | '=' | '!' | '%' | '@' | '_' | '/' | '<' | '>' => true,
        other => !other.is_ascii() && !other.is_control() && !other.is_whitespace(),
    };
    if is_plain {
        out.push(character);
    } else {
        // Writing to a string cannot fail.
        _ = write!(out, r"\x{{{:X}}}", u32::from(character));
    }
}

/// Meaning of an escape inside a class, or of one outside that is only a character or a set.
pub(super) enum Escape {
    Character(char),
    /// Two or more characters, `\x{41 42}`.
    Characters(Vec<char>),
    Item(Item),
}

impl Translator {
    /// Translates an escape outside a class, after its backslash has been read.
    pub(super) fn escape(&mut self, options: Options) -> Result<Atom, String> {
        let Some(character) = self.peek() else {
            return Err("it ends with a backslash".into());
        };
        let anchor = |text: &str| Ok(Atom::Anchor(text.into()));
        let unit = |text: &str| Ok(Atom::Unit(text.into()));
        let start = self.at;
        self.at += 1;
        match character {
            'b' | 'B' => {
                let word = property::word(options, false);
                let (after, before) = (format!("(?<={word})"), format!("(?={word})"));
                let (not_after, not_before) = (format!("(?<!{word})"), format!("(?!{word})"));
                if character == 'b' {
                    anchor(&format!("(?:{after}{not_before}|{not_after}{before})"))
                } else {
                    anchor(&format!("(?:{after}{before}|{not_after}{not_before})"))
                }
            }
            'A' => anchor(r"\A"),
            'z' => anchor(r"\z"),
            'Z' => anchor(r"(?=\n?\z)"),
            'G' => anchor(r"\G"),
            'K' => anchor(r"\K"),
            'R' => unit(LINE_BREAK),
            'X' => unit(GRAPHEME),
            'N' => unit("."),
            'O' => unit(ANY),
            'y' | 'Y' => Err(format!(r"boundaries of text segments (`\{character}`) are not supported")),
            'g' if matches!(self.peek(), Some('<' | '\'')) => {
                Err(r"calls of groups (`\g<…>`) are not supported".into())
            }
            'k' if matches!(self.peek(), Some('<' | '\'')) => self.named_reference(options),
            '1'..='9' => {
                self.at = start;
                let number = self.number()?.unwrap_or(0) as usize;
                if number <= 9 || number <= self.met {
                    if !self.groups.names.is_empty() {
                        return Err("groups are referred to by number though some have names".into());
                    }
                    return self.reference(number, options);
                }
                self.at = start;
                self.simple_escape(options, false).map(Into::into)
            }
            _ => {
                self.at = start;
                self.simple_escape(options, false).map(Into::into)
            }
        }
    }

    /// Translates a reference to a group: `\k<name>`, `\k<1>` or `\k<-1>`.
    fn named_reference(&mut self, options: Options) -> Result<Atom, String> {
        let end = if self.next() == Some('<') { '>' } else { '\'' };
        let name = name_until(self.rest(), end);
        self.at += name.chars().count() + 1;
        if let Some(index) = self.groups.names.iter().position(|other| *other == name) {
            return self.reference(index + 1, options);
        }
        let relative = |digits: &str| digits.parse::<usize>().ok();
        let number = if let Some(back) = name.strip_prefix('-').and_then(relative) {
            (self.met + 1).checked_sub(back)
        } else if let Some(ahead) = name.strip_prefix('+').and_then(relative) {
            self.met.checked_add(ahead)
        } else {
            relative(&name)
        };
        match number {
            Some(number) if self.groups.names.is_empty() => self.reference(number, options),
            _ => Err(format!(r"the reference `\k<{name}>` is not supported")),
        }
    }

    /// Reads an escape that stands for a character or for a set of characters, after its backslash has been
    /// read.
    pub(super) fn simple_escape(&mut self, options: Options, in_class: bool) -> Result<Escape, String> {
        let Some(character) = self.next() else {
            return Err("it ends with a backslash".into());
        };
        let kind = |kind: &str, is_negated: bool| {
            Ok(Escape::Item(property::kind(kind, is_negated, options, in_class)))
        };
        match character {
            'w' | 'W' => kind("word", character == 'W'),
            'd' | 'D' => kind("digit", character == 'D'),
            's' | 'S' => kind("space", character == 'S'),
            'h' | 'H' => kind("xdigit", character == 'H'),
            'p' | 'P' if self.eat("{") => {
                let is_negated = (character == 'P') ^ self.eat("^");
                let name = name_until(self.rest(), '}');
                self.at += name.chars().count();
                if !self.eat("}") {
                    return Err("the name of a property has no end".into());
                }
                Ok(Escape::Item(property::named(&name, is_negated, options, in_class)?))
            }
            'x' if self.peek() == Some('{') => self.code_points(16),
            'o' if self.peek() == Some('{') => self.code_points(8),
            'x' if self.peek().is_some() => self.crude_bytes(16, 2),
            'u' => match self.digits(16, 4) {
                (4, code) => code_point(code).map(Escape::Character),
                _ => Err(r"`\u` is not followed by four hexadecimal digits".into()),
            },
            '0'..='7' => {
                self.at -= 1;
                self.crude_bytes(8, 3)
            }
            _ => {
                self.at -= 1;
                code_point(self.control(0)?).map(Escape::Character)
            }
        }
    }

    /// Reads `\n`, `\cx`, `\C-x`, `\M-x`, or a character that stands for itself.
    fn control(&mut self, depth: usize) -> Result<u32, String> {
        let failed = || Err(r"`\c`, `\C-` or `\M-` is not followed by a character".to_owned());
        let Some(character) = self.next() else {
            return failed();
        };
        let (is_meta, is_control) = match character {
            'M' if self.eat("-") => (true, false),
            'C' if self.eat("-") => (false, true),
            'c' => (false, true),
            'M' | 'C' => return failed(),
            _ => (false, false),
        };
        if !is_meta && !is_control {
            return Ok(match character {
                'n' => 0x0A,
                't' => 0x09,
                'r' => 0x0D,
                'f' => 0x0C,
                'a' => 0x07,
                'b' => 0x08,
                'e' => 0x1B,
                'v' => 0x0B,
                other => other.into(),
            });
        }
        let code = match self.next() {
            Some('?') if is_control => return Ok(0x7F),
            Some('\\') if depth < 2 => self.control(depth + 1)?,
            Some(character) => character.into(),
            None => return failed(),
        };
        Ok(if is_meta { code & 0xFF | 0x80 } else { code & 0x9F })
    }

    /// Reads `\x{41}` or `\o{101}`, also with several numbers, from the brace on.
    fn code_points(&mut self, radix: u32) -> Result<Escape, String> {
        let name = name_until(self.rest(), '}');
        self.at += name.chars().count();
        if !self.eat("}") {
            return Err("a code point has no end".into());
        }
        let digits: Vec<&str> = name[1..].split_ascii_whitespace().collect();
        let mut characters = Vec::new();
        for digits in digits {
            let code = u32::from_str_radix(digits, radix).ok();
            let Some(code) = code.filter(|_| digits.len() <= 11) else {
                return Err(format!("`{digits}` is no code point"));
            };
            characters.push(code_point(code)?);
        }
        match characters[..] {
            [] => Err("a code point has no digits".into()),
            [character] => Ok(Escape::Character(character)),
            _ => Ok(Escape::Characters(characters)),
        }
    }

    /// Reads `\xE3\x81\x82`, the UTF-8 bytes of one character.
    fn crude_bytes(&mut self, radix: u32, most: usize) -> Result<Escape, String> {
        let mut bytes = Vec::new();
        loop {
            let (_, code) = self.digits(radix, most);
            bytes.push(u8::try_from(code).map_err(|_| format!("{code:#x} is no byte"))?);
            let text = std::str::from_utf8(&bytes);
            match text {
                Ok(text) => return Ok(Escape::Character(text.chars().next().unwrap_or('\0'))),
                Err(error) if error.error_len().is_some() => {
                    return Err("bytes written as numbers are not UTF-8".into());
                }
                Err(_) => {}
            }
            let goes_on = match radix {
                16 => self.rest().get(2) != Some(&'{') && self.eat(r"\x"),
                _ => matches!(self.rest(), ['\\', '0'..='7', ..]) && self.eat(r"\"),
            };
            if !goes_on {
                return Err("bytes written as numbers are only part of a character".into());
            }
        }
    }

    /// Reads at most `most` digits. Returns how many there are and their value.
    fn digits(&mut self, radix: u32, most: usize) -> (usize, u32) {
        let (mut count, mut number) = (0, 0);
        while count < most
            && let Some(digit) = self.peek().and_then(|character| character.to_digit(radix))
        {
            number = number * radix + digit;
            count += 1;
            self.at += 1;
        }
        (count, number)
    }
}

fn code_point(code: u32) -> Result<char, String> {
    char::from_u32(code).ok_or_else(|| format!("{code:#x} is no character"))
}

impl From<Escape> for Atom {
    fn from(escape: Escape) -> Self {
        match escape {
            Escape::Character(character) => Self::Characters(vec![character]),
            Escape::Characters(characters) => Self::Characters(characters),
            Escape::Item(item) => Self::Unit(item.text),
        }
    }
}
