//! Reads Python literals as `ast.literal_eval` does: lists, tuples, dictionaries, strings, numbers, `True`,
//! `False` and `None`. Templates print choices and targets in this form.

use crate::value::{Map, Value};
use std::{iter::Peekable, str::Chars};

/// Deepest nesting, so that a hostile text cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

/// Reads a literal. A tuple becomes a list.
///
/// # Errors
/// A message if the text is no literal.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { rest: text.chars().peekable() };
    let value = reader.value(0)?;
    reader.skip_space();
    match reader.rest.peek() {
        None => Ok(value),
        Some(c) => Err(format!("there is `{c}` after the value")),
    }
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        while self.rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        self.skip_space();
        match self.rest.peek().copied() {
            None => Err("it ends too early".into()),
            Some('[') => Ok(Value::List(self.list(']', depth)?.0)),
            Some('(') => {
                let (mut values, has_comma) = self.list(')', depth)?;
                // Parentheses around one value without a comma are no tuple.
                match values.pop() {
                    Some(value) if values.is_empty() && !has_comma => Ok(value),
                    last => Ok(Value::List(values.into_iter().chain(last).collect())),
                }
            }
            Some('{') => self.dictionary(depth),
            Some('\'' | '"') => self.strings(),
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            Some(c) if c.is_alphabetic() => self.word(),
            Some(c) => Err(format!("a value cannot begin with `{c}`")),
        }
    }

    /// Reads values up to a closing bracket, and says whether a comma stood among them.
    fn list(&mut self, end: char, depth: usize) -> Result<(Vec<Value>, bool), String> {
        self.rest.next();
        let (mut values, mut has_comma) = (Vec::new(), false);
        loop {
            self.skip_space();
            if self.rest.next_if_eq(&end).is_some() {
                return Ok((values, has_comma));
            }
            values.push(self.value(depth + 1)?);
            self.skip_space();
            if self.rest.next_if_eq(&',').is_some() {
                has_comma = true;
            } else if self.rest.peek() != Some(&end) {
                return Err(format!("a comma or `{end}` is missing"));
            }
        }
    }

    fn dictionary(&mut self, depth: usize) -> Result<Value, String> {
        self.rest.next();
        let mut map = Map::default();
        loop {
            self.skip_space();
            if self.rest.next_if_eq(&'}').is_some() {
                return Ok(Value::Map(map));
            }
            let key = self.value(depth + 1)?;
            self.skip_space();
            self.rest.next_if_eq(&':').ok_or("a colon is missing")?;
            map.set(key.to_text(), self.value(depth + 1)?);
            self.skip_space();
            if self.rest.next_if_eq(&',').is_none() && self.rest.peek() != Some(&'}') {
                return Err("a comma or `}` is missing".into());
            }
        }
    }

    /// Reads one string, or several in a row, which Python joins.
    fn strings(&mut self) -> Result<Value, String> {
        let mut text = String::new();
        while let Some(quote) = self.rest.next_if(|c| matches!(c, '\'' | '"')) {
            self.string(quote, &mut text)?;
            self.skip_space();
        }
        Ok(Value::Text(text))
    }

    fn string(&mut self, quote: char, into: &mut String) -> Result<(), String> {
        loop {
            match self.rest.next() {
                None | Some('\n') => return Err("a string has no end".into()),
                Some('\\') => self.escape(into)?,
                Some(c) if c == quote => return Ok(()),
                Some(c) => into.push(c),
            }
        }
    }

    fn escape(&mut self, into: &mut String) -> Result<(), String> {
        let c = self.rest.next().ok_or("a string has no end")?;
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let mut code = 0;
            for _ in 0..digits {
                let digit = self.rest.next().and_then(|c| c.to_digit(16));
                code = code * 16 + digit.ok_or("an escape has too few digits")?;
            }
            into.push(char::from_u32(code).ok_or("an escape is no character")?);
            return Ok(());
        }
        match c {
            'n' => into.push('\n'),
            't' => into.push('\t'),
            'r' => into.push('\r'),
            'a' => into.push('\u{7}'),
            'b' => into.push('\u{8}'),
            'f' => into.push('\u{c}'),
            'v' => into.push('\u{b}'),
            '0' => into.push('\0'),
            '\\' | '\'' | '"' => into.push(c),
            '\n' => {}
            // Python keeps the backslash of an escape that it does not know.
            c => into.extend(['\\', c]),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let mut text = String::new();
        while let Some(c) =
            self.rest.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'))
        {
            text.push(c);
        }
        let plain = text.replace('_', "");
        let is_integer = plain.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+'));
        if let Some(number) = plain.parse().ok().filter(|_| is_integer) {
            return Ok(Value::Int(number));
        }
        plain.parse().map(Value::Float).map_err(|_| format!("`{text}` is no number"))
    }

    fn word(&mut self) -> Result<Value, String> {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
        }
        match word.as_str() {
            "True" => Ok(Value::Bool(true)),
            "False" => Ok(Value::Bool(false)),
            "None" => Ok(Value::Null),
            "u" if matches!(self.rest.peek(), Some('\'' | '"')) => self.strings(),
            _ => Err(format!("`{word}` is no value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of `ast.literal_eval`.
    #[test]
    fn literals_are_read_as_in_python() {
        for (text, expected) in [
            (r#"['a', "b's", 'c\'\n\x41\d']"#, r#"['a', "b's", "c'\nA\\d"]"#),
            ("('a', 1, -2.5, 1e3)", "['a', 1, -2.5, 1000.0]"),
            ("('a')", "'a'"),
            ("[True, None, {'k': [1, 2,],}]", "[True, None, {'k': [1, 2]}]"),
            ("  ['a' 'b']\n", "['ab']"),
            ("()", "[]"),
        ] {
            assert_eq!(parse(text).map(|value| value.to_repr()).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "['a'", "[a]", "['a' b]", "1 2", "'a\nb'", "{'a'}", &"[".repeat(99)] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
