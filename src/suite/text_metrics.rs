//! Metrics that compare generated texts with targets over all rows together. The numbers are those of `kiln-score`.

use crate::{
    aggregation::TextPair,
    error::{Error, Result},
};
use kiln_score::{Bleu, BleuConfig, Chrf, ChrfConfig, answers, rouge::rouge};

/// A metric of all generated texts together. It counts in each row, and makes its score of the sums.
#[derive(Debug, Clone)]
pub enum TextMetric {
    /// Corpus BLEU as sacrebleu computes it, from 0 to 100.
    Bleu(Bleu),
    /// Corpus chrF as sacrebleu computes it, from 0 to 100.
    Chrf(Chrf),
    /// Mean F-measure of rouge-score, from 0 to 1, by its name there.
    Rouge(&'static str),
    /// Mean F1 of the words as in SQuAD, from 0 to 1.
    AnswerF1,
}

/// Names of all metrics of texts.
pub const NAMES: [&str; 8] = ["bleu", "chrf", "chrf++", "rouge1", "rouge2", "rougeL", "rougeLsum", "f1"];

impl TextMetric {
    /// Metric with a name; `None` if none has it.
    pub fn from_name(name: &str) -> Option<Self> {
        let chrf =
            |word_order| ChrfConfig { word_order, ..ChrfConfig::default() }.build().ok().map(Self::Chrf);
        match name {
            "bleu" => BleuConfig::default().build().ok().map(Self::Bleu),
            "chrf" => chrf(0),
            "chrf++" => chrf(2),
            "f1" => Some(Self::AnswerF1),
            _ => NAMES.into_iter().find(|own| own.starts_with("rouge") && *own == name).map(Self::Rouge),
        }
    }

    /// Counts of a row, which has at least one target. All rows have equally many counts.
    ///
    /// # Errors
    /// [`Error::Metric`] if there is no target.
    pub fn counts(&self, pair: &TextPair) -> Result<Vec<f64>> {
        let (text, targets) = (&pair.generated, &pair.targets[..]);
        let counts = match self {
            Self::Bleu(bleu) => bleu.statistics(text, targets),
            Self::Chrf(chrf) => chrf.statistics(text, targets),
            Self::Rouge(name) => rouge(text, targets, false).map(|scores| {
                let named = scores.named().into_iter().find(|(own, _)| own == name);
                vec![named.map_or(0.0, |(_, score)| score.f_measure)]
            }),
            Self::AnswerF1 => answers::answer(text, targets).map(|score| vec![score.f1]),
        };
        counts.map_err(Error::Metric)
    }

    /// Score of the sums of the counts of some rows, which are at least one.
    pub fn score(&self, sums: &[f64], rows: usize) -> f64 {
        match self {
            Self::Bleu(bleu) => bleu.score(sums).score,
            Self::Chrf(chrf) => chrf.score(sums),
            Self::Rouge(_) | Self::AnswerF1 => sums.first().map_or(f64::NAN, |sum| sum / rows as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_metric_with_a_score() {
        let pair = TextPair {
            targets: vec!["a dog".into(), "the cat sat here".into()],
            generated: "the cat sat here now".into(),
        };
        for name in NAMES {
            let metric = TextMetric::from_name(name).unwrap();
            let counts = metric.counts(&pair).unwrap();
            assert!(metric.score(&counts, 1) > 0.2, "{name}");
            assert!(metric.counts(&TextPair { targets: Vec::new(), ..pair.clone() }).is_err(), "{name}");
        }
        assert!(TextMetric::from_name("rouge").is_none());
    }
}
