//! Rewrites the source of a template before it is compiled, because the template engine has no
//! blocks `{% generation %}`, takes a slice of what is not there for an empty list, where Jinja2 fails, and does
//! not join lines of a text that end with a backslash.

use crate::python::{GENERATION, SLICEABLE};

/// Words that a value does not continue.
const KEYWORDS: [&str; 12] =
    ["in", "not", "is", "and", "or", "if", "else", "elif", "for", "set", "recursive", "filter"];

/// Rewrites the source of a template; also says whether it has a block `{% generation %}`. Lines stay where
/// they are, and end as Jinja2 ends them on every system.
pub fn rewrite(source: &str) -> (String, bool) {
    let source = &source.replace("\r\n", "\n").replace('\r', "\n");
    let mut result = String::with_capacity(source.len());
    let (mut at, mut has_marks, mut is_raw) = (0, false, false);
    while let Some(found) = source[at..].find('{') {
        let start = at + found;
        result.push_str(&source[at..start]);
        let rest = &source[start..];
        let (code, close) = match rest.as_bytes().get(1) {
            Some(b'{') if !is_raw => (Some(()), "}}"),
            Some(b'%') => (Some(()), "%}"),
            Some(b'#') if !is_raw => (None, "#}"),
            _ => {
                result.push('{');
                at = start + 1;
                continue;
            }
        };
        let end = end_of(&rest[2..], close, code.is_some()).map_or(source.len(), |end| start + 2 + end);
        let inside = &source[start + 2..end];
        result.push_str(&rest[..2]);
        match block_name(inside) {
            name if close == "%}" && (is_raw || name == "raw") => {
                is_raw = name != "endraw";
                result.push_str(inside);
            }
            "generation" if close == "%}" => {
                has_marks = true;
                result.push_str(&inside.replacen("generation", &format!("filter {GENERATION}"), 1));
            }
            "endgeneration" if close == "%}" => {
                result.push_str(&inside.replacen("endgeneration", "endfilter", 1));
            }
            _ if code.is_some() => result.push_str(&with_checked_slices(&with_joined_lines(inside))),
            _ => result.push_str(inside),
        }
        at = end;
    }
    result.push_str(&source[at..]);
    (result, has_marks)
}

/// The first word of a block.
fn block_name(inside: &str) -> &str {
    let name = inside.trim_start_matches(['-', '+']).trim_start();
    let length = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    &name[..length]
}

/// Place where code or a comment ends, in bytes; code may have the end in a text between quotes.
fn end_of(rest: &str, close: &str, is_code: bool) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match quote {
            Some(open) => {
                if !escaped && c == open {
                    quote = None;
                }
                escaped = !escaped && c == '\\';
            }
            None if rest[at..].starts_with(close) => return Some(at),
            None if is_code && (c == '\'' || c == '"') => quote = Some(c),
            None => {}
        }
    }
    None
}

/// Joins the lines of texts that end with a backslash, as Python does. Their line breaks follow the text, so that
/// other lines stay where they are.
fn with_joined_lines(code: &str) -> String {
    let mut result = String::with_capacity(code.len());
    // The quote that a text began with, and the number of its line breaks that were taken away.
    let (mut quote, mut breaks) = (None, 0);
    let mut rest = code.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(_), '\\') => match rest.next() {
                Some('\n') => breaks += 1,
                next => result.extend(std::iter::once('\\').chain(next)),
            },
            (Some(open), _) if c == open => {
                result.push(c);
                result.extend(std::iter::repeat_n('\n', breaks));
                (quote, breaks) = (None, 0);
            }
            (None, '\'' | '"') => {
                result.push(c);
                quote = Some(c);
            }
            _ => result.push(c),
        }
    }
    result
}

/// A bracket that is open, and where the value begins that it belongs to.
struct Bracket {
    value: usize,
    /// Place of the bracket, if it follows a value and so takes an element or a slice of it.
    subscript: Option<usize>,
    is_slice: bool,
}

/// Puts values that slices are taken of into calls of a function that refuses what is not there.
fn with_checked_slices(code: &str) -> String {
    // Where text is inserted.
    let mut inserted: Vec<(usize, String)> = Vec::new();
    let mut open: Vec<Bracket> = Vec::new();
    // Where the value begins that ends here; `None` if none does.
    let mut value: Option<usize> = None;
    let mut follows_dot = false;
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let mut length = c.len_utf8();
        match c {
            '\'' | '"' => {
                let end = rest[1..].char_indices().scan(false, |escaped, (at, other)| {
                    let ends = !*escaped && other == c;
                    *escaped = !*escaped && other == '\\';
                    Some((at, ends))
                });
                length = end.into_iter().find(|(_, ends)| *ends).map_or(rest.len(), |(at, _)| at + 2);
                value = Some(at);
            }
            _ if c.is_alphanumeric() || c == '_' => {
                length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                let start = value.filter(|_| follows_dot).unwrap_or(at);
                value = (follows_dot || !KEYWORDS.contains(&&rest[..length])).then_some(start);
            }
            '(' | '[' | '{' => {
                let subscript = value.filter(|_| c == '[').map(|_| at);
                let is_call = c == '(' && value.is_some();
                let start = value.filter(|_| subscript.is_some() || is_call).unwrap_or(at);
                open.push(Bracket { value: start, subscript, is_slice: false });
                value = None;
            }
            ')' | ']' | '}' => {
                if let Some(bracket) = open.pop() {
                    if let Some(place) = bracket.subscript.filter(|_| bracket.is_slice) {
                        inserted.push((bracket.value, format!("{SLICEABLE}(")));
                        inserted.push((place, ")".into()));
                    }
                    value = Some(bracket.value);
                }
            }
            ':' => {
                if let Some(bracket) = open.last_mut().filter(|bracket| bracket.subscript.is_some()) {
                    bracket.is_slice = true;
                }
                value = None;
            }
            '.' => {}
            _ if c.is_whitespace() => {}
            _ => value = None,
        }
        follows_dot = c == '.' || (follows_dot && c.is_whitespace());
        at += length;
    }
    // Of several at one place, the outer value is opened first.
    inserted.sort_by_key(|(place, _)| *place);
    let mut result = String::with_capacity(code.len() + 20 * inserted.len());
    let mut copied = 0;
    for (place, text) in inserted {
        result.push_str(&code[copied..place]);
        result.push_str(&text);
        copied = place;
    }
    result.push_str(&code[copied..]);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_blocks_become_those_of_a_filter() {
        let (text, has_marks) = rewrite("a{%- generation -%}{{ '{% generation %}' }}{%+ endgeneration +%}");
        assert!(has_marks);
        assert_eq!(
            text,
            format!("a{{%- filter {GENERATION} -%}}{{{{ '{{% generation %}}' }}}}{{%+ endfilter +%}}")
        );
        for unchanged in [
            "{% raw %}{% generation %}{{ x[1:] }}{% endraw %} {",
            "{# {% generation %} #}{ {% set generation = 1 %}",
            "{{ generations }}{% generations %}",
            "{{ 'no end",
        ] {
            assert_eq!(rewrite(unchanged), (unchanged.to_owned(), false), "{unchanged}");
        }
        assert!(rewrite("{% raw %}{% endraw %}{% generation %}").1);
    }

    #[test]
    fn lines_of_a_text_that_end_with_a_backslash_are_joined() {
        let joined = with_joined_lines("'a\\\nb' ~ \"\\\"\\\n\\n\" \\\n");
        assert_eq!(joined, "'ab'\n ~ \"\\\"\\n\"\n \\\n");
        assert_eq!(rewrite("{{ 'a\\\nb' }} 'a\\\nb'").0, "{{ 'ab'\n }} 'a\\\nb'");
        assert_eq!(rewrite("a\r\n{{ 'a\\\r\nb' }}\r").0, "a\n{{ 'ab'\n }}\n");
    }

    #[test]
    fn slices_are_taken_of_what_is_there() {
        let checked = |code: &str| with_checked_slices(code).replace(SLICEABLE, "S");
        for (code, expected) in [
            ("m.content[:2]", "S(m.content)[:2]"),
            ("messages[1:][0]", "S(messages)[1:][0]"),
            ("a[1:][2:]", "S(S(a)[1:])[2:]"),
            ("(f(x[1]) | tojson)[:-1] + ', '", "S((f(x[1]) | tojson))[:-1] + ', '"),
            ("'abc'[::-1] ~ x . y [ 1 : ]", "S('abc')[::-1] ~ S(x . y )[ 1 : ]"),
            ("x.split(':')[1:]", "S(x.split(':'))[1:]"),
            ("a in b[1:] and not c[:1]", "a in S(b)[1:] and not S(c)[:1]"),
            ("[1, 2, 3][1:4:2]", "S([1, 2, 3])[1:4:2]"),
            ("x[y[1:]]", "x[S(y)[1:]]"),
        ] {
            assert_eq!(checked(code), expected);
        }
        for unchanged in ["{'a': [1, 2]}['a']", "x[{'a': 1}['a']]", "x['a:b']", "if x else [1]", "x['"] {
            assert_eq!(checked(unchanged), unchanged);
        }
    }
}
