//! BLEU of texts and corpora, as sacrebleu computes it.
//!
//! Papineni et al., "BLEU: a method for automatic evaluation of machine translation", 2002; smoothing after
//! Chen and Cherry, "A systematic comparison of smoothing techniques for sentence-level BLEU", 2014. Rules:
//! `sacrebleu/metrics/bleu.py` of sacrebleu 2.6.0.

use crate::{
    bootstrap::BootstrapConfig,
    corpus,
    error::{Error, Result},
    ngrams::{self, Counts, MAX_ORDER},
    text::{is_space, words},
    tokenize::Tokenizer,
};
use serde::{Deserialize, Serialize};

/// Version of sacrebleu whose rules BLEU and chrF follow.
pub const SACREBLEU_VERSION: &str = "2.6.0";

/// Precision of an order of n-grams of which none match.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Smoothing {
    /// Halves the precision for each such order, beginning at half an n-gram.
    #[default]
    Exp,
    /// Counts this number of matches; sacrebleu's default is 0.1.
    Floor(f64),
    /// Adds this number to matches and n-grams of all orders but the first; sacrebleu's default is 1.
    AddK(f64),
    /// Keeps 0, so that the score is 0.
    None,
}

impl Smoothing {
    /// Smoothing with a name of sacrebleu, and a value if it is not to be the default one.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if no smoothing has the name.
    pub fn from_name(name: &str, value: Option<f64>) -> Result<Self> {
        match name {
            "exp" => Ok(Self::Exp),
            "floor" => Ok(Self::Floor(value.unwrap_or(0.1))),
            "add-k" => Ok(Self::AddK(value.unwrap_or(1.0))),
            "none" => Ok(Self::None),
            _ => Err(Error::invalid("smoothing", name, "must be `exp`, `floor`, `add-k` or `none`")),
        }
    }

    fn signature(self) -> String {
        match self {
            Self::Exp => "exp".into(),
            Self::Floor(value) => format!("floor[{value:.2}]"),
            Self::AddK(value) => format!("add-k[{value:.2}]"),
            Self::None => "none".into(),
        }
    }
}

/// Settings of BLEU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BleuConfig {
    pub tokenizer: Tokenizer,
    pub smoothing: Smoothing,
    /// Whether upper and lower case are the same.
    pub lowercase: bool,
    /// Longest n-grams that are compared, in tokens.
    pub max_ngram_order: usize,
    /// Whether orders for which the hypothesis is too short are left out. sacrebleu advises this for single
    /// texts.
    pub effective_order: bool,
}

impl Default for BleuConfig {
    fn default() -> Self {
        Self {
            tokenizer: Tokenizer::default(),
            smoothing: Smoothing::default(),
            lowercase: false,
            max_ngram_order: 4,
            effective_order: false,
        }
    }
}

impl BleuConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::InvalidValue`].
    pub fn build(self) -> Result<Bleu> {
        if !(1..=MAX_ORDER).contains(&self.max_ngram_order) {
            return Err(Error::invalid("max_ngram_order", self.max_ngram_order, "must be from 1 to 100"));
        }
        if let Smoothing::Floor(value) | Smoothing::AddK(value) = self.smoothing
            && !(value.is_finite() && value >= 0.0)
        {
            return Err(Error::invalid("smoothing", value, "must be a number that is not negative"));
        }
        Ok(Bleu(self))
    }
}

/// BLEU of a text or a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BleuScore {
    /// The score, from 0 to 100.
    pub score: f64,
    /// Number of n-grams that match, by order. Add-k smoothing is included.
    pub counts: Vec<f64>,
    /// Number of n-grams of the hypotheses, by order. Add-k smoothing is included.
    pub totals: Vec<f64>,
    /// Precisions in percent, by order.
    pub precisions: Vec<f64>,
    /// Brevity penalty.
    pub bp: f64,
    /// Number of tokens in the hypotheses.
    pub sys_len: u64,
    /// Number of tokens in the references. Of several references, the one with the closest length counts.
    pub ref_len: u64,
}

/// BLEU with checked settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Bleu(BleuConfig);

impl Bleu {
    /// BLEU of one text.
    ///
    /// # Errors
    /// [`Error::NoReferences`].
    pub fn sentence(&self, hypothesis: &str, references: &[String]) -> Result<BleuScore> {
        Ok(self.score(&self.statistics(hypothesis, references)?))
    }

    /// BLEU of a corpus, given the references of each text.
    ///
    /// # Errors
    /// Those of [`corpus::check`].
    pub fn corpus(&self, hypotheses: &[String], references: &[Vec<String>]) -> Result<BleuScore> {
        let of_texts = corpus::map(hypotheses, references, |text, of_text| self.statistics(text, of_text))?;
        Ok(self.score(&corpus::total(&of_texts)))
    }

    /// Statistics of one text: length of the hypothesis, length of the reference, then matches and then
    /// n-grams of the hypothesis, by order. A corpus has the sums of those of its texts.
    ///
    /// # Errors
    /// [`Error::NoReferences`].
    pub fn statistics(&self, hypothesis: &str, references: &[String]) -> Result<Vec<f64>> {
        if references.is_empty() {
            return Err(Error::NoReferences { index: 0 });
        }
        let references: Vec<String> = references.iter().map(|text| self.tokenize(text)).collect();
        let references: Vec<Vec<&str>> = references.iter().map(|text| words(text).collect()).collect();
        let hypothesis = self.tokenize(hypothesis);
        let hypothesis: Vec<&str> = words(&hypothesis).collect();
        let closest = references
            .iter()
            .map(Vec::len)
            .min_by_key(|&length| (length.abs_diff(hypothesis.len()), length))
            .unwrap_or_default();
        let orders = 1..=self.0.max_ngram_order;
        let matches = orders.clone().map(|order| {
            let mut allowed: Counts<'_, &str> = Counts::new();
            for reference in &references {
                for (ngram, count) in ngrams::count(reference, order) {
                    let most = allowed.entry(ngram).or_default();
                    *most = count.max(*most);
                }
            }
            ngrams::overlap(&ngrams::count(&hypothesis, order), &allowed) as f64
        });
        let totals = orders.map(|order| (hypothesis.len() + 1).saturating_sub(order) as f64);
        let lengths = [hypothesis.len() as f64, closest as f64];
        Ok(lengths.into_iter().chain(matches).chain(totals).collect())
    }

    /// BLEU of the sums of statistics.
    pub fn score(&self, sums: &[f64]) -> BleuScore {
        let orders = self.0.max_ngram_order;
        let at = |index: usize| sums.get(index).copied().unwrap_or_default();
        let (sys_len, ref_len) = (at(0), at(1));
        let mut counts: Vec<f64> = (0..orders).map(|order| at(2 + order)).collect();
        let mut totals: Vec<f64> = (0..orders).map(|order| at(2 + orders + order)).collect();
        let mut precisions = vec![0.0; orders];
        let bp = match () {
            () if sys_len >= ref_len => 1.0,
            () if sys_len > 0.0 => (1.0 - ref_len / sys_len).exp(),
            () => 0.0,
        };
        let mut score = 0.0;
        if counts.iter().any(|&count| count > 0.0) {
            let effective = self.smooth(&mut counts, &mut totals, &mut precisions);
            let logarithms = precisions[..effective].iter().map(|&precision| floored_log(precision));
            score = bp * (logarithms.sum::<f64>() / effective as f64).exp();
        }
        BleuScore { score, counts, totals, precisions, bp, sys_len: sys_len as u64, ref_len: ref_len as u64 }
    }

    /// Computes the precisions. Returns the number of orders that count.
    fn smooth(&self, counts: &mut [f64], totals: &mut [f64], precisions: &mut [f64]) -> usize {
        let mut effective = precisions.len();
        let mut halved = 1.0;
        for order in 0..precisions.len() {
            if let Smoothing::AddK(k) = self.0.smoothing
                && order > 0
            {
                counts[order] += k;
                totals[order] += k;
            }
            if totals[order] == 0.0 {
                break;
            }
            if self.0.effective_order {
                effective = order + 1;
            }
            let matches = match self.0.smoothing {
                Smoothing::Exp if counts[order] == 0.0 => {
                    halved *= 2.0;
                    1.0 / halved
                }
                Smoothing::Floor(value) if counts[order] == 0.0 => value,
                _ => counts[order],
            };
            precisions[order] = 100.0 * matches / totals[order];
        }
        effective
    }

    /// Line that says how a score was made, as sacrebleu writes it. A bootstrap is named if it is given.
    pub fn signature(&self, references: &[Vec<String>], bootstrap: Option<&BootstrapConfig>) -> String {
        let case = if self.0.lowercase { "lc" } else { "mixed" };
        let effective = if self.0.effective_order { "yes" } else { "no" };
        format!(
            "nrefs:{}{}|case:{case}|eff:{effective}|tok:{}|smooth:{}|version:{SACREBLEU_VERSION}",
            corpus::reference_count(references),
            bootstrap.map(BootstrapConfig::signature).unwrap_or_default(),
            self.0.tokenizer.name(),
            self.0.smoothing.signature(),
        )
    }

    fn tokenize(&self, text: &str) -> String {
        let lowercase = self.0.lowercase.then(|| text.to_lowercase());
        self.0.tokenizer.tokenize(lowercase.as_deref().unwrap_or(text).trim_end_matches(is_space))
    }
}

/// Logarithm; a very low number for 0, as in sacrebleu.
fn floored_log(value: f64) -> f64 {
    if value == 0.0 { -9_999_999_999.0 } else { value.ln() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(of: &[&str]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    fn sentence(config: BleuConfig, hypothesis: &str, references: &[&str]) -> f64 {
        config.build().unwrap().sentence(hypothesis, &texts(references)).unwrap().score
    }

    /// The numbers are `BLEU(effective_order=True, smooth_method=s).sentence_score("the cat sat on the mat",
    /// ["a cat was sitting on the mat"]).score`.
    #[test]
    fn smoothing_is_that_of_sacrebleu() {
        for (smoothing, expected) in [
            (Smoothing::Exp, 27.482545710800192),
            (Smoothing::Floor(0.1), 18.378686000168976),
            (Smoothing::AddK(1.0), 36.169064219763094),
            (Smoothing::None, 0.0),
        ] {
            let config = BleuConfig { smoothing, effective_order: true, ..BleuConfig::default() };
            let found = sentence(config, "the cat sat on the mat", &["a cat was sitting on the mat"]);
            assert!((found - expected).abs() < 1e-9, "{smoothing:?}: {found}");
        }
    }

    /// `BLEU(effective_order=e).sentence_score("one two", ["one two"]).score`.
    #[test]
    fn a_short_text_needs_the_effective_order() {
        let config = BleuConfig { effective_order: true, ..BleuConfig::default() };
        assert!((sentence(config, "one two", &["one two"]) - 100.0).abs() < 1e-9);
        assert_eq!(sentence(BleuConfig::default(), "one two", &["one two"]), 0.0);
    }

    /// Both references are as close: `BLEU().sentence_score("a b", ["a", "a b c"]).ref_len` is 1.
    #[test]
    fn the_shorter_of_two_equally_close_references_counts() {
        let bleu = BleuConfig::default().build().unwrap();
        let score = bleu.sentence("a b", &texts(&["a b c", "a"])).unwrap();
        assert_eq!((score.sys_len, score.ref_len, score.bp), (2, 1, 1.0));
        assert_eq!(score.counts, [2.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn empty_texts_score_0_and_missing_references_are_refused() {
        assert_eq!(sentence(BleuConfig::default(), "", &[""]), 0.0);
        assert_eq!(sentence(BleuConfig::default(), "", &["a"]), 0.0);
        let bleu = BleuConfig::default().build().unwrap();
        assert_eq!(bleu.sentence("a", &[]), Err(Error::NoReferences { index: 0 }));
        assert!(bleu.corpus(&[], &[]).is_err());
        assert_eq!(bleu.score(&[]).score, 0.0);
        for smoothing in [Smoothing::Floor(-1.0), Smoothing::AddK(f64::NAN)] {
            assert!(BleuConfig { smoothing, ..BleuConfig::default() }.build().is_err());
        }
        assert!(BleuConfig { max_ngram_order: 0, ..BleuConfig::default() }.build().is_err());
    }

    /// `str(bleu.get_signature())` after `corpus_score(..., n_bootstrap=1000)`.
    #[test]
    fn signatures_are_those_of_sacrebleu() {
        let references = [texts(&["a", "b"])];
        let bleu = BleuConfig::default().build().unwrap();
        assert_eq!(
            bleu.signature(&references, None),
            "nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
        );
        let smoothing = Smoothing::Floor(0.1);
        let config =
            BleuConfig { smoothing, lowercase: true, effective_order: true, ..BleuConfig::default() };
        assert_eq!(
            config.build().unwrap().signature(&references, Some(&BootstrapConfig::default())),
            "nrefs:2|bs:1000|seed:12345|case:lc|eff:yes|tok:13a|smooth:floor[0.10]|version:2.6.0"
        );
    }
}
