//! Translation of the regular expressions of a `tokenizer.json`. Python's `tokenizers` uses Oniguruma, with
//! its own syntax (<https://github.com/kkos/oniguruma/blob/master/doc/RE>); Kiln uses `fancy-regex`, which
//! compiles without C and therefore also for the browser. The two agree on most patterns in such files, but
//! not on `\w`, classes such as `[[:punct:]]`, `{n,m}+`, `^`, `$`, `(?m)`, `\X`, `\R`, `\Z`, isolated options
//! and case variants of more than one letter. [`translate`] rewrites a pattern so that `fancy-regex` finds
//! the same matches as Oniguruma, and refuses a pattern that it cannot rewrite.
//!
//! Both engines use Unicode 16, so that properties have the same characters.

mod case;
mod class;
mod escape;
mod property;

use std::fmt::Write;

/// Nesting depth of groups and classes beyond which `fancy-regex` gives up.
const DEEPEST: usize = 60;

/// Largest repetition count in Oniguruma.
const MOST_REPEATS: u32 = 100_000;

/// Any character: `(?m:.)` in Oniguruma.
const ANY: &str = "(?s:.)";

/// One line break of any kind, like `\R`; `\r\n` is one and is not split.
const LINE_BREAK: &str = r"(?>\r\n|[\n-\r\x{85}\x{2028}\x{2029}])";

/// An extended grapheme cluster, like `\X`: see <https://unicode.org/reports/tr29/> without rule GB9c, which
/// Oniguruma does not know. Unlike Oniguruma it does not look at the text before it, which matters in flags
/// and emoji.
const GRAPHEME: &str = concat!(
    r"(?>\r\n|[\p{gcb=CN}\r\n]|\p{gcb=PP}*(?:",
    r"\p{gcb=L}*(?:\p{gcb=V}+|\p{gcb=LV}\p{gcb=V}*|\p{gcb=LVT})\p{gcb=T}*|\p{gcb=L}+|\p{gcb=T}+",
    r"|\p{gcb=RI}\p{gcb=RI}|\p{ExtPict}(?:\p{gcb=EX}*\p{gcb=ZWJ}\p{ExtPict})*|[^\p{gcb=CN}\r\n]",
    r")[\p{gcb=EX}\p{gcb=ZWJ}\p{gcb=SM}]*)",
);

/// Rewrites a pattern in Oniguruma's syntax as one in that of `fancy-regex`.
///
/// # Errors
/// The reason, if the pattern is invalid in Oniguruma too, or has a construct that `fancy-regex` lacks.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut translator = Translator { groups: Groups::count(&pattern), pattern, at: 0, met: 0, depth: 0 };
    let translated = translator.alternatives(Options::default())?;
    match translator.peek() {
        None => Ok(translated),
        Some(_) => Err("a `)` closes no group".into()),
    }
}

/// Options in effect for a part of a pattern.
#[derive(Clone, Copy, Default)]
struct Options {
    ignore_case: bool,
    dot_is_any: bool,
    /// Whether white space and comments are skipped.
    extended: bool,
    ascii_word: bool,
    ascii_digit: bool,
    ascii_space: bool,
    ascii_posix: bool,
    /// Whether the part is inside a look-behind.
    look_behind: bool,
}

/// Groups of a pattern that can be referred to.
#[derive(Default)]
struct Groups {
    /// Names of the groups. If any group has a name, unnamed groups cannot be referred to.
    names: Vec<String>,
    unnamed: usize,
    /// Whether the pattern refers to a group.
    has_references: bool,
}

impl Groups {
    fn count(pattern: &[char]) -> Self {
        let mut groups = Self::default();
        let mut at = 0;
        let mut class_depth = 0usize;
        while let Some(&character) = pattern.get(at) {
            let rest = &pattern[at + 1..];
            match character {
                '\\' => {
                    groups.has_references |= matches!(rest.first(), Some('k' | '1'..='9'));
                    at += 1;
                }
                '[' => class_depth += 1,
                ']' => class_depth = class_depth.saturating_sub(1),
                '(' if class_depth > 0 => {}
                '(' => match rest {
                    ['?', '<', '=' | '!', ..] => {}
                    ['?', '<', name @ ..] => groups.names.push(name_until(name, '>')),
                    ['?', '\'', name @ ..] => groups.names.push(name_until(name, '\'')),
                    ['?' | '*', ..] => {}
                    _ => groups.unnamed += 1,
                },
                _ => {}
            }
            at += 1;
        }
        groups
    }

    /// Number of groups that can be referred to by number.
    fn numbered(&self) -> usize {
        if self.names.is_empty() { self.unnamed } else { self.names.len() }
    }
}

fn name_until(text: &[char], end: char) -> String {
    text.iter().take_while(|&&character| character != end).collect()
}

struct Translator {
    pattern: Vec<char>,
    at: usize,
    groups: Groups,
    /// Number of numbered groups that have begun so far.
    met: usize,
    depth: usize,
}

/// Piece of a pattern that a quantifier may follow.
enum Atom {
    /// Literal characters; a quantifier applies to the last one.
    Characters(Vec<char>),
    /// A single unit: a class, an escape or a group.
    Unit(String),
    /// A pattern that matches no text; no quantifier may follow.
    Anchor(String),
}

struct Quantifier {
    least: u32,
    most: Option<u32>,
    is_lazy: bool,
    is_possessive: bool,
}

impl Translator {
    fn peek(&self) -> Option<char> {
        self.pattern.get(self.at).copied()
    }

    fn rest(&self) -> &[char] {
        self.pattern.get(self.at..).unwrap_or(&[])
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_next = text.chars().zip(self.rest()).filter(|(a, b)| a == *b).count() == text.chars().count();
        if is_next {
            self.at += text.chars().count();
        }
        is_next
    }

    /// Enters a nested group or class.
    ///
    /// # Errors
    /// The nesting is too deep.
    fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEEPEST { Err("groups or classes are nested too deeply".into()) } else { Ok(()) }
    }

    /// Translates alternatives up to a `)` or the end.
    fn alternatives(&mut self, options: Options) -> Result<String, String> {
        self.enter()?;
        let mut out = String::new();
        loop {
            self.branch(options, &mut out)?;
            if !self.eat("|") {
                break;
            }
            out.push('|');
        }
        self.depth -= 1;
        Ok(out)
    }

    /// Translates one alternative, up to a `|`, a `)` or the end.
    fn branch(&mut self, options: Options, out: &mut String) -> Result<(), String> {
        // Literal characters that no quantifier follows.
        let mut run = Vec::new();
        loop {
            self.skip_ignored(options)?;
            if matches!(self.peek(), None | Some('|' | ')')) {
                break;
            }
            if let Some(inner) = self.isolated_options(options)? {
                // They hold to the end of the group, over any `|` in it.
                self.flush(&mut run, options, out);
                *out += &format!("(?:{})", self.alternatives(inner)?);
                break;
            }
            let atom = self.atom(options)?;
            self.skip_ignored(options)?;
            let quantifier = self.quantifier()?;
            let mut piece = match (atom, &quantifier) {
                (Atom::Characters(characters), None) => {
                    run.extend(characters);
                    continue;
                }
                (Atom::Characters(mut characters), Some(_)) => {
                    let last = characters.pop();
                    run.extend(characters);
                    self.flush(&mut run, options, out);
                    let mut last = Vec::from_iter(last);
                    let mut piece = String::new();
                    self.flush(&mut last, options, &mut piece);
                    if piece.chars().nth(1).is_some() { format!("(?:{piece})") } else { piece }
                }
                (Atom::Anchor(_), Some(_)) => return Err("a quantifier follows an anchor".into()),
                (Atom::Unit(piece) | Atom::Anchor(piece), _) => {
                    self.flush(&mut run, options, out);
                    piece
                }
            };
            let mut next = quantifier;
            while let Some(quantifier) = next {
                piece = quantifier.apply(&piece);
                self.skip_ignored(options)?;
                next = self.quantifier()?;
                if next.is_some() {
                    piece = format!("(?:{piece})");
                }
            }
            *out += &piece;
        }
        self.flush(&mut run, options, out);
        Ok(())
    }

    /// Appends the pending literal characters.
    fn flush(&self, run: &mut Vec<char>, options: Options, out: &mut String) {
        if options.ignore_case {
            case::write(run, options.look_behind, out);
        } else {
            run.iter().for_each(|&character| escape::write(character, out));
        }
        run.clear();
    }

    /// Skips comments, and white space if the options say so.
    fn skip_ignored(&mut self, options: Options) -> Result<(), String> {
        loop {
            match self.rest() {
                ['(', '?', '#', ..] => {
                    self.at += 3;
                    loop {
                        match self.next() {
                            None => return Err("a comment has no end".into()),
                            Some('\\') => self.at += 1,
                            Some(')') => break,
                            Some(_) => {}
                        }
                    }
                }
                [' ' | '\t' | '\n' | '\r' | '\x0C', ..] if options.extended => self.at += 1,
                ['#', ..] if options.extended => while !matches!(self.next(), None | Some('\n')) {},
                _ => return Ok(()),
            }
        }
    }

    fn atom(&mut self, options: Options) -> Result<Atom, String> {
        let unit = |text: &str| Ok(Atom::Unit(text.into()));
        match self.next() {
            Some('.') => unit(if options.dot_is_any { ANY } else { "." }),
            // Not at the end of the text, though a line break be before it.
            Some('^') => Ok(Atom::Anchor(r"(?:\A|(?<=\n)(?!\z))".into())),
            Some('$') => Ok(Atom::Anchor("(?m:$)".into())),
            Some('(') => self.group(options),
            Some('[') => Ok(Atom::Unit(self.class(options)?)),
            Some('\\') => self.escape(options),
            Some('*' | '+' | '?') => Err("a quantifier follows nothing".into()),
            Some('{') => {
                self.at -= 1;
                if self.quantifier()?.is_some() {
                    return Err("a quantifier follows nothing".into());
                }
                self.at += 1;
                Ok(Atom::Characters(vec!['{']))
            }
            Some(character) => Ok(Atom::Characters(vec![character])),
            None => Err("it ends too early".into()),
        }
    }

    /// Reads the quantifier at this position, if there is one.
    fn quantifier(&mut self) -> Result<Option<Quantifier>, String> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.interval(),
            _ => return Ok(None),
        };
        self.at += 1;
        let is_lazy = self.eat("?");
        Ok(Some(Quantifier { least, most, is_lazy, is_possessive: !is_lazy && self.eat("+") }))
    }

    /// Reads `{n,m}` or `{n}`. A `+` does not make the former possessive, and a `?` does not make the latter
    /// lazy. If the text after the brace is something else, it is literal: returns `None`.
    fn interval(&mut self) -> Result<Option<Quantifier>, String> {
        let start = self.at;
        self.at += 1;
        let least = self.number()?;
        let has_comma = self.eat(",");
        let most = if has_comma { self.number()? } else { least };
        if !self.eat("}") || (least.is_none() && most.is_none()) {
            self.at = start;
            return Ok(None);
        }
        let mut quantifier =
            Quantifier { least: least.unwrap_or(0), most, is_lazy: false, is_possessive: false };
        if let Some(most) = most
            && most < quantifier.least
        {
            quantifier = Quantifier { least: most, most: least, is_lazy: false, is_possessive: true };
        } else if has_comma {
            quantifier.is_lazy = self.eat("?");
        }
        Ok(Some(quantifier))
    }

    fn number(&mut self) -> Result<Option<u32>, String> {
        let mut number: Option<u32> = None;
        while let Some(digit) = self.peek().and_then(|character| character.to_digit(10)) {
            let next = number.unwrap_or(0).saturating_mul(10).saturating_add(digit);
            if next > MOST_REPEATS {
                return Err(format!("a number is larger than {MOST_REPEATS}"));
            }
            number = Some(next);
            self.at += 1;
        }
        Ok(number)
    }

    /// Reads isolated options such as `(?imx)`; `None` if something else stands here.
    fn isolated_options(&mut self, options: Options) -> Result<Option<Options>, String> {
        let start = self.at;
        if self.eat("(?")
            && let Some(options) = self.options(options)?
            && self.eat(")")
        {
            return Ok(Some(options));
        }
        self.at = start;
        Ok(None)
    }

    /// Reads options up to the character that ends them; `None` if there are none here.
    fn options(&mut self, options: Options) -> Result<Option<Options>, String> {
        let mut options = options;
        let mut value = true;
        let start = self.at;
        while let Some(character) = self.next() {
            match character {
                '-' => value = false,
                'i' => options.ignore_case = value,
                'm' => options.dot_is_any = value,
                'x' => options.extended = value,
                'W' => options.ascii_word = value,
                'D' => options.ascii_digit = value,
                'S' => options.ascii_space = value,
                'P' => options.ascii_posix = value,
                'y' if self.eat("{g}") => {}
                'y' | 'C' | 'I' | 'L' => return Err(format!("the option `(?{character})` is not supported")),
                ')' | ':' if self.at - 1 > start => {
                    self.at -= 1;
                    return Ok(Some(options));
                }
                _ => break,
            }
        }
        Ok(None)
    }

    /// Translates a group, after its parenthesis has been read.
    fn group(&mut self, options: Options) -> Result<Atom, String> {
        let mut inner = options;
        let mut is_anchor = false;
        let opening = match self.rest() {
            ['?', '<', '=' | '!', ..] => {
                inner.look_behind = true;
                is_anchor = true;
                let opening: String = self.rest()[..3].iter().collect();
                self.at += 3;
                format!("({opening}")
            }
            ['?', '=' | '!' | '>' | ':', ..] => {
                is_anchor = matches!(self.rest()[1], '=' | '!');
                let opening: String = self.rest()[..2].iter().collect();
                self.at += 2;
                format!("({opening}")
            }
            ['?', '<' | '\'', ..] => {
                let end = if self.rest()[1] == '<' { '>' } else { '\'' };
                let name = name_until(&self.rest()[2..], end);
                let is_repeated = self.groups.names.iter().filter(|other| **other == name).count() > 1;
                if name.is_empty() || is_repeated && self.groups.has_references {
                    return Err(format!("a group is named `{name}`, as another is or as none can be"));
                }
                self.at += 3 + name.chars().count();
                self.numbered_group()
            }
            ['?', '~', ..] => return Err("absent operators `(?~…)` are not supported".into()),
            ['?', '(', ..] => return Err("conditions `(?(…)…)` are not supported".into()),
            ['?', '{', ..] | ['*', ..] => return Err("callouts are not supported".into()),
            ['?', ..] => {
                self.at += 1;
                match self.options(options)? {
                    Some(found) if self.eat(":") => inner = found,
                    _ => return Err("a `(?` begins no group that is known".into()),
                }
                "(?:".into()
            }
            _ if self.groups.names.is_empty() => self.numbered_group(),
            _ => "(?:".into(),
        };
        let body = self.alternatives(inner)?;
        if !self.eat(")") {
            return Err("a group has no end".into());
        }
        let text = format!("{opening}{body})");
        Ok(if is_anchor { Atom::Anchor(text) } else { Atom::Unit(text) })
    }

    fn numbered_group(&mut self) -> String {
        self.met += 1;
        if self.groups.has_references { "(".into() } else { "(?:".into() }
    }

    /// Translates a reference to the text that a group has matched.
    fn reference(&self, number: usize, options: Options) -> Result<Atom, String> {
        if number == 0 || number > self.groups.numbered() {
            return Err(format!("there is no group {number} to refer to"));
        }
        let option = if options.ignore_case { "i" } else { "" };
        Ok(Atom::Unit(format!(r"(?{option}:\{number})")))
    }
}

impl Quantifier {
    /// Applies the quantifier to a unit.
    fn apply(&self, unit: &str) -> String {
        let mut text = unit.to_owned();
        match (self.least, self.most) {
            (0, None) => text.push('*'),
            (1, None) => text.push('+'),
            (0, Some(1)) => text.push('?'),
            // Writing to a string cannot fail.
            (least, None) => _ = write!(text, "{{{least},}}"),
            (least, Some(most)) => _ = write!(text, "{{{least},{most}}}"),
        }
        if self.is_lazy {
            text.push('?');
        }
        if self.is_possessive { format!("(?>{text})") } else { text }
    }
}

#[cfg(test)]
mod tests;
