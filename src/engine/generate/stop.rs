//! Ends a text at a stop string without ever showing a part of that string.

/// Generated text. Its end is withheld as long as it may be the beginning of a stop string.
pub(super) struct StopText<'a> {
    stops: &'a [String],
    text: String,
    /// Number of bytes of `text` that have been shown.
    shown: usize,
}

impl<'a> StopText<'a> {
    pub fn new(stops: &'a [String]) -> Self {
        Self { stops, text: String::new(), shown: 0 }
    }

    /// Appends a piece of text. Returns true when a stop string is complete; the text then ends before it.
    pub fn push(&mut self, piece: &str, on_text: &mut dyn FnMut(&str)) -> bool {
        self.text.push_str(piece);
        let stops = self.stops.iter().filter(|stop| !stop.is_empty());
        let found = stops.filter_map(|stop| self.text[self.shown..].find(stop.as_str())).min();
        let end = match found {
            Some(at) => {
                self.text.truncate(self.shown + at);
                self.text.len()
            }
            None => self.text.len() - self.held_back(),
        };
        self.show(end, on_text);
        found.is_some()
    }

    /// Appends the last piece and shows everything that is left.
    pub fn finish(&mut self, piece: &str, on_text: &mut dyn FnMut(&str)) {
        self.text.push_str(piece);
        self.show(self.text.len(), on_text);
    }

    pub fn into_text(self) -> String {
        self.text
    }

    fn show(&mut self, end: usize, on_text: &mut dyn FnMut(&str)) {
        if end > self.shown {
            on_text(&self.text[self.shown..end]);
            self.shown = end;
        }
    }

    /// Length in bytes of the longest end of the text that is the beginning of a stop string.
    fn held_back(&self) -> usize {
        let pending = &self.text[self.shown..];
        let starts = pending.char_indices().map(|(at, _)| &pending[at..]);
        let begins = |end: &&str| self.stops.iter().any(|stop| stop.starts_with(end));
        starts.filter(begins).map(str::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_a_part_of_a_stop_string() {
        let stops = ["\n\nROMEO:".to_owned(), "END".to_owned()];
        let mut shown = Vec::new();
        let mut output = StopText::new(&stops);
        let mut push = |piece: &str| output.push(piece, &mut |text| shown.push(text.to_owned()));
        assert!(!push("a\n"));
        assert!(!push("b E"));
        assert!(!push("N"));
        assert!(!push("ough\n"));
        assert!(push("\nROMEO: x"));
        assert_eq!(shown.concat(), "a\nb ENough");
        assert_eq!(output.into_text(), "a\nb ENough");
    }

    #[test]
    fn what_was_held_back_comes_out_at_the_end() {
        let stops = ["END".to_owned()];
        let mut shown = String::new();
        let mut output = StopText::new(&stops);
        output.push("the EN", &mut |text| shown.push_str(text));
        assert_eq!(shown, "the ");
        output.finish("", &mut |text| shown.push_str(text));
        assert_eq!(shown, "the EN");
    }
}
