//! Output of a conversation: answers go to standard output, all else to standard error.

use crate::{chat::Message, error::Error};
use std::io::{self, Write};

/// Prints an answer as it is generated, without characters that control a terminal.
pub struct Printer<W> {
    out: W,
    /// Whether the last character was a line break.
    ends_line: bool,
    broken: Option<io::Error>,
}

impl<W: Write> Printer<W> {
    pub fn new(out: W) -> Self {
        Self { out, ends_line: false, broken: None }
    }

    /// Prints a piece of text.
    pub fn print(&mut self, text: &str) {
        let text = without_controls(text);
        if let Some(last) = text.chars().last() {
            self.ends_line = last == '\n';
            let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
            self.broken = self.broken.take().or(written.err());
        }
    }

    /// Ends the line. An empty answer is an empty line.
    ///
    /// # Errors
    /// The first error of writing.
    pub fn end(mut self) -> io::Result<()> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if !self.ends_line {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}

/// A text without control characters but line breaks and tabs: escape sequences of a model could move the
/// cursor, rename the window or worse. What follows the escape is shown.
pub fn without_controls(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Shows a message of a conversation that goes on.
pub fn show(message: &Message) {
    let text = message.text().unwrap_or("(no text)");
    eprintln!("{}: {}", message.role(), without_controls(text));
}

pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Shows an error that does not end the conversation.
pub fn complain(error: &Error) {
    eprintln!("error: {error}");
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_cannot_control_the_terminal() {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out);
        printer.print("a\u{1b}[31mred\u{7}\r\u{9b}2J\tb");
        printer.print("\u{8}\u{7f}é\n");
        printer.print("");
        printer.end().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a[31mred2J\tbé\n");
    }

    #[test]
    fn an_answer_ends_its_line() {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out);
        printer.print("x");
        printer.end().unwrap();
        Printer::new(&mut out).end().unwrap();
        assert_eq!(out, b"x\n\n");
    }
}
