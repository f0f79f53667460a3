//! Python's regular expressions: patterns are translated where `re` and the engine differ, and matches are
//! found as `re.findall` and `re.sub` find them.

use fancy_regex::{Captures, Regex};

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    source: String,
}

impl Pattern {
    /// Compiles a pattern of Python's `re`.
    ///
    /// # Errors
    /// A message if the pattern is invalid or not supported.
    pub fn new(source: &str) -> Result<Self, String> {
        let regex = Regex::new(&translate(source)).map_err(|error| error.to_string())?;
        Ok(Self { regex, source: source.into() })
    }

    /// The pattern before it was translated.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// All matches, as `re.findall` returns them: the whole match if the pattern has no group, otherwise its
    /// groups, with an empty text for one that has no part in the match.
    ///
    /// # Errors
    /// A message if the pattern needs too many steps.
    pub fn find_all(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        let mut found = Vec::new();
        self.each(text, |captures| {
            let first = if captures.len() > 1 { 1 } else { 0 };
            let group = |index| captures.get(index).map_or_else(String::new, |group| group.as_str().into());
            found.push((first..captures.len()).map(group).collect());
        })?;
        Ok(found)
    }

    /// Replaces the first matches (all for 0) by a template with `\1`, `\g<name>` and escapes, as `re.sub`.
    ///
    /// # Errors
    /// A message if the pattern needs too many steps, or the template names a group that is not there.
    pub fn replace(&self, text: &str, template: &str, count: usize) -> Result<String, String> {
        let (mut replaced, mut end, mut done, mut failed) = (String::new(), 0, 0, None);
        self.each(text, |captures| {
            let Some(whole) = captures.get(0) else { return };
            if count > 0 && done == count {
                return;
            }
            done += 1;
            replaced.push_str(&text[end..whole.start()]);
            end = whole.end();
            if let Err(message) = expand(template, captures, &mut replaced) {
                failed = Some(message);
            }
        })?;
        replaced.push_str(&text[end..]);
        failed.map_or(Ok(replaced), Err)
    }

    /// Calls a function for each match. An empty match may follow another match at once, as since Python 3.7.
    fn each(&self, text: &str, mut call: impl FnMut(&Captures)) -> Result<(), String> {
        let mut position = 0;
        while position <= text.len() {
            let captures = self.regex.captures_from_pos(text, position).map_err(|error| error.to_string())?;
            let Some(captures) = captures else { break };
            let Some(whole) = captures.get(0) else { break };
            position = whole.end();
            if whole.start() == whole.end() {
                position += text[position..].chars().next().map_or(1, char::len_utf8);
            }
            call(&captures);
        }
        Ok(())
    }
}

/// Writes the template of a replacement with the groups of a match.
fn expand(template: &str, captures: &Captures, into: &mut String) -> Result<(), String> {
    let mut rest = template.chars().peekable();
    let missing =
        |name: &str| format!("the replacement names the group `{name}`, which is not in the pattern");
    while let Some(c) = rest.next() {
        if c != '\\' {
            into.push(c);
            continue;
        }
        match rest.next() {
            Some('g') if rest.next_if_eq(&'<').is_some() => {
                let name: String = rest.by_ref().take_while(|c| *c != '>').collect();
                let (group, exists) = match name.parse::<usize>() {
                    Ok(number) => (captures.get(number), number < captures.len()),
                    Err(_) => (captures.name(&name), captures.name(&name).is_some()),
                };
                if !exists {
                    return Err(missing(&name));
                }
                into.push_str(group.map_or("", |group| group.as_str()));
            }
            Some(digit) if digit.is_ascii_digit() && digit != '0' => {
                let mut name = String::from(digit);
                name.extend(rest.next_if(char::is_ascii_digit));
                let number = name.parse::<usize>().ok().filter(|number| *number < captures.len());
                let number = number.ok_or_else(|| missing(&name))?;
                into.push_str(captures.get(number).map_or("", |group| group.as_str()));
            }
            Some('n') => into.push('\n'),
            Some('t') => into.push('\t'),
            Some('r') => into.push('\r'),
            Some('\\') | None => into.push('\\'),
            Some(c) => into.extend(['\\', c]),
        }
    }
    Ok(())
}

/// Rewrites what the engine reads differently: `$` also matches before a last line break, `\Z` only at the
/// end, and a bracket inside a class is a plain character.
fn translate(source: &str) -> String {
    let is_multiline = source.split("(?").skip(1).any(|rest| {
        let flags: &str = rest.split([')', ':']).next().unwrap_or_default();
        flags.contains('m') && flags.chars().all(|c| c.is_ascii_alphabetic() || c == '-')
    });
    let mut translated = String::new();
    let mut rest = source.chars().peekable();
    // Number of characters read of the class that the reader is in.
    let mut class: Option<usize> = None;
    while let Some(c) = rest.next() {
        let at_start = class == Some(0);
        if let Some(read) = &mut class
            && !(at_start && c == '^')
        {
            *read += 1;
        }
        match c {
            '\\' => match rest.next() {
                Some('Z') => translated.push_str("\\z"),
                Some(next @ ('<' | '>' | '\'' | '"' | ' ' | '`')) => translated.push(next),
                next => translated.extend(std::iter::once('\\').chain(next)),
            },
            '[' if class.is_none() => {
                class = Some(0);
                translated.push('[');
            }
            '[' => translated.push_str("\\["),
            // Python reads a bracket that comes first in a class as a character of it.
            ']' if at_start => translated.push_str("\\]"),
            ']' if class.is_some() => {
                class = None;
                translated.push(']');
            }
            '&' | '~' if class.is_some() => translated.extend(['\\', c]),
            '$' if class.is_none() && !is_multiline => translated.push_str("(?=\\n?\\z)"),
            c => translated.push(c),
        }
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The matches are those of `re.findall`.
    #[test]
    fn matches_are_those_of_python() {
        let found = |pattern: &str, text: &str| Pattern::new(pattern).unwrap().find_all(text).unwrap();
        assert_eq!(found(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "is $12 or 5"), [["$12", ""], ["", "5"]]);
        assert_eq!(found("a*", "aab"), [["aa"], [""], [""]]);
        assert_eq!(found("^(.*?)\\s*$", "yes \n"), [["yes"]]);
        assert_eq!(found("b$", "b\nb\n"), [["b"]]);
        assert_eq!(found("(?m)b$", "b\nb\n").len(), 2);
        assert_eq!(found("b\\Z", "b\n"), [[""; 1]; 0]);
        assert_eq!(found("(?<=is )[^]\"[]+", "is a]"), [["a"]]);
        assert_eq!(found("[&~a-c-]+", "a&~-"), [["a&~-"]]);
        assert_eq!(found("(?<=The answer is )(.*)(?=.)", "The answer is 12."), [["12"]]);
        assert!(Pattern::new("(").is_err());
    }

    /// The texts are those of `re.sub`.
    #[test]
    fn replacements_are_those_of_python() {
        let replaced = |pattern: &str, with: &str, text: &str, count| {
            Pattern::new(pattern).unwrap().replace(text, with, count)
        };
        assert_eq!(replaced("(a)(?P<n>b)?", r"<\2\g<1>>", "abxa", 1).unwrap(), "<ba>xa");
        assert_eq!(replaced(r"\s+", " ", "a  b\n c", 0).unwrap(), "a b c");
        assert!(replaced("a", r"\1", "a", 0).is_err());
    }
}
