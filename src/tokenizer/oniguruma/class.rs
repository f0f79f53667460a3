//! Translation of character classes such as `[a-z&&[^aeiou]]`.

use super::{
    Options, Translator, case,
    escape::{self, Escape},
    property,
};
use tokenizers::utils::SysRegex;

/// A set of characters that has a notation of its own, such as `\w` or `[:alpha:]`.
pub(super) struct Item {
    /// Its pattern, which is valid inside and outside a class.
    pub(super) text: String,
    /// Whether it is negated and may contain a letter in one case only.
    is_bound_to_case: bool,
}

impl Item {
    /// Makes an item of a pattern. `has_case` says whether the set may contain a letter in one case only.
    pub(super) fn new(text: &str, is_negated: bool, has_case: bool) -> Self {
        let text = match (is_negated, text.strip_prefix('\\')) {
            (false, _) => text.to_owned(),
            (true, Some(escape)) if escape.starts_with(['d', 's', 'p']) => {
                format!(r"\{}{}", escape[..1].to_ascii_uppercase(), &escape[1..])
            }
            (true, _) => format!("[^{text}]"),
        };
        // What is not negated may be folded before or after it is joined to the rest.
        Self { text, is_bound_to_case: is_negated && has_case }
    }
}

/// Kind of the latest element of a class.
enum State {
    Start,
    /// A character that may begin a range.
    Character(char),
    Set,
    /// A range or a nested class.
    Complete,
}

impl Translator {
    /// Translates a class, after its opening bracket has been read.
    pub(super) fn class(&mut self, options: Options) -> Result<String, String> {
        let mut class = Class::default();
        let text = self.class_text(options, &mut class)?;
        if !options.ignore_case {
            return Ok(text);
        }
        let text = if class.is_bound_to_case { spelled_out(&text, class.is_negated)? } else { text };
        let mut alternatives = vec![format!("(?i:{text})")];
        if !class.is_negated && !options.look_behind {
            alternatives.extend(class.singles.iter().filter_map(|&single| case::several(single)).map(
                |folded| {
                    let mut text = String::new();
                    folded.chars().for_each(|character| escape::write(character, &mut text));
                    format!("(?i:{text})")
                },
            ));
        }
        Ok(if alternatives.len() == 1 {
            alternatives.remove(0)
        } else {
            format!("(?:{})", alternatives.join("|"))
        })
    }

    fn class_text(&mut self, options: Options, class: &mut Class) -> Result<String, String> {
        self.enter()?;
        class.is_negated = self.eat("^");
        let mut part = Part::default();
        // A bracket that is first is literal if another closes the class.
        if self.peek() == Some(']') {
            if !self.rest()[1..].contains(&']') {
                return Err("a class is empty".into());
            }
            self.at += 1;
            part.character(']', class)?;
        }
        loop {
            let Some(character) = self.next() else {
                return Err("a class has no end".into());
            };
            match character {
                ']' => break,
                '&' if self.eat("&") => {
                    part.flush(class);
                    class.parts.push(std::mem::take(&mut part.text));
                    part = Part::default();
                    class.is_bound_to_case = true;
                }
                '[' => {
                    if let Some((kind, is_negated)) = self.bracket_kind()? {
                        part.set(&property::kind(&kind, is_negated, options, true), class)?;
                        continue;
                    }
                    let mut inner = Class::default();
                    let text = self.class_text(options, &mut inner)?;
                    class.is_bound_to_case |= inner.is_negated || inner.is_bound_to_case;
                    class.singles.extend(inner.singles);
                    part.flush(class);
                    part.text += &text;
                    part.state = State::Complete;
                    if part.is_range {
                        return Err("a range ends in a class".into());
                    }
                }
                '-' if !part.is_range => {
                    let is_last = matches!(self.rest(), [']', ..] | ['&', '&', ..]);
                    match part.state {
                        State::Character(_) if !is_last => part.is_range = true,
                        State::Set if !is_last => return Err("a range begins with a set".into()),
                        _ => part.character('-', class)?,
                    }
                }
                '\\' => match self.simple_escape(options, true)? {
                    Escape::Character(character) => part.character(character, class)?,
                    Escape::Item(item) => part.set(&item, class)?,
                    Escape::Characters(_) => {
                        return Err("lists of code points in a class are not supported".into());
                    }
                },
                other => part.character(other, class)?,
            }
        }
        part.flush(class);
        self.depth -= 1;
        let not = if class.is_negated { "^" } else { "" };
        if class.parts.is_empty() {
            return Ok(format!("[{not}{}]", part.text));
        }
        class.parts.push(part.text);
        // A class cannot be empty for the engine.
        let parts = class.parts.iter().map(|part| match part.as_str() {
            "" => r"[^\s\S]".to_owned(),
            part => format!("[{part}]"),
        });
        Ok(format!("[{not}{}]", parts.collect::<Vec<_>>().join("&&")))
    }

    /// Reads `[:name:]`, after its opening bracket: the name and whether it is negated. `None` if something
    /// else stands here.
    fn bracket_kind(&mut self) -> Result<Option<(String, bool)>, String> {
        let [':', rest @ ..] = self.rest() else {
            return Ok(None);
        };
        let is_negated = rest.first() == Some(&'^');
        let rest = &rest[usize::from(is_negated)..];
        let name: String = rest.iter().take_while(|character| character.is_alphabetic()).collect();
        let length = name.chars().count();
        if length == 0 || rest.get(length..length + 2) != Some(&[':', ']']) {
            return Ok(None);
        }
        if !property::is_kind(&name) {
            return Err(format!("there is no class `[:{name}:]`"));
        }
        self.at += 1 + usize::from(is_negated) + length + 2;
        Ok(Some((name, is_negated)))
    }
}

/// Writes a class as ranges of characters. Ignoring case in the whole class then gives the same set as
/// ignoring it in its parts, which otherwise differs where a part is negated.
fn spelled_out(class: &str, is_negated: bool) -> Result<String, String> {
    let compiled = SysRegex::new(&format!("{class}+")).map_err(|error| error.to_string())?;
    let all: String = ('\0'..=char::MAX).collect();
    let mut ranges = String::new();
    let mut add = |range: &str| {
        let mut characters = range.chars();
        if let Some(first) = characters.next() {
            escape::write(first, &mut ranges);
            if let Some(last) = characters.next_back() {
                ranges.push('-');
                escape::write(last, &mut ranges);
            }
        }
    };
    // What a negated class does not match are its parts.
    let mut done = 0;
    for (start, end) in compiled.find_iter(&all) {
        add(if is_negated { &all[done..start] } else { &all[start..end] });
        done = end;
    }
    if is_negated {
        add(&all[done..]);
    }
    Ok(match (ranges.as_str(), is_negated) {
        ("", false) => r"[^\s\S]".into(),
        ("", true) => r"[\s\S]".into(),
        (ranges, false) => format!("[{ranges}]"),
        (ranges, true) => format!("[^{ranges}]"),
    })
}

/// Information collected about a class while it is read.
#[derive(Default)]
struct Class {
    is_negated: bool,
    /// Operands before the last `&&`.
    parts: Vec<String>,
    /// Whether ignoring case in the whole class gives another set than ignoring it in its parts.
    is_bound_to_case: bool,
    /// Characters that are listed one by one.
    singles: Vec<char>,
}

/// Operand of `&&`.
struct Part {
    text: String,
    state: State,
    /// Whether a `-` has begun a range.
    is_range: bool,
}

impl Default for Part {
    fn default() -> Self {
        Self { text: String::new(), state: State::Start, is_range: false }
    }
}

impl Part {
    fn character(&mut self, character: char, class: &mut Class) -> Result<(), String> {
        if let (true, State::Character(first)) = (self.is_range, &self.state) {
            if *first > character {
                return Err(format!("the range from {first:?} to {character:?} is empty"));
            }
            escape::write(*first, &mut self.text);
            self.text.push('-');
            escape::write(character, &mut self.text);
            self.is_range = false;
            self.state = State::Complete;
            return Ok(());
        }
        self.flush(class);
        self.state = State::Character(character);
        Ok(())
    }

    fn set(&mut self, item: &Item, class: &mut Class) -> Result<(), String> {
        if self.is_range {
            return Err("a range ends in a set".into());
        }
        self.flush(class);
        self.text += &item.text;
        self.state = State::Set;
        class.is_bound_to_case |= item.is_bound_to_case;
        Ok(())
    }

    /// Appends a pending character, which has turned out not to begin a range.
    fn flush(&mut self, class: &mut Class) {
        if let State::Character(character) = self.state {
            escape::write(character, &mut self.text);
            class.singles.push(character);
            self.state = State::Complete;
        }
    }
}
