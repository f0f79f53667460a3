//! Rewards by rules, which compare an answer with its reference or look at its form.

use super::AnswerText;
use crate::{
    config::{RewardKind, RewardTerm},
    error::{Error, Result, hint},
    objective::rollout::excerpt,
};
use regex::Regex;

/// A rule that gives an answer a number.
#[derive(Debug, Clone)]
pub enum Rule {
    /// 1 for the reference answer.
    Exact,
    /// 1 for an answer that matches; if the expression has a group, its text has to be the reference answer.
    Regex(Regex),
    /// 1 for an answer whose last number is that of the reference answer.
    Number,
    /// 0 for the wanted number of tokens, -1 for none or twice as many.
    Length(usize),
}

/// Largest relative difference of two numbers that count as the same.
const SAME_NUMBER: f64 = 1e-6;

impl Rule {
    /// Makes the rule of a checked configuration.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for text that is no regular expression, and for a kind that is no rule.
    pub fn new(term: &RewardTerm) -> Result<Self> {
        let refused = |value: &str, message: String| Error::invalid_value("rollout.rewards", value, message);
        Ok(match (term.kind, &term.pattern, term.tokens) {
            (RewardKind::Exact, ..) => Self::Exact,
            (RewardKind::Number, ..) => Self::Number,
            (RewardKind::Length, _, Some(tokens)) => Self::Length(tokens),
            (RewardKind::Regex, Some(pattern), _) => {
                Self::Regex(Regex::new(pattern).map_err(|error| refused(pattern, error.to_string()))?)
            }
            (kind, ..) => return Err(refused(kind.name(), "it lacks what it needs".into())),
        })
    }

    /// Scores an answer.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if the rule compares with a reference answer and there is none.
    pub fn score(&self, answer: &AnswerText<'_>) -> Result<f32> {
        let text = answer.answer.trim();
        let is_right = match self {
            Self::Exact => text == self.reference(answer)?,
            Self::Number => {
                let wanted = last_number(self.reference(answer)?);
                let is_same = |(a, b): (f64, f64)| (a - b).abs() <= SAME_NUMBER * b.abs().max(1.0);
                last_number(text).zip(wanted).is_some_and(is_same)
            }
            Self::Regex(pattern) if pattern.captures_len() > 1 => {
                let reference = self.reference(answer)?;
                let found = pattern.captures(text);
                let group = found.as_ref().and_then(|found| found.iter().skip(1).flatten().next());
                group.is_some_and(|group| group.as_str().trim() == reference)
            }
            Self::Regex(pattern) => pattern.is_match(text),
            Self::Length(wanted) => {
                let wanted = *wanted as f32;
                return Ok(-(answer.tokens as f32 - wanted).abs() / wanted.max(1.0));
            }
        };
        Ok(f32::from(is_right))
    }

    fn reference<'a>(&self, answer: &AnswerText<'a>) -> Result<&'a str> {
        answer.reference.map(str::trim).ok_or_else(|| Error::InvalidValue {
            key: "rollout.rewards".into(),
            value: match self {
                Self::Number => "number",
                Self::Regex(_) => "regex",
                Self::Exact | Self::Length(_) => "exact",
            }
            .into(),
            message: format!(
                "the prompt `{}` has no reference answer to compare with",
                excerpt(answer.prompt)
            ),
            hint: Some(hint![
                "name the field with the answer by ",
                hint::choose("rollout.answer_field", "FIELD"),
                ", or take another reward"
            ]),
        })
    }
}

/// The last number of a text, with a sign and a decimal point if it has them. Commas between digits do not
/// count.
fn last_number(text: &str) -> Option<f64> {
    let characters: Vec<char> = text.chars().collect();
    let is_digit = |at: usize| characters.get(at).is_some_and(char::is_ascii_digit);
    let is_inside = |at: usize| {
        matches!(characters.get(at), Some('.' | ','))
            && is_digit(at + 1)
            && at.checked_sub(1).is_some_and(is_digit)
    };
    let end = (0..characters.len()).rev().find(|&at| is_digit(at))?;
    let mut start = end;
    while start > 0 && (is_digit(start - 1) || is_inside(start - 1)) {
        start -= 1;
    }
    let is_negative = start > 0 && characters[start - 1] == '-';
    let number: String = characters[start..=end].iter().filter(|c| **c != ',').collect();
    // Of `1.2.3` the last two parts are a number.
    let number = match number.match_indices('.').nth_back(1) {
        Some((point, _)) => number[point + 1..].to_owned(),
        None => number,
    };
    let number: f64 = number.parse().ok()?;
    Some(if is_negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::answer, *};

    #[test]
    fn last_numbers_are_found() {
        for (text, number) in [
            ("42", Some(42.0)),
            ("The answer is 1,234.50.", Some(1234.5)),
            ("3 apples and -7 pears", Some(-7.0)),
            ("version 1.2.3", Some(2.3)),
            ("none", None),
            ("", None),
            ("12.", Some(12.0)),
        ] {
            assert_eq!(last_number(text), number, "{text}");
        }
    }

    #[test]
    fn rules_look_at_the_trimmed_answer() {
        let term = |kind, pattern: Option<&str>, tokens| {
            let pattern = pattern.map(str::to_owned);
            Rule::new(&RewardTerm { kind, pattern, tokens, ..RewardTerm::default() }).unwrap()
        };
        let score = |rule: &Rule, text: &str, reference| rule.score(&answer(text, reference, true)).unwrap();
        let number = term(RewardKind::Number, None, None);
        assert_eq!(score(&number, "so it is 7.0", Some("7")), 1.0);
        assert_eq!(score(&number, "seven", Some("7")), 0.0);
        let shape = term(RewardKind::Regex, Some("^[0-9]+$"), None);
        assert_eq!((score(&shape, " 12\n", None), score(&shape, "a12", None)), (1.0, 0.0));
        let group = term(RewardKind::Regex, Some("answer: (\\w+)"), None);
        assert_eq!(score(&group, "my answer: yes", Some("yes")), 1.0);
        assert_eq!(score(&group, "my answer: no", Some("yes")), 0.0);
        // Without a reference answer no group could ever be right.
        let error = group.score(&answer("my answer: yes", None, true)).unwrap_err().to_string();
        assert!(error.contains("`regex` for `rollout.rewards`"), "{error}");
        let length = term(RewardKind::Length, None, Some(4));
        assert_eq!((score(&length, "abcd", None), score(&length, "", None)), (0.0, -1.0));
    }
}
