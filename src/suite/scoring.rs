//! Scores the outputs of one row.

use crate::{
    aggregation::{Aggregation, Score, TextPair},
    error::{Error, Result},
    filters::{Filter, Pipeline},
    metrics::{ExactMatch, Metric, MetricConfig},
    model::Likelihood,
    requests::{Example, Expected},
    task::Task,
    text::count_words,
    value::Value,
};

/// Outputs of the requests of one row, after the filters.
#[derive(Debug, Clone)]
pub enum Outputs<'a> {
    Likelihoods(&'a [Likelihood]),
    Rolling(f64),
    /// Texts of one request; several if the pipeline does not take the first.
    Texts(&'a [Value]),
}

/// Refuses metrics and filters that cannot score a row, before the model is asked.
///
/// # Errors
/// [`Error::InvalidRow`].
pub fn check(task: &Task, example: &Example) -> Result<()> {
    let steps = task.pipelines.iter().flat_map(|pipeline| &pipeline.steps);
    for step in steps.filter(|step| matches!(step.filter, Filter::MultipleChoiceRegex(_))) {
        step.choices(example.row)?;
    }
    let has_several = task.repeats > 1 && !task.pipelines.iter().all(Pipeline::takes_first);
    for metric in &task.metrics {
        let (message, hint) = match &example.expected {
            Expected::Choices { is_list: true, .. } if matches!(metric.metric, Metric::Choice) => {
                ("the metric needs one right choice, not a list", "use `acc`")
            }
            Expected::Choices { choices, .. }
                if matches!(metric.aggregation, Aggregation::F1) && choices.len() != 2 =>
            {
                ("F1 needs exactly two choices", "use `acc` or `mcc`")
            }
            Expected::Texts { is_list, .. }
                if has_several && (*is_list || !matches!(metric.metric, Metric::ExactMatch(_))) =>
            {
                ("the metric needs one output", "end the filters with `take_first`")
            }
            _ => continue,
        };
        return Err(metric.origin.fails_with(&example.row.origin, message, hint));
    }
    Ok(())
}

impl MetricConfig {
    /// Scores the outputs of a row that has passed [`check`].
    ///
    /// # Errors
    /// [`Error::Model`] for outputs of another kind than the row asks for.
    pub fn score(&self, example: &Example, outputs: &Outputs) -> Result<Score> {
        match (&example.expected, outputs) {
            (Expected::Choices { choices, right, .. }, Outputs::Likelihoods(likelihoods)) => {
                Ok(self.score_choices(choices, right, likelihoods))
            }
            (Expected::Likelihood, Outputs::Likelihoods([likelihood, ..])) => {
                Ok(Score::Number(match self.metric {
                    Metric::LogLikelihood => likelihood.logprob_sum,
                    _ => truth(likelihood.is_greedy),
                }))
            }
            (Expected::Likelihood, Outputs::Rolling(loglikelihood)) => {
                let text = example.target.to_text();
                let weight =
                    if matches!(self.metric, Metric::PerWord) { count_words(&text) } else { text.len() };
                Ok(Score::Weighted { loglikelihood: *loglikelihood, weight })
            }
            (Expected::Texts { right, .. }, Outputs::Texts(texts)) => self.score_texts(right, texts),
            _ => Err(Error::Model("it has returned outputs of another kind".into())),
        }
    }

    fn score_choices(&self, choices: &[String], right: &[usize], likelihoods: &[Likelihood]) -> Score {
        let best = |length: &dyn Fn(&str) -> f64| {
            let values =
                choices.iter().zip(likelihoods).map(|(choice, own)| own.logprob_sum / length(choice));
            index_of_max(values)
        };
        let most_likely = best(&|_| 1.0);
        match &self.metric {
            Metric::Choice => {
                Score::Choice { target: right.first().copied().unwrap_or_default(), predicted: most_likely }
            }
            Metric::ExactMatch(_) => {
                let is_greedy = |index: &usize| likelihoods.get(*index).is_some_and(|own| own.is_greedy);
                Score::Number(truth(right.iter().any(is_greedy)))
            }
            metric => {
                let predicted = match metric {
                    Metric::AccuracyPerCharacter => best(&|choice| choice.chars().count() as f64),
                    Metric::AccuracyPerByte => best(&|choice| choice.len() as f64),
                    _ => most_likely,
                };
                Score::Number(truth(right.contains(&predicted)))
            }
        }
    }

    fn score_texts(&self, right: &[String], texts: &[Value]) -> Result<Score> {
        let texts: Vec<String> = texts.iter().map(Value::to_text).collect();
        let settings = match (&self.metric, &self.aggregation) {
            (Metric::ExactMatch(settings), _) => settings,
            (_, Aggregation::Texts(metric)) => {
                let generated = texts.into_iter().next().unwrap_or_default();
                let pair = TextPair { targets: right.to_vec(), generated };
                let counts = metric.counts(&pair)?;
                return Ok(Score::Texts { pair, counts });
            }
            _ => &ExactMatch::default(),
        };
        let right: Vec<String> = right.iter().map(|text| settings.clean(text)).collect();
        // Of several outputs, the share that is right.
        let hits = texts.iter().filter(|text| right.contains(&settings.clean(text))).count();
        Ok(Score::Number(hits as f64 / texts.len().max(1) as f64))
    }
}

impl ExactMatch {
    /// Removes what is not compared. A pattern that needs too many steps for a text removes nothing.
    fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for pattern in &self.regexes_to_ignore {
            text = pattern.replace(&text, "", 0).unwrap_or(text);
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        text
    }
}

fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// Index of the first greatest value, or of the first NaN, as NumPy's `argmax`.
fn index_of_max(values: impl Iterator<Item = f64>) -> usize {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.enumerate() {
        let is_better = best.is_none_or(|(_, best)| !best.is_nan() && (value > best || value.is_nan()));
        if is_better {
            best = Some((index, value));
        }
    }
    best.map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_values_wins() {
        assert_eq!(index_of_max([-3.0, -1.0, -1.0].into_iter()), 1);
        assert_eq!(index_of_max([-3.0, f64::NAN, 2.0].into_iter()), 1);
        assert_eq!(index_of_max([f64::NEG_INFINITY; 2].into_iter()), 0);
    }

    #[test]
    fn comparisons_ignore_what_they_should() {
        let settings = ExactMatch {
            regexes_to_ignore: vec![crate::python_regex::Pattern::new(r"\$|(?s).*#### ").unwrap()],
            ignore_case: true,
            ignore_punctuation: true,
            ignore_numbers: false,
        };
        assert_eq!(settings.clean("So\n#### $1,000 EUR."), "1000 eur");
    }
}
